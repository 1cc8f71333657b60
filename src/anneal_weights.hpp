// Feynman-Kac weights of annealed chains and their resampling, island by island.
#pragma once

#include "motet/anneal.hpp"

namespace motet::detail {

/// Throws ConfigError unless config.weights, if there are any, fit the plan and rng's first chain.
void check_weights(const AnnealConfig& config, const Rng& rng);

/// Half of the rate at which log w grows as noise falls, (B) float64:
///   log_v: 1/2 sigma^2 (|s|^2 - sum_i a_i |s_i|^2),  v: 1/2 alpha_bar (|s|^2 - sum_i a_i |s_i|^2).
/// `eval` must carry square_sum or be of a single factor (rate 0).
Tensor weight_rate(const Eval& eval, const NoiseLevel& level, WeightRule rule);

/// Length of the way from one level to the next in the rule's variable, > 0 as noise falls;
/// v = (1 - alpha_bar) / alpha_bar.
double weight_interval(const NoiseLevel& from, const NoiseLevel& to, WeightRule rule);

/// Log of each island's mean weight, (I) float64 on the CPU.
Tensor log_means(const Tensor& log_weights, int64_t island_size);

/// What one pass over the islands did.
struct ResampleResult {
  Tensor ancestors;           ///< (B) int64 on the CPU: the row that each row takes over
  Tensor log_weights;         ///< (B) float64: 0 in the islands that were resampled
  Tensor log_normalisers;     ///< (I) float64: log mean weight of the resampled islands, else 0
  double smallest_ess = 1.0;  ///< over the islands, as a share of their size
  int64_t num_resampled = 0;  ///< islands
};

/// Resamples the islands (consecutive runs of config.island_size rows; the last may be shorter)
/// whose effective sample size is below config.ess_threshold of their size, or all of them when
/// `force`. A weight that is not finite counts as 0. uniforms (B) in (0, 1): row i's own. Throws
/// NumericalError when an island has no weight left.
ResampleResult resample(const Tensor& log_weights, const WeightConfig& config,
                        const Tensor& uniforms, bool force);

}  // namespace motet::detail
