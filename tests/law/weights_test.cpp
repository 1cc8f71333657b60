// Laws of Feynman-Kac weights: closed forms of Gaussian products, with power tests; resampling;
// islands.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <numeric>

#include "anneal_weights.hpp"
#include "motet/anneal.hpp"
#include "motet/compose.hpp"
#include "motet/error.hpp"
#include "support/benchmark.hpp"
#include "support/models.hpp"
#include "support/throw_message.hpp"

namespace motet::testing {
namespace {

// A product of two Gaussians of the line to powers a and b, at all levels, in y = x / sqrt(abar):
// the factors are N(m, s^2 + v).
struct GaussianProduct {
  double mean_a = -0.5, sd_a = 0.3, exponent_a = 1.0;
  double mean_b = 0.6, sd_b = 0.4, exponent_b = 1.0;

  ModelPtr model() const {
    return product({{score_only(gaussian({mean_a}, {sd_a})), exponent_a},
                    {score_only(gaussian({mean_b}, {sd_b})), exponent_b}});
  }
  double precision(double v) const {
    return exponent_a / (sd_a * sd_a + v) + exponent_b / (sd_b * sd_b + v);
  }
  double mean(double v) const {
    return (exponent_a * mean_a / (sd_a * sd_a + v) + exponent_b * mean_b / (sd_b * sd_b + v)) /
           precision(v);
  }
  // log of int N(y; m_a, .)^a N(y; m_b, .)^b dy.
  double log_normaliser(double v) const {
    const auto factor = [v, this](double mean_of, double sd, double exponent) {
      const double variance = sd * sd + v;
      const double distance = mean(v) - mean_of;
      return -0.5 * exponent * (std::log(2.0 * M_PI * variance) + distance * distance / variance);
    };
    return factor(mean_a, sd_a, exponent_a) + factor(mean_b, sd_b, exponent_b) +
           0.5 * std::log(2.0 * M_PI / precision(v));
  }
};

double v_of(const NoiseLevel& level) { return (1.0 - level.alpha_bar) / level.alpha_bar; }

const NoiseSchedule& fine_schedule() {
  static const NoiseSchedule value = NoiseSchedule::cosine(400);
  return value;
}

constexpr int64_t kFirst = 240;

AnnealConfig weighted_plan(const NoiseSchedule& schedule, int64_t first, ReverseStep step,
                           WeightRule rule) {
  AnnealConfig config;
  for (int64_t index = first; index >= 0; --index) {
    config.levels.push_back({schedule.level(index), 0, 0.0});
  }
  config.placement = Placement::none;
  config.reverse_step = step;
  config.last_map = LastMap::none;
  config.weights = WeightConfig{.rule = rule, .resampling = Resampling::none};
  return config;
}

// Weights alone, no MCMC: chains start from the exact product at the first level. In y.
struct WeightedChains {
  Tensor y;
  Tensor log_weights;

