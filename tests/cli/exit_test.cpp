// Exit codes beside 0 and 2, what an interrupted run says, hostile configs and outputs that cannot
// be written: each with its whole message.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <nlohmann/json.hpp>

#include "cli/process.hpp"

namespace motet {
namespace {

using test::Folder;
using test::Output;
using test::run_motet;
using test::write_text;

const std::string kSample = R"(num_samples = 20
sampler = "hmc-4-curve"
seed = 5
[model.ring]
law = "ring"
[schedule]
num_levels = 4
)";

const std::string kTrain = R"(seed = 4
[data]
set = "ring"
[network]
width = 8
num_blocks = 1
[schedule]
num_levels = 3
[train]
num_steps = 5
batch_size = 8
held_out_size = 9
)";

class ExitCode : public testing::Test {
 protected:
  void SetUp() override {
    write_text(folder_ / "s.toml", kSample);
    write_text(folder_ / "t.toml", kTrain);
    write_text(folder_ / "file", "not a folder");
  }
  void expect_failure(const std::vector<std::string>& args, int code, const std::string& message,
                      const test::Environment& environment = {}) {
    SCOPED_TRACE(testing::PrintToString(args));
    const Output output = run_motet(folder_, args, environment);
    EXPECT_EQ(output.code, code);
    EXPECT_EQ(output.out, "");
    EXPECT_EQ(output.err, "motet: " + message + "\n");
  }
  bool exists(const std::string& name) const { return std::filesystem::exists(folder_ / name); }

  Folder folder_;
};

TEST_F(ExitCode, IsFourWhenEveryProposalIsInvalid) {
  const std::string config = MOTET_SOURCE_DIR "/tests/cases/all-chains-invalid";
  expect_failure({"sample", config + ".toml", "--out", "x.npy"}, 4,
                 nlohmann::json::parse(test::read_text(config + ".json")).at("error"));
  EXPECT_FALSE(exists("x.npy"));
}

TEST_F(ExitCode, IsFourWhenTrainingBreaksDown) {
  const Output output =
      run_motet(folder_, {"train", "t.toml", "--set", "train.learning_rate=1e30"});
  EXPECT_EQ(output.code, 4);
  EXPECT_EQ(output.out, "");
  EXPECT_EQ(output.err.rfind("motet: train: the ", 0), 0U) << output.err;
  EXPECT_NE(output.err.find("is not finite at step "), std::string::npos) << output.err;
  EXPECT_FALSE(exists("t.safetensors"));
}

// A limit on the address space of the children that are started under it.
class AddressSpaceLimit {
 public:
  explicit AddressSpaceLimit(rlim_t bytes) {
    getrlimit(RLIMIT_AS, &before_);
    rlimit now = before_;
    now.rlim_cur = bytes;
    setrlimit(RLIMIT_AS, &now);
  }
  ~AddressSpaceLimit() { setrlimit(RLIMIT_AS, &before_); }
  AddressSpaceLimit(const AddressSpaceLimit&) = delete;
  AddressSpaceLimit& operator=(const AddressSpaceLimit&) = delete;

 private:
  rlimit before_{};
};

// Memory that is not there. A tile of 2^24 chains of 200 numbers is 13 GB; the libraries of a CUDA
// build of torch take up to 5 GB of the limit.
TEST_F(ExitCode, IsFourWithoutMemoryAndSaysWhatToLower) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the sanitizer's own maps need more than any limit";
#endif
  std::string zeros = "0";
  for (int i = 1; i < 200; ++i) {
    zeros += ", 0";
  }
  write_text(folder_ / "big.toml",
             "num_samples = 16777216\ntile_size = 16777216\n[model.a]\nlaw = "
             "\"gaussian_mixture\"\nmeans = [[" +
                 zeros + "]]\nsds = [[1.0]]\n[schedule]\nnum_levels = 2\n");
  pid_t child = 0;
  {
    const AddressSpaceLimit limit(rlim_t{8} << 30);
    child = test::start_motet(folder_, {"sample", "big.toml"});
  }
  const Output output = test::finish_motet(folder_, child);
  EXPECT_EQ(output.code, 4);
  EXPECT_EQ(output.out, "");
  EXPECT_EQ(output.err,
            "motet: out of memory; lower tile_size (sampling), train.batch_size and "
            "train.held_out_size (training), or the sizes of the networks\n");
}

