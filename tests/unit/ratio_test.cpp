// Target's checks and counts, and what each log ratio refuses, word for word. Their laws are in
// tests/law.
#include "motet/ratio.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "motet/error.hpp"
#include "support/tensors.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

const NoiseLevel kLevel{3, 0.9, 0.01};

// Score of log p = -sum |x|^4 / 4, as a score-only or exact model.
ModelPtr quartic(bool is_exact) {
  return from_callable(
      [is_exact](const Tensor& x, const NoiseLevel&) {
        const Tensor score = -x.pow(3);
        return is_exact ? Eval{score, -0.25 * x.to(at::kDouble).pow(4).sum(1), {}}
                        : Eval{score, {}, score};
      },
      {2}, is_exact, "quartic");
}

Path straight(const Target& target, const Tensor& x, const Tensor& y) {
  return {{x, y}, {target.evaluate(x), target.evaluate(y)}};
}

TEST(TargetCheck, RefusesNoModel) {
  EXPECT_THROW_MSG(Target(nullptr, kLevel), ConfigError,
                   "target: no model given (null), must be a model");
}

TEST(TargetCheck, RefusesPointsOfAnotherShape) {
  const Target target(quartic(true), kLevel);
  EXPECT_THROW_MSG(
      target.evaluate(at::ones({4, 3})), ShapeError,
      "target: x has shape [4, 3], but \"quartic\" needs (batch, event) with event shape [2]");
  EXPECT_THROW_MSG(
      target.evaluate(Tensor()), ShapeError,
      "target: x has shape (undefined), but \"quartic\" needs (batch, event) with event "
      "shape [2]");
  EXPECT_EQ(target.num_evaluations(), 0);
}

// A user's own Model, whose evaluate() nothing else checks.
class Careless : public Model {
 public:
  Careless(Eval eval, bool is_exact) : eval_(std::move(eval)), is_exact_(is_exact) {}
  Eval evaluate(const Tensor& /*x*/, const NoiseLevel& /*level*/) const override { return eval_; }
  bool is_exact() const override { return is_exact_; }
  std::vector<int64_t> event_shape() const override { return {2}; }
  std::string describe() const override { return "careless"; }

 private:
  Eval eval_;
  bool is_exact_;
};

TEST(TargetCheck, RefusesWhatAModelMayNotReturn) {
  const Tensor x = at::ones({4, 2});
  const Tensor column = at::ones({4, 1}, at::kDouble);
  const auto evaluate = [&](Eval eval, bool is_exact) {
    Target(std::make_shared<Careless>(std::move(eval), is_exact), kLevel).evaluate(x);
  };
  EXPECT_THROW_MSG(evaluate({x, column, {}}, true), ShapeError,
                   "target: \"careless\" returned a log_density of shape [4, 1] for x of shape [4, "
                   "2]; it must have one entry for each row of x");
  EXPECT_THROW_MSG(
      evaluate({x, {}, column}, false), ShapeError,
      "target: \"careless\" returned a remainder of shape [4, 1] for x of shape [4, 2]; "
      "they must be equal");
  EXPECT_THROW_MSG(evaluate({x, {}, x}, true), ShapeError,
                   "target: \"careless\" returned a remainder, but says that it is exact; an exact "
                   "model gives log_density and no remainder");
  EXPECT_THROW_MSG(evaluate({x, {}, {}}, true), ShapeError,
                   "target: \"careless\" returned no log_density, but says that it is exact; an "
                   "exact model gives log_density and no remainder");
  EXPECT_THROW_MSG(evaluate({x, {}, {}}, false), ShapeError,
                   "target: \"careless\" returned a score alone; give it as remainder too, so that "
                   "log ratios integrate it");
}

TEST(TargetCheck, CutsGraphsAndCountsEvaluations) {
  const Target target(quartic(true), kLevel);
  const Tensor x = at::ones({4, 2}).set_requires_grad(true);
  EXPECT_FALSE(target.evaluate(x).score.requires_grad());
  target.evaluate(x);
  EXPECT_EQ(target.num_evaluations(), 2);
}

