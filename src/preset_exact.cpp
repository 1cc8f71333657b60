// The plan of the sampler "exact" (docs/method.md, The sampler "exact"). At high noise the target
// q ~ prod_i p_i^{a_i} is near N(0, sigma^2 / A I), A = sum_i a_i; chains start there. Levels then
// fall in about equal steps of log v, v = (1 - abar) / abar, since the weights' increments are
// integrals in it; a schedule that is coarse near the data is followed level by level there. The
// steps of MCMC are few on the way, where weights carry the modes' masses, and most at the end,
// where they set the widths.
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "compose_tree.hpp"
#include "model_rows.hpp"
#include "motet/compose.hpp"
#include "motet/error.hpp"
#include "motet/preset.hpp"
#include "preset_start.hpp"

namespace motet {
namespace {

constexpr int64_t kMaxLevels = 40;  // beyond, a larger budget buys MCMC steps instead
constexpr int64_t kMinLevels = 4;
constexpr int64_t kSmallBudget = 60;  // below, trajectories of one leapfrog pay better
constexpr double kSlowRate = 0.3;

// MCMC steps at the level `position` of `count`.
int64_t base_steps(size_t position, size_t count) {
  if (position == 0) {
    return 3;  // mends what the Gaussian start misses
  }
  const size_t left = count - 1 - position;
  return left == 0 ? 6 : left <= 2 ? 2 : 1;
}

int64_t sum_of_base_steps(int64_t count) {
  int64_t sum = 0;
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    sum += base_steps(i, static_cast<size_t>(count));
  }
  return sum;
}

using detail::log_v;

// From `first` to 0, each about `spacing` below the one before in log v.
std::vector<int64_t> levels_spaced(const NoiseSchedule& schedule, int64_t first, double spacing) {
  std::vector<int64_t> levels = {first};
  while (levels.back() > 0) {
    const double wanted = log_v(schedule.level(levels.back())) - spacing;
    int64_t next = levels.back() - 1;
    while (next > 0 && std::abs(log_v(schedule.level(next - 1)) - wanted) <=
                           std::abs(log_v(schedule.level(next)) - wanted)) {
      --next;
    }
    levels.push_back(next);
  }
  return levels;
}

// As many levels as can be, at most `count`, evenly spread.
std::vector<int64_t> spread_levels(const NoiseSchedule& schedule, int64_t first, int64_t count) {
  double low = 0.0;
  double high = log_v(schedule.level(first)) - log_v(schedule.level(0));
  if (static_cast<int64_t>(levels_spaced(schedule, first, low).size()) <= count) {
    return levels_spaced(schedule, first, low);
  }
  for (int i = 0; i < 40; ++i) {
    const double middle = 0.5 * (low + high);
    const auto size = static_cast<int64_t>(levels_spaced(schedule, first, middle).size());
    (size > count ? low : high) = middle;
  }
  return levels_spaced(schedule, first, high);
}

[[noreturn]] void fail_budget(int64_t evaluations, const std::string& why) {
  throw ConfigError("exact: evaluations = " + std::to_string(evaluations) + ", " + why);
}

int64_t choose_leapfrogs(const ExactConfig& config) {
  if (config.evaluations < kMinEvaluations) {
    fail_budget(config.evaluations, "must be >= " + std::to_string(kMinEvaluations));
  }
  return config.num_leapfrog > 0 ? config.num_leapfrog : config.evaluations < kSmallBudget ? 1 : 2;
}

// The lowest level whose target is near its Gaussian: scans by halves, as noise brings them nearer.
// A network that errs at high noise is near it at no level; then the lowest level where it is about
// as near as at the highest, and high noise at least. Not the highest itself: the first step down
// from the top of a cosine schedule is 7 wide in log v, along which the weights would add up the
// error.
int64_t choose_first(const ModelPtr& target, const NoiseSchedule& schedule, const Rng& rng,
                     const std::string& device) {
  constexpr double kAboutAsNear = 1.25;
  int64_t low = std::min<int64_t>(kMinLevels, schedule.num_levels()) - 1;
  const int64_t last = schedule.num_levels() - 1;
  int64_t high = last;
  // A sum over many coordinates is known well from few draws.
  const int64_t num_draws = c10::multiply_integers(target->event_shape()) > 16 ? 64 : 512;
  const auto discrepancy = [&](int64_t index) {
    return start_discrepancy(target, schedule.level(index), num_draws, rng.at(index, 0), device);
  };
  const double least = discrepancy(last);
  const bool errs = !(least <= kMaxDiscrepancy);
  const double allowed = errs && std::isfinite(least) ? kAboutAsNear * least : kMaxDiscrepancy;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (discrepancy(middle) <= allowed) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  if (!errs) {
    return high;
  }
  const int64_t noisy = detail::noisy_level(schedule, kHighNoise);
  return high < last ? std::max(high, noisy) : noisy;
}

// Ledgers and ramps begin where every leaf is a Gaussian. From there to where the first leaf shows
// itself the way is long in log v and, if exponents sum to 1, nothing happens on it: a few wide
// steps. Other sums are not carried along by reverse steps, and the weights spread with a step's
// length: even steps then, from a level where a leaf of variance k still errs by only k / v nats
// (measured: a mixture of ring and bar times a Gaussian, total variation .31 by wide steps, .05 so).
std::vector<int64_t> levels_from_high_noise(const ModelPtr& target, const NoiseSchedule& schedule,
                                            int64_t count, const Rng& rng,
                                            const std::string& device) {
  constexpr double kWideStep = 1.5;      // of log v
  constexpr double kNearlyNoise = 0.04;  // alpha_bar
  const int64_t top = detail::noisy_level(schedule, kHighNoise);
  if (std::abs(total_exponent(*target, schedule.level(top)) - 1.0) > 1e-9) {
    return spread_levels(schedule, detail::noisy_level(schedule, kNearlyNoise), count);
  }
  int64_t first = 0;
  for (const ModelPtr& leaf : leaves(target)) {
    first = std::max(first, choose_first(leaf, schedule, rng, device));
  }
  std::vector<int64_t> levels;
  for (int64_t next = top; next > first;) {
    levels.push_back(next);
    const double wanted = log_v(schedule.level(next)) - kWideStep;
    do {
      --next;
    } while (next > first && log_v(schedule.level(next)) > wanted);
  }
  const auto left = std::max<int64_t>(count - static_cast<int64_t>(levels.size()), kMinLevels);
  const std::vector<int64_t> rest = spread_levels(schedule, first, left);
  levels.insert(levels.end(), rest.begin(), rest.end());
  return levels;
}

void check_levels(const std::vector<int64_t>& levels, const NoiseSchedule& schedule) {
  for (const int64_t index : levels) {
    schedule.level(index);  // throws for one that is not there
  }
}

std::vector<LevelPlan> make_plan(const NoiseSchedule& schedule, const std::vector<int64_t>& levels,
                                 int64_t evaluations, int64_t num_leapfrog, int64_t last_map) {
  const auto count = static_cast<int64_t>(levels.size());
  const int64_t base = sum_of_base_steps(count);
  const int64_t needed = count + num_leapfrog * base + last_map;
  if (evaluations < needed) {
    fail_budget(evaluations, "but " + std::to_string(count) + " levels and trajectories of " +
                                 std::to_string(num_leapfrog) + " leapfrogs need at least " +
                                 std::to_string(needed) +
                                 "; raise it, or give fewer levels or leapfrogs");
  }
  const double scale = static_cast<double>(evaluations - count - last_map) /
                       static_cast<double>(num_leapfrog * base);
  std::vector<LevelPlan> plan;
  for (size_t i = 0; i < levels.size(); ++i) {
    const auto steps = static_cast<double>(base_steps(i, levels.size())) * scale;
    plan.push_back({schedule.level(levels[i]), static_cast<int64_t>(steps), 0.0});
    evaluations -= 1 + plan.back().num_steps * num_leapfrog;
  }
  // What rounding left over, a step a level, from the last one up.
  for (size_t i = plan.size(); i > 0 && evaluations - last_map >= num_leapfrog; --i) {
    ++plan[i - 1].num_steps;
    evaluations -= num_leapfrog;
  }
  return plan;
}

}  // namespace

