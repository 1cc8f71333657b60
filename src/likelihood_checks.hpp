// What every maker of a likelihood refuses, in the same words.
#pragma once

#include <string>
#include <vector>

#include "motet/likelihood.hpp"

namespace motet::detail {

/// Throws ConfigError for an event shape without sizes or with one below 1.
void check_event_shape(const std::string& where, const std::vector<int64_t>& event_shape);
/// Throws ConfigError for a label that classifier `name` does not have.
void check_label(int64_t label, int64_t num_classes, const std::string& name);
/// Throws ConfigError unless prior_sd is positive and finite.
void check_prior_sd(const std::string& where, double prior_sd);
/// Throws ShapeError, naming the likelihood, unless `value` has x's shape and dtype.
void check_same_as_x(const std::string& name, const std::string& what, const Tensor& value,
                     const Tensor& x);

/// What noise does to a clean point: x0 = (x + sigma^2 s) / sqrt(abar) (Tweedie), its variance r^2
/// and the Jacobian sqrt(abar) / sigma^2 r^2 (times I) for a prior of standard deviation prior_sd.
struct CleanEstimate {
  double variance = 0.0;
  double jacobian = 1.0;
};
CleanEstimate clean_estimate(const NoiseLevel& level, double prior_sd);
/// (x + sigma^2 s) / sqrt(abar), (B, *event) float64. Throws ShapeError for a score unlike x.
Tensor clean_mean(const std::string& name, const Tensor& x, const NoiseLevel& level,
                  const Tensor& prior_score);

}  // namespace motet::detail
