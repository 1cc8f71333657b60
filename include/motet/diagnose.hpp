// How far samples, and the sampler that made them, can be trusted: statistics across chains, the
// exactness of the correction at each level, and a held-out test with a known answer.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "motet/metrics.hpp"
#include "motet/preset.hpp"

namespace motet {

// Across chains (Vehtari et al. 2021, arXiv 1903.08008): draws is (num_chains, num_draws), any
// floating dtype and device, never written to; the work is done in float64 on the CPU. Equal to
// arviz-stats. All throw ShapeError for another shape or dtype and for fewer than 4 draws,
// NumericalError for entries that are not finite.

/// Rank-normalised split-R-hat, the larger of bulk and folded; 1 when all chains follow one law.
/// Needs 2 chains; NaN when every draw is equal.
double rhat(const Tensor& draws);
/// Effective number of independent draws in the middle of the law, from rank-normalised draws.
double ess_bulk(const Tensor& draws);
/// The same in the tails: the smaller one of the 5 % and the 95 % quantile.
double ess_tail(const Tensor& draws);
/// Monte-Carlo standard error of the mean, of the standard deviation, and of the quantile `prob`
/// (ConfigError outside (0, 1)).
double mcse_mean(const Tensor& draws);
double mcse_sd(const Tensor& draws);
double mcse_quantile(const Tensor& draws, double prob);

/// Any statistic computed on each of I independent islands, values (I): their mean, and its error,
/// standard deviation over islands / sqrt(I). Right however chains of one island hang together
/// (resampling), where a formula for independent chains is not. ShapeError unless (I) with I >= 2.
Estimate over_islands(const Tensor& values);

/// One coordinate of the final chains, compared over islands.
struct CoordinateConvergence {
  int64_t coordinate = 0;  ///< of the flattened event
  double rhat = 0.0;
  double ess_bulk = 0.0;
  double ess_tail = 0.0;
  Estimate mean;  ///< as over_islands()
};
/// rhat(), ess_bulk() and ess_tail() of x (N, *event) with an island a chain and its rows the draws,
/// of at most max_coordinates coordinates at even spacing. Rows of an island are no time series: a
/// correlation along them is that of the copies which resampling leaves side by side. Groups of
/// less than half the largest one's rows are left out, the others cut to the smallest. Empty when
/// fewer than 2 groups of 4 rows are left. Throws ShapeError unless groups.group has N rows,
/// ConfigError for max_coordinates < 1, NumericalError for entries that are not finite.
std::vector<CoordinateConvergence> convergence(const Tensor& x, const SampleGroups& groups,
                                               int64_t max_coordinates = 64);

// Exactness of the correction at one level, on particles x (B, *event) of that level.

/// Line integrals of one proposal from every particle, (B) float64 each, nats; NaN where a score on
/// the way was not finite.
struct PathProbe {
  /// Straight line between the ends minus the curve: the circulation of the score around the loop
  /// of both; 0 for every gradient field. The curve is the trajectory (cubic Hermite segments with
  /// the leapfrog velocities), for Langevin proposals the drift and then the noise.
  Tensor path_dependence;
  /// The kernel's rule minus the integral along the path that it stands for (the line for line
  /// rules, the curve for curve rules); undefined for kernels without a rule. NaN where a guard
  /// refused the path.
  Tensor quadrature_error;
  /// How much that error changes the probability of acceptance, in [0, 1], beyond what the
  /// reference's own error could; undefined and NaN alike.
  Tensor acceptance_error;
  /// Error bound of the two reference integrals: their difference from the same rule on half the
  /// points.
  Tensor reference_error;
};
/// Proposals of `kernel` (its type, num_leapfrog and mass; fresh momenta) from x, whose Evals these
/// are. The references take Clenshaw-Curtis rules of 17 points on the line and 9 on each segment.
/// Cost: num_leapfrog (1 for Langevin) + 15 + 7 a segment + the rule's. Needs a target with a
/// remainder (ConfigError) and a kernel type (ConfigError).
PathProbe probe_paths(const Target& target, const KernelConfig& kernel, double step_size,
                      const Tensor& x, Rng& rng);

/// ||J - J^T||_F / ||J + J^T||_F of the score's Jacobian J, root mean squares over the particles: 0
/// for gradients. num_probes pairs u, v ~ N(0, I) a particle, E (u^T A v)^2 = ||A||_F^2, J v by
/// central differences over .02 of local_scale(). The error is over particles. The score's rounding
/// counts as curl: about 1e-4 in float32, .1 in bfloat16. Cost: 1 + 4 num_probes. ConfigError for
/// num_probes < 1.
Estimate curl_ratio(const Target& target, const Tensor& x, int64_t num_probes, Rng& rng);

/// Length over which log p changes by about 1: sqrt(median of chi^2_d / median |score|^2), the
/// standard deviation of an isotropic Gaussian. NaN when no score is finite.
double local_scale(const Tensor& score);

/// log of the mean of exp(log_accept) over the proposals where it is above -inf: 0 in equilibrium
/// for every kernel whose test is exact, since its proposal preserves volume and is its own inverse
/// (HMC) or has a density (MALA), and what a guard or a support refuses it refuses both ways.
/// log_accept (num_chains) or (num_chains, num_steps); log_weights (num_chains) of the chains, or
/// undefined: equal. The error is over chains.
Estimate balance_residual(const Tensor& log_accept, const Tensor& log_weights = {});

/// What was found at one level. NaN where something does not apply.
struct LevelDiagnosis {
  NoiseLevel level;
  double step_size = std::numeric_limits<double>::quiet_NaN();
  int64_t num_steps = 0;      ///< of the pilot run at this level
  int64_t num_measured = 0;   ///< particles of the probes: the finite ones
  int64_t num_proposals = 0;  ///< of the pilot run
  int64_t num_invalid = 0;
  double ess = std::numeric_limits<double>::quiet_NaN();  ///< of the weights, as LevelStats::ess
  double acceptance = std::numeric_limits<double>::quiet_NaN();
  /// Mean squared jump of a step over d local_scale^2; 2 for independent draws of a Gaussian.
  double squared_jump = std::numeric_limits<double>::quiet_NaN();
  double scale = std::numeric_limits<double>::quiet_NaN();  ///< local_scale() of the particles
  Estimate lag;      ///< balance_residual() of the pilot run's last step: particles not settled
  Estimate balance;  ///< the same after more steps at the level: an inexact test
  double path_dependence = std::numeric_limits<double>::quiet_NaN();     ///< sd, nats
  double path_dependence_99 = std::numeric_limits<double>::quiet_NaN();  ///< 99 % quantile of |.|
  double quadrature_error = std::numeric_limits<double>::quiet_NaN();    ///< 99 % quantile of |.|
  double acceptance_error = std::numeric_limits<double>::quiet_NaN();    ///< mean over proposals
  double reference_error = std::numeric_limits<double>::quiet_NaN();     ///< 99 % quantile
  Estimate curl;
  Tensor path_differences;  ///< (num_measured) as PathProbe::path_dependence, or undefined
};

/// The sampler on a composition of Gaussians whose law at the plan's last level is known.
struct HeldOutTest {
  std::string target;   ///< "" when the test was not run
  std::string skipped;  ///< why not
  int64_t num_chains = 0;
  int64_t num_islands = 0;
  double max_abs_z_mean = 0.0;  ///< over coordinates; as normal z scores
  double max_abs_z_covariance = 0.0;
  double max_mean_error = 0.0;        ///< in standard deviations of the law
  double max_covariance_error = 0.0;  ///< as a share of the variances
  double p_value = 1.0;               ///< of the largest, for that many comparisons (Bonferroni)
  Estimate balance;  ///< balance_residual() from exact draws, at the level where it is worst
  int64_t balance_level = -1;
  int64_t num_balance_levels = 0;
};

/// green: nothing found; amber: look at it; red: do not trust; skipped: does not apply.
enum class Light { green, amber, red, skipped };
std::string to_string(Light light);

/// One line of the verdict.
struct Check {
  std::string name;
  Light light = Light::skipped;
  std::string sentence;  ///< what was found, what it means, what to do
};

struct DiagnoseConfig {
  int64_t num_chains = 512;               ///< of the pilot run, >= 64
  int64_t num_levels = 20;                ///< probed at most, spread over the plan; of up to 25 all
  int64_t num_probes = 8;                 ///< of curl_ratio(), >= 1
  int64_t num_settle = 20;                ///< steps at a level before LevelDiagnosis::balance, >= 2
  int64_t num_held_out = 4096;            ///< chains of the held-out test, >= 256; 0: none
  std::vector<double> exponents = {1.0};  ///< of the target's factors, for the held-out test
  std::string device = "cpu";
};

/// Level diagnoses (in the plan's order), the held-out test, and what they mean.
struct Diagnosis {
  std::vector<LevelDiagnosis> levels;
  HeldOutTest held_out;
  std::vector<Check> checks;
  Light light = Light::green;         ///< the worst of the checks'
  int64_t evaluations_per_chain = 0;  ///< of the pilot run and all probes
};

/// Called after each step and each level with the share of the work that is done; false stops it
/// (Interrupted).
using DiagnoseObserver = std::function<bool(double fraction)>;

/// Runs the sampler once on num_chains chains, probes the levels with its own particles, then runs
/// it on Gaussians composed with the same exponents on the same schedule and plan. Its verdict, and
/// the thresholds with their reasons: docs/diagnostics.md. Throws ConfigError for counts that are
/// too small and as anneal().
Diagnosis diagnose(const ModelPtr& target, const NoiseSchedule& schedule, const Sampler& sampler,
                   const DiagnoseConfig& config, const Rng& rng,
                   const DiagnoseObserver& observer = {});

}  // namespace motet