double start_sd(const Model& target, const NoiseLevel& level) {
  return level.sigma() / std::sqrt(total_exponent(target, level));
}

Tensor detail::relative_start_sds(const Model& target, const NoiseLevel& level) {
  const Tensor exponents = coordinate_exponents(target, level);
  return at::sqrt(exponents.min() / exponents);
}

double start_discrepancy(const ModelPtr& target, const NoiseLevel& level, int64_t num_chains,
                         const Rng& rng, const std::string& device) {
  std::vector<int64_t> shape = target->event_shape();
  shape.insert(shape.begin(), num_chains);
  const double variance = (1.0 - level.alpha_bar) / total_exponent(*target, level);
  Rng draws = rng;
  const auto options = at::TensorOptions().dtype(at::kFloat).device(at::Device(device));
  Tensor x = draws.normal_like(at::empty(shape, options)) * std::sqrt(variance);
  const Tensor relative = detail::relative_start_sds(*target, level);
  const bool is_even = relative.dim() == 0;
  x = is_even ? x : x * relative.to(options);
  const Tensor score = Target(target, level).evaluate(x).score.to(at::kDouble);
  const Tensor sds = relative.to(score.device());
  const Tensor gap = detail::square_norm(is_even ? score.add(x, 1.0 / variance)
                                                 : score * sds + x / (sds * variance));
  const double mean = gap.mean().item<double>() * variance;
  return std::isfinite(mean) ? mean : std::numeric_limits<double>::infinity();
}

