// [model.NAME] tables that are measurements or regions.
#include "config_likelihood.hpp"

#include <torch/types.h>

#include <limits>

#include "config_keys.hpp"
#include "motet/error.hpp"
#include "motet/image.hpp"
#include "motet/io.hpp"
#include "support/folder.hpp"
#include "support/models.hpp"
#include "support/tensors.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

using testing::level_at;

const std::string kTable = "[model.obs]\n";
const std::string kMatrix = "likelihood = \"linear_gaussian\"\nmatrix = [[1, 0.5], [0, 2]]\n";
const std::string kRest = "observation = [0.2, -1]\nnoise_sd = 0.3\n";

LikelihoodPtr read(const std::string& toml, const std::string& directory = "") {
  const auto settings = detail::Settings::parse(kTable + toml, "a.toml", detail::sample_keys(), {});
  return detail::read_likelihood(settings, "model.obs.", "obs", directory);
}

void expect_same(const LikelihoodPtr& found, const LikelihoodPtr& expected) {
  ASSERT_NE(found, nullptr);
  const NoiseLevel level = level_at(0.7, 3);
  const Tensor x = rows({{0.3, -0.8}, {1.1, 0.4}});
  const Tensor score = -x;
  const auto a = found->evaluate(x, level, score);
  const auto b = expected->evaluate(x, level, score);
  EXPECT_TRUE(at::equal(a.log_likelihood, b.log_likelihood));
  EXPECT_TRUE(at::equal(a.score, b.score));
  EXPECT_EQ(found->describe(), expected->describe());
}

const Tensor kY = at::tensor({0.2, -1.0}, at::kDouble);
const Tensor kNoise = at::tensor({0.3}, at::kDouble);
const Tensor kA = rows({{1.0, 0.5}, {0.0, 2.0}});

TEST(ConfigLikelihood, ReadsAMeasurement) {
  expect_same(read(kMatrix + kRest), linear_gaussian(kA, kY, kNoise, {}, "obs"));
  expect_same(
      read(kMatrix + kRest + "approximation = \"dps\"\nprior_sd = 0.5\nexponent = 2\n"),
      linear_gaussian(kA, kY, kNoise,
                      {.approximation = LikelihoodApproximation::dps, .prior_sd = 0.5}, "obs"));
}

TEST(ConfigLikelihood, ReadsAMask) {
  expect_same(read("likelihood = \"linear_gaussian\"\nobserved = [1]\nevent_dim = 2\n"
                   "observation = [0.2]\nnoise_sd = [0.3]\napproximation = \"flat\"\n"),
              linear_gaussian({1}, {2}, kY.narrow(0, 0, 1), kNoise,
                              {.approximation = LikelihoodApproximation::flat}, "obs"));
}

TEST(ConfigLikelihood, ReadsFilesBesideTheConfig) {
  const test::Folder folder;
  write_npy(folder / "a.npy", kA);
  write_npy(folder / "y.npy", kY);
  expect_same(read("likelihood = \"linear_gaussian\"\nmatrix = \"a.npy\"\n"
                   "observation = \"y.npy\"\nnoise_sd = 0.3\n",
                   folder.path()),
              linear_gaussian(kA, kY, kNoise, {}, "obs"));
  EXPECT_THROW_MSG(
      read("likelihood = \"linear_gaussian\"\nmatrix = \"y.npy\"\n" + kRest, folder.path()),
      ConfigError,
      "config: a.toml:3: model.obs.matrix = \"y.npy\", holds shape (2), must be (m, d)");
}

TEST(ConfigLikelihood, ReadsABoxWithOpenSides) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const Tensor low = at::tensor({-kInf, 0.5}, at::kDouble);
  const Tensor open = at::full({2}, kInf, at::kDouble);
  expect_same(read("likelihood = \"box\"\nlow = [-inf, 0.5]\nhigh = [1, inf]\n"),
              region_box(low, at::tensor({1.0, kInf}, at::kDouble), {}, "obs"));
  expect_same(read("likelihood = \"box\"\nlow = [-inf, 0.5]\n"), region_box(low, open, {}, "obs"));
  expect_same(read("likelihood = \"box\"\nhigh = [0.5, 1]\nprior_sd = 2\n"),
              region_box(-open, at::tensor({0.5, 1.0}, at::kDouble), {.prior_sd = 2.0}, "obs"));
}

