// The published table's samplers: their recipes under both presets, and what they cost.
#include "motet/preset.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <array>
#include <map>

#include "motet/error.hpp"
#include "support/models.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

constexpr int64_t kNumLevels = 100;
const std::vector<std::string> kPresets = {"paper", "corrected"};

Sampler of_table(const std::string& name, const std::string& preset) {
  return make_sampler(name, preset, NoiseSchedule::cosine(kNumLevels));
}

// What [S23]'s Tables 1 and 2 and the reference code say of one sampler.
struct Entry {
  std::string name;
  std::string kernel;  // of "corrected"
  std::string ratio;
  int64_t num_points;
  int64_t first, last;                 // levels of "paper"
  std::array<int64_t, 2> evaluations;  // "paper", "corrected", from scores alone
};

const std::vector<Entry>& table() {
  static const std::vector<Entry> entries = {
      {"reverse", "", "", 0, 99, 0, {100, 100}},
      {"u-la", "ula", "", 0, 99, 1, {1089, 1101}},
      {"la-energy", "mala", "exact", 0, 99, 0, {1100, 1101}},
      {"la-3-line", "mala", "line", 3, 99, 0, {2100, 2101}},
      {"la-5-line", "mala", "line", 5, 99, 0, {4100, 4101}},
      {"la-10-line", "mala", "line", 10, 99, 0, {9100, 9101}},
      {"u-hmc", "uhmc", "", 0, 99, 1, {3069, 3101}},
      {"hmc-energy", "hmc", "exact", 0, 98, 0, {3069, 3101}},
      {"hmc-3-line", "hmc", "line", 3, 98, 0, {4059, 4101}},
      {"hmc-4-curve", "hmc", "curve", 0, 98, 0, {3069, 3101}},
      {"hmc-5-line", "hmc", "line", 5, 98, 0, {6039, 6101}},
      {"hmc-10-line", "hmc", "line", 10, 98, 0, {10989, 11101}},
  };
  return entries;
}

bool is_langevin(const Entry& entry) { return entry.kernel == "ula" || entry.kernel == "mala"; }

TEST(Preset, NamesAreTheTablesInItsOrder) {
  std::vector<std::string> names;
  for (const Entry& entry : table()) {
    names.push_back(entry.name);
  }
  EXPECT_EQ(table_sampler_names(), names);
  std::vector<std::string> all = names;
  all.insert(all.begin(), "exact");
  EXPECT_EQ(sampler_names(), all);
  EXPECT_EQ(preset_names(), kPresets);
  for (const std::string& name : names) {
    for (const std::string& preset : kPresets) {
      EXPECT_EQ(of_table(name, preset).name, name);
      EXPECT_EQ(of_table(name, preset).preset, preset);
    }
  }
}

void expect_levels(const Sampler& sampler, int64_t first, int64_t last) {
  const std::vector<LevelPlan>& levels = sampler.anneal.levels;
  ASSERT_EQ(static_cast<int64_t>(levels.size()), first - last + 1);
  const NoiseSchedule schedule = NoiseSchedule::cosine(kNumLevels);
  for (size_t i = 0; i < levels.size(); ++i) {
    const int64_t index = first - static_cast<int64_t>(i);
    EXPECT_EQ(levels[i].level.index, index);
    EXPECT_EQ(levels[i].level.alpha_bar, schedule.level(index).alpha_bar);
  }
}

TEST(Preset, PaperRunsTheReferenceCodesLevelsAndCorrectedAll) {
  for (const Entry& entry : table()) {
    SCOPED_TRACE(entry.name);
    expect_levels(of_table(entry.name, "paper"), entry.first, entry.last);
    expect_levels(of_table(entry.name, "corrected"), kNumLevels - 1, 0);
  }
}

TEST(Preset, KernelsAndRatiosAreTheTables) {
  for (const Entry& entry : table()) {
    for (const std::string& preset : kPresets) {
      SCOPED_TRACE(entry.name + ", " + preset);
      const Sampler sampler = of_table(entry.name, preset);
      const KernelConfig& kernel = sampler.kernel_config;
      const bool is_unflipped = entry.kernel == "hmc" && preset == "paper";
      EXPECT_EQ(kernel.type, is_unflipped ? "hmc-unflipped" : entry.kernel);
      EXPECT_EQ(kernel.ratio, entry.ratio);
      EXPECT_EQ(kernel.num_points, entry.num_points);
      EXPECT_EQ(kernel.line_rule, LineRule::trapezoid);
      EXPECT_EQ(sampler.needs_energy, entry.ratio == "exact");
      ASSERT_EQ(sampler.kernel == nullptr, entry.kernel.empty());
      if (sampler.kernel) {
        EXPECT_EQ(sampler.kernel->is_adjusted(), !entry.ratio.empty());
        EXPECT_EQ(sampler.kernel->describe().rfind(kernel.type + "(", 0) == 0,
                  entry.kernel != "ula");
      }
    }
  }
}

