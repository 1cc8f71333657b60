// Closed forms, samples and refusals of the analytic models and of users' functions.
#include "motet/model.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "motet/error.hpp"
#include "support/models.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

using testing::level_at;

Tensor row(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).unsqueeze(0);
}

// Points of a regular grid over [-half, half]^2 (midpoint rule), and the area of one cell.
Tensor grid(double half, int64_t num_cells) {
  const double width = 2.0 * half / static_cast<double>(num_cells);
  const Tensor axis = at::arange(num_cells, at::kDouble) * width + (0.5 * width - half);
  const Tensor x = axis.view({-1, 1}).expand({num_cells, num_cells});
  return at::stack({x.flatten(), x.t().flatten()}, 1);
}

// The grid reaches 7 sigma past the data, its cells are finer than the narrowest peak or edge.
double integral(const AnalyticModel& model, double alpha_bar) {
  constexpr int64_t kNumCells = 240;
  const NoiseLevel level = level_at(alpha_bar);
  const double half = 2.0 * std::sqrt(alpha_bar) + 7.0 * level.sigma();
  const double cell = 2.0 * half / static_cast<double>(kNumCells);
  const Tensor log_density = model.evaluate(grid(half, kNumCells), level).log_density;
  return log_density.exp().sum().item<double>() * cell * cell;
}

TEST(AnalyticModel, DensitiesIntegrateToOneAtEveryLevel) {
  for (const double alpha_bar : {0.99937, 0.9, 0.2, 1e-7}) {
    for (const AnalyticPtr& model : {ring(), bar(), checkerboard()}) {
      EXPECT_NEAR(integral(*model, alpha_bar), 1.0, 1e-9) << model->describe() << alpha_bar;
    }
  }
}

TEST(AnalyticModel, DensitiesIntegrateToOneInOneDimension) {
  const int64_t num_cells = 40000;
  const Tensor x = (at::arange(num_cells, at::kDouble) + 0.5) * (24.0 / num_cells) - 12.0;
  const Tensor one = at::ones({1}, at::kDouble);
  for (const double alpha_bar : {0.99937, 0.5, 1e-7}) {
    for (const AnalyticPtr& model :
         {testing::uneven_mixture(1, 4), uniform_box(-0.3 * one, 2.0 * one, "box")}) {
      const Tensor density = model->evaluate(x.unsqueeze(1), level_at(alpha_bar)).log_density.exp();
      EXPECT_NEAR(density.sum().item<double>() * 24.0 / num_cells, 1.0, 1e-10)
          << model->describe() << alpha_bar;
    }
  }
}

TEST(AnalyticModel, OneGaussianFollowsItsFormula) {
  const AnalyticPtr model = testing::gaussian({0.3, -0.7}, {0.2, 0.9});
  const double alpha_bar = 0.6;
  const Eval eval = model->evaluate(row({0.5, 0.4}), level_at(alpha_bar));
  double log_density = 0.0;
  const double offsets[] = {0.5 - std::sqrt(0.6) * 0.3, 0.4 + std::sqrt(0.6) * 0.7};
  const double variances[] = {0.6 * 0.04 + 0.4, 0.6 * 0.81 + 0.4};
  for (int i = 0; i < 2; ++i) {
    log_density -= 0.5 * offsets[i] * offsets[i] / variances[i] +
                   0.5 * std::log(2.0 * std::numbers::pi * variances[i]);
    EXPECT_NEAR(eval.score[0][i].item<double>(), -offsets[i] / variances[i], 1e-14);
  }
  EXPECT_NEAR(eval.log_density.item<double>(), log_density, 1e-14);
}

TEST(AnalyticModel, DataDensitiesFollowTheirFormulas) {
  const double density = 1.0 / (0.4 * 2.0);
  EXPECT_NEAR(bar()->log_density_data(row({0.1, -0.9})).item<double>(), std::log(density), 1e-14);
  const double outside = bar()->log_density_data(row({0.2, 0.0})).item<double>();
  EXPECT_EQ(outside, -std::numeric_limits<double>::infinity());
  const double peak = 1.0 / (8.0 * 2.0 * std::numbers::pi * 0.03 * 0.03);
  EXPECT_NEAR(ring()->log_density_data(row({0.0, 0.5})).item<double>(), std::log(peak), 1e-12);
}

