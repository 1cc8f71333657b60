// The binary: exact stdout, stderr and exit codes.
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "cli/process.hpp"
#include "motet/io.hpp"

namespace motet {
namespace {

using test::Folder;
using test::Output;
using test::run_motet;
using test::write_text;

// Two Gaussians on four levels: the whole path in milliseconds.
const std::string kTiny = R"(num_samples = 64
seed = 5
sampler = "hmc-4-curve"

[model.left]
law = "gaussian_mixture"
means = [[-0.2, 0.0]]
sds = [[0.5]]

[model.right]
law = "gaussian_mixture"
means = [[0.2, 0.1]]
sds = [[0.5]]

[schedule]
num_levels = 4

[kernel]
step_size = 0.2
)";

class Cli : public testing::Test {
 protected:
  void SetUp() override { write_text(folder_ / "tiny.toml", kTiny); }

  void expect_refused(const std::vector<std::string>& args, int code, const std::string& err) {
    const Output output = run_motet(folder_, args);
    EXPECT_EQ(output.code, code);
    EXPECT_EQ(output.out, "");
    EXPECT_EQ(output.err, err);
  }

  Folder folder_;
};

TEST_F(Cli, HelpNamesEveryCommand) {
  const Output output = run_motet(folder_, {"--help"});
  EXPECT_EQ(output.code, 0);
  EXPECT_EQ(output.err, "");
  for (const char* command :
       {"sample", "tune", "train", "demo", "reproduce", "eval", "diagnose", "info", "cite"}) {
    EXPECT_NE(output.out.find(std::string("\n  ") + command + " "), std::string::npos) << command;
  }
}

TEST_F(Cli, UsageErrorsExitWithTwo) {
  expect_refused({}, 2, "A subcommand is required\nRun with --help for more information.\n");
  expect_refused({"sample"}, 2, "config is required\nRun with --help for more information.\n");
  expect_refused({"sample", "tiny.toml", "--frobnicate"}, 2,
                 "The following argument was not expected: --frobnicate\n"
                 "Run with --help for more information.\n");
}

TEST_F(Cli, UnknownKeyNamesTheNearest) {
  write_text(folder_ / "product.toml",
             "seed = 1\n[model.a]\nlaw = \"ring\"\n[kernel]\nstepsize = 1\n");
  expect_refused({"sample", "product.toml"}, 2,
                 "motet: config: product.toml:5: unknown key kernel.stepsize; did you mean "
                 "kernel.step_size?\n");
}

TEST_F(Cli, OverrideIsCheckedLikeTheFile) {
  expect_refused({"sample", "tiny.toml", "--set", "kernel.step_size=-1"}, 2,
                 "motet: config: --set: kernel.step_size = -1.0, must be > 0\n");
  expect_refused(
      {"sample", "tiny.toml", "--sampler", "hmc-4-curv"}, 2,
      "motet: config: --set: sampler = \"hmc-4-curv\", must be one of \"exact\", \"reverse\", "
      "\"u-la\", \"la-energy\", \"la-3-line\", \"la-5-line\", \"la-10-line\", "
      "\"u-hmc\", \"hmc-energy\", \"hmc-3-line\", \"hmc-4-curve\", \"hmc-5-line\", "
      "\"hmc-10-line\"; did you mean \"hmc-4-curve\"?\n");
}

TEST_F(Cli, MissingFilesExitWithThree) {
  const Output output = run_motet(folder_, {"sample", "absent.toml"});
  EXPECT_EQ(output.code, 3);
  EXPECT_NE(output.err.find("absent.toml"), std::string::npos) << output.err;
  write_text(folder_ / "weights.toml", "[model.a]\nweights = \"absent.safetensors\"\n");
  const Output weights = run_motet(folder_, {"sample", "weights.toml"});
  EXPECT_EQ(weights.code, 3);
  EXPECT_NE(weights.err.find("absent.safetensors"), std::string::npos) << weights.err;
}

TEST_F(Cli, UnwritableOutputIsFoundBeforeAnyWork) {
  expect_refused({"sample", "tiny.toml", "--out", "absent/x.npy"}, 3,
                 "motet: write: absent/x.npy: folder absent does not exist; create it first\n");
}

TEST_F(Cli, SampleWritesEveryFile) {
  const Output output = run_motet(
      folder_, {"sample", "tiny.toml", "--out", "x.npy", "--json", "x.json", "--report", "x.html"});
  ASSERT_EQ(output.code, 0) << output.err;
  EXPECT_EQ(output.err, "");  // no progress where stderr is no terminal
  const Tensor x = read_npy(folder_ / "x.npy");
  EXPECT_EQ(x.sizes(), (std::vector<int64_t>{64, 2}));
  EXPECT_EQ(x.scalar_type(), at::kFloat);
  const auto json = nlohmann::json::parse(test::read_text(folder_ / "x.json"));
  for (const char* key : {"config", "seed", "commit", "device", "dtype", "num_chains", "metrics",
                          "evaluations_per_chain", "levels", "seconds", "peak_rss_bytes"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  EXPECT_EQ(json["levels"].size(), 4U);
  for (const char* key : {"index", "acceptance", "step_size", "num_invalid", "evaluations"}) {
    EXPECT_TRUE(json["levels"][0].contains(key)) << key;
  }
  const std::string html = test::read_text(folder_ / "x.html");
  EXPECT_NE(html.find("<svg"), std::string::npos);
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_EQ(html.find("src="), std::string::npos);
}

TEST_F(Cli, RunTooSmallToMeasureSaysSo) {
  const auto run = [this](const std::string& num_samples) {
    return run_motet(folder_, {"sample", "tiny.toml", "--json", "x.json", "--report", "x.html",
                               "--num-samples", num_samples, "--set", "metrics.target=product"});
  };
  const std::string note =
      "not measured: that takes 16 chains, but there are 15 to measure; raise num_samples or "
      "metrics.num_samples";
  const Output few = run("15");
  ASSERT_EQ(few.code, 0) << few.err;
  EXPECT_NE(few.out.find("\nmetrics                 " + note + "\n"), std::string::npos) << few.out;
  const auto json = nlohmann::json::parse(test::read_text(folder_ / "x.json"));
  EXPECT_TRUE(json["metrics"].is_null());
  EXPECT_EQ(json["metrics_note"], note);
  EXPECT_NE(test::read_text(folder_ / "x.html").find("Metrics: " + note + "."), std::string::npos);
  ASSERT_EQ(run("16").code, 0);
  const auto enough = nlohmann::json::parse(test::read_text(folder_ / "x.json"));
  EXPECT_TRUE(enough["metrics"].is_object());
  EXPECT_FALSE(enough.contains("metrics_note"));
}

TEST_F(Cli, SamplesDoNotDependOnTheTile) {
  ASSERT_EQ(run_motet(folder_, {"sample", "tiny.toml", "--out", "a.npy"}).code, 0);
  ASSERT_EQ(
      run_motet(folder_, {"sample", "tiny.toml", "--out", "b.npy", "--set", "tile_size=7"}).code,
      0);
  EXPECT_EQ(test::read_text(folder_ / "a.npy"), test::read_text(folder_ / "b.npy"));
}

TEST_F(Cli, MoreSamplesKeepTheFirstOnes) {
  ASSERT_EQ(run_motet(folder_, {"sample", "tiny.toml", "--out", "a.npy"}).code, 0);
  ASSERT_EQ(
      run_motet(folder_, {"sample", "tiny.toml", "--out", "b.npy", "--num-samples", "65"}).code, 0);
  EXPECT_TRUE(read_npy(folder_ / "b.npy").narrow(0, 0, 64).equal(read_npy(folder_ / "a.npy")));
}

TEST_F(Cli, ResolvedConfigGivesTheSameSamples) {
  ASSERT_EQ(run_motet(folder_, {"sample", "tiny.toml", "--out", "a.npy", "--json", "a.json"}).code,
            0);
  const auto json = nlohmann::json::parse(test::read_text(folder_ / "a.json"));
  write_text(folder_ / "again.toml", json["config_toml"]);
  ASSERT_EQ(run_motet(folder_, {"sample", "again.toml", "--out", "b.npy"}).code, 0);
  EXPECT_EQ(test::read_text(folder_ / "a.npy"), test::read_text(folder_ / "b.npy"));
}

TEST_F(Cli, EnergySamplerRefusesScoreOnlyModels) {
  write_text(folder_ / "ring.toml",
             "sampler = \"hmc-energy\"\n[model.ring]\nweights = \"" MOTET_SOURCE_DIR
             "/models/ring.safetensors\"\n");
  expect_refused({"sample", "ring.toml", "--out", "x.npy"}, 2,
                 "motet: config: ring.toml: sampler \"hmc-energy\" accepts by differences of log "
                 "densities, but ring gives only scores; use energy models, or a line or curve "
                 "sampler (hmc-4-curve)\n");
}

TEST_F(Cli, OneChainWithoutAKernelRuns) {
  write_text(folder_ / "one.toml",
             "num_samples = 1\nsampler = \"reverse\"\n" +
                 kTiny.substr(kTiny.find("[model"))
                     .substr(0, kTiny.find("[kernel]") - kTiny.find("[model")));
  const Output output = run_motet(folder_, {"sample", "one.toml", "--out", "x.npy"});
  EXPECT_EQ(output.code, 0) << output.err;
  EXPECT_EQ(read_npy(folder_ / "x.npy").sizes(), (std::vector<int64_t>{1, 2}));
}

TEST_F(Cli, InterruptedDemoSaysThatItKeepsNothing) {
  const Output output = run_motet(folder_,
                                  {"demo", "--quiet", "--num-samples", "16", "--out", "demo",
                                   "--models", MOTET_SOURCE_DIR "/models"},
                                  {{"MOTET_TEST_SIGNAL", "2:103"}});  // in the second sampler
  EXPECT_EQ(output.code, 130);
  EXPECT_EQ(output.out, "");
  EXPECT_EQ(output.err,
            "motet: demo: interrupted; it keeps no checkpoint: run it again from the start\n");
  EXPECT_TRUE(std::filesystem::exists(folder_ / "demo/reverse.json"));
  for (const auto& file : std::filesystem::directory_iterator(folder_ / "demo")) {
    EXPECT_NE(file.path().extension(), ".checkpoint") << file.path();
  }
}

TEST_F(Cli, InfoDescribesEachKindOfFile) {
  ASSERT_EQ(run_motet(folder_, {"sample", "tiny.toml", "--out", "x.npy", "--json", "x.json"}).code,
            0);
  EXPECT_NE(run_motet(folder_, {"info", "x.npy"}).out.find("[64, 2]"), std::string::npos);
  EXPECT_NE(run_motet(folder_, {"info", "x.json"}).out.find("hmc-4-curve (corrected)"),
            std::string::npos);
  EXPECT_NE(run_motet(folder_, {"info", "tiny.toml"}).out.find("seed = 5"), std::string::npos);
  expect_refused({"info", "x.txt"}, 2,
                 "motet: info: \"x.txt\": must end in .safetensors, .checkpoint, .npy, .json or "
                 ".toml\n");
}

TEST_F(Cli, ControlBytesOfFilesDoNotReachTheTerminal) {
  TensorFile file;
  file.metadata["title"] =
      "\x1b]0;owned\x07 caf\xc3\xa9 \xc2\x9b"
      "2J";
  file.tensors["\x1b[2J"] = at::zeros({2});
  write_safetensors(folder_ / "x.safetensors", file);
  const std::string out = run_motet(folder_, {"info", "x.safetensors"}).out;
  EXPECT_NE(out.find("\\x1b]0;owned\\x07 caf\xc3\xa9 \\xc2\\x9b2J\n"), std::string::npos) << out;
  EXPECT_NE(out.find("\n\\x1b[2J "), std::string::npos) << out;
  expect_refused({"info", "\x1b[2J"}, 2,
                 "motet: info: \"\\x1b[2J\": must end in .safetensors, .checkpoint, .npy, .json or "
                 ".toml\n");
}

TEST_F(Cli, InfoOfABrokenConfigPrintsOnlyTheError) {
  write_text(folder_ / "broken.toml", "seed = -1\n");
  const Output output = run_motet(folder_, {"info", "broken.toml"});
  EXPECT_EQ(output.code, 2);
  EXPECT_EQ(output.out, "");
}

TEST_F(Cli, InfoPutsASpaceAfterEveryName) {
  TensorFile file;
  file.tensors["weight"] = at::zeros({2});
  for (const size_t length : {1U, 23U, 24U, 25U, 60U}) {
    file.metadata[std::string(length, 'k')] = "value";
  }
  write_safetensors(folder_ / "x.safetensors", file);
  const std::string out = run_motet(folder_, {"info", "x.safetensors"}).out;
  for (const auto& [name, value] : file.metadata) {
    const size_t at = out.find("\n" + name + " ");
    ASSERT_NE(at, std::string::npos) << name << "\n" << out;
    EXPECT_EQ(out.substr(out.find_first_not_of(' ', at + 1 + name.size()), 6), "value\n") << name;
  }
}

TEST_F(Cli, Bfloat16WithoutAmxWarnsOnceAndReportsFloat32) {
  write_text(folder_ / "ring.toml",
             "num_samples = 16\nsampler = \"reverse\"\n[model.ring]\nweights = \"" MOTET_SOURCE_DIR
             "/models/ring.safetensors\"\n");
  const auto run = [this](const std::string& compute, const std::string& name) {
    return run_motet(folder_,
                     {"sample", "ring.toml", "--compute", compute, "--out", name + ".npy", "--json",
                      name + ".json", "--report", name + ".html"},
                     {{"MOTET_TEST_NO_AMX", "1"}});
  };
  const Output narrow = run("bfloat16", "narrow");
  ASSERT_EQ(narrow.code, 0) << narrow.err;
  EXPECT_EQ(narrow.err,
            "motet: warning: compute = \"bfloat16\" needs a CPU with AMX tiles, which this one "
            "lacks; the networks run in float32\n");
  EXPECT_NE(narrow.out.find("\ncompute                 float32, not bfloat16\n"), std::string::npos)
      << narrow.out;
  const auto json = nlohmann::json::parse(test::read_text(folder_ / "narrow.json"));
  EXPECT_EQ(json["compute"], "bfloat16");
  EXPECT_EQ(json["compute_used"], "float32");
  EXPECT_NE(test::read_text(folder_ / "narrow.html")
                .find("cpu, float32 (bfloat16 was asked for, but this CPU has no AMX), 1 threads"),
            std::string::npos);
  const Output plain = run("float32", "plain");
  ASSERT_EQ(plain.code, 0) << plain.err;
  EXPECT_EQ(plain.err, "");
  EXPECT_EQ(test::read_text(folder_ / "narrow.npy"), test::read_text(folder_ / "plain.npy"));
  EXPECT_EQ(nlohmann::json::parse(test::read_text(folder_ / "plain.json"))["compute_used"],
            "float32");
}

TEST_F(Cli, MixedTrainingWithoutAmxIsRefused) {
  write_text(folder_ / "t.toml", "[data]\nset = \"ring\"\n[train]\nmixed_precision = true\n");
  const Output output = run_motet(folder_, {"train", "t.toml", "--out", "x.safetensors"},
                                  {{"MOTET_TEST_NO_AMX", "1"}});
  EXPECT_EQ(output.code, 2);
  EXPECT_EQ(output.err,
            "motet: train: mixed_precision = true needs a processor with AMX bfloat16 products, "
            "which this one lacks; set mixed_precision = false\n");
}

TEST_F(Cli, LawsNeedNoAmxAndUseNoCompute) {
  const Output output =
      run_motet(folder_, {"sample", "tiny.toml", "--compute", "bfloat16", "--json", "x.json"},
                {{"MOTET_TEST_NO_AMX", "1"}});
  ASSERT_EQ(output.code, 0);
  EXPECT_EQ(output.err, "");
  EXPECT_TRUE(nlohmann::json::parse(test::read_text(folder_ / "x.json"))["compute_used"].is_null());
}

TEST_F(Cli, InfoAndCiteRefuseJsonThatOnlyLooksLikeARun) {
  for (const char* text : {"{\"kind\": \"sample\"}", "{\"kind\": \"eval\"}", "{\"kind\": 3}",
                           "{\"kind\": \"sample\", \"sampler\": 3}"}) {
    write_text(folder_ / "odd.json", text);
    for (const char* command : {"info", "cite"}) {
      const Output output = run_motet(folder_, {command, "odd.json"});
      EXPECT_EQ(output.code, 3) << command << " " << text << " " << output.err;
      EXPECT_EQ(output.err.rfind("motet: " + std::string(command) + ": odd.json: not ", 0), 0U)
          << output.err;
    }
  }
}

TEST_F(Cli, KeysAreThoseOfTheDocs) {
  const std::string page = test::read_text(std::string(MOTET_SOURCE_DIR "/docs/config.md"));
  const std::string table = run_motet(folder_, {"info", "--keys"}).out;
  EXPECT_NE(page.find(table), std::string::npos)
      << "docs/config.md is stale: replace its tables by the output of motet info --keys";
}

TEST_F(Cli, TuneWritesAConfigThatSamplesWhatTheRunItselfWouldHave) {
  write_text(folder_ / "exact.toml",
             "num_samples = 300\nseed = 3\nsampler = \"exact\"\nevaluations = 60\n"
             "[model.ring]\nlaw = \"ring\"\nscore_only = true\n[model.bar]\nlaw = \"bar\"\n"
             "[tune]\nnum_chains = 64\n");
  const Output tuned = run_motet(folder_, {"tune", "exact.toml", "-o", "tuned.toml"});
  EXPECT_EQ(tuned.code, 0) << tuned.err;
  ASSERT_EQ(run_motet(folder_, {"sample", "exact.toml", "--out", "a.npy"}).code, 0);
  ASSERT_EQ(run_motet(folder_, {"sample", "tuned.toml", "--out", "b.npy"}).code, 0);
  EXPECT_TRUE(test::read_text(folder_ / "a.npy") == test::read_text(folder_ / "b.npy"));
  EXPECT_NE(test::read_text(folder_ / "tuned.toml").find("[tuned]"), std::string::npos);
  expect_refused({"tune", "tuned.toml", "-o", "again.toml"}, 2,
                 "motet: config: tuned.toml: there is nothing to tune; that takes sampler = "
                 "\"exact\" without kernel.step_size\n");
}

// With all that a pilot can leave in a config: points of a line and masses, level by level.
TEST_F(Cli, TuneWritesPointsAndMassesToo) {
  write_text(folder_ / "exact.toml",
             "num_samples = 300\nseed = 3\nsampler = \"exact\"\nevaluations = 60\n"
             "[model.ring]\nlaw = \"ring\"\nscore_only = true\n[model.bar]\nlaw = \"bar\"\n"
             "[ratio]\ntype = \"line\"\n[anneal]\nlevels = [40, 20, 8, 3, 0]\n"
             "[tune]\nnum_chains = 64\ntolerance = 0.05\nmass = \"diagonal\"\n");
  const Output tuned = run_motet(folder_, {"tune", "exact.toml", "-o", "tuned.toml"});
  EXPECT_EQ(tuned.code, 0) << tuned.err;
  EXPECT_NE(tuned.out.find("line points"), std::string::npos) << tuned.out;
  ASSERT_EQ(run_motet(folder_, {"sample", "exact.toml", "--out", "a.npy", "--json", "a.json"}).code,
            0);
  ASSERT_EQ(run_motet(folder_, {"sample", "tuned.toml", "--out", "b.npy", "--json", "b.json"}).code,
            0);
  EXPECT_TRUE(test::read_text(folder_ / "a.npy") == test::read_text(folder_ / "b.npy"));
  const auto own = nlohmann::json::parse(test::read_text(folder_ / "a.json"));
  const auto given = nlohmann::json::parse(test::read_text(folder_ / "b.json"));
  EXPECT_EQ(own.at("levels"), given.at("levels"));
  int64_t interior = 0;
  for (const auto& level : given.at("levels")) {
    EXPECT_GE(level.at("mass_ratio").get<double>(), 1.0);
    const int64_t points = level.at("num_points").get<int64_t>();
    const int64_t steps = level.at("num_steps").get<int64_t>();
    // On a mixed target the bar's and the ring's evaluations are counted once a chain. The last map
    // looks at both factors once more.
    const int64_t last_map = level == given.at("levels").back() ? 1 : 0;
    EXPECT_EQ(level.at("evaluations").get<int64_t>(), 1 + steps * (2 + points - 2) + last_map);
    interior += points - 2;
  }
  EXPECT_GT(interior, 0);
  EXPECT_GT(own.at("tune").at("evaluations_per_chain").get<int64_t>(),
            own.at("evaluations_per_chain").get<int64_t>());
}

TEST_F(Cli, TuneRefusesAConfigThatCouldNotBeRead) {
  std::string rows = "0.0";
  for (int i = 1; i < 10001; ++i) {
    rows += ", 0.0";
  }
  write_text(folder_ / "wide.toml",
             "[model.wide]\nlaw = \"gaussian_mixture\"\nscore_only = true\nmeans = [[" + rows +
                 "]]\nsds = [[0.5]]\n[anneal]\nlevels = [60, 30, 10, 3, 0]\n"
                 "[tune]\nmass = \"diagonal\"\n");
  expect_refused({"tune", "wide.toml", "-o", "tuned.toml"}, 2,
                 "motet: config: wide.toml: tune.mass = \"diagonal\" has 10001 numbers for each of "
                 "5 levels, but a config holds at most 50000; leave it out, or let motet sample "
                 "find them by its own pilot run\n");
}

TEST_F(Cli, ColumnsOfMetricsAreAsWideAsTheLongestValue) {
  write_text(folder_ / "e.json",
             R"({"kind": "eval", "metrics": {"ll_true": -123456789012.5, "w2": 0.25}})");
  EXPECT_NE(run_motet(folder_, {"info", "e.json"})
                .out.find("ll_true                 -123456789012.500  mean log likelihood in nats\n"
                          "w2                      0.2500             transport distance to exact "
                          "samples\n"),
            std::string::npos);
}

TEST_F(Cli, CiteNamesWhatTheRunUsed) {
  ASSERT_EQ(run_motet(folder_, {"sample", "tiny.toml", "--json", "x.json"}).code, 0);
  const Output output = run_motet(folder_, {"cite", "x.json"});
  EXPECT_EQ(output.code, 0);
  for (const char* key : {"sjoberg2023mcmc", "remy2020probabilistic", "du2023reduce",
                          "horowitz1991generalized", "nichol2021improved"}) {
    EXPECT_NE(output.out.find(key), std::string::npos) << key;
  }
  EXPECT_EQ(output.out.find("roberts1996"), std::string::npos);
  write_text(folder_ / "other.json", "{}");
  expect_refused({"cite", "other.json"}, 3,
                 "motet: cite: other.json: not the JSON of a sampling run; give a file written by "
                 "motet sample --json\n");
}

TEST_F(Cli, UnresampledSamplesComeWithTheirWeights) {
  write_text(folder_ / "weighted.toml",
             "num_samples = 300\nseed = 3\nevaluations = 60\n"
             "[model.ring]\nlaw = \"ring\"\n[model.bar]\nlaw = \"bar\"\n[tune]\nnum_chains = 64\n"
             "[weights]\nresampling = \"none\"\n[metrics]\ntarget = \"product\"\n");
  const Output output =
      run_motet(folder_, {"sample", "weighted.toml", "--out", "x.npy", "--json", "x.json"});
  ASSERT_EQ(output.code, 0) << output.err;
  EXPECT_NE(output.out.find("\nsamples                 x.npy\n"
                            "log_weights             x.log_weights.npy\n"),
            std::string::npos)
      << output.out;
  EXPECT_NE(output.out.find("\nw2_folded               -                 not measured: it needs "
                            "equally weighted points\n"),
            std::string::npos)
      << output.out;
  const at::Tensor logs = read_npy(folder_ / "x.log_weights.npy");
  EXPECT_EQ(logs.scalar_type(), at::kDouble);
  EXPECT_EQ(logs.sizes(), (std::vector<int64_t>{300}));
  const auto json = nlohmann::json::parse(test::read_text(folder_ / "x.json"));
  EXPECT_EQ(json["log_weights"]["file"], "x.log_weights.npy");
  const at::Tensor weights = (logs - logs.max()).exp();
  EXPECT_NEAR(json["log_weights"]["effective_share"].get<double>(),
              (weights.sum().square() / weights.square().sum()).item<double>() / 300.0, 1e-12);
  EXPECT_TRUE(json["metrics"]["w2"].is_null());
  EXPECT_EQ(json["metrics"]["errors"]["w2"]["method"],
            "not measured: it needs equally weighted points");
  EXPECT_EQ(json["convergence"]["note"],
            "not measured: the chains carry unequal weights (weights.resampling = \"none\")");
  const Output eval = run_motet(folder_, {"eval", "x.npy", "--target", "product", "--log-weights",
                                          "x.log_weights.npy", "--json", "e.json"});
  ASSERT_EQ(eval.code, 0) << eval.err;
  const auto measured = nlohmann::json::parse(test::read_text(folder_ / "e.json"));
  EXPECT_EQ(measured["metrics"]["mode_fractions"], json["metrics"]["mode_fractions"]);
}

TEST_F(Cli, EvalRefusesWeightsThatDoNotFit) {
  ASSERT_EQ(run_motet(folder_, {"sample", "tiny.toml", "--out", "x.npy"}).code, 0);
  const auto refused = [this](const std::string& target, const at::Tensor& logs, int code,
                              const std::string& err) {
    write_npy(folder_ / "w.npy", logs);
    expect_refused({"eval", "x.npy", "--target", target, "--log-weights", "w.npy"}, code,
                   "motet: eval: " + err);
  };
  refused("ring", at::zeros({64}), 2,
          "log weights are given, but target \"ring\" is measured of equally weighted samples; "
          "they belong to \"product\"\n");
  refused("product", at::zeros({63}), 2,
          "the log weights have shape [63], must be [64]: one for each row of x.npy\n");
  refused("product", at::full({64}, -std::numeric_limits<float>::infinity()), 3,
          "none of the first 64 log weights is finite\n");
}

TEST_F(Cli, UnwritableLogWeightsAreFoundBeforeAnyWork) {
  write_text(folder_ / "weighted.toml",
             "[model.ring]\nlaw = \"ring\"\n[weights]\nresampling = \"none\"\n");
  std::filesystem::create_directory(folder_ / "x.log_weights.npy");
  expect_refused({"sample", "weighted.toml", "--out", "x.npy"}, 3,
                 "motet: write: x.log_weights.npy: is a folder, must be a file name\n");
}

TEST_F(Cli, EvalMeasuresSamples) {
  ASSERT_EQ(run_motet(folder_, {"sample", "tiny.toml", "--out", "x.npy"}).code, 0);
  const Output output =
      run_motet(folder_, {"eval", "x.npy", "--target", "product", "--json", "e.json"});
  ASSERT_EQ(output.code, 0) << output.err;
  const auto metrics = nlohmann::json::parse(test::read_text(folder_ / "e.json"))["metrics"];
  for (const char* key :
       {"ll_true", "ll_paper", "num_outside_support", "w2", "w2_paper", "w2_folded", "gmm",
        "fraction_outside_modes", "mode_fractions", "mode_sd"}) {
    EXPECT_TRUE(metrics.contains(key)) << key;
  }
  expect_refused({"eval", "x.npy", "--target", "rings"}, 2,
                 "motet: eval: target \"rings\", must be product, ring or bar; did you mean "
                 "\"ring\"?\n");
  const Output alone = run_motet(folder_, {"eval", "x.npy", "--target", "product", "--json"});
  EXPECT_EQ(nlohmann::json::parse(alone.out)["metrics"], metrics);
}

}  // namespace
}  // namespace motet
