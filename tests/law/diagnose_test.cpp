// The diagnostics have power: a sound sampler passes, and each fault turns its own light.
#include "motet/diagnose.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "motet/compose.hpp"
#include "support/kernels.hpp"
#include "support/models.hpp"

namespace motet {
namespace {

using testing::score_only;
using testing::skewed_mixture;

const NoiseSchedule& schedule() {
  static const NoiseSchedule levels = NoiseSchedule::cosine(10);
  return levels;
}

// HMC with an accurate line rule and steps of about half the width of the mixture's components.
Sampler sound_sampler() {
  Sampler sampler;
  sampler.name = "sound";
  sampler.preset = "test";
  sampler.kernel_config = {.type = "hmc",
                           .hmc = {.num_leapfrog = 3, .damping = 0.0},
                           .ratio = "line",
                           .line_rule = LineRule::gauss_lobatto,
                           .num_points = 7};
  sampler.kernel = make_kernel(sampler.kernel_config);
  for (int64_t index = schedule().num_levels() - 1; index >= 0; --index) {
    const NoiseLevel level = schedule().level(index);
    const double width = std::sqrt(0.09 * level.alpha_bar + 1.0 - level.alpha_bar);
    sampler.anneal.levels.push_back({level, 10, 0.5 * width});
  }
  return sampler;
}

const DiagnoseConfig kQuick{
    .num_chains = 256, .num_probes = 4, .num_settle = 10, .num_held_out = 2048};

Diagnosis diagnosed(const ModelPtr& model, const Sampler& sampler,
                    const DiagnoseConfig& config = kQuick) {
  return diagnose(model, schedule(), sampler, config, Rng(5));
}

const Check& named(const Diagnosis& diagnosis, const std::string& name) {
  const auto found = std::find_if(diagnosis.checks.begin(), diagnosis.checks.end(),
                                  [&](const Check& check) { return check.name == name; });
  if (found == diagnosis.checks.end()) {
    throw std::runtime_error("no check " + name);
  }
  return *found;
}

// `model` with strength / sigma^2 of rotation added to its score at every level.
ModelPtr with_rotation(const ModelPtr& model, double strength) {
  return from_callable(
      [model, strength](const Tensor& x, const NoiseLevel& level) {
        const double rate = strength / (1.0 - level.alpha_bar);
        const Tensor turned = at::stack({-x.select(1, 1), x.select(1, 0)}, 1);
        Eval eval;
        eval.score = model->evaluate(x, level).score + rate * turned;
        return eval;
      },
      {2}, /*is_exact=*/false, "rotated " + model->describe());
}

TEST(DiagnoseLaw, ASoundSamplerOnAGradientIsGreen) {
  const Diagnosis result = diagnosed(score_only(skewed_mixture()), sound_sampler());
  for (const Check& check : result.checks) {
    EXPECT_EQ(check.light, check.name == "weights" ? Light::skipped : Light::green)
        << check.name << ": " << check.sentence;
  }
  for (const LevelDiagnosis& row : result.levels) {
    EXPECT_LT(row.path_dependence, 0.01) << row.level.index;  // the float32 floor
    EXPECT_LT(row.curl.value, 0.01) << row.level.index;
  }
}

TEST(DiagnoseLaw, AddedRotationTurnsCurlAndPathDependenceRed) {
  const Diagnosis result =
      diagnosed(with_rotation(score_only(skewed_mixture()), 1.0), sound_sampler());
  EXPECT_EQ(named(result, "curl").light, Light::red) << named(result, "curl").sentence;
  EXPECT_EQ(named(result, "path dependence").light, Light::red)
      << named(result, "path dependence").sentence;
  EXPECT_EQ(result.light, Light::red);
}

TEST(DiagnoseLaw, ALittleRotationIsMeasuredButPasses) {
  const Diagnosis result =
      diagnosed(with_rotation(score_only(skewed_mixture()), 0.01), sound_sampler());
  EXPECT_EQ(named(result, "path dependence").light, Light::green);
  EXPECT_GT(result.levels.back().curl.value, 0.001);
}

TEST(DiagnoseLaw, ExactTargetsSkipWhatIsIntegrated) {
  const Diagnosis result = diagnosed(skewed_mixture(), sound_sampler());
  for (const char* name : {"path dependence", "quadrature", "curl"}) {
    EXPECT_EQ(named(result, name).light, Light::skipped) << name;
  }
  EXPECT_EQ(result.light, Light::green);
}

TEST(DiagnoseLaw, ALostKineticTermFailsTheBalanceFromExactDraws) {
  Sampler sampler = sound_sampler();
  sampler.kernel =
      std::make_shared<testing::HmcWithoutKineticTerm>(3, make_ratio(sampler.kernel_config));
  const Diagnosis result = diagnosed(score_only(skewed_mixture()), sampler);
  EXPECT_EQ(named(result, "held-out balance").light, Light::red)
      << named(result, "held-out balance").sentence;
}

// Samples the target's power instead of the target.
class PoweredKernel : public Kernel {
 public:
  PoweredKernel(KernelPtr kernel, double power) : kernel_(std::move(kernel)), power_(power) {}
  Step step(const Target& target, const ChainState& now, double step_size,
            Rng& rng) const override {
    const ModelPtr model(&target.model(), [](const Model*) {});
    const Target powered(product({{model, power_}}), target.level());
    Step step =
        kernel_->step(powered, {now.x, powered.evaluate(now.x), now.momentum}, step_size, rng);
    step.state.eval = target.evaluate(step.state.x);
    return step;
  }
  bool is_adjusted() const override { return true; }
  std::string describe() const override { return "powered " + kernel_->describe(); }

