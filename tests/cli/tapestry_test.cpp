// motet tapestry: the same as motet sample on a config with windows, and only on such.
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

const std::string kStrip =
    "num_samples = 40\nsampler = \"hmc-4-curve\"\n"
    "[model.left]\nlaw = \"gaussian_mixture\"\nmeans = [[-0.2, 0.0]]\nsds = [[0.5]]\n"
    "[schedule]\nnum_levels = 4\n[kernel]\nstep_size = 0.2\n";

TEST(TapestryCli, SamplesACanvas) {
  const Folder folder;
  write_text(folder / "t.toml", kStrip + "[tapestry]\ngrid = \"left left left\"\noverlap = 1\n");
  const Output output = run_motet(folder, {"tapestry", "t.toml", "--out", "x.npy"});
  ASSERT_EQ(output.code, 0) << output.err;
  EXPECT_EQ(read_npy(folder / "x.npy").sizes(), (std::vector<int64_t>{40, 4}));
  ASSERT_EQ(run_motet(folder, {"sample", "t.toml", "--out", "y.npy"}).code, 0);
  EXPECT_EQ(test::read_text(folder / "x.npy"), test::read_text(folder / "y.npy"));
}

TEST(TapestryCli, SaysHowVisibleTheWindowsBordersAre) {
  const Folder folder;
  const std::string law =
      "num_samples = 500\nsampler = \"reverse\"\n[schedule]\nnum_levels = 20\n"
      "[model.left]\nlaw = \"gaussian_mixture\"\nmeans = [[0.0, 0.0, 0.0, 0.0]]\n"
      "sds = [[0.5, 0.5, 0.5, 0.5]]\nevent_shape = [1, 2, 2]\n";
  const auto seams = [&](const std::string& tapestry) {
    write_text(folder / "t.toml", law + "[tapestry]\n" + tapestry);
    const Output output = run_motet(folder, {"tapestry", "t.toml", "--json", "x.json"});
    EXPECT_EQ(output.code, 0) << output.err;
    return nlohmann::json::parse(test::read_text(folder / "x.json")).at("seams");
  };
  // Independent places: borders are like the rest.
  const nlohmann::json apart = seams("grid = \"left left; left left\"\n");
  EXPECT_NEAR(apart.at("score").get<double>(), 1.0, 4.0 * apart.at("standard_error").get<double>());
  EXPECT_LT(apart.at("standard_error").get<double>(), 0.05);
  EXPECT_EQ(apart.at("num_seams"), 8);
  EXPECT_EQ(apart.at("num_images"), 256);
  EXPECT_EQ(
      seams("grid = \"left\"\n").at("note"),
      "seam_score: edges of windows part 0 of the 4 pairs of neighbours, must be some but not "
      "all");
}

TEST(TapestryCli, RefusesAConfigWithoutWindows) {
  const Folder folder;
  write_text(folder / "t.toml", kStrip);
  const Output output = run_motet(folder, {"tapestry", "t.toml"});
  EXPECT_EQ(output.code, 2);
  EXPECT_EQ(output.out, "");
  EXPECT_EQ(output.err,
            "motet: tapestry: t.toml has no table [tapestry]; add one, or use motet sample\n");
}

}  // namespace
}  // namespace motet
