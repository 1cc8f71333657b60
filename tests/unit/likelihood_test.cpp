// Likelihoods of noisy x: values against the formulas, and what their makers refuse.
#include "motet/likelihood.hpp"

#include <torch/types.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "motet/error.hpp"
#include "support/models.hpp"
#include "support/tensors.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

using testing::level_at;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

const Tensor kMatrix = rows({{1.0, -0.5, 0.3}, {0.2, 0.7, -1.1}});
const Tensor kObservation = at::tensor({0.4, -0.6}, at::kDouble);
const Tensor kNoise = at::tensor({0.3, 0.5}, at::kDouble);
const Tensor kPoints = rows({{0.1, -0.4, 0.7}, {-1.2, 0.3, 0.5}, {0.9, 2.0, -0.8}});
const Tensor kScore = rows({{0.3, 0.1, -0.9}, {1.1, -0.4, 0.2}, {-0.7, -1.5, 0.6}});
const NoiseLevel kLevel = level_at(0.6, 12);

LikelihoodConfig config_of(LikelihoodApproximation approximation, double prior_sd = 0.8) {
  return {.approximation = approximation, .prior_sd = prior_sd};
}

double v_of(const NoiseLevel& level) { return (1.0 - level.alpha_bar) / level.alpha_bar; }

// log N(y; A u, R + spread A A^T) by the dense formula.
Tensor dense_log_normal(const Tensor& matrix, const Tensor& y, const Tensor& noise_sd,
                        const Tensor& u, double spread) {
  const Tensor covariance = noise_sd.square().diag() + spread * matrix.matmul(matrix.t());
  const Tensor gap = y - u.matmul(matrix.t());
  const Tensor square = (gap.matmul(at::linalg_inv(covariance)) * gap).sum(1);
  const double m = static_cast<double>(matrix.size(0));
  return -0.5 * (square + at::logdet(covariance) + m * std::log(2.0 * std::numbers::pi));
}

Tensor clean(const NoiseLevel& level) {
  return (kPoints + (1.0 - level.alpha_bar) * kScore) / std::sqrt(level.alpha_bar);
}

void expect_near(const Tensor& a, const Tensor& b, double tolerance = 1e-12) {
  EXPECT_TRUE(at::allclose(a, b, tolerance, tolerance)) << a << b;
}

TEST(Measurement, FlatIsTheMeasurementOfNoisyPoints) {
  const auto seen =
      linear_gaussian(kMatrix, kObservation, kNoise, config_of(LikelihoodApproximation::flat), "y");
  expect_near(seen->evaluate(kPoints, kLevel, {}).log_likelihood,
              dense_log_normal(kMatrix, kObservation, kNoise, kPoints / std::sqrt(kLevel.alpha_bar),
                               v_of(kLevel)));
  EXPECT_EQ(seen->path(), LikelihoodPath::diffuses);
  EXPECT_TRUE(seen->is_gradient());
  EXPECT_EQ(seen->describe(), "y (flat)");
  EXPECT_EQ(seen->event_shape(), std::vector<int64_t>{3});
}

TEST(Measurement, DpsTakesTheMeanOfThePriorForTheData) {
  const auto seen =
      linear_gaussian(kMatrix, kObservation, kNoise, config_of(LikelihoodApproximation::dps), "y");
  expect_near(seen->evaluate(kPoints, kLevel, kScore).log_likelihood,
              dense_log_normal(kMatrix, kObservation, kNoise, clean(kLevel), 0.0));
  EXPECT_EQ(seen->path(), LikelihoodPath::given);
  EXPECT_FALSE(seen->is_gradient());
}

TEST(Measurement, TweedieWidensItByWhatThePriorLeavesOpen) {
  const auto seen = linear_gaussian(kMatrix, kObservation, kNoise,
                                    config_of(LikelihoodApproximation::tweedie), "y");
  const double v = v_of(kLevel);
  expect_near(
      seen->evaluate(kPoints, kLevel, kScore).log_likelihood,
      dense_log_normal(kMatrix, kObservation, kNoise, clean(kLevel), v * 0.64 / (v + 0.64)));
  EXPECT_EQ(seen->path(), LikelihoodPath::given);
  EXPECT_EQ(linear_gaussian(kMatrix, kObservation, kNoise)->describe(), "measurement (tweedie)");
}

