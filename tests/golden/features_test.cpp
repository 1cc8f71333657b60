// Frechet distance and diversity against scipy's matrix square root and pdist
// (tools/golden_features.py).
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "motet/error.hpp"
#include "motet/metrics_features.hpp"
#include "support/golden.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

const nlohmann::json& golden() {
  static const nlohmann::json values = testing::read_golden("features");
  return values;
}

Tensor points(int64_t rows, int64_t columns, double seed) {
  const Tensor i = at::arange(rows).to(at::kDouble).unsqueeze(1);
  const Tensor j = at::arange(columns).to(at::kDouble);
  return (1.7 * i + 0.3 * j * j + seed).sin() + 0.2 * j * (0.9 * i * (j + 1) + 2 * seed).cos();
}

TEST(FrechetGolden, AgreesWithScipysMatrixRoot) {
  for (const auto& expected : golden()["frechet"]) {
    const auto shape = expected["shape"].get<std::vector<int64_t>>();
    const Tensor a = points(shape[0], shape[2], 0.1);
    const Tensor b = 1.2 * points(shape[1], shape[2], 0.8) + 0.1;
    EXPECT_NEAR(frechet_distance(a, b), expected["frechet"].get<double>(), 1e-9);
    EXPECT_NEAR(frechet_distance(b, a), frechet_distance(a, b), 1e-9);
  }
}

TEST(FrechetGolden, IsAClosedFormForOneNumberAndZeroOfASetWithItself) {
  const Tensor a = at::tensor({-1.0, 1.0}, at::kDouble).unsqueeze(1);  // sd sqrt(2)
  const Tensor b = at::tensor({1.0, 5.0}, at::kDouble).unsqueeze(1);   // sd sqrt(8), mean 3
  EXPECT_NEAR(frechet_distance(a, b), 9.0 + std::pow(std::sqrt(8.0) - std::sqrt(2.0), 2), 1e-12);
  // Fewer rows than columns: covariances without full rank.
  const Tensor few = points(6, 20, 0.3);
  EXPECT_NEAR(frechet_distance(few, few), 0.0, 1e-10);
}

TEST(FrechetFloor, IsWhatTwoHalvesOfOneLawGive) {
  Rng rng(3);
  const Tensor x = rng.normal_like(at::empty({800, 4}, at::kDouble));
  const Tensor y = rng.normal_like(at::empty({400, 4}, at::kDouble));
  const FrechetFloor floor = frechet_floor(x, 8, rng);
  EXPECT_EQ(floor.num_rows, 400);
  EXPECT_GT(floor.mean, 0.0);
  EXPECT_NEAR(frechet_distance(x.narrow(0, 0, 400), y), floor.mean, 5.0 * floor.sd + floor.mean);
  EXPECT_GT(frechet_distance(x.narrow(0, 0, 400), y + 0.5), floor.mean + 10.0 * floor.sd);
}

TEST(DiversityGolden, AgreesWithPdist) {
  const Tensor rows = points(31, 4, 0.4);
  const auto found = class_diversity(rows, at::arange(31).remainder(3) * 10);
  ASSERT_EQ(found.size(), 3U);
  for (size_t k = 0; k < 3; ++k) {
    EXPECT_EQ(found[k].label, static_cast<int64_t>(10 * k));
    EXPECT_EQ(found[k].num_rows, k == 0 ? 11 : 10);
    EXPECT_NEAR(found[k].mean_distance, golden()["diversity"][k].get<double>(), 1e-12);
  }
  EXPECT_TRUE(std::isnan(
      class_diversity(rows.narrow(0, 0, 1), at::zeros({1}, at::kLong)).front().mean_distance));
}

TEST(FeatureMetrics, RefuseWhatDoesNotFit) {
  const Tensor x = points(8, 2, 0.0);
  Rng rng(1);
  EXPECT_THROW_MSG(frechet_distance(x, x.narrow(0, 0, 1)), ShapeError,
                   "frechet_distance: 1 rows, must be >= 2");
  EXPECT_THROW_MSG(frechet_floor(x.narrow(0, 0, 3), 4, rng), ShapeError,
                   "frechet_floor: 3 rows, must be >= 4");
  EXPECT_THROW_MSG(frechet_floor(x, 1, rng), ConfigError,
                   "frechet_floor: num_splits = 1, must be >= 2");
  EXPECT_THROW_MSG(class_diversity(x, at::zeros({7}, at::kLong)), ShapeError,
                   "class_diversity: labels are Long of shape (7,), must be int64 (N) = (8): one "
                   "for each row of features");
}

}  // namespace
}  // namespace motet