TEST(AnalyticModel, WeightsNeedNotSumToOne) {
  const Tensor means = at::tensor({-1.0, 2.0}, at::kDouble).view({2, 1});
  const Tensor sds = at::tensor({0.3, 0.6}, at::kDouble).view({2, 1});
  const auto with = [&](double first, double second) {
    return gaussian_mixture(at::tensor({first, second}, at::kDouble), means, sds, "m")
        ->evaluate(row({0.4}), level_at(0.9))
        .log_density.item<double>();
  };
  EXPECT_NEAR(with(1.0, 3.0), with(0.25, 0.75), 1e-14);
}

TEST(AnalyticModel, KeepsTheDtypeOfXAndFloat64Densities) {
  for (const AnalyticPtr& model : {ring(), bar()}) {
    const Tensor x = row({0.123456789, 0.3}).to(at::kFloat);
    const Eval narrow = model->evaluate(x, level_at(0.9));
    const Eval wide = model->evaluate(x.to(at::kDouble), level_at(0.9));
    EXPECT_EQ(narrow.score.scalar_type(), at::kFloat);
    EXPECT_EQ(narrow.log_density.scalar_type(), at::kDouble);
    EXPECT_TRUE(at::equal(narrow.log_density, wide.log_density));
    EXPECT_TRUE(at::equal(narrow.score, wide.score.to(at::kFloat)));
    EXPECT_FALSE(narrow.remainder.defined());
  }
}

TEST(AnalyticModel, NeverGivesNanAtFinitePoints) {
  std::vector<double> values;
  for (const double size : {0.0, 1e-300, 1e-8, 0.2, 1.0, 37.0, 1e3, 1e8, 1e100, 1e200, 1e308}) {
    values.push_back(size);
    values.push_back(-size);
  }
  const Tensor axis = at::tensor(values, at::kDouble);
  const Tensor x = at::cartesian_prod({axis, axis});
  for (const double alpha_bar : {1.0 - 1e-15, 0.99937, 0.5, 1e-7, 1e-30, 1e-300}) {
    for (const AnalyticPtr& model : {ring(), bar(), checkerboard(), testing::skewed_mixture()}) {
      const Eval eval = model->evaluate(x, level_at(alpha_bar));
      EXPECT_FALSE(eval.score.isnan().any().item<bool>()) << model->describe() << alpha_bar;
      EXPECT_FALSE(eval.log_density.isnan().any().item<bool>()) << model->describe() << alpha_bar;
    }
  }
}

TEST(AnalyticModel, AtPureNoiseEveryLawIsTheStandardNormal) {
  const Tensor x = at::tensor({0.5, -1.5, 3.0, 0.0}, at::kDouble).view({2, 2});
  for (const AnalyticPtr& model : {ring(), bar(), checkerboard(), testing::skewed_mixture()}) {
    const Eval eval = model->evaluate(x, level_at(1e-24));
    EXPECT_TRUE(at::allclose(eval.score, -x, 1e-10, 1e-10)) << model->describe();
  }
}

TEST(AnalyticModel, ConstructorCopiesItsTensors) {
  const Tensor means = at::zeros({1, 2}, at::kDouble);
  const AnalyticPtr model =
      gaussian_mixture(at::ones({1}, at::kDouble), means, at::ones({1, 1}, at::kDouble), "g");
  means.fill_(9.0);
  EXPECT_EQ(model->evaluate(at::zeros({1, 2}, at::kDouble), level_at(0.5))
                .score.abs()
                .max()
                .item<double>(),
            0.0);
}

// |z| < 4.5 of the first two moments of every coordinate.
void expect_moments(const Tensor& sample, const Tensor& mean, const Tensor& second) {
  const double root_n = std::sqrt(static_cast<double>(sample.size(0)));
  const Tensor z1 = (sample.mean(0) - mean) * root_n / sample.std(0);
  const Tensor square = sample.square();
  const Tensor z2 = (square.mean(0) - second) * root_n / square.std(0);
  EXPECT_LT(z1.abs().max().item<double>(), 4.5) << z1;
  EXPECT_LT(z2.abs().max().item<double>(), 4.5) << z2;
}

TEST(AnalyticModel, SamplesOfALevelHaveItsMoments) {
  for (const double alpha_bar : {0.999, 0.5}) {
    for (const int64_t d : {1, 2, 50}) {
      Rng rng(3);
      const Tensor high = at::linspace(0.1, 2.0, d, at::kDouble);
      const AnalyticPtr box = uniform_box(-0.5 * high, high, "box");
      const Tensor variance = (1.5 * high).square() / 12.0 * alpha_bar + (1.0 - alpha_bar);
      const Tensor mean = std::sqrt(alpha_bar) * 0.25 * high;
      const Tensor sample = box->sample_level(40000, level_at(alpha_bar), rng);
      expect_moments(sample, mean, variance + mean.square());
    }
  }
}

