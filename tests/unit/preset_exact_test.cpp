// The plan of the sampler "exact": its start, levels and steps, and what it refuses.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "motet/compose.hpp"
#include "motet/error.hpp"
#include "motet/preset.hpp"
#include "support/models.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

using testing::gaussian;
using testing::score_only;

const NoiseSchedule& schedule() {
  static const NoiseSchedule value = NoiseSchedule::cosine(100);
  return value;
}

ModelPtr benchmark() { return product({{score_only(ring())}, {score_only(bar())}}); }

Sampler make(const ExactConfig& config, const ModelPtr& target = benchmark()) {
  return make_exact_sampler(target, schedule(), config, Rng(1));
}

// With the look at both factors that the last map takes.
int64_t cost(const Sampler& sampler) {
  int64_t sum = 1;
  for (const LevelPlan& level : sampler.anneal.levels) {
    sum += 1 + level.num_steps * sampler.kernel_config.hmc.num_leapfrog;
  }
  return sum;
}

TEST(ExactSampler, KeepsToItsBudget) {
  for (const int64_t evaluations : {24, 40, 59, 60, 67, 80, 105, 300, 1000, 5000}) {
    const Sampler sampler = make({.evaluations = evaluations});
    EXPECT_EQ(cost(sampler), sampler.evaluations_per_chain);
    EXPECT_LE(cost(sampler), evaluations);
    EXPECT_GE(cost(sampler), evaluations - 1);
    EXPECT_EQ(sampler.anneal.levels.back().level.index, 0);
  }
}

TEST(ExactSampler, LevelsFallInEqualStepsOfLogVWhereTheScheduleIsFine) {
  const NoiseSchedule fine = NoiseSchedule::cosine(1000);
  const Sampler sampler = make_exact_sampler(benchmark(), fine, {.evaluations = 105}, Rng(1));
  const auto log_v = [](const NoiseLevel& level) {
    return std::log((1.0 - level.alpha_bar) / level.alpha_bar);
  };
  std::vector<double> spacings;
  for (size_t i = 1; i < sampler.anneal.levels.size(); ++i) {
    spacings.push_back(log_v(sampler.anneal.levels[i - 1].level) -
                       log_v(sampler.anneal.levels[i].level));
  }
  const double first = spacings.front();
  size_t i = 0;
  for (; i < spacings.size(); ++i) {
    const NoiseLevel& next = sampler.anneal.levels[i + 1].level;
    if (log_v(fine.level(next.index + 1)) - log_v(next) > 0.25 * first) {
      break;
    }
    EXPECT_NEAR(spacings[i], first, 0.25 * first) << i;
  }
  EXPECT_GT(i, 15U);
}

// For one Gaussian factor to the power 2 the discrepancy is known: the product's score is
// -2 (x - m) / (s^2 + sigma^2) with s the factor's width at the level.
TEST(ExactSampler, StartDiscrepancyIsTheFisherDivergenceOfGaussians) {
  const double mean = 0.4;
  const double sd = 0.3;
  const ModelPtr target = product({{score_only(gaussian({mean}, {sd})), 2.0}});
  const NoiseLevel level = schedule().level(50);
  const double variance = 1.0 - level.alpha_bar;
  const double sum = level.alpha_bar * sd * sd + variance;
  const double start = variance / 2.0;
  const double slope = 1.0 / start - 2.0 / sum;
  const double shift = 2.0 * std::sqrt(level.alpha_bar) * mean / sum;
  const double expected = start * (slope * slope * start + shift * shift);
  EXPECT_NEAR(start_discrepancy(target, level, 200000, Rng(2)), expected, 0.02 * expected);
}

// Of all coordinates together: per coordinate a mean that is off by many standard deviations in one
// direction of many looks near.
TEST(ExactSampler, StartDiscrepancyAddsUpOverCoordinates) {
  const NoiseLevel level = schedule().level(60);
  const auto of = [&](size_t d) {
    const ModelPtr target =
        product({{score_only(gaussian(std::vector(d, 0.5), std::vector(d, 0.3)))}});
    return start_discrepancy(target, level, 4000, Rng(2));
  };
  EXPECT_NEAR(of(200) / of(1), 200.0, 10.0);
}

