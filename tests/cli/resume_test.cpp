// A run that is stopped at a given step, by Ctrl-C or a kill, and resumed ends with the bits of a
// run that was not.
#include "cli/resume.hpp"

#include <gtest/gtest.h>

#include <csignal>

#include "motet/error.hpp"
#include "motet/io.hpp"
#include "motet/run.hpp"

namespace motet {
namespace {

using test::Folder;
using test::Output;
using test::run_motet;
using test::write_text;

const std::string kSample = test::sample_config(/*num_levels=*/20, /*every_steps=*/7);
const std::string kTrain = test::train_config(/*num_steps=*/60, /*every_steps=*/5);

// Sends `signal` after the given step, counted from where the run started or resumed.
test::Environment signal_at(int signal, int step) {
  return {{"MOTET_TEST_SIGNAL", std::to_string(signal) + ":" + std::to_string(step)}};
}

struct Stop {
  int signal;
  int step;
};

// Runs `args` to the end through all stops.
void run_through(const Folder& folder, std::vector<std::string> args,
                 const std::vector<Stop>& stops) {
  for (const auto& [signal, step] : stops) {
    const Output output = run_motet(folder, args, signal_at(signal, step));
    ASSERT_EQ(output.code, 128 + signal) << output.err;
    if (args.back() != "--resume") {
      args = test::resumed(args);
    }
  }
  const Output output = run_motet(folder, args);
  ASSERT_EQ(output.code, 0) << output.err;
}

// Ctrl-C writes a checkpoint at the step where it comes, a kill leaves the last one: both in the
// first tile and both with rows on disk, in either order.
TEST(Resume, SamplingEndsWithTheSameBits) {
  const Folder folder;
  write_text(folder / "s.toml", kSample);
  ASSERT_EQ(run_motet(folder, test::sample_args("a")).code, 0);
  run_through(folder, test::sample_args("b"),
              {{SIGINT, 37}, {SIGKILL, 60}, {SIGKILL, 130}, {SIGINT, 230}});
  test::expect_same_results(folder);
}

TEST(Resume, TrainingEndsWithTheSameBits) {
  const Folder folder;
  write_text(folder / "t.toml", kTrain);
  ASSERT_EQ(run_motet(folder, test::train_args("a")).code, 0);
  run_through(folder, test::train_args("b"), {{SIGINT, 13}, {SIGKILL, 31}});
  test::expect_same_results(folder);
}

// The rows have their final name when the JSON fails, here because its folder went away.
TEST(ResumeSampling, GoesOnAfterAFailureBehindTheLastStep) {
  const Folder folder;
  std::filesystem::create_directory(folder / "json");
  const SampleConfig config = parse_config(kSample, "s.toml");
  RunFiles files;
  files.samples = folder / "a.npy";
  run(config, files);
  files.samples = folder / "b.npy";
  files.json = folder / "json/b.json";
  RunHooks hooks;
  hooks.should_stop = [&] {
    std::filesystem::remove_all(folder / "json");
    return false;
  };
  EXPECT_THROW(run(config, files, hooks), DataError);
  EXPECT_TRUE(std::filesystem::exists(files.samples));
  std::filesystem::create_directory(folder / "json");
  files.resume = true;
  run(config, files);
  EXPECT_TRUE(std::filesystem::exists(files.json));
  std::filesystem::remove_all(folder / "json");
  test::expect_same_results(folder);
}

// The pilot run's numbers are in the checkpoint, and so are weights and normalisers.
TEST(ResumeSampling, GoesOnWithTheWeightsAndTheTunedPlanOfTheExactSampler) {
  const Folder folder;
  std::string config = test::sample_config(20, 7);
  config.replace(config.find("hmc-4-curve"), 11, "exact");
  write_text(folder / "s.toml", config + "[weights]\nisland_size = 64\n[tune]\nnum_chains = 64\n");
  ASSERT_EQ(run_motet(folder, test::sample_args("a")).code, 0);
  for (const int step : {70, 110}) {  // after the pilot run, in the first tile and in a later one
    const std::vector<std::string> args = test::sample_args("b");
    ASSERT_EQ(run_motet(folder, args, signal_at(SIGKILL, step)).code, 128 + SIGKILL) << step;
    ASSERT_EQ(run_motet(folder, test::resumed(args)).code, 0) << step;
    test::expect_same_results(folder);
  }
}

// "a" runs through; "b" is killed after the pilot run and resumed.
void run_whole_and_resumed(const Folder& folder) {
  ASSERT_EQ(run_motet(folder, test::sample_args("a")).code, 0);
  const std::vector<std::string> args = test::sample_args("b");
  ASSERT_EQ(run_motet(folder, args, signal_at(SIGKILL, 110)).code, 128 + SIGKILL);
  ASSERT_EQ(run_motet(folder, test::resumed(args)).code, 0);
}

// So are the points of the line and the masses of its levels.
TEST(ResumeSampling, GoesOnWithThePointsAndTheMassesThatThePilotFound) {
  const Folder folder;
  std::string config = test::sample_config(20, 7);
  config.replace(config.find("hmc-4-curve"), 11, "exact");
  config.insert(config.find("law = \"ring\""), "score_only = true\n");
  write_text(folder / "s.toml", config +
                                    "[ratio]\ntype = \"line\"\n[weights]\nisland_size = 64\n"
                                    "[tune]\nnum_chains = 64\nmass = \"diagonal\"\n");
  ASSERT_NO_FATAL_FAILURE(run_whole_and_resumed(folder));
  test::expect_same_results(folder);
}

TEST(ResumeSampling, GoesOnWithWeightsThatAreReturned) {
  const Folder folder;
  std::string config = test::sample_config(20, 7);
  config.replace(config.find("hmc-4-curve"), 11, "exact");
  write_text(folder / "s.toml", config +
                                    "[weights]\nisland_size = 64\nresampling = \"none\"\n"
                                    "[tune]\nnum_chains = 64\n");
  ASSERT_NO_FATAL_FAILURE(run_whole_and_resumed(folder));
  EXPECT_EQ(test::read_text(folder / "a.log_weights.npy"),
            test::read_text(folder / "b.log_weights.npy"));
  EXPECT_EQ(read_npy(folder / "b.log_weights.npy").sizes(), (std::vector<int64_t>{300}));
}

// Starting anew overwrites the rows that an old checkpoint counts on.
TEST(ResumeSampling, DoesNotTakeTheCheckpointOfAnAbandonedRun) {
  const Folder folder;
  write_text(folder / "s.toml", kSample);
  const std::vector<std::string> args = test::sample_args("b");
  ASSERT_EQ(run_motet(folder, args, signal_at(SIGKILL, 250)).code, 128 + SIGKILL);
  ASSERT_TRUE(std::filesystem::exists(folder / "b.npy.checkpoint"));
  ASSERT_EQ(run_motet(folder, args, signal_at(SIGKILL, 3)).code, 128 + SIGKILL);
  EXPECT_FALSE(std::filesystem::exists(folder / "b.npy.checkpoint"));
}

TEST(ResumeRefuses, AnotherConfigNamingTheKey) {
  const Folder folder;
  write_text(folder / "s.toml", kSample);
  run_motet(folder, {"sample", "s.toml", "--out", "x.npy"}, signal_at(SIGKILL, 20));
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

TEST(ResumeRefuses, WhenTheRowsOfFinishedChainsAreGone) {
  const Folder folder;
  write_text(folder / "s.toml", kSample);
  const std::vector<std::string> args = {"sample", "s.toml", "--out", "x.npy"};
  run_motet(folder, args, signal_at(SIGKILL, 250));
  std::filesystem::remove(folder / "x.npy.partial");
  const Output output = run_motet(folder, test::resumed(args));
  EXPECT_EQ(output.code, 3);
  EXPECT_EQ(output.err,
            "motet: resume: x.npy.partial: missing, but it holds the rows of 128 finished chains; "
            "delete x.npy.checkpoint and start anew\n");
}

}  // namespace
}  // namespace motet
