// Laws of the metrics, their closed forms, and their messages.
#include "motet/metrics.hpp"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <vector>

#include "motet/error.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

Tensor points(std::vector<double> flat, int64_t dim) {
  return torch::tensor(flat, torch::kFloat64).reshape({-1, dim});
}

Tensor uniform_matrix(uint64_t seed, int64_t rows, int64_t columns) {
  Rng rng(seed);
  return rng.uniform_like(torch::empty({rows, columns}, torch::kFloat64));
}

Tensor normal_matrix(uint64_t seed, int64_t rows, int64_t columns) {
  Rng rng(seed);
  return rng.normal_like(torch::empty({rows, columns}, torch::kFloat64));
}

double cost_of(const Tensor& cost, const std::vector<int64_t>& columns) {
  double total = 0.0;
  for (size_t i = 0; i < columns.size(); ++i) {
    total += cost[static_cast<int64_t>(i)][columns[i]].item<double>();
  }
  return total;
}

bool is_permutation_of_range(std::vector<int64_t> columns) {
  std::sort(columns.begin(), columns.end());
  for (size_t i = 0; i < columns.size(); ++i) {
    if (columns[i] != static_cast<int64_t>(i)) {
      return false;
    }
  }
  return true;
}

// The least cost over all permutations.
double brute_force(const Tensor& cost) {
  const int64_t size = cost.size(0);
  const auto entry = cost.accessor<double, 2>();
  std::vector<int64_t> columns(static_cast<size_t>(size));
  std::iota(columns.begin(), columns.end(), int64_t{0});
  double least = std::numeric_limits<double>::infinity();
  do {
    double total = 0.0;
    for (int64_t i = 0; i < size; ++i) {
      total += entry[i][columns[static_cast<size_t>(i)]];
    }
    least = std::min(least, total);
  } while (std::next_permutation(columns.begin(), columns.end()));
  return least;
}

TEST(Assignment, IsExactForEverySmallSize) {
  for (int64_t size = 1; size <= 7; ++size) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      const Tensor cost = normal_matrix(seed, size, size);  // both signs
      const std::vector<int64_t> columns = assignment(cost);
      ASSERT_TRUE(is_permutation_of_range(columns));
      ASSERT_NEAR(cost_of(cost, columns), brute_force(cost), 1e-12) << size << " " << seed;
    }
  }
}

TEST(Assignment, IsExactWithManyTies) {
  for (const double levels : {1.0, 2.0, 3.0, 5.0}) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      const Tensor cost = (uniform_matrix(seed, 7, 7) * levels).floor();
      const std::vector<int64_t> columns = assignment(cost);
      ASSERT_TRUE(is_permutation_of_range(columns));
      ASSERT_EQ(cost_of(cost, columns), brute_force(cost)) << levels << " " << seed;
    }
  }
}

TEST(Assignment, IsExactForCostsOfWidelyDifferentSizes) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Tensor cost = (normal_matrix(seed, 7, 7) * 8.0).exp();
    const double least = brute_force(cost);
    ASSERT_NEAR(cost_of(cost, assignment(cost)), least, 1e-12 * least) << seed;
  }
}

// For c_ij = i j the best assignment is the opposite order (rearrangement inequality), and every
// search has to pass through many columns; a multiple of the lane width and its neighbours.
TEST(Assignment, FindsTheOppositeOrderForProductCosts) {
  for (const int64_t size : {31, 32, 33, 200}) {
    const Tensor steps = torch::arange(size, torch::kFloat64);
    const std::vector<int64_t> columns = assignment(steps.unsqueeze(1) * steps);
    for (int64_t i = 0; i < size; ++i) {
      ASSERT_EQ(columns[static_cast<size_t>(i)], size - 1 - i);
    }
  }
}