TEST(Measurement, TakesMoreMeasurementsThanCoordinates) {
  const Tensor tall = rows({{1.0}, {0.5}, {-2.0}});
  const Tensor y = at::tensor({0.3, 0.1, -0.4}, at::kDouble);
  const Tensor noise = at::full({3}, 0.2, at::kDouble);
  const Tensor x = rows({{0.3}, {-1.0}});
  const auto seen = linear_gaussian(tall, y, noise, config_of(LikelihoodApproximation::flat));
  expect_near(seen->evaluate(x, kLevel, {}).log_likelihood,
              dense_log_normal(tall, y, noise, x / std::sqrt(kLevel.alpha_bar), v_of(kLevel)));
}

TEST(Measurement, MaskIsAMatrixOfUnitRows) {
  const Tensor matrix = rows({{0.0, 0.0, 1.0}, {1.0, 0.0, 0.0}});
  for (const auto approximation : {LikelihoodApproximation::flat, LikelihoodApproximation::dps,
                                   LikelihoodApproximation::tweedie}) {
    const auto whole = linear_gaussian(matrix, kObservation, kNoise, config_of(approximation));
    const auto mask = linear_gaussian({2, 0}, {3}, kObservation, kNoise, config_of(approximation));
    const auto expected = whole->evaluate(kPoints, kLevel, kScore);
    const auto found = mask->evaluate(kPoints, kLevel, kScore);
    expect_near(found.log_likelihood, expected.log_likelihood);
    expect_near(found.score, expected.score);
  }
}

TEST(Measurement, MaskCountsAnEventInRowMajorOrder) {
  const Tensor x = at::arange(12, at::kDouble).view({2, 2, 3});
  const auto mask = linear_gaussian({1, 5}, {2, 3}, kObservation, kNoise,
                                    config_of(LikelihoodApproximation::flat));
  const auto flat =
      linear_gaussian({1, 5}, {6}, kObservation, kNoise, config_of(LikelihoodApproximation::flat));
  const auto found = mask->evaluate(x, kLevel, {});
  const auto expected = flat->evaluate(x.flatten(1), kLevel, {});
  EXPECT_TRUE(at::equal(found.log_likelihood, expected.log_likelihood));
  EXPECT_TRUE(at::equal(found.score, expected.score.view({2, 2, 3})));
}

TEST(Measurement, RowsOfAnObservationBelongToChains) {
  const Tensor each = rows({{0.4, -0.6}, {0.0, 0.2}, {-1.0, 0.9}});
  const auto seen = linear_gaussian(kMatrix, each, at::tensor(0.3, at::kDouble));
  const auto all = seen->evaluate(kPoints, kLevel, kScore);
  for (int64_t i = 0; i < 3; ++i) {
    const auto one = linear_gaussian(kMatrix, each[i], at::tensor(0.3, at::kDouble));
    const auto value = one->evaluate(kPoints.narrow(0, i, 1), kLevel, kScore.narrow(0, i, 1));
    expect_near(value.log_likelihood, all.log_likelihood.narrow(0, i, 1));
    expect_near(value.score, all.score.narrow(0, i, 1));
  }
  EXPECT_THROW_MSG(seen->evaluate(kPoints.narrow(0, 0, 2), kLevel, kScore.narrow(0, 0, 2)),
                   ShapeError,
                   "likelihood \"measurement\": x has 2 chains, but observation has 3 rows, one "
                   "for each chain; give 3 chains, or one observation (m)");
}