TEST(Preset, HamiltonianKernelsTakeThreeLeapfrogsWithHalfTheMomentumKept) {
  for (const Entry& entry : table()) {
    if (entry.kernel != "hmc" && entry.kernel != "uhmc") {
      continue;
    }
    for (const std::string& preset : kPresets) {
      const Sampler sampler = of_table(entry.name, preset);
      EXPECT_EQ(sampler.kernel_config.hmc.num_leapfrog, 3) << entry.name;
      EXPECT_EQ(sampler.kernel_config.hmc.damping, 0.5) << entry.name;
      EXPECT_TRUE(sampler.kernel_config.hmc.mass.empty()) << entry.name;
      EXPECT_NE(sampler.kernel->describe().find("(num_leapfrog=3, damping=0.5"), std::string::npos)
          << sampler.kernel->describe();
    }
  }
}

TEST(Preset, StepSizesAndStepsALevelAreTheTables) {
  for (const Entry& entry : table()) {
    const bool is_reverse = entry.kernel.empty();
    for (const std::string& preset : kPresets) {
      for (const LevelPlan& plan : of_table(entry.name, preset).anneal.levels) {
        EXPECT_EQ(plan.num_steps, is_reverse ? 0 : 10) << entry.name;
        EXPECT_EQ(plan.step_size, is_reverse           ? 0.0
                                  : is_langevin(entry) ? 0.001
                                                       : 0.03)
            << entry.name;
      }
    }
  }
}

TEST(Preset, OnlyReverseTakesReverseStepsAndOnlyPaperStopsAtTheLastLevel) {
  for (const Entry& entry : table()) {
    SCOPED_TRACE(entry.name);
    const AnnealConfig paper = of_table(entry.name, "paper").anneal;
    const AnnealConfig corrected = of_table(entry.name, "corrected").anneal;
    const bool is_reverse = entry.kernel.empty();
    EXPECT_EQ(paper.placement, is_reverse ? Placement::none : Placement::pure);
    EXPECT_EQ(corrected.placement, paper.placement);
    EXPECT_EQ(paper.last_map, is_reverse ? LastMap::tweedie : LastMap::none);
    EXPECT_EQ(corrected.last_map, is_reverse ? LastMap::tweedie : LastMap::curvature);
    EXPECT_EQ(paper.reverse_step, ReverseStep::ancestral_beta_tilde);
    EXPECT_EQ(corrected.reverse_step, ReverseStep::ancestral_beta_tilde);
  }
}

TEST(Preset, EvaluationsOfTheTableAreWrittenOut) {
  for (const Entry& entry : table()) {
    for (size_t i = 0; i < kPresets.size(); ++i) {
      EXPECT_EQ(of_table(entry.name, kPresets[i]).evaluations_per_chain, entry.evaluations[i])
          << entry.name << ", " << kPresets[i];
    }
  }
}

// Model calls of the sampler on a schedule; each must be one of all chains.
int64_t counted_evaluations(const Sampler& sampler, const NoiseSchedule& schedule,
                            const ModelPtr& model) {
  constexpr int64_t kNumChains = 2;
  const auto counting = std::make_shared<testing::CountingModel>(model);
  const Rng rng(4);
  const Tensor x = rng.split("init").normal_like(at::empty({kNumChains, 2}, at::kDouble));
  const SampleResult result = anneal(counting, schedule, sampler.kernel, sampler.anneal, x, rng);
  EXPECT_EQ(result.evaluations_per_chain, counting->num_calls()) << sampler.name;
  EXPECT_EQ(counting->num_rows(), kNumChains * counting->num_calls()) << sampler.name;
  EXPECT_TRUE(result.x.isfinite().all().item<bool>()) << sampler.name;
  return counting->num_calls();
}

TEST(Preset, EvaluationsToldAreThoseCountedFromScoresAlone) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(4);
  const ModelPtr scores = testing::score_only(ring());
  for (const std::string& name : table_sampler_names()) {
    for (const std::string& preset : kPresets) {
      const Sampler sampler = make_sampler(name, preset, schedule);
      if (!sampler.needs_energy) {
        EXPECT_EQ(counted_evaluations(sampler, schedule, scores), sampler.evaluations_per_chain)
            << name << ", " << preset;
      }
    }
  }
}

