// The table [tapestry]: what it composes, and what is refused.
#include <gtest/gtest.h>
#include <torch/types.h>

#include "motet/compose.hpp"
#include "motet/error.hpp"
#include "motet/run.hpp"
#include "support/models.hpp"
#include "support/throw_message.hpp"

namespace motet::testing {
namespace {

// Strips of two and three places.
const std::string kModels = R"(
[model.a]
law = "gaussian_mixture"
means = [[0.5, -0.5]]
sds = [[0.4]]
[model.b]
law = "gaussian_mixture"
means = [[-0.5, 0.5], [0.1, 0.2]]
sds = [[0.4], [0.3]]
)";
const std::string kWide = R"(
[model.wide]
law = "gaussian_mixture"
means = [[0.5, -0.5, 0.0]]
sds = [[0.4]]
)";

ModelPtr load(const std::string& text) { return load_target(parse_config(text, "t.toml")); }

TEST(TapestryConfig, LaysAGridOut) {
  const ModelPtr model = load("[tapestry]\ngrid = \"a b a\"\noverlap = 1\n" + kModels);
  EXPECT_EQ(model->event_shape(), (std::vector<int64_t>{4}));
  EXPECT_EQ(model->describe(), "tapestry(4, cover: 2 of a, b)");
  EXPECT_TRUE(traits(*model).is_field);
}

TEST(TapestryConfig, PlacesWindowsOneByOne) {
  const ModelPtr model = load(
      "[tapestry]\nrule = \"product\"\ncanvas = [1, 4]\n[tapestry.window.left]\nmodel = \"a^0.5 * "
      "b\"\nat = [0, 0]\n[tapestry.window.right]\nmodel = \"wide\"\nat = [0, 1]\nexponent = 2.0\n" +
      kModels + kWide);
  EXPECT_EQ(model->describe(), "tapestry(4, product: product(a^0.5, b), wide^2)");
  const NoiseLevel level = level_at(0.5);
  EXPECT_TRUE(
      coordinate_exponents(*model, level).equal(at::tensor({1.5, 3.5, 2.0, 2.0}, at::kDouble)));
  EXPECT_TRUE(model->is_exact());
}

TEST(TapestryConfig, TakesTablesThatAreExpressions) {
  const ModelPtr model =
      load("[tapestry]\ngrid = \"both; \"\n[model.both]\nexpression = \"a * b\"\n" + kModels);
  EXPECT_EQ(model->describe(), "tapestry(2, cover: product(a, b))");
}

TEST(TapestryConfig, ItsResolvedTextGivesItAgain) {
  const SampleConfig config = parse_config(
      "[tapestry]\ngrid = \"\"\"\na b\nb a\"\"\"\n" + kModels + "[schedule]\n", "t.toml");
  ASSERT_EQ(config.tapestry->windows.size(), 4U);
  EXPECT_EQ(config.tapestry->windows[2].model, "b");
  EXPECT_EQ(config.tapestry->windows[2].row, 1);
  const SampleConfig again = parse_config(config.toml, "t.toml");
  EXPECT_EQ(again.toml, config.toml);
  EXPECT_EQ(again.tapestry->windows.size(), 4U);
  const SampleConfig listed = parse_config(
      "[tapestry.window.left]\nmodel = \"a * b\"\nat = [0, 0]\n[tapestry.window.right]\nmodel = "
      "\"b\"\nat = [0, 1]\n" +
          kModels,
      "t.toml");
  const SampleConfig relisted = parse_config(listed.toml, "t.toml");
  EXPECT_EQ(relisted.toml, listed.toml);
  EXPECT_EQ(relisted.tapestry->windows[1].column, 1);
}

TEST(TapestryConfig, SharesWindowsLeaves) {
  const SampleConfig config = parse_config(
      "[tapestry]\ngrid = \"a a\"\noverlap = 1\n[model.a]\nlaw = \"ring\"\n", "t.toml");
  EXPECT_EQ(config.terms.size(), 1U);
  EXPECT_EQ(config.tapestry->windows.size(), 2U);
}