// Optimality does not change when a constant is added to a row or column.
TEST(Assignment, IgnoresOffsetsOfRowsAndColumns) {
  const Tensor cost = normal_matrix(5, 60, 60);
  const Tensor shifted = cost + 3.0 * normal_matrix(6, 60, 1) + 3.0 * normal_matrix(7, 1, 60);
  EXPECT_EQ(assignment(cost), assignment(shifted));
}

TEST(Assignment, RefusesWhatIsNotASquareOfFiniteCosts) {
  EXPECT_THROW_MSG(assignment(torch::zeros({3, 4}, torch::kFloat64)), ShapeError,
                   "assignment: cost has shape (3, 4), must be (N, N) with N >= 1: one row and one "
                   "column for each pair");
  EXPECT_THROW_MSG(assignment(torch::zeros({0, 0})), ShapeError,
                   "assignment: cost has shape (0, 0), must be (N, N) with N >= 1: one row and one "
                   "column for each pair");
  EXPECT_THROW_MSG(assignment(torch::zeros({2, 2}, torch::kInt64)), ShapeError,
                   "assignment: cost has dtype Long, must be a floating-point type");
  EXPECT_THROW_MSG(assignment(points({0.0, kNan, 1.0, 2.0}, 2)), NumericalError,
                   "assignment: 1 of 2 rows of cost hold a NaN or infinity; every entry must be "
                   "finite");
}

TEST(Assignment, RefusesMoreThan20000RowsBeforeAnyWork) {
  EXPECT_THROW_MSG(assignment(torch::zeros({1}).expand({20001, 20001})), ShapeError,
                   "assignment: 20001 points, must be <= 20000 (the costs take 8 N^2 bytes); use "
                   "w2_sliced or a subset");
}

TEST(W2, IsZeroForAShuffledCopyAndTheLengthOfAShift) {
  const Tensor x = normal_matrix(1, 300, 3);
  const Tensor shift = points({0.3, -0.4, 1.2}, 3);
  EXPECT_EQ(w2_assignment(x, x.flip(0)), 0.0);
  EXPECT_NEAR(w2_assignment(x, x.flip(0) + shift), 1.3, 1e-12);
}

TEST(W2, IsSymmetricAndObeysTheTriangleInequality) {
  const Tensor x = normal_matrix(1, 100, 2);
  const Tensor y = uniform_matrix(2, 100, 2);
  const Tensor z = normal_matrix(3, 100, 2) * 0.2 + 1.0;
  EXPECT_NEAR(w2_assignment(x, y), w2_assignment(y, x), 1e-13);
  EXPECT_LE(w2_assignment(x, z), w2_assignment(x, y) + w2_assignment(y, z));
}

TEST(W2, SortsPointsOnALine) {
  const Tensor x = normal_matrix(1, 257, 1);
  const Tensor y = uniform_matrix(2, 257, 1);
  const Tensor gap = std::get<0>(x.sort(0)) - std::get<0>(y.sort(0));
  EXPECT_NEAR(w2_assignment(x, y), gap.square().mean().sqrt().item<double>(), 1e-12);
}

TEST(W2, FoldingForgetsTheSignOfTheSecondCoordinateOnly) {
  const Tensor x = normal_matrix(1, 50, 2);
  const Tensor mirrored = x * points({1.0, -1.0}, 2);
  const Tensor turned = x * points({-1.0, 1.0}, 2);
  EXPECT_EQ(w2_folded(x, mirrored), 0.0);
  EXPECT_GT(w2_folded(x, turned), 0.05);
  EXPECT_GT(w2_assignment(x, mirrored), 0.05);
}

TEST(W2, SlicedIsTheDistanceItselfOnALine) {
  const Tensor x = normal_matrix(1, 64, 1);
  const Tensor y = uniform_matrix(2, 64, 1);
  Rng rng(4);
  EXPECT_NEAR(w2_sliced(x, y, 3, rng), w2_assignment(x, y), 1e-13);
}

