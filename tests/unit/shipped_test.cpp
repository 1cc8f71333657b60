// What the repository ships: every network loads and gives finite scores, every experiment parses,
// and the two sampling experiments run, here with few chains on few levels.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "motet/io.hpp"
#include "motet/run.hpp"

namespace motet {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> files(const std::string& folder, const std::string& extension) {
  std::vector<std::string> paths;
  for (const auto& entry : fs::directory_iterator(fs::path(MOTET_SOURCE_DIR) / folder)) {
    if (entry.path().extension() == extension) {
      paths.push_back(entry.path().string());
    }
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

TEST(ShippedModels, LoadAndGiveFiniteScoresOnEveryLevel) {
  const std::vector<std::string> paths = files("models", ".safetensors");
  EXPECT_GE(paths.size(), 2U);
  const Tensor x = at::tensor({0.0, 0.5, 0.35, -0.35, -1.0, 2.0}, at::kFloat).view({3, 2});
  for (const std::string& path : paths) {
    const Weights weights = load_weights(path);
    for (const char* key : {"data", "seed", "num_steps", "config", "commit"}) {
      EXPECT_TRUE(weights.provenance.contains(key)) << path << " " << key;
    }
    // Its own config, kept in the file, is one that trains such a network.
    const TrainJob job = parse_train_config(weights.provenance.at("config"), path);
    EXPECT_TRUE(job.train.network == weights.config) << path;
    EXPECT_TRUE(job.train.schedule.same_levels(weights.schedule)) << path;
    const ModelPtr model = network_model(weights, path);
    for (int64_t index = 0; index < weights.schedule.num_levels(); ++index) {
      const Eval eval = model->evaluate(x, weights.schedule.level(index));
      EXPECT_TRUE(eval.score.isfinite().all().item<bool>()) << path << " level " << index;
    }
  }
}

TEST(ShippedExperiments, AllParse) {
  int64_t num_sampling = 0;
  for (const std::string& path : files("experiments", ".toml")) {
    SCOPED_TRACE(path);
    if (fs::path(path).filename().string().starts_with("train-")) {
      const TrainJob job = load_train_config(path);
      EXPECT_EQ(parse_train_config(job.toml).identity, job.identity);
      continue;
    }
    const SampleConfig config = load_config(path);
    EXPECT_GE(config.terms.size(), 1U);
    for (const TermConfig& term : config.terms) {
      EXPECT_TRUE(term.law || fs::exists(term.weights)) << term.weights;
    }
    ++num_sampling;
  }
  EXPECT_GE(num_sampling, 2);
}

TEST(ShippedExperiments, TheBenchmarkRunsOnNetworksAndOnExactScores) {
  for (const char* name : {"product", "product-motet", "product-exact"}) {
    SCOPED_TRACE(name);
    const std::string path = std::string(MOTET_SOURCE_DIR "/experiments/") + name + ".toml";
    const SampleConfig config =
        load_config(path, {"num_samples=16", "sampler=hmc-4-curve", "anneal.levels=[99, 50, 10, 0]",
                           "anneal.steps_per_level=3"});
    const RunReport report = run(config);
    EXPECT_TRUE(report.samples.isfinite().all().item<bool>());
    const auto json = nlohmann::json::parse(report.json);
    EXPECT_EQ(json.at("target"), "product(ring, bar)");
    EXPECT_EQ(json.at("evaluations_per_chain"), 4 * (1 + 3 * 3) + 1);
    EXPECT_TRUE(json.at("metrics").is_object());
    for (const auto& level : json.at("levels")) {
      EXPECT_EQ(level.at("num_invalid"), 0);
      EXPECT_TRUE(level.at("acceptance").is_number());
    }
  }
}

}  // namespace
}  // namespace motet
