// idx files, images as data, and scenes: strict reading, rows that depend on themselves alone, and
// objects where they are said to be.
#include <gtest/gtest.h>
#include <torch/types.h>
#include <zlib.h>

#include <cmath>
#include <string>
#include <vector>

#include "data_scenes.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "motet/train.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

std::string idx(const std::vector<uint32_t>& sizes, const std::string& entries, char type = 8) {
  std::string bytes = {'\0', '\0', type, static_cast<char>(sizes.size())};
  for (const uint32_t size : sizes) {
    for (const int shift : {24, 16, 8, 0}) {
      bytes += static_cast<char>((size >> shift) & 255U);
    }
  }
  return bytes + entries;
}

std::string gzipped(const std::string& bytes) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, bytes.size()) + 32, '\0');
  std::string in = bytes;
  stream.next_in = reinterpret_cast<Bytef*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(out.size() - stream.avail_out);
  deflateEnd(&stream);
  return out;
}

TEST(Idx, ReadsBytesPlainAndGzip) {
  const std::string bytes = idx({2, 1, 3}, "\x01\x02\x03\x04\x05\xff");
  const Tensor expected = at::tensor({1, 2, 3, 4, 5, 255}, at::kByte).view({2, 1, 3});
  EXPECT_TRUE(at::equal(parse_idx(bytes, "a"), expected));
  EXPECT_TRUE(at::equal(parse_idx(gzipped(bytes), "a"), expected));
}

TEST(Idx, RefusesWhatIsNone) {
  EXPECT_THROW_MSG(parse_idx("PK\x03\x04", "a"), DataError,
                   "read: a: is not an idx file: it does not begin with two zero bytes");
  EXPECT_THROW_MSG(parse_idx(idx({1}, "x", 13), "a"), DataError,
                   "read: a: idx: entries of type 13, must be 8 (unsigned bytes)");
  EXPECT_THROW_MSG(parse_idx(idx({1, 1, 1, 1, 1}, "x"), "a"), DataError,
                   "read: a: idx: 5 dimensions, must be 1 to 4");
  EXPECT_THROW_MSG(parse_idx(idx({}, "x"), "a"), DataError,
                   "read: a: idx: 0 dimensions, must be 1 to 4");
  EXPECT_THROW_MSG(parse_idx(idx({0, 4}, ""), "a"), DataError,
                   "read: a: idx: shape (0, 4), must have 1 to 2^32 entries");
  EXPECT_THROW_MSG(
      parse_idx(idx({~0U, ~0U, ~0U, ~0U}, "x"), "a"), DataError,
      "read: a: idx: shape (4294967295, 4294967295, 4294967295, 4294967295), must have "
      "1 to 2^32 entries");
  EXPECT_THROW_MSG(parse_idx(idx({3}, "xyz_"), "a"), DataError,
                   "read: a: idx: there are bytes after the entries of shape (3)");
}

TEST(Idx, TakesNoMemoryForBytesThatTheFileCannotHold) {
  EXPECT_THROW_MSG(
      parse_idx(idx({1U << 31}, "xyz"), "a"), DataError,
      "read: a: idx: the file is truncated: shape (2147483648) takes 2147483648 bytes, "
      "there are at most 3");
  EXPECT_THROW(parse_idx(gzipped(idx({1U << 31}, "xyz")), "a"), DataError);
}

TEST(Idx, RefusesEveryTruncationAndDamagedGzip) {
  const std::string plain = idx({2, 3}, "abcdef");
  const std::string packed = gzipped(plain);
  for (size_t size = 0; size < plain.size(); ++size) {
    EXPECT_THROW(parse_idx(plain.substr(0, size), "a"), DataError) << size;
  }
  for (size_t size = 0; size < packed.size(); ++size) {
    EXPECT_THROW(parse_idx(packed.substr(0, size), "a"), DataError) << size;
  }
  EXPECT_THROW_MSG(parse_idx(packed.substr(0, packed.size() - 1), "a"), DataError,
                   "read: a: gzip: the file is truncated");
  EXPECT_THROW_MSG(parse_idx(packed + "more", "a"), DataError,
                   "read: a: gzip: 4 bytes after the end");
  std::string damaged = packed;
  damaged[damaged.size() - 5] = static_cast<char>(damaged[damaged.size() - 5] ^ 1);
  EXPECT_THROW_MSG(parse_idx(damaged, "a"), DataError, "read: a: gzip: incorrect data check");
}

