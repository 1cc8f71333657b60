// `motet reproduce table1` through the command line, with networks that learn nothing and few
// chains.
#include "motet/reproduce.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/process.hpp"

namespace motet {
namespace {

using test::Folder;
using test::Output;
using test::run_motet;
using test::write_text;

class ReproduceCommand : public testing::Test {
 protected:
  Output table1(const std::vector<std::string>& more) {
    std::vector<std::string> args = {"reproduce", "table1", "--out", "t"};
    args.insert(args.end(), more.begin(), more.end());
    return run_motet(folder_, args);
  }
  Output tiny(std::vector<std::string> more) {
    const std::vector<std::string> settings = {"--repeats",    "1", "--train-steps", "2",
                                               "--batch-size", "8", "--num-samples", "16"};
    more.insert(more.begin(), settings.begin(), settings.end());
    return table1(more);
  }
  bool exists(const std::string& name) const { return std::filesystem::exists(folder_ / name); }
  nlohmann::json repeat() const {
    return nlohmann::json::parse(test::read_text(folder_ / "t/repeat-01.json"));
  }

  Folder folder_;
};

TEST_F(ReproduceCommand, MakesTheTableAndResumeAddsARow) {
  const Output first = tiny({"--rows", "score/reverse"});
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_EQ(first.err, "");
  for (const char* name : {"t/table1.json", "t/table1.md", "t/report.html", "t/repeat-01.json",
                           "t/repeat-01/ring.safetensors", "t/repeat-01/bar.safetensors",
                           "t/repeat-01/score-reverse.npy"}) {
    EXPECT_TRUE(exists(name)) << name;
  }
  EXPECT_FALSE(exists("t/repeat-01/ring-energy.safetensors"));
  EXPECT_EQ(first.out, test::read_text(folder_ / "t/table1.md") + "\nreport  t/report.html\n");
  const nlohmann::json before = repeat();
  EXPECT_EQ(before.at("rows").size(), 1U);

  const Output again = tiny({"--rows", "score/reverse"});
  EXPECT_EQ(again.code, 2);
  EXPECT_EQ(again.out, "");
  EXPECT_EQ(again.err,
            "motet: reproduce: t/repeat-01.json exists; --resume adds the rows it lacks, or choose "
            "another --out\n");

  const Output more = tiny({"--rows", "score/reverse,score/u-la", "--resume"});
  ASSERT_EQ(more.code, 0) << more.err;
  const nlohmann::json after = repeat();
  EXPECT_EQ(after.at("rows").size(), 2U);
  EXPECT_EQ(after.at("rows").at("score/reverse"), before.at("rows").at("score/reverse"));
  EXPECT_EQ(after.at("rows").at("score/u-la").at("evaluations_per_chain"), 1089);
  EXPECT_NE(more.out.find("u-la"), std::string::npos);

  const std::string table = test::read_text(folder_ / "t/table1.md");
  const std::string page = test::read_text(folder_ / "t/report.html");
  EXPECT_EQ(page.find("<script"), std::string::npos);
  std::filesystem::remove(folder_ / "t/table1.md");
  std::filesystem::remove(folder_ / "t/report.html");
  const Output rendered = table1({"--render"});
  EXPECT_EQ(rendered.code, 0) << rendered.err;
  EXPECT_EQ(rendered.out, more.out);
  EXPECT_EQ(test::read_text(folder_ / "t/table1.md"), table);
  EXPECT_EQ(test::read_text(folder_ / "t/report.html"), page);
}

TEST_F(ReproduceCommand, StoppedTrainingSaysHowToGoOn) {
  const std::vector<std::string> args = {
      "reproduce",     "table1", "--out",         "t",
      "--repeats",     "1",      "--rows",        "score/reverse",
      "--batch-size",  "8",      "--train-steps", "3",
      "--num-samples", "16"};
  const Output stopped = run_motet(folder_, args, {{"MOTET_TEST_SIGNAL", "2:2"}});
  EXPECT_EQ(stopped.code, 130);
  EXPECT_EQ(stopped.out, "");
  EXPECT_EQ(
      stopped.err,
      "motet: train: interrupted; progress is in t/repeat-01/ring.safetensors.checkpoint: run "
      "the same command with --resume to continue\n");
  EXPECT_TRUE(exists("t/repeat-01/ring.safetensors.checkpoint"));
  std::vector<std::string> resumed = args;
  resumed.emplace_back("--resume");
  const Output rest = run_motet(folder_, resumed);
  EXPECT_EQ(rest.code, 0) << rest.err;
  EXPECT_FALSE(exists("t/repeat-01/ring.safetensors.checkpoint"));
  EXPECT_TRUE(exists("t/table1.md"));
}

TEST_F(ReproduceCommand, RefusalsExitWithTwoAndThree) {
  const Output no_table = run_motet(folder_, {"reproduce"});
  EXPECT_EQ(no_table.code, 2);
  EXPECT_EQ(no_table.err, "A subcommand is required\nRun with --help for more information.\n");
  EXPECT_EQ(table1({"--compute", "fp8"}).code, 2);
  const Output unknown = table1({"--rows", "hmc-4-curv"});
  EXPECT_EQ(unknown.code, 2);
  EXPECT_EQ(unknown.err,
            "motet: reproduce: unknown row \"hmc-4-curv\"; did you mean \"hmc-4-curve\"? Give "
            "score, energy, a sampler's name, or one row such as score/hmc-4-curve\n");
  const Output few = table1({"--num-samples", "15"});
  EXPECT_EQ(few.code, 2);
  EXPECT_EQ(few.err, "motet: reproduce: num_samples = 15, must be in [16, 4000]\n");
  const Output nothing = table1({"--render"});
  EXPECT_EQ(nothing.code, 3);
  EXPECT_EQ(nothing.err,
            "motet: reproduce: t: no repeat-NN.json; make one with motet reproduce table1 --out "
            "t\n");
  EXPECT_FALSE(exists("t"));
}

TEST_F(ReproduceCommand, UnwritableFolderIsFoundBeforeAnyWork) {
  write_text(folder_ / "t", "a file, not a folder");
  const Output output = tiny({"--rows", "score/reverse"});
  EXPECT_EQ(output.code, 3);
  EXPECT_EQ(output.out, "");
  EXPECT_EQ(output.err, "motet: reproduce: folder t cannot be made: Not a directory\n");
}

TEST_F(ReproduceCommand, SecondProcessOnOneFolderIsRefusedAtOnce) {
  ReproduceConfig config;
  config.folder = folder_ / "t";
  config.num_repeats = 1;
  config.rows = {"score/reverse"};
  config.train_steps = 2;
  config.batch_size = 8;
  config.num_samples = 16;
  std::vector<Output> seconds;
  RunHooks hooks;
  hooks.should_stop = [&] {
    if (seconds.empty()) {
      seconds = {tiny({}), tiny({"--resume"}), tiny({"--first-repeat", "2"})};
    }
    return false;
  };
  reproduce_table1(config, hooks);
  ASSERT_EQ(seconds.size(), 3U);
  for (const Output& second : seconds) {
    EXPECT_EQ(second.code, 3);
    EXPECT_EQ(second.err, "motet: reproduce: t is in use by another motet reproduce (process " +
                              std::to_string(getpid()) + "); wait for it, or give another --out\n");
  }
  EXPECT_FALSE(exists("t/reproduce.lock"));
  EXPECT_EQ(repeat().at("rows").size(), 1U);
}

// The kernel ends the lock with its process.
TEST_F(ReproduceCommand, LockFileLeftByAKillIsTakenOver) {
  std::filesystem::create_directory(folder_ / "t");
  write_text(folder_ / "t/reproduce.lock", "1\n");
  EXPECT_EQ(tiny({"--rows", "score/reverse", "--resume"}).code, 0);
  EXPECT_FALSE(exists("t/reproduce.lock"));
}

}  // namespace
}  // namespace motet