// For a shift b of the same points, W2(u.x, u.y) = |u.b|, and E (u.b)^2 = |b|^2 / d.
TEST(W2, SlicedOfAShiftIsItsLengthOverTheRootOfTheDimension) {
  const Tensor x = normal_matrix(1, 40, 3);
  Rng rng(5);
  const double w2 = w2_sliced(x, x.flip(0) + points({0.3, -0.4, 1.2}, 3), 4000, rng);
  EXPECT_NEAR(w2, 1.3 / std::sqrt(3.0), 0.02);  // 4000 directions: 0.8 % standard error
}

TEST(W2, RefusesSetsOfDifferentShape) {
  const Tensor x = torch::zeros({3, 2});
  Rng rng(1);
  EXPECT_THROW_MSG(w2_assignment(x, torch::zeros({4, 2})), ShapeError,
                   "w2_assignment: x is (3, 2) and y is (4, 2), must have the same shape");
  EXPECT_THROW_MSG(w2_assignment(x, torch::zeros({3})), ShapeError,
                   "w2_assignment: y has shape (3,), must be (N, d) with N, d >= 1: one point a "
                   "row");
  EXPECT_THROW_MSG(w2_assignment(Tensor(), x), ShapeError,
                   "w2_assignment: x has shape undefined, must be (N, d) with N, d >= 1: one point "
                   "a row");
  EXPECT_THROW_MSG(w2_folded(torch::zeros({3, 1}), torch::zeros({3, 1})), ShapeError,
                   "w2_folded: points have 1 coordinate, must have >= 2: the second is folded");
  EXPECT_THROW_MSG(w2_sliced(x, x, 0, rng), ConfigError,
                   "w2_sliced: num_directions = 0, must be >= 1");
  EXPECT_THROW_MSG(w2_assignment(torch::zeros({20001, 1}), torch::zeros({20001, 1})), ShapeError,
                   "w2_assignment: 20001 points, must be <= 20000 (the costs take 8 N^2 bytes); "
                   "use w2_sliced or a subset");
}

TEST(Metrics, EachSaysHowManyRowsAreNotFinite) {
  const Tensor good = torch::zeros({4, 2}, torch::kFloat64);
  const Tensor bad = points({0.0, kNan, 1.0, 2.0, INFINITY, 0.0, 0.0, 0.0}, 2);
  const std::string rest = ": 2 of 4 rows of x hold a NaN or infinity; every entry must be finite";
  Rng rng(1);
  EXPECT_THROW_MSG(w2_assignment(bad, good), NumericalError, "w2_assignment" + rest);
  EXPECT_THROW_MSG(w2_folded(bad, good), NumericalError, "w2_folded" + rest);
  EXPECT_THROW_MSG(w2_sliced(bad, good, 3, rng), NumericalError, "w2_sliced" + rest);
  EXPECT_THROW_MSG(energy_distance(bad, good), NumericalError, "energy_distance" + rest);
  EXPECT_THROW_MSG(mmd_squared(bad, good), NumericalError, "mmd_squared" + rest);
  EXPECT_THROW_MSG(fit_gmm(bad, 2, rng), NumericalError, "fit_gmm" + rest);
  EXPECT_THROW_MSG(modes(bad, good, 0.1), NumericalError, "modes" + rest);
  EXPECT_THROW_MSG(log_likelihood(bad), NumericalError, "log_likelihood" + rest);
  EXPECT_THROW_MSG(product_metrics(bad, good, rng), NumericalError, "product_metrics" + rest);
  EXPECT_THROW_MSG(log_density_product_benchmark(bad), NumericalError,
                   "log_density_product_benchmark" + rest);
}

TEST(Metrics, LeaveTheirInputAsItWas) {
  const Tensor x = normal_matrix(1, 30, 2);
  const Tensor y = normal_matrix(2, 30, 2);
  const Tensor x_before = x.clone();
  const Tensor y_before = y.clone();
  Rng rng(1);
  product_metrics(x, y, rng);
  w2_sliced(x, y, 5, rng);
  EXPECT_TRUE(x.equal(x_before));
  EXPECT_TRUE(y.equal(y_before));
}

