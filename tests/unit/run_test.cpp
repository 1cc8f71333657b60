// Runs through the library: progress, when checkpoints are written, and settings that only a config
// can give.
#include "motet/run.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <tuple>

#include "checkpoint.hpp"
#include "cli/process.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "sample_run.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

using Json = nlohmann::json;
using Overrides = std::vector<std::string>;
using test::Folder;

// Three tiles of 3 + 1 + 2 steps.
const std::string kSample = R"(num_samples = 50
sampler = "hmc-4-curve"
tile_size = 20
seed = 3
[model.ring]
law = "ring"
[schedule]
num_levels = 5
[anneal]
levels = [4, 2, 0]
steps_per_level = [3, 1, 2]
)";

const std::string kTrain = R"(seed = 4
[data]
set = "ring"
[network]
width = 8
num_blocks = 1
embedding_dim = 3
[schedule]
num_levels = 3
[train]
num_steps = 6
batch_size = 8
held_out_every = 3
held_out_size = 9
)";

SampleConfig sample_config(const Overrides& overrides = {}) {
  return parse_config(kSample, "s.toml", overrides);
}

TrainJob train_job(const Overrides& overrides = {}) {
  return parse_train_config(kTrain, "t.toml", overrides);
}

RunHooks collecting(std::vector<Progress>& all) {
  RunHooks hooks;
  hooks.progress = [&all](const Progress& progress) { all.push_back(progress); };
  return hooks;
}

// What holds of every Progress of a run whose process began after `first_step` steps.
void expect_consistent(const std::vector<Progress>& all, int64_t first_step, int64_t num_steps) {
  ASSERT_EQ(static_cast<int64_t>(all.size()), num_steps - first_step);
  double before = 0.0;
  for (size_t i = 0; i < all.size(); ++i) {
    const Progress& now = all[i];
    EXPECT_EQ(now.step, first_step + static_cast<int64_t>(i) + 1);
    EXPECT_EQ(now.num_steps, num_steps);
    EXPECT_DOUBLE_EQ(now.fraction, static_cast<double>(now.step) / static_cast<double>(num_steps));
    EXPECT_GE(now.seconds, before);
    before = now.seconds;
    const auto done_here = static_cast<double>(now.step - first_step);
    EXPECT_NEAR(now.steps_per_second * now.seconds, done_here, 1e-9 * done_here);
    const auto left = static_cast<double>(num_steps - now.step);
    EXPECT_NEAR(now.seconds_left * now.steps_per_second, left, 1e-9 * left);
  }
  EXPECT_EQ(all.back().fraction, 1.0);
  EXPECT_EQ(all.back().seconds_left, 0.0);
}

TEST(RunProgress, TellsStepRateTimeLeftLevelAndAcceptanceOfSampling) {
  std::vector<Progress> all;
  run(sample_config(), {}, collecting(all));
  expect_consistent(all, 0, 18);
  // The level that the next step works on, or the last one.
  const std::vector<int64_t> levels = {4, 4, 2, 0, 0, 0};
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].phase, "sample");
    EXPECT_EQ(all[i].level, levels[i % levels.size()]);
    const bool nothing_known = i % levels.size() < 2;  // no level is finished
    EXPECT_EQ(std::isnan(all[i].acceptance), nothing_known) << i;
    if (!nothing_known) {
      EXPECT_GT(all[i].acceptance, 0.0);
      EXPECT_LE(all[i].acceptance, 1.0);
    }
  }
}

TEST(RunProgress, KnowsNoAcceptanceOfUnadjustedKernels) {
  std::vector<Progress> all;
  run(sample_config({"sampler=u-hmc"}), {}, collecting(all));
  for (const Progress& progress : all) {
    EXPECT_TRUE(std::isnan(progress.acceptance));
  }
}

TEST(RunProgress, TellsStepRateTimeLeftAndLossOfTraining) {
  std::vector<Progress> all;
  run_train(train_job(), {}, collecting(all));
  expect_consistent(all, 0, 6);
  for (const Progress& progress : all) {
    EXPECT_EQ(progress.phase, "train");
    EXPECT_EQ(progress.level, -1);
    EXPECT_TRUE(std::isfinite(progress.loss));
    EXPECT_GT(progress.loss, 0.0);
  }
}

TEST(RunProgress, OfAResumedRunCountsAllStepsButTheRateOfItsOwn) {
  const Folder folder;
  RunFiles sample_files;
  sample_files.samples = folder / "x.npy";
  RunFiles train_files;
  train_files.weights = folder / "w.safetensors";
  const auto stopping_at = [](int64_t step) {
    RunHooks hooks;
    hooks.should_stop = [step, asked = int64_t{0}]() mutable { return ++asked == step; };
    return hooks;
  };
  EXPECT_THROW(run(sample_config(), sample_files, stopping_at(8)), Interrupted);
  EXPECT_THROW(run_train(train_job(), train_files, stopping_at(2)), Interrupted);
  sample_files.resume = train_files.resume = true;
  std::vector<Progress> sampling;
  run(sample_config(), sample_files, collecting(sampling));
  expect_consistent(sampling, 8, 18);
  std::vector<Progress> training;
  run_train(train_job(), train_files, collecting(training));
  expect_consistent(training, 2, 6);
}

