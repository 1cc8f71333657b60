// The diagonal mass of a target: the law stays invariant, and a pilot run that finds it makes
// chains move in narrow and wide coordinates alike.
#include <gtest/gtest.h>
#include <torch/types.h>

#include "motet/anneal.hpp"
#include "motet/compose.hpp"
#include "support/invariance.hpp"
#include "support/models.hpp"

namespace motet::testing {
namespace {

// Standard deviations 30 apart.
AnalyticPtr stretched() { return gaussian({0.3, -0.2}, {0.05, 1.5}); }
// Noise of .01, far below the narrow coordinate.
const NoiseSchedule& schedule() {
  static const NoiseSchedule value = NoiseSchedule::from_alpha_bars({0.9999, 0.5});
  return value;
}
const HmcConfig kHmc{.num_leapfrog = 3, .damping = 0.0};

LawSettings at_low_noise(double step_size, const Tensor& mass) {
  return {.level = schedule().level(0), .step_size = step_size, .num_steps = 8, .mass = mass};
}

Tensor inverse_variances() { return at::tensor({400.0, 1.0 / 2.25}, at::kDouble); }

// Hmc that forgets the mass in its test: |v|^2 / 2 for v^T M^-1 v / 2.
class HmcWithUnitKineticEnergy : public Kernel {
 public:
  Step step(const Target& target, const ChainState& now, double step_size,
            Rng& rng) const override {
    const Tensor momentum = rng.normal_like(now.x) * target.mass().to(now.x.options()).sqrt();
    const ChainState start{now.x, now.eval, momentum};
    const Uhmc map({.num_leapfrog = 3, .damping = 1.0});
    const ChainState end = map.step(target, start, step_size, rng).state;
    const Tensor gain = 0.5 * (momentum.square() - end.momentum.square()).sum(1);
    return metropolis(start, end, end.eval.log_density - now.eval.log_density + gain, rng);
  }
  bool is_adjusted() const override { return true; }
  bool takes_mass() const override { return true; }
  std::string describe() const override { return "hmc with a unit kinetic energy"; }
};

TEST(MassLaw, TheTargetsMassLeavesASkewedMixtureInvariant) {
  const Tensor mass = at::tensor({1.5, 0.6}, at::kDouble);
  const LawSettings settings{
      .level = level_at(0.98), .step_size = 0.45, .num_steps = 8, .mass = mass};
  const HmcConfig hmc{.num_leapfrog = 2, .damping = 0.7};
  const LawReport report =
      check_invariance(Hmc(hmc, exact_ratio()), skewed_mixture(), *skewed_mixture(), settings);
  EXPECT_LT(report.max_abs_z, 5.0) << report.table();
  EXPECT_GT(report.acceptance, 0.6);
  EXPECT_LT(report.acceptance, 0.8);
}

// At a step of 1.2 scales of every coordinate, from scores alone: on a Gaussian the rule is exact.
TEST(MassLaw, TheTargetsMassLeavesAStretchedGaussianInvariant) {
  for (const LogRatioPtr& ratio : {curve_ratio(CurveRule::polynomial), line_ratio(2)}) {
    const LawReport report = check_invariance(Hmc(kHmc, ratio), score_only(stretched()),
                                              *stretched(), at_low_noise(1.2, inverse_variances()));
    EXPECT_LT(report.max_abs_z, 5.0) << ratio->describe() << '\n' << report.table();
    EXPECT_GT(report.acceptance, 0.6);
  }
}

TEST(MassLaw, CheckRejectsAMassThatTheTestForgets) {
  const LawReport report =
      check_invariance(HmcWithUnitKineticEnergy(), stretched(), *stretched(),
                       at_low_noise(1.2, at::tensor({4.0, 0.3}, at::kDouble) * 100.0));
  EXPECT_GT(report.max_abs_z, 8.0) << report.table();
}

TEST(MassLaw, IsTheKernelsOwnMassToTheBit) {
  const std::vector<double> entries = {1.5, 0.6};
  const NoiseLevel level = level_at(0.9);
  const Target plain(skewed_mixture(), level);
  Target heavy(skewed_mixture(), level);
  heavy.set_mass(at::tensor(entries, at::kDouble));
  Rng rng(2);
  const Tensor x = rng.normal_like(at::empty({50, 2}, at::kFloat));
  Rng again = rng;
  const ChainState now{x, plain.evaluate(x), {}};
  const HmcConfig with_mass{.num_leapfrog = 3, .damping = 0.5, .mass = entries};
  const Step own = Hmc(with_mass, exact_ratio()).step(plain, now, 0.3, rng);
  const Step given =
      Hmc({.num_leapfrog = 3, .damping = 0.5}, exact_ratio()).step(heavy, now, 0.3, again);
  EXPECT_TRUE(at::equal(own.state.x, given.state.x));
  EXPECT_TRUE(at::equal(own.state.momentum, given.state.momentum));
}

struct Found {
  AnnealConfig plan;
  LevelStats run;    // of a fresh run at the fixed plan
  int64_t cost = 0;  // evaluations of the pilot
};

// 12 steps of a pilot from exact draws, then 6 of a fixed kernel.
Found tuned(bool diagonal_mass) {
  const ModelPtr model = score_only(stretched());
  const KernelPtr kernel = std::make_shared<Hmc>(kHmc, curve_ratio(CurveRule::polynomial));
  AnnealConfig config;
  config.levels = {{schedule().level(0), 12, 0.0}};
  config.adapt = AdaptConfig{.start = 0.5, .cap = 0.52, .diagonal_mass = diagonal_mass};
  Rng rng(5);
  const Tensor start = stretched()->sample_level(512, schedule().level(0), rng);
  const TuneResult result = tune(model, schedule(), kernel, config, start, Rng(6));
  Found found{result.config, {}, result.pilot.evaluations_per_chain};
  AnnealConfig fixed = result.config;
  fixed.levels[0].num_steps = 6;
  const Tensor fresh = stretched()->sample_level(2000, schedule().level(0), rng);
  found.run = anneal(model, schedule(), kernel, fixed, fresh, Rng(7)).levels[0];
  return found;
}

TEST(MassLaw, APilotFindsAMassThatMovesWideAndNarrowCoordinatesAlike) {
  const Found unit = tuned(false);
  const Found mass = tuned(true);
  EXPECT_FALSE(unit.plan.levels[0].mass.defined());
  const Tensor& entries = mass.plan.levels[0].mass;
  ASSERT_TRUE(entries.defined());
  const double ratio = (entries[0] / entries[1]).item<double>();
  EXPECT_NEAR(ratio, 866.0, 0.45 * 866.0);  // 2.25 / .0026, from 512 chains
  EXPECT_EQ(mass.cost, unit.cost);
  EXPECT_GT(mass.run.acceptance(), 0.8);
  // The wide coordinate's share of a unit-mass chain's jump is that of a random walk 30 scales
  // wide: measured 140 times less.
  EXPECT_GT(mass.run.squared_jump, 50.0 * unit.run.squared_jump);
}

TEST(MassLaw, TheFixedPlanIsAFixedKernel) {
  const Found found = tuned(true);
  EXPECT_FALSE(found.plan.adapt.has_value());
  const ModelPtr model = score_only(stretched());
  const KernelPtr kernel = std::make_shared<Hmc>(kHmc, curve_ratio(CurveRule::polynomial));
  Rng rng(8);
  const Tensor x = stretched()->sample_level(40, schedule().level(0), rng);
  const Tensor whole = anneal(model, schedule(), kernel, found.plan, x, Rng(9)).x;
  const Tensor part = anneal(model, schedule(), kernel, found.plan, x.narrow(0, 0, 7), Rng(9)).x;
  EXPECT_TRUE(at::equal(whole.narrow(0, 0, 7), part));
}

}  // namespace
}  // namespace motet::testing
