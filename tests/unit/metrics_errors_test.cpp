// Error bars of metrics: closed forms, brute force, and the spread of real repeats.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <limits>
#include <map>

#include "metrics_detail.hpp"
#include "motet/diagnose.hpp"
#include "motet/error.hpp"
#include "motet/metrics.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

using ::testing::ElementsAre;

std::vector<int64_t> sizes_of(const SampleGroups& groups) {
  const Tensor sizes = groups.group.bincount({}, groups.num_groups);
  return {sizes.const_data_ptr<int64_t>(), sizes.const_data_ptr<int64_t>() + sizes.numel()};
}

Tensor normal(at::IntArrayRef shape, uint64_t seed) {
  Rng rng(seed);
  return rng.normal_like(torch::empty(shape, torch::kFloat64));
}

TEST(Groups, AreIslandsFromFourOnAndElseEvenRunsOfRows) {
  const SampleGroups islands = consecutive_groups(90, 20);  // four, and ten rows of a fifth
  EXPECT_TRUE(islands.are_islands);
  EXPECT_THAT(sizes_of(islands), ElementsAre(20, 20, 20, 20, 10));
  const SampleGroups merged = consecutive_groups(60 * 4, 4);  // 60 islands, two by two
  EXPECT_EQ(merged.num_groups, 30);
  EXPECT_EQ(sizes_of(merged).front(), 8);
  for (const int64_t island : {0, 30}) {  // independent rows; three islands
    const SampleGroups blocks = consecutive_groups(100, island);
    EXPECT_FALSE(blocks.are_islands);
    EXPECT_THAT(sizes_of(blocks), ElementsAre(17, 17, 16, 17, 17, 16));
  }
  EXPECT_EQ(consecutive_groups(5000).num_groups, 20);
  EXPECT_EQ(consecutive_groups(3).num_groups, 3);
  EXPECT_THROW_MSG(consecutive_groups(0, 2), ConfigError,
                   "consecutive_groups: num_rows = 0, island_size = 2, must be >= 1 and >= 0");
}

TEST(Groups, OfEqualSizeGiveTheErrorOverIslands) {
  const Tensor values = normal({60}, 1);
  SampleGroups groups = consecutive_groups(60, 10);
  const Estimate ratio =
      detail::ratio_over_groups(values, torch::ones({60}, torch::kFloat64), groups);
  const Estimate islands = over_islands(values.view({6, 10}).mean(1));
  EXPECT_NEAR(ratio.value, islands.value, 1e-14);
  EXPECT_NEAR(ratio.standard_error, islands.standard_error, 1e-14);
}

// r = 3 / 4; residuals 1 - .75 and 2 - 3 * .75: +-.25. G / (G - 1) = 2.
TEST(Groups, OfUnequalWeightGiveTheErrorOfTheRatio) {
  SampleGroups groups;
  groups.group = torch::tensor({0, 1}, torch::kInt64);
  groups.num_groups = 2;
  const Estimate ratio =
      detail::ratio_over_groups(torch::tensor({1.0, 2.0}, torch::kFloat64),
                                torch::tensor({1.0, 3.0}, torch::kFloat64), groups);
  EXPECT_DOUBLE_EQ(ratio.value, 0.75);
  EXPECT_DOUBLE_EQ(ratio.standard_error, std::sqrt(2.0 * 2.0 * 0.0625) / 4.0);
}

TEST(Groups, OfAShareOfNothingHaveTheBinomialError) {
  EXPECT_DOUBLE_EQ(detail::share_error({0.0, 0.0}, 99.0), std::sqrt(0.005 * 0.995 / 99.0));
  EXPECT_DOUBLE_EQ(detail::share_error({0.5, 0.2}, 99.0), 0.2);
  EXPECT_DOUBLE_EQ(detail::root_error({4.0, 0.0}), 0.0);
  EXPECT_DOUBLE_EQ(detail::root_error({1.0, 3.0}), 1.0);  // sqrt(4) - 0
}

// Strong duality: the potentials' mean is the least cost. On a line x = y + 1 the plan is the shift.
TEST(Potentials, HaveTheSquaredDistanceAsTheirMean) {
  const Tensor x = normal({80, 2}, 2);
  const Tensor y = normal({80, 2}, 3);
  const detail::Transport transport = detail::transport(x, y);
  EXPECT_NEAR(transport.potentials.mean().item<double>(), transport.w2 * transport.w2, 1e-12);
  EXPECT_EQ(transport.w2, w2_assignment(x, y));
  const detail::Transport folded = detail::folded_transport(x, y);
  EXPECT_NEAR(folded.potentials.mean().item<double>(), folded.w2 * folded.w2, 1e-12);
}