  // With weights to the power `sign`: 0 forgets them, -1 has them upside down.
  std::pair<double, double> mean_and_sd(double sign) const {
    const Tensor weights = (sign * log_weights).softmax(0);
    const double mean = (weights * y).sum().item<double>();
    return {mean, std::sqrt((weights * y.square()).sum().item<double>() - mean * mean)};
  }
  double log_ratio() const {
    return log_weights.logsumexp(0).item<double>() -
           std::log(static_cast<double>(log_weights.size(0)));
  }
};

WeightedChains run_weighted(const GaussianProduct& law, ReverseStep step, WeightRule rule) {
  const AnnealConfig config = weighted_plan(fine_schedule(), kFirst, step, rule);
  const NoiseLevel& top = config.levels.front().level;
  const NoiseLevel& bottom = config.levels.back().level;
  Rng rng(5);
  const Tensor noise = rng.split("init").normal_like(at::empty({20000, 1}, at::kDouble));
  const Tensor y = law.mean(v_of(top)) + noise / std::sqrt(law.precision(v_of(top)));
  const SampleResult result =
      anneal(law.model(), fine_schedule(), nullptr, config, y * std::sqrt(top.alpha_bar), rng);
  return {result.x.squeeze(1) / std::sqrt(bottom.alpha_bar), result.log_weights};
}

// Exponents whose sum is not far from 1: else the reverse process alone is much narrower than its
// target, and no number of chains lets weights mend that without resampling on the way.
void expect_closed_form(const GaussianProduct& law, ReverseStep step, WeightRule rule) {
  const double bottom = v_of(fine_schedule().level(0));
  const double log_ratio =
      law.log_normaliser(bottom) - law.log_normaliser(v_of(fine_schedule().level(kFirst)));
  const double sd = 1.0 / std::sqrt(law.precision(bottom));
  const WeightedChains chains = run_weighted(law, step, rule);
  EXPECT_NEAR(chains.log_ratio(), log_ratio, 0.02);
  const auto error = [&](double sign) {
    const auto [mean, found_sd] = chains.mean_and_sd(sign);
    return std::abs(mean - law.mean(bottom)) / sd + std::abs(found_sd / sd - 1.0);
  };
  EXPECT_LT(error(1.0), 0.04);
  // Power: the reverse process alone, and weights upside down, are told apart.
  EXPECT_GT(error(0.0), 0.12);
  EXPECT_GT(error(-1.0), 0.2);
}

TEST(WeightsLaw, GaussianProductsHaveTheirNormalisersMeansAndWidths) {
  // Not every pair: at 240 levels the two rules give the same numbers to three digits.
  const GaussianProduct law{.exponent_a = 0.6, .exponent_b = 0.5};
  expect_closed_form(law, ReverseStep::ancestral_beta_tilde, WeightRule::log_v);
  expect_closed_form(law, ReverseStep::ddim, WeightRule::v);
}

TEST(WeightsLaw, NegatedFactorsToo) {
  expect_closed_form({.exponent_a = 1.6, .mean_b = -0.9, .sd_b = 0.7, .exponent_b = -0.8},
                     ReverseStep::ancestral_beta, WeightRule::v);
}

TEST(WeightsLaw, NestedProductsWeighAsFlatOnes) {
  const ModelPtr a = score_only(skewed_mixture());
  const ModelPtr b = score_only(gaussian({0.1, 0.4}, {0.5, 0.8}));
  const ModelPtr c = gaussian({-0.3, 0.2}, {0.7, 0.6});
  const ModelPtr nested = product({{product({{a, 0.5}, {b, 2.0}}), 1.5}, {c, -0.25}});
  const ModelPtr flat = product({{a, 0.75}, {b, 3.0}, {c, -0.25}});
  Rng rng(3);
  const Tensor x = rng.normal_like(at::empty({50, 2}, at::kDouble));
  const NoiseLevel level = level_at(0.7);
  const Tensor difference =
      nested->evaluate(x, level).square_sum - flat->evaluate(x, level).square_sum;
  EXPECT_LT(difference.abs().max().item<double>(), 1e-11);
}

TEST(WeightsLaw, ASingleLawWeighsNothing) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(20);
  const AnnealConfig config =
      weighted_plan(schedule, 15, ReverseStep::ancestral_beta_tilde, WeightRule::v);
  Rng rng(1);
  const SampleResult result = anneal(score_only(skewed_mixture()), schedule, nullptr, config,
                                     rng.normal_like(at::empty({30, 2}, at::kDouble)), Rng(2));
  EXPECT_TRUE(at::equal(result.log_weights, at::zeros({30}, at::kDouble)));
  EXPECT_EQ(result.log_normalisers.item<double>(), 0.0);
}

// --- resampling

std::vector<int64_t> copies(const Tensor& ancestors) {
  std::vector<int64_t> counts(static_cast<size_t>(ancestors.size(0)), 0);
  for (int64_t i = 0; i < ancestors.size(0); ++i) {
    ++counts[static_cast<size_t>(ancestors[i].item<int64_t>())];
  }
  return counts;
}

WeightConfig scheme(Resampling resampling) {
  return {.resampling = resampling, .ess_threshold = 1.0, .max_share = 0.0, .island_size = 1000};
}

// Every scheme draws row i N w_i times in expectation; a scheme that forgot the weights would not.
TEST(Resample, DrawsInProportionToTheWeights) {
  const std::vector<double> weights = {0.05, 0.4, 0.0, 0.25, 0.3};
  const Tensor log_weights = at::tensor(weights, at::kDouble).log() + 7.0;
  for (const Resampling resampling :
       {Resampling::systematic, Resampling::stratified, Resampling::residual}) {
    std::vector<double> mean(5, 0.0);
    constexpr int kRepeats = 4000;
    for (int repeat = 0; repeat < kRepeats; ++repeat) {
      Rng rng(static_cast<uint64_t>(repeat));
      const auto result =
          detail::resample(log_weights, scheme(resampling), rng.uniform(5, log_weights), true);
      const std::vector<int64_t> counts = copies(result.ancestors);
      for (size_t i = 0; i < 5; ++i) {
        mean[i] += static_cast<double>(counts[i]) / kRepeats;
        if (resampling != Resampling::stratified) {
          EXPECT_LE(std::abs(static_cast<double>(counts[i]) - 5.0 * weights[i]), 1.0 + 1e-9);
        }
      }
      EXPECT_NEAR(result.log_normalisers.item<double>(), 7.0 + std::log(0.2), 1e-12);
    }
    for (size_t i = 0; i < 5; ++i) {
      EXPECT_NEAR(mean[i], 5.0 * weights[i], 0.05) << to_string(resampling) << ", row " << i;
    }
  }
}

TEST(Resample, MeasuresCutsAndLeavesAlone) {
  const Tensor log_weights = at::tensor({0.0, 0.0, 0.0, std::log(9.0)}, at::kDouble);
  const Tensor uniforms = at::full({4}, 0.5, at::kDouble);
  WeightConfig config{.ess_threshold = 0.3, .max_share = 0.0, .island_size = 4};
  const auto kept = detail::resample(log_weights, config, uniforms, false);
  EXPECT_NEAR(kept.smallest_ess, 144.0 / 84.0 / 4.0, 1e-12);
  EXPECT_EQ(kept.num_resampled, 0);
  EXPECT_TRUE(at::equal(kept.log_weights, log_weights));
  // Cut at 1 / 4, the heavy row weighs 1 / 4 against 1 / 12: half of all.
  config.max_share = 1.0;
  const auto cut = detail::resample(log_weights, config, uniforms, true);
  EXPECT_EQ(copies(cut.ancestors)[3], 2);
  EXPECT_EQ(cut.num_resampled, 1);
  config.max_share = 0.0;
  EXPECT_EQ(copies(detail::resample(log_weights, config, uniforms, true).ancestors)[3], 3);
}

TEST(Resample, CountsBrokenWeightsAsNothingAndRefusesAnIslandOfThem) {
  const double nan = std::nan("");
  const Tensor uniforms = at::full({4}, 0.3, at::kDouble);
  const WeightConfig config{.max_share = 0.0, .island_size = 2};
  const auto result =
      detail::resample(at::tensor({nan, 0.0, 1.0, 1.0}, at::kDouble), config, uniforms, true);
  EXPECT_EQ(copies(result.ancestors), (std::vector<int64_t>{0, 2, 1, 1}));
  EXPECT_THROW_MSG(detail::resample(at::full({4}, nan, at::kDouble), config, uniforms, false),
                   NumericalError,
                   "anneal: no chain of an island has a finite weight left; raise the number of "
                   "levels or of MCMC steps, or look at the models' scores");
}

TEST(Families, AreCountedByTheirSharesOfTheWorstIsland) {
  const Tensor family = at::tensor({0, 0, 0, 3, 4, 5, 6, 7, 9, 9}, at::kLong);
  EXPECT_NEAR(detail::smallest_families(family, 4), 1.0, 1e-12);  // the last island: 9 alone
  EXPECT_NEAR(detail::smallest_families(family.narrow(0, 0, 8), 4), 16.0 / 10.0, 1e-12);
  EXPECT_NEAR(detail::smallest_families(family.narrow(0, 0, 8), 8), 64.0 / 14.0, 1e-12);
}

// --- the driver with resampling and MCMC: the benchmark on exact scores

AnnealConfig benchmark_plan(const NoiseSchedule& schedule) {
  AnnealConfig config;
  const std::vector<int64_t> levels = {60, 50, 40, 33, 27, 22, 18, 15, 12, 10,
                                       8,  7,  6,  5,  4,  3,  2,  1,  0};
  for (const int64_t index : levels) {
    const NoiseLevel level = schedule.level(index);
    const int64_t num_steps = index == 60 ? 3 : index == 0 ? 6 : index <= 2 ? 2 : 1;
    // Near the product's widths: two factors of sd .03, and the noise.
    config.levels.push_back(
        {level, num_steps, 0.7 * std::sqrt(0.5 * level.sigma() * level.sigma() + 0.0009)});
  }
  config.placement = Placement::before_reverse;
  config.weights = WeightConfig{.island_size = 500};
  config.last_map = LastMap::curvature;
  return config;
}

SampleResult benchmark(const AnnealConfig& config, int64_t num_chains, int64_t first_chain = 0,
                       const Observer& observer = {}, const AnnealState* resume = nullptr) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(100);
  const ModelPtr target = product({{score_only(ring())}, {score_only(bar())}});
  const auto kernel = std::make_shared<Hmc>(HmcConfig{.num_leapfrog = 3, .damping = 0.0},
                                            curve_ratio(CurveRule::polynomial));
  const Rng rng(8, first_chain);
  const double start_sd = config.levels.front().level.sigma() / std::sqrt(2.0);
  const Tensor start =
      start_sd * rng.split("init").normal_like(at::empty({num_chains, 2}, at::kDouble));
  return anneal(target, schedule, kernel, config, start, rng, observer, resume);
}

