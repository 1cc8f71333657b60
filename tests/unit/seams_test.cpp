// The seam score: 1 where borders are like the rest, what was put in where they are not.
#include <gtest/gtest.h>
#include <torch/types.h>

#include "motet/error.hpp"
#include "motet/metrics.hpp"
#include "support/tensors.hpp"
#include "support/throw_message.hpp"

namespace motet::testing {
namespace {

const std::vector<WindowPlace> kHalves = {{0, 0, 4, 3}, {0, 3, 4, 3}};

TEST(SeamScore, ComparesDifferencesAcrossEdgesWithTheRest) {
  // Columns differ by 1, but by 3 across the border of the two halves; rows are equal.
  const Tensor row = at::tensor({0.0, 1.0, 2.0, 5.0, 6.0, 7.0}, at::kDouble);
  const SeamScore seams = seam_score(row.expand({2, 1, 4, 6}), kHalves);
  EXPECT_EQ(seams.num_seams, 4);
  EXPECT_DOUBLE_EQ(seams.at_seams, 3.0);
  // 16 pairs along rows differ by 1, 18 along columns by 0.
  EXPECT_DOUBLE_EQ(seams.elsewhere, 16.0 / 34.0);
  EXPECT_DOUBLE_EQ(seams.score.value, 3.0 * 34.0 / 16.0);
  EXPECT_DOUBLE_EQ(seams.score.standard_error, 0.0);
}

TEST(SeamScore, IsOneWhereBordersAreLikeTheRest) {
  const Tensor x = Rng(3).normal_like(at::empty({200, 3, 12, 12}, at::kDouble));
  const SeamScore seams = seam_score(x, {{0, 0, 8, 8}, {0, 4, 8, 8}, {4, 0, 8, 8}, {4, 4, 8, 8}});
  EXPECT_LT(std::abs(seams.score.value - 1.0), 5.0 * seams.score.standard_error);
  EXPECT_LT(seams.score.standard_error, 0.01);
  EXPECT_EQ(seams.num_seams, 48);  // two edges of 12 each way
}

TEST(SeamScore, SeesAStepAtTheBorder) {
  Tensor x = Rng(3).normal_like(at::empty({50, 1, 4, 6}, at::kDouble));
  x.narrow(3, 3, 3).add_(1.0);
  const SeamScore seams = seam_score(x, kHalves);
  EXPECT_GT(seams.score.value - 1.0, 3.0 * seams.score.standard_error);
  EXPECT_TRUE(std::isnan(seam_score(x.narrow(0, 0, 1), kHalves).score.standard_error));
}

TEST(SeamScore, RefusesWhatHasNone) {
  const Tensor x = Rng(3).normal_like(at::empty({2, 1, 4, 6}, at::kDouble));
  EXPECT_THROW_MSG(seam_score(x.select(1, 0), kHalves), ShapeError,
                   "seam_score: images are float64 (2, 4, 6), must be floats (N, C, H, W)");
  EXPECT_THROW_MSG(seam_score(x, {{0, 0, 4, 7}}), ConfigError,
                   "seam_score: a window of 4x7 places at row 0, column 0 is not inside the images "
                   "of 4x6");
  EXPECT_THROW_MSG(
      seam_score(x, {{0, 0, 4, 6}}), ConfigError,
      "seam_score: edges of windows part 0 of the 38 pairs of neighbours, must be some "
      "but not all");
  EXPECT_THROW_MSG(seam_score(at::zeros({2, 1, 4, 6}), kHalves), NumericalError,
                   "seam_score: no neighbours differ away from the windows' edges");
  Tensor bad = x.clone();
  bad[1][0][0][0] = std::nan("");
  EXPECT_THROW_MSG(seam_score(bad, kHalves), NumericalError,
                   "seam_score: 1 of 2 images hold a NaN or infinity");
}

}  // namespace
}  // namespace motet::testing
