// The driver: plans it refuses, reverse steps against closed forms, resuming, costs. Its laws are
// in tests/law.
#include "motet/anneal.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "motet/compose.hpp"
#include "motet/error.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

// N(mean, sd^2) data, diffused: the score in closed form, as a score-only model.
ModelPtr gaussian(double mean, double sd) {
  return from_callable(
      [mean, sd](const Tensor& x, const NoiseLevel& level) {
        const double variance = level.alpha_bar * sd * sd + 1.0 - level.alpha_bar;
        const Tensor score = (std::sqrt(level.alpha_bar) * mean - x) / variance;
        return Eval{score, {}, score};
      },
      {2}, false, "gaussian");
}

NoiseSchedule schedule() { return NoiseSchedule::cosine(10); }

AnnealConfig plan(std::vector<int64_t> indices, int64_t num_steps = 2, double step_size = 0.05) {
  AnnealConfig config;
  for (const int64_t index : indices) {
    config.levels.push_back({schedule().level(index), num_steps, step_size});
  }
  return config;
}

KernelPtr mala() { return std::make_shared<Mala>(line_ratio(3)); }
Tensor start(int64_t num_chains = 5) {
  Rng rng(11);
  return rng.normal_like(at::empty({num_chains, 2}, at::kDouble));
}

SampleResult sample(const AnnealConfig& config, const Observer& observer = {},
                    const AnnealState* resume = nullptr) {
  return anneal(gaussian(1.0, 0.2), schedule(), mala(), config, start(), Rng(3), observer, resume);
}

TEST(AnnealCheck, RefusesPlansThatCannotBeRun) {
  EXPECT_THROW_MSG(sample(plan({})), ConfigError,
                   "anneal: levels is empty; give at least one noise level");
  EXPECT_THROW_MSG(
      sample(plan({3, 3})), ConfigError,
      "anneal: level 3 (position 1 of the plan): levels must fall, but the one before it is 3");
  EXPECT_THROW_MSG(sample(plan({3}, -1)), ConfigError,
                   "anneal: level 3 (position 0 of the plan): num_steps = -1, must be >= 0");
  EXPECT_THROW_MSG(
      sample(plan({3}, 1, 0.0)), ConfigError,
      "anneal: level 3 (position 0 of the plan): step_size = 0.000000, must be > 0 and finite");
  AnnealConfig foreign = plan({3});
  foreign.levels[0].level = NoiseSchedule::cosine(20).level(3);
  EXPECT_THROW_MSG(sample(foreign), ConfigError,
                   "anneal: level 3 (position 0 of the plan): alpha_bar is not that of " +
                       schedule().describe());
}

TEST(AnnealCheck, RefusesMissingPieces) {
  EXPECT_THROW_MSG(anneal(nullptr, schedule(), mala(), plan({3}), start(), Rng(0)), ConfigError,
                   "anneal: no model given (null), must be a model");
  EXPECT_THROW_MSG(
      anneal(gaussian(0, 1), schedule(), nullptr, plan({3}), start(), Rng(0)), ConfigError,
      "anneal: level 3 (position 0 of the plan): has MCMC steps, but no kernel is given; "
      "give one, or placement none");
  EXPECT_THROW_MSG(
      anneal(gaussian(0, 1), schedule(), mala(), plan({3}), at::zeros({4, 3}), Rng(0)), ShapeError,
      "anneal: x_init must be a floating-point tensor (batch, event) with event shape [2] for "
      "\"gaussian\", but is Float of shape [4, 3]");
  EXPECT_THROW_MSG(
      anneal(gaussian(0, 1), schedule(), mala(), plan({3}), at::zeros({4, 2}, at::kLong), Rng(0)),
      ShapeError,
      "anneal: x_init must be a floating-point tensor (batch, event) with event shape [2] for "
      "\"gaussian\", but is Long of shape [4, 2]");
}

