// Data sets: supports, moments, and the messages of bad ones.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <limits>

#include "motet/error.hpp"
#include "motet/train.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

constexpr int64_t kPoints = 20000;

Tensor points(const DataSetPtr& data) {
  Rng rng = Rng(5).split("data").at(0, 0);
  return data->sample(kPoints, rng);
}

Tensor column(const Tensor& x, int64_t index) { return x.select(1, index); }
double average(const Tensor& x) { return x.to(at::kDouble).mean().item<double>(); }

TEST(Data, EverySetIsFloat64InThePlaneAndAFunctionOfTheRng) {
  for (const char* name : {"ring", "bar", "checkerboard", "moons", "spirals", "swiss_roll"}) {
    const DataSetPtr data = builtin_data(name);
    const Tensor x = points(data);
    EXPECT_EQ(x.sizes(), (at::IntArrayRef{kPoints, 2})) << name;
    EXPECT_EQ(x.scalar_type(), at::kDouble) << name;
    EXPECT_EQ(data->event_dim(), 2) << name;
    EXPECT_LT(x.abs().max().item<double>(), 1.2) << name;
    EXPECT_TRUE(at::equal(x, points(data))) << name;
    Rng tail = Rng(5).split("data").at(0, 0).for_chains(kPoints - 10);
    EXPECT_TRUE(at::equal(x.narrow(0, kPoints - 10, 10), data->sample(10, tail))) << name;
  }
}

TEST(Data, CheckerboardFillsEightSquaresEvenly) {
  const Tensor cell = (2.0 * (points(builtin_data("checkerboard")) + 1.0)).floor();
  EXPECT_EQ((column(cell, 0) + column(cell, 1)).remainder(2.0).abs().max().item<double>(), 0.0);
  const Tensor counts =
      at::bincount((4.0 * column(cell, 0) + column(cell, 1)).to(at::kLong), {}, 16);
  const Tensor dark = counts.index_select(0, counts.nonzero().flatten());
  ASSERT_EQ(dark.numel(), 8);
  // 2500 each, sd 47: five of them.
  EXPECT_GT(dark.min().item<int64_t>(), 2265);
  EXPECT_LT(dark.max().item<int64_t>(), 2735);
}

TEST(Data, MoonsAreTwoHalfCirclesWithNoise) {
  const Tensor x =
      1.5 * points(builtin_data("moons")) + at::tensor({0.5, 0.25}, at::kDouble);  // as documented
  const Tensor first = x.square().sum(1).sqrt() - 1.0;
  const Tensor second = (x - at::tensor({1.0, 0.5}, at::kDouble)).square().sum(1).sqrt() - 1.0;
  const Tensor distance = at::minimum(first.abs(), second.abs());
  EXPECT_LT(distance.max().item<double>(), 6 * 0.05);
  EXPECT_NEAR(distance.square().mean().sqrt().item<double>(), 0.05, 0.003);
  // Half of each moon; means 0.5 and 0.25 by symmetry, sd of x is 0.87 / sqrt(20000) = .006.
  EXPECT_NEAR(average(column(x, 0)), 0.5, 0.03);
  EXPECT_NEAR(average(column(x, 1)), 0.25, 0.02);
}

TEST(Data, SwissRollWindsOutwards) {
  const Tensor x = points(builtin_data("swiss_roll"));
  const Tensor radius = x.square().sum(1).sqrt();
  EXPECT_GT(radius.min().item<double>(), 1.0 / 3.0 - 6 * 0.02);
  EXPECT_LT(radius.max().item<double>(), 1.0 + 6 * 0.02);
  EXPECT_NEAR(average(radius), 2.0 / 3.0, 0.01);  // radius uniform on (1/3, 1)
  // A spiral: the angle follows from the radius, up to the noise across it.
  const Tensor angle = radius * (4.5 * M_PI);
  const Tensor along = x / radius.unsqueeze(1) - at::stack({angle.cos(), angle.sin()}, 1);
  EXPECT_LT(along.square().mean().sqrt().item<double>(), 0.02 * 4.5 * M_PI * 1.2);
}

TEST(Data, RingAndBarAreTheBenchmarks) {
  const Tensor on_ring = points(builtin_data("ring"));
  EXPECT_NEAR(on_ring.square().sum(1).mean().item<double>(), 0.25 + 2 * 0.03 * 0.03, 0.002);
  const Tensor in_bar = points(builtin_data("bar"));
  EXPECT_LE(column(in_bar, 0).abs().max().item<double>(), 0.2);
  EXPECT_LE(column(in_bar, 1).abs().max().item<double>(), 1.0);
  EXPECT_NEAR(column(in_bar, 1).square().mean().item<double>(), 1.0 / 3.0, 0.01);
}

TEST(Data, ArraysAreDrawnEvenlyWithReplacement) {
  const DataSetPtr data = array_data(at::arange(12, at::kFloat).view({4, 3}), "mine");
  EXPECT_EQ(data->event_dim(), 3);
  EXPECT_EQ(data->describe(), "mine");
  const Tensor x = points(data);
  const Tensor counts = at::bincount((column(x, 0) / 3.0).to(at::kLong), {}, 4);
  EXPECT_GT(counts.min().item<int64_t>(), 5000 - 5 * 62);
  EXPECT_TRUE(at::equal(column(x, 2), column(x, 0) + 2.0));
}

TEST(Data, ArraysAreCopied) {
  const Tensor rows = at::ones({2, 2}, at::kDouble);
  const DataSetPtr data = array_data(rows, "mine");
  rows.fill_(7.0);
  EXPECT_EQ(points(data).max().item<double>(), 1.0);
}

TEST(Data, AnalyticLawsOfAnyDimension) {
  const DataSetPtr data = analytic_data(
      gaussian_mixture(at::ones({1}), at::full({1, 5}, 2.0), at::ones({1, 1}), "five"));
  EXPECT_EQ(data->event_dim(), 5);
  EXPECT_NEAR(average(points(data)), 2.0, 0.02);
}

TEST(Data, RefusesWhatCannotBeTrainedOn) {
  EXPECT_THROW_MSG(builtin_data("rnig"), ConfigError,
                   "data: unknown set \"rnig\", must be ring, bar, checkerboard, moons, "
                   "spirals, swiss_roll or scenes; did you mean ring?");
  EXPECT_THROW_MSG(builtin_data("galaxies"), ConfigError,
                   "data: unknown set \"galaxies\", must be ring, bar, checkerboard, moons, "
                   "spirals, swiss_roll or scenes");
  EXPECT_THROW_MSG(analytic_data(nullptr), ConfigError, "data: analytic_data() was given no law");
  EXPECT_THROW_MSG(array_data(at::ones({3}), "mine"), DataError,
                   "data: \"mine\" has shape [3], must be (N, d) with N, d >= 1");
  EXPECT_THROW_MSG(array_data(at::ones({0, 2}), "mine"), DataError,
                   "data: \"mine\" has shape [0, 2], must be (N, d) with N, d >= 1");
  Tensor rows = at::ones({4, 2});
  rows[2][1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW_MSG(array_data(rows, "mine"), DataError,
                   "data: \"mine\": row 2 is not finite (1 such rows); remove them");
}

}  // namespace
}  // namespace motet
