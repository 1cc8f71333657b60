// Feynman-Kac weights of annealed chains and their resampling, island by island.
#pragma once

#include "motet/anneal.hpp"

namespace motet::detail {

/// Throws ConfigError unless config.weights, if there are any, fit the plan and rng's first chain.
void check_weights(const AnnealConfig& config, const Rng& rng);

/// Rate at which log w grows as noise falls, halved for the trapezoid, (B) float64:
///   log_v: 1/2 sigma^2 A,  v: 1/2 alpha_bar A,  A = |s - twist_score|^2 - square_sum.
/// 0 for a law that diffuses, whose square_sum is undefined.
Tensor weight_rate(const Eval& eval, const NoiseLevel& level, WeightRule rule);

/// What the rate gains, and its statistical error, where chains take the share c of each reverse
/// step: -(1 - c) (|s|^2 + div s) is added to A.
struct MatchedRate {
  Tensor gain;   ///< (B) float64
  Tensor error;  ///< (B) float64: standard deviation, from the divergence's
};
/// share, and the divergence with its error: (B) float64, in units of the island's median |s|^2.
MatchedRate matched_rate(const Eval& eval, const NoiseLevel& level, WeightRule rule,
                         int64_t island_size, const Tensor& share, const Tensor& divergence,
                         const Tensor& divergence_error);

/// The median of each island's values, in every row of it, (B) float64; NaN is left out.
Tensor island_medians(const Tensor& values, int64_t island_size);

/// The share c of the reverse step that carries a Gaussian product along without weights where its
/// factors agree: sum_i a_i |s_i|^2 over |s|^2, medians over an island, in [0, 1]. (B) float64; 1
/// for a single factor.
Tensor drift_share(const Eval& eval, int64_t island_size);

/// An estimate of div s, and its standard deviation: (B) float64 each.
struct Divergence {
  Tensor value;
  Tensor error;
};
/// Where the chains are after a step: d times the slope of the score along the leapfrog that begins
/// or ends there, extrapolated to length 0 from two of them. Unbiased, to third order in the step
/// size, for directions without preference, that is for a unit mass. The score's change across the
/// direction tells the error: 2 d times its square, per unit of length, is the variance over
/// directions. Not finite where the path is not.
Divergence divergence_estimate(const Path& path, const Tensor& accepted);

/// The smallest effective number of families of an island: 1 / sum of f^2, f the share of its rows
/// with one entry of `family` (B) int64, which must name rows of the same island.
double smallest_families(const Tensor& family, int64_t island_size);

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