TEST(AnnealCheck, RefusesCurvaturesThatFitNoFactors) {
  AnnealConfig config = plan({0}, 0);
  config.last_map = LastMap::curvature;
  const ModelPtr two = product({{gaussian(0.0, 1.0)}, {gaussian(1.0, 1.0), 0.5}});
  config.curvature = {1.0, 2.0, 3.0};
  EXPECT_THROW_MSG(anneal(two, schedule(), nullptr, config, start(), Rng(0)), ConfigError,
                   "anneal: curvature has 3 entries, must have 0, 1 or one for each of the 2 "
                   "factors of \"product(gaussian, gaussian^0.5)\", all finite");
}

TEST(AnnealCheck, NamesUnknownWords) {
  EXPECT_THROW_MSG(
      placement_from("before"), ConfigError,
      "anneal: placement = \"before\", must be none, pure, after_reverse or before_reverse");
  EXPECT_THROW_MSG(
      reverse_step_from("euler"), ConfigError,
      "anneal: reverse_step = \"euler\", must be ancestral_beta_tilde, ancestral_beta or ddim");
  EXPECT_THROW_MSG(last_map_from("mean"), ConfigError,
                   "anneal: last_map = \"mean\", must be none, rescale, tweedie or curvature");
  EXPECT_EQ(to_string(placement_from("after_reverse")), "after_reverse");
  EXPECT_EQ(to_string(reverse_step_from("ddim")), "ddim");
  EXPECT_EQ(to_string(last_map_from("curvature")), "curvature");
}

TEST(Anneal, CountsOneEvaluationALevelPlusTheKernels) {
  AnnealConfig config = plan({9, 5, 0}, 3);
  // MALA with a 3-point line: 2 evaluations a step, 1 on entering the level.
  EXPECT_EQ(sample(config).evaluations_per_chain, 3 * (1 + 3 * 2));
  config.placement = Placement::before_reverse;  // the reverse step out of a level is free
  EXPECT_EQ(sample(config).evaluations_per_chain, 3 * (1 + 3 * 2));
  config.placement = Placement::after_reverse;  // no MCMC at the first level
  EXPECT_EQ(sample(config).evaluations_per_chain, 1 + 2 * (1 + 3 * 2));
  config.placement = Placement::none;  // nothing is evaluated at the last level without a last map
  EXPECT_EQ(sample(config).evaluations_per_chain, 2);
  config.last_map = LastMap::tweedie;
  EXPECT_EQ(sample(config).evaluations_per_chain, 3);
}

TEST(Anneal, WithoutStepsOrReverseReturnsTheStart) {
  const SampleResult result = sample(plan({9, 0}, 0));
  EXPECT_TRUE(at::equal(result.x, start()));
  EXPECT_EQ(result.evaluations_per_chain, 0);
  EXPECT_TRUE(std::isnan(result.levels[0].acceptance()));
}

TEST(Anneal, DdimKeepsTheOdesInvariantOnAPointMass) {
  // Data concentrated at `mean`: eps = (x - sqrt(abar) mean) / sigma is constant along the ODE.
  AnnealConfig config = plan({9, 4, 1}, 0);
  config.placement = Placement::none;
  config.reverse_step = ReverseStep::ddim;
  const auto model = gaussian(1.0, 0.0);
  const Tensor x = anneal(model, schedule(), nullptr, config, start(), Rng(0)).x;
  const auto first = schedule().level(9);
  const auto last = schedule().level(1);
  const Tensor eps = (start() - std::sqrt(first.alpha_bar)) / first.sigma();
  EXPECT_TRUE(at::allclose(x, std::sqrt(last.alpha_bar) + last.sigma() * eps, 1e-12, 1e-12));
}

// Variance after one ancestral step from the exact law of level a to level b, Gaussian data of the
// given sd: with the step's mean factor m and variance v, m^2 var_a + v.
double stepped_variance(ReverseStep kind, double sd) {
  AnnealConfig config = plan({4, 3}, 0);
  config.placement = Placement::none;
  config.reverse_step = kind;
  const auto a = schedule().level(4);
  const double sd_a = std::sqrt(a.alpha_bar * sd * sd + 1.0 - a.alpha_bar);
  Rng rng(5);
  const Tensor x = rng.normal_like(at::empty({200000, 2}, at::kDouble)) * sd_a;
  return anneal(gaussian(0.0, sd), schedule(), nullptr, config, x, Rng(6)).x.var().item<double>();
}

