// Laws of the line with as many points as a level needs, and of the choice of their number.
#include "motet/ratio_adaptive.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "motet/compose.hpp"
#include "motet/error.hpp"
#include "motet/kernel.hpp"
#include "motet/rng.hpp"
#include "support/models.hpp"
#include "support/throw_message.hpp"

namespace motet::testing {
namespace {

Path path_between(const Target& target, const Tensor& x, const Tensor& y) {
  return {{x, y}, {target.evaluate(x), target.evaluate(y)}};
}

Path random_pairs(const Target& target, int64_t num_pairs, int64_t d) {
  Rng rng(41);
  const Tensor x = rng.normal_like(at::empty({num_pairs, d}, at::kDouble));
  return path_between(target, x, x + rng.normal_like(x));
}

// Proposals at a level of the ring: trajectories of 3 leapfrogs from exact draws, of a length that
// an adjusted kernel accepts often.
Path ring_proposals(const Target& target, uint64_t seed) {
  Rng rng(seed);
  const Tensor x = ring()->sample_level(2000, target.level(), rng);
  const Eval eval = target.evaluate(x);
  const double information = eval.score.square().sum(1).median().item<double>() / 1.386;
  const ChainState now{x, eval, {}};
  const Step move = Uhmc({.num_leapfrog = 3, .damping = 0.0})
                        .step(target, now, 0.3 / std::sqrt(information), rng);
  return {{x, move.state.x}, {eval, move.state.eval}};
}

Target ring_target(int64_t index) {
  return {score_only(ring()), NoiseSchedule::cosine(100).level(index)};
}

TEST(AdaptiveLineLaw, TakesTheNumberOfPointsOfItsLevel) {
  const LogRatioPtr adaptive = adaptive_line_ratio({{0, 5}, {7, 2}});
  for (const auto& [index, count] : LinePoints{{0, 5}, {7, 2}}) {
    const Target target(score_only(skewed_mixture()), level_at(0.8, index));
    const Path path = random_pairs(target, 50, 2);
    const int64_t before = target.num_evaluations();
    const Tensor estimate = adaptive->estimate(target, path);
    EXPECT_EQ(target.num_evaluations() - before, count - 2);
    const LogRatioPtr line = line_ratio(count, LineRule::gauss_lobatto);
    EXPECT_TRUE(at::equal(estimate, line->estimate(target, path)));
  }
  EXPECT_EQ(adaptive->num_evaluations(), 3);
  EXPECT_EQ(adaptive->describe(), "2 to 5-point gauss_lobatto on the line, by level");
}

TEST(AdaptiveLineLaw, ChangesItsSignWithThePathOnAnyField) {
  const LogRatioPtr adaptive = adaptive_line_ratio({{0, 2}, {1, 3}, {2, 6}});
  for (const int64_t index : {0, 1, 2}) {
    for (const ModelPtr& model : {rotating_gaussian(2, 3.0), score_only(skewed_mixture())}) {
      const Target target(model, level_at(0.8, index));
      const Path path = random_pairs(target, 100, 2);
      const Path back{{path.points[1], path.points[0]}, {path.evals[1], path.evals[0]}};
      const Tensor forth = adaptive->estimate(target, path);
      EXPECT_GT(forth.abs().max().item<double>(), 0.1);
      EXPECT_LT((forth + adaptive->estimate(target, back)).abs().max().item<double>(), 1e-12);
    }
  }
}

// N points integrate degree 2N - 3: the pair N, N + 1 agrees to rounding there, and not before.
TEST(AdaptiveLineLaw, PolynomialScoresGetTheFewestPointsThatAreExact) {
  for (const auto& [power, count] : LinePoints{{0, 2}, {1, 2}, {2, 3}, {3, 3}, {4, 4}, {7, 5}}) {
    const Target target(power_score(2, power, /*is_exact=*/false), level_at(0.5));
    const LineChoice choice =
        choose_line_points(target, random_pairs(target, 200, 2), {.tolerance = 1e-8});
    EXPECT_EQ(choice.num_points, count) << "power " << power;
    EXPECT_LT(choice.error, 1e-8);
    EXPECT_TRUE(choice.is_within_tolerance);
  }
}

TEST(AdaptiveLineLaw, FewerPointsWhereThereIsMoreNoise) {
  std::vector<int64_t> chosen;
  for (const int64_t index : {10, 20, 30, 60}) {
    const Target target = ring_target(index);
    chosen.push_back(choose_line_points(target, ring_proposals(target, 1)).num_points);
  }
  EXPECT_TRUE(std::is_sorted(chosen.rbegin(), chosen.rend()));
  EXPECT_GE(chosen.front(), chosen.back() + 2);
}

// On other proposals than the pilot's, and against the true ratio. One point less would not do.
TEST(AdaptiveLineLaw, ErrorOfFreshProposalsIsWithinTheTolerance) {
  const LineTolerance wanted{.tolerance = 0.01, .quantile = 0.99};
  for (const int64_t index : {2, 5, 20}) {
    const Target target = ring_target(index);
    const LineChoice choice = choose_line_points(target, ring_proposals(target, 1), wanted);
    const Target densities(ring(), target.level());
    const Path fresh = ring_proposals(target, 2);
    const Tensor truth = exact_ratio()->estimate(
        densities, path_between(densities, fresh.points[0], fresh.points[1]));
    const auto error = [&](int64_t count) {
      const LogRatioPtr line = adaptive_line_ratio({{index, count}});
      const Tensor sizes = (line->estimate(target, fresh) - truth).abs();
      return std::get<0>(sizes.kthvalue(1980)).item<double>();
    };
    ASSERT_GT(choice.num_points, 2);
    EXPECT_LT(error(choice.num_points), 1.5 * wanted.tolerance) << "level " << index;
    EXPECT_GT(error(choice.num_points - 1), wanted.tolerance / 1.5) << "level " << index;
  }
}

TEST(AdaptiveLineLaw, ChoiceTellsItsCost) {
  const Target target(power_score(2, 4, /*is_exact=*/false), level_at(0.5));
  const Path pilot = random_pairs(target, 10, 2);
  const int64_t before = target.num_evaluations();
  const LineChoice choice = choose_line_points(target, pilot, {.tolerance = 1e-8});
  EXPECT_EQ(choice.num_evaluations, 0 + 1 + 2 + 3);  // 2, 3, 4 and 5 points
  EXPECT_EQ(target.num_evaluations() - before, choice.num_evaluations);
  const Target densities(skewed_mixture(), level_at(0.5));
  const LineChoice free = choose_line_points(densities, random_pairs(densities, 10, 2));
  EXPECT_EQ(free.num_evaluations, 0);
  EXPECT_EQ(free.num_points, 2);
  EXPECT_EQ(free.error, 0.0);
}

TEST(AdaptiveLineLaw, SaysWhenTheMostPointsDoNotSuffice) {
  const Target target = ring_target(2);
  const LineChoice choice =
      choose_line_points(target, ring_proposals(target, 1), {.tolerance = 1e-6, .max_points = 3});
  EXPECT_EQ(choice.num_points, 3);
  EXPECT_GT(choice.error, 1e-6);
  EXPECT_FALSE(choice.is_within_tolerance);
}

// 1 of 100 proposals passes where the score is NaN: the .99 quantile leaves it out, the maximum
// does not.
TEST(AdaptiveLineLaw, DifferencesThatAreNotFiniteCountAsInfinite) {
  const Target target(nan_above(score_only(gaussian({0.0}, {1.0})), 5.0), level_at(0.5));
  Tensor x = at::linspace(-1.0, 1.0, 100, at::kDouble).unsqueeze(1);
  Tensor y = x + 0.5;
  x[0][0] = 4.0;
  y[0][0] = 6.5;
  const Path pilot = path_between(target, x, y);
  EXPECT_TRUE(choose_line_points(target, pilot, {.quantile = 0.99}).is_within_tolerance);
  const LineChoice all = choose_line_points(target, pilot, {.quantile = 1.0, .max_points = 4});
  EXPECT_FALSE(all.is_within_tolerance);
  EXPECT_EQ(all.error, std::numeric_limits<double>::infinity());
}

TEST(AdaptiveLineLaw, TakesAnyRule) {
  const LogRatioPtr simpson = adaptive_line_ratio({{0, 5}, {7, 3}}, LineRule::simpson);
  EXPECT_EQ(simpson->describe(), "3 to 5-point simpson on the line, by level");
  const Target target(score_only(skewed_mixture()), level_at(0.8, 7));
  const Path path = random_pairs(target, 50, 2);
  EXPECT_TRUE(at::equal(simpson->estimate(target, path),
                        line_ratio(3, LineRule::simpson)->estimate(target, path)));
}

// A pilot's ratio estimates with the points that its own proposals need, and keeps their number.
TEST(PilotLineLaw, KeepsWhatEachLevelsLastProposalsNeed) {
  const LineTolerance wanted{.tolerance = 0.01};
  const PilotLineRatio pilot(wanted);
  EXPECT_TRUE(pilot.num_points().empty());
  for (const int64_t index : {60, 20, 2}) {
    const Target target = ring_target(index);
    const Path path = ring_proposals(target, 1);
    const LineChoice choice = choose_line_points(target, path, wanted);
    const int64_t before = target.num_evaluations();
    const Tensor estimate = pilot.estimate(target, path);
    EXPECT_EQ(target.num_evaluations() - before, choice.num_evaluations + choice.num_points - 2);
    EXPECT_EQ(pilot.num_points().at(index), choice.num_points);
    EXPECT_TRUE(
        at::equal(estimate, adaptive_line_ratio(pilot.num_points())->estimate(target, path)));
  }
  // Shorter moves at a level seen before need fewer points: the last ones count.
  const Target target = ring_target(2);
  const Path path = ring_proposals(target, 1);
  const Tensor near = path.points[0] + 0.05 * (path.points[1] - path.points[0]);
  const int64_t of_long_moves = pilot.num_points().at(2);
  pilot.estimate(target, path_between(target, path.points[0], near));
  EXPECT_LT(pilot.num_points().at(2), of_long_moves);
}

TEST(PilotLineLaw, TellsItsDearestEstimate) {
  const Target target = ring_target(2);
  const PilotLineRatio pilot({.tolerance = 1e-12, .max_points = 4});
  const int64_t before = target.num_evaluations();
  const Path path = ring_proposals(target, 1);
  const int64_t of_path = target.num_evaluations() - before;
  pilot.estimate(target, path);
  EXPECT_EQ(pilot.num_points().at(2), 4);
  EXPECT_EQ(target.num_evaluations() - before - of_path, pilot.num_evaluations());
  EXPECT_EQ(pilot.num_evaluations(), 1 + 2 + 3 + 2);
  EXPECT_EQ(pilot.describe(), "gauss_lobatto on the line, to 1e-12 nat (pilot)");
}

TEST(PilotLine, RefusesATolerance) {
  EXPECT_THROW_MSG(PilotLineRatio({.tolerance = 0.0}), ConfigError,
                   "ratio: choose_line_points(tolerance = 0): must be > 0 and finite");
}

TEST(AdaptiveLine, NamesWhatItCannotUse) {
  EXPECT_THROW_MSG(adaptive_line_ratio({}), ConfigError,
                   "ratio: adaptive_line_ratio() without levels; give each level's number of "
                   "points, as choose_line_points() finds it");
  EXPECT_THROW_MSG(adaptive_line_ratio({{0, 1}}), ConfigError,
                   "ratio: line_ratio(num_points = 1): must be between 2 and 64");
  const Target target(score_only(skewed_mixture()), level_at(0.8, 3));
  const Path pilot = random_pairs(target, 5, 2);
  EXPECT_THROW_MSG(adaptive_line_ratio({{0, 4}, {5, 2}})->estimate(target, pilot), ConfigError,
                   "ratio: adaptive_line_ratio() has no number of points for level 3, only for 0 "
                   "5; let choose_line_points() find it");
}

TEST(AdaptiveLine, ChoiceNamesSettingsOutsideTheirRanges) {
  const Target target(score_only(skewed_mixture()), level_at(0.8));
  const Path pilot = random_pairs(target, 5, 2);
  const auto expect_message = [&](const LineTolerance& wanted, const std::string& text) {
    EXPECT_THROW_MSG(choose_line_points(target, pilot, wanted), ConfigError,
                     "ratio: choose_line_points(" + text);
  };
  expect_message({.tolerance = 0.0}, "tolerance = 0): must be > 0 and finite");
  expect_message({.tolerance = std::nan("")}, "tolerance = nan): must be > 0 and finite");
  expect_message({.quantile = 0.0}, "quantile = 0): must be in (0, 1]");
  expect_message({.quantile = 1.5}, "quantile = 1.5): must be in (0, 1]");
  expect_message({.max_points = 1}, "max_points = 1): must be between 2 and 63");
  expect_message({.max_points = 64}, "max_points = 64): must be between 2 and 63");
  EXPECT_THROW_MSG(choose_line_points(target, random_pairs(target, 0, 2)), ConfigError,
                   "ratio: choose_line_points() with 0 proposals, must be 1 or more");
}

}  // namespace
}  // namespace motet::testing
