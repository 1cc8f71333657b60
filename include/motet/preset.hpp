// Samplers by name: a kernel, a plan of levels and a last map, ready for anneal(). The published
// table's, and motet's own, "exact".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "motet/anneal.hpp"
#include "motet/compose.hpp"
#include "motet/ratio_adaptive.hpp"

namespace motet {

/// A kernel as plain data: what a config file can say about one.
struct KernelConfig {
  std::string type;   ///< "ula", "mala", "uhmc", "hmc", "hmc-unflipped"; "" for no kernel
  HmcConfig hmc;      ///< of the Hamiltonian kernels
  std::string ratio;  ///< "exact", "line", "curve"; "" for the unadjusted kernels
  LineRule line_rule = LineRule::trapezoid;  ///< of the line ratio
  int64_t num_points = 0;                    ///< of the line ratio; 0: by level
  LinePoints line_points = {};               ///< of the line ratio where num_points is 0
  /// > 0: line_points are still to be found, by a pilot whose kernel has a PilotLineRatio of this
  /// tolerance (nats).
  double line_tolerance = 0.0;
  CurveRule curve_rule = CurveRule::trapezoid;  ///< of the curve ratio
  double guard = 0.0;                           ///< of the curve ratio, in nats; 0: none
};
/// The kernel; null for type "". Throws ConfigError for an unknown word, a ratio given to an
/// unadjusted kernel or missing from an adjusted one, and as the kernels' constructors do.
KernelPtr make_kernel(const KernelConfig& config);
/// The same with `ratio` in place of the config's own (null for unadjusted kernels).
KernelPtr make_kernel(const KernelConfig& config, const LogRatioPtr& ratio);
/// The log ratio of an adjusted kernel. Throws ConfigError for another word than "exact", "line" and
/// "curve", and as the ratios do.
LogRatioPtr make_ratio(const KernelConfig& config);

/// A sampler ready for anneal(). One of [S23]'s Table 1 under one preset has the numbers of [S23]'s
/// Table 2 (10 steps a level; Langevin step size .001 = delta^2/2; 3 leapfrogs of .03, damping .5,
/// unit mass).
struct Sampler {
  std::string name;
  std::string preset;
  KernelConfig kernel_config;  ///< what `kernel` was made from
  KernelPtr kernel;            ///< null for "reverse"
  AnnealConfig anneal;
  /// Chains start from N(0, start_sd^2 I).
  double start_sd = 1.0;
  /// True: accepts by differences of log densities, so every factor must be exact.
  bool needs_energy = false;
  /// Evaluations of every factor that one chain costs on a target with a remainder. Each level
  /// costs 1 on entry and each of its steps 1 (Langevin) or num_leapfrog (Hamiltonian) plus
  /// num_points - 2 (line rule) or 0 (curve and energy rules); LastMap::curvature adds 1. On exact
  /// targets the line rule costs nothing either. 0 where a config changed the recipe: measured
  /// then.
  int64_t evaluations_per_chain = 0;
};

/// "reverse", "u-la", "la-energy", "la-3-line", "la-5-line", "la-10-line", "u-hmc", "hmc-energy",
/// "hmc-3-line", "hmc-4-curve", "hmc-5-line", "hmc-10-line": the table's order, Langevin first.
const std::vector<std::string>& table_sampler_names();
/// "exact", then table_sampler_names().
const std::vector<std::string>& sampler_names();

/// "paper" and "corrected".
const std::vector<std::string>& preset_names();

/// The table's sampler `name` on all of `schedule`'s levels (at least 2).
///
/// `preset` "paper" is the reference code to the letter, T = num_levels: u-la and u-hmc run levels
/// T-1 .. 1 and stop there, la-* runs T-1 .. 0, hmc-* runs T-2 .. 0; pure annealing, no map from
/// the last level to the data; a rejected HMC step keeps its momentum, so hmc-* is not exactly
/// invariant. "corrected" runs every sampler on T-1 .. 0, flips a rejected step's momentum
/// (Horowitz 1991) and ends MCMC with LastMap::curvature. "reverse" is the same under both:
/// ancestral with variance beta~, T-1 .. 0, then the mean of the last step, which is
/// LastMap::tweedie because level 0 has sigma^2 = beta. Every sampler starts from N(0, I).
/// Throws ConfigError for an unknown name (naming the nearest) or preset, or fewer than 2 levels.
Sampler make_sampler(const std::string& name, const std::string& preset,
                     const NoiseSchedule& schedule);

/// What decides the plan of the sampler "exact".
struct ExactConfig {
  /// Evaluations of every factor that one chain may cost; at least kMinEvaluations.
  int64_t evaluations = 105;
  /// Leapfrogs of a trajectory; 0: 2, or 1 where the budget is under 60.
  int64_t num_leapfrog = 0;
  /// Levels to visit, falling; empty: from the lowest level at which start_discrepancy() is below
  /// kMaxDiscrepancy, in about equal steps of log v, v = (1 - alpha_bar) / alpha_bar.
  std::vector<int64_t> levels = {};
};
inline constexpr int64_t kMinEvaluations = 24;
inline constexpr double kMaxDiscrepancy = 0.02;

/// Standard deviation of the target near N(0, sd^2 I) at high noise: sigma / sqrt(total_exponent).
double start_sd(const Model& target, const NoiseLevel& level);

/// How far the target is from N(0, sd^2 I), sd^2 = sigma^2 / total_exponent, at a level:
/// E |S(x) + x / sd^2|^2 sd^2 under that Gaussian, its Fisher divergence in its own units, of all
/// coordinates together: a mean that is off by sd in one direction counts 1, in 2 dimensions and in
/// 3072. Estimated on num_chains draws of rng. Float. 1 evaluation a chain. Not finite scores
/// make it infinite.
double start_discrepancy(const ModelPtr& target, const NoiseLevel& level, int64_t num_chains,
                         const Rng& rng, const std::string& device = "cpu");

/// motet's own sampler (docs/method.md, The sampler "exact"): chains start from N(0, sigma^2 /
/// total_exponent I) at the first level where that is nearly the target, carry Feynman-Kac weights
/// along ancestral steps and resample in islands, and take HMC steps with the polynomial curve rule
/// at each level. Step sizes and the last map's curvature are not known yet: anneal.adapt is set,
/// and tune() makes the plan that samples. Cost: evaluations on 512 chains, 64 where there are more
/// than 16 coordinates, one for each level that is tried as the first. Throws ConfigError for a total
/// exponent <= 0, a budget that is too small, levels that do not fit, or a target that is nowhere
/// near the Gaussian.
Sampler make_exact_sampler(const ModelPtr& target, const NoiseSchedule& schedule,
                           const ExactConfig& config, const Rng& rng,
                           const std::string& device = "cpu");

/// The pilot run that measures a product's integrals.
struct NormaliserConfig {
  int64_t num_chains = 2000;  ///< >= 2
  int64_t evaluations = 200;  ///< per chain, as ExactConfig's
};
/// Log integrals of an unnormalised target over x / sqrt(alpha_bar) at each level that the sampler
/// "exact" visits, from the Gaussian that it is at high noise down: the Feynman-Kac weights' means
/// (docs/method.md, Weights of the operators). Costs config.evaluations and a pilot's of 512 chains.
/// `standard_error`, if given: the spread over islands at level 0. Throws as make_exact_sampler and
/// anneal.
LogNormalisers measure_normalisers(const ModelPtr& target, const NoiseSchedule& schedule,
                                   const NormaliserConfig& config, const Rng& rng,
                                   const std::string& device = "cpu",
                                   double* standard_error = nullptr);

}  // namespace motet
