// PNG files against Pillow's (tools/golden_png.py), what is refused of them, and pictures of images.
#include "motet/image.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "motet/error.hpp"
#include "motet/rng.hpp"
#include "support/folder.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string golden(const std::string& name) {
  return std::string(MOTET_SOURCE_DIR) + "/tests/golden/png/" + name;
}

Tensor expected(const std::string& name) {
  std::ifstream file(golden("pixels.json"));
  const auto json = nlohmann::json::parse(file).at(name);
  std::vector<int64_t> flat;
  const bool is_grey = json[0][0].is_number();
  for (const auto& plane : is_grey ? nlohmann::json::array({json}) : json) {
    for (const auto& row : plane) {
      for (const auto& value : row) {
        flat.push_back(value.get<int64_t>());
      }
    }
  }
  return at::tensor(flat).to(at::kByte).view({is_grey ? 1 : 3, 5, 7});
}

std::string why_refused(const std::string& bytes) {
  try {
    parse_png(bytes, "x.png");
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

Tensor gradient(int64_t channels, int64_t height, int64_t width) {
  return at::arange(channels * height * width)
      .remainder(251)
      .to(at::kByte)
      .view({channels, height, width});
}

TEST(Png, ReadsWhatPillowWrites) {
  for (const std::string name : {"grey", "colour", "bits", "palette"}) {
    EXPECT_TRUE(at::equal(read_png(golden(name + ".png")), expected(name))) << name;
  }
}

TEST(Png, ReadsBackWhatItWrites) {
  const test::Folder folder;
  for (const int64_t channels : {1, 3}) {
    const Tensor pixels = gradient(channels, 9, 13);
    write_png(folder / "x.png", pixels);
    EXPECT_TRUE(at::equal(read_png(folder / "x.png"), pixels));
    EXPECT_EQ(png_bytes(pixels), png_bytes(pixels.transpose(1, 2).contiguous().transpose(1, 2)));
  }
}

TEST(Png, RefusesTransparencyAndSixteenBits) {
  const std::string alpha = golden("alpha.png");
  EXPECT_THROW_MSG(read_png(alpha), DataError,
                   "png: " + alpha + ": has transparency, which no model knows; flatten it");
  const std::string sixteen = golden("sixteen.png");
  EXPECT_THROW_MSG(
      read_png(sixteen), DataError,
      "png: " + sixteen + ": 16 bits a channel, must be 8 or less; convert it, or use a .npy file");
}

TEST(Png, RefusesTruncatedFilesAtEveryLength) {
  const std::string whole = test::read_text(golden("colour.png"));
  // IEND, the last 12 bytes, holds no pixels: libpng has then all of the image.
  for (size_t size = 0; size + 12 < whole.size(); ++size) {
    EXPECT_THAT(why_refused(whole.substr(0, size)), StartsWith("png: x.png: ")) << size;
  }
}

TEST(Png, RefusesFlippedBytesOfThePixels) {
  const std::string whole = test::read_text(golden("colour.png"));
  const size_t data = whole.find("IDAT");
  ASSERT_NE(data, std::string::npos);
  for (size_t place = data + 4; place + 16 < whole.size(); ++place) {
    std::string bad = whole;
    bad[place] = static_cast<char>(bad[place] ^ 0x55);
    EXPECT_NE(why_refused(bad), "") << place;
  }
}

TEST(Png, RefusesSizesBeyondTheLimitBeforeTakingMemory) {
  const Tensor wide = at::zeros({1, 2, kMaxImageSide + 1}, at::kByte);
  EXPECT_EQ(why_refused(png_bytes(wide)),
            "png: x.png: 8193 x 2 pixels, must be at most 8192 a side");
  EXPECT_THAT(why_refused("GIF89a"), HasSubstr("is no PNG that can be read; libpng says: "));
}

TEST(Png, WritesBytesOnly) {
  EXPECT_THROW_MSG(
      png_bytes(at::zeros({2, 4, 4}, at::kByte)), ShapeError,
      "png: pixels are uint8 of shape (2, 4, 4), must be uint8 (1, H, W) or (3, H, W)");
  EXPECT_THROW_MSG(png_bytes(at::zeros({1, 4, 4})), ShapeError,
                   "png: pixels are float32 of shape (1, 4, 4), must be uint8 (1, H, W) or "
                   "(3, H, W)");
}

TEST(Pixels, AreLinearInTheRangeAndClamped) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  const Tensor values = at::tensor({-1.0, 0.0, 1.0, -7.0, 7.0, nan, inf, -inf}, at::kDouble);
  EXPECT_TRUE(
      at::equal(pixels_of(values), at::tensor({0, 128, 255, 0, 255, 0, 255, 0}).to(at::kByte)));
  const Tensor all = at::arange(256).to(at::kByte);
  EXPECT_TRUE(at::equal(pixels_of(values_of(all, 0.0, 3.0), 0.0, 3.0), all));
  EXPECT_THROW_MSG(pixels_of(values, 1.0, 1.0), ConfigError,
                   "image: range (1, 1), must be finite and rising");
}

TEST(Grid, PutsImagesInRowsWithAFrame) {
  const Tensor pixels = at::arange(1, 6).to(at::kByte).view({5, 1, 1, 1}).expand({5, 1, 2, 3});
  const Tensor grid = image_grid(pixels.contiguous(), 2);
  ASSERT_EQ(grid.sizes(), (at::IntArrayRef{1, 3 * 3 + 1, 2 * 4 + 1}));
  const auto at_pixel = [&](int64_t row, int64_t column) {
    return grid[0][row][column].item<int64_t>();
  };
  EXPECT_EQ(at_pixel(1, 1), 1);
  EXPECT_EQ(at_pixel(2, 7), 2);
  EXPECT_EQ(at_pixel(4, 3), 3);
  EXPECT_EQ(at_pixel(8, 2), 5);
  EXPECT_EQ(at_pixel(8, 6), 128);  // no sixth image
  EXPECT_EQ(at_pixel(0, 0), 128);
  EXPECT_EQ(image_grid(pixels.contiguous(), 9).size(2), 5 * 4 + 1);
  EXPECT_EQ(enlarged(grid, 3).sizes(), (at::IntArrayRef{1, 30, 27}));
  EXPECT_THROW_MSG(image_grid(pixels.contiguous(), 0), ConfigError,
                   "image_grid: num_columns = 0, must be >= 1");
  EXPECT_THROW_MSG(image_grid(at::zeros({1, 2, 3}), 2), ShapeError,
                   "image_grid: pixels is float32 of shape (1, 2, 3), must be uint8 (N, C, H, W), "
                   "N >= 1");
}

TEST(Images, AreOneOrThreePlanes) {
  EXPECT_TRUE(is_image({1, 28, 28}));
  EXPECT_TRUE(is_image({3, 2, 5}));
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{2}, {784}, {2, 8, 8}, {1, 1, 8}, {28, 28}, {1, 3, 8, 8}}) {
    EXPECT_FALSE(is_image(shape));
  }
}

TEST(Spectrum, OfWhiteNoiseIsItsVarianceAndOfAWaveOneRing) {
  Rng rng(4);
  const Tensor noise = 0.5 * rng.normal_like(at::empty({400, 1, 16, 16}, at::kDouble));
  const Tensor power = power_spectrum(noise);
  ASSERT_EQ(power.size(0), 8);
  EXPECT_LT((power - 0.25).abs().max().item<double>(), 0.02);
  const Tensor wave = (at::arange(16).to(at::kDouble) * (2.0 * M_PI * 3.0 / 16.0)).cos();
  const Tensor ring = power_spectrum(wave.expand({1, 1, 16, 16}).contiguous() + 7.0);
  EXPECT_GT(ring[2].item<double>(), 1.0);
  EXPECT_LT(ring.sum().item<double>() - ring[2].item<double>(), 1e-9);
}

}  // namespace
}  // namespace motet
