// Posteriors known in closed form: mixtures of Gaussians given some of their coordinates.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "motet/model.hpp"

namespace motet::testing {

/// sum_k w_k N(m_k, diag(s_k^2)): weights (K), means (K, d), sds (K, d), float64.
struct MixturePrior {
  Tensor weights;
  Tensor means;
  Tensor sds;
  AnalyticPtr law(const std::string& name = "prior") const;
};

/// y_j = x_0[observed[j]] + noise_sd n_j seen of a mixture: its law given y, again a mixture (each
/// component's observed coordinates shrink to y, its weight grows with its density of y), and
/// log p(y). Diffused to a level, it is p(x_t | y) there.
struct Posterior {
  MixturePrior mixture;
  double log_evidence = 0.0;
};
Posterior posterior_of(const MixturePrior& prior, const std::vector<int64_t>& observed,
                       const Tensor& observation, double noise_sd);

}  // namespace motet::testing