TEST(Measurement, ComputesInFloat64WhateverTheDtype) {
  const auto seen = linear_gaussian(kMatrix, kObservation, kNoise);
  const Tensor x = kPoints.to(at::kFloat);
  const Tensor before = x.clone();
  const auto value = seen->evaluate(x, kLevel, kScore.to(at::kFloat));
  EXPECT_EQ(value.score.scalar_type(), at::kFloat);
  EXPECT_EQ(value.log_likelihood.scalar_type(), at::kDouble);
  expect_near(value.log_likelihood, seen->evaluate(kPoints, kLevel, kScore).log_likelihood, 1e-5);
  EXPECT_TRUE(at::equal(x, before));
}

TEST(Measurement, RefusesAPriorScoreUnlikeX) {
  const auto seen = linear_gaussian(kMatrix, kObservation, kNoise, {}, "y");
  EXPECT_THROW_MSG(seen->evaluate(kPoints, kLevel, {}), ShapeError,
                   "likelihood \"y\": prior_score is undefined, must have x's shape (3, 3)");
  EXPECT_THROW_MSG(seen->evaluate(kPoints, kLevel, at::zeros({3, 2}, at::kDouble)), ShapeError,
                   "likelihood \"y\": prior_score has shape (3, 2), must have x's shape (3, 3)");
  EXPECT_THROW_MSG(seen->evaluate(kPoints, kLevel, kScore.to(at::kFloat)), ShapeError,
                   "likelihood \"y\": prior_score has dtype float32, must have x's dtype float64");
  EXPECT_THROW_MSG(seen->evaluate(at::zeros({3, 2}, at::kDouble), kLevel, kScore), ShapeError,
                   "likelihood \"y\": x has shape (3, 2), must be (B, 3)");
}

TEST(Measurement, RefusesWhatDoesNotFitTogether) {
  const std::string as = " as matrix has shape (2, 3)";
  EXPECT_THROW_MSG(linear_gaussian(kObservation, kObservation, kNoise, {}, "y"), ShapeError,
                   "linear_gaussian \"y\": matrix has shape (2), must be (m, d) with m, d >= 1");
  EXPECT_THROW_MSG(linear_gaussian(kMatrix, at::zeros({3}), kNoise, {}, "y"), ShapeError,
                   "linear_gaussian \"y\": observation has shape (3), must be (m) or (B, m) with "
                   "m = 2" +
                       as);
  EXPECT_THROW_MSG(linear_gaussian(kMatrix, kObservation, at::ones({3}), {}, "y"), ShapeError,
                   "linear_gaussian \"y\": noise_sd has shape (3), must be one number, or (m) = "
                   "(2)" +
                       as);
  EXPECT_THROW_MSG(linear_gaussian({0, 2}, {3}, at::zeros({3}), kNoise, {}, "y"), ShapeError,
                   "linear_gaussian \"y\": observation has shape (3), must be (m) or (B, m) with "
                   "m = 2 as observed has 2 entries");
}

TEST(Measurement, RefusesBadEntries) {
  const Tensor bad = at::tensor({0.1, kNan}, at::kDouble);
  EXPECT_THROW_MSG(linear_gaussian(kMatrix * kInf, kObservation, kNoise, {}, "y"), ConfigError,
                   "linear_gaussian \"y\": entry 0 of matrix = inf, must be finite");
  EXPECT_THROW_MSG(linear_gaussian(kMatrix, bad, kNoise, {}, "y"), ConfigError,
                   "linear_gaussian \"y\": entry 1 of observation = nan, must be finite");
  EXPECT_THROW_MSG(linear_gaussian(kMatrix, kObservation, kNoise - 0.3, {}, "y"), ConfigError,
                   "linear_gaussian \"y\": entry 0 of noise_sd = 0, must be finite and > 0");
  for (const double prior_sd : {0.0, -1.0, kInf, kNan}) {
    std::ostringstream text;
    text << "linear_gaussian \"y\": prior_sd = " << prior_sd << ", must be finite and > 0";
    EXPECT_THROW_MSG(linear_gaussian(kMatrix, kObservation, kNoise,
                                     config_of(LikelihoodApproximation::dps, prior_sd), "y"),
                     ConfigError, text.str());
  }
}

