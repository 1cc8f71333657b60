// Laws of the log ratio estimators: antisymmetry, polynomial exactness, orders, exact parts.
#include "motet/ratio.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "motet/compose.hpp"
#include "motet/error.hpp"
#include "motet/kernel.hpp"
#include "motet/rng.hpp"
#include "support/models.hpp"
#include "support/throw_message.hpp"

namespace motet::testing {
namespace {

Path path_through(const Target& target, const std::vector<Tensor>& points) {
  Path path;
  for (const Tensor& point : points) {
    path.points.push_back(point);
    path.evals.push_back(target.evaluate(point));
  }
  return path;
}

Path reversed(const Path& path) {
  return {{path.points.rbegin(), path.points.rend()}, {path.evals.rbegin(), path.evals.rend()}};
}

double max_abs(const Tensor& values) { return values.abs().max().item<double>(); }

struct Segments {
  Tensor start;
  Tensor direction;
};

Segments random_segments(int64_t num_chains, int64_t d) {
  Rng rng(31);
  const Tensor start = rng.normal_like(at::empty({num_chains, d}, at::kDouble));
  return {start, rng.normal_like(start)};
}

// A bent path of num_points points with random steps.
std::vector<Tensor> random_points(int64_t num_points, int64_t d) {
  const Segments segments = random_segments(100, d);
  std::vector<Tensor> points = {segments.start};
  Rng rng(32);
  for (int64_t i = 1; i < num_points; ++i) {
    points.push_back(points.back() + 0.3 * rng.normal_like(segments.start));
  }
  return points;
}

std::vector<LogRatioPtr> quadratures() {
  std::vector<LogRatioPtr> ratios = {curve_ratio(), curve_ratio(CurveRule::polynomial)};
  for (const int64_t num_points : {2, 3, 4, 10}) {
    ratios.push_back(line_ratio(num_points));
  }
  for (const int64_t num_points : {3, 5, 9}) {
    ratios.push_back(line_ratio(num_points, LineRule::simpson));
  }
  for (const int64_t num_points : {2, 3, 4, 5, 8}) {
    ratios.push_back(line_ratio(num_points, LineRule::gauss_lobatto));
  }
  return ratios;
}

void expect_antisymmetric(const LogRatio& ratio, const ModelPtr& model, int64_t num_points) {
  const Target target(model, level_at(0.8));
  const Path path = path_through(target, random_points(num_points, model->event_shape()[0]));
  const Tensor forth = ratio.estimate(target, path);
  const Tensor back = ratio.estimate(target, reversed(path));
  EXPECT_GT(max_abs(forth), 0.1);
  EXPECT_LT(max_abs(forth + back), 1e-12) << ratio.describe() << " on " << model->describe();
}

TEST(RatioLaw, ChangesItsSignWithThePath) {
  const ModelPtr mixed = product({{skewed_mixture()}, {rotating_gaussian(2, 2.0), 0.7}});
  for (const LogRatioPtr& ratio : quadratures()) {
    for (const int64_t num_points : {2, 4}) {
      expect_antisymmetric(*ratio, rotating_gaussian(2, 3.0), num_points);
      expect_antisymmetric(*ratio, score_only(uneven_mixture(50, 4)), num_points);
      expect_antisymmetric(*ratio, mixed, num_points);
    }
  }
  expect_antisymmetric(*exact_ratio(), skewed_mixture(), 4);
}

// int_0^1 of a polynomial integrand of degree `power` along random segments.
double polynomial_error(const LogRatio& ratio, int64_t power) {
  const Segments segments = random_segments(200, 2);
  const std::vector<Tensor> points = {segments.start, segments.start + segments.direction};
  const Target scores(power_score(2, power, /*is_exact=*/false), level_at(0.5));
  const Target densities(power_score(2, power, /*is_exact=*/true), level_at(0.5));
  const Tensor estimate = ratio.estimate(scores, path_through(scores, points));
  const Tensor exact = exact_ratio()->estimate(densities, path_through(densities, points));
  return ((estimate - exact).abs() / (1.0 + exact.abs())).max().item<double>();
}

void expect_degree(const LogRatioPtr& ratio, int64_t degree) {
  for (int64_t power = 0; power <= degree; ++power) {
    EXPECT_LT(polynomial_error(*ratio, power), 1e-11) << ratio->describe() << ", power " << power;
  }
  EXPECT_GT(polynomial_error(*ratio, degree + 1), 1e-6) << ratio->describe();
}

TEST(RatioLaw, RulesAreExactToTheirDegreeAndNoFurther) {
  for (const int64_t num_points : {2, 3, 10}) {
    expect_degree(line_ratio(num_points), 1);
  }
  expect_degree(curve_ratio(), 1);
  expect_degree(line_ratio(3, LineRule::simpson), 3);
  expect_degree(line_ratio(5, LineRule::simpson), 3);
  for (const int64_t num_points : {2, 3, 4, 5, 6}) {
    expect_degree(line_ratio(num_points, LineRule::gauss_lobatto), 2 * num_points - 3);
  }
}

// Error of a line rule on segments of `length` times the random directions.
double line_error(const LogRatio& ratio, double length) {
  const AnalyticPtr law = skewed_mixture();
  const Segments segments = random_segments(400, 2);
  const std::vector<Tensor> points = {segments.start, segments.start + length * segments.direction};
  const Target scores(score_only(law), level_at(0.8));
  const Target densities(law, level_at(0.8));
  return (ratio.estimate(scores, path_through(scores, points)) -
          exact_ratio()->estimate(densities, path_through(densities, points)))
      .abs()
      .mean()
      .item<double>();
}

void expect_order_in_length(const LogRatioPtr& ratio, double order, double length) {
  const double measured = std::log2(line_error(*ratio, length) / line_error(*ratio, 0.5 * length));
  // Orders of symmetric rules are odd: half a unit tells neighbours apart.
  EXPECT_NEAR(measured, order, 0.5) << ratio->describe();
}

TEST(RatioLaw, LineErrorsFallWithTheLengthAtTheirOrder) {
  expect_order_in_length(line_ratio(2), 3.0, 0.05);
  expect_order_in_length(line_ratio(3), 3.0, 0.1);
  expect_order_in_length(line_ratio(10), 3.0, 0.1);
  expect_order_in_length(line_ratio(3, LineRule::simpson), 5.0, 0.1);
  expect_order_in_length(line_ratio(5, LineRule::simpson), 5.0, 0.1);
  expect_order_in_length(line_ratio(3, LineRule::gauss_lobatto), 5.0, 0.1);
  expect_order_in_length(line_ratio(4, LineRule::gauss_lobatto), 7.0, 0.2);
  expect_order_in_length(line_ratio(5, LineRule::gauss_lobatto), 9.0, 0.25);
}

TEST(RatioLaw, LineErrorsFallWithThePointsAtTheirOrder) {
  const auto order = [](LineRule rule) {
    return std::log2(line_error(*line_ratio(17, rule), 0.5) /
                     line_error(*line_ratio(33, rule), 0.5));
  };
  EXPECT_NEAR(order(LineRule::trapezoid), 2.0, 0.05);
  EXPECT_NEAR(order(LineRule::simpson), 4.0, 0.05);
}

// Weight of score i and position j in the polynomial rule on a path of `size` points.
double curve_weight(size_t size, size_t i, size_t j) {
  Path path;
  for (size_t k = 0; k < size; ++k) {
    const Tensor score = at::full({1, 1}, k == i ? 1.0 : 0.0, at::kDouble);
    path.points.push_back(at::full({1, 1}, k == j ? 1.0 : 0.0, at::kDouble));
    path.evals.push_back({score, {}, score});
  }
  const Target target(score_only(gaussian({0.0}, {1.0})), level_at(0.8));
  return curve_ratio(CurveRule::polynomial)->estimate(target, path).item<double>();
}

// Error of a curve rule over leapfrogs of size h.
double curve_error(double step_size, int64_t num_leapfrog, const LogRatioPtr& rule) {
  const AnalyticPtr law = skewed_mixture();
  const Segments segments = random_segments(400, 2);
  const HmcConfig config{.num_leapfrog = num_leapfrog, .damping = 1.0};
  const auto log_accept = [&](const ModelPtr& model, const LogRatioPtr& ratio) {
    const Target target(model, level_at(0.8));
    Rng rng(1);
    const ChainState start{segments.start, target.evaluate(segments.start), segments.direction};
    return Hmc(config, ratio).step(target, start, step_size, rng).info.log_accept;
  };
  return (log_accept(score_only(law), rule) - log_accept(law, exact_ratio()))
      .abs()
      .mean()
      .item<double>();
}

TEST(RatioLaw, CurveErrorFallsAtOrderThree) {
  const auto error = [](double h) { return curve_error(h, 3, curve_ratio()); };
  EXPECT_NEAR(std::log2(error(0.02) / error(0.01)), 3.0, 0.1);
}

// Order in the step size of the polynomial rule, by its number of leapfrogs.
double polynomial_curve_order(int64_t num_leapfrog, double step_size) {
  const auto error = [num_leapfrog](double h) {
    return curve_error(h, num_leapfrog, curve_ratio(CurveRule::polynomial));
  };
  return std::log2(error(step_size) / error(0.5 * step_size));
}

TEST(RatioLaw, PolynomialCurveErrorsFallAtOrdersFiveAndSeven) {
  EXPECT_NEAR(polynomial_curve_order(1, 0.02), 3.0, 0.2);
  EXPECT_NEAR(polynomial_curve_order(2, 0.04), 5.0, 0.3);
  EXPECT_NEAR(polynomial_curve_order(3, 0.04), 5.0, 0.3);
  EXPECT_NEAR(polynomial_curve_order(4, 0.08), 7.0, 0.5);
  EXPECT_NEAR(polynomial_curve_order(5, 0.08), 7.0, 0.5);
  EXPECT_NEAR(polynomial_curve_order(6, 0.04), 5.0, 0.3);   // windows of 3
  EXPECT_NEAR(polynomial_curve_order(10, 0.04), 7.0, 0.5);  // windows of 5
}

// Where position and score are polynomials in time of at most the window's degree, the rule is
// exact: x_j = p(j) and s = x under an isotropic Gaussian, whose log density is known.
TEST(RatioLaw, PolynomialCurveIsExactOnPolynomialPaths) {
  const AnalyticPtr law = gaussian({0.2, -0.3}, {0.6, 1.1});
  const Target scores(score_only(law), level_at(0.8));
  const Target densities(law, level_at(0.8));
  const auto points = [](int64_t num_segments, int64_t degree) {
    std::vector<Tensor> list;
    for (int64_t j = 0; j <= num_segments; ++j) {
      Rng rng(5);
      const double t = static_cast<double>(j) / static_cast<double>(num_segments);
      Tensor x = rng.normal_like(at::empty({50, 2}, at::kDouble));
      for (int64_t k = 1; k <= degree; ++k) {
        x = x + std::pow(t, static_cast<double>(k)) * rng.normal_like(x);
      }
      list.push_back(x);
    }
    return list;
  };
  for (int64_t num_segments = 1; num_segments <= 12; ++num_segments) {
    const int64_t degree = num_segments <= 5 ? num_segments : 2;  // windows have at least 2
    const auto list = points(num_segments, degree);
    const Tensor estimate =
        curve_ratio(CurveRule::polynomial)->estimate(scores, path_through(scores, list));
    const Tensor exact = exact_ratio()->estimate(densities, path_through(densities, list));
    EXPECT_LT(max_abs(estimate - exact), 1e-11) << num_segments << " segments";
  }
}

// The published matrices (method.md 5.2), read off on paths whose single score or position is 1.
TEST(RatioLaw, PolynomialCurveWeightsAreTheClosedForms) {
  const std::vector<std::pair<double, std::vector<std::vector<double>>>> published = {
      {2.0, {{-1, 1}, {-1, 1}}},
      {6.0, {{-3, 4, -1}, {-4, 0, 4}, {1, -4, 3}}},
      {80.0, {{-40, 57, -24, 7}, {-57, 0, 81, -24}, {24, -81, 0, 57}, {-7, 24, -57, 40}}},
      {1890.0,
       {{-945, 1472, -804, 384, -107},
        {-1472, 0, 2112, -1024, 384},
        {804, -2112, 0, 2112, -804},
        {-384, 1024, -2112, 0, 1472},
        {107, -384, 804, -1472, 945}}}};
  for (const auto& [scale, matrix] : published) {
    const size_t size = matrix.size();
    for (size_t i = 0; i < size; ++i) {
      for (size_t j = 0; j < size; ++j) {
        EXPECT_NEAR(curve_weight(size, i, j), matrix[i][j] / scale, 1e-13) << i << ", " << j;
      }
    }
  }
}

// W[L-i][L-j] = -W[i][j], rows sum to 0, W + W^T = diag(-1, 0, .., 0, 1): for every L, windows
// included.
TEST(RatioLaw, PolynomialCurveWeightsHaveTheirThreeIdentities) {
  for (size_t size = 2; size <= 13; ++size) {
    for (size_t i = 0; i < size; ++i) {
      double row = 0.0;
      for (size_t j = 0; j < size; ++j) {
        const double weight = curve_weight(size, i, j);
        row += weight;
        EXPECT_NEAR(curve_weight(size, size - 1 - i, size - 1 - j), -weight, 1e-13);
        const double end = i != j ? 0.0 : i == 0 ? -1.0 : i == size - 1 ? 1.0 : 0.0;
        EXPECT_NEAR(weight + curve_weight(size, j, i), end, 1e-13) << size << i << j;
      }
      EXPECT_NEAR(row, 0.0, 1e-13);
    }
  }
}

// The guard refuses a path and its reverse alike, and leaves the others as they are.
TEST(RatioLaw, GuardRefusesBothDirectionsOrNeither) {
  const Target target(score_only(skewed_mixture()), level_at(0.8));
  std::vector<Tensor> points = random_points(4, 2);
  const Path path = path_through(target, points);
  const Path reversed = path_through(target, {points.rbegin(), points.rend()});
  const Tensor plain = curve_ratio(CurveRule::polynomial)->estimate(target, path);
  const Tensor apart = (plain - curve_ratio()->estimate(target, path)).abs();
  const double guard = apart.median().item<double>() * (1.0 + 1e-9);
  const LogRatioPtr guarded = curve_ratio(CurveRule::polynomial, guard);
  const Tensor there = guarded->estimate(target, path);
  const Tensor back = guarded->estimate(target, reversed);
  const Tensor refused = apart > guard;
  EXPECT_TRUE(at::equal(there.isinf(), refused));
  EXPECT_TRUE(at::equal(back.isinf(), refused));
  const Tensor kept = refused.logical_not();
  EXPECT_TRUE(at::equal(there.masked_select(kept), plain.masked_select(kept)));
  EXPECT_LT(max_abs(there.masked_select(kept) + back.masked_select(kept)), 1e-10);
}

TEST(RatioLaw, GuardNeedsTheTwoRules) {
  EXPECT_THROW_MSG(curve_ratio(CurveRule::trapezoid, 1.0), ConfigError,
                   "ratio: curve_ratio(trapezoid, guard = 1): the guard compares the polynomial "
                   "with the trapezoid; use polynomial");
  EXPECT_THROW_MSG(curve_ratio(CurveRule::polynomial, -1.0), ConfigError,
                   "ratio: curve_ratio(guard = -1): must be >= 0 and finite");
}

// Both rules of a pair from the same points; a guard refuses the better one only.
TEST(RatioLaw, ThePairIsThePolynomialAndTheTrapezoid) {
  const Target target(score_only(skewed_mixture()), level_at(0.9));
  const Path path = path_through(target, random_points(4, 2));
  const Tensor trapezoid = curve_ratio()->estimate(target, path);
  for (const double guard : {0.0, 0.1}) {
    const LogRatioPtr ratio = curve_ratio(CurveRule::polynomial, guard);
    const RatioPair pair = ratio->estimate_pair(target, path);
    EXPECT_TRUE(at::equal(pair.estimate, ratio->estimate(target, path))) << guard;
    EXPECT_LT(max_abs(pair.lower_order - trapezoid), 1e-14) << guard;
  }
  const auto has_pair = [](const LogRatioPtr& ratio, const ModelPtr& model, int64_t num_points) {
    const Target any(model, level_at(0.9));
    return ratio->estimate_pair(any, path_through(any, random_points(num_points, 2)))
        .lower_order.defined();
  };
  const LogRatioPtr polynomial = curve_ratio(CurveRule::polynomial);
  EXPECT_FALSE(has_pair(polynomial, score_only(skewed_mixture()), 2));  // the rules are one
  EXPECT_FALSE(has_pair(polynomial, skewed_mixture(), 4));              // nothing is integrated
  EXPECT_FALSE(has_pair(curve_ratio(), score_only(skewed_mixture()), 4));
  EXPECT_FALSE(has_pair(line_ratio(3), score_only(skewed_mixture()), 4));
}

TEST(RatioLaw, CurveThroughTwoPointsIsTheTwoPointLine) {
  const Target target(rotating_gaussian(3, 1.5), level_at(0.8));
  const Path path = path_through(target, random_points(2, 3));
  EXPECT_LT(max_abs(curve_ratio()->estimate(target, path) - line_ratio(2)->estimate(target, path)),
            1e-13);
}

TEST(RatioLaw, KnownDensitiesEnterByDifferenceAndTheRestByQuadrature) {
  const AnalyticPtr known = skewed_mixture();
  const ModelPtr hidden = score_only(gaussian({0.1, 0.4}, {0.5, 0.8}));
  const Target target(product({{known, 1.5}, {hidden, -0.3}}), level_at(0.8));
  const Target known_target(known, level_at(0.8));
  const Target hidden_target(hidden, level_at(0.8));
  const std::vector<Tensor> points = random_points(2, 2);
  for (const LogRatioPtr& ratio : quadratures()) {
    const Tensor expected =
        1.5 * exact_ratio()->estimate(known_target, path_through(known_target, points)) -
        0.3 * ratio->estimate(hidden_target, path_through(hidden_target, points));
    const Tensor estimate = ratio->estimate(target, path_through(target, points));
    EXPECT_LT(max_abs(estimate - expected), 1e-12) << ratio->describe();
  }
}

}  // namespace
}  // namespace motet::testing
