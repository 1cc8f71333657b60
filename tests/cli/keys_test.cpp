// Keys of `motet sample --json` that scripts rely on: added to, never renamed.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/process.hpp"

namespace motet {
namespace {

using Json = nlohmann::json;

const std::string kMeasured = R"(num_samples = 32
sampler = "hmc-4-curve"
seed = 5
[model.ring]
law = "ring"
[model.bar]
law = "bar"
[schedule]
num_levels = 8
[anneal]
levels = [7, 3, 0]
[metrics]
target = "product"
)";

Json run_of(const std::string& config, const std::vector<std::string>& more = {}) {
  const test::Folder folder;
  test::write_text(folder / "s.toml", config);
  std::vector<std::string> args = {"sample", "s.toml", "--json", "s.json"};
  args.insert(args.end(), more.begin(), more.end());
  const test::Output output = test::run_motet(folder, args);
  EXPECT_EQ(output.code, 0) << output.err;
  return Json::parse(test::read_text(folder / "s.json"));
}

void expect_number(const Json& object, const std::string& key) {
  ASSERT_TRUE(object.contains(key)) << key;
  EXPECT_TRUE(object.at(key).is_number()) << key << " is " << object.at(key);
}

TEST(SampleJson, SaysWhatWasRun) {
  const Json run = run_of(kMeasured);
  EXPECT_EQ(run.at("config").at("seed"), 5);
  EXPECT_EQ(run.at("config").at("model").at("ring").at("law"), "ring");
  EXPECT_EQ(run.at("config").at("anneal").at("levels"), Json({7, 3, 0}));
  EXPECT_EQ(run.at("seed"), 5);
  EXPECT_TRUE(run.at("commit").is_string());
  EXPECT_FALSE(run.at("commit").get<std::string>().empty());
  EXPECT_EQ(run.at("device"), "cpu");
  EXPECT_EQ(run.at("dtype"), "float32");
  EXPECT_EQ(run.at("num_chains"), 32);
  EXPECT_EQ(run.at("evaluations_per_chain"), 3 * 31 + 1);  // hmc-4-curve and its last map
  EXPECT_GT(run.at("seconds").at("total").get<double>(), 0.0);
  EXPECT_GT(run.at("seconds").at("network").get<double>(), 0.0);
  EXPECT_GE(run.at("seconds").at("total").get<double>(),
            run.at("seconds").at("network").get<double>());
  EXPECT_GT(run.at("peak_rss_bytes").get<int64_t>(), int64_t{1} << 20);
}

TEST(SampleJson, HasEveryMetric) {
  const Json metrics = run_of(kMeasured).at("metrics");
  for (const char* key : {"ll_true", "ll_paper", "num_outside_support", "w2", "w2_paper",
                          "w2_folded", "gmm", "fraction_outside_modes"}) {
    expect_number(metrics, key);
  }
  const Json& fractions = metrics.at("mode_fractions");
  ASSERT_EQ(fractions.size(), 2U);
  EXPECT_NEAR(fractions[0].get<double>() + fractions[1].get<double>() +
                  metrics.at("fraction_outside_modes").get<double>(),
              1.0, 1e-12);
  ASSERT_EQ(metrics.at("mode_sd").size(), 2U);
  for (const Json& mode : metrics.at("mode_sd")) {
    EXPECT_EQ(mode.size(), 2U);
  }
}

TEST(SampleJson, HasAnErrorBarOfEveryMetricAndTheSharesOfTheModes) {
  const Json run = run_of(kMeasured);
  EXPECT_EQ(run.at("groups"), Json({{"of", "chains"}, {"num_groups", 4}}));
  const Json& metrics = run.at("metrics");
  for (const char* key :
       {"ll_true", "ll_paper", "num_outside_support", "w2", "w2_paper", "w2_folded", "gmm",
        "gmm_paper", "energy_distance", "mmd_squared", "fraction_outside_modes"}) {
    expect_number(metrics.at("errors").at(key), "standard_error");
    EXPECT_TRUE(metrics.at("errors").at(key).at("method").is_string()) << key;
  }
  ASSERT_EQ(metrics.at("modes").size(), 2U);
  for (const Json& mode : metrics.at("modes")) {
    for (const char* key : {"share", "exact_share", "binomial_error", "group_error"}) {
      expect_number(mode, key);
    }
    EXPECT_NEAR(mode.at("exact_share").get<double>(), 0.5, 1e-12);
    EXPECT_EQ(mode.at("centre").size(), 2U);
    EXPECT_EQ(mode.at("group_shares").size(), 4U);
  }
}

TEST(SampleJson, ComparesGroupsOfChainsAndFollowsAFew) {
  const Json run = run_of(kMeasured);
  const Json& convergence = run.at("convergence");
  for (const char* key : {"rhat", "ess_bulk", "ess_tail", "median_rhat", "median_ess_bulk",
                          "median_ess_tail", "num_chains"}) {
    expect_number(convergence, key);
  }
  EXPECT_EQ(convergence.at("num_coordinates"), 2);
  EXPECT_EQ(convergence.at("num_coordinates_measured"), 2);
  ASSERT_EQ(convergence.at("worst").size(), 2U);
  for (const char* key : {"coordinate", "rhat", "ess_bulk", "ess_tail", "mean", "mean_error"}) {
    expect_number(convergence.at("worst")[0], key);
  }
  const Json& trace = run.at("trace");
  EXPECT_EQ(trace.at("value"), "first coordinate");
  EXPECT_EQ(trace.at("levels"), Json({7, 3, 0, -1}));
  ASSERT_EQ(trace.at("chains").size(), 6U);
  for (const Json& chain : trace.at("chains")) {
    ASSERT_EQ(chain.size(), 4U);
    EXPECT_TRUE(chain[0].is_number() && chain[3].is_number());
  }
  EXPECT_EQ(run_of(kMeasured, {"--num-samples", "15"}).at("convergence").at("note"),
            "not measured: that takes 16 chains, but there are 15 to compare; raise num_samples "
            "or metrics.num_samples");
}

TEST(SampleJson, HasEveryNumberOfEveryLevel) {
  const Json levels = run_of(kMeasured).at("levels");
  ASSERT_EQ(levels.size(), 3U);
  for (const Json& level : levels) {
    for (const char* key : {"index", "acceptance", "step_size", "num_invalid", "evaluations"}) {
      expect_number(level, key);
    }
    EXPECT_EQ(level.at("step_size"), 0.03);
    EXPECT_EQ(level.at("num_invalid"), 0);
  }
  EXPECT_EQ(levels[0].at("index"), 7);
  EXPECT_EQ(levels[2].at("index"), 0);
  EXPECT_EQ(levels[0].at("evaluations"), 31);
  EXPECT_EQ(levels[2].at("evaluations"), 32);
}

// 16 points are the fewest that are measured; fewer, or no target: null, never a missing key.
TEST(SampleJson, KeepsItsKeysWhereThereIsNothingToSay) {
  EXPECT_TRUE(run_of(kMeasured, {"--num-samples", "16"}).at("metrics").is_object());
  EXPECT_TRUE(run_of(kMeasured, {"--num-samples", "15"}).at("metrics").is_null());
  const Json reverse = run_of(kMeasured, {"--sampler", "reverse"});
  for (const Json& level : reverse.at("levels")) {
    EXPECT_TRUE(level.at("acceptance").is_null());
  }
}

}  // namespace
}  // namespace motet