TEST(WeightsLaw, BenchmarkLosesTheModesThatAreNoneOfItsOwn) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(100);
  AnnealConfig config = benchmark_plan(schedule);
  EXPECT_LT(fraction_outside_modes(benchmark(config, 2000).x), 0.01);
  config.weights.reset();  // power: the same without weights
  EXPECT_GT(fraction_outside_modes(benchmark(config, 2000).x), 0.04);
}

// Above the lowest level with weights nothing changes, and all islands are drawn anew there; below,
// no chain is: what the weights of the levels below would have lost stays.
TEST(WeightsLaw, EndWhereTheyAreTold) {
  constexpr int64_t kLowest = 10;
  const auto states_of = [](const AnnealConfig& config) {
    std::vector<AnnealState> states;
    benchmark(config, 1000, 0, [&states](const AnnealState& state) {
      states.push_back(state);
      return true;
    });
    return states;
  };
  AnnealConfig config = benchmark_plan(NoiseSchedule::cosine(100));
  const std::vector<AnnealState> all = states_of(config);
  config.weights->lowest_level = kLowest;
  const std::vector<AnnealState> some = states_of(config);
  ASSERT_EQ(all.size(), some.size());
  for (size_t i = 0; i < all.size(); ++i) {
    const auto position = static_cast<size_t>(all[i].level_position);
    const bool is_above =
        position < config.levels.size() && config.levels[position].level.index > kLowest;
    EXPECT_TRUE(!is_above || at::equal(all[i].chains.x, some[i].chains.x)) << i;
  }
  for (const LevelStats& level : some.back().levels) {
    const bool is_weighted = level.index >= kLowest && level.index != 60;
    EXPECT_EQ(std::isfinite(level.ess), is_weighted) << level.index;
    EXPECT_EQ(std::isfinite(level.families), is_weighted) << level.index;
    EXPECT_EQ(level.num_resampled, level.index == kLowest ? 2 : level.num_resampled);
  }
  EXPECT_TRUE(at::equal(some.back().log_weights, at::zeros({1000}, at::kDouble)));
  EXPECT_GT(some.back().levels[9].families, all.back().levels.back().families);
  EXPECT_FALSE(at::equal(some.back().family, all.back().family));  // power
}

