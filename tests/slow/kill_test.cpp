// A run killed at random moments - while it loads, works, writes or measures - and resumed ends
// with the bits of a run that was not. By the clock, so slow; tests/cli/resume_test.cpp stops runs
// at given steps.
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <random>
#include <thread>

#include "cli/resume.hpp"

namespace motet {
namespace {

using test::Folder;
using test::Output;
using test::write_text;
using Args = std::vector<std::string>;
using Seconds = std::chrono::duration<double>;

struct Kills {
  int num_kill = 0;
  int num_interrupt = 0;
};

class ResumeAfterKill : public testing::Test {
 protected:
  /// Runs `args` to the end; this is the scale of all delays after it.
  void run_whole(const Args& args) {
    const auto start = std::chrono::steady_clock::now();
    const Output output = test::run_motet(folder_, args);
    whole_ = std::chrono::steady_clock::now() - start;
    ASSERT_EQ(output.code, 0) << output.err;
  }

  /// Runs `args` again and again until it ends by itself, each time hit by SIGKILL or SIGINT, in
  /// turn, after a random share of the whole run's time. Resumes where `checkpoint` exists; where
  /// it is empty, always.
  void run_with_kills(const Args& args, const std::string& checkpoint, unsigned seed) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> share;
    constexpr int kMaxAttempts = 60;
    for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
      const bool can_resume = checkpoint.empty() || std::filesystem::exists(folder_ / checkpoint);
      const pid_t child = test::start_motet(folder_, can_resume ? test::resumed(args) : args);
      // Short at first, for several kills a run, then longer, so that it ends: a killed attempt that
      // was shorter than the loading and a step to the next checkpoint has gained nothing.
      std::this_thread::sleep_for(share(random) * (0.6 + 0.1 * attempt) * whole_);
      const int signal = (seed + static_cast<unsigned>(attempt)) % 2 == 0 ? SIGKILL : SIGINT;
      kill(child, signal);
      const Output output = test::finish_motet(folder_, child);
      if (output.code == 0) {
        return;
      }
      ASSERT_EQ(output.code, 128 + signal) << output.err;
      ++(signal == SIGKILL ? kills_.num_kill : kills_.num_interrupt);
    }
    FAIL() << "not ended after " << kMaxAttempts << " attempts";
  }

  /// The test says nothing about a signal that never came.
  void expect_both_signals() const {
    EXPECT_GT(kills_.num_kill, 0);
    EXPECT_GT(kills_.num_interrupt, 0);
    RecordProperty("num_kill", kills_.num_kill);
    RecordProperty("num_interrupt", kills_.num_interrupt);
  }

  Folder folder_;
  Seconds whole_{};
  Kills kills_;
};

constexpr unsigned kNumRepeats = 3;

TEST_F(ResumeAfterKill, SamplingEndsWithTheSameBits) {
  write_text(folder_ / "s.toml", test::sample_config(/*num_levels=*/20, /*every_steps=*/4));
  run_whole(test::sample_args("a"));
  for (unsigned seed = 0; seed < kNumRepeats; ++seed) {
    run_with_kills(test::sample_args("b"), "b.npy.checkpoint", seed);
    test::expect_same_results(folder_);
  }
  expect_both_signals();
}

TEST_F(ResumeAfterKill, TrainingEndsWithTheSameBits) {
  write_text(folder_ / "t.toml", test::train_config(/*num_steps=*/200, /*every_steps=*/4));
  run_whole(test::train_args("a"));
  for (unsigned seed = 0; seed < kNumRepeats; ++seed) {
    run_with_kills(test::train_args("b"), "b.safetensors.checkpoint", seed);
    test::expect_same_results(folder_);
  }
  expect_both_signals();
}

// Two networks, two rows, the table; each part is resumed from its own files.
TEST_F(ResumeAfterKill, ReproducingEndsWithTheSameBits) {
  const auto args = [](const std::string& out) {
    return Args{
        "reproduce",     "table1",       "--repeats", "1",      "--train-steps",
        "200",           "--batch-size", "64",        "--rows", "score/reverse,score/hmc-4-curve",
        "--num-samples", "32",           "--out",     out};
  };
  run_whole(args("a"));
  const std::set<std::string> names = folder_.names("a");
  EXPECT_TRUE(names.contains("repeat-01/score-hmc-4-curve.npy"));
  for (unsigned seed = 0; seed < kNumRepeats; ++seed) {
    std::filesystem::remove_all(folder_ / "b");
    run_with_kills(args("b"), "", seed);
    ASSERT_EQ(folder_.names("b"), names);
    for (const std::string& name : names) {
      if (!name.ends_with(".html") && !name.ends_with(".md")) {  // they show times
        test::expect_same_file(folder_ / ("a/" + name), folder_ / ("b/" + name));
      }
    }
  }
  expect_both_signals();
}

}  // namespace
}  // namespace motet