TEST(Anneal, AncestralStepsHaveTheirTextbookVariance) {
  const auto a = schedule().level(4);
  const auto b = schedule().level(3);
  const double alpha = a.alpha_bar / b.alpha_bar;
  const double beta = 1.0 - alpha;
  // sd 1: the law is N(0, 1) at every level, the mean is x (1 - beta) / sqrt(alpha) = x
  // sqrt(alpha).
  const double beta_tilde = beta * (1.0 - b.alpha_bar) / (1.0 - a.alpha_bar);
  EXPECT_NEAR(stepped_variance(ReverseStep::ancestral_beta, 1.0), alpha + beta, 0.012);
  EXPECT_NEAR(stepped_variance(ReverseStep::ancestral_beta_tilde, 1.0), alpha + beta_tilde, 0.012);
  // sd 0: beta~ is exact, var = 1 - abar_b.
  EXPECT_NEAR(stepped_variance(ReverseStep::ancestral_beta_tilde, 0.0), 1.0 - b.alpha_bar, 0.003);
}

TEST(Anneal, LastMapsScaleAGaussianAsTheyShould) {
  const double sd = 0.3;
  const auto level = schedule().level(0);
  const double variance = 1.0 - level.alpha_bar;
  const double total = level.alpha_bar * sd * sd + variance;
  const double mean = std::sqrt(level.alpha_bar);
  AnnealConfig config = plan({0}, 0);
  const auto mapped = [&](LastMap kind) {
    config.last_map = kind;
    const Tensor x = mean + std::sqrt(total) * start();
    const Tensor y = anneal(gaussian(1.0, sd), schedule(), nullptr, config, x, Rng(0)).x;
    return ((y - 1.0) / start())[0][0].item<double>();  // the sd of the image
  };
  EXPECT_NEAR(mapped(LastMap::rescale), std::sqrt(total / level.alpha_bar), 1e-6);
  EXPECT_NEAR(mapped(LastMap::tweedie), sd * sd * std::sqrt(level.alpha_bar / total), 1e-12);
  EXPECT_NEAR(mapped(LastMap::curvature), sd, 1e-6);
}

TEST(Anneal, ResumesAfterEveryStepToTheSameBits) {
  AnnealConfig config = plan({9, 5, 1}, 3);
  config.placement = Placement::after_reverse;
  config.last_map = LastMap::tweedie;
  std::vector<AnnealState> states;
  const SampleResult whole = sample(config, [&](const AnnealState& state) {
    states.push_back(state);
    return true;
  });
  ASSERT_EQ(states.size(), 1U + 3U + 3U);
  for (const AnnealState& state : states) {
    const SampleResult resumed = sample(config, {}, &state);
    EXPECT_TRUE(at::equal(resumed.x, whole.x));
    EXPECT_EQ(resumed.evaluations_per_chain, whole.evaluations_per_chain);
    for (size_t i = 0; i < whole.levels.size(); ++i) {
      EXPECT_EQ(resumed.levels[i].num_accepted, whole.levels[i].num_accepted);
    }
  }
}

TEST(Anneal, SquaredJumpIsThatOfTheLastStep) {
  Tensor before;
  const SampleResult result = sample(plan({5}, 3), [&before](const AnnealState& state) {
    before = state.step > 0 ? state.chains.x : before;  // after the second of three steps
    return true;
  });
  const double jump = (result.x - before).square().sum(1).mean().item<double>();
  EXPECT_GT(jump, 0.0);
  EXPECT_DOUBLE_EQ(result.levels[0].squared_jump, jump);
  EXPECT_TRUE(std::isnan(sample(plan({5}, 0)).levels[0].squared_jump));
}

TEST(Anneal, StopsWhenTheObserverSaysSo) {
  EXPECT_THROW_MSG(sample(plan({9, 5}, 3), [](const AnnealState& state) { return state.step < 2; }),
                   Interrupted, "anneal: stopped by the observer at position 0, step 2");
}

