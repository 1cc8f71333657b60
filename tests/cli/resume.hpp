// What the tests of stopping and resuming share: small runs, and how their results are compared.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/process.hpp"

namespace motet::test {

/// Three tiles, so that a stop falls into rows on disk, the checkpoint and the tile in memory.
inline std::string sample_config(int64_t num_levels, int64_t every_steps) {
  return R"(num_samples = 300
sampler = "hmc-4-curve"
seed = 9
tile_size = 128
[model.ring]
law = "ring"
[model.bar]
law = "bar"
[schedule]
num_levels = )" +
         std::to_string(num_levels) + R"(
[metrics]
target = "product"
[checkpoint]
every_steps = )" +
         std::to_string(every_steps) + "\n";
}

inline std::string train_config(int64_t num_steps, int64_t every_steps) {
  return R"(seed = 4
[data]
set = "ring"
[network]
width = 16
num_blocks = 1
[schedule]
num_levels = 10
[train]
num_steps = )" +
         std::to_string(num_steps) + R"(
batch_size = 64
held_out_every = 20
held_out_size = 50
[checkpoint]
every_steps = )" +
         std::to_string(every_steps) + "\n";
}

/// `motet sample s.toml` into OUT.npy and OUT.json.
inline std::vector<std::string> sample_args(const std::string& out) {
  return {"sample", "s.toml", "--out", out + ".npy", "--json", out + ".json"};
}

/// `motet train t.toml` into OUT.safetensors and OUT.json.
inline std::vector<std::string> train_args(const std::string& out) {
  return {"train", "t.toml", "--out", out + ".safetensors", "--json", out + ".json"};
}

inline std::vector<std::string> resumed(std::vector<std::string> args) {
  args.push_back("--resume");
  return args;
}

/// Takes times and memory out, at any depth: all that runs of the same bits may differ in.
inline void remove_measurements(nlohmann::json& json) {
  if (json.is_object()) {
    json.erase("seconds");
    json.erase("peak_rss_bytes");
  }
  if (json.is_structured()) {
    for (nlohmann::json& part : json) {
      remove_measurements(part);
    }
  }
}

inline void expect_same_file(const std::string& a, const std::string& b) {
  if (!a.ends_with(".json")) {
    EXPECT_TRUE(read_text(a) == read_text(b)) << a << " and " << b << " differ";
    return;
  }
  auto one = nlohmann::json::parse(read_text(a));
  auto other = nlohmann::json::parse(read_text(b));
  remove_measurements(one);
  remove_measurements(other);
  EXPECT_EQ(one, other) << a << " and " << b;
}

/// The folder holds the same files a.* and b.*, and of b no checkpoint, part or temporary file.
inline void expect_same_results(const Folder& folder) {
  std::set<std::string> ends;
  std::set<std::string> other_ends;
  for (const std::string& name : folder.names()) {
    if (name.starts_with("a.") || name.starts_with("b.")) {
      (name[0] == 'a' ? ends : other_ends).insert(name.substr(1));
    }
  }
  EXPECT_FALSE(ends.empty());
  EXPECT_EQ(ends, other_ends);
  for (const std::string& end : ends) {
    expect_same_file(folder / ("a" + end), folder / ("b" + end));
  }
}

}  // namespace motet::test
