// The published table's samplers: exact level plans, counted cost, names.
#include "motet/preset.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <functional>
#include <map>

#include "motet/error.hpp"

namespace motet {
namespace {

const NoiseSchedule& paper_schedule() {
  static const NoiseSchedule schedule = NoiseSchedule::cosine(100);
  return schedule;
}

std::vector<int64_t> indices(const Sampler& sampler) {
  std::vector<int64_t> list;
  for (const LevelPlan& plan : sampler.anneal.levels) {
    list.push_back(plan.level.index);
  }
  return list;
}

std::vector<int64_t> falling(int64_t first, int64_t last) {
  std::vector<int64_t> list;
  for (int64_t index = first; index >= last; --index) {
    list.push_back(index);
  }
  return list;
}

// The law N(0, I) at every level, which counts its evaluations and may hide its density.
class CountingNormal : public Model {
 public:
  explicit CountingNormal(bool is_exact) : is_exact_(is_exact) {}
  Eval evaluate(const Tensor& x, const NoiseLevel&) const override {
    ++count;
    const Tensor score = -x;
    return is_exact_ ? Eval{score, x.to(at::kDouble).square().sum(1).mul(-0.5), {}}
                     : Eval{score, {}, score};
  }
  bool is_exact() const override { return is_exact_; }
  std::vector<int64_t> event_shape() const override { return {2}; }
  std::string describe() const override { return "counting normal"; }

  mutable int64_t count = 0;