TEST(WeightsLaw, MayEndBeforeTheyBegin) {
  AnnealConfig config = benchmark_plan(NoiseSchedule::cosine(100));
  config.weights->lowest_level = 61;
  const SampleResult none = benchmark(config, 1000);
  EXPECT_TRUE(at::equal(none.log_normalisers, at::zeros({2}, at::kDouble)));
  config.weights.reset();
  EXPECT_TRUE(at::equal(none.x, benchmark(config, 1000).x));
}

TEST(WeightsLaw, IslandsDoNotDependOnEachOther) {
  const AnnealConfig config = benchmark_plan(NoiseSchedule::cosine(100));
  const SampleResult together = benchmark(config, 1200);
  const SampleResult second = benchmark(config, 500, 500);
  EXPECT_TRUE(at::equal(together.x.narrow(0, 500, 500), second.x));
  EXPECT_TRUE(at::equal(together.log_normalisers.narrow(0, 1, 1), second.log_normalisers));
  EXPECT_EQ(together.log_normalisers.size(0), 3);  // the last island has 200 chains
  EXPECT_THROW_MSG(benchmark(config, 500, 100), ConfigError,
                   "anneal: weights: the first chain is 100, which begins no island of 500");
}

TEST(WeightsLaw, ResumesToTheSameBits) {
  const AnnealConfig config = benchmark_plan(NoiseSchedule::cosine(100));
  std::vector<AnnealState> states;
  const SampleResult whole = benchmark(config, 700, 0, [&states](const AnnealState& state) {
    states.push_back(state);
    return true;
  });
  for (size_t i = 0; i < states.size(); i += 3) {
    const SampleResult resumed = benchmark(config, 700, 0, {}, &states[i]);
    EXPECT_TRUE(at::equal(resumed.x, whole.x)) << i;
    EXPECT_TRUE(at::equal(resumed.log_normalisers, whole.log_normalisers)) << i;
    EXPECT_EQ(resumed.levels.back().families, whole.levels.back().families) << i;
  }
}

TEST(WeightsLaw, RefusesWhatCannotBeWeighted) {
  AnnealConfig config = benchmark_plan(NoiseSchedule::cosine(100));
  config.placement = Placement::pure;
  EXPECT_THROW_MSG(benchmark(config, 10), ConfigError,
                   "anneal: weights: placement = \"pure\" has no reverse steps to weight; use "
                   "before_reverse");
  config.placement = Placement::before_reverse;
  config.weights->max_share = 0.5;
  EXPECT_THROW_MSG(benchmark(config, 10), ConfigError,
                   "anneal: weights: max_share = 0.5, must be 0 (never cut) or >= 1");
  config.weights->max_share = 1.0;
  config.weights->lowest_level = -1;
  EXPECT_THROW_MSG(benchmark(config, 10), ConfigError,
                   "anneal: weights: lowest_level = -1, must be >= 0");
}

}  // namespace
}  // namespace motet::testing