TEST(TapestryConfig, SamplesOfItComeFromRun) {
  SampleConfig config = parse_config(
      "sampler = \"exact\"\nnum_samples = 256\nseed = 3\n[tapestry]\ngrid = \"a b a\"\noverlap = "
      "1\nrule = \"product\"\n" +
          kModels,
      "t.toml");
  const RunReport report = run(config, {});
  EXPECT_EQ(report.samples.sizes(), (std::vector<int64_t>{256, 4}));
  EXPECT_TRUE(at::isfinite(report.samples).all().item<bool>());
}

void expect_refused(const std::string& text, const std::string& message) {
  EXPECT_THROW_MSG(load(text), ConfigError, message);
}

TEST(TapestryConfig, RefusesTablesThatSayTooLittleOrTooMuch) {
  expect_refused("[tapestry]\nrule = \"cover\"\n" + kModels,
                 "config: t.toml: [tapestry] has no windows; give grid = \"NAME NAME; NAME NAME\", "
                 "or [tapestry.window.NAME] with model and at");
  expect_refused("target = \"a\"\n[tapestry]\ngrid = \"a b\"\n" + kModels,
                 "config: t.toml:1: target = \"a\", but [tapestry] is given, which says what to "
                 "sample; leave one out");
  expect_refused(
      "[tapestry]\ngrid = \"a b\"\n[tapestry.window.x]\nmodel = \"a\"\nat = [0, 0]\n" + kModels,
      "config: t.toml:2: tapestry.grid = \"a b\", but [tapestry.window.NAME] is given "
      "too; leave one out");
  expect_refused(
      "[tapestry]\noverlap = 2\n[tapestry.window.x]\nmodel = \"a\"\nat = [0, 0]\n" + kModels,
      "config: t.toml:2: tapestry.overlap = 2, but it belongs to tapestry.grid; leave it "
      "out");
  expect_refused("[tapestry.window.x]\nmodel = \"a * b\"\n" + kModels,
                 "config: t.toml: tapestry.window.x.at is missing; a window needs model and at");
  expect_refused("[tapestry]\ngrid = \"a\"\n" + kModels,
                 "config: t.toml: [tapestry] does not use [model.b]; name it, or leave it out");
}

TEST(TapestryConfig, RefusesShapesThatDoNotFit) {
  expect_refused("[tapestry]\ngrid = \"a b; a\"\n" + kModels,
                 "config: t.toml:2: tapestry.grid = \"a b; a\", must have rows of one length");
  expect_refused(
      "[tapestry]\ngrid = \" ; \"\n" + kModels,
      "config: t.toml:2: tapestry.grid = \" ; \", must have the name of a model for each "
      "window");
  expect_refused(
      "[tapestry]\ngrid = \"a b wide\"\n" + kModels + kWide,
      "config: t.toml: tapestry.grid has windows of different sizes, \"a\" and \"wide\"; "
      "give [tapestry.window.NAME] tables instead");
  expect_refused("[tapestry]\ncanvas = [4]\ngrid = \"a b\"\n" + kModels,
                 "config: t.toml:2: tapestry.canvas = [4], must be [height, width]");
  expect_refused("[tapestry.window.x]\nmodel = \"a * b\"\nat = [0]\n" + kModels,
                 "config: t.toml:3: tapestry.window.x.at = [0], must be [row, column]");
  expect_refused("[tapestry]\ngrid = \"a b nobody\"\n" + kModels,
                 "config: t.toml:2: tapestry.grid: expression: column 1: unknown name \"nobody\"; "
                 "known: a, b, ring, bar, checkerboard, moons, spirals; others need a table "
                 "[model.nobody]\n  nobody\n  ^");
  expect_refused("[tapestry]\ngrid = \"a b\"\ncanvas = [1, 3]\n" + kModels,
                 "tapestry: window 2 of 2 (\"b\") of 1x2 places at row 0, column 2 is not inside "
                 "the canvas of 1x3; move it, or enlarge the canvas");
}

}  // namespace
}  // namespace motet::testing