TEST(ConfigLikelihood, IsNullWithoutTheKey) { EXPECT_EQ(read("law = \"ring\"\n"), nullptr); }

TEST(ConfigLikelihood, ReadsImagesAndMasksFromPngs) {
  const test::Folder folder;
  const Tensor image = at::tensor({0, 51, 102, 153, 204, 255}).to(at::kByte).view({1, 2, 3});
  write_png(folder / "y.png", image);
  write_png(folder / "mask.png",
            at::tensor({255, 0, 0, 255, 127, 128}).to(at::kByte).view({1, 2, 3}));
  const std::string toml =
      "likelihood = \"linear_gaussian\"\nmask = \"mask.png\"\nevent_shape = [1, 2, 3]\n"
      "observation = \"y.png\"\nnoise_sd = 0.3\n";
  const LikelihoodPtr found = read(toml, folder.path());
  const Tensor seen = values_of(image).flatten().index_select(0, at::tensor({0, 3, 5}));
  const LikelihoodPtr expected = linear_gaussian({0, 3, 5}, {1, 2, 3}, seen, kNoise, {}, "obs");
  const Tensor x = at::arange(12).to(at::kDouble).mul(0.1).view({2, 1, 2, 3});
  const auto a = found->evaluate(x, level_at(0.7, 3), -x);
  const auto b = expected->evaluate(x, level_at(0.7, 3), -x);
  EXPECT_TRUE(at::equal(a.log_likelihood, b.log_likelihood));
  EXPECT_TRUE(at::equal(a.score, b.score));
  write_png(folder / "mask.png", at::zeros({1, 2, 3}, at::kByte));
  EXPECT_THROW_MSG(read(toml, folder.path()), ConfigError,
                   "config: a.toml:3: model.obs.mask = \"mask.png\", shows nothing; pixels above "
                   "mid grey, or entries > 0, are seen");
  write_png(folder / "mask.png", at::zeros({1, 3, 3}, at::kByte));
  EXPECT_THROW_MSG(read(toml, folder.path()), ConfigError,
                   "config: a.toml:3: model.obs.mask = \"mask.png\", holds shape (1, 3, 3), must "
                   "be event_shape (1, 2, 3) or one channel of it");
}

TEST(ConfigLikelihood, OneChannelOfAMaskIsThatOfAll) {
  const test::Folder folder;
  write_png(folder / "mask.png", at::tensor({255, 0}).to(at::kByte).view({1, 1, 2}));
  const LikelihoodPtr found = read(
      "likelihood = \"linear_gaussian\"\nmask = \"mask.png\"\nevent_shape = [3, 1, 2]\n"
      "observation = [0.1, 0.2, 0.3]\nnoise_sd = 0.3\n",
      folder.path());
  EXPECT_EQ(found->event_shape(), (std::vector<int64_t>{3, 1, 2}));
}

TEST(ConfigLikelihood, SeesRowsAndBoxesAsImages) {
  const LikelihoodPtr found = read(kMatrix + "event_shape = [1, 2, 1]\n" + kRest);
  EXPECT_EQ(found->event_shape(), (std::vector<int64_t>{1, 2, 1}));
  EXPECT_EQ(read("likelihood = \"box\"\nlow = [0, 0]\nevent_shape = [2, 1]\n")->event_shape(),
            (std::vector<int64_t>{2, 1}));
}

struct Refusal {
  std::string toml;
  std::string message;  // after "config: a.toml"
};