TEST(Idx, SurvivesHostileHeaders) {
  const std::string plain = idx({2, 3}, "abcdef");
  for (const std::string& bytes : {plain, gzipped(plain)}) {
    for (size_t place = 0; place < bytes.size(); ++place) {
      for (int value = 0; value < 256; value += 5) {
        std::string hostile = bytes;
        hostile[place] = static_cast<char>(value);
        try {
          EXPECT_LE(parse_idx(hostile, "a").numel(), 6);
        } catch (const DataError&) {
        }
      }
    }
  }
}

Tensor few_images() { return at::arange(48, at::kByte).view({4, 3, 4}); }

TEST(ImageData, GivesNumbersFromMinusOneToOneWithLabels) {
  const Tensor images =
      at::cat({at::zeros({1, 3, 4}, at::kByte), at::full({1, 3, 4}, 255, at::kByte)});
  const DataSetPtr data = image_data(images, at::tensor({0, 1}), {}, "a");
  EXPECT_EQ(data->event_shape(), (std::vector<int64_t>{1, 3, 4}));
  EXPECT_EQ(data->event_dim(), 12);
  Rng rng(1);
  const auto draw = dynamic_cast<const LabelledData&>(*data).sample_labelled(50, rng);
  EXPECT_EQ(draw.points.sizes(), (at::IntArrayRef{50, 1, 3, 4}));
  const Tensor expected = 2.0 * draw.labels.to(at::kDouble) - 1.0;
  EXPECT_TRUE(at::equal(draw.points, expected.view({50, 1, 1, 1}).expand({50, 1, 3, 4})));
}

TEST(ImageData, PadsWithBlackAndFlipsEverySecondImage) {
  const DataSetPtr data = image_data(few_images(), {}, {.pad = 6, .flip = true}, "a");
  Rng rng(2);
  const Tensor x = data->sample(400, rng);
  ASSERT_EQ(x.sizes(), (at::IntArrayRef{400, 1, 6, 6}));
  const Tensor inner = ((x.slice(2, 1, 4).slice(3, 1, 5) + 1.0) * 127.5).round();
  const Tensor is_rising = inner.select(3, 0).lt(inner.select(3, 3)).all(2).squeeze(1);
  EXPECT_NEAR(is_rising.to(at::kDouble).mean().item<double>(), 0.5, 0.1);
  EXPECT_EQ(x.select(2, 0).max().item<double>(), -1.0);
  EXPECT_EQ(x.select(3, 5).max().item<double>(), -1.0);
}

TEST(ImageData, ARowDependsOnItselfAlone) {
  const DataSetPtr images = image_data(few_images(), {}, {.flip = true}, "a");
  for (const DataSetPtr& data : {images, scene_data({.size = 8})}) {
    Rng rng(3);
    const Tensor all = data->sample(9, rng);
    Rng tail = Rng(3).for_chains(7);
    EXPECT_TRUE(at::equal(all.narrow(0, 7, 2), data->sample(2, tail)));
  }
}

