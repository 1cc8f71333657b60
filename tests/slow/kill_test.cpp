// A run killed at any moment, in the middle of writing a checkpoint too, resumes to the same bits.
// By the clock, so slow; tests/cli/resume_test.cpp kills at given steps.
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

#include "cli/process.hpp"

namespace motet {
namespace {

using test::finish_motet;
using test::Folder;
using test::Output;
using test::run_motet;
using test::start_motet;
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
num_levels = 60
[metrics]
target = "product"
[checkpoint]
every_steps = 1
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
num_steps = 400
batch_size = 64
held_out_every = 20
held_out_size = 50
[checkpoint]
every_steps = 1
)";

// Kills `args` after each delay until it ends by itself, resuming each time; counts the kills.
int run_with_kills(const Folder& folder, std::vector<std::string> args,
                   const std::string& checkpoint, int signal, unsigned seed) {
  std::srand(seed);
  int num_kills = 0;
  for (int attempt = 0; attempt < 40; ++attempt) {
    std::vector<std::string> now = args;
    if (std::filesystem::exists(checkpoint)) {
      now.push_back("--resume");
    }
    const pid_t child = start_motet(folder, now);
    // The delay grows so that the run always ends; most kills fall inside the work.
    const int delay = 100'000 + attempt * 40'000 + std::rand() % 200'000;
    usleep(static_cast<useconds_t>(delay));
    kill(child, signal);
    const Output output = finish_motet(folder, child);
    if (output.code == 0) {
      return num_kills;
    }
    EXPECT_TRUE(output.code == 130 || output.code == 128 + signal) << output.code << output.err;
    ++num_kills;
  }
  ADD_FAILURE() << "the run never ended";
  return num_kills;
}

TEST(ResumeAfterKill, SamplingEndsWithTheSameBits) {
  const Folder folder;
  write_text(folder / "s.toml", kSample);
  ASSERT_EQ(run_motet(folder, {"sample", "s.toml", "--out", "a.npy"}).code, 0);
  for (unsigned seed = 0; seed < 4; ++seed) {
    run_with_kills(folder, {"sample", "s.toml", "--out", "b.npy"}, folder / "b.npy.checkpoint",
                   SIGKILL, seed);
    EXPECT_EQ(test::read_text(folder / "a.npy"), test::read_text(folder / "b.npy"));
  }
}

TEST(ResumeAfterKill, TrainingEndsWithTheSameBits) {
  const Folder folder;
  write_text(folder / "t.toml", kTrain);
  ASSERT_EQ(run_motet(folder, {"train", "t.toml", "--out", "a.safetensors"}).code, 0);
  for (unsigned seed = 0; seed < 4; ++seed) {
    run_with_kills(folder, {"train", "t.toml", "--out", "b.safetensors"},
                   folder / "b.safetensors.checkpoint", SIGKILL, seed);
    EXPECT_EQ(test::read_text(folder / "a.safetensors"), test::read_text(folder / "b.safetensors"));
  }
}

}  // namespace
}  // namespace motet
