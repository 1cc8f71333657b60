// A checkpoint that was changed is refused with what is wrong, not believed.
#include "checkpoint.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <functional>
#include <limits>

#include "cli/process.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

using Tensors = std::map<std::string, Tensor>;
using Change = std::function<void(Tensors&)>;

// Three tiles of three levels of two steps.
const std::string kSample = R"(num_samples = 50
sampler = "hmc-4-curve"
tile_size = 20
seed = 3
[model.ring]
law = "ring"
[schedule]
num_levels = 3
[anneal]
steps_per_level = 2
)";

Tensor number(double value) { return at::tensor({value}, at::kDouble); }

class ChangedCheckpoint : public testing::Test {
 protected:
  void SetUp() override {
    files_.samples = folder_ / "x.npy";
    checkpoint_ = files_.samples + ".checkpoint";
    RunHooks hooks;
    hooks.should_stop = [asked = 0]() mutable { return ++asked == 8; };  // in the second tile
    EXPECT_THROW(run(config_, files_, hooks), Interrupted);
    files_.resume = true;
    saved_ = read_safetensors(checkpoint_);
  }

  void expect_refused(const Change& change, const std::string& why) {
    TensorFile file = saved_;
    change(file.tensors);
    write_safetensors(checkpoint_, file);
    EXPECT_THROW_MSG(run(config_, files_), DataError, "checkpoint: " + checkpoint_ + ": " + why);
  }

  const test::Folder folder_;
  const SampleConfig config_ = parse_config(kSample, "s.toml");
  RunFiles files_;
  std::string checkpoint_;
  TensorFile saved_;
};

TEST(CheckpointPoints, ComeBackAsTheyWereOrAreRefused) {
  TensorFile file;
  detail::pack_points({}, "tune", file);
  EXPECT_TRUE(file.tensors.empty());
  detail::pack_points({2, 5, 64}, "tune", file);
  EXPECT_EQ(detail::unpack_points(file, "x.checkpoint", "tune", 3),
            (std::vector<int64_t>{2, 5, 64}));
  EXPECT_THROW_MSG(detail::unpack_points(file, "x.checkpoint", "tune", 4), DataError,
                   "checkpoint: x.checkpoint: tune.num_points has the wrong shape");
  file.tensors["tune.num_points"] = at::tensor({2, 65}, at::kLong);
  EXPECT_THROW_MSG(
      detail::unpack_points(file, "x.checkpoint", "tune", 2), DataError,
      "checkpoint: x.checkpoint: tune.num_points has the entry 65, must be in [2, 64]");
  EXPECT_THROW_MSG(detail::unpack_points({}, "x.checkpoint", "tune", 2), DataError,
                   "checkpoint: x.checkpoint: has no tensor tune.num_points");
}

TEST(CheckpointLevels, KeepTheirMasses) {
  std::vector<LevelStats> levels(2);
  levels[0].index = 5;
  levels[1].mass = at::tensor({2.0, 0.5}, at::kDouble);
  TensorFile file;
  detail::pack_levels(levels, "tune", file);
  const std::vector<LevelStats> back = detail::unpack_levels(file, "x.checkpoint", "tune");
  EXPECT_EQ(back[0].index, 5);
  EXPECT_TRUE(at::equal(back[0].mass, at::ones({2}, at::kDouble)));
  EXPECT_TRUE(at::equal(back[1].mass, levels[1].mass));
  file.tensors["tune.mass"] = at::ones({3, 2}, at::kDouble);
  EXPECT_THROW_MSG(detail::unpack_levels(file, "x.checkpoint", "tune"), DataError,
                   "checkpoint: x.checkpoint: tune.mass has the wrong shape");
}

TEST_F(ChangedCheckpoint, IsTakenAsItWas) { EXPECT_EQ(run(config_, files_).samples.size(0), 50); }

TEST_F(ChangedCheckpoint, IsRefusedForNumbersThatCountNothing) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto with = [](const std::string& name, double value) {
    return [name, value](Tensors& tensors) { tensors[name] = number(value); };
  };
  expect_refused(with("run.tile", nan), "run.tile = nan, must be a whole number in [0, 3]");
  expect_refused(with("run.tile", 1e300), "run.tile = 1e+300, must be a whole number in [0, 3]");
  expect_refused(with("run.tile", -1.0), "run.tile = -1.0, must be a whole number in [0, 3]");
  expect_refused(with("anneal.step", 0.5),
                 "anneal.step = 0.5, must be a whole number in [0, 4294967296]");
  expect_refused(with("anneal.level_position", nan),
                 "anneal.level_position = nan, must be a whole number in [0, 4294967296]");
}

