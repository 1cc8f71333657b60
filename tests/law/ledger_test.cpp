// Laws of ledgers, the log densities that are tracked along chains: on laws whose densities are known
// to the test and hidden from the sampler.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "checkpoint.hpp"
#include "motet/anneal.hpp"
#include "motet/compose.hpp"
#include "motet/error.hpp"
#include "support/compositions.hpp"
#include "support/invariance.hpp"
#include "support/models.hpp"
#include "support/throw_message.hpp"

namespace motet::testing {
namespace {

// Two parts of an asymmetric mixture of the plane, and the whole.
AnalyticPtr first_part() { return gaussian({-0.5, 0.1}, {0.45, 0.3}, "first"); }
AnalyticPtr second_part() {
  return gaussian_mixture(at::tensor({0.3, 0.15}, at::kDouble),
                          at::tensor({0.6, -0.4, 0.2, 0.9}, at::kDouble).view({2, 2}),
                          at::tensor({0.25, 0.5, 0.6, 0.25}, at::kDouble).view({2, 2}), "second");
}
// skewed_mixture() from scores alone.
ModelPtr tracked_mixture() {
  return mixture({{hidden(first_part()), 0.55}, {hidden(second_part()), 0.45}});
}

double max_abs(const Tensor& values) { return values.abs().max().item<double>(); }

// --- along a run

AnnealConfig plan(const NoiseSchedule& schedule, int64_t num_levels, int64_t num_steps) {
  AnnealConfig config;
  const int64_t top = schedule.num_levels() - 1;
  for (int64_t i = 0; i < num_levels; ++i) {
    const NoiseLevel level = schedule.level(top - i * top / (num_levels - 1));
    config.levels.push_back(
        {level, num_steps, 0.25 * std::sqrt(0.1 + level.sigma() * level.sigma())});
  }
  config.placement = Placement::before_reverse;
  return config;
}

KernelPtr hmc() {
  return std::make_shared<Hmc>(HmcConfig{.num_leapfrog = 3, .damping = 0.0},
                               curve_ratio(CurveRule::polynomial));
}

Tensor noise(int64_t num_chains, int64_t first_chain = 0) {
  Rng rng = Rng(6, first_chain).split("init");
  return rng.normal_like(at::empty({num_chains, 2}, at::kDouble));
}

// Levels of a fine schedule in equal steps of log v, down to where the parts are twice as wide as
// the noise.
AnnealConfig even_plan(const NoiseSchedule& schedule, int64_t num_levels) {
  const auto log_v = [](const NoiseLevel& level) {
    return std::log((1.0 - level.alpha_bar) / level.alpha_bar);
  };
  AnnealConfig config;
  config.placement = Placement::before_reverse;
  const double top = log_v(schedule.level(schedule.num_levels() - 1));
  const double bottom = std::log(0.02);
  int64_t index = schedule.num_levels() - 1;
  for (int64_t i = 0; i < num_levels; ++i) {
    const double next =
        top + (bottom - top) * static_cast<double>(i) / static_cast<double>(num_levels - 1);
    while (index > 0 && log_v(schedule.level(index)) > next) {
      --index;
    }
    const NoiseLevel level = schedule.level(index);
    const double width = std::sqrt(0.1 + level.sigma() * level.sigma());
    config.levels.push_back({level, i + 1 == num_levels ? 2 : 1, 0.25 * width});
  }
  return config;
}

// Mean error of the difference of two ledgers at the last level, in nats.
double ledger_error(int64_t num_levels) {
  const NoiseSchedule schedule = NoiseSchedule::linear(4000, 1e-4, 0.008);
  const ModelPtr model = tracked_mixture();
  const AnnealConfig config = even_plan(schedule, num_levels);
  double error = -1.0;
  const Observer watch = [&](const AnnealState& state) {
    if (state.level_position + 1 == num_levels && state.step == 1) {
      const Tensor truth = exact_ledger(model, state.chains.x, config.levels.back().level);
      const Tensor gap = state.chains.eval.ledger - truth;
      error = (gap.select(1, 0) - gap.select(1, 1)).abs().mean().item<double>();
    }
    return true;
  };
  anneal(model, schedule, hmc(), config, noise(500), Rng(6), watch);
  return error;
}

TEST(LedgerLaw, TheErrorOfARunFallsWithTheNumberOfLevels) {
  const double coarse = ledger_error(25);
  const double fine = ledger_error(100);
  EXPECT_LT(fine, 0.7);
  EXPECT_LT(fine, 0.4 * coarse) << coarse << ", " << fine;
}

TEST(LedgerLaw, AtHighNoiseTheScoresTellTheDensities) {
  const NoiseLevel level = level_at(1e-6);
  const Tensor x = noise(50);
  const Eval eval = Target(tracked_mixture(), level).begin(x);
  EXPECT_LT(max_abs(eval.ledger - exact_ledger(tracked_mixture(), x, level)), 1e-4);
}

// --- at one level

Eval exact_start(const Target& target, const ModelPtr& model, const Tensor& x) {
  return target.evaluate(x, exact_ledger(model, x, target.level()));
}

TEST(LedgerLaw, ThereAndBackChangesNothing) {
  const ModelPtr model = tracked_mixture();
  const Target target(model, level_at(0.9));
  const Tensor x = noise(50);
  const Tensor y = x + 0.4 * noise(50, 1000);
  const Eval start = exact_start(target, model, x);
  const Eval there = target.evaluate_from(y, x, start);
  const Eval back = target.evaluate_from(x, y, there);
  EXPECT_GT(max_abs(there.ledger - start.ledger), 0.1);
  EXPECT_LT(max_abs(back.ledger - start.ledger), 1e-12);
  EXPECT_LT(max_abs(back.score - start.score), 1e-12);
}

TEST(LedgerLaw, EnergiesAreTrackedWithoutError) {
  const ModelPtr model = mixture({{energy(first_part()), 0.55}, {energy(second_part()), 0.45}});
  const Target target(model, level_at(0.9));
  const Tensor x = noise(50);
  const Tensor y = x + 2.0 * noise(50, 1000);
  const Eval there = target.evaluate_from(y, x, exact_start(target, model, x));
  EXPECT_LT(max_abs(there.ledger - exact_ledger(model, y, target.level())), 1e-12);
}

// Runs `kernel` from exact draws with exact ledgers.
LawReport check(const Kernel& kernel, double step_size) {
  const NoiseLevel level = level_at(0.98);
  const ModelPtr model = tracked_mixture();
  return check_invariance(kernel, model, *skewed_mixture(),
                          {.level = level,
                           .step_size = step_size,
                           .num_steps = 6,
                           .num_chains = 10000,
                           .start = [&](const Target& target, const Tensor& x) {
                             return exact_start(target, model, x);
                           }});
}

constexpr double kInvariantBelow = 5.0;  // see invariance_test.cpp
constexpr double kCaughtAbove = 8.0;
const HmcConfig kHmc{.num_leapfrog = 3, .damping = 0.5};

TEST(LedgerLaw, KernelsLeaveTheMixtureInvariant) {
  for (const KernelPtr& kernel :
       {KernelPtr(std::make_shared<Hmc>(kHmc, line_ratio(6, LineRule::gauss_lobatto))),
        KernelPtr(std::make_shared<Hmc>(kHmc, curve_ratio(CurveRule::polynomial)))}) {
    SCOPED_TRACE(kernel->describe());
    const LawReport report = check(*kernel, 0.25);
    EXPECT_LT(report.max_abs_z, kInvariantBelow) << report.table();
    EXPECT_EQ(report.num_invalid, 0);
  }
  const LawReport report = check(Mala(line_ratio(6, LineRule::gauss_lobatto)), 0.1);
  EXPECT_LT(report.max_abs_z, kInvariantBelow) << report.table();
}

// A kernel whose ledger stays what it was at the start.
class FrozenLedger : public Kernel {
 public:
  explicit FrozenLedger(KernelPtr kernel) : kernel_(std::move(kernel)) {}
  Step step(const Target& target, const ChainState& now, double step_size,
            Rng& rng) const override {
    Step step = kernel_->step(target, now, step_size, rng);
    step.state.eval = target.with_ledger(step.state.eval, now.eval.ledger, step.state.x);
    return step;
  }
  bool is_adjusted() const override { return true; }
  std::string describe() const override { return "frozen ledger"; }