TEST(Energy, IsZeroForTheSameSetAndAClosedFormForTwoPoints) {
  const Tensor x = normal_matrix(1, 80, 3);
  EXPECT_NEAR(energy_distance(x, x.flip(0)), 0.0, 1e-13);
  EXPECT_NEAR(energy_distance(points({0.0, 0.0}, 2), points({3.0, 4.0}, 2)), 10.0, 1e-13);
}

TEST(Energy, AndMmdAreTheSameBitsForAnyNumberOfThreads) {
  const Tensor x = normal_matrix(1, 150, 2);
  const Tensor y = uniform_matrix(2, 190, 2);
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const double energy = energy_distance(x, y);
  const double mmd = mmd_squared(x, y);
  at::set_num_threads(3);
  EXPECT_EQ(energy_distance(x, y), energy);
  EXPECT_EQ(mmd_squared(x, y), mmd);
  at::set_num_threads(before);
}

// Unbiased: E k(X,X') + E k(Y,Y') - 2 E k(X,Y) for normals is a closed form in d = 1,
// E exp(-(Z m + sqrt(2) N)^2 / 2 b^2) = b / sqrt(b^2 + 2) exp(-m^2 / (2 (b^2 + 2))).
TEST(Mmd, HasTheClosedFormOfTwoNormals) {
  const Tensor x = normal_matrix(1, 3000, 1);
  const Tensor y = normal_matrix(2, 3000, 1) + 1.0;
  const double factor = 1.0 / std::sqrt(3.0);
  const double want = 2.0 * factor * (1.0 - std::exp(-1.0 / 6.0));
  EXPECT_NEAR(mmd_squared(x, y, 1.0), want, 0.02);  // standard error .007
}

TEST(Mmd, RefusesWhatHasNoValue) {
  const Tensor x = torch::zeros({3, 2});
  EXPECT_THROW_MSG(mmd_squared(x, x), NumericalError,
                   "mmd_squared: the median distance of the pooled sample is 0 (most points "
                   "coincide); give a bandwidth > 0");
  EXPECT_THROW_MSG(mmd_squared(x, torch::zeros({1, 2}), 1.0), ShapeError,
                   "mmd_squared: x is (3, 2) and y is (1, 2), both must have >= 2 rows");
  EXPECT_THROW_MSG(mmd_squared(x, torch::zeros({3, 1}), 1.0), ShapeError,
                   "mmd_squared: x is (3, 2) and y is (3, 1), must have as many columns");
  EXPECT_THROW_MSG(mmd_squared(x, x, kNan), ConfigError,
                   "mmd_squared: bandwidth is not finite, must be > 0, or 0 for the median");
}

TEST(Gmm, OfOneComponentIsTheMomentsOfTheSample) {
  const Tensor x = normal_matrix(1, 500, 3) * points({1.0, 0.1, 3.0}, 3) + 2.0;
  Rng rng(1);
  const GmmFit fit = fit_gmm(x, 1, rng);
  for (int64_t k = 0; k < 3; ++k) {
    const Tensor column = x.select(1, k);
    EXPECT_NEAR(fit.means[0][static_cast<size_t>(k)], column.mean().item<double>(), 1e-12);
    EXPECT_NEAR(fit.variances[0][static_cast<size_t>(k)], column.var(false).item<double>() + 1e-6,
                1e-12);
  }
  EXPECT_EQ(fit.weights, std::vector<double>{1.0});
}

