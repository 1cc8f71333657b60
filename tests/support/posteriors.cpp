#include "support/posteriors.hpp"

#include <torch/types.h>

#include <cmath>
#include <numbers>

namespace motet::testing {

AnalyticPtr MixturePrior::law(const std::string& name) const {
  return gaussian_mixture(weights, means, sds, name);
}

Posterior posterior_of(const MixturePrior& prior, const std::vector<int64_t>& observed,
                       const Tensor& observation, double noise_sd) {
  const Tensor columns = at::tensor(observed, at::kLong);
  const double noise = noise_sd * noise_sd;
  const Tensor means = prior.means.index_select(1, columns);
  const Tensor variances = prior.sds.index_select(1, columns).square();
  const Tensor total = variances + noise;
  const Tensor gap = observation - means;
  const Tensor log_weights =
      (prior.weights / prior.weights.sum()).log() -
      0.5 * (gap.square() / total + (2.0 * std::numbers::pi * total).log()).sum(1);
  Posterior posterior;
  posterior.mixture.weights = log_weights.softmax(0);
  posterior.mixture.means = prior.means.index_copy(1, columns, means + variances / total * gap);
  posterior.mixture.sds = prior.sds.index_copy(1, columns, (variances * noise / total).sqrt());
  posterior.log_evidence = log_weights.logsumexp(0).item<double>();
  return posterior;
}

}  // namespace motet::testing