TEST(Jackknife, OfDistancesIsThatOfLeavingRowsOut) {
  const int64_t n = 40;
  const Tensor x = normal({n, 2}, 4);
  const Tensor y = 1.2 * normal({n, 2}, 5) + 0.3;
  const SampleGroups groups = consecutive_groups(n, 9);  // the last one shorter
  std::vector<double> energies;
  for (int64_t g = 0; g < groups.num_groups; ++g) {
    const Tensor rows = groups.group.ne(g).nonzero().squeeze(1);
    energies.push_back(energy_distance(x.index_select(0, rows), y.index_select(0, rows)));
  }
  const Estimate energy = detail::energy_distance_over(x, y, groups);
  EXPECT_NEAR(energy.value, energy_distance(x, y), 1e-13);
  EXPECT_NEAR(energy.standard_error, detail::jackknife_error(energies), 1e-12);
  EXPECT_NEAR(detail::mmd_squared_over(x, y, groups).value, mmd_squared(x, y), 1e-13);
  // Of a mean it is the error over equal groups.
  EXPECT_NEAR(detail::jackknife_error({(2.0 + 4.0) / 2, (1.0 + 4.0) / 2, (1.0 + 2.0) / 2}),
              over_islands(torch::tensor({1.0, 2.0, 4.0}, torch::kFloat64)).standard_error, 1e-14);
}

// What 40 repeats really spread by, against the mean error bar of one.
TEST(MetricErrors, AreTheSpreadOfRepeats) {
  constexpr int kRepeats = 40;
  std::map<std::string, std::vector<double>> found;
  std::map<std::string, double> claimed;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    Rng rng(100 + static_cast<uint64_t>(repeat));
    const Tensor x = 1.02 * sample_product_benchmark(320, rng) + 0.01;
    const Tensor reference = sample_product_benchmark(320, rng);
    const ProductMetrics one =
        product_metrics(x, reference, rng, {}, kMaxPairwise, consecutive_groups(320));
    found["ll_true"].push_back(one.log_likelihood.ll_true);
    found["w2"].push_back(one.w2);
    found["w2_folded"].push_back(one.w2_folded);
    found["gmm"].push_back(one.gmm);
    found["energy_distance"].push_back(one.energy_distance);
    found["mmd_squared"].push_back(one.mmd_squared);
    for (const auto& [key, values] : found) {
      claimed[key] += one.errors.at(key).standard_error / kRepeats;
    }
  }
  for (const auto& [key, values] : found) {
    const double spread = torch::tensor(values, torch::kFloat64).std().item<double>();
    EXPECT_GT(claimed[key] / spread, 0.6) << key;
    EXPECT_LT(claimed[key] / spread, 1.9) << key;
  }
}

TEST(MetricErrors, AreThereForEveryPrintedMetricAndOnlyWithGroups) {
  Rng rng(6);
  const Tensor x = sample_product_benchmark(64, rng);
  const Tensor reference = sample_product_benchmark(64, rng);
  EXPECT_TRUE(product_metrics(x, reference, rng).errors.empty());
  const ProductMetrics metrics =
      product_metrics(x, reference, rng, {}, kMaxPairwise, consecutive_groups(64));
  for (const char* key :
       {"ll_true", "ll_paper", "num_outside_support", "w2", "w2_paper", "w2_folded", "gmm",
        "gmm_paper", "energy_distance", "mmd_squared", "fraction_outside_modes"}) {
    ASSERT_EQ(metrics.errors.count(key), 1U) << key;
    EXPECT_GT(metrics.errors.at(key).standard_error, 0.0) << key;
    EXPECT_FALSE(metrics.errors.at(key).method.empty()) << key;
  }
  SampleGroups wrong = consecutive_groups(63);
  EXPECT_THROW_MSG(product_metrics(x, reference, rng, {}, kMaxPairwise, wrong), ShapeError,
                   "product_metrics: groups.group has shape (63,), must be (64,): an entry a row");
}