// At a fixed point of EM with separate components each one has its own points' moments.
TEST(Gmm, SplitsSeparateClustersByTheirPoints) {
  const Tensor lower = normal_matrix(1, 300, 2) * 0.1 - 5.0;
  const Tensor upper = normal_matrix(2, 100, 2) * 0.2 + 5.0;
  Rng rng(1);
  const GmmFit fit = fit_gmm(torch::cat({lower, upper}), 2, rng);
  const size_t first = fit.means[0][0] < 0.0 ? 0 : 1;
  EXPECT_TRUE(fit.converged);
  EXPECT_NEAR(fit.weights[first], 0.75, 1e-12);
  EXPECT_NEAR(fit.means[first][1], lower.select(1, 1).mean().item<double>(), 1e-12);
  EXPECT_NEAR(fit.variances[1 - first][0], upper.select(1, 0).var(false).item<double>() + 1e-6,
              1e-12);
}

TEST(Gmm, MatchingUndoesTheOrderOfComponents) {
  const GmmFit a{.weights = {0.5, 0.5},
                 .means = {{0.0, -0.5}, {0.0, 0.5}},
                 .variances = {{1.0, 2.0}, {3.0, 4.0}}};
  const GmmFit b{.weights = {0.5, 0.5},
                 .means = {{0.01, 0.5}, {0.0, -0.51}},
                 .variances = {{3.0, 4.0}, {1.3, 2.4}}};
  EXPECT_NEAR(gmm_distance(a, b), 0.25, 1e-12);  // (|(.3, .4)| + 0) / 2
  EXPECT_NEAR(gmm_distance_unmatched(a, b), 0.5 * (std::hypot(2.0, 2.0) + std::hypot(1.7, 1.6)),
              1e-12);
}

TEST(Gmm, SurvivesPointsThatAllCoincide) {
  Rng rng(1);
  const GmmFit fit = fit_gmm(torch::full({10, 2}, 0.5), 2, rng);
  for (size_t c = 0; c < 2; ++c) {
    EXPECT_NEAR(fit.means[c][0], 0.5, 1e-9);
    EXPECT_NEAR(fit.variances[c][1], 1e-6, 1e-9);
  }
}

TEST(Gmm, RefusesWhatCannotBeFitted) {
  Rng rng(1);
  EXPECT_THROW_MSG(fit_gmm(torch::zeros({5, 2}), 0, rng), ConfigError,
                   "fit_gmm: num_components = 0, num_starts = 4, must both be >= 1");
  EXPECT_THROW_MSG(fit_gmm(torch::zeros({5, 2}), 2, rng, 0), ConfigError,
                   "fit_gmm: num_components = 2, num_starts = 0, must both be >= 1");
  EXPECT_THROW_MSG(fit_gmm(torch::zeros({1, 2}), 2, rng), ShapeError,
                   "fit_gmm: 1 points for 2 components, must be at least one point a component");
  EXPECT_THROW_MSG(gmm_distance(GmmFit{}, GmmFit{}), ShapeError,
                   "gmm_distance: fits of 0 components in 0 dimensions and 0 in 0, must be the "
                   "same and >= 1");
}

TEST(Modes, CountsThePointsWithinTheRadiusOfTheNearestCentre) {
  const Tensor x = points({0.0, 0.1, 0.0, -0.1, 0.0, 5.1, 9.0, 9.0}, 2);
  const ModeReport report = modes(x, points({0.0, 0.0, 0.0, 5.0, 7.0, 0.0}, 2), 0.5);
  EXPECT_THAT(report.mode_fractions, testing::ElementsAre(0.5, 0.25, 0.0));
  EXPECT_EQ(report.fraction_outside_modes, 0.25);
  EXPECT_NEAR(report.mode_sd[0][1], std::sqrt(0.02), 1e-15);
  EXPECT_EQ(report.mode_sd[0][0], 0.0);
  EXPECT_TRUE(std::isnan(report.mode_sd[1][0]));  // one point has no width
  EXPECT_THROW_MSG(modes(x, x, 0.0), ConfigError, "modes: radius = 0, must be > 0");
}

