// Diagnostics: closed forms, edges and refusals. Their power is in tests/law/diagnose_test.cpp.
#include "motet/diagnose.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <limits>

#include "diagnose_detail.hpp"
#include "motet/error.hpp"
#include "support/models.hpp"
#include "support/tensors.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

using testing::gaussian;
using testing::level_at;
using testing::power_score;
using testing::rotating_gaussian;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

const KernelConfig kCurveHmc{.type = "hmc", .hmc = {.num_leapfrog = 3}, .ratio = "curve"};

Tensor normal(int64_t num_chains, int64_t d, uint64_t seed = 1) {
  Rng rng(seed);
  return rng.normal_like(at::empty({num_chains, d}, at::kDouble));
}

TEST(ChainStatistics, RefuseWhatIsNotChainsByDraws) {
  EXPECT_THROW_MSG(rhat(at::zeros({1, 8}, at::kDouble)), ShapeError,
                   "rhat: draws is Double of shape [1, 8], must be a floating-point tensor "
                   "(num_chains, num_draws) with num_chains >= 2 and num_draws >= 4");
  EXPECT_THROW_MSG(ess_bulk(at::zeros({8}, at::kDouble)), ShapeError,
                   "ess_bulk: draws is Double of shape [8], must be a floating-point tensor "
                   "(num_chains, num_draws) with num_chains >= 1 and num_draws >= 4");
  EXPECT_THROW_MSG(mcse_mean(Tensor()), ShapeError,
                   "mcse_mean: draws is undefined, must be a floating-point tensor "
                   "(num_chains, num_draws) with num_chains >= 1 and num_draws >= 4");
  Tensor draws = at::zeros({2, 4}, at::kDouble);
  draws[1][2] = kNaN;
  EXPECT_THROW_MSG(ess_tail(draws), NumericalError,
                   "ess_tail: 1 of 8 draws are not finite; leave out the chains that hold them, "
                   "and say so");
  EXPECT_THROW_MSG(mcse_quantile(at::zeros({2, 4}, at::kDouble), 1.0), ConfigError,
                   "mcse_quantile: prob = 1.000000, must be in (0, 1)");
}

TEST(ChainStatistics, OfEqualDrawsAreTheirNumber) {
  const Tensor draws = at::ones({3, 10}, at::kDouble);
  EXPECT_EQ(ess_bulk(draws), 30.0);
  EXPECT_EQ(mcse_mean(draws), 0.0);
}

TEST(ChainStatistics, DoNotWriteIntoTheDrawsAndTakeFloats) {
  const Tensor draws = normal(4, 20).to(at::kFloat);
  const Tensor before = draws.clone();
  EXPECT_NEAR(rhat(draws), rhat(before.to(at::kDouble)), 1e-12);
  EXPECT_TRUE(at::equal(draws, before));
}

TEST(Islands, GiveTheErrorOfTheirMean) {
  const Estimate estimate = over_islands(at::tensor({1.0, 2.0, 4.0, 5.0}, at::kDouble));
  EXPECT_DOUBLE_EQ(estimate.value, 3.0);
  EXPECT_DOUBLE_EQ(estimate.standard_error, std::sqrt(10.0 / 3.0) / 2.0);
  EXPECT_THROW_MSG(over_islands(at::ones({1}, at::kDouble)), ShapeError,
                   "over_islands: values is Double of shape [1], must be a floating-point tensor "
                   "(num_islands) with num_islands >= 2");
}

TEST(Islands, ModeOccupancyHasBinomialErrorsAndThoseOverIslands) {
  const Tensor x = at::tensor({0.0, 0.1, 5.0, 0.0, 5.0, 5.1, 5.0, 5.2}, at::kDouble).view({8, 1});
  const Tensor centres = at::tensor({0.0, 5.0}, at::kDouble).view({2, 1});
  const auto occupancy = mode_occupancy(x, centres, 1.0, 2);
  ASSERT_EQ(occupancy.size(), 2U);
  EXPECT_DOUBLE_EQ(occupancy[0].fraction, 3.0 / 8.0);
  EXPECT_DOUBLE_EQ(occupancy[0].binomial_error, std::sqrt(3.0 / 8.0 * 5.0 / 8.0 / 8.0));
  EXPECT_DOUBLE_EQ(occupancy[0].island_error, 3.0 / 8.0);  // islands .75 and 0
  EXPECT_TRUE(std::isnan(mode_occupancy(x, centres, 1.0)[0].island_error));
  EXPECT_THROW_MSG(mode_occupancy(x, centres, 1.0, 3), ShapeError,
                   "mode_occupancy: x has shape [8, 1] and num_islands = 3, must be >= 1 and "
                   "divide the number of rows");
}