TEST(ImageData, RefusesOtherImages) {
  EXPECT_THROW_MSG(
      image_data(at::zeros({3, 4}, at::kByte), {}, {}, "a"), DataError,
      "data: \"a\" has shape (3, 4), must be (N, H, W) or (N, C, H, W) with sides of at "
      "most 4096");
  EXPECT_THROW_MSG(
      image_data(at::zeros({1, 3, 4}, at::kLong), {}, {}, "a"), DataError,
      "data: \"a\" has dtype int64, must be uint8 (0 to 255), or float32 or float64 in "
      "[-1, 1]");
  EXPECT_THROW_MSG(image_data(at::full({1, 3, 4}, 1.5), {}, {}, "a"), DataError,
                   "data: \"a\" has numbers outside of [-1, 1]; scale them, or give uint8");
  EXPECT_THROW_MSG(image_data(at::full({1, 3, 4}, std::nan("")), {}, {}, "a"), DataError,
                   "data: \"a\" has numbers outside of [-1, 1]; scale them, or give uint8");
  EXPECT_THROW_MSG(image_data(few_images(), {}, {.pad = 3}, "a"), ConfigError,
                   "data: \"a\": pad = 3, must be 0 (none) or from the images' side 4 to 4096");
  EXPECT_THROW_MSG(image_data(few_images(), at::zeros({3}), {}, "a"), DataError,
                   "data: \"a\": labels have shape (3), must be (4), one for each row");
}

// Where the picture with the object differs from the empty plane in colour, not only in light: the
// mean place, and how many pixels.
struct Spot {
  double column = 0.0, row = 0.0, pixels = 0.0;
};

Spot spot_of(const detail::SceneObject& object, int64_t size) {
  Tensor image = at::empty({3, size, size}, at::kFloat);
  detail::render_scene({object}, size, image.data_ptr<float>());
  const Tensor light = 0.5 * (image + 1.0);
  const Tensor weight = (light[0] - light[2]).abs().to(at::kDouble);  // grey has none
  const Tensor place = at::arange(size, at::kDouble) + 0.5;
  const double total = weight.sum().item<double>();
  return {(weight.sum(0) * place).sum().item<double>() / total,
          (weight.sum(1) * place).sum().item<double>() / total,
          weight.gt(0.02).sum().item<double>()};
}

TEST(Scenes, DrawObjectsWhereTheyAre) {
  for (const detail::Solid solid : {detail::Solid::cube, detail::Solid::sphere}) {
    for (const auto& [x, y] :
         {std::pair{0.0, 0.0}, {-1.0, -1.0}, {1.0, -1.0}, {0.9, 1.0}, {-0.3, 0.6}}) {
      const detail::SceneObject object{
          .solid = solid, .x = x, .y = y, .size = 0.2, .angle = 0.7, .colour = {0.9, 0.2, 0.1}};
      const auto centre = detail::scene_pixel({x, y, 0.2}, 64);
      const Spot spot = spot_of(object, 64);
      EXPECT_NEAR(spot.column, centre[0], 1.0) << x << " " << y;
      EXPECT_NEAR(spot.row, centre[1], 1.2) << x << " " << y;
      EXPECT_GT(spot.pixels, 40.0);
    }
  }
}

TEST(Scenes, KeepEveryObjectInThePicture) {
  for (const auto& [x, y] : {std::pair{-1.0, -1.0}, {1.0, -1.0}, {1.0, 1.0}, {-1.0, 1.0}}) {
    for (const double side : {-0.25, 0.25}) {
      const auto pixel = detail::scene_pixel({x + side, y, 0.0}, 32);
      EXPECT_GT(pixel[0], -0.5);
      EXPECT_LT(pixel[0], 32.5);
      EXPECT_GT(pixel[1], 0.0);
      EXPECT_LT(pixel[1], 32.0);
    }
  }
}

TEST(Scenes, FarObjectsAreSmallerAndEdgesAreSmooth) {
  const detail::SceneObject near{.x = 0.0, .y = -0.9, .size = 0.2, .colour = {0.9, 0.2, 0.1}};
  detail::SceneObject far = near;
  far.y = 0.9;
  EXPECT_GT(spot_of(near, 64).pixels, 1.3 * spot_of(far, 64).pixels);
  // A colour between the object's and the plane's is at the edge: red over blue of every tenth.
  Tensor image = at::empty({3, 64, 64}, at::kFloat);
  detail::render_scene({near}, 64, image.data_ptr<float>());
  const Tensor light = 0.5 * (image + 1.0);
  const Tensor share = (light[0] - light[2]) / light[0].clamp_min(0.05);
  const double highest = share.max().item<double>();
  int64_t between = 0;
  for (int64_t i = 1; i < 8; ++i) {
    const Tensor is_in = share.gt(0.1 * static_cast<double>(i) * highest)
                             .logical_and(share.le(0.1 * static_cast<double>(i + 1) * highest));
    between += is_in.any().item<bool>() ? 1 : 0;
  }
  EXPECT_GE(between, 5);
}