 private:
  bool is_exact_;
};

std::string config_error(const std::function<void()>& call) {
  try {
    call();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Preset, NamesAreTheTablesInItsOrder) {
  EXPECT_THAT(sampler_names(),
              testing::ElementsAre("reverse", "u-la", "la-energy", "la-3-line", "la-5-line",
                                   "la-10-line", "u-hmc", "hmc-energy", "hmc-3-line", "hmc-4-curve",
                                   "hmc-5-line", "hmc-10-line"));
  EXPECT_THAT(preset_names(), testing::ElementsAre("paper", "corrected"));
}

TEST(Preset, PaperLevelsAreTheReferenceCodes) {
  const std::map<std::string, std::vector<int64_t>> expected = {
      {"reverse", falling(99, 0)},    {"u-la", falling(99, 1)},
      {"la-energy", falling(99, 0)},  {"la-3-line", falling(99, 0)},
      {"la-5-line", falling(99, 0)},  {"la-10-line", falling(99, 0)},
      {"u-hmc", falling(99, 1)},      {"hmc-energy", falling(98, 0)},
      {"hmc-3-line", falling(98, 0)}, {"hmc-4-curve", falling(98, 0)},
      {"hmc-5-line", falling(98, 0)}, {"hmc-10-line", falling(98, 0)},
  };
  for (const std::string& name : sampler_names()) {
    EXPECT_EQ(indices(make_sampler(name, "paper", paper_schedule())), expected.at(name)) << name;
  }
}

TEST(Preset, CorrectedRunsEverySamplerOnAllLevels) {
  for (const std::string& name : sampler_names()) {
    EXPECT_EQ(indices(make_sampler(name, "corrected", paper_schedule())), falling(99, 0)) << name;
  }
}

TEST(Preset, StepsAreTableTwos) {
  for (const std::string& preset : preset_names()) {
    for (const std::string& name : sampler_names()) {
      const Sampler sampler = make_sampler(name, preset, paper_schedule());
      const bool langevin = name.find("la") != std::string::npos;
      for (const LevelPlan& plan : sampler.anneal.levels) {
        EXPECT_EQ(plan.num_steps, name == "reverse" ? 0 : 10) << name;
        EXPECT_EQ(plan.step_size, name == "reverse" ? 0.0 : langevin ? 0.001 : 0.03) << name;
        EXPECT_EQ(plan.level.alpha_bar, paper_schedule().level(plan.level.index).alpha_bar);
      }
    }
  }
}

TEST(Preset, OnlyCorrectedMapsMcmcToTheDataAndReverseIsTheSameUnderBoth) {
  for (const std::string& name : sampler_names()) {
    const AnnealConfig paper = make_sampler(name, "paper", paper_schedule()).anneal;
    const AnnealConfig corrected = make_sampler(name, "corrected", paper_schedule()).anneal;
    if (name == "reverse") {
      for (const AnnealConfig& plan : {paper, corrected}) {
        EXPECT_EQ(plan.placement, Placement::none);
        EXPECT_EQ(plan.reverse_step, ReverseStep::ancestral_beta_tilde);
        EXPECT_EQ(plan.last_map, LastMap::tweedie);
      }
    } else {
      EXPECT_EQ(paper.placement, Placement::pure) << name;
      EXPECT_EQ(corrected.placement, Placement::pure) << name;
      EXPECT_EQ(paper.last_map, LastMap::none) << name;
      EXPECT_EQ(corrected.last_map, LastMap::curvature) << name;
    }
  }
}

TEST(Preset, TweedieIsTheReverseProcesssLastMean) {
  // Mean of the reference code's last step: (x - beta_0 / sigma_0 eps) / sqrt(alpha_0).
  const NoiseLevel level = paper_schedule().level(0);
  const double x = 0.7, eps = -1.3;
  const double reference = (x - level.beta / level.sigma() * eps) / std::sqrt(1.0 - level.beta);
  const double score = -eps / level.sigma();
  const double tweedie = (x + level.sigma() * level.sigma() * score) / std::sqrt(level.alpha_bar);
  EXPECT_NEAR(tweedie, reference, 1e-14);
}

TEST(Preset, OnlyPaperKeepsTheMomentumOfRejectedSteps) {
  EXPECT_THAT(make_sampler("hmc-4-curve", "paper", paper_schedule()).kernel->describe(),
              testing::HasSubstr("hmc-unflipped("));
  EXPECT_THAT(make_sampler("hmc-4-curve", "corrected", paper_schedule()).kernel->describe(),
              testing::StartsWith("hmc("));
}

TEST(Preset, OnlyTheEnergySamplersNeedEnergies) {
  for (const std::string& name : sampler_names()) {
    const bool expected = name == "la-energy" || name == "hmc-energy";
    EXPECT_EQ(make_sampler(name, "paper", paper_schedule()).needs_energy, expected) << name;
  }
}

TEST(Preset, CostOfAChainIsTheClosedForm) {
  const std::map<std::string, int64_t> expected = {
      {"reverse", 100},     {"u-la", 1089},        {"la-energy", 1100},  {"la-3-line", 2100},
      {"la-5-line", 4100},  {"la-10-line", 9100},  {"u-hmc", 3069},      {"hmc-energy", 3069},
      {"hmc-3-line", 4059}, {"hmc-4-curve", 3069}, {"hmc-5-line", 6039}, {"hmc-10-line", 10989},
  };
  for (const std::string& name : sampler_names()) {
    EXPECT_EQ(make_sampler(name, "paper", paper_schedule()).evaluations_per_chain,
              expected.at(name))
        << name;
  }
  EXPECT_EQ(make_sampler("hmc-4-curve", "corrected", paper_schedule()).evaluations_per_chain, 3101);
}

// Laws: what anneal() asks of a model is what the closed form says, for every name and preset.
TEST(Preset, CountedEvaluationsEqualTheClosedForm) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(12);
  for (const std::string& preset : preset_names()) {
    for (const std::string& name : sampler_names()) {
      const Sampler sampler = make_sampler(name, preset, schedule);
      const auto model = std::make_shared<CountingNormal>(sampler.needs_energy);
      Rng rng(7);
      const Tensor x_init = rng.split("init").normal_like(at::zeros({3, 2}));
      const SampleResult result =
          anneal(model, schedule, sampler.kernel, sampler.anneal, x_init, rng);
      EXPECT_EQ(model->count, sampler.evaluations_per_chain) << preset << " " << name;
      EXPECT_EQ(result.evaluations_per_chain, model->count) << preset << " " << name;
    }
  }
}

TEST(Preset, PaperCurveHmcCosts3069Evaluations) {
  const Sampler sampler = make_sampler("hmc-4-curve", "paper", paper_schedule());
  const auto model = std::make_shared<CountingNormal>(false);
  Rng rng(7);
  anneal(model, paper_schedule(), sampler.kernel, sampler.anneal,
         rng.split("init").normal_like(at::zeros({1, 2})), rng);
  EXPECT_EQ(model->count, 3069);
}

TEST(Preset, UnknownNamesAreRefusedWithTheNearest) {
  EXPECT_EQ(config_error([] { make_sampler("hmc-4curve", "paper", paper_schedule()); }),
            "sampler: unknown name \"hmc-4curve\"; did you mean \"hmc-4-curve\"? Known: reverse, "
            "u-la, la-energy, la-3-line, la-5-line, la-10-line, u-hmc, hmc-energy, hmc-3-line, "
            "hmc-4-curve, hmc-5-line, hmc-10-line");
  EXPECT_EQ(config_error([] { make_sampler("gibbs", "paper", paper_schedule()); }),
            "sampler: unknown name \"gibbs\"; known: reverse, u-la, la-energy, la-3-line, "
            "la-5-line, la-10-line, u-hmc, hmc-energy, hmc-3-line, hmc-4-curve, hmc-5-line, "
            "hmc-10-line");
  EXPECT_EQ(config_error([] { make_sampler("u-la", "papers", paper_schedule()); }),
            "preset: unknown name \"papers\"; did you mean \"paper\"? Known: paper, corrected");
}

TEST(Preset, AScheduleOfOneLevelIsRefused) {
  const NoiseSchedule one = NoiseSchedule::from_alpha_bars({0.5});
  EXPECT_EQ(
      config_error([&] { make_sampler("u-la", "paper", one); }),
      "preset: schedule " + one.describe() + " has 1 level; the table's samplers need at least 2");
}

}  // namespace
}  // namespace motet
