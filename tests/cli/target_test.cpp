// --target: expressions on the command line, with and without a config.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/process.hpp"
#include "motet/io.hpp"

namespace motet {
namespace {

using test::Folder;
using test::Output;
using test::run_motet;
using test::write_text;

const std::string kTables =
    "num_samples = 64\nsampler = \"hmc-4-curve\"\n"
    "[model.left]\nlaw = \"gaussian_mixture\"\nmeans = [[-0.2, 0.0]]\nsds = [[0.5]]\n"
    "[model.right]\nlaw = \"gaussian_mixture\"\nmeans = [[0.2, 0.1]]\nsds = [[0.5]]\n"
    "[schedule]\nnum_levels = 4\n[kernel]\nstep_size = 0.2\n";

class TargetCli : public testing::Test {
 protected:
  void SetUp() override { write_text(folder_ / "two.toml", kTables); }

  void expect_refused(const std::vector<std::string>& args, const std::string& err) {
    const Output output = run_motet(folder_, args);
    EXPECT_EQ(output.code, 2);
    EXPECT_EQ(output.out, "");
    EXPECT_EQ(output.err, err);
  }

  Folder folder_;
};

TEST_F(TargetCli, SamplesWithoutAConfig) {
  const Output output = run_motet(
      folder_, {"sample", "--target", "ring * bar", "--num-samples", "40", "--set",
                "tune.num_chains=16", "--evaluations", "40", "--out", "x.npy", "--json", "x.json"});
  ASSERT_EQ(output.code, 0) << output.err;
  EXPECT_EQ(read_npy(folder_ / "x.npy").sizes(), (std::vector<int64_t>{40, 2}));
  const auto json = nlohmann::json::parse(test::read_text(folder_ / "x.json"));
  EXPECT_EQ(json["target"], "product(ring, bar)");
  EXPECT_EQ(json["config"]["target"], "ring * bar");
  write_text(folder_ / "again.toml", json["config_toml"]);
  ASSERT_EQ(run_motet(folder_, {"sample", "again.toml", "--out", "y.npy"}).code, 0);
  EXPECT_EQ(test::read_text(folder_ / "x.npy"), test::read_text(folder_ / "y.npy"));
}

TEST_F(TargetCli, TakesTheNamesOfAConfig) {
  const auto sample = [this](const std::string& target, const std::string& file) {
    return run_motet(folder_, {"sample", "two.toml", "--target", target, "--out", file});
  };
  ASSERT_EQ(run_motet(folder_, {"sample", "two.toml", "--out", "a.npy"}).code, 0);
  ASSERT_EQ(sample("left * right", "b.npy").code, 0);
  EXPECT_EQ(test::read_text(folder_ / "a.npy"), test::read_text(folder_ / "b.npy"));
  ASSERT_EQ(sample("left", "c.npy").code, 0);
  EXPECT_NE(test::read_text(folder_ / "a.npy"), test::read_text(folder_ / "c.npy"));
}

TEST_F(TargetCli, AFileInQuotesIsAModel) {
  const std::string target = "'" MOTET_SOURCE_DIR "/models/ring.safetensors'";
  const Output output = run_motet(folder_, {"sample", "--target", target, "--sampler", "reverse",
                                            "--num-samples", "16", "--json", "x.json"});
  ASSERT_EQ(output.code, 0) << output.err;
  const auto json = nlohmann::json::parse(test::read_text(folder_ / "x.json"));
  EXPECT_EQ(json["models"][0]["weights"], MOTET_SOURCE_DIR "/models/ring.safetensors");
}

TEST_F(TargetCli, TuneKeepsTheTargetAndItsFiles) {
  const std::string target = "'" MOTET_SOURCE_DIR "/models/ring.safetensors' * bar";
  const Output tuned =
      run_motet(folder_, {"tune", "--target", target, "--set", "tune.num_chains=16", "--set",
                          "num_samples=20", "--set", "evaluations=40", "-o", "tuned.toml"});
  ASSERT_EQ(tuned.code, 0) << tuned.err;
  const Output output = run_motet(folder_, {"sample", "tuned.toml", "--out", "x.npy"});
  EXPECT_EQ(output.code, 0) << output.err;
}

TEST_F(TargetCli, InfoPrintsTheTree) {
  const Output output = run_motet(folder_, {"info", "--target", "left / right^0.5", "two.toml"});
  EXPECT_EQ(output.code, 0) << output.err;
  EXPECT_EQ(output.out.rfind("target                  left / right^0.5\n", 0), 0U) << output.out;
  EXPECT_NE(output.out.find("\ntotal exponent          0.5 at the data, 0.5 at high noise\n"),
            std::string::npos)
      << output.out;
}

TEST_F(TargetCli, ErrorsPointAtTheColumn) {
  expect_refused({"sample", "--target", "ring * (bar"},
                 "motet: expression: column 12: \")\" is missing; it closes \"(\" of column 8\n"
                 "  ring * (bar\n"
                 "             ^\n");
  expect_refused({"info", "--target", "rign * bar"},
                 "motet: expression: column 1: unknown name \"rign\"; did you mean \"ring\"?\n"
                 "  rign * bar\n"
                 "  ^\n");
  expect_refused({"diagnose", "--target", "ring -bar"},
                 "motet: expression: column 6: there is no subtraction; \"A but not B\" is a "
                 "division, A / B^0.5\n"
                 "  ring -bar\n"
                 "       ^\n");
  expect_refused({"sample", "two.toml", "--target", "left * middle"},
                 "motet: expression: column 8: unknown name \"middle\"; known: left, right, ring, "
                 "bar, checkerboard, moons, spirals; others need a table [model.middle]\n"
                 "  left * middle\n"
                 "         ^\n");
}

TEST_F(TargetCli, EachCommandNeedsAConfigOrATarget) {
  for (const char* command : {"sample", "diagnose"}) {
    expect_refused({command}, "config is required\nRun with --help for more information.\n");
  }
  expect_refused({"tune", "-o", "x.toml"},
                 "config is required\nRun with --help for more information.\n");
  expect_refused({"info"}, "file is required\nRun with --help for more information.\n");
}

}  // namespace
}  // namespace motet