TEST(Measurement, RefusesCoordinatesThatAreNotThere) {
  const auto mask = [](const std::vector<int64_t>& observed, std::vector<int64_t> shape) {
    return linear_gaussian(observed, std::move(shape), kObservation, kNoise, {}, "y");
  };
  EXPECT_THROW_MSG(mask({}, {3}), ConfigError,
                   "linear_gaussian \"y\": observed is empty, must name at least one coordinate");
  EXPECT_THROW_MSG(mask({0, 3}, {3}), ConfigError,
                   "linear_gaussian \"y\": entry 1 of observed = 3, must be in 0 .. 2");
  EXPECT_THROW_MSG(mask({-1, 0}, {3}), ConfigError,
                   "linear_gaussian \"y\": entry 0 of observed = -1, must be in 0 .. 2");
  EXPECT_THROW_MSG(mask({2, 2}, {3}), ConfigError,
                   "linear_gaussian \"y\": entry 1 of observed = 2 is there twice; name each "
                   "coordinate once");
  EXPECT_THROW_MSG(mask({0, 1}, {3, 0}), ConfigError,
                   "linear_gaussian \"y\": event_shape is (3, 0), every size must be >= 1");
}

TEST(Measurement, KnowsItsApproximationsByName) {
  for (const auto value : {LikelihoodApproximation::flat, LikelihoodApproximation::dps,
                           LikelihoodApproximation::tweedie}) {
    EXPECT_EQ(likelihood_approximation_from(to_string(value)), value);
  }
  EXPECT_THROW_MSG(likelihood_approximation_from("exact"), ConfigError,
                   "approximation = \"exact\" is not known; allowed: flat, dps, tweedie");
}

// -|x_0|^2 / 2, which a callable is asked for.
Likelihood::Value standard_normal(const Tensor& x_0) { return {-0.5 * x_0.square().sum(1), -x_0}; }

TEST(CallableLikelihood, IsTakenAtTheMeanOfThePrior) {
  const auto seen = likelihood_from_callable(standard_normal, {3}, "shrink", 0.8);
  const auto value = seen->evaluate(kPoints, kLevel, kScore);
  expect_near(value.log_likelihood, -0.5 * clean(kLevel).square().sum(1));
  const double whole = kLevel.alpha_bar * 0.64 + 1.0 - kLevel.alpha_bar;
  expect_near(value.score, -clean(kLevel) * (std::sqrt(kLevel.alpha_bar) * 0.64 / whole));
  EXPECT_EQ(seen->path(), LikelihoodPath::given);
  EXPECT_FALSE(seen->is_gradient());
  EXPECT_EQ(seen->describe(), "shrink");
}

TEST(CallableLikelihood, IsCheckedAtEveryCall) {
  const auto with = [](Likelihood::Value value) {
    return likelihood_from_callable([value](const Tensor&) { return value; }, {3}, "f");
  };
  const Tensor good = at::zeros({3}, at::kDouble);
  EXPECT_THROW_MSG(with({good, {}})->evaluate(kPoints, kLevel, kScore), ShapeError,
                   "likelihood \"f\": the gradient is undefined, must have x's shape (3, 3)");
  EXPECT_THROW_MSG(with({good, kScore.to(at::kFloat)})->evaluate(kPoints, kLevel, kScore),
                   ShapeError,
                   "likelihood \"f\": the gradient has dtype float32, must have x's dtype float64");
  EXPECT_THROW_MSG(with({{}, kScore})->evaluate(kPoints, kLevel, kScore), ShapeError,
                   "likelihood \"f\": log_likelihood is undefined, must be (B) = (3)");
  EXPECT_THROW_MSG(with({kScore, kScore})->evaluate(kPoints, kLevel, kScore), ShapeError,
                   "likelihood \"f\": log_likelihood has shape (3, 3), must be (B) = (3)");
}