TEST(Preset, LinesCostNothingWhereLogDensitiesAreKnown) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(4);
  for (const Entry& entry : table()) {
    for (const std::string& preset : kPresets) {
      const Sampler sampler = make_sampler(entry.name, preset, schedule);
      const int64_t moves = entry.kernel.empty() ? 0 : is_langevin(entry) ? 1 : 3;
      const auto num_levels = static_cast<int64_t>(sampler.anneal.levels.size());
      const int64_t last_map = sampler.anneal.last_map == LastMap::curvature ? 1 : 0;
      EXPECT_EQ(counted_evaluations(sampler, schedule, ring()),
                num_levels * (1 + 10 * moves) + last_map)
          << entry.name << ", " << preset;
    }
  }
}

TEST(Preset, EnergySamplersRefuseScoreOnlyTargets) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(4);
  const ModelPtr scores = testing::score_only(ring());
  for (const char* name : {"la-energy", "hmc-energy"}) {
    const Sampler sampler = make_sampler(name, "corrected", schedule);
    EXPECT_THROW_MSG(counted_evaluations(sampler, schedule, scores), ConfigError,
                     "ratio: exact needs log densities, but \"" + scores->describe() +
                         "\" gives only scores; use a line or curve ratio, or energy models");
  }
}

const std::string kAllSamplers =
    "reverse, u-la, la-energy, la-3-line, la-5-line, la-10-line, u-hmc, hmc-energy, hmc-3-line, "
    "hmc-4-curve, hmc-5-line, hmc-10-line";

TEST(PresetMessages, UnknownSamplersNameTheNearest) {
  const std::map<std::string, std::string> nearest_names = {
      {"hmc-4-curv", "hmc-4-curve"}, {"Hmc-3-line", "hmc-3-line"}, {"ula", "u-la"},
      {"la-3-lines", "la-3-line"},   {"revers", "reverse"},        {"uhmc", "u-hmc"}};
  for (const auto& [given, near] : nearest_names) {
    EXPECT_THROW_MSG(of_table(given, "paper"), ConfigError,
                     "sampler: unknown name \"" + given + "\"; did you mean \"" + near +
                         "\"? Known: " + kAllSamplers);
  }
  EXPECT_THROW_MSG(of_table("gibbs", "paper"), ConfigError,
                   "sampler: unknown name \"gibbs\"; known: " + kAllSamplers);
}

TEST(PresetMessages, UnknownPresetsAndSchedulesOfOneLevel) {
  EXPECT_THROW_MSG(of_table("u-la", "papr"), ConfigError,
                   "preset: unknown name \"papr\"; did you mean \"paper\"? Known: paper, "
                   "corrected");
  EXPECT_THROW_MSG(of_table("u-la", "published"), ConfigError,
                   "preset: unknown name \"published\"; known: paper, corrected");
  const NoiseSchedule one = NoiseSchedule::from_alpha_bars({0.5});
  EXPECT_THROW_MSG(
      make_sampler("u-la", "paper", one), ConfigError,
      "preset: schedule " + one.describe() + " has 1 level; the table's samplers need at least 2");
}

TEST(PresetMessages, KernelsRefuseWhatDoesNotFit) {
  EXPECT_EQ(make_kernel({}), nullptr);
  for (const char* type : {"", "ula", "uhmc"}) {
    EXPECT_THROW_MSG(make_kernel({.type = type, .hmc = {}, .ratio = "line"}), ConfigError,
                     "kernel: \"" + std::string(type) +
                         "\" has no Metropolis test, but ratio \"line\" is given; leave it out, or "
                         "choose mala or hmc");
  }
  for (const char* type : {"mala", "hmc", "hmc-unflipped"}) {
    for (const char* ratio : {"", "energy"}) {
      EXPECT_THROW_MSG(make_kernel({.type = type, .hmc = {}, .ratio = ratio}), ConfigError,
                       "kernel: \"" + std::string(type) + "\" with ratio \"" + ratio +
                           "\", must be exact, line or curve");
    }
    EXPECT_THROW_MSG(make_kernel({.type = type, .hmc = {}, .ratio = "line"}), ConfigError,
                     "ratio: line_ratio(num_points = 0): must be between 2 and 64");
  }
  EXPECT_THROW_MSG(make_kernel({.type = "gibbs", .hmc = {}, .ratio = "exact"}), ConfigError,
                   "kernel: type = \"gibbs\", must be ula, mala, uhmc, hmc or hmc-unflipped");
}

TEST(Nearest, IsTheFewestEditsAndNothingWhenTooFar) {
  const std::vector<std::string> known = {"step_size", "seed", "sampler"};
  EXPECT_EQ(nearest("stepsize", known), "step_size");
  EXPECT_EQ(nearest("sed", known), "seed");
  EXPECT_EQ(nearest("smpler", known), "sampler");
  EXPECT_EQ(nearest("seed", known), "seed");
  EXPECT_EQ(nearest("temperature", known), "");
  EXPECT_EQ(nearest("seed", std::vector<std::string>{}), "");
}

}  // namespace
}  // namespace motet
