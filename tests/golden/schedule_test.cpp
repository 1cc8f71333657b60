// Noise schedules against diffusers' (tools/golden_schedules.py), which computes in float32.
#include "motet/schedule.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

namespace motet {
namespace {

NoiseSchedule build(const nlohmann::json& item) {
  const int64_t num_levels = item["num_train_timesteps"];
  if (item["name"] == "linear") {
    return NoiseSchedule::linear(num_levels, item["beta_start"], item["beta_end"]);
  }
  if (item["name"] == "scaled_linear") {
    return NoiseSchedule::scaled_linear(num_levels, item["beta_start"], item["beta_end"]);
  }
  return NoiseSchedule::cosine(num_levels);
}

TEST(ScheduleGolden, AgreesWithDiffusers) {
  std::ifstream file(MOTET_SOURCE_DIR "/tests/golden/schedules.json");
  const auto golden = nlohmann::json::parse(file);
  for (const auto& item : golden["cases"]) {
    const NoiseSchedule schedule = build(item);
    for (const auto& expected : item["levels"]) {
      const NoiseLevel level = schedule.level(expected["index"]);
      const double alpha_bar = expected["alpha_bar"];
      const double beta = expected["beta"];
      EXPECT_NEAR(level.alpha_bar / alpha_bar, 1.0, 3e-5) << schedule.describe() << expected;
      EXPECT_NEAR(level.beta / beta, 1.0, 3e-6) << schedule.describe() << expected;
    }
  }
}

}  // namespace
}  // namespace motet