TEST(RunInterrupted, SaysThatNothingWasKeptWithoutFiles) {
  RunHooks hooks;
  hooks.should_stop = [] { return true; };
  const std::string kept_nothing =
      ": interrupted; nothing was kept, since the run writes no file: give --out to be able to "
      "resume";
  EXPECT_THROW_MSG(run(sample_config(), {}, hooks), Interrupted, "sample" + kept_nothing);
  EXPECT_THROW_MSG(run_train(train_job(), {}, hooks), Interrupted, "train" + kept_nothing);
}

// Steps after which a checkpoint was seen on disk.
int64_t num_seen(const std::string& checkpoint, const std::function<void(const RunHooks&)>& work) {
  int64_t seen = 0;
  RunHooks hooks;
  hooks.progress = [&](const Progress&) { seen += std::filesystem::exists(checkpoint) ? 1 : 0; };
  work(hooks);
  EXPECT_FALSE(std::filesystem::exists(checkpoint));
  return seen;
}

TEST(RunCheckpoint, IsWrittenEverySoManySeconds) {
  const Folder folder;
  RunFiles sample_files;
  sample_files.samples = folder / "x.npy";
  RunFiles train_files;
  train_files.weights = folder / "w.safetensors";
  const auto seen_with = [&](const std::string& seconds) {
    const Overrides overrides = {"checkpoint.every_seconds=" + seconds};
    return std::vector<int64_t>{
        num_seen(
            sample_files.samples + ".checkpoint",
            [&](const RunHooks& hooks) { run(sample_config(overrides), sample_files, hooks); }),
        num_seen(train_files.weights + ".checkpoint", [&](const RunHooks& hooks) {
          run_train(train_job(overrides), train_files, hooks);
        })};
  };
  EXPECT_EQ(seen_with("1e-9"), (std::vector<int64_t>{18, 6}));  // every step takes longer
  EXPECT_EQ(seen_with("1e6"), (std::vector<int64_t>{0, 0}));
}

TEST(RunCheckpoint, ClockCountsStepsToo) {
  detail::CheckpointClock clock({.every_seconds = 1e6, .every_steps = 3, .path = {}});
  std::vector<bool> due;
  for (int i = 0; i < 7; ++i) {
    due.push_back(clock.tick());
  }
  EXPECT_EQ(due, (std::vector<bool>{false, false, true, false, false, true, false}));
}

// The same run by anneal() itself, its plan written out.
Tensor annealed(Placement placement, const std::vector<double>& step_sizes) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(5);
  const std::vector<int64_t> indices = {4, 2, 0};
  const std::vector<int64_t> steps = {3, 1, 2};
  AnnealConfig plan;
  for (size_t i = 0; i < indices.size(); ++i) {
    plan.levels.push_back({schedule.level(indices[i]), steps[i], step_sizes[i]});
  }
  plan.placement = placement;
  plan.last_map = LastMap::curvature;
  const Rng rng(3);
  const Tensor x = rng.split("init").normal_like(at::empty({50, 2}, at::kFloat));
  const auto kernel = std::make_shared<Hmc>(HmcConfig{}, curve_ratio());
  return anneal(ring(), schedule, kernel, plan, x, rng).x;
}

TEST(RunSample, PlacementsAndAStepSizeALevelAreThoseOfAnneal) {
  using Costs = std::vector<int64_t>;
  const std::vector<std::pair<Placement, Costs>> cases = {{Placement::pure, {10, 4, 8}},
                                                          {Placement::after_reverse, {1, 4, 8}},
                                                          {Placement::before_reverse, {10, 4, 8}}};
  for (const auto& [placement, costs] : cases) {
    SCOPED_TRACE(to_string(placement));
    const RunReport report = run(sample_config(
        {"anneal.placement=" + to_string(placement), "kernel.step_size=[0.3, 0.1, 0.02]"}));
    EXPECT_TRUE(at::equal(report.samples, annealed(placement, {0.3, 0.1, 0.02})));
    const Json json = Json::parse(report.json);
    EXPECT_EQ(json.at("sampler").at("placement"), to_string(placement));
    const Json& levels = json.at("levels");
    EXPECT_EQ(levels[0].at("step_size"), 0.3);
    EXPECT_EQ(levels[1].at("step_size"), 0.1);
    EXPECT_EQ(levels[2].at("step_size"), 0.02);
    for (size_t i = 0; i < costs.size(); ++i) {
      EXPECT_EQ(levels[i].at("evaluations"), costs[i]) << i;
    }
    EXPECT_EQ(levels[0].at("acceptance").is_null(), placement == Placement::after_reverse);
  }
}

