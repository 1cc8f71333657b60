// What the laws known in closed form share: their points, their settings, shares of components.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "motet/rng.hpp"

namespace motet::detail {

/// x (B, *event) as float64; float32 and float64 are accepted, see check_points().
at::Tensor checked_input(const at::Tensor& x, const std::vector<int64_t>& event_shape,
                         const std::string& name);

/// Where values are positive and finite.
at::Tensor good_scale(const at::Tensor& values);

/// Weights of the components of a mixture: their logs when they sum to 1, and draws by them.
class Weighting {
 public:
  explicit Weighting(const at::Tensor& weights);  ///< (K) float64, positive
  const at::Tensor& logs() const { return logs_; }
  /// (num_samples) int64: a component for each chain.
  at::Tensor draw(int64_t num_samples, Rng& rng) const;

 private:
  at::Tensor logs_;
  at::Tensor cumulative_;  // (K), last entry 1
};

/// (B, K) posterior probabilities of the components, of the logs of weight times density.
at::Tensor component_shares(const at::Tensor& log_terms);

}  // namespace motet::detail