TEST(Benchmark, DensityIsNormalised) {
  // Midpoint rule on 4 cells a standard deviation: exact to rounding for the Gaussians; cells end
  // on the edges of the bar and of the box.
  const int64_t cells = 440;
  const Tensor axis = (torch::arange(cells, torch::kFloat64) + 0.5) * (2.2 / cells) - 1.1;
  const Tensor grid = torch::stack({axis.repeat_interleave(cells), axis.repeat({cells})}, 1);
  const double mass =
      log_density_product_benchmark(grid).exp().sum().item<double>() * std::pow(2.2 / cells, 2);
  EXPECT_NEAR(mass, 1.0, 1e-6);
}

TEST(Benchmark, PaperUnitsDifferByTwiceTheRingsLogNormaliser) {
  const Tensor x = normal_matrix(1, 100, 2) * 0.3;
  const LogLikelihood result = log_likelihood(x);
  const double normaliser = std::log(8.0 * 2.0 * std::numbers::pi * 0.03 * 0.03);
  EXPECT_NEAR(result.ll_paper - result.ll_true, 2.0 * normaliser, 1e-12);
  EXPECT_NEAR(result.ll_paper - result.ll_true, -6.192, 1e-3);
}

TEST(Benchmark, PointsOutsideTheSupportAreCountedAndLeftOutOfTheMeans) {
  const Tensor x = points({0.0, 0.5, 1.2, 0.0, 0.0, -1.1}, 2);
  const LogLikelihood all = log_likelihood(x);
  EXPECT_EQ(all.num_outside_support, 2);
  EXPECT_EQ(all.ll_true, log_likelihood(x.slice(0, 0, 1)).ll_true);
  const LogLikelihood none = log_likelihood(x.slice(0, 1));
  EXPECT_EQ(none.num_outside_support, 2);
  EXPECT_EQ(none.ll_true, -INFINITY);
  EXPECT_EQ(none.ll_paper, -INFINITY);
}

// E log p = -log 2 - log(2 pi sd^2) - 1 + log(share of Z inside the bar), to the ring's tails
// beyond the bar's edges (under 1e-9); the standard deviation of one point's value is 1.
TEST(Benchmark, ExactSamplesScoreTheNegativeEntropy) {
  Rng rng(2);
  const Tensor x = sample_product_benchmark(200000, rng);
  const double inner = 0.25 * 0.99 / 0.8;
  const double outer = 0.75 * 0.01 / (4.84 - 0.8);
  const double want = -std::log(2.0) - std::log(2.0 * std::numbers::pi * 0.0009) - 1.0 +
                      std::log(inner / (inner + outer));
  const LogLikelihood result = log_likelihood(x);
  EXPECT_NEAR(want, 3.476, 1e-3);
  EXPECT_NEAR(result.ll_true, want, 4.0 / std::sqrt(200000.0));
  EXPECT_EQ(result.num_outside_support, 0);
}

TEST(Benchmark, ExactSamplesHaveTheCutNormalsMoments) {
  Rng rng(3);
  const ProductBenchmark narrow{.num_modes = 4, .sd = 0.2, .half_width = 0.25};
  const Tensor x = sample_product_benchmark(200000, rng, narrow);
  // The modes at (+-.5, 0) reach the bar only with their tails, those at (0, +-.5) with their bulk.
  EXPECT_LT(x.select(1, 0).abs().max().item<double>(), 0.25);
  EXPECT_LT(x.select(1, 1).abs().max().item<double>(), 1.0);
  const Tensor density = log_density_product_benchmark(x, narrow);
  EXPECT_TRUE(density.isfinite().all().item<bool>());
  // Moments against the density itself, summed over a grid of the bar.
  const int64_t cells = 400;
  const Tensor axis = (torch::arange(cells, torch::kFloat64) + 0.5) * (2.0 / cells) - 1.0;
  const Tensor grid = torch::stack({0.25 * axis.repeat_interleave(cells), axis.repeat({cells})}, 1);
  Tensor weight = log_density_product_benchmark(grid, narrow).exp();
  weight = weight / weight.sum();
  for (int64_t k = 0; k < 2; ++k) {
    const Tensor square = grid.select(1, k).square();
    const double second = (weight * square).sum().item<double>();
    const double fourth = (weight * square * square).sum().item<double>();
    const double error = std::sqrt((fourth - second * second) / 200000.0);
    EXPECT_NEAR(x.select(1, k).square().mean().item<double>(), second, 4.0 * error + 1e-6);
    EXPECT_NEAR(x.select(1, k).mean().item<double>(), 0.0, 4.0 * std::sqrt(second / 200000.0));
  }
}