// Standard normal scores: |x|^2 has the median of chi^2_d.
TEST(LocalScale, OfAnIsotropicGaussianIsItsStandardDeviation) {
  for (const int64_t d : {1, 2, 30}) {
    EXPECT_NEAR(local_scale(-normal(20000, d) / 0.05), 0.05, 0.002) << d;
  }
}

// d = 2: J = -I + s R with R = (0, -1; 1, 0), so J - J^T = 2 s R and J + J^T = -2 I; d = 4 has as
// much rotation over twice as many coordinates.
TEST(CurlRatio, OfARotatingGaussianIsItsStrength) {
  const Tensor x = normal(400, 2);
  for (const double strength : {0.0, 0.3, 2.0}) {
    const Target target(rotating_gaussian(2, strength), level_at(0.5));
    Rng rng(3);
    const Estimate curl = curl_ratio(target, x, 8, rng);
    EXPECT_NEAR(curl.value, strength, 4.0 * curl.standard_error + 1e-9) << strength;
    EXPECT_LT(curl.standard_error, 0.05 * strength + 1e-9);
  }
  const Target wide(rotating_gaussian(4, 0.3), level_at(0.5));
  Rng rng(3);
  const Estimate curl = curl_ratio(wide, normal(400, 4), 8, rng);
  EXPECT_NEAR(curl.value, 0.3 / std::sqrt(2.0), 4.0 * curl.standard_error);
}

TEST(CurlRatio, OfAFloatGradientIsRoundingAtMost) {
  const Target target(testing::score_only(testing::skewed_mixture()), level_at(0.9));
  Rng rng(3);
  EXPECT_LT(curl_ratio(target, normal(200, 2).to(at::kFloat), 4, rng).value, 1e-3);
}

TEST(CurlRatio, CostsFourEvaluationsAPairAndRefusesNone) {
  const Target target(rotating_gaussian(2, 0.3), level_at(0.5));
  Rng rng(3);
  curl_ratio(target, normal(10, 2), 5, rng);
  EXPECT_EQ(target.num_evaluations(), 1 + 4 * 5);
  EXPECT_THROW_MSG(curl_ratio(target, normal(10, 2), 0, rng), ConfigError,
                   "diagnose: num_probes = 0, must be >= 1");
}

TEST(BalanceResidual, IsTheLogMeanOfTheRatioWithItsError) {
  const Tensor ratio = at::tensor({0.5, 1.0, 2.0, 0.0}, at::kDouble);
  const Estimate residual = balance_residual(ratio.log());
  // The last proposal is refused, so is its reverse: neither counts.
  EXPECT_NEAR(residual.value, std::log(3.5 / 3.0), 1e-15);
  const double mean = 3.5 / 3.0;
  const double square = std::pow(0.5 - mean, 2) + std::pow(1.0 - mean, 2) + std::pow(2.0 - mean, 2);
  EXPECT_NEAR(residual.standard_error, std::sqrt(square) / 3.0 / mean, 1e-15);
  // Steps of one chain are added up first: they are not independent.
  const Estimate repeated = balance_residual(ratio.log().unsqueeze(1).repeat({1, 7}));
  EXPECT_NEAR(repeated.standard_error, residual.standard_error, 1e-15);
  const Tensor weights = at::tensor({1.0, 3.0, 0.0, 5.0}, at::kDouble);
  EXPECT_NEAR(balance_residual(ratio.log(), weights.log()).value, std::log(3.5 / 4.0), 1e-15);
}

