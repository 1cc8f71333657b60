// The laws of the plane and mixtures of boxes: masses, samples against densities, the data sets of
// their names, messages.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <limits>
#include <map>
#include <numbers>

#include "motet/error.hpp"
#include "motet/model.hpp"
#include "motet/train.hpp"
#include "support/models.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

using testing::level_at;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kHalf = 1.25;
constexpr int64_t kNumCells =
    10;                         // a side of the square |x|, |y| < kHalf; cells end where squares do
constexpr int64_t kNodes = 10;  // a side of a cell

// Midpoints of a grid of num_nodes^2 over the square, x outer.
Tensor grid(int64_t num_nodes) {
  const double width = 2.0 * kHalf / static_cast<double>(num_nodes);
  const Tensor axis = (at::arange(num_nodes, at::kDouble) + 0.5) * width - kHalf;
  return at::cartesian_prod({axis, axis});
}

double area(int64_t num_nodes) {
  return 4.0 * kHalf * kHalf / static_cast<double>(num_nodes * num_nodes);
}

// (kNumCells^2): what the density gives each cell.
Tensor cell_masses(const Tensor& log_density) {
  const Tensor mass = log_density.exp() * area(kNumCells * kNodes);
  return mass.view({kNumCells, kNodes, kNumCells, kNodes}).sum({1, 3}).flatten();
}

// (kNumCells^2): how many points each cell has.
Tensor cell_counts(const Tensor& points) {
  const Tensor cell = ((points + kHalf) / (2.0 * kHalf) * static_cast<double>(kNumCells)).floor();
  const Tensor inside = cell.ge(0).logical_and_(cell.lt(kNumCells)).all(1);
  const Tensor index = (cell.select(1, 0) * kNumCells + cell.select(1, 1)).to(at::kLong);
  return at::bincount(index.masked_select(inside), {}, kNumCells * kNumCells).to(at::kDouble);
}

// Sum over cells of (count - N mass)^2 / (N mass), those of fewer than 5 expected points as one; as
// a number of standard deviations of its law above the mean.
double chi_square_z(const Tensor& points, const Tensor& masses) {
  const Tensor expected = masses * static_cast<double>(points.size(0));
  const Tensor counts = cell_counts(points);
  const Tensor many = expected.ge(5.0);
  const auto term = [](const Tensor& count, const Tensor& mean) {
    return ((count - mean).square() / mean).sum().item<double>();
  };
  double sum = term(counts.masked_select(many), expected.masked_select(many));
  const Tensor few = many.logical_not();
  sum += (counts - expected).masked_select(few).sum().square().item<double>() /
         (expected.masked_select(few).sum().item<double>() + 1.0);
  const auto num_terms = static_cast<double>(many.sum().item<int64_t>());
  return (sum - num_terms) / std::sqrt(2.0 * num_terms);
}

// Of the law's data, found once.
const Tensor& data_masses(const AnalyticModel& law) {
  static std::map<std::string, Tensor> known;
  const auto [place, is_new] = known.try_emplace(law.describe());
  if (is_new) {
    place->second = cell_masses(law.log_density_data(grid(kNumCells * kNodes)));
  }
  return place->second;
}

std::vector<AnalyticPtr> plane_laws() { return {checkerboard(), moons(), spirals()}; }

TEST(PlaneLaws, DataDensitiesIntegrateToOneWithinTheSquare) {
  for (const AnalyticPtr& law : plane_laws()) {
    EXPECT_NEAR(data_masses(*law).sum().item<double>(), 1.0, 1e-6) << law->describe();
  }
}

TEST(PlaneLaws, SamplesFollowTheDataDensity) {
  for (const AnalyticPtr& law : plane_laws()) {
    Rng rng(6);
    EXPECT_LT(chi_square_z(law->sample_data(40000, rng), data_masses(*law)), 4.5)
        << law->describe();
  }
}