TEST_F(ChangedCheckpoint, IsRefusedForTensorsOfAnotherShape) {
  const auto with = [](const std::string& name, const Tensor& tensor) {
    return [name, tensor](Tensors& tensors) { tensors[name] = tensor; };
  };
  expect_refused(
      [](Tensors& tensors) {
        tensors["run.counts"] = at::zeros({9, 7}, at::kLong);
        tensors["run.step_size"] = at::zeros({9}, at::kDouble);
        tensors["run.ess"] = at::zeros({9}, at::kDouble);
        tensors["run.families"] = at::zeros({9}, at::kDouble);
        tensors["run.squared_jump"] = at::zeros({9}, at::kDouble);
      },
      "run.counts has 9 levels, must have 3");
  expect_refused(with("run.kept", at::zeros({7, 2})),
                 "run.kept has shape (7, 2), must have float32 (20, 2)");
  expect_refused(with("run.kept", at::zeros({20, 2}, at::kDouble)),
                 "run.kept has shape (20, 2), must have float32 (20, 2)");
  expect_refused(with("run.trace", at::zeros({4, 5}, at::kDouble)),
                 "run.trace has shape (4, 5), must have float64 (4, 6)");
  expect_refused(with("run.log_weights", at::zeros({20}, at::kDouble)),
                 "run.log_weights has shape (20), must have float64 (0)");
  expect_refused(with("chains.x", at::zeros({})), "chains.x has the wrong shape");
  expect_refused(with("chains.momentum", at::zeros({20})),
                 "chains.momentum is Float (20), must be floats of shape (20, 2)");
  expect_refused(with("chains.log_density", at::zeros({20}, at::kLong)),
                 "chains.log_density is Long (20), must be floats of shape (20)");
  expect_refused(with("anneal.num_accepted", at::zeros({3}, at::kLong)),
                 "anneal.num_accepted and anneal.num_invalid must be int64 numbers");
  expect_refused(
      [](Tensors& tensors) {
        for (const char* name : {"score", "log_density", "remainder", "momentum"}) {
          tensors.erase(std::string("chains.") + name);
        }
        tensors["chains.x"] = at::zeros({5, 2});
      },
      "chains.* must be those of 20 chains of " + ring()->describe());
  const std::string family = "weights.family must name a chain of 20 for each";
  expect_refused(with("weights.family", at::arange(20)), family);  // the run has no weights
  expect_refused(with("weights.log_weights", at::zeros({20}, at::kDouble)), family);
  const auto of_weights = [](const Tensor& rows) {
    return [rows](Tensors& tensors) {
      tensors["weights.log_weights"] = at::zeros({20}, at::kDouble);
      tensors["weights.family"] = rows;
    };
  };
  expect_refused(of_weights(at::arange(19)), family);
  expect_refused(of_weights(at::arange(20) + 1), family);
  expect_refused(of_weights(at::arange(20) - 1), family);
  expect_refused(of_weights(at::zeros({20})), family);
}

TEST(ChangedTrainCheckpoint, IsRefusedForAStepThatCountsNothing) {
  TrainState state;
  TensorFile file;
  detail::pack(state, file);
  file.tensors["train.step"] = number(std::numeric_limits<double>::infinity());
  EXPECT_THROW_MSG(detail::unpack_train(file, "c"), DataError,
                   "checkpoint: c: train.step = inf, must be a whole number in [0, 4294967296]");
  file.tensors["train.step"] = number(3.0);
  file.tensors["train.held_out"] = at::full({1, 3}, -1e300, at::kDouble);
  EXPECT_THROW_MSG(
      detail::unpack_train(file, "c"), DataError,
      "checkpoint: c: train.held_out = -1e+300, must be a whole number in [0, 4294967296]");
}

// The published test vectors of FNV-1a, and a file of several chunks.
TEST(FileHash, IsFnv1aOfAnyNumberOfBytes) {
  const test::Folder folder;
  const auto hash = [&](const std::string& text) {
    test::write_text(folder / "f", text);
    return detail::file_hash(folder / "f");
  };
  EXPECT_EQ(hash(""), "fnv1a64:cbf29ce484222325");
  EXPECT_EQ(hash("foobar"), "fnv1a64:85944171f73967e8");
  std::string big(3 << 20, 'x');
  const std::string same = hash(big);
  EXPECT_EQ(hash(big), same);
  big.back() = 'y';
  EXPECT_NE(hash(big), same);
}

}  // namespace
}  // namespace motet