TEST(LogRatioCheck, RefusesPathsWithoutTwoPoints) {
  const Target target(quartic(true), kLevel);
  const Tensor x = at::ones({4, 2});
  for (const auto& ratio : {exact_ratio(), line_ratio(3), curve_ratio()}) {
    EXPECT_THROW_MSG(ratio->estimate(target, {{x}, {target.evaluate(x)}}), ShapeError,
                     "ratio: a path of 1 points and 1 evaluations; give at least 2 points and one "
                     "evaluation for each");
  }
}

TEST(LogRatioCheck, ExactRefusesModelsWithoutDensities) {
  const Target target(quartic(false), kLevel);
  const Tensor x = at::ones({4, 2});
  EXPECT_THROW_MSG(
      exact_ratio()->estimate(target, straight(target, x, 2.0 * x)), ConfigError,
      "ratio: exact needs log densities, but \"quartic\" gives only scores; use a line or "
      "curve ratio, or energy models");
}

TEST(LogRatioCheck, LineRefusesBadNumbersOfPoints) {
  for (const int64_t bad : {-1, 0, 1, 65}) {
    EXPECT_THROW_MSG(
        line_ratio(bad), ConfigError,
        "ratio: line_ratio(num_points = " + std::to_string(bad) + "): must be between 2 and 64");
  }
  EXPECT_THROW_MSG(
      line_ratio(4, LineRule::simpson), ConfigError,
      "ratio: line_ratio(num_points = 4, simpson): Simpson's rule needs an odd number of "
      "points, 3 or more");
  EXPECT_THROW_MSG(line_rule_from("boole"), ConfigError,
                   "ratio: rule = \"boole\", must be trapezoid, simpson or gauss_lobatto");
}

TEST(LogRatio, IsTheExactDifferenceOnExactModelsForEveryRuleAtNoCost) {
  const Target target(quartic(true), kLevel);
  const Tensor x = rows({{0.3, -1.0}, {2.0, 0.5}});
  const Path path = straight(target, x, x + 0.7);
  const Tensor truth = -0.25 * ((x + 0.7).pow(4) - x.pow(4)).sum(1);
  const int64_t before = target.num_evaluations();
  for (const auto& ratio : {exact_ratio(), line_ratio(5), curve_ratio()}) {
    EXPECT_TRUE(at::allclose(ratio->estimate(target, path), truth, 1e-14, 1e-14))
        << ratio->describe();
  }
  EXPECT_EQ(target.num_evaluations(), before);
}

TEST(LogRatio, FourPointGaussLobattoIsExactForCubicScores) {
  const Target target(quartic(false), kLevel);
  const Tensor x = rows({{0.3, -1.0}, {2.0, 0.5}});
  const Path path = straight(target, x, x + 0.7);
  const Tensor truth = -0.25 * ((x + 0.7).pow(4) - x.pow(4)).sum(1);
  const int64_t before = target.num_evaluations();
  const auto ratio = line_ratio(4, LineRule::gauss_lobatto);
  EXPECT_TRUE(at::allclose(ratio->estimate(target, path), truth, 1e-14, 1e-14));
  EXPECT_EQ(target.num_evaluations() - before, 2);
  EXPECT_EQ(ratio->num_evaluations(), 2);
}

TEST(LogRatio, GaussLobattoHasItsTabulatedFivePoints) {
  // Abramowitz and Stegun, table 25.6: nodes +-sqrt(3/7), 0; weights 1/10, 49/90, 32/45 on [-1, 1].
  std::vector<double> nodes;
  const auto spy = from_callable(
      [&nodes](const Tensor& x, const NoiseLevel&) {
        nodes.push_back(x[0][0].item<double>());
        return Eval{at::ones_like(x), {}, at::ones_like(x)};
      },
      {1}, false, "spy");
  const Target target(spy, kLevel);
  const Tensor x = at::full({1, 1}, -1.0, at::kDouble);
  const Path path = straight(target, x, -x);
  nodes.clear();
  const Tensor integral = line_ratio(5, LineRule::gauss_lobatto)->estimate(target, path);
  EXPECT_NEAR(integral.item<double>(), 2.0, 1e-14);
  ASSERT_EQ(nodes.size(), 3U);
  EXPECT_NEAR(nodes[0], -std::sqrt(3.0 / 7.0), 1e-14);
  EXPECT_NEAR(nodes[1], 0.0, 1e-14);
  EXPECT_NEAR(nodes[2], std::sqrt(3.0 / 7.0), 1e-14);
}

}  // namespace
}  // namespace motet