TEST(PlaneLaws, SamplesOfALevelFollowItsDensity) {
  const NoiseLevel level = level_at(0.97);
  for (const AnalyticPtr& law : plane_laws()) {
    Rng rng(7);
    const Tensor masses = cell_masses(law->evaluate(grid(kNumCells * kNodes), level).log_density);
    EXPECT_LT(chi_square_z(law->sample_level(40000, level, rng), masses), 4.5) << law->describe();
  }
}

TEST(PlaneLaws, TheCheckOfSamplesTellsNeighboursApart) {
  Rng rng(6);
  const Tensor points = spirals()->sample_level(40000, level_at(0.99), rng);
  EXPECT_GT(chi_square_z(points, data_masses(*spirals())), 20.0);
}

TEST(PlaneLaws, AreTheLawsOfTheDataSetsOfTheirNames) {
  for (const AnalyticPtr& law : plane_laws()) {
    Rng rng = Rng(5).split("data").at(0, 0);
    const Tensor points = builtin_data(law->describe())->sample(40000, rng);
    EXPECT_LT(chi_square_z(points, data_masses(*law)), 4.5) << law->describe();
  }
}

// The moons with 8 times as many Gaussians: their angle as good as uniform.
AnalyticPtr fine_moons() {
  constexpr int64_t kNumNodes = 1024;
  const Tensor angle = (at::arange(kNumNodes, at::kDouble) + 0.5) * (std::numbers::pi / kNumNodes);
  const Tensor first = at::stack({angle.cos(), angle.sin()}, 1);
  const Tensor second = at::stack({1.0 - angle.cos(), 0.5 - angle.sin()}, 1);
  const Tensor means = (at::cat({first, second}) - at::tensor({0.5, 0.25}, at::kDouble)) / 1.5;
  return gaussian_mixture(at::ones({2 * kNumNodes}), means,
                          at::full({2 * kNumNodes, 1}, 0.05 / 1.5, at::kDouble), "fine moons");
}

TEST(PlaneLaws, MoonsAreAsCloseToAUniformAngleAsDocumented) {
  constexpr int64_t kNumNodes = 70;
  double variation = 0.0;
  double divergence = 0.0;
  for (const Tensor& points : grid(kNumNodes).split(350)) {
    const Tensor log_fine = fine_moons()->log_density_data(points);
    const Tensor log_density = moons()->log_density_data(points);
    const Tensor fine = log_fine.exp();
    variation += 0.5 * (log_density.exp() - fine).abs().sum().item<double>();
    divergence += (fine * (log_fine - log_density)).sum().item<double>();
  }
  EXPECT_NEAR(area(kNumNodes) * variation, 1.3e-4, 0.15e-4);
  EXPECT_NEAR(area(kNumNodes) * divergence, 1.8e-6, 0.2e-6);
}

TEST(PlaneLaws, CheckerboardIsEvenOnItsDarkSquares) {
  const Tensor points =
      at::tensor({-0.9, -0.6, 0.6, 0.9, -0.6, 0.1, -0.9, -0.1, 1.1, 0.6}, at::kDouble).view({5, 2});
  const Tensor log_density = checkerboard()->log_density_data(points);
  const Tensor expected =
      at::tensor({-std::log(2.0), -std::log(2.0), -std::log(2.0), -kInf, -kInf}, at::kDouble);
  EXPECT_TRUE(at::allclose(log_density, expected, 0.0, 1e-14)) << log_density;
}

TEST(PlaneLaws, SpiralsAreTwoArmsThroughEachOther) {
  Rng rng(8);
  const Tensor x = rng.normal_like(at::empty({50, 2}, at::kDouble));
  const NoiseLevel level = level_at(0.99);
  EXPECT_TRUE(at::allclose(spirals()->evaluate(x, level).log_density,
                           spirals()->evaluate(-x, level).log_density, 1e-12));
  const Tensor radius = spirals()->sample_data(20000, rng).square().sum(1).sqrt();
  EXPECT_NEAR(radius.square().mean().item<double>(), 0.5 * 0.81 + 2 * 0.04 * 0.04, 0.01);
  EXPECT_LT(radius.max().item<double>(), 0.9 + 5.0 * 0.04);
}