TEST(CallableLikelihood, RefusesBadSettings) {
  EXPECT_THROW_MSG(likelihood_from_callable({}, {3}, "f"), ConfigError,
                   "likelihood_from_callable \"f\": function is empty, must be callable");
  EXPECT_THROW_MSG(likelihood_from_callable(standard_normal, {0}, "f"), ConfigError,
                   "likelihood_from_callable \"f\": event_shape is (0), every size must be >= 1");
  EXPECT_THROW_MSG(likelihood_from_callable(standard_normal, {3}, "f", 0.0), ConfigError,
                   "likelihood_from_callable \"f\": prior_sd = 0, must be finite and > 0");
}

const Tensor kLow = at::tensor({-0.5, 0.0, -kInf, -kInf}, at::kDouble);
const Tensor kHigh = at::tensor({1.5, kInf, 0.25, kInf}, at::kDouble);

double cdf(double t) { return 0.5 * std::erfc(-t / std::numbers::sqrt2); }

// log of the mass that N(u, radius^2) has in the box, coordinates independent.
double blurred(const Tensor& u, double radius) {
  const auto at = [&u](int64_t j) { return u[j].item<double>(); };
  return std::log(cdf((1.5 - at(0)) / radius) - cdf((-0.5 - at(0)) / radius)) +
         std::log(cdf(at(1) / radius)) + std::log(cdf((0.25 - at(2)) / radius));
}

TEST(RegionBox, IsBlurredAboveLevel0) {
  const Tensor x = rows({{0.2, 0.4, -0.3, 5.0}, {-0.9, -0.2, 0.6, -7.0}});
  const Tensor score = rows({{0.1, -0.4, 0.3, 1.0}, {0.9, -0.2, -0.5, 2.0}});
  const double root = std::sqrt(kLevel.alpha_bar);
  const double v = v_of(kLevel);
  const auto flat = region_box(kLow, kHigh, config_of(LikelihoodApproximation::flat));
  const auto tweedie = region_box(kLow, kHigh, config_of(LikelihoodApproximation::tweedie));
  for (int64_t i = 0; i < 2; ++i) {
    EXPECT_NEAR(flat->evaluate(x, kLevel, {}).log_likelihood[i].item<double>(),
                blurred(x[i] / root, std::sqrt(v)), 1e-12);
    EXPECT_NEAR(tweedie->evaluate(x, kLevel, score).log_likelihood[i].item<double>(),
                blurred((x[i] + (1.0 - kLevel.alpha_bar) * score[i]) / root,
                        std::sqrt(v * 0.64 / (v + 0.64))),
                1e-12);
  }
  EXPECT_TRUE(flat->is_gradient());
  EXPECT_FALSE(tweedie->is_gradient());
  EXPECT_EQ(flat->path(), LikelihoodPath::given);
  EXPECT_EQ(region_box(kLow, kHigh)->describe(), "box");
  EXPECT_EQ(flat->event_shape(), std::vector<int64_t>{4});
}

TEST(RegionBox, StaysFiniteFarOutside) {
  const auto box = region_box(kLow, kHigh);
  for (const double far : {-1e6, -40.0, 40.0, 1e6}) {
    const Tensor x = at::full({1, 4}, far, at::kDouble);
    const auto value = box->evaluate(x, kLevel, -x);
    EXPECT_TRUE(value.log_likelihood.isfinite().all().item<bool>()) << far;
    EXPECT_TRUE(value.score.isfinite().all().item<bool>()) << far;
  }
}

TEST(RegionBox, IsHardAtLevel0) {
  const auto box = region_box(kLow, kHigh);
  const NoiseLevel level = level_at(0.81, 0);  // x = 0.9 x_0
  const Tensor inside = at::tensor({1.35, 0.0, -3.0, 9.0}, at::kDouble);
  const Tensor x = at::stack({inside, inside - 1e-9, inside + 1e-9, inside * kNan});
  const auto value = box->evaluate(x, level, {});
  EXPECT_TRUE(at::equal(value.log_likelihood, at::tensor({0.0, -kInf, -kInf, -kInf}, at::kDouble)));
  EXPECT_TRUE(at::equal(value.score, at::zeros_like(x)));
  EXPECT_TRUE(at::equal(box->allows(x / 0.9), bools({1, 0, 0, 0})));
}

