// `motet diagnose`: what it prints, what it writes, and its refusals.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/process.hpp"

namespace motet {
namespace {

using test::Folder;
using test::Output;
using test::read_text;
using test::run_motet;
using test::write_text;

const char* const kGaussians = R"(seed = 3
sampler = "hmc-4-curve"

[schedule]
type = "cosine"
num_levels = 8

[anneal]
steps_per_level = 3

[kernel]
step_size = 0.2

[model.left]
law = "gaussian_mixture"
means = [[-0.3, 0.0]]
sds = [[0.6, 0.6]]

[model.right]
law = "gaussian_mixture"
means = [[0.3, 0.0]]
sds = [[0.6, 0.6]]
)";

int64_t count(const std::string& text, const std::string& part) {
  int64_t number = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++number;
  }
  return number;
}

TEST(DiagnoseCommand, PrintsATableAndASentenceForEachCheckAndWritesBothFiles) {
  const Folder folder;
  write_text(folder / "g.toml", kGaussians);
  const Output output =
      run_motet(folder, {"diagnose", "g.toml", "--num-chains", "64", "--num-held-out", "256",
                         "--json", "d.json", "--report", "d.html", "--quiet"});
  ASSERT_EQ(output.code, 0) << output.err;
  EXPECT_EQ(output.err, "");
  const auto json = nlohmann::json::parse(read_text(folder / "d.json"));
  EXPECT_EQ(json.at("kind"), "diagnose");
  EXPECT_EQ(json.at("num_chains"), 64);
  EXPECT_EQ(json.at("seed"), 3);
  const auto& diagnosis = json.at("diagnosis");
  EXPECT_EQ(diagnosis.at("levels").size(), 8U);
  EXPECT_EQ(diagnosis.at("held_out").at("target"), "product(gaussian 1, gaussian 2)");
  ASSERT_EQ(diagnosis.at("checks").size(), 10U);
  for (const auto& check : diagnosis.at("checks")) {
    const std::string name = check.at("name");
    const std::string light = check.at("light");
    EXPECT_EQ(count(output.out, "\n" + name + " "), 1) << name;
    EXPECT_NE(output.out.find(light + ": "), std::string::npos) << name;
  }
  // Analytic laws: nothing is integrated.
  EXPECT_NE(output.out.find("skipped: does not apply: the log densities are known"),
            std::string::npos);
  const std::string light = diagnosis.at("light");
  EXPECT_NE(output.out.find("\noverall                 " + light + "\n"), std::string::npos);
  const Output info = run_motet(folder, {"info", "d.json"});
  EXPECT_EQ(info.code, 0) << info.err;
  EXPECT_NE(info.out.find("\noverall                 " + light + "\n"), std::string::npos);
  const std::string page = read_text(folder / "d.html");
  EXPECT_EQ(count(page, "<script"), 0);
  EXPECT_EQ(count(page, "src="), 0);
  EXPECT_EQ(count(page, "<svg"), 2);  // acceptance and balance; no integrals, so no histogram
  EXPECT_EQ(count(page, "class=\"light "), 11);
}

TEST(DiagnoseCommand, DiagnosesTheShippedNetworks) {
  const Folder folder;
  const std::string models = MOTET_SOURCE_DIR "/models/";
  write_text(
      folder / "n.toml",
      "seed = 1\nsampler = \"hmc-4-curve\"\n[anneal]\nlevels = [50, 5, 0]\nsteps_per_level = 2\n"
      "[model.ring]\nweights = \"" +
          models +
          "ring.safetensors\"\n"
          "[model.bar]\nweights = \"" +
          models + "bar.safetensors\"\n");
  const Output output = run_motet(folder, {"diagnose", "n.toml", "--num-chains", "64",
                                           "--num-held-out", "0", "--report", "d.html"});
  ASSERT_EQ(output.code, 0) << output.err;
  EXPECT_EQ(count(output.out, "does not apply: no chains were asked for."), 2);
  const std::string page = read_text(folder / "d.html");
  EXPECT_EQ(count(page, "<svg"), 5);
  EXPECT_EQ(count(page, "Path dependence at level"), 2);  // the title and its label
}

TEST(DiagnoseCommand, TheSameSeedGivesTheSameNumbers) {
  const Folder folder;
  write_text(folder / "g.toml", kGaussians);
  const auto numbers = [&](const std::string& seed) {
    const Output output =
        run_motet(folder, {"diagnose", "g.toml", "--num-chains", "64", "--num-held-out", "256",
                           "--seed", seed, "--json", "d.json"});
    EXPECT_EQ(output.code, 0) << output.err;
    return nlohmann::json::parse(read_text(folder / "d.json")).at("diagnosis");
  };
  const auto first = numbers("4");
  EXPECT_EQ(numbers("4"), first);
  EXPECT_NE(numbers("5"), first);
}

TEST(DiagnoseCommand, RefusesBeforeAnyWork) {
  const Folder folder;
  write_text(folder / "g.toml", kGaussians);
  const Output few = run_motet(folder, {"diagnose", "g.toml", "--num-chains", "8"});
  EXPECT_EQ(few.code, 2);
  EXPECT_EQ(few.err, "motet: diagnose: num_chains = 8, must be >= 64\n");
  const Output nowhere = run_motet(folder, {"diagnose", "g.toml", "--report", "no/d.html"});
  EXPECT_EQ(nowhere.code, 3);
  const Output stopped = run_motet(folder, {"diagnose", "g.toml"}, {{"MOTET_TEST_SIGNAL", "2:3"}});
  EXPECT_EQ(stopped.code, 130);
  EXPECT_EQ(stopped.err,
            "motet: diagnose: interrupted; it keeps nothing: run it again from the start\n");
}

}  // namespace
}  // namespace motet
