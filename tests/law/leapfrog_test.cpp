// Laws of the leapfrog map, seen through the kernels: damping 1 refreshes nothing, so that one Uhmc
// step is the bare map.
#include <gtest/gtest.h>
#include <torch/types.h>

#include "motet/compose.hpp"
#include "motet/kernel.hpp"
#include "motet/rng.hpp"
#include "support/models.hpp"

namespace motet::testing {
namespace {

ChainState start_state(const Target& target, const Tensor& x, const Tensor& momentum) {
  return {x, target.evaluate(x), momentum};
}

ChainState leapfrog(const Target& target, const ChainState& start, const HmcConfig& config,
                    double step_size) {
  Rng rng(0);
  return Uhmc(config).step(target, start, step_size, rng).state;
}

double max_abs(const Tensor& values) { return values.abs().max().item<double>(); }

TEST(LeapfrogLaw, ReversesTo1e12) {
  const Target target(skewed_mixture(), level_at(0.95));
  for (const std::vector<double>& mass : {std::vector<double>{}, {0.5, 3.0}}) {
    const HmcConfig config{.num_leapfrog = 20, .damping = 1.0, .mass = mass};
    Rng rng(5);
    const Tensor x = rng.normal_like(at::empty({500, 2}, at::kDouble));
    const Tensor momentum = rng.normal_like(x);
    ChainState state = leapfrog(target, start_state(target, x, momentum), config, 0.2);
    EXPECT_GT(max_abs(state.x - x), 1.0);
    state.momentum = -state.momentum;
    state = leapfrog(target, state, config, 0.2);
    EXPECT_LT(max_abs(state.x - x), 1e-12);
    EXPECT_LT(max_abs(state.momentum + momentum), 1e-12);
  }
}

// Jacobian of (x, v) -> (x', v') by central differences; row i of the batch moves coordinate i.
Tensor jacobian(const Target& target, const Tensor& point, const HmcConfig& config) {
  constexpr double kStep = 3e-6;
  const int64_t n = point.size(0);
  const Tensor moved = kStep * at::eye(n, at::kDouble);
  const auto map = [&](const Tensor& phase) {
    const auto halves = phase.chunk(2, 1);
    const ChainState end = leapfrog(target, start_state(target, halves[0], halves[1]), config, 0.3);
    return at::cat({end.x, end.momentum}, 1);
  };
  return (map(point + moved) - map(point - moved)) / (2.0 * kStep);
}

TEST(LeapfrogLaw, KeepsVolume) {
  for (const int64_t d : {1, 2, 5}) {
    const Target target(uneven_mixture(d, 3), level_at(0.9));
    std::vector<double> mass(static_cast<size_t>(d), 0.7);
    mass[0] = 2.0;
    const HmcConfig config{.num_leapfrog = 5, .damping = 1.0, .mass = mass};
    Rng rng(6);
    const Tensor points = rng.normal_like(at::empty({10, 2 * d}, at::kDouble));
    for (int64_t i = 0; i < points.size(0); ++i) {
      const Tensor matrix = jacobian(target, points[i], config);
      EXPECT_GT(max_abs(matrix - at::eye(2 * d, at::kDouble)), 0.1);
      EXPECT_NEAR(at::linalg_det(matrix).item<double>(), 1.0, 1e-7) << "d = " << d;
    }
  }
}

// method.md 5.1: trapezoid over the leapfrog points minus the change of kinetic energy
// = h^2 / 8 (|s_0|^2 - |s_L|^2), in the norm of M^-1. Any field, conservative or not.
TEST(LeapfrogLaw, CurveRatioTelescopes) {
  constexpr double kStepSize = 0.3;
  const std::vector<ModelPtr> models = {score_only(skewed_mixture()), rotating_gaussian(2, 0.8)};
  for (const ModelPtr& model : models) {
    const Target target(model, level_at(0.9));
    for (const std::vector<double>& mass : {std::vector<double>{1.0, 1.0}, {0.5, 3.0}}) {
      for (const int64_t num_leapfrog : {1, 2, 3, 8}) {
        const HmcConfig config{.num_leapfrog = num_leapfrog, .damping = 1.0, .mass = mass};
        Rng rng(7);
        const Tensor x = rng.normal_like(at::empty({300, 2}, at::kDouble));
        const ChainState start = start_state(target, x, rng.normal_like(x));
        const Tensor end_score = leapfrog(target, start, config, kStepSize).eval.score;
        const Tensor log_accept =
            Hmc(config, curve_ratio()).step(target, start, kStepSize, rng).info.log_accept;
        const Tensor inverse_mass = at::tensor(mass, at::kDouble).reciprocal();
        const Tensor change = (start.eval.score.square() - end_score.square()) * inverse_mass;
        const Tensor expected = kStepSize * kStepSize / 8.0 * change.sum(1);
        EXPECT_GT(max_abs(expected), 1e-3);
        EXPECT_LT(max_abs(log_accept - expected), 1e-12)
            << model->describe() << ", " << num_leapfrog << " leapfrogs";
      }
    }
  }
}

// In float32 too, at the size of the scores at low noise: the sum cancels nothing that matters, so
// no second way to compute it is needed (docs/method.md, Log ratios).
TEST(LeapfrogLaw, CurveRatioTelescopesInSinglePrecision) {
  const NoiseLevel level = NoiseSchedule::cosine(100).level(0);
  const Target target(score_only(ring()), level);
  const HmcConfig config{.num_leapfrog = 3, .damping = 1.0};
  constexpr double kStepSize = 0.03;
  Rng rng(8);
  const Tensor x = ring()->sample_level(2000, level, rng).to(at::kFloat);
  const ChainState start = start_state(target, x, rng.normal_like(x));
  const Tensor end_score = leapfrog(target, start, config, kStepSize).eval.score;
  const Tensor log_accept =
      Hmc(config, curve_ratio()).step(target, start, kStepSize, rng).info.log_accept;
  const Tensor change =
      start.eval.score.to(at::kDouble).square() - end_score.to(at::kDouble).square();
  const Tensor expected = kStepSize * kStepSize / 8.0 * change.sum(1);
  EXPECT_GT(max_abs(expected), 0.1);
  EXPECT_LT(max_abs(log_accept - expected), 1e-4);
}

// Where a part of the log density is known the test takes its true difference, which is not the
// trapezoid's: only the remainder's part telescopes, and that not with the kinetic energy.
TEST(LeapfrogLaw, CurveRatioOfAMixedTargetKeepsTheKnownPart) {
  constexpr double kStepSize = 0.3;
  const Target target(product({{skewed_mixture(), 0.5}, {rotating_gaussian(2, 0.8), 0.5}}),
                      level_at(0.9));
  const HmcConfig config{.num_leapfrog = 1, .damping = 1.0};
  Rng rng(9);
  const Tensor x = rng.normal_like(at::empty({300, 2}, at::kDouble));
  const ChainState start = start_state(target, x, rng.normal_like(x));
  const ChainState end = leapfrog(target, start, config, kStepSize);
  const Tensor log_accept =
      Hmc(config, curve_ratio()).step(target, start, kStepSize, rng).info.log_accept;
  const Tensor kinetic = 0.5 * (start.momentum.square() - end.momentum.square()).sum(1);
  const Tensor remainder =
      0.5 * ((start.eval.remainder + end.eval.remainder) * (end.x - start.x)).sum(1);
  const Tensor known = end.eval.log_density - start.eval.log_density;
  EXPECT_LT(max_abs(log_accept - (known + remainder + kinetic)), 1e-12);
  const Tensor telescoped =
      kStepSize * kStepSize / 8.0 * (start.eval.score.square() - end.eval.score.square()).sum(1);
  EXPECT_GT(max_abs(log_accept - telescoped), 1e-3);
}

}  // namespace
}  // namespace motet::testing
