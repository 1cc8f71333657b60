// A run that is killed at any moment and resumed ends with the bits of a run that was not.
#include <gtest/gtest.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "cli/process.hpp"

namespace motet {
namespace {

using test::Folder;
using test::Output;
using test::run_motet;
using test::write_text;

// Three tiles, so that kills fall into rows on disk, the checkpoint and the tile in memory.
const std::string kSample = R"(num_samples = 300
seed = 9
tile_size = 128
[model.ring]
law = "ring"
[model.bar]
law = "bar"
[schedule]
num_levels = 20
[metrics]
target = "product"
[checkpoint]
every_steps = 7
)";

const std::string kTrain = R"(seed = 4
[data]
set = "ring"
[network]
width = 16
num_blocks = 1
[schedule]
num_levels = 10
[train]
num_steps = 60
batch_size = 64
held_out_every = 20
held_out_size = 50
[checkpoint]
every_steps = 5
)";

// Runs `args` to the end through a signal after each of `steps` (counted from where it resumed).
void run_through(const Folder& folder, std::vector<std::string> args, int signal,
                 const std::vector<int>& steps) {
  for (const int step : steps) {
    const std::string when = std::to_string(signal) + ":" + std::to_string(step);
    const Output output = run_motet(folder, args, {{"MOTET_TEST_SIGNAL", when}});
    ASSERT_EQ(output.code, signal == SIGINT ? 130 : 128 + signal) << output.err;
    if (args.back() != "--resume") {
      args.push_back("--resume");
    }
  }
  const Output output = run_motet(folder, args);
  ASSERT_EQ(output.code, 0) << output.err;
}

// What a resumed run must share with an uninterrupted one: all but times and memory.
nlohmann::json result_of(const std::string& path) {
  auto json = nlohmann::json::parse(test::read_text(path));
  json.erase("seconds");
  json.erase("peak_rss_bytes");
  return json;
}

class Resume : public testing::TestWithParam<int> {};

TEST_P(Resume, SamplingEndsWithTheSameBits) {
  const Folder folder;
  write_text(folder / "s.toml", kSample);
  ASSERT_EQ(run_motet(folder, {"sample", "s.toml", "--out", "a.npy", "--json", "a.json"}).code, 0);
  run_through(folder, {"sample", "s.toml", "--out", "b.npy", "--json", "b.json"}, GetParam(),
              {37, 190, 230});
  EXPECT_EQ(test::read_text(folder / "a.npy"), test::read_text(folder / "b.npy"));
  EXPECT_EQ(result_of(folder / "a.json"), result_of(folder / "b.json"));
  EXPECT_FALSE(std::filesystem::exists(folder / "b.npy.checkpoint"));
}

TEST_P(Resume, TrainingEndsWithTheSameBits) {
  const Folder folder;
  write_text(folder / "t.toml", kTrain);
  ASSERT_EQ(
      run_motet(folder, {"train", "t.toml", "--out", "a.safetensors", "--json", "a.json"}).code, 0);
  run_through(folder, {"train", "t.toml", "--out", "b.safetensors", "--json", "b.json"}, GetParam(),
              {13, 31});
  EXPECT_EQ(test::read_text(folder / "a.safetensors"), test::read_text(folder / "b.safetensors"));
  EXPECT_EQ(result_of(folder / "a.json"), result_of(folder / "b.json"));
}

INSTANTIATE_TEST_SUITE_P(Signals, Resume, testing::Values(SIGINT, SIGKILL),
                         [](const auto& test) { return test.param == SIGINT ? "CtrlC" : "Kill"; });

TEST(ResumeRefuses, AnotherConfigNamingTheKey) {
  const Folder folder;
  write_text(folder / "s.toml", kSample);
  run_motet(folder, {"sample", "s.toml", "--out", "x.npy"}, {{"MOTET_TEST_SIGNAL", "9:20"}});
  ASSERT_TRUE(std::filesystem::exists(folder / "x.npy.checkpoint"));
  const Output output =
      run_motet(folder, {"sample", "s.toml", "--out", "x.npy", "--seed", "10", "--resume"});
  EXPECT_EQ(output.code, 2);
  EXPECT_EQ(output.err,
            "motet: checkpoint: x.npy.checkpoint: made with seed = 9, but this run has 10; resume "
            "with the same config, or delete the file and start anew\n");
}

TEST(ResumeRefuses, WhenThereIsNothingToResume) {
  const Folder folder;
  write_text(folder / "s.toml", kSample);
  const Output no_output = run_motet(folder, {"sample", "s.toml", "--resume"});
  EXPECT_EQ(no_output.code, 2);
  EXPECT_EQ(no_output.err,
            "motet: config: s.toml: --resume needs the output file that names the checkpoint: give "
            "--out\n");
  const Output no_checkpoint =
      run_motet(folder, {"sample", "s.toml", "--out", "x.npy", "--resume"});
  EXPECT_EQ(no_checkpoint.code, 3);
}

}  // namespace
}  // namespace motet