TEST(ExactSampler, StartsWhereTheTargetIsNearItsGaussian) {
  const Sampler sampler = make({});
  const NoiseLevel first = sampler.anneal.levels.front().level;
  EXPECT_LT(start_discrepancy(benchmark(), first, 20000, Rng(3)), 1.3 * kMaxDiscrepancy);
  EXPECT_GT(start_discrepancy(benchmark(), schedule().level(first.index - 3), 20000, Rng(3)),
            kMaxDiscrepancy);
  EXPECT_DOUBLE_EQ(sampler.start_sd, first.sigma() / std::sqrt(2.0));
  // A factor to the power 3 narrows the start; a far one raises the level.
  const ModelPtr tempered = product({{score_only(ring()), 3.0}, {score_only(bar())}});
  const Sampler narrow = make({.levels = {60, 20, 5, 0}}, tempered);
  EXPECT_DOUBLE_EQ(narrow.start_sd, schedule().level(60).sigma() / 2.0);
  const ModelPtr far = product({{score_only(gaussian({3.0, 3.0}, {0.2, 0.2}))}});
  EXPECT_GT(make({}, far).anneal.levels.front().level.index, first.index);
}

// In log v, where there is more noise than data; near the data the schedule itself is coarse.
double longest_step(const std::vector<LevelPlan>& levels) {
  double longest = 0.0;
  for (size_t i = 1; i < levels.size() && levels[i].level.alpha_bar < 0.5; ++i) {
    const double from = levels[i - 1].level.alpha_bar;
    const double to = levels[i].level.alpha_bar;
    longest = std::max(longest, std::log((1.0 - from) / from) - std::log((1.0 - to) / to));
  }
  return longest;
}

// A network's error at high noise: no level brings its score near a Gaussian's.
TEST(ExactSampler, StartsAtHighNoiseAndNotAtTheTopWhereTheScoreErrsEverywhere) {
  const ModelPtr erring = from_callable(
      [](const Tensor& x, const NoiseLevel&) {
        return Eval{.score = -x + 2.0 * (3.0 * x).sin(), .log_density = {}, .remainder = {}};
      },
      {2}, false, "erring");
  const NoiseLevel first = make({}, erring).anneal.levels.front().level;
  EXPECT_LE(first.alpha_bar, kHighNoise);
  EXPECT_GT(schedule().level(first.index - 1).alpha_bar, kHighNoise);
}

TEST(ExactSampler, TakesWideStepsAtHighNoiseOnlyWhereReverseStepsCarryTheLaw) {
  const ModelPtr ledger = mixture({{score_only(ring())}, {score_only(bar())}});
  const ModelPtr blob = score_only(gaussian({0.3, 0.1}, {0.35, 0.35}));
  const Sampler mixed = make({}, ledger);
  EXPECT_LE(mixed.anneal.levels.front().level.alpha_bar, kHighNoise);
  EXPECT_GT(longest_step(mixed.anneal.levels), 1.0);
  // Of total exponent 2: whole reverse steps would draw the chains together, and the weights apart.
  const Sampler product_of = make({}, product({{ledger}, {blob}}));
  EXPECT_LT(longest_step(product_of.anneal.levels), 0.5);
  EXPECT_LE(product_of.anneal.levels.front().level.alpha_bar, 0.04);
}

TEST(ExactSampler, RefusesWhatItCannotSample) {
  const ModelPtr improper = product({{ring(), 1.0}, {bar(), -1.0}});
  EXPECT_THROW_MSG(
      make({}, improper), ConfigError,
      "exact: the exponents of " + improper->describe() +
          " sum to 0.000000, must be > 0: at high noise the target would be no law; "
          "give a larger exponent to a positive factor, add one, or ramp a negative one");
  EXPECT_THROW_MSG(make({.evaluations = 10}), ConfigError,
                   "exact: evaluations = 10, must be >= 24");
  EXPECT_THROW_MSG(make({.evaluations = 28, .levels = {60, 50, 40, 30, 20, 10, 5, 2, 1, 0}}),
                   ConfigError,
                   "exact: evaluations = 28, but 10 levels and trajectories of 1 leapfrogs need at "
                   "least 30; raise it, or give fewer levels or leapfrogs");
  EXPECT_THROW_MSG(make({.evaluations = 30, .num_leapfrog = 3}), ConfigError,
                   "exact: evaluations = 30, but 4 levels and trajectories of 3 leapfrogs need at "
                   "least 44; raise it, or give fewer levels or leapfrogs");
}

}  // namespace
}  // namespace motet