TEST(PathProbe, FindsNoPathDependenceInAGradientAndTheErrorOfTheRule) {
  // Score x^3: the trapezoid is off by far more than the references.
  const Target target(power_score(2, 3, false), level_at(0.5));
  const Tensor x = normal(300, 2);
  Rng rng(2);
  const PathProbe probe = probe_paths(target, kCurveHmc, 0.1, x, rng);
  EXPECT_LT(probe.path_dependence.abs().max().item<double>(), 1e-6);
  EXPECT_LT(probe.reference_error.max().item<double>(), 0.05);
  EXPECT_GT(probe.quadrature_error.abs().max().item<double>(), 1e-3);
  const PathProbe line = probe_paths(target,
                                     {.type = "hmc",
                                      .hmc = {},
                                      .ratio = "line",
                                      .line_rule = LineRule::gauss_lobatto,
                                      .num_points = 4},
                                     0.1, x, rng);
  EXPECT_LT(line.quadrature_error.abs().max().item<double>(), 1e-9);
}

// Around a straight chord and two straight legs the circulation of a linear field is its curl, 2 s,
// times the area of the triangle.
TEST(PathProbe, OfALangevinProposalIsTheCurlTimesTheArea) {
  constexpr double kStrength = 0.7;
  constexpr double kStep = 0.05;
  const Target target(rotating_gaussian(2, kStrength), level_at(0.5));
  const Tensor x = normal(50, 2);
  Rng rng(2);
  Rng same = rng;
  const PathProbe probe =
      probe_paths(target, {.type = "ula", .hmc = {}, .ratio = ""}, kStep, x, rng);
  const Tensor drift = kStep * target.evaluate(x).score;
  const Tensor noise = std::sqrt(2.0 * kStep) * same.normal_like(x);
  const Tensor cross = drift.select(1, 0) * noise.select(1, 1) -
                       drift.select(1, 1) * noise.select(1, 0);  // twice the signed area
  EXPECT_LT((probe.path_dependence + kStrength * cross).abs().max().item<double>(), 1e-12);
  EXPECT_FALSE(probe.quadrature_error.defined());
}

TEST(PathProbe, CallsADecisionWrongOnlyBeyondTheDoubtOfTheReference) {
  const auto error = [](double found, double truth, double doubt) {
    const auto number = [](double value) { return at::tensor({value}, at::kDouble); };
    return detail::decision_error(number(found), number(truth), number(doubt)).item<double>();
  };
  EXPECT_NEAR(error(std::log(0.5), std::log(0.8), 0.0), 0.3, 1e-15);
  EXPECT_NEAR(error(std::log(0.8), std::log(0.5), std::log(1.2)), 0.2, 1e-15);
  EXPECT_EQ(error(std::log(0.5), std::log(0.8), 1.0), 0.0);
  EXPECT_EQ(error(0.7, 3.0, 0.0), 0.0);  // taken in any case
  EXPECT_NEAR(error(-40.0, 2.0, 1.0), 1.0, 1e-15);
}

TEST(PathProbe, CostsWhatItSays) {
  const Target target(rotating_gaussian(2, 0.3), level_at(0.5));
  Rng rng(2);
  probe_paths(target, kCurveHmc, 0.1, normal(10, 2), rng);
  EXPECT_EQ(target.num_evaluations(), 1 + 3 + 15 + 3 * 7);
}

TEST(PathProbe, RefusesWhereNothingIsIntegrated) {
  Rng rng(2);
  const Target exact(gaussian({0.0, 0.0}, {1.0, 1.0}), level_at(0.5));
  EXPECT_THROW_MSG(probe_paths(exact, kCurveHmc, 0.1, normal(10, 2), rng), ConfigError,
                   "diagnose: probe_paths() of \"gaussian\", whose log densities are known: there "
                   "is nothing to integrate; give a kernel type and a target with a remainder");
  const Target rotating(rotating_gaussian(2, 0.3), level_at(0.5));
  EXPECT_THROW_MSG(probe_paths(rotating, KernelConfig(), 0.1, normal(10, 2), rng), ConfigError,
                   "diagnose: probe_paths() of no kernel: there is nothing to integrate; give a "
                   "kernel type and a target with a remainder");
}