TEST(AnalyticModel, SamplesOfAMixtureHaveItsMoments) {
  const Tensor weights = at::tensor({0.1, 0.6, 0.3}, at::kDouble);
  for (const int64_t d : {1, 2, 50}) {
    const Tensor means = at::linspace(-2.0, 3.0, 3 * d, at::kDouble).view({3, d});
    const Tensor sds = at::linspace(0.2, 1.4, 3 * d, at::kDouble).view({3, d});
    Rng rng(4);
    const Tensor sample =
        gaussian_mixture(weights, means, sds, "m")->sample_level(40000, level_at(0.8), rng);
    const Tensor variance = 0.8 * sds.square() + 0.2;
    const Tensor second = variance + 0.8 * means.square();
    expect_moments(sample, std::sqrt(0.8) * weights.matmul(means), weights.matmul(second));
  }
}

TEST(AnalyticModel, SamplesDoNotDependOnTheBatch) {
  for (const AnalyticPtr& model : {ring(), bar(), checkerboard()}) {
    Rng whole(9);
    const Tensor all = model->sample_level(50, level_at(0.9), whole);
    Rng part = Rng(9).for_chains(17);
    EXPECT_TRUE(at::equal(model->sample_level(33, level_at(0.9), part), all.narrow(0, 17, 33)));
  }
}

TEST(AnalyticModel, RefusesPointsOfAnotherShapeOrDtype) {
  const NoiseLevel level = level_at(0.5);
  EXPECT_THROW_MSG(ring()->evaluate(at::zeros({5, 3}), level), ShapeError,
                   "model \"ring\": x has shape (5, 3), must be (B, 2)");
  EXPECT_THROW_MSG(bar()->evaluate(at::zeros({2}), level), ShapeError,
                   "model \"bar\": x has shape (2), must be (B, 2)");
  EXPECT_THROW_MSG(bar()->evaluate(Tensor(), level), ShapeError,
                   "model \"bar\": x is undefined, must be (B, 2)");
  EXPECT_THROW_MSG(bar()->log_density_data(at::zeros({5, 2}, at::kLong)), ShapeError,
                   "model \"bar\": x has dtype Long, must be Float or Double");
}

TEST(AnalyticModel, RefusesSettingsOfShapesThatDoNotFit) {
  const Tensor weights = at::ones({3});
  const Tensor means = at::zeros({3, 2});
  const Tensor sds = at::ones({3, 1});
  EXPECT_THROW_MSG(gaussian_mixture(weights, at::zeros({6}), sds, "g"), ShapeError,
                   "gaussian_mixture \"g\": means has shape (6), must be (K, d) with K, d >= 1");
  EXPECT_THROW_MSG(gaussian_mixture(at::ones({2}), means, sds, "g"), ShapeError,
                   "gaussian_mixture \"g\": weights has shape (2), must be (K) = (3) as means has "
                   "shape (3, 2)");
  EXPECT_THROW_MSG(gaussian_mixture(weights, means, at::ones({3, 3}), "g"), ShapeError,
                   "gaussian_mixture \"g\": sds has shape (3, 3), must be (K, d) or (K, 1) as "
                   "means has shape (3, 2)");
  EXPECT_THROW_MSG(uniform_box(at::zeros({2}), at::ones({3}), "b"), ShapeError,
                   "uniform_box \"b\": low has shape (2), high (3), must both be (d) with d >= 1");
}

