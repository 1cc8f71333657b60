// Closed forms and refusals of schedule.hpp.
#include "motet/schedule.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <numbers>

#include "motet/error.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(Schedule, CosineFollowsItsClosedFormUntilTheClip) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(100);
  const auto square_cos = [](double u) {
    const double value = std::cos((u + 0.008) / 1.008 * std::numbers::pi / 2.0);
    return value * value;
  };
  for (int64_t t = 0; t < 99; ++t) {
    const double u = static_cast<double>(t + 1) / 100.0;
    EXPECT_NEAR(schedule.level(t).alpha_bar, square_cos(u) / square_cos(0.0), 1e-14) << t;
  }
  EXPECT_NEAR(schedule.level(99).beta, 0.999, 1e-12);
  EXPECT_NEAR(schedule.level(0).sigma(), 0.0251, 5e-5);  // level 0 is not the data
}

TEST(Schedule, LinearIsLinearInBeta) {
  const NoiseSchedule schedule = NoiseSchedule::linear(5, 0.1, 0.5);
  for (int64_t t = 0; t < 5; ++t) {
    EXPECT_NEAR(schedule.level(t).beta, 0.1 * static_cast<double>(t + 1), 1e-14) << t;
  }
  EXPECT_NEAR(schedule.level(4).alpha_bar, 0.9 * 0.8 * 0.7 * 0.6 * 0.5, 1e-15);
}

TEST(Schedule, ScaledLinearIsLinearInRootBeta) {
  const NoiseSchedule schedule = NoiseSchedule::scaled_linear(4, 0.01, 0.16);
  for (int64_t t = 0; t < 4; ++t) {
    EXPECT_NEAR(std::sqrt(schedule.level(t).beta), 0.1 * static_cast<double>(t + 1), 1e-13) << t;
  }
}

TEST(Schedule, OneLevelHasTheFirstBeta) {
  EXPECT_NEAR(NoiseSchedule::linear(1, 0.1, 0.5).level(0).beta, 0.1, 1e-15);
  EXPECT_NEAR(NoiseSchedule::scaled_linear(1, 0.1, 0.5).level(0).beta, 0.1, 1e-15);
  EXPECT_NEAR(NoiseSchedule::cosine(1).level(0).beta, 0.999, 1e-15);
}

TEST(Schedule, ExplicitAlphaBarsGiveTheirBetas) {
  const NoiseSchedule schedule = NoiseSchedule::from_alpha_bars({0.9, 0.45, 0.09});
  EXPECT_EQ(schedule.num_levels(), 3);
  EXPECT_EQ(schedule.level(1).index, 1);
  EXPECT_NEAR(schedule.level(0).beta, 0.1, 1e-15);
  EXPECT_NEAR(schedule.level(1).beta, 0.5, 1e-15);
  EXPECT_NEAR(schedule.level(2).beta, 0.8, 1e-15);
  EXPECT_NEAR(schedule.level(1).sigma(), std::sqrt(0.55), 1e-15);
}

TEST(Schedule, SameLevelsLooksAtTheNumbersOnly) {
  const NoiseSchedule cosine = NoiseSchedule::cosine(100);
  EXPECT_TRUE(cosine.same_levels(NoiseSchedule::from_alpha_bars(cosine.alpha_bars())));
  EXPECT_FALSE(cosine.same_levels(NoiseSchedule::cosine(100, 0.008001)));
  EXPECT_FALSE(cosine.same_levels(NoiseSchedule::cosine(99)));
}

TEST(Schedule, ProductsInFloat32AreTheSameLevels) {
  for (const auto& schedule : {NoiseSchedule::linear(1000), NoiseSchedule::scaled_linear(1000),
                               NoiseSchedule::cosine(1000)}) {
    std::vector<double> alpha_bars;
    float product = 1.0F;
    for (int64_t t = 0; t < schedule.num_levels(); ++t) {
      product *= 1.0F - static_cast<float>(schedule.level(t).beta);
      alpha_bars.push_back(static_cast<double>(product));
    }
    EXPECT_TRUE(schedule.same_levels(NoiseSchedule::from_alpha_bars(alpha_bars)))
        << schedule.describe();
  }
}