LevelDiagnosis fine_row(int64_t index) {
  LevelDiagnosis row;
  row.level = level_at(0.5, index);
  row.step_size = 0.03;
  row.num_steps = 10;
  row.num_measured = 512;
  row.num_proposals = 5120;
  row.acceptance = 0.9;
  row.lag = {0.01, 0.01};
  row.balance = {0.001, 0.01};
  row.path_dependence = 0.01;
  row.reference_error = 1e-6;
  row.quadrature_error = 0.02;
  row.acceptance_error = 0.001;
  row.curl = {0.01, 0.001};
  return row;
}

const detail::Subject kScores{false, true, true, kCurveHmc};

const Check& named(const std::vector<Check>& checks, const std::string& name) {
  for (const Check& check : checks) {
    if (check.name == name) {
      return check;
    }
  }
  throw std::runtime_error("no check " + name);
}

TEST(Verdict, IsGreenWhereNothingIsFound) {
  HeldOutTest held_out;
  held_out.skipped = "no chains were asked for";
  const auto checks = detail::assess({fine_row(3), fine_row(0)}, held_out, kScores);
  EXPECT_EQ(detail::worst_of(checks), Light::green);
  EXPECT_EQ(named(checks, "held-out Gaussians").sentence,
            "does not apply: no chains were asked for.");
}

TEST(Verdict, NamesTheWorstLevelAndWhatToDo) {
  LevelDiagnosis row = fine_row(3);
  row.path_dependence = 0.6;
  const auto checks = detail::assess({fine_row(9), row, fine_row(0)}, {}, kScores);
  const Check& check = named(checks, "path dependence");
  EXPECT_EQ(check.light, Light::red);
  EXPECT_EQ(check.sentence,
            "0.6 nat (sd) at level 3: the score field is not a gradient there, so that no density "
            "is sampled; lower the step size there, use ratio.guard, or train the networks better "
            "at that level.");
  EXPECT_EQ(detail::worst_of(checks), Light::red);
}

TEST(Verdict, TurnsAmberAndRedAtItsThresholds) {
  struct Case {
    const char* check;
    void (*set)(LevelDiagnosis&, double);
    double amber;
    double red;
  };
  const Case cases[] = {
      {"acceptance", [](LevelDiagnosis& row, double v) { row.acceptance = v; }, 0.4, 0.1},
      {"weights", [](LevelDiagnosis& row, double v) { row.ess = v; }, 0.05, 0.01},
      {"invalid proposals",
       [](LevelDiagnosis& row, double v) { row.num_invalid = static_cast<int64_t>(v); }, 5, 500},
      {"path dependence", [](LevelDiagnosis& row, double v) { row.path_dependence = v; }, 0.2, 0.6},
      {"quadrature", [](LevelDiagnosis& row, double v) { row.acceptance_error = v; }, 0.07, 0.2},
      {"curl", [](LevelDiagnosis& row, double v) { row.curl.value = v; }, 0.2, 0.6},
      {"settling", [](LevelDiagnosis& row, double v) { row.lag.value = v; }, 0.2, 0.6},
      {"detailed balance", [](LevelDiagnosis& row, double v) { row.balance.value = v; }, 0.1, -0.3},
  };
  for (const Case& test : cases) {
    for (const bool is_red : {false, true}) {
      LevelDiagnosis row = fine_row(3);
      test.set(row, is_red ? test.red : test.amber);
      EXPECT_EQ(named(detail::assess({row}, {}, kScores), test.check).light,
                is_red ? Light::red : Light::amber)
          << test.check;
    }
  }
}

TEST(Verdict, DoesNotCountResidualsWithinTheirError) {
  LevelDiagnosis row = fine_row(3);
  row.balance = {0.3, 0.1};
  EXPECT_EQ(named(detail::assess({row}, {}, kScores), "detailed balance").light, Light::green);
}

TEST(Verdict, SkipsWhatDoesNotApplyAndSaysWhy) {
  const auto exact = detail::assess({fine_row(3)}, {}, {true, true, true, kCurveHmc});
  for (const char* name : {"path dependence", "quadrature", "curl"}) {
    EXPECT_EQ(named(exact, name).light, Light::skipped) << name;
  }
  EXPECT_EQ(named(exact, "quadrature").sentence,
            "does not apply: the log densities are known, so nothing is integrated.");
  const auto reverse = detail::assess({fine_row(3)}, {}, {false, false, false, KernelConfig()});
  EXPECT_EQ(named(reverse, "acceptance").sentence,
            "does not apply: the sampler takes no MCMC steps.");
}