TEST(AnalyticModel, RefusesBadNumbers) {
  const Tensor ones = at::ones({2}, at::kDouble);
  const Tensor column = at::ones({2, 1}, at::kDouble);
  const auto second = [](double value) { return at::tensor({1.0, value}, at::kDouble); };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW_MSG(gaussian_mixture(second(0.0), column, column, "g"), ConfigError,
                   "gaussian_mixture \"g\": entry 1 of weights = 0, must be finite and > 0");
  EXPECT_THROW_MSG(gaussian_mixture(ones, second(nan).view({2, 1}), column, "g"), ConfigError,
                   "gaussian_mixture \"g\": entry 1 of means = nan, must be finite");
  EXPECT_THROW_MSG(gaussian_mixture(ones, column, second(-0.5).view({2, 1}), "g"), ConfigError,
                   "gaussian_mixture \"g\": entry 1 of sds = -0.5, must be finite and > 0");
  EXPECT_THROW_MSG(uniform_box(second(nan), 2.0 * ones, "b"), ConfigError,
                   "uniform_box \"b\": entry 1 of low = nan, must be finite");
  EXPECT_THROW_MSG(uniform_box(ones, second(1.0) + at::tensor({1.0, 0.0}, at::kDouble), "b"),
                   ConfigError, "uniform_box \"b\": entry 1 of high = 1, must be finite and > low");
  EXPECT_THROW_MSG(ring(0), ConfigError, "ring: num_modes = 0, must be >= 1");
  EXPECT_THROW_MSG(ring(8, 0.5, 0.0), ConfigError,
                   "gaussian_mixture \"ring\": entry 0 of sds = 0, must be finite and > 0");
  EXPECT_THROW_MSG(bar(-0.2), ConfigError,
                   "uniform_box \"bar\": entry 0 of high = -0.2, must be finite and > low");
}

ModelPtr returning(const Eval& eval, bool is_exact = false) {
  return from_callable([eval](const Tensor&, const NoiseLevel&) { return eval; }, {2}, is_exact,
                       "f");
}

TEST(Callable, AScoreAloneIsAllRemainder) {
  const Tensor score = at::ones({4, 2});
  const Eval eval = returning({score, {}, {}})->evaluate(at::zeros({4, 2}), level_at(0.5));
  EXPECT_TRUE(eval.remainder.is_same(eval.score));
  EXPECT_FALSE(eval.log_density.defined());
}

TEST(Callable, CutsGraphsAndWidensLogDensities) {
  const Tensor score = at::ones({4, 2}).requires_grad_();
  const Tensor log_density = at::ones({4});
  const Eval eval =
      returning({score * 2, log_density, {}}, true)->evaluate(at::zeros({4, 2}), level_at(0.5));
  EXPECT_FALSE(eval.score.requires_grad());
  EXPECT_EQ(eval.log_density.scalar_type(), at::kDouble);
}

TEST(Callable, RefusesReturnsOfOtherShapes) {
  const Tensor x = at::zeros({4, 2});
  const NoiseLevel level = level_at(0.5);
  const Tensor score = at::zeros({4, 2});
  EXPECT_THROW_MSG(returning({score, {}, {}})->evaluate(at::zeros({4, 3}), level), ShapeError,
                   "model \"f\": x has shape (4, 3), must be (B, 2)");
  EXPECT_THROW_MSG(returning({})->evaluate(x, level), ShapeError,
                   "model \"f\": score is undefined, must have x's shape (4, 2)");
  EXPECT_THROW_MSG(returning({at::zeros({4, 3}), {}, {}})->evaluate(x, level), ShapeError,
                   "model \"f\": score has shape (4, 3), must have x's shape (4, 2)");
  EXPECT_THROW_MSG(returning({score.to(at::kDouble), {}, {}})->evaluate(x, level), ShapeError,
                   "model \"f\": score has dtype Double, must have x's dtype Float");
  EXPECT_THROW_MSG(returning({score, at::zeros({4, 1}), {}})->evaluate(x, level), ShapeError,
                   "model \"f\": log_density has shape (4, 1), must be (B) = (4)");
  EXPECT_THROW_MSG(returning({score, {}, at::zeros({2})})->evaluate(x, level), ShapeError,
                   "model \"f\": remainder has shape (2), must have x's shape (4, 2)");
}

TEST(Callable, RefusesABrokenPromiseOfExactness) {
  const std::string text =
      "model \"f\": is_exact is true, so log_density must be given and remainder left undefined; "
      "return them so, or say is_exact = false";
  const Tensor x = at::zeros({4, 2});
  EXPECT_THROW_MSG(returning({x, {}, {}}, true)->evaluate(x, level_at(0.5)), ConfigError, text);
  EXPECT_THROW_MSG(returning({x, at::zeros({4}), x}, true)->evaluate(x, level_at(0.5)), ConfigError,
                   text);
}

TEST(Callable, RefusesAnEmptyFunctionOrEvent) {
  EXPECT_THROW_MSG(from_callable({}, {2}, false, "f"), ConfigError,
                   "from_callable \"f\": function is empty, must be callable");
  EXPECT_THROW_MSG(
      from_callable([](const Tensor&, const NoiseLevel&) { return Eval{}; }, {2, 0}, false, "f"),
      ConfigError, "from_callable \"f\": event_shape is (2, 0), every size must be >= 1");
}

}  // namespace
}  // namespace motet