 private:
  KernelPtr kernel_;
};

TEST(LedgerLaw, CheckRejectsALedgerThatIsNotCarriedOn) {
  const auto kernel = std::make_shared<Hmc>(kHmc, curve_ratio(CurveRule::polynomial));
  const LawReport report = check(FrozenLedger(kernel), 0.25);
  EXPECT_GT(report.max_abs_z, kCaughtAbove) << report.table();
}

// Shares that are the weights everywhere: what [S23] would do for scores.
TEST(LedgerLaw, CheckRejectsConstantShares) {
  const ModelPtr first = hidden(first_part());
  const ModelPtr second = hidden(second_part());
  const ModelPtr constant = product({{first, 0.55}, {second, 0.45}});
  const LawReport report = check_invariance(
      Mala(line_ratio(6, LineRule::gauss_lobatto)), constant, *skewed_mixture(),
      {.level = level_at(0.98), .step_size = 0.1, .num_steps = 6, .num_chains = 10000});
  EXPECT_GT(report.max_abs_z, kCaughtAbove) << report.table();
}

// --- the same bits

SampleResult run(int64_t first_chain, int64_t num_chains, bool is_weighted,
                 const Observer& observer = {}, const AnnealState* resume = nullptr) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(60);
  AnnealConfig config = plan(schedule, 8, 2);
  if (is_weighted) {
    config.weights = WeightConfig{.ess_threshold = 1.0, .island_size = 20};
  }
  const ModelPtr model = product({{tracked_mixture(), 1.2}, {hidden(first_part()), 0.3}});
  return anneal(model, schedule, hmc(), config, noise(num_chains, first_chain), Rng(6, first_chain),
                observer, resume);
}

TEST(LedgerLaw, SameBitsForAnyBatchSplit) {
  const SampleResult whole = run(0, 50, false);
  const SampleResult first = run(0, 1, false);
  const SampleResult rest = run(1, 49, false);
  EXPECT_TRUE(at::equal(whole.x, at::cat({first.x, rest.x})));
  EXPECT_TRUE(at::equal(whole.shares, at::cat({first.shares, rest.shares})));
}

// Each state through a checkpoint file's tensors.
TEST(LedgerLaw, ResumesToTheSameBits) {
  for (const bool is_weighted : {false, true}) {
    std::vector<TensorFile> saved;
    const SampleResult whole = run(0, 40, is_weighted, [&saved](const AnnealState& state) {
      saved.emplace_back();
      detail::pack(state, saved.back());
      return true;
    });
    for (size_t i = 0; i < saved.size(); ++i) {
      const AnnealState state = detail::unpack_anneal(saved[i], "x.checkpoint", "cpu");
      const SampleResult resumed = run(0, 40, is_weighted, {}, &state);
      EXPECT_TRUE(at::equal(resumed.x, whole.x)) << i;
      // A run that was over has nothing left to look at.
      if (i + 1 < saved.size()) {
        EXPECT_TRUE(at::equal(resumed.shares, whole.shares)) << i;
      }
    }
  }
}

// --- refusals

void expect_refused(const ModelPtr& model, const AnnealConfig& config, const std::string& why) {
  EXPECT_THROW_MSG(anneal(model, NoiseSchedule::cosine(60), hmc(), config, noise(5), Rng(6)),
                   ConfigError, "anneal: \"" + model->describe() + "\" " + why);
}

TEST(LedgerLaw, PlansThatCannotCarryALedgerAreRefused) {
  const AnnealConfig good = plan(NoiseSchedule::cosine(60), 8, 1);
  AnnealConfig config = good;
  config.placement = Placement::pure;
  expect_refused(tracked_mixture(), config,
                 "tracks log densities along reverse steps, but placement = \"pure\" takes none; "
                 "use after_reverse or before_reverse");
  config = good;
  config.reverse_step = ReverseStep::ddim;
  expect_refused(tracked_mixture(), config,
                 "tracks log densities along reverse steps, which reverse_step = \"ddim\" leaves "
                 "without noise to tell them by; use ancestral_beta_tilde");
  config = good;
  config.weights = WeightConfig{.matched = true};
  expect_refused(tracked_mixture(), config,
                 "tracks log densities, which needs whole reverse steps; set weights.matched = "
                 "false");
}

}  // namespace
}  // namespace motet::testing