TEST(Schedule, DescribesItself) {
  EXPECT_EQ(NoiseSchedule::cosine(100).describe(), "cosine(100, offset=0.008, max_beta=0.999)");
  EXPECT_EQ(NoiseSchedule::linear(1000).describe(),
            "linear(1000, beta_first=1e-04, beta_last=0.02)");
  EXPECT_EQ(NoiseSchedule::scaled_linear(9).describe(),
            "scaled_linear(9, beta_first=0.00085, beta_last=0.012)");
  EXPECT_EQ(NoiseSchedule::from_alpha_bars({0.5}).describe(), "from_alpha_bars(1)");
}

TEST(Schedule, RefusesBadSettings) {
  EXPECT_THROW_MSG(NoiseSchedule::cosine(0), ConfigError, "schedule: num_levels = 0, must be >= 1");
  EXPECT_THROW_MSG(NoiseSchedule::linear(-3), ConfigError,
                   "schedule: num_levels = -3, must be >= 1");
  EXPECT_THROW_MSG(NoiseSchedule::scaled_linear(0), ConfigError,
                   "schedule: num_levels = 0, must be >= 1");
  EXPECT_THROW_MSG(NoiseSchedule::cosine(10, -0.1), ConfigError,
                   "schedule: offset = -0.1, must be finite and >= 0");
  EXPECT_THROW_MSG(NoiseSchedule::cosine(10, kInfinity), ConfigError,
                   "schedule: offset = inf, must be finite and >= 0");
  EXPECT_THROW_MSG(NoiseSchedule::cosine(10, 0.008, 1.0), ConfigError,
                   "schedule: max_beta = 1, must be in (0, 1)");
  EXPECT_THROW_MSG(NoiseSchedule::linear(10, 0.0, 0.5), ConfigError,
                   "schedule: beta_first = 0, must be in (0, 1)");
  EXPECT_THROW_MSG(NoiseSchedule::linear(10, kNan, 0.5), ConfigError,
                   "schedule: beta_first = nan, must be in (0, 1)");
  EXPECT_THROW_MSG(NoiseSchedule::linear(10, 0.5, 0.25), ConfigError,
                   "schedule: beta_last = 0.25, must be in [beta_first, 1) = [0.5, 1)");
  EXPECT_THROW_MSG(NoiseSchedule::scaled_linear(10, 0.5, 1.0), ConfigError,
                   "schedule: beta_last = 1, must be in [beta_first, 1) = [0.5, 1)");
}

TEST(Schedule, RefusesAlphaBarsThatDoNotFall) {
  EXPECT_THROW_MSG(NoiseSchedule::from_alpha_bars({}), ConfigError,
                   "schedule: alpha_bars is empty, must have at least 1 entry");
  EXPECT_THROW_MSG(
      NoiseSchedule::from_alpha_bars({1.0}), ConfigError,
      "schedule: alpha_bars[0] = 1, must be in (0, 1) = (0, 1): alpha_bars fall strictly");
  EXPECT_THROW_MSG(
      NoiseSchedule::from_alpha_bars({0.5, 0.25, 0.25}), ConfigError,
      "schedule: alpha_bars[2] = 0.25, must be in (0, alpha_bars[1]) = (0, 0.25): alpha_bars fall "
      "strictly");
  EXPECT_THROW_MSG(NoiseSchedule::from_alpha_bars({0.5, kNan}), ConfigError,
                   "schedule: alpha_bars[1] = nan, must be in (0, alpha_bars[0]) = (0, 0.5): "
                   "alpha_bars fall strictly");
}

TEST(Schedule, RefusesLevelsOutside) {
  for (const int64_t index : {-1, 10}) {
    EXPECT_THROW_MSG(NoiseSchedule::cosine(10).level(index), ConfigError,
                     "schedule: level index = " + std::to_string(index) + ", must be in 0 .. 9");
  }
}

}  // namespace
}  // namespace motet