TEST(Anneal, NamesLevelStepSizeAndTermWhenEveryChainIsInvalid) {
  const auto broken = from_callable(
      [](const Tensor& x, const NoiseLevel&) {
        const Tensor score = x * std::nan("");
        return Eval{score, {}, score};
      },
      {2}, false, "broken");
  EXPECT_THROW_MSG(
      anneal(broken, schedule(), mala(), plan({3}), start(), Rng(0)), NumericalError,
      "anneal: level 3, step_size 0.05: every proposal was invalid (NaN or infinite); first "
      "bad term: \"broken\": check its weights and inputs");
  AnnealConfig reverse = plan({3, 0}, 0);
  reverse.placement = Placement::none;
  EXPECT_THROW_MSG(
      anneal(broken, schedule(), nullptr, reverse, start(), Rng(0)), NumericalError,
      "anneal: level 3: no chain is finite after the move out of it (NaN or infinite); first bad "
      "term: \"broken\": check its weights and inputs");
}

TEST(Anneal, NamesTheBrokenFactorOfAProductNotTheFirst) {
  const auto broken = from_callable(
      [](const Tensor& x, const NoiseLevel&) {
        const Tensor score = x * std::nan("");
        return Eval{score, {}, score};
      },
      {2}, false, "broken");
  const ModelPtr target = product({{gaussian(0.0, 1.0)}, {broken}});
  AnnealConfig reverse = plan({3, 0}, 0);
  reverse.placement = Placement::none;
  EXPECT_THROW_MSG(
      anneal(target, schedule(), nullptr, reverse, start(), Rng(0)), NumericalError,
      "anneal: level 3: no chain is finite after the move out of it (NaN or infinite); first bad "
      "term: \"broken\": check its weights and inputs");
}

TEST(Anneal, NamesAFactorWhoseLogDensityAloneIsNan) {
  const auto broken = from_callable(
      [](const Tensor& x, const NoiseLevel&) {
        return Eval{-x, at::full({x.size(0)}, std::nan(""), at::kDouble), {}};
      },
      {2}, true, "dense");
  EXPECT_THROW_MSG(
      anneal(broken, schedule(), std::make_shared<Mala>(exact_ratio()), plan({3}), start(), Rng(0)),
      NumericalError,
      "anneal: level 3, step_size 0.05: every proposal was invalid (NaN or infinite); "
      "first bad term: \"dense\": check its weights and inputs");
}

// One chain of five: its trouble is data, counted once where it began, and does not spread.
TEST(Anneal, CountsAChainThatAReverseStepBreaks) {
  const auto cracked = from_callable(
      [](const Tensor& x, const NoiseLevel& level) {
        Tensor score = -x;
        if (level.index == 6) {
          score[2] = std::nan("");
        }
        return Eval{score, {}, score};
      },
      {2}, false, "cracked");
  AnnealConfig reverse = plan({9, 6, 3, 0}, 0);
  reverse.placement = Placement::none;
  reverse.last_map = LastMap::tweedie;
  const SampleResult result = anneal(cracked, schedule(), nullptr, reverse, start(), Rng(0));
  const Tensor finite = at::isfinite(result.x).all(1);
  EXPECT_EQ(finite.sum().item<int64_t>(), 4);
  EXPECT_FALSE(finite[2].item<bool>());
  std::vector<int64_t> counts;
  for (const LevelStats& level : result.levels) {
    counts.push_back(level.num_invalid);
  }
  EXPECT_EQ(counts, (std::vector<int64_t>{0, 1, 0, 0}));
}

TEST(AnnealCheck, RefusesStatesThatNoRunHandsOut) {
  AnnealState state;
  sample(plan({9, 5}), [&state](const AnnealState& now) {
    state = now;
    return true;
  });
  state.level_position = 3;
  EXPECT_THROW_MSG(sample(plan({9, 5}), {}, &state), ConfigError,
                   "anneal: the state to resume is at position 3, step 0; give a state as anneal() "
                   "hands to its observer");
  state.level_position = 1;
  state.num_invalid = Tensor();
  EXPECT_THROW_MSG(sample(plan({9, 5}), {}, &state), ConfigError,
                   "anneal: the state to resume is at position 1, step 0 and lacks its counters; "
                   "give a state as anneal() hands to its observer");
}

}  // namespace
}  // namespace motet