std::vector<Refusal> refusals() {
  const std::string gaussian = "likelihood = \"linear_gaussian\"\n";
  const std::string mask = gaussian + "observed = [0, 2]\n";
  const std::string box = "likelihood = \"box\"\n";
  const std::string takes =
      "that takes matrix, observed, mask, event_dim, event_shape, observation, noise_sd, "
      "approximation and prior_sd";
  return {
      {kMatrix + "low = [0]\n" + kRest,
       ":4: model.obs.low = [0.0], but it is no parameter of likelihood \"linear_gaussian\"; " +
           takes},
      {box + "low = [0]\nlaw = \"ring\"\n",
       ":4: model.obs.law = \"ring\", but it is no parameter of likelihood \"box\"; that takes "
       "low, high, event_shape, approximation and prior_sd"},
      {"noise_sd = 0.3\nlaw = \"ring\"\n",
       ":2: model.obs.noise_sd = 0.3, but model.obs.likelihood is not given; add likelihood = "
       "\"linear_gaussian\""},
      {gaussian + kRest, ": model.obs.matrix is missing; linear_gaussian needs matrix or observed"},
      {kMatrix + "noise_sd = 1\n",
       ": model.obs.observation is missing; linear_gaussian needs observation and noise_sd"},
      {kMatrix + "observation = [1, 2]\n",
       ": model.obs.noise_sd is missing; linear_gaussian needs observation and noise_sd"},
      {mask + kRest, ": model.obs.event_dim is missing; observed needs it"},
      {kMatrix + "observed = [0]\n" + kRest,
       ":4: model.obs.observed = [0], but matrix is given too; leave one out"},
      {kMatrix + "event_dim = 2\n" + kRest,
       ":4: model.obs.event_dim = 2, but it belongs to observed; matrix has d columns"},
      {mask + "event_dim = 2\n" + kRest,
       ":3: model.obs.observed = [0, 2], must name coordinates below event_dim = 2, each once"},
      {gaussian + "observed = [1, 1]\nevent_dim = 2\n" + kRest,
       ":3: model.obs.observed = [1, 1], must name coordinates below event_dim = 2, each once"},
      {mask + "event_dim = 3\nevent_shape = [1, 3]\n" + kRest,
       ":4: model.obs.event_dim = 3, but event_shape is given too; leave one out"},
      {mask + "event_shape = [1, 2]\n" + kRest,
       ":3: model.obs.observed = [0, 2], must name coordinates below the product of event_shape = "
       "2, "
       "each once"},
      {kMatrix + "event_shape = [1, 3]\n" + kRest,
       ":4: model.obs.event_shape = [1, 3], must be up to 4 sizes whose product is the number of "
       "coordinates, 2"},
      {mask + "mask = \"m.png\"\nevent_shape = [1, 3]\n" + kRest,
       ":4: model.obs.mask = \"m.png\", but observed is given too; leave one out"},
      {gaussian + "mask = \"m.png\"\n" + kRest,
       ": model.obs.event_shape is missing; mask needs it"},
      {gaussian + "matrix = [[1, 2], [3]]\n" + kRest,
       ":3: model.obs.matrix = [[1.0, 2.0], [3.0]], must have rows of one length"},
      {kMatrix + "observation = [1]\nnoise_sd = 1\n",
       ":4: model.obs.observation = [1.0], must have one entry for each of the 2 rows of matrix"},
      {mask + "event_dim = 3\nobservation = [1]\nnoise_sd = 1\n",
       ":5: model.obs.observation = [1.0], must have one entry for each of the 2 entries of "
       "observed"},
      {kMatrix + "observation = [1, 2]\nnoise_sd = [1, 1, 1]\n",
       ":5: model.obs.noise_sd = [1.0, 1.0, 1.0], must be one number, or one for each of the 2 "
       "rows of matrix"},
      {kMatrix + kRest + "approximation = \"flat\"\nprior_sd = 2\n",
       ":7: model.obs.prior_sd = 2.0, but approximation = \"flat\" has no use for it"},
      {kMatrix + kRest + "approximation = \"tweedy\"\n",
       ":6: model.obs.approximation = \"tweedy\", must be one of \"tweedie\", \"dps\", \"flat\"; "
       "did you mean \"tweedie\"?"},
      {box, ": model.obs.low is missing; box needs low, high or both"},
      {box + "low = [0, 1]\nhigh = [2]\n",
       ":4: model.obs.high = [2.0], must have as many entries as low"},
      {box + "low = [0, 1]\nhigh = [2, 1]\n",
       ":4: model.obs.high = [2.0, 1.0], must be above low in every coordinate"},
      {box + "low = [0]\napproximation = \"dps\"\n",
       ":4: model.obs.approximation = \"dps\", would be hard at every level; use \"tweedie\" or "
       "\"flat\" for a box"},
      {box + "low = [inf]\n", ":3: model.obs.low = [inf], must be below inf"},
      {box + "low = [nan]\n", ":3: model.obs.low[0] = nan, must be a number"},
  };
}

TEST(ConfigLikelihood, RefusesWhatDoesNotFit) {
  for (const Refusal& refusal : refusals()) {
    EXPECT_THROW_MSG(read(refusal.toml), ConfigError, "config: a.toml" + refusal.message);
  }
}

}  // namespace
}  // namespace motet
