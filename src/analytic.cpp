// Laws known in closed form at every level: Gaussian mixtures, with x_t = sqrt(abar) x_0 + sigma n
//   sum_k w_k N(m_k, diag(s_k^2))  ->  sum_k w_k N(sqrt(abar) m_k, diag(abar s_k^2 + sigma^2)),
// and what all such laws share; boxes are in analytic_box.cpp. And users' functions. Laws are
// computed in float64, whatever the dtype of x, and stay finite far in the tails.
#include <torch/types.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <sstream>
#include <utility>

#include "analytic_detail.hpp"
#include "error_shape.hpp"
#include "motet/error.hpp"
#include "motet/model.hpp"

namespace motet {
namespace {

using detail::checked_input;
using detail::shape_text;

[[noreturn]] void fail_shape(const std::string& name, const std::string& problem) {
  throw ShapeError("model \"" + name + "\": " + problem);
}

class GaussianMixture : public AnalyticModel {
 public:
  GaussianMixture(const Tensor& weights, Tensor means, const Tensor& sds, std::string name)
      : name_(std::move(name)),
        weighting_(weights),
        means_(std::move(means)),
        sds_(sds.expand_as(means_).contiguous()) {}

  Eval evaluate(const Tensor& x, const NoiseLevel& level) const override {
    const Tensor points = checked_input(x, event_shape(), name_);
    const Terms terms = evaluate_terms(points, level.alpha_bar);
    const Tensor shares = detail::component_shares(terms.log_terms).unsqueeze(2);
    return {.score = (shares * terms.pull).sum(1).to(x.scalar_type()),
            .log_density = at::logsumexp(terms.log_terms, 1),
            .remainder = {}};
  }

  Tensor sample_data(int64_t num_samples, Rng& rng) const override {
    const Tensor component = weighting_.draw(num_samples, rng);
    const Tensor centres = means_.index_select(0, component);
    return centres + sds_.index_select(0, component) * rng.normal_like(centres);
  }

  Tensor log_density_data(const Tensor& x) const override {
    const Tensor points = checked_input(x, event_shape(), name_);
    return at::logsumexp(evaluate_terms(points, 1.0).log_terms, 1);
  }

  std::vector<int64_t> event_shape() const override { return {means_.size(1)}; }
  std::string describe() const override { return name_; }

 private:
  struct Terms {
    Tensor log_terms;  // (B, K): log of weight times density of each component
    Tensor pull;       // (B, K, d): score of each component
  };

  Terms evaluate_terms(const Tensor& points, double alpha_bar) const {
    const Tensor variances = (sds_.square() * alpha_bar + (1.0 - alpha_bar)).to(points.device());
    const Tensor centres = (means_ * std::sqrt(alpha_bar)).to(points.device());
    const Tensor offsets = points.unsqueeze(1) - centres;
    const Tensor pull = -offsets / variances;
    const Tensor log_norm = 0.5 * (variances * (2.0 * std::numbers::pi)).log().sum(1);
    const Tensor exponents = 0.5 * (offsets * pull).sum(2);
    return {weighting_.logs().to(points.device()) - log_norm + exponents, pull};
  }

  std::string name_;
  detail::Weighting weighting_;
  Tensor means_;  // (K, d)
  Tensor sds_;    // (K, d)
};

class Callable : public Model {
 public:
  Callable(EvaluateFunction function, std::vector<int64_t> event_shape, bool is_exact,
           std::string name)
      : function_(std::move(function)),
        event_shape_(std::move(event_shape)),
        is_exact_(is_exact),
        name_(std::move(name)) {}

  Eval evaluate(const Tensor& x, const NoiseLevel& level) const override {
    checked_input(x, event_shape_, name_);
    Eval eval = function_(x, level);
    check_like_x(eval.score, "score", x);
    if (eval.remainder.defined()) {
      check_like_x(eval.remainder, "remainder", x);
    }
    if (eval.log_density.defined()) {
      check_log_density(eval.log_density, x);
      eval.log_density = eval.log_density.detach().to(at::kDouble);
    }
    check_promise(eval);
    // A score alone: nothing of it is explained. One tensor under both names, so that products and
    // selections pay for it once.
    const bool is_unexplained = eval.remainder.is_same(eval.score) ||
                                (!eval.remainder.defined() && !eval.log_density.defined());
    eval.score = eval.score.detach();
    if (is_unexplained) {
      eval.remainder = eval.score;
    } else if (eval.remainder.defined()) {
      eval.remainder = eval.remainder.detach();
    }
    return eval;
  }

  bool is_exact() const override { return is_exact_; }
  std::vector<int64_t> event_shape() const override { return event_shape_; }
  std::string describe() const override { return name_; }

 private:
  void check_like_x(const Tensor& value, const std::string& what, const Tensor& x) const {
    if (!value.defined()) {
      fail_shape(name_, what + " is undefined, must have x's shape " + shape_text(x.sizes()));
    }
    if (value.sizes() != x.sizes()) {
      fail_shape(name_, what + " has shape " + shape_text(value.sizes()) +
                            ", must have x's shape " + shape_text(x.sizes()));
    }
    if (value.scalar_type() != x.scalar_type()) {
      fail_shape(name_, what + " has dtype " + c10::toString(value.scalar_type()) +
                            ", must have x's dtype " + c10::toString(x.scalar_type()));
    }
  }