TEST(Benchmark, RowOfASampleBelongsToItsChain) {
  Rng rng(7);
  const Tensor all = sample_product_benchmark(50, rng);
  Rng later(7, 20);
  EXPECT_TRUE(sample_product_benchmark(10, later).equal(all.slice(0, 20, 30)));
  EXPECT_FALSE(sample_product_benchmark(50, rng).equal(all));  // rng has moved on
}

TEST(Benchmark, RefusesSizesThatMakeNoDensity) {
  Rng rng(1);
  const std::string where = "product benchmark: ";
  EXPECT_THROW_MSG(sample_product_benchmark(0, rng), ConfigError,
                   "sample_product_benchmark: num_samples = 0, must be >= 1");
  EXPECT_THROW_MSG(sample_product_benchmark(1, rng, {.num_modes = 0}), ConfigError,
                   where + "num_modes = 0, must be >= 1");
  EXPECT_THROW_MSG(sample_product_benchmark(1, rng, {.radius = -1.0}), ConfigError,
                   where + "radius = -1, must be >= 0 and finite");
  EXPECT_THROW_MSG(sample_product_benchmark(1, rng, {.sd = 0.0}), ConfigError,
                   where + "sd = 0, must be > 0 and finite");
  EXPECT_THROW_MSG(sample_product_benchmark(1, rng, {.half_width = -0.2}), ConfigError,
                   where + "half_width = -0.2, must be > 0 and finite");
  EXPECT_THROW_MSG(sample_product_benchmark(1, rng, {.half_height = kNan}), ConfigError,
                   where + "half_height = nan, must be > 0 and finite");
  EXPECT_THROW_MSG(
      sample_product_benchmark(1, rng, {.outer = 0.9}), ConfigError,
      where + "outer = 0.9, must be finite and larger than half_width and half_height");
  EXPECT_THROW_MSG(sample_product_benchmark(1, rng, {.prob_inside = 0.0}), ConfigError,
                   where + "prob_inside = 0, must be in (0, 1]");
  EXPECT_THROW_MSG(sample_product_benchmark(1, rng, {.num_modes = 1, .radius = 9.0}), ConfigError,
                   where + "radius = 9, must be such that the ring meets the bar");
  EXPECT_THROW_MSG(log_likelihood(torch::zeros({3, 1})), ShapeError,
                   "log_likelihood: x has shape (3, 1), must be (N, 2): the benchmark lives in the "
                   "plane");
}

