// Stationary bias of the log ratios on an anharmonic law (docs/ratios.md): what their errors do to
// the samples, where a single step's order in h says little.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "motet/compose.hpp"
#include "motet/kernel.hpp"
#include "motet/ratio.hpp"
#include "motet/rng.hpp"
#include "support/models.hpp"

namespace motet::testing {
namespace {

constexpr int64_t kNumChains = 4000;
constexpr double kStepSize = 0.2;

// exp(-2 (x^2 - 1)^2).
ModelPtr double_well() {
  return from_callable(
      [](const Tensor& x, const NoiseLevel& /*level*/) {
        const Tensor gap = x.square() - 1.0;
        return Eval{.score = -8.0 * x * gap,
                    .log_density = -2.0 * gap.square().squeeze(1),
                    .remainder = {}};
      },
      {1}, /*is_exact=*/true, "double well");
}

struct Grid {
  Tensor x;
  Tensor probability;
};

Grid grid() {
  const Tensor x = at::linspace(-3.0, 3.0, 6001, at::kDouble);
  const Tensor density = (-2.0 * (x.square() - 1.0).square()).exp();
  return {x, density / density.sum()};
}

struct Bias {
  double value;  // of <x^2>, relative
  double error;  // standard error over chains
};

// From draws of the law itself; the second half of the steps counts.
Bias bias_of(const Kernel& kernel, const ModelPtr& model) {
  constexpr int64_t kNumSteps = 200;
  const Grid law = grid();
  const Target target(model, level_at(0.5));
  Rng rng(7);
  const Tensor index = at::searchsorted(law.probability.cumsum(0), rng.uniform(kNumChains, law.x));
  ChainState state;
  state.x = law.x.index_select(0, index.clamp_max(6000)).unsqueeze(1);
  state.eval = target.evaluate(state.x);
  Tensor sum = at::zeros({kNumChains}, at::kDouble);
  for (int64_t i = 0; i < kNumSteps; ++i) {
    Rng step_rng = rng.at(0, i + 1);
    state = kernel.step(target, state, kStepSize, step_rng).state;
    if (2 * i >= kNumSteps) {
      sum += state.x.square().squeeze(1);
    }
  }
  const double truth = (law.probability * law.x.square()).sum().item<double>();
  const Tensor mean = sum / (0.5 * static_cast<double>(kNumSteps) * truth);
  return {mean.mean().item<double>() - 1.0,
          mean.std().item<double>() / std::sqrt(static_cast<double>(kNumChains))};
}

Bias bias_of(const LogRatioPtr& ratio, const ModelPtr& model) {
  return bias_of(Hmc({.num_leapfrog = 3, .damping = 0.0}, ratio), model);
}

TEST(BiasLaw, PolynomialCurveRemovesMostOfTheTrapezoidsBias) {
  const ModelPtr scores = score_only(double_well());
  const Bias trapezoid = bias_of(curve_ratio(), scores);
  const Bias polynomial = bias_of(curve_ratio(CurveRule::polynomial), scores);
  EXPECT_LT(trapezoid.error, 0.004);
  EXPECT_LT(trapezoid.value, -10.0 * trapezoid.error);
  const double noise = 3.0 * (3.0 * polynomial.error + trapezoid.error);
  EXPECT_LT(3.0 * std::abs(polynomial.value) + noise, std::abs(trapezoid.value))
      << polynomial.value << " and " << trapezoid.value;
}

// The published rule's test leaves more bias than no test; the densities leave none.
TEST(BiasLaw, TrapezoidCurveIsFurtherFromTheLawThanNoTest) {
  const ModelPtr scores = score_only(double_well());
  const Bias trapezoid = bias_of(curve_ratio(), scores);
  const Bias unadjusted = bias_of(Uhmc({.num_leapfrog = 3, .damping = 0.0}), scores);
  const Bias exact = bias_of(exact_ratio(), double_well());
  EXPECT_LT(trapezoid.value + 5.0 * trapezoid.error, unadjusted.value - 5.0 * unadjusted.error);
  EXPECT_LT(std::abs(exact.value), 4.0 * exact.error);
}

}  // namespace
}  // namespace motet::testing
