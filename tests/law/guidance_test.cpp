// Guidance: a classifier by Bayes' rule is the oracle, under which the guided law, its weights and
// the two forms of guidance are known in closed form.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <array>
#include <cmath>
#include <vector>

#include "motet/compose.hpp"
#include "motet/likelihood.hpp"
#include "support/invariance.hpp"
#include "support/models.hpp"
#include "support/tensors.hpp"

namespace motet::testing {
namespace {

constexpr std::array<double, 4> kAlphaBars = {0.999, 0.9, 0.3, 1e-3};
constexpr std::array<double, 3> kWeights = {0.3, 0.45, 0.25};

// Three classes in the plane, the first with two components; together, a mixture of four.
AnalyticPtr class_law(size_t label) {
  static const std::array<AnalyticPtr, 3> laws = {
      gaussian_mixture(at::tensor({0.4, 0.6}, at::kDouble), rows({{-0.5, 0.2}, {0.1, 0.4}}),
                       rows({{0.3, 0.2}, {0.15, 0.25}}), "a"),
      gaussian({0.4, -0.1}, {0.25, 0.35}, "b"), gaussian({-0.2, -0.4}, {0.2, 0.3}, "c")};
  return laws.at(label);
}

AnalyticPtr all_points() {
  return gaussian_mixture(at::tensor({0.3 * 0.4, 0.3 * 0.6, 0.45, 0.25}, at::kDouble),
                          rows({{-0.5, 0.2}, {0.1, 0.4}, {0.4, -0.1}, {-0.2, -0.4}}),
                          rows({{0.3, 0.2}, {0.15, 0.25}, {0.25, 0.35}, {0.2, 0.3}}), "all");
}

LikelihoodPtr bayes(size_t label) {
  return bayes_classifier({class_law(0), class_law(1), class_law(2)},
                          {kWeights.begin(), kWeights.end()}, label, "y");
}

Tensor probes() {
  Rng rng(23);
  return 1.2 * rng.normal_like(at::empty({60, 2}, at::kDouble));
}

double largest(const Tensor& errors) { return errors.abs().max().item<double>(); }

// Whether two log densities differ by the same number everywhere.
double spread(const Tensor& difference) {
  return (difference.max() - difference.min()).item<double>();
}

TEST(BayesClassifierLaw, ScoreIsTheGradientOfTheLogShare) {
  const Tensor x = probes();
  for (const double alpha_bar : kAlphaBars) {
    const NoiseLevel level = level_at(alpha_bar);
    const double step = 1e-4 * level.sigma();
    const LikelihoodPtr classifier = bayes(0);
    const Tensor found = classifier->evaluate(x, level, {}).score;
    for (int64_t i = 0; i < 2; ++i) {
      Tensor moved = at::zeros({2}, at::kDouble);
      moved[i] = step;
      const Tensor up = classifier->evaluate(x + moved, level, {}).log_likelihood;
      const Tensor down = classifier->evaluate(x - moved, level, {}).log_likelihood;
      const Tensor error = found.select(1, i) - (up - down) / (2.0 * step);
      EXPECT_LT(largest(error), 2e-6 / level.sigma()) << alpha_bar;
    }
  }
}

TEST(BayesClassifierLaw, SharesSumToOneAndScoresToZero) {
  const NoiseLevel level = level_at(0.7);
  Tensor sum = at::zeros({60}, at::kDouble), pull = at::zeros({60, 2}, at::kDouble);
  for (size_t label = 0; label < 3; ++label) {
    const auto value = bayes(label)->evaluate(probes(), level, {});
    const Tensor share = value.log_likelihood.exp();
    sum = sum + share;
    pull = pull + share.unsqueeze(1) * value.score;
  }
  EXPECT_LT(largest(sum - 1.0), 1e-14);
  EXPECT_LT(largest(pull), 1e-12);
}

TEST(GuidanceLaw, ScaleOneIsTheLawOfTheClass) {
  const Tensor x = probes();
  for (size_t label = 0; label < 3; ++label) {
    const ModelPtr guided = guide(all_points(), bayes(label), 1.0);
    EXPECT_TRUE(guided->is_exact());
    for (const double alpha_bar : kAlphaBars) {
      const NoiseLevel level = level_at(alpha_bar);
      const Eval found = guided->evaluate(x, level);
      const Eval expected = class_law(label)->evaluate(x, level);
      EXPECT_LT(largest(found.score - expected.score), 1e-12 / level.sigma()) << alpha_bar;
      const Tensor difference = found.log_density - expected.log_density;
      EXPECT_LT(largest(difference - std::log(kWeights.at(label))), 1e-10) << alpha_bar;
    }
  }
}

// The whole guided score's square less G: what a weight grows by (docs/method.md, Weights).
Tensor weight_rate(const ModelPtr& guided, const Tensor& x, const NoiseLevel& level) {
  const Eval eval = guided->evaluate(x, level);
  const Tensor square = eval.score.square().sum(1);
  return eval.square_sum.defined() ? square - eval.square_sum : at::zeros_like(square);
}

TEST(GuidanceLaw, WeightsVanishAtScaleOneAndOnlyThere) {
  const Tensor x = probes();
  const LikelihoodPtr classifier = bayes(1);
  for (const double alpha_bar : kAlphaBars) {
    const NoiseLevel level = level_at(alpha_bar);
    const Tensor pull = classifier->evaluate(x, level, {}).score.square().sum(1);
    for (const double scale : {0.5, 1.0, 3.0}) {
      const Tensor rate = weight_rate(guide(all_points(), classifier, scale), x, level);
      const double unit = 1.0 / (level.sigma() * level.sigma());
      EXPECT_LT(largest(rate - scale * (scale - 1.0) * pull), 1e-11 * unit) << scale;
    }
  }
}

// d/dv of log p at a fixed z = x / sqrt(alpha_bar), v = (1 - alpha_bar) / alpha_bar; by central
// differences, with log p as a density of z.
Tensor slope_in_v(const ModelPtr& model, const Tensor& z, double v) {
  const auto log_density = [&](double at) {
    const double alpha_bar = 1.0 / (1.0 + at);
    const Eval eval = model->evaluate(z * std::sqrt(alpha_bar), level_at(alpha_bar));
    return eval.log_density + 0.5 * static_cast<double>(z.size(1)) * std::log(alpha_bar);
  };
  const double step = 1e-4 * v;
  return (log_density(v + step) - log_density(v - step)) / (2.0 * step);
}

// Laplacian of log p in z, by central differences of the score.
Tensor laplacian_in_z(const ModelPtr& model, const Tensor& z, double v) {
  const double alpha_bar = 1.0 / (1.0 + v);
  const double step = 1e-4 * std::sqrt(v);
  Tensor sum = at::zeros({z.size(0)}, at::kDouble);
  for (int64_t i = 0; i < z.size(1); ++i) {
    Tensor moved = at::zeros({z.size(1)}, at::kDouble);
    moved[i] = step;
    const auto score = [&](const Tensor& at) {
      return std::sqrt(alpha_bar) *
             model->evaluate(at * std::sqrt(alpha_bar), level_at(alpha_bar)).score.select(1, i);
    };
    sum = sum + (score(z + moved) - score(z - moved)) / (2.0 * step);
  }
  return sum;
}

// How far the guided law is from d/dv log p = 1/2 (Laplacian + G), in units of 1 / v.
double heat_error(const ModelPtr& guided, const Tensor& square_sum, const Tensor& z, double v) {
  const double alpha_bar = 1.0 / (1.0 + v);
  const Tensor found = 0.5 * (laplacian_in_z(guided, z, v) + alpha_bar * square_sum);
  return v * largest(found - slope_in_v(guided, z, v));
}

TEST(GuidanceLaw, JointRuleIsTheHeatEquations) {
  const Tensor z = probes();
  const LikelihoodPtr classifier = bayes(0);
  for (const double v : {0.01, 0.2, 3.0}) {
    const NoiseLevel level = level_at(1.0 / (1.0 + v));
    const Tensor x = z * std::sqrt(level.alpha_bar);
    for (const double scale : {0.5, 1.0, 2.5}) {
      const ModelPtr guided = guide(all_points(), classifier, scale);
      const Tensor square_sum = guided->evaluate(x, level).square_sum;
      EXPECT_LT(heat_error(guided, square_sum, z, v), 1e-4) << "v " << v << " scale " << scale;
      // The check has power: without the product of the two scores it fails.
      const Tensor prior = all_points()->evaluate(x, level).score;
      const Tensor pull = classifier->evaluate(x, level, prior).score;
      const Tensor wrong = square_sum - 2.0 * scale * (pull * prior).sum(1);
      EXPECT_GT(heat_error(guided, wrong, z, v), 1e-2) << "v " << v << " scale " << scale;
    }
  }
}

TEST(GuidanceLaw, BothFormsAreOneLaw) {
  const Tensor x = probes();
  for (const double alpha_bar : kAlphaBars) {
    const NoiseLevel level = level_at(alpha_bar);
    for (const double scale : {-0.5, 0.0, 1.0, 3.0}) {
      const Eval free = guide(class_law(2), all_points(), scale)->evaluate(x, level);
      const Eval classifier = guide(all_points(), bayes(2), 1.0 + scale)->evaluate(x, level);
      const double unit = (1.0 + std::abs(scale)) / level.sigma();
      EXPECT_LT(largest(free.score - classifier.score), 1e-11 * unit) << alpha_bar;
      EXPECT_LT(spread(free.log_density - classifier.log_density), 1e-9) << alpha_bar;
      const ModelPtr left = guide(class_law(2), all_points(), scale);
      const ModelPtr right = guide(all_points(), bayes(2), 1.0 + scale);
      const Tensor rates = weight_rate(left, x, level) - weight_rate(right, x, level);
      EXPECT_LT(largest(rates), 1e-10 * unit * unit) << alpha_bar << " scale " << scale;
    }
  }
}

TEST(ClassifierFreeLaw, ScaleZeroIsTheConditionalAndGuidingTwiceMultipliesPowers) {
  const Tensor x = probes();
  const ModelPtr conditional = class_law(0), unconditional = all_points();
  const NoiseLevel level = level_at(0.8);
  const Eval none = guide(conditional, unconditional, 0.0)->evaluate(x, level);
  EXPECT_LT(largest(none.score - conditional->evaluate(x, level).score), 1e-12);
  const double a = 0.7, b = 1.5;
  const ModelPtr twice = guide(guide(conditional, unconditional, a), unconditional, b);
  const ModelPtr once = guide(conditional, unconditional, a + b + a * b);
  EXPECT_LT(largest(twice->evaluate(x, level).score - once->evaluate(x, level).score), 1e-10);
}

// N(m1, s1^2)^(1 + w) N(m0, s0^2)^(-w) is a Gaussian while (1 + w) / s1^2 > w / s0^2.
TEST(ClassifierFreeLaw, GuidedGaussiansAreTheirClosedForm) {
  const double scale = 2.0, alpha_bar = 0.9;
  const NoiseLevel level = level_at(alpha_bar);
  const AnalyticPtr conditional = gaussian({0.4}, {0.3}), unconditional = gaussian({-0.1}, {0.8});
  const auto variance = [&](double sd) { return alpha_bar * sd * sd + 1.0 - alpha_bar; };
  const double first = (1.0 + scale) / variance(0.3), second = -scale / variance(0.8);
  const double mean = std::sqrt(alpha_bar) * (0.4 * first - 0.1 * second) / (first + second);
  const Tensor x = at::linspace(-2.0, 2.0, 21, at::kDouble).unsqueeze(1);
  const Tensor found = guide(conditional, unconditional, scale)->evaluate(x, level).score;
  EXPECT_LT(largest(found + (first + second) * (x - mean)), 1e-12);
}

// At scale 1 the guided law is a class's, of which there are exact draws.
constexpr double kStep = 0.25;
constexpr int64_t kNumSteps = 8;

LawReport check(const ModelPtr& model) {
  return check_invariance(Hmc({.num_leapfrog = 3}, line_ratio(7, LineRule::gauss_lobatto)), model,
                          *class_law(0),
                          {.level = level_at(0.95), .step_size = kStep, .num_steps = kNumSteps});
}

// The prior knows only its score: its part of the ratio is a line integral, the classifier's a
// difference.
TEST(GuidanceLaw, MetropolisLeavesTheGuidedLawInvariant) {
  const LawReport report = check(guide(score_only(all_points()), bayes(0), 1.0));
  EXPECT_LT(report.max_abs_z, 5.0) << report.table();
  EXPECT_EQ(report.num_invalid, 0);
  EXPECT_GT(report.acceptance, 0.6);
}

TEST(GuidanceLaw, CheckRejectsAnotherScale) {
  const LawReport report = check(guide(score_only(all_points()), bayes(0), 2.0));
  EXPECT_GT(report.max_abs_z, 8.0) << report.table();
}

}  // namespace
}  // namespace motet::testing
