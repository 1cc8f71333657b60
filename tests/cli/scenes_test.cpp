// motet scenes: what its files hold, that a seed decides them, and what is refused.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <filesystem>

#include "cli/process.hpp"
#include "motet/image.hpp"
#include "motet/io.hpp"
#include "motet/train.hpp"

namespace motet {
namespace {

using test::Folder;
using test::Output;
using test::run_motet;

Tensor drawn(const Folder& folder, const std::vector<std::string>& more) {
  std::vector<std::string> args = {"scenes", "--out", "x.npy", "--objects", "o.npy", "--size", "8"};
  args.insert(args.end(), more.begin(), more.end());
  const Output output = run_motet(folder, args);
  EXPECT_EQ(output.code, 0) << output.err;
  return read_npy(folder / "x.npy");
}

TEST(ScenesCli, ImagesComeWithAllTheirObjects) {
  const Folder folder;
  const Output output = run_motet(
      folder, {"scenes", "--out", "x.npy", "--objects", "o.npy", "--png", "x.png", "--num-scenes",
               "70", "--size", "12", "--seed", "4", "--min-objects", "2", "--max-objects", "4"});
  ASSERT_EQ(output.code, 0) << output.err;
  EXPECT_EQ(output.out,
            "scenes                  x.npy\nobjects                 o.npy\n"
            "png                     x.png\n");
  Rng rng = Rng(4).split("scenes");
  const Scenes expected = draw_scenes({.size = 12, .min_objects = 2, .max_objects = 4}, 70, rng);
  EXPECT_TRUE(at::equal(read_npy(folder / "x.npy"), expected.images));
  const Tensor objects = read_npy(folder / "o.npy");
  ASSERT_EQ(objects.sizes(), at::IntArrayRef({70, 5, 3}));
  const Tensor is_there = at::isfinite(objects);
  EXPECT_TRUE(at::equal(is_there.all(2).sum(1), expected.num_objects));
  EXPECT_TRUE(at::equal(is_there.any(2).sum(1), expected.num_objects));
  EXPECT_TRUE(at::equal(objects.narrow(2, 0, 2).nan_to_num(0.0), expected.positions));
  EXPECT_TRUE(at::equal(objects.select(2, 2).nan_to_num(0.0), expected.shapes.to(at::kDouble)));
  EXPECT_EQ(read_png(folder / "x.png").size(0), 3);
}

TEST(ScenesCli, ASceneDependsOnSeedAndRowAlone) {
  const Folder folder;
  const Tensor all = drawn(folder, {"--num-scenes", "501"});
  EXPECT_TRUE(at::equal(drawn(folder, {"--num-scenes", "3"}), all.narrow(0, 0, 3)));
  EXPECT_FALSE(at::equal(drawn(folder, {"--num-scenes", "3", "--seed", "2"}), all.narrow(0, 0, 3)));
  Rng last = Rng(1).split("scenes").for_chains(500);
  EXPECT_TRUE(at::equal(draw_scenes({.size = 8}, 1, last).images, all.narrow(0, 500, 1)));
}

TEST(ScenesCli, RefusesBeforeItWritesAnything) {
  const Folder folder;
  const Output size = run_motet(folder, {"scenes", "--out", "x.npy", "--size", "4"});
  EXPECT_EQ(size.code, 2);
  EXPECT_EQ(size.err, "motet: data: scenes: size = 4, must be in [8, 512]\n");
  EXPECT_EQ(run_motet(folder, {"scenes", "--out", "x.npy", "--max-objects", "6"}).code, 2);
  EXPECT_EQ(run_motet(folder, {"scenes", "--out", "x.npy", "--num-scenes", "0"}).code, 2);
  EXPECT_EQ(run_motet(folder, {"scenes"}).code, 2);
  EXPECT_EQ(run_motet(folder, {"scenes", "--out", "x.npy", "--objects", "none/o.npy"}).code, 3);
  EXPECT_FALSE(std::filesystem::exists(folder / "x.npy"));
  EXPECT_FALSE(std::filesystem::exists(folder / "x.npy.partial"));
}

}  // namespace
}  // namespace motet