Sampler make_exact_sampler(const ModelPtr& target, const NoiseSchedule& schedule,
                           const ExactConfig& config, const Rng& rng, const std::string& device) {
  const Traits found = traits(*target);
  const bool from_high_noise = found.is_tracked || found.has_slope;
  const int64_t top =
      from_high_noise ? detail::noisy_level(schedule, kHighNoise) : schedule.num_levels() - 1;
  if (const double exponent = total_exponent(*target, schedule.level(top)); !(exponent > 0.0)) {
    throw ConfigError("exact: the exponents of " + target->describe() + " sum to " +
                      std::to_string(exponent) +
                      ", must be > 0: at high noise the target would be no law; give a larger "
                      "exponent to a positive factor, add one, or ramp a negative one");
  }
  const int64_t num_leapfrog = choose_leapfrogs(config);
  // The last map of several factors looks at each of them once more.
  const bool has_own_curvatures = found.has_mixture || found.is_conditioned || found.is_tracked;
  const int64_t last_map = has_own_curvatures || factors(target).size() > 1 ? 1 : 0;
  std::vector<int64_t> levels = config.levels;
  if (levels.empty()) {
    const int64_t count =
        std::clamp((config.evaluations - last_map - 9 * num_leapfrog) / (1 + num_leapfrog),
                   kMinLevels, kMaxLevels);
    levels = from_high_noise
                 ? levels_from_high_noise(target, schedule, count, rng, device)
                 : spread_levels(schedule, choose_first(target, schedule, rng, device), count);
  }
  check_levels(levels, schedule);
  Sampler sampler;
  sampler.name = "exact";
  sampler.kernel_config.type = "hmc";
  sampler.kernel_config.hmc = {.num_leapfrog = num_leapfrog, .damping = 0.0};
  sampler.kernel_config.ratio = "curve";
  sampler.kernel_config.curve_rule = CurveRule::polynomial;
  sampler.kernel_config.guard = 1.0;
  sampler.kernel = make_kernel(sampler.kernel_config);
  AnnealConfig& anneal = sampler.anneal;
  anneal.levels = make_plan(schedule, levels, config.evaluations, num_leapfrog, last_map);
  anneal.placement = Placement::before_reverse;
  anneal.last_map = LastMap::curvature;
  anneal.weights = WeightConfig{.matched = !found.is_tracked && !found.has_twist};
  // A trajectory that turns a Gaussian by a quarter of its period makes the point independent of
  // where it began; a longer one comes back.
  anneal.adapt = AdaptConfig{.cap = 0.5 * std::numbers::pi / static_cast<double>(num_leapfrog)};
  anneal.adapt->start = std::min(anneal.adapt->start, anneal.adapt->cap);
  if (num_leapfrog == 1) {
    // No second rule bounds the step there, and a rule that errs upwards accepts more: what the
    // acceptance asks for is followed slowly.
    anneal.adapt->rate = kSlowRate;
  }
  sampler.start_sd = start_sd(*target, anneal.levels.front().level);
  sampler.evaluations_per_chain = last_map;
  for (const LevelPlan& level : anneal.levels) {
    sampler.evaluations_per_chain += 1 + level.num_steps * num_leapfrog;
  }
  return sampler;
}

}  // namespace motet