TEST(RegionBox, RefusesBadBounds) {
  const Tensor open = at::full({2}, kInf, at::kDouble);
  EXPECT_THROW_MSG(region_box(kLow, open), ShapeError,
                   "region_box \"box\": low has shape (4), high (2), must both be (d) with d >= 1");
  EXPECT_THROW_MSG(region_box(-open, open), ConfigError,
                   "region_box \"box\": no coordinate has a bound; give at least one, or leave it "
                   "out");
  EXPECT_THROW_MSG(region_box(kLow, kHigh, config_of(LikelihoodApproximation::dps)), ConfigError,
                   "region_box \"box\": approximation = \"dps\" would be hard at every level; use "
                   "\"tweedie\" or \"flat\"");
  EXPECT_THROW_MSG(region_box(kLow, kHigh, {.prior_sd = -1.0}), ConfigError,
                   "region_box \"box\": prior_sd = -1, must be finite and > 0");
  EXPECT_THROW_MSG(region_box(open, open), ConfigError,
                   "region_box \"box\": entry 0 of low = inf, must be finite or -inf");
  EXPECT_THROW_MSG(region_box(at::zeros({2}), at::tensor({1.0, 0.0})), ConfigError,
                   "region_box \"box\": entry 1 of high = 0, must be above low, or inf");
  EXPECT_THROW_MSG(region_box(at::zeros({1}), at::tensor({kNan})), ConfigError,
                   "region_box \"box\": entry 0 of high = nan, must be above low, or inf");
}

Tensor in_unit_ball(const Tensor& x_0) { return x_0.square().sum(1).le(1.0); }

TEST(CallableRegion, CutsAtLevel0Only) {
  const auto ball = region_from_callable(in_unit_ball, {2}, "ball");
  const Tensor x = rows({{0.5, 0.7}, {0.5, 0.8}});
  const NoiseLevel last = level_at(0.81, 0);
  const auto value = ball->evaluate(x, last, {});
  EXPECT_TRUE(at::equal(value.log_likelihood, at::tensor({0.0, -kInf}, at::kDouble)));
  EXPECT_TRUE(at::equal(value.score, at::zeros_like(x)));
  EXPECT_TRUE(at::equal(ball->evaluate(x, kLevel, {}).log_likelihood, at::zeros({2}, at::kDouble)));
  EXPECT_TRUE(at::equal(ball->allows(x / 0.9), bools({1, 0})));
  EXPECT_EQ(ball->path(), LikelihoodPath::given);
}

TEST(CallableRegion, RefusesBadSettingsAndAnswers) {
  EXPECT_THROW_MSG(region_from_callable({}, {2}, "ball"), ConfigError,
                   "region_from_callable \"ball\": inside is empty, must be callable");
  EXPECT_THROW_MSG(region_from_callable(in_unit_ball, {-1}, "ball"), ConfigError,
                   "region_from_callable \"ball\": event_shape is (-1), every size must be >= 1");
  const Tensor x = at::zeros({2, 2}, at::kDouble);
  const auto numbers = region_from_callable([](const Tensor& x_0) { return x_0; }, {2}, "ball");
  EXPECT_THROW_MSG(
      numbers->allows(x), ShapeError,
      "likelihood \"ball\": inside is float64 of shape (2, 2), must be bool (B) = (2)");
  const auto nothing = region_from_callable([](const Tensor&) { return Tensor(); }, {2}, "ball");
  EXPECT_THROW_MSG(nothing->evaluate(x, level_at(0.9, 0), {}), ShapeError,
                   "likelihood \"ball\": inside is undefined, must be bool (B) = (2)");
}

}  // namespace
}  // namespace motet
