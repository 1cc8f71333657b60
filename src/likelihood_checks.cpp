#include "likelihood_checks.hpp"

#include <torch/types.h>

#include <cmath>
#include <sstream>

#include "error_shape.hpp"
#include "motet/error.hpp"

namespace motet::detail {

void check_event_shape(const std::string& where, const std::vector<int64_t>& event_shape) {
  for (const int64_t size : event_shape) {
    if (size < 1) {
      throw ConfigError(where + ": event_shape is " + shape_text(event_shape) +
                        ", every size must be >= 1");
    }
  }
}

void check_label(int64_t label, int64_t num_classes, const std::string& name) {
  if (label < 0 || label >= num_classes) {
    throw ConfigError("classifier: \"" + name + "\" has the classes 0 to " +
                      std::to_string(num_classes - 1) + ", but label = " + std::to_string(label));
  }
}

void check_prior_sd(const std::string& where, double prior_sd) {
  if (!(prior_sd > 0.0 && std::isfinite(prior_sd))) {
    std::ostringstream text;
    text << where << ": prior_sd = " << prior_sd << ", must be finite and > 0";
    throw ConfigError(text.str());
  }
}

void check_same_as_x(const std::string& name, const std::string& what, const Tensor& value,
                     const Tensor& x) {
  const std::string where = "likelihood \"" + name + "\": " + what;
  if (!value.defined()) {
    throw ShapeError(where + " is undefined, must have x's shape " + shape_text(x.sizes()));
  }
  if (value.sizes() != x.sizes()) {
    throw ShapeError(where + " has shape " + shape_text(value.sizes()) + ", must have x's shape " +
                     shape_text(x.sizes()));
  }
  if (value.scalar_type() != x.scalar_type()) {
    throw ShapeError(where + " has dtype " + dtype_text(value.scalar_type()) +
                     ", must have x's dtype " + dtype_text(x.scalar_type()));
  }
}

CleanEstimate clean_estimate(const NoiseLevel& level, double prior_sd) {
  const double abar = level.alpha_bar;
  const double prior_variance = prior_sd * prior_sd;
  // v tau^2 / (v + tau^2) and sqrt(abar) / sigma^2 times it, without a division by abar or sigma.
  const double whole = abar * prior_variance + (1.0 - abar);
  return {.variance = (1.0 - abar) * prior_variance / whole,
          .jacobian = std::sqrt(abar) * prior_variance / whole};
}

Tensor clean_mean(const std::string& name, const Tensor& x, const NoiseLevel& level,
                  const Tensor& prior_score) {
  check_same_as_x(name, "prior_score", prior_score, x);
  const double variance = 1.0 - level.alpha_bar;
  return x.detach()
      .to(at::kDouble)
      .add(prior_score.detach().to(at::kDouble), variance)
      .div_(std::sqrt(level.alpha_bar));
}

}  // namespace motet::detail