// Right within every mode, in wrong numbers: nothing else shows it.
TEST(Lights, AProductWithoutWeightsIsAmber) {
  LevelDiagnosis row = fine_row(3);
  row.ess = std::numeric_limits<double>::quiet_NaN();
  detail::Subject subject = kScores;
  EXPECT_EQ(named(detail::assess({row}, {}, subject), "weights").light, Light::skipped);
  subject.is_product = true;
  const Check check = named(detail::assess({row}, {}, subject), "weights");
  EXPECT_EQ(check.light, Light::amber);
  EXPECT_EQ(check.sentence,
            "the sampler carries no weights: where modes part as noise falls, their shares rest on "
            "MCMC crossing between them, which no check here sees. Give [weights], or compare with "
            "a run that has them.");
}

TEST(Diagnose, RefusesCountsThatAreTooSmall) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(4);
  const Sampler sampler = make_sampler("hmc-4-curve", "corrected", schedule);
  const ModelPtr model = gaussian({0.0, 0.0}, {0.5, 0.5});
  const auto refuse = [&](const DiagnoseConfig& config, const char* message) {
    EXPECT_THROW_MSG(diagnose(model, schedule, sampler, config, Rng(1)), ConfigError, message);
  };
  refuse({.num_chains = 63}, "diagnose: num_chains = 63, must be >= 64");
  refuse({.num_levels = 0}, "diagnose: num_levels = 0, must be >= 1");
  refuse({.num_probes = 0}, "diagnose: num_probes = 0, must be >= 1");
  refuse({.num_settle = 1}, "diagnose: num_settle = 1, must be >= 2");
  refuse({.num_held_out = 255}, "diagnose: num_held_out = 255, must be >= 256");
  EXPECT_THROW_MSG(diagnose(nullptr, schedule, sampler, {}, Rng(1)), ConfigError,
                   "diagnose: no model given (null), must be a model");
}

TEST(Diagnose, RefusesAPlanWithoutStepSizes) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(4);
  Sampler sampler = make_sampler("hmc-4-curve", "corrected", schedule);
  sampler.anneal.adapt = AdaptConfig{};
  EXPECT_THROW_MSG(
      diagnose(gaussian({0.0, 0.0}, {0.5, 0.5}), schedule, sampler, {}, Rng(1)), ConfigError,
      "diagnose: the step sizes of sampler \"hmc-4-curve\" are still to be found; give the plan "
      "that tune() returns");
}

TEST(Diagnose, StopsWhenTheObserverSaysSo) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(3);
  const Sampler sampler = make_sampler("hmc-4-curve", "corrected", schedule);
  const ModelPtr model = gaussian({0.0, 0.0}, {0.5, 0.5});
  const DiagnoseConfig config{.num_chains = 64, .num_held_out = 0};
  EXPECT_THROW_MSG(diagnose(model, schedule, sampler, config, Rng(1),
                            [](double fraction) { return fraction < 0.6; }),
                   Interrupted, "diagnose: stopped by the observer");
}

TEST(Diagnose, ProbesAllOfAFewLevelsAndSomeOfMany) {
  const ModelPtr model = testing::score_only(gaussian({0.0, 0.0}, {0.5, 0.5}));
  for (const auto& [num_levels, wanted] : {std::pair{6, 6}, std::pair{30, 4}}) {
    const NoiseSchedule schedule = NoiseSchedule::cosine(num_levels);
    Sampler sampler = make_sampler("u-la", "corrected", schedule);
    for (LevelPlan& plan : sampler.anneal.levels) {
      plan.num_steps = 1;
    }
    const Diagnosis result = diagnose(
        model, schedule, sampler, {.num_chains = 64, .num_levels = 4, .num_held_out = 0}, Rng(1));
    ASSERT_EQ(static_cast<int>(result.levels.size()), wanted);
    EXPECT_EQ(result.levels.front().level.index, num_levels - 1);
    EXPECT_EQ(result.levels.back().level.index, 0);
  }
}

}  // namespace
}  // namespace motet
