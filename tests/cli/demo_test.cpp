// `motet demo`: the page, the numbers beside it, and its refusals.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/process.hpp"

namespace motet {
namespace {

using test::Folder;
using test::Output;
using test::run_motet;
using test::write_text;

const std::string kModels = MOTET_SOURCE_DIR "/models";
const std::vector<std::string> kSamplers = {"reverse", "u-la",        "la-3-line",
                                            "u-hmc",   "hmc-4-curve", "exact"};

int64_t count(const std::string& text, const std::string& part) {
  int64_t number = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++number;
  }
  return number;
}

// No page may load anything: only links inside it are allowed.
void expect_self_contained(const std::string& page) {
  EXPECT_EQ(count(page, "<script"), 0);
  EXPECT_EQ(count(page, "src="), 0);
  EXPECT_EQ(count(page, "href="), count(page, "href=\"#"));
  EXPECT_EQ(count(page, "url("), 0);
  EXPECT_EQ(count(page, "@import"), 0);
  EXPECT_EQ(count(page, "<link"), 0);
}

// Networks for the demo in folder/models. Hardly trained: the page looks the same whatever they are,
// and the shipped ones take six times as long.
void train_small_networks(const Folder& folder) {
  std::filesystem::create_directory(folder / "models");
  for (const std::string set : {"ring", "bar"}) {
    write_text(folder / (set + ".toml"), "seed = 4\n[data]\nset = \"" + set + R"("
[network]
width = 32
num_blocks = 1
[train]
num_steps = 500
batch_size = 128
held_out_every = 500
held_out_size = 100
)");
    const Output output = run_motet(
        folder, {"train", set + ".toml", "--out", "models/" + set + ".safetensors", "--quiet"});
    ASSERT_EQ(output.code, 0) << output.err;
  }
}

TEST(DemoCommand, WritesOnePageWithARowForEachOfSixSamplers) {
  const Folder folder;
  train_small_networks(folder);
  const Output output = run_motet(folder, {"demo", "--num-samples", "16", "--models", "models",
                                           "--out", "d", "--compute", "float32"});
  ASSERT_EQ(output.code, 0) << output.err;
  const std::string page = test::read_text(folder / "d/report.html");
  expect_self_contained(page);
  EXPECT_EQ(count(page, "<svg"), 5);  // the panels and four curves along the levels
  EXPECT_NE(test::read_text(folder / "d/product.svg").find("<svg"), std::string::npos);
  for (const std::string& sampler : kSamplers) {
    // Two tables: nats and the published table's units.
    EXPECT_EQ(count(page, "<tr><td>" + sampler + "</td>"), 2) << sampler;
    EXPECT_EQ(count(output.out, "\n" + sampler + "  "), 1) << sampler;
    EXPECT_EQ(count(output.err, sampler + "\n"), 1) << sampler;
    const auto json = nlohmann::json::parse(test::read_text(folder / ("d/" + sampler + ".json")));
    EXPECT_EQ(json.at("sampler").at("name"), sampler);
    EXPECT_EQ(json.at("num_chains"), 16);
  }
  EXPECT_EQ(count(output.out, "\nexact samples "), 1);
  const std::string last = "\nReport: d/report.html\n";
  EXPECT_EQ(output.out.substr(output.out.size() - last.size()), last);
}

TEST(DemoCommand, RefusalsComeBeforeAnyWork) {
  const Folder folder;
  const Output few = run_motet(folder, {"demo", "--num-samples", "15", "--models", kModels});
  EXPECT_EQ(few.code, 2);
  EXPECT_EQ(few.err, "motet: demo: num_samples = 15 and 6 samplers, must be at least 16 and 1\n");
  write_text(folder / "file", "not a folder");
  const Output unwritable = run_motet(folder, {"demo", "--out", "file/d", "--models", kModels});
  EXPECT_EQ(unwritable.code, 3);
  EXPECT_EQ(unwritable.out, "");
  EXPECT_EQ(unwritable.err,
            "motet: demo: file/d: cannot be made (Not a directory); choose another folder with "
            "--out\n");
  const Output no_models = run_motet(folder, {"demo", "--models", "absent", "--quiet"});
  EXPECT_EQ(no_models.code, 3);
  EXPECT_NE(no_models.err.find("absent/ring.safetensors: no such file"), std::string::npos)
      << no_models.err;
}

}  // namespace
}  // namespace motet