TEST(Scenes, SayWhereEachObjectIsAndKeepThemApart) {
  Rng rng(4);
  const Scenes scenes = draw_scenes({.size = 8}, 300, rng);
  EXPECT_EQ(scenes.images.sizes(), (at::IntArrayRef{300, 3, 8, 8}));
  EXPECT_LE(scenes.images.abs().max().item<float>(), 1.0F);
  EXPECT_LE(scenes.positions.abs().max().item<double>(), 1.0);
  EXPECT_EQ(scenes.num_objects.min().item<int64_t>(), 1);
  EXPECT_EQ(scenes.num_objects.max().item<int64_t>(), 5);
  for (int64_t row = 0; row < 300; ++row) {
    const int64_t count = scenes.num_objects[row].item<int64_t>();
    const Tensor at_row = scenes.positions[row];
    EXPECT_EQ(at_row.slice(0, count).abs().sum().item<double>(), 0.0);
    const Tensor apart = at::cdist(at_row.slice(0, 0, count), at_row.slice(0, 0, count)) +
                         10.0 * at::eye(count, at::kDouble);
    EXPECT_GT(apart.min().item<double>(), 2.0 * 0.85 * 0.18);
  }
}

TEST(Scenes, GiveThePositionOfOneObjectAsTheCondition) {
  const DataSetPtr data = scene_data({.size = 8, .min_objects = 2, .max_objects = 3});
  const auto& scenes = dynamic_cast<const ConditionedData&>(*data);
  Rng rng(5);
  const auto draw = scenes.sample_conditioned(40, rng);
  Rng again(5);
  const Scenes all = draw_scenes({.size = 8, .min_objects = 2, .max_objects = 3}, 40, again);
  EXPECT_TRUE(at::equal(draw.points, all.images));
  const Tensor same = all.positions.eq(draw.conditions.unsqueeze(1)).all(2);
  EXPECT_TRUE(same.any(1).all().item<bool>());
  EXPECT_FALSE(same.select(1, 0).all().item<bool>());
  EXPECT_EQ(data->describe(), "scenes(8, 2 to 3 objects)");
}

TEST(Scenes, RefuseBadOptions) {
  EXPECT_THROW_MSG(scene_data({.size = 4}), ConfigError,
                   "data: scenes: size = 4, must be in [8, 512]");
  EXPECT_THROW_MSG(
      scene_data({.min_objects = 3, .max_objects = 2}), ConfigError,
      "data: scenes: min_objects = 3 and max_objects = 2, must be 1 to 5, the first not "
      "above the second");
}

TEST(ConditionFeatures, AreWavesOfEachNumber) {
  const Tensor features = condition_features(at::tensor({0.5, -1.0}, at::kDouble).view({1, 2}), 9);
  ASSERT_EQ(features.sizes(), (at::IntArrayRef{1, 9}));
  const double pi = std::acos(-1.0);
  const std::vector<double> waves = {std::sin(0.25 * pi), std::sin(4.0 * pi),  std::cos(0.25 * pi),
                                     std::cos(4.0 * pi),  std::sin(-0.5 * pi), std::sin(-8.0 * pi),
                                     std::cos(-0.5 * pi), std::cos(-8.0 * pi), 0.0};
  const Tensor expected = at::tensor(waves, at::kDouble).to(at::kFloat);
  EXPECT_TRUE(at::allclose(features[0], expected, 0.0, 1e-6));
  EXPECT_THROW_MSG(condition_features(at::zeros({2, 2}), 3), ShapeError,
                   "train: condition_features() was given conditions of shape (2, 2) and dim = 3, "
                   "must be (B, k) and at least 2 k");
}

}  // namespace
}  // namespace motet