// Two exact sets of 1000 points. Bounds: about five times what exact sets give at N = 2000 (w2
// .083 +- .036 from the modes' balance, folded .0045, gmm .00006), all of it sampling error that
// falls as N grows.
TEST(ProductMetrics, OfTwoExactSetsAreSmall) {
  Rng rng(11);
  const Tensor x = sample_product_benchmark(1000, rng);
  const Tensor reference = sample_product_benchmark(1000, rng);
  const ProductMetrics metrics = product_metrics(x, reference, rng);
  EXPECT_LT(metrics.w2, 0.35);
  EXPECT_LT(metrics.w2_folded, 0.012);
  EXPECT_GT(metrics.w2_folded, 0.002);
  EXPECT_LT(metrics.gmm, 4e-4);
  EXPECT_LT(metrics.energy_distance, 0.01);
  EXPECT_LT(std::abs(metrics.mmd_squared), 0.01);
  EXPECT_NEAR(metrics.log_likelihood.ll_true, 3.476, 5.0 / std::sqrt(1000.0));
  EXPECT_EQ(metrics.modes.fraction_outside_modes, 0.0);
  EXPECT_NEAR(metrics.modes.mode_fractions[0], 0.5, 5.0 * 0.5 / std::sqrt(1000.0));
  EXPECT_NEAR(metrics.modes.mode_sd[1][0], 0.03, 0.005);
  EXPECT_EQ(metrics.w2_paper, metrics.w2 * std::sqrt(500.0));
  EXPECT_EQ(metrics.num_pairwise, 1000);
}

TEST(ProductMetrics, SeeWhatIsWrong) {
  Rng rng(12);
  const Tensor reference = sample_product_benchmark(400, rng);
  const Tensor exact = sample_product_benchmark(400, rng);
  const Tensor wide = sample_product_benchmark(400, rng, {.sd = 0.06});
  Tensor lopsided = exact.clone();
  lopsided.select(1, 1).abs_();
  const ProductMetrics good = product_metrics(exact, reference, rng);
  const ProductMetrics too_wide = product_metrics(wide, reference, rng);
  const ProductMetrics one_mode = product_metrics(lopsided, reference, rng);
  EXPECT_LT(too_wide.log_likelihood.ll_true, good.log_likelihood.ll_true - 1.0);
  EXPECT_GT(too_wide.gmm, 10.0 * good.gmm);
  EXPECT_GT(too_wide.w2_folded, 2.0 * good.w2_folded);
  EXPECT_GT(one_mode.w2, 0.6);  // half the points move by 1
  EXPECT_NEAR(one_mode.w2_folded, good.w2_folded, 1e-15);
  EXPECT_NEAR(one_mode.log_likelihood.ll_true, good.log_likelihood.ll_true, 1e-9);
  EXPECT_EQ(one_mode.modes.mode_fractions[0], 1.0);
  EXPECT_GT(one_mode.energy_distance, 20.0 * good.energy_distance);
  EXPECT_GT(one_mode.mmd_squared, 0.1);
}

TEST(ProductMetrics, TakeEvenlySpacedRowsForMetricsOnPairs) {
  Rng rng(13);
  const Tensor x = sample_product_benchmark(300, rng);
  const Tensor reference = sample_product_benchmark(300, rng);
  const ProductMetrics metrics = product_metrics(x, reference, rng, {}, 100);
  const auto every_third = [](const Tensor& rows) { return rows.slice(0, 0, 300, 3); };
  EXPECT_EQ(metrics.num_pairwise, 100);
  EXPECT_EQ(metrics.w2, w2_assignment(every_third(x), every_third(reference)));
  EXPECT_EQ(metrics.w2_paper, metrics.w2 * std::sqrt(50.0));
  EXPECT_EQ(metrics.log_likelihood.ll_true, log_likelihood(x).ll_true);
}

TEST(ProductMetrics, RefuseSetsOfDifferentSizeAndASinglePoint) {
  Rng rng(1);
  const Tensor x = torch::zeros({3, 2});
  EXPECT_THROW_MSG(product_metrics(x, torch::zeros({4, 2}), rng), ShapeError,
                   "product_metrics: x is (3, 2), reference is (4, 2), max_pairwise = 4000, must "
                   "be equally many points, >= 2, and max_pairwise >= 2");
  EXPECT_THROW_MSG(product_metrics(x.slice(0, 0, 1), x.slice(0, 0, 1), rng), ShapeError,
                   "product_metrics: x is (1, 2), reference is (1, 2), max_pairwise = 4000, must "
                   "be equally many points, >= 2, and max_pairwise >= 2");
}

}  // namespace
}  // namespace motet