  void check_log_density(const Tensor& value, const Tensor& x) const {
    if (value.dim() != 1 || value.size(0) != x.size(0)) {
      fail_shape(name_, "log_density has shape " + shape_text(value.sizes()) + ", must be (B) = (" +
                            std::to_string(x.size(0)) + ")");
    }
  }

  // is_exact is a promise on which exact ratios rely.
  void check_promise(const Eval& eval) const {
    if (is_exact_ && (eval.remainder.defined() || !eval.log_density.defined())) {
      throw ConfigError("model \"" + name_ +
                        "\": is_exact is true, so log_density must be given and remainder left "
                        "undefined; return them so, or say is_exact = false");
    }
  }

  EvaluateFunction function_;
  std::vector<int64_t> event_shape_;
  bool is_exact_;
  std::string name_;
};

void check_mixture_shapes(const std::string& where, const Tensor& weights, const Tensor& means,
                          const Tensor& sds) {
  if (means.dim() != 2 || means.numel() == 0) {
    throw ShapeError(where + ": means has shape " + shape_text(means.sizes()) +
                     ", must be (K, d) with K, d >= 1");
  }
  const int64_t k = means.size(0);
  if (weights.dim() != 1 || weights.size(0) != k) {
    throw ShapeError(where + ": weights has shape " + shape_text(weights.sizes()) +
                     ", must be (K) = (" + std::to_string(k) + ") as means has shape " +
                     shape_text(means.sizes()));
  }
  if (sds.dim() != 2 || sds.size(0) != k || (sds.size(1) != 1 && sds.size(1) != means.size(1))) {
    throw ShapeError(where + ": sds has shape " + shape_text(sds.sizes()) +
                     ", must be (K, d) or (K, 1) as means has shape " + shape_text(means.sizes()));
  }
}

}  // namespace

namespace detail {

Tensor checked_input(const Tensor& x, const std::vector<int64_t>& event_shape,
                     const std::string& name) {
  check_points(x, event_shape, name);
  return x.detach().to(at::kDouble);
}

Tensor good_scale(const Tensor& values) { return values.gt(0.0).logical_and_(values.isfinite()); }

Weighting::Weighting(const Tensor& weights)
    : logs_((weights / weights.sum()).log()), cumulative_(weights.cumsum(0) / weights.sum()) {
  cumulative_[-1] = 1.0;  // a uniform above a sum rounded down must still find a component
}

Tensor Weighting::draw(int64_t num_samples, Rng& rng) const {
  const Tensor picks = rng.uniform(num_samples, cumulative_);
  return at::searchsorted(cumulative_, picks, /*out_int32=*/false, /*right=*/true);
}

Tensor component_shares(const Tensor& log_terms) {
  // Where even the nearest component underflows to -inf, all share alike: never inf - inf.
  return at::softmax(log_terms.clamp_min(std::numeric_limits<double>::lowest()), 1);
}

}  // namespace detail

Tensor AnalyticModel::sample_level(int64_t num_samples, const NoiseLevel& level, Rng& rng) const {
  const Tensor data = sample_data(num_samples, rng);
  return std::sqrt(level.alpha_bar) * data + level.sigma() * rng.normal_like(data);
}

AnalyticPtr gaussian_mixture(const Tensor& weights, const Tensor& means, const Tensor& sds,
                             std::string name) {
  const std::string where = "gaussian_mixture \"" + name + "\"";
  check_mixture_shapes(where, weights, means, sds);
  const Tensor own_weights = detail::own(weights);
  const Tensor own_means = detail::own(means);
  const Tensor own_sds = detail::own(sds);
  const auto check = [&](const char* what, const Tensor& values, const Tensor& is_good,
                         const char* allowed) {
    detail::check_entries(where, what, values, is_good, allowed);
  };
  check("weights", own_weights, detail::good_scale(own_weights), "finite and > 0");
  check("means", own_means, own_means.isfinite(), "finite");
  check("sds", own_sds, detail::good_scale(own_sds), "finite and > 0");
  return std::make_shared<GaussianMixture>(own_weights, own_means, own_sds, std::move(name));
}

ModelPtr from_callable(EvaluateFunction function, std::vector<int64_t> event_shape, bool is_exact,
                       std::string name) {
  if (!function) {
    throw ConfigError("from_callable \"" + name + "\": function is empty, must be callable");
  }
  for (const int64_t size : event_shape) {
    if (size < 1) {
      throw ConfigError("from_callable \"" + name + "\": event_shape is " +
                        shape_text(event_shape) + ", every size must be >= 1");
    }
  }
  return std::make_shared<Callable>(std::move(function), std::move(event_shape), is_exact,
                                    std::move(name));
}

}  // namespace motet
