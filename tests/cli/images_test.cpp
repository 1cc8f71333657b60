// Images from a config to a picture, a page and a resumed run.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/process.hpp"
#include "motet/image.hpp"
#include "motet/io.hpp"

namespace motet {
namespace {

using test::Folder;
using test::Output;
using test::run_motet;
using test::write_text;

const std::string kImages =
    "num_samples = 60\nseed = 3\ntile_size = 20\nevaluations = 40\n"
    "[model.sky]\nlaw = \"gaussian_mixture\"\nsds = [[0.5]]\nevent_shape = [1, 4, 4]\n"
    "means = [[0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, -0.2, -0.2, -0.2, -0.2, -0.2, -0.2, -0.2, "
    "-0.2]]\n"
    "[model.seen]\nlikelihood = \"linear_gaussian\"\nmask = \"mask.png\"\n"
    "event_shape = [1, 4, 4]\nobservation = \"seen.png\"\nnoise_sd = 0.05\n"
    "[weights]\nisland_size = 20\n[checkpoint]\nevery_steps = 40\n";

// Everything white is seen in the upper half.
void write_measurement(const Folder& folder) {
  const Tensor mask = at::zeros({1, 4, 4}, at::kByte);
  mask.narrow(1, 0, 2).fill_(255);
  write_png(folder / "mask.png", mask);
  write_png(folder / "seen.png", at::full({1, 4, 4}, 255, at::kByte));
  write_text(folder / "i.toml", kImages);
}

TEST(ImagesCli, SamplesAreDrawnDescribedAndConditioned) {
  const Folder folder;
  write_measurement(folder);
  const Output output = run_motet(folder, {"sample", "i.toml", "--out", "x.npy", "--png", "x.png",
                                           "--json", "x.json", "--report", "x.html"});
  ASSERT_EQ(output.code, 0) << output.err;
  const Tensor x = read_npy(folder / "x.npy");
  ASSERT_EQ(x.sizes(), at::IntArrayRef({60, 1, 4, 4}));
  // Posterior of a Gaussian: (0.2 / 0.25 + 1 / 0.0025) / (1 / 0.25 + 1 / 0.0025) = 0.992.
  EXPECT_NEAR(x.narrow(2, 0, 2).mean().item<double>(), 0.992, 0.02);
  EXPECT_NEAR(x.narrow(2, 2, 2).mean().item<double>(), -0.2, 0.15);
  const Tensor picture = read_png(folder / "x.png");
  EXPECT_EQ(picture.size(0), 1);
  EXPECT_GT(picture.size(2), 8 * 4);
  const auto json = nlohmann::json::parse(read_file(folder / "x.json"));
  EXPECT_EQ(json.at("images").at("range"), nlohmann::json({-1.0, 1.0}));
  EXPECT_NE(read_file(folder / "x.html").find("data:image/png;base64,"), std::string::npos);
}

TEST(ImagesCli, TilesAndOneTileGiveTheSameImages) {
  const Folder folder;
  write_measurement(folder);
  for (const char* tile : {"20", "60"}) {
    const Output output =
        run_motet(folder, {"sample", "i.toml", "--set", std::string("tile_size=") + tile, "--out",
                           std::string(tile) + ".npy"});
    ASSERT_EQ(output.code, 0) << output.err;
  }
  EXPECT_TRUE(at::equal(read_npy(folder / "20.npy"), read_npy(folder / "60.npy")));
}

TEST(ImagesCli, APictureOfWhatIsNoImageIsRefused) {
  const Folder folder;
  const Output output = run_motet(folder, {"sample", "--target", "ring", "--png", "x.png"});
  EXPECT_EQ(output.code, 2);
  EXPECT_NE(output.err.find("--png draws images, events (1 or 3, H, W), but ring has (2); leave "
                            "it out"),
            std::string::npos)
      << output.err;
}

}  // namespace
}  // namespace motet
