// The driver: noise levels from high to low, MCMC at each, reverse steps between. Knows no kernel.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "motet/kernel.hpp"

namespace motet {

/// Where the MCMC steps go relative to the reverse process (docs/method.md, Annealing).
enum class Placement {
  none,  ///< reverse process only
  pure,  ///< MCMC only, no reverse steps: what the reference code and Table 1 do
  /// Reverse step into a level, then MCMC there: [S23]'s text. No MCMC at the first level.
  after_reverse,
  before_reverse,  ///< MCMC at a level (the first included), then the reverse step out of it
};
/// The reverse step from level a to level b ([S23] eq. 2-3), with
/// beta = 1 - alpha_bar_a / alpha_bar_b.
enum class ReverseStep {
  ancestral_beta_tilde,  ///< variance beta (1 - alpha_bar_b) / (1 - alpha_bar_a)
  ancestral_beta,        ///< variance beta
  ddim,                  ///< deterministic (Song et al. 2021, eta = 0)
};
/// The map from the last level to the data, x_0 = (x + g s) / sqrt(alpha_bar) (docs/method.md,
/// Annealing).
enum class LastMap {
  none,     ///< samples of the last level's law, as the reference code's MCMC rows
  rescale,  ///< g = 0: keeps the last level's noise
  tweedie,  ///< g = sigma^2: the reverse process's own last step; too sharp after exact MCMC
  /// g = (1 - sqrt(1 - sigma^2 k)) / k, k each chain's own curvature of -log p along its score (one
  /// more evaluation; no mean over chains, which would tie a chain's bits to its batch), sigma^2 k
  /// kept in [0, 1]: exact for isotropic Gaussian modes of one factor. With given curvatures, see
  /// AnnealConfig::curvature, a product's factors lose their noise each on its own.
  curvature,
};
std::string to_string(Placement value);
std::string to_string(ReverseStep value);
std::string to_string(LastMap value);
/// Throw ConfigError naming the allowed words.
Placement placement_from(const std::string& name);
ReverseStep reverse_step_from(const std::string& name);
LastMap last_map_from(const std::string& name);

/// One noise level of a plan and the work done there.
struct LevelPlan {
  NoiseLevel level;
  int64_t num_steps = 0;   ///< MCMC steps at this level
  double step_size = 0.0;  ///< > 0 where num_steps > 0
  /// Target::mass here, for kernels that take one: (d) floats > 0, one for each coordinate of the
  /// event; undefined: the kernel's own.
  Tensor mass = {};
};

/// Variable in which the weights' increments are integrated by the trapezoid rule:
/// v = (1 - alpha_bar) / alpha_bar.
enum class WeightRule { log_v, v };
/// How chains are drawn again in proportion to their weights (Douc and Cappe 2005).
enum class Resampling {
  none,        ///< never: the weights are returned
  systematic,  ///< one uniform an island
  stratified,  ///< one uniform a chain
  residual,    ///< whole copies first, the fractions systematically
};
std::string to_string(WeightRule value);
std::string to_string(Resampling value);
/// Throw ConfigError naming the allowed words.
WeightRule weight_rule_from(const std::string& name);
Resampling resampling_from(const std::string& name);

/// Feynman-Kac weights (docs/method.md, Weights): what the reverse steps of a product miss of its
/// laws. Chains live in islands of island_size consecutive ones that resample among themselves.
struct WeightConfig {
  WeightRule rule = WeightRule::v;
  Resampling resampling = Resampling::systematic;
  double ess_threshold = 0.5;  ///< in [0, 1]: an island resamples below this share of its size
  /// A normalised weight is cut at max_share / island size before resampling; 0: never.
  double max_share = 5.0;
  int64_t island_size = 2000;  ///< >= 2; bits of an island do not depend on the other islands
  /// Take only the share of each reverse step that carries the law of agreeing factors along, and
  /// weigh the rest (docs/method.md, Matched steps): weights spread far less in many dimensions.
  /// Needs MCMC by a kernel that leaves a path (Step::path); without one, steps are whole.
  bool matched = false;
  /// Levels below this one carry no weights: chains are drawn anew, for the last time, at the lowest
  /// level of the plan that is not below it, and MCMC alone follows the law from there
  /// (docs/method.md, Where weights end). 0: all levels do; one above the first: none does.
  int64_t lowest_level = 0;
};

/// Step sizes found while annealing, for a pilot run (tune): at each level the length c / sqrt(F)
/// with F the inverse square scale of the law there, median |s|^2 / median of chi^2 with d degrees
/// of freedom. After every step c is multiplied by the smaller one of
/// exp(rate (acceptance - target_acceptance)) and, where the kernel tells log_accept_lower,
/// (max_disagreement / D)^(1/3), D = E |min(1, exp(log_accept)) - min(1, exp(log_accept_lower))|.
struct AdaptConfig {
  double target_acceptance = 0.8;
  double rate = 1.0;
  double start = 0.6;  ///< first c
  double cap = 1.5;    ///< largest c
  /// True: LevelPlan::mass is found too, on entry to each level (docs/method.md, Annealing). At an
  /// event of d coordinates that is d numbers a level.
  bool diagonal_mass = false;
  /// Mean change of the probability of acceptance between two rules on the same points that the
  /// steps may come to; it bounds the bias that the better rule leaves (docs/method.md, The sampler
  /// "exact"). 1: no bound.
  double max_disagreement = 0.01;
};

struct AnnealConfig {
  std::vector<LevelPlan> levels;  ///< falling index, at least one
  Placement placement = Placement::pure;
  ReverseStep reverse_step = ReverseStep::ancestral_beta_tilde;
  LastMap last_map = LastMap::none;
  /// Set: chains carry weights; placement must have reverse steps.
  std::optional<WeightConfig> weights = std::nullopt;
  /// Set: LevelPlan::step_size is found on the way instead of given. The chains of a call then
  /// depend on each other: for pilot runs, whose step sizes a second run takes over as fixed.
  std::optional<AdaptConfig> adapt = std::nullopt;
  /// Of LastMap::curvature, for all chains. Empty: each chain's own. One for each of
  /// factors(model): k of each, so that the map is exact where all factors are isotropic Gaussians,
  /// whatever their exponents; 1 evaluation where there are several. One number for a target of
  /// several: k of the whole, at no evaluation.
  std::vector<double> curvature = {};
};

/// Rules that fill LevelPlan::step_size.
double power_step_size(double factor, double power,
                       const NoiseLevel& level);  ///< factor * beta^power

/// What happened at one level, summed over its steps and over the chains seen so far.
struct LevelStats {
  int64_t index = 0;
  double step_size = 0.0;
  int64_t num_steps = 0;
  int64_t num_proposals = 0;  ///< steps times chains
  int64_t num_accepted = 0;   ///< of unadjusted kernels: proposals that were finite
  /// Proposals that were not finite (rejected), and chains that the move out of the level broke.
  int64_t num_invalid = 0;
  int64_t evaluations = 0;  ///< per chain
  /// Weighted: smallest effective sample size of an island on entry, as a share of its size; NaN
  /// without weights.
  double ess = std::numeric_limits<double>::quiet_NaN();
  int64_t num_resampled = 0;  ///< islands resampled on entry
  /// Weighted: smallest effective number of families of an island after that, 1 / sum of f^2 with f
  /// the share of the island that descends from one chain of the first level; NaN without weights.
  double families = std::numeric_limits<double>::quiet_NaN();
  /// Mean over the chains of |x' - x|^2 in the level's last MCMC step, rejections included, unit of
  /// x^2; NaN without steps.
  double squared_jump = std::numeric_limits<double>::quiet_NaN();
  Tensor mass = {};  ///< (d) float64 on the CPU: as found; undefined where it was not sought
  double acceptance() const;  ///< num_accepted / num_proposals; NaN without proposals
};

/// What the last reverse step left for the level that it led to (docs/method.md, Weights of the
/// operators); undefined where the model needs none.
struct Crossing {
  Tensor ledger;  ///< (B, n) float64: the tracked log densities at the point reached
  Tensor slope;   ///< (B) float64: Eval::slope where the step began
  Tensor twist;   ///< (B) float64: what the twist has added to log w but for its value at the end
};

/// Everything needed to go on: position, chains, statistics. Saved as a checkpoint, restored to the
/// same bits.
struct AnnealState {
  int64_t level_position = 0;  ///< index into AnnealConfig::levels
  int64_t step = 0;            ///< MCMC steps done at that level
  ChainState chains;
  std::vector<LevelStats> levels;
  Tensor num_accepted;  ///< int64 scalar: so far at the current level (kept on the device)
  Tensor num_invalid;   ///< int64 scalar: so far at the current level
  double network_seconds = 0.0;
  Tensor log_weights;  ///< (B) float64 since the last resampling; undefined without weights
  Tensor family;  ///< (B) int64: the row at the first level that each descends from; with weights
  Tensor weight_rate;        ///< (B) float64: of the weights at the end of the level before
  Tensor log_normalisers;    ///< (I) float64, an island each: sum of log mean weights so far
  double adapt_scale = 0.0;  ///< c of AdaptConfig; 0 before its first use
  /// Matched weights, (B) float64 each, undefined before their first use: the share of the last
  /// reverse step; the statistical error of weight_rate; each chain's divergence of the score in
  /// units of its island's median |s|^2, with its error.
  Tensor drift_share;
  Tensor weight_rate_error;
  Tensor divergence;
  Tensor divergence_error;
  Crossing crossing;
};

struct SampleResult {
  Tensor x;                        ///< (B, *event)
  std::vector<LevelStats> levels;  ///< in the plan's order
  int64_t evaluations_per_chain = 0;
  double network_seconds = 0.0;
  /// (B) float64: of chains that were not resampled at the end; undefined without weights, and when
  /// all are equal.
  Tensor log_weights;
  /// (I) float64, an island each: estimates of log(Z_last / Z_first), Z the integral of the product
  /// of the factors' densities in x / sqrt(alpha_bar), Z_last of the lowest level with weights;
  /// undefined without weights.
  Tensor log_normalisers;
  /// (B, C) float64: TrackingModel::shares at the last level, where log densities were tracked; else
  /// undefined. Of a lone mixture, the mean of a column is the component's weight if all is well.
  Tensor shares;
};

/// Called after each MCMC step and each level with the state so far; return false to stop (anneal
/// then throws Interrupted). It must not write into the state's tensors.
using Observer = std::function<bool(const AnnealState& state)>;

/// Anneals the chains x_init (B, *event) through config.levels. `resume` continues a saved state
/// (x_init is then ignored) to the same bits as an uninterrupted call. Cost per level with MCMC
/// steps or a move out of it: 1 evaluation on entry (the reverse step out is then free) + the
/// kernel's. A chain that a reverse step or the last map breaks goes on as NaN or infinity and is
/// counted in num_invalid. One that the last map takes out of a hard region goes where the map
/// without it would put it. kernel may be null when placement is none. Throws ConfigError for a null
/// model, a plan that does not fit the schedule or the model, a model trained for another schedule,
/// or a state of another plan; ShapeError for x_init; NumericalError when every proposal of a level was
/// invalid or no chain is finite after a move; Interrupted when the observer returns false.
SampleResult anneal(const ModelPtr& model, const NoiseSchedule& schedule, const KernelPtr& kernel,
                    const AnnealConfig& config, const Tensor& x_init, const Rng& rng,
                    const Observer& observer = {}, const AnnealState* resume = nullptr);

struct TuneResult {
  AnnealConfig config;  ///< a fixed plan, without `adapt`
  SampleResult pilot;   ///< the run that it was measured on; x at the last level
};

/// `config` with step sizes (and masses, where config.adapt asks for them, and the factors' curvatures
/// for the last map, where that one takes them and config.curvature is empty) measured on a pilot
/// run of the chains x_init, by config.adapt (its defaults when unset). Costs the pilot's
/// evaluations, and 2 for the curvatures. Throws as anneal().
TuneResult tune(const ModelPtr& model, const NoiseSchedule& schedule, const KernelPtr& kernel,
                const AnnealConfig& config, const Tensor& x_init, const Rng& rng,
                const Observer& observer = {});

}  // namespace motet