// What a pilot of 512 chains kept at each level, as an island of the run would.
class WeightsEnd : public ::testing::Test {
 protected:
  void SetUp() override {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    for (const auto& [index, ess, families] : std::vector<std::tuple<int64_t, double, double>>{
             {40, nan, nan}, {30, 0.9, 400.0}, {20, 0.6, 60.0}, {10, 0.4, 30.0}, {0, 0.5, 7.0}}) {
      pilot_.push_back({.index = index, .ess = ess, .num_resampled = 1, .families = families});
    }
  }
  int64_t lowest(const Overrides& overrides) const {
    const SampleConfig config = sample_config(overrides);
    AnnealConfig anneal;
    anneal.weights = WeightConfig{};
    anneal.weights->lowest_level = config.overrides.lowest_level.value_or(0);
    detail::end_weights(config, pilot_, anneal);
    return anneal.weights->lowest_level;
  }

  std::vector<LevelStats> pilot_;
};

TEST_F(WeightsEnd, WhereAnIslandWouldKeepFewFamilies) {
  EXPECT_EQ(lowest({"num_samples=2000"}), 10);  // 7 at level 0, fewer than 8
  EXPECT_EQ(lowest({"num_samples=200"}), 10);   // 200 / 512 of 30 is 11.7
  EXPECT_EQ(lowest({"num_samples=80"}), 20);    // of 30 4.7, of 60 9.4
  EXPECT_EQ(lowest({"num_samples=20"}), 30);    // a quarter of 20 will do: of 60 2.3, of 400 15.6
  EXPECT_EQ(lowest({"num_samples=2000", "weights.lowest_level=0"}), 0);  // what is given stays
  pilot_.back().families = 8.0;
  EXPECT_EQ(lowest({"num_samples=2000"}), 0);
}

TEST_F(WeightsEnd, AboveAStepThatLeavesFewChains) {
  pilot_.back().families = 100.0;
  pilot_[2].ess = 0.09;
  EXPECT_EQ(lowest({"num_samples=2000"}), 30);
  pilot_[1].num_resampled = 0;  // its .9 count for the next level's .09: exactly a tenth
  pilot_[2].ess = 0.091;
  EXPECT_EQ(lowest({"num_samples=2000"}), 0);
  pilot_[2].ess = 0.089;
  EXPECT_EQ(lowest({"num_samples=2000"}), 30);
}

// After the reverse steps the first level has no MCMC, and yet the list of steps has an entry for it.
TEST(RunTune, WritesWhatCanBeRunWhereALevelTakesNoSteps) {
  const SampleConfig config = parse_config(
      "num_samples = 20\nsampler = \"exact\"\n[model.ring]\nlaw = \"ring\"\n"
      "[schedule]\nnum_levels = 20\n[anneal]\nplacement = \"after_reverse\"\n"
      "levels = [19, 9, 0]\n[tune]\nnum_chains = 16\n",
      "s.toml");
  EXPECT_EQ(run(tuned_config(config, "."), {}).samples.size(0), 20);
}

TEST(RunTrain, LearnsFromTheRowsOfAnNpyFile) {
  const Folder folder;
  Rng rng(8);
  const Tensor rows = rng.normal_like(at::empty({40, 3}, at::kFloat));
  write_npy(folder / "rows.npy", rows);
  std::string toml = kTrain;
  toml.replace(toml.find("set = \"ring\""), std::string("set = \"ring\"").size(),
               "file = \"rows.npy\"");
  const TrainJob job = parse_train_config(toml, "t.toml", {}, folder.path());
  RunFiles files;
  files.weights = folder / "w.safetensors";
  const TrainReport report = run_train(job, files);
  EXPECT_EQ(report.weights.config.event_dim, 3);
  EXPECT_EQ(report.weights.provenance.at("data"), folder / "rows.npy");
  const Weights written = load_weights(files.weights);
  TrainConfig config = job.train;
  config.network.event_dim = 3;
  const DataSetPtr data = array_data(rows, "rows");
  const Weights expected = trained_weights(config, train(config, *data), *data);
  for (const auto& [name, tensor] : expected.tensors) {
    EXPECT_TRUE(at::equal(report.weights.tensors.at(name), tensor)) << name;
    EXPECT_TRUE(at::equal(written.tensors.at(name), tensor)) << name;
  }
}

TEST(RunTrain, RefusesNpyFilesThatAreNoRows) {
  const Folder folder;
  const auto train_on = [&](const std::string& name) {
    TrainJob job = train_job();
    job.data = {};
    job.data.file = folder / name;
    return run_train(job);
  };
  EXPECT_THROW_MSG(train_on("absent.npy"), DataError,
                   "npy: " + (folder / "absent.npy") + ": no such file");
  write_npy(folder / "flat.npy", at::zeros({6}));
  EXPECT_THROW_MSG(
      train_on("flat.npy"), DataError,
      "data: \"" + (folder / "flat.npy") + "\" has shape [6], must be (N, d) with N, d >= 1");
}

}  // namespace
}  // namespace motet