 private:
  KernelPtr kernel_;
  double power_;
};

TEST(DiagnoseLaw, AWrongExponentFailsTheHeldOutGaussians) {
  Sampler sampler = sound_sampler();
  sampler.kernel = std::make_shared<PoweredKernel>(sampler.kernel, 1.3);
  const DiagnoseConfig config{
      .num_chains = 64, .num_levels = 1, .num_probes = 1, .num_held_out = 2048};
  const Diagnosis result = diagnosed(score_only(skewed_mixture()), sampler, config);
  const Check& check = named(result, "held-out Gaussians");
  EXPECT_EQ(check.light, Light::red) << check.sentence;
}

TEST(DiagnoseLaw, TheHeldOutTestTakesTheExponentsAndNegativeOnes) {
  DiagnoseConfig config{.num_chains = 64,
                        .num_levels = 1,
                        .num_probes = 1,
                        .num_held_out = 2048,
                        .exponents = {1.0, 0.7, -0.4}};
  const Diagnosis result = diagnosed(score_only(skewed_mixture()), sound_sampler(), config);
  EXPECT_EQ(result.held_out.target, "product(gaussian 1, gaussian 2^0.7, gaussian 3^-0.4)");
  EXPECT_EQ(named(result, "held-out Gaussians").light, Light::green)
      << named(result, "held-out Gaussians").sentence;
  config.exponents = {1.0, -1.0};
  const Diagnosis none = diagnosed(score_only(skewed_mixture()), sound_sampler(), config);
  EXPECT_EQ(named(none, "held-out Gaussians").sentence,
            "does not apply: the exponents add up to no more than 0, so that no composition of "
            "Gaussians is a law at high noise.");
}

TEST(DiagnoseLaw, UncorrectedStepsFailTheHeldOutGaussians) {
  Sampler sampler = sound_sampler();
  sampler.kernel_config = {.type = "uhmc", .hmc = sampler.kernel_config.hmc, .ratio = ""};
  sampler.kernel = make_kernel(sampler.kernel_config);
  for (LevelPlan& plan : sampler.anneal.levels) {
    plan.step_size *= 2.5;  // leapfrog samples a law 1 / (1 - h^2 / 4) too wide
  }
  const DiagnoseConfig config{
      .num_chains = 64, .num_levels = 1, .num_probes = 1, .num_held_out = 2048};
  const Diagnosis result = diagnosed(score_only(skewed_mixture()), sampler, config);
  EXPECT_EQ(named(result, "held-out Gaussians").light, Light::red)
      << named(result, "held-out Gaussians").sentence;
}

TEST(DiagnoseLaw, ParticlesThatHaveNotSettledAreSeenAndTheirKernelIsNotBlamed) {
  Sampler sampler = sound_sampler();
  // From N(0, I) straight to the last level, one step there.
  LevelPlan last = sampler.anneal.levels.back();
  last.num_steps = 1;
  sampler.anneal.levels = {last};
  const DiagnoseConfig config{
      .num_chains = 512, .num_probes = 1, .num_settle = 40, .num_held_out = 0};
  const Diagnosis result = diagnosed(score_only(skewed_mixture()), sampler, config);
  EXPECT_NE(named(result, "settling").light, Light::green) << named(result, "settling").sentence;
  EXPECT_EQ(named(result, "detailed balance").light, Light::green)
      << named(result, "detailed balance").sentence;
}

TEST(DiagnoseLaw, ReverseStepsAloneAreProbedForCurlOnly) {
  Sampler sampler = make_sampler("reverse", "corrected", schedule());
  const Diagnosis result =
      diagnosed(score_only(skewed_mixture()), sampler, {.num_chains = 64, .num_held_out = 2048});
  EXPECT_EQ(named(result, "acceptance").light, Light::skipped);
  EXPECT_EQ(named(result, "path dependence").light, Light::skipped);
  EXPECT_EQ(named(result, "curl").light, Light::green);
}

// From exact draws the mean of exp(log_accept) is 1, at any acceptance, whatever the kernel.
TEST(DiagnoseLaw, BalanceResidualIsZeroForExactKernelsAtCoarseSteps) {
  const AnalyticPtr law = skewed_mixture();
  const NoiseLevel level = testing::level_at(0.9);
  const Target target(law, level);
  Rng rng(11);
  const Tensor x = law->sample_level(20000, level, rng);
  const Hmc hmc({.num_leapfrog = 3, .damping = 0.0}, exact_ratio());
  const Mala mala(exact_ratio());
  const std::pair<const Kernel*, double> kernels[] = {{&hmc, 0.45}, {&mala, 0.15}};
  for (const auto& [kernel, step_size] : kernels) {
    const Step step = kernel->step(target, {x, target.evaluate(x), {}}, step_size, rng);
    EXPECT_LT(step.info.accepted.to(at::kDouble).mean().item<double>(), 0.93);
    const Estimate residual = balance_residual(step.info.log_accept);
    EXPECT_LT(std::abs(residual.value), 4.0 * residual.standard_error) << kernel->describe();
    EXPECT_LT(residual.standard_error, 0.02);
  }
}

// Means of correlated chains lie as far from the truth as mcse_mean says.
TEST(DiagnoseLaw, MonteCarloErrorsCoverTheTruth) {
  constexpr int64_t kRepeats = 200;
  constexpr int64_t kChains = 4;
  constexpr int64_t kDraws = 200;
  constexpr double kCorrelation = 0.7;
  Rng rng(3);
  const Tensor noise = rng.normal_like(at::empty({kRepeats * kChains, kDraws}, at::kDouble));
  const Tensor draws = noise.clone();
  for (int64_t t = 1; t < kDraws; ++t) {
    draws.select(1, t).copy_(kCorrelation * draws.select(1, t - 1) +
                             std::sqrt(1.0 - kCorrelation * kCorrelation) * noise.select(1, t));
  }
  double square_mean = 0.0;
  double square_sd = 0.0;
  double square_median = 0.0;
  for (int64_t i = 0; i < kRepeats; ++i) {
    const Tensor table = draws.narrow(0, i * kChains, kChains);
    square_mean += std::pow(table.mean().item<double>() / mcse_mean(table), 2);
    square_sd += std::pow((table.std().item<double>() - 1.0) / mcse_sd(table), 2);
    square_median += std::pow(table.median().item<double>() / mcse_quantile(table, 0.5), 2);
  }
  // chi^2 / kRepeats: sd .1. That of the sd takes the ESS of the mean, as arviz does, which is too
  // small for squares: its error is on the safe side.
  EXPECT_NEAR(square_mean / kRepeats, 1.0, 0.4);
  EXPECT_LT(square_sd / kRepeats, 1.1);
  EXPECT_NEAR(square_median / kRepeats, 1.0, 0.4);
}

}  // namespace
}  // namespace motet