TEST(BoxMixture, OfOneBoxIsTheBox) {
  const Tensor low = at::tensor({-0.3, 0.1}, at::kDouble);
  const Tensor high = at::tensor({0.5, 0.2}, at::kDouble);
  const AnalyticPtr box = uniform_box(low, high, "a");
  const AnalyticPtr mixture =
      box_mixture(at::full({1}, 3.0), low.view({1, 2}), high.view({1, 2}), "b");
  const Eval first = box->evaluate(grid(20), level_at(0.9));
  const Eval second = mixture->evaluate(grid(20), level_at(0.9));
  EXPECT_TRUE(at::equal(first.score, second.score));
  EXPECT_TRUE(at::allclose(first.log_density, second.log_density, 0.0, 1e-13));
  Rng one(3);
  Rng two(3);
  EXPECT_TRUE(at::equal(box->sample_data(10, one), mixture->sample_data(10, two)));
}

TEST(BoxMixture, OverlappingBoxesAddUp) {
  const Tensor low = at::tensor({0.0, 1.0}, at::kDouble).view({2, 1});
  const Tensor high = at::tensor({2.0, 5.0}, at::kDouble).view({2, 1});
  const AnalyticPtr law = box_mixture(at::tensor({1.0, 3.0}), low, high, "boxes");
  const Tensor x = at::tensor({0.5, 1.5, 4.0, 6.0}, at::kDouble).view({4, 1});
  const Tensor expected = at::tensor({0.125, 0.3125, 0.1875, 0.0}, at::kDouble);
  EXPECT_TRUE(at::allclose(law->log_density_data(x).exp(), expected, 0.0, 1e-14));
  const Tensor near = law->evaluate(x, level_at(1.0 - 1e-10)).log_density.exp();
  EXPECT_TRUE(at::allclose(near, expected, 0.0, 1e-8)) << near;
}

// Boxes of one row share all of their distance: only the other coordinate tells them apart.
TEST(BoxMixture, SharesAreExactFarOutToo) {
  const Tensor low = at::tensor({-1.0, 0.0, 0.5, 0.0}, at::kDouble).view({2, 2});
  const AnalyticPtr law = box_mixture(at::ones({2}), low, low + 0.5, "boxes");
  const auto score_at = [&](double y) {
    const Tensor x = at::tensor({0.01, y}, at::kDouble).view({1, 2});
    return law->evaluate(x, level_at(0.9)).score[0][0].item<double>();
  };
  for (const double y : {1.0, 1e3, 1e7}) {
    EXPECT_NEAR(score_at(y), score_at(0.25), 1e-13) << y;
  }
}

TEST(BoxMixture, RefusesWhatIsNoMixture) {
  const Tensor low = at::zeros({2, 2}, at::kDouble);
  const Tensor weights = at::ones({2}, at::kDouble);
  EXPECT_THROW_MSG(box_mixture(weights, at::zeros({2}), at::ones({2}), "b"), ShapeError,
                   "box_mixture \"b\": low has shape (2), high (2), must both be (K, d) with K, d "
                   ">= 1");
  EXPECT_THROW_MSG(box_mixture(weights, low, at::ones({2, 3}), "b"), ShapeError,
                   "box_mixture \"b\": low has shape (2, 2), high (2, 3), must both be (K, d) with "
                   "K, d >= 1");
  EXPECT_THROW_MSG(box_mixture(at::ones({3}), low, low + 1.0, "b"), ShapeError,
                   "box_mixture \"b\": weights has shape (3), must be (K) = (2) as low has shape "
                   "(2, 2)");
  EXPECT_THROW_MSG(box_mixture(-weights, low, low + 1.0, "b"), ConfigError,
                   "box_mixture \"b\": entry 0 of weights = -1, must be finite and > 0");
  EXPECT_THROW_MSG(box_mixture(weights, low + kInf, low, "b"), ConfigError,
                   "box_mixture \"b\": entry 0 of low = inf, must be finite");
  EXPECT_THROW_MSG(box_mixture(weights, low, low, "b"), ConfigError,
                   "box_mixture \"b\": entry 0 of high = 0, must be finite and > low");
}

}  // namespace
}  // namespace motet