// Weights 3 and 1 on rows of the upper and the lower mode, and none on a stray row.
TEST(WeightedMetrics, CountRowsByTheirWeightsAndRefuseDistances) {
  Rng rng(7);
  const Tensor reference = sample_product_benchmark(40, rng);
  Tensor x = torch::zeros({40, 2}, torch::kFloat64);
  x.select(1, 1).fill_(0.5).narrow(0, 20, 20).fill_(-0.5);
  SampleGroups groups = consecutive_groups(40);
  groups.log_weights = torch::full({40}, std::log(3.0), torch::kFloat64);
  groups.log_weights.narrow(0, 20, 20).fill_(0.0);
  x[0].fill_(5.0);
  groups.log_weights[0] = -std::numeric_limits<double>::infinity();
  const ProductMetrics metrics = product_metrics(x, reference, rng, {}, kMaxPairwise, groups);
  EXPECT_NEAR(metrics.modes.mode_fractions[0], 57.0 / 77.0, 1e-14);
  EXPECT_NEAR(metrics.modes.fraction_outside_modes, 0.0, 1e-14);
  EXPECT_NEAR(metrics.log_likelihood.ll_true, log_density_product_benchmark(x)[1].item<double>(),
              1e-12);
  EXPECT_NEAR(
      metrics.log_likelihood.ll_true - metrics.log_likelihood.ll_paper,
      log_likelihood(x.narrow(0, 1, 1)).ll_true - log_likelihood(x.narrow(0, 1, 1)).ll_paper,
      1e-12);
  const double num_effective = 77.0 * 77.0 / (19.0 * 9.0 + 20.0);
  EXPECT_NEAR(metrics.occupancy[0].binomial_error,
              std::sqrt(57.0 * 20.0 / 77.0 / 77.0 / num_effective), 1e-14);
  EXPECT_TRUE(std::isnan(metrics.w2));
  EXPECT_TRUE(std::isnan(metrics.gmm));
  EXPECT_EQ(metrics.errors.at("w2").method, "not measured: it needs equally weighted points");
  groups.log_weights.fill_(-std::numeric_limits<double>::infinity());
  EXPECT_THROW_MSG(product_metrics(x, reference, rng, {}, kMaxPairwise, groups), NumericalError,
                   "metrics: no row has a finite log weight, so nothing can be measured");
}

TEST(Convergence, SeesAnIslandThatDisagrees) {
  Tensor x = normal({400, 3}, 8);
  const SampleGroups groups = consecutive_groups(400, 100);
  for (const CoordinateConvergence& row : convergence(x, groups)) {
    EXPECT_LT(row.rhat, 1.02);
    EXPECT_GT(row.ess_bulk, 250.0);  // of 400; itself an estimate
    EXPECT_NEAR(row.mean.value, 0.0, 5.0 * row.mean.standard_error);
  }
  x.narrow(0, 300, 100).select(1, 1).add_(1.5);
  const auto rows = convergence(x, groups);
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_LT(rows[0].rhat, 1.02);
  EXPECT_GT(rows[1].rhat, 1.1);
  EXPECT_EQ(rows[1].coordinate, 1);
}

// What resampling does: copies side by side are worth one.
TEST(Convergence, CountsFamiliesNotChains) {
  const Tensor founders = normal({500, 1}, 9);
  const auto rows = convergence(founders.repeat_interleave(4, 0), consecutive_groups(2000));
  EXPECT_NEAR(rows.at(0).ess_bulk, 500.0, 120.0);
}

TEST(Convergence, LeavesAShortLastIslandOutAndSpreadsOverManyCoordinates) {
  const Tensor x = normal({90, 200}, 10);
  const auto rows = convergence(x, consecutive_groups(90, 22), 10);  // 22, 22, 22, 22, 2
  ASSERT_EQ(rows.size(), 10U);
  EXPECT_EQ(rows[9].coordinate, 180);
  EXPECT_DOUBLE_EQ(rows[0].rhat, rhat(x.narrow(0, 0, 88).select(1, 0).view({4, 22})));
  EXPECT_TRUE(convergence(x.narrow(0, 0, 6), consecutive_groups(6)).empty());
  EXPECT_THROW_MSG(convergence(x, consecutive_groups(90), 0), ConfigError,
                   "convergence: max_coordinates = 0, must be >= 1");
  EXPECT_THROW_MSG(convergence(x, consecutive_groups(89)), ShapeError,
                   "convergence: x has shape [90, 200] and groups.group [89], must have an entry "
                   "a row");
}

}  // namespace
}  // namespace motet