TEST_F(ExitCode, IsOneHundredAndThirtyWhenInterruptedAndSaysHowToGoOn) {
  const test::Environment at_step_3 = {{"MOTET_TEST_SIGNAL", "2:3"}};
  for (const char* flag : {"--out", "--json", "--report"}) {
    expect_failure({"sample", "s.toml", flag, "x"}, 130,
                   "sample: interrupted; progress is in x.checkpoint: run the same command with "
                   "--resume to continue",
                   at_step_3);
    EXPECT_TRUE(exists("x.checkpoint")) << flag;
    EXPECT_FALSE(exists("x")) << flag;
    std::filesystem::remove(folder_ / "x.checkpoint");
  }
  expect_failure({"sample", "s.toml"}, 130,
                 "sample: interrupted; nothing was kept, since the run writes no file: give --out "
                 "to be able to resume",
                 at_step_3);
  expect_failure({"sample", "s.toml", "--set", "checkpoint.path=\"c\""}, 130,
                 "sample: interrupted; progress is in c: run the same command with --resume to "
                 "continue",
                 at_step_3);
  expect_failure({"train", "t.toml"}, 130,
                 "train: interrupted; progress is in t.safetensors.checkpoint: run the same "
                 "command with --resume to continue",
                 at_step_3);
  expect_failure({"train", "t.toml", "--out", "w"}, 130,
                 "train: interrupted; progress is in w.checkpoint: run the same command with "
                 "--resume to continue",
                 {{"MOTET_TEST_SIGNAL", "15:2"}});
}

using HostileConfig = ExitCode;

TEST_F(HostileConfig, OfMoreThanAMebibyteIsRefusedUnparsed) {
  write_text(folder_ / "big.toml", kSample + "#" + std::string(1 << 20, 'x'));
  const std::string size = std::to_string(kSample.size() + 1 + (1 << 20));
  for (const char* command : {"sample", "train", "info"}) {
    expect_failure({command, "big.toml"}, 3,
                   "read: big.toml: file of " + size + " bytes, must have at most 1048576");
  }
}

TEST_F(HostileConfig, ThatIsNotUtf8IsRefusedWithItsLine) {
  const std::vector<std::string> broken = {
      "seed = 1\n# \xff\n",                        // a byte that UTF-8 never has
      "seed = 1\n[model.\"\xc3\x28\"]\n",          // a second byte missing
      "seed = 1\nsampler = \"u-la\xed\xa0\x80\"",  // half a surrogate pair
      "seed = 1\nsampler = \"\xf0\x9f\x98",        // ends within a letter
      "seed = 1\nsampler = \"\xc0\xaf\"",          // a longer form than needed
  };
  for (const std::string& text : broken) {
    write_text(folder_ / "b.toml", text);
    const Output output = run_motet(folder_, {"sample", "b.toml"});
    EXPECT_EQ(output.code, 2) << output.err;
    EXPECT_EQ(output.out, "");
    EXPECT_EQ(output.err.rfind("motet: config: b.toml:2: ", 0), 0U) << output.err;
  }
}

using UnwritableOutput = ExitCode;

// What stands in the way of an output, and the message; a process each, so not all with all flags.
const std::string kAbsent = "write: absent/x: folder absent does not exist; create it first";
const std::string kFolder = "write: .: is a folder, must be a file name";
const std::string kDevice = "write: /dev/null: is a device or pipe, must be a regular file";
const std::string kUnderAFile = "write: file/x: cannot be written: Not a directory";

TEST_F(UnwritableOutput, OfSampleIsFoundBeforeAnyWork) {
  expect_failure({"sample", "s.toml", "--json", "absent/x"}, 3, kAbsent);
  expect_failure({"sample", "s.toml", "--report", "absent/x"}, 3, kAbsent);
  expect_failure({"sample", "s.toml", "--report", "."}, 3, kFolder);
  expect_failure({"sample", "s.toml", "--json", "/dev/null"}, 3, kDevice);
  expect_failure({"sample", "s.toml", "--out", "file/x"}, 3, kUnderAFile);
}

TEST_F(UnwritableOutput, OfTrainIsFoundBeforeAnyWork) {
  expect_failure({"train", "t.toml", "--out", "absent/x"}, 3, kAbsent);
  expect_failure({"train", "t.toml", "--out", "."}, 3, kFolder);
  expect_failure({"train", "t.toml", "--json", "file/x"}, 3, kUnderAFile);
  EXPECT_FALSE(exists("t.safetensors"));
}

}  // namespace
}  // namespace motet
