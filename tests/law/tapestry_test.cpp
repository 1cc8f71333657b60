// What chains on a canvas have for their law. Gaussian windows: the product of windows is a
// Gaussian in closed form, which corrected kernels leave invariant and others do not; the mean of
// windows is a linear field S = b - B x with B not symmetric, whose Langevin diffusion has the
// covariance V of Lyapunov's equation B V + V B^T = 2 I.
#include "motet/tapestry.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "motet/compose.hpp"
#include "support/invariance.hpp"
#include "support/models.hpp"
#include "support/tensors.hpp"

namespace motet::testing {
namespace {

constexpr double kInvariantBelow = 5.0;
constexpr double kCaughtAbove = 8.0;
constexpr int64_t kPlaces = 4;
const NoiseLevel kNoNoise{.index = 0, .alpha_bar = 1.0, .beta = 0.0};

struct Strip {
  Tensor mean, covariance;
  int64_t column;
  double exponent;
};

std::vector<Strip> strips(OverlapRule rule) {
  if (rule == OverlapRule::cover) {  // strongly coupled, so that the circulation is large
    const Tensor covariance = rows({{1.0, 0.9, 0.81}, {0.9, 1.0, 0.9}, {0.81, 0.9, 1.0}});
    const Tensor mean = at::tensor({0.5, -0.2, 0.1}, at::kDouble);
    return {{mean, covariance, 0, 1.0}, {mean, covariance, 1, 1.0}};
  }
  return {{at::tensor({0.5, -0.2, 0.1}, at::kDouble),
           rows({{1.0, 0.7, 0.3}, {0.7, 0.8, 0.4}, {0.3, 0.4, 0.9}}), 0, 1.3},
          {at::tensor({-0.4, 0.6}, at::kDouble), rows({{0.5, -0.3}, {-0.3, 0.7}}), 2, 0.6},
          {at::tensor({0.2, 0.0, 0.3}, at::kDouble),
           rows({{0.6, 0.1, -0.2}, {0.1, 1.1, 0.5}, {-0.2, 0.5, 0.7}}), 1, 1.0}};
}

ModelPtr canvas_of(OverlapRule rule, bool shows_densities = true) {
  std::vector<Window> windows;
  for (const Strip& strip : strips(rule)) {
    const ModelPtr law = correlated_gaussian(strip.mean, strip.covariance);
    windows.push_back({shows_densities ? law : score_only(law), 0, strip.column, strip.exponent});
  }
  return tapestry(windows, {.height = 1, .width = kPlaces, .rule = rule});
}

// B and b of S = b - B x at a level, each window's rows times `weight`: written apart from the
// model.
struct Field {
  Tensor matrix, offset;
};
Field field_of(OverlapRule rule, const NoiseLevel& level) {
  Tensor cover = at::zeros({kPlaces}, at::kDouble);
  for (const Strip& strip : strips(rule)) {
    cover.narrow(0, strip.column, strip.mean.size(0)).add_(1.0);
  }
  Field field{at::zeros({kPlaces, kPlaces}, at::kDouble), at::zeros({kPlaces}, at::kDouble)};
  for (const Strip& strip : strips(rule)) {
    const int64_t d = strip.mean.size(0);
    const Tensor noisy =
        strip.covariance * level.alpha_bar + at::eye(d, at::kDouble) * (1.0 - level.alpha_bar);
    const Tensor share = rule == OverlapRule::cover ? cover.narrow(0, strip.column, d).reciprocal()
                                                    : at::full({d}, strip.exponent, at::kDouble);
    const Tensor precision = share.unsqueeze(1) * at::linalg_inv(noisy);
    field.matrix.narrow(0, strip.column, d).narrow(1, strip.column, d).add_(precision);
    field.offset.narrow(0, strip.column, d)
        .add_(at::matmul(precision, strip.mean) * std::sqrt(level.alpha_bar));
  }
  return field;
}

AnalyticPtr product_law(const NoiseLevel& level) {
  const Field field = field_of(OverlapRule::product, level);
  const Tensor covariance = at::linalg_inv(field.matrix);
  return correlated_gaussian(at::matmul(covariance, field.offset),
                             0.5 * (covariance + covariance.t()));
}

// The law of dX = S dt + sqrt(2) dW: (B (x) I + I (x) B) vec V = 2 vec I.
AnalyticPtr diffusion_law() {
  const Field field = field_of(OverlapRule::cover, kNoNoise);
  const Tensor eye = at::eye(kPlaces, at::kDouble);
  const Tensor system = at::kron(field.matrix, eye) + at::kron(eye, field.matrix);
  const Tensor covariance =
      at::linalg_solve(system, (2.0 * eye).flatten()).view({kPlaces, kPlaces});
  return correlated_gaussian(at::matmul(at::linalg_inv(field.matrix), field.offset),
                             0.5 * (covariance + covariance.t()));
}

// exp(-x^T B_s x / 2 + ...), B_s the symmetric part: the law whose log density the line integral
// is.
AnalyticPtr symmetric_law() {
  const Field field = field_of(OverlapRule::cover, kNoNoise);
  const Tensor covariance = at::linalg_inv(0.5 * (field.matrix + field.matrix.t()));
  return correlated_gaussian(at::matmul(at::linalg_inv(field.matrix), field.offset), covariance);
}

LawReport check(const Kernel& kernel, const ModelPtr& model, const AnalyticPtr& law,
                double step_size, int64_t num_steps) {
  return check_invariance(
      kernel, model, *law,
      {.level = kNoNoise, .step_size = step_size, .num_steps = num_steps, .num_chains = 20000});
}

TEST(TapestryLaw, CorrectedKernelsLeaveTheProductOfWindowsInvariant) {
  const AnalyticPtr law = product_law(kNoNoise);
  const Hmc exact({.num_leapfrog = 3, .damping = 0.5}, exact_ratio());
  const LawReport hmc = check(exact, canvas_of(OverlapRule::product), law, 0.42, 8);
  EXPECT_LT(hmc.max_abs_z, kInvariantBelow) << hmc.table();
  EXPECT_LT(hmc.acceptance, 0.95);
  // Scores alone; the trapezoid is exact for Gaussians.
  const Mala line(line_ratio(2));
  const LawReport mala = check(line, canvas_of(OverlapRule::product, false), law, 0.15, 8);
  EXPECT_LT(mala.max_abs_z, kInvariantBelow) << mala.table();
  EXPECT_LT(mala.acceptance, 0.95);
}

TEST(TapestryLaw, CheckRejectsUnadjustedKernelsAndAnotherRule) {
  const AnalyticPtr law = product_law(kNoNoise);
  const Uhmc unadjusted({.num_leapfrog = 3, .damping = 0.5});
  const ModelPtr model = canvas_of(OverlapRule::product);
  EXPECT_GT(check(unadjusted, model, law, 0.42, 8).max_abs_z, kCaughtAbove);
  const Mala line(line_ratio(2));
  EXPECT_GT(check(line, canvas_of(OverlapRule::cover), law, 0.15, 8).max_abs_z, kCaughtAbove);
}

// At small steps a corrected chain has the diffusion's law, not the symmetric part's: MALA's test
// credits the circulation of a linear field and leaves h / 4 (|S(x)|^2 - |S(y)|^2).
TEST(TapestryLaw, CoverGoesToTheLangevinDiffusionsLaw) {
  const Mala line(line_ratio(2));
  const ModelPtr model = canvas_of(OverlapRule::cover);
  const LawReport diffusion = check(line, model, diffusion_law(), 0.01, 25);
  EXPECT_LT(diffusion.max_abs_z, kInvariantBelow) << diffusion.table();
  EXPECT_GT(check(line, model, symmetric_law(), 0.01, 25).max_abs_z, kCaughtAbove);
}

TEST(TapestryLaw, LangevinsTestOfALinearFieldIsTheDifferenceOfSquaredScores) {
  const ModelPtr model = canvas_of(OverlapRule::cover);
  const Target target(model, kNoNoise);
  const Tensor x = Rng(2).normal_like(at::empty({50, kPlaces}, at::kDouble));
  const Tensor y = Rng(3).normal_like(at::empty({50, kPlaces}, at::kDouble));
  const Eval at_x = target.evaluate(x);
  const Eval at_y = target.evaluate(y);
  const double h = 0.1;
  const auto squared = [](const Tensor& v) { return v.square().sum(1); };
  const Tensor log_accept = line_ratio(2)->estimate(target, {{x, y}, {at_x, at_y}}) -
                            squared(x - y - h * at_y.score) / (4.0 * h) +
                            squared(y - x - h * at_x.score) / (4.0 * h);
  const Tensor expected = 0.25 * h * (squared(at_x.score) - squared(at_y.score));
  EXPECT_LT((log_accept - expected).abs().max().item<double>(), 1e-10);
}

// Phi(y, v) = sum_w a_w log N(y_w; m_w, C_w + v I) and its Laplacian, written apart from the model.
struct Density {
  Tensor value;  // (B)
  double laplacian = 0.0;
};
Density density_of(const Tensor& y, double v) {
  Density sum{at::zeros({y.size(0)}, at::kDouble)};
  for (const Strip& strip : strips(OverlapRule::product)) {
    const int64_t d = strip.mean.size(0);
    const Tensor covariance = strip.covariance + v * at::eye(d, at::kDouble);
    const Tensor precision = at::linalg_inv(covariance);
    const Tensor offset = y.narrow(1, strip.column, d) - strip.mean;
    const Tensor square = (at::matmul(offset, precision) * offset).sum(1);
    sum.value = sum.value - 0.5 * strip.exponent * (square + at::logdet(covariance));
    sum.laplacian -= strip.exponent * precision.trace().item<double>();
  }
  return sum;
}

// d/dv Phi = 1/2 (Laplacian Phi + G): what Feynman-Kac weights need of the canvas is its
// square_sum.
TEST(TapestryLaw, SquareSumIsWhatTheProductChangesBy) {
  const ModelPtr model = canvas_of(OverlapRule::product, false);
  const Tensor y = Rng(7).normal_like(at::empty({40, kPlaces}, at::kDouble));
  for (const double alpha_bar : {0.05, 0.5, 0.95}) {
    const double v = (1.0 - alpha_bar) / alpha_bar;
    const Eval eval = model->evaluate(y * std::sqrt(alpha_bar), level_at(alpha_bar));
    const double step = 1e-4 * v;
    const Tensor change =
        (density_of(y, v + step).value - density_of(y, v - step).value) / (2.0 * step);
    const double laplacian = density_of(y, v).laplacian;
    const Tensor gap = change - 0.5 * (laplacian + alpha_bar * eval.square_sum);
    EXPECT_LT((gap / change.abs().max()).abs().max().item<double>(), 1e-6);
    // The rule of a law that diffuses is wrong here.
    const Tensor squared = eval.score.square().sum(1);
    const Tensor wrong = change - 0.5 * (laplacian + alpha_bar * squared);
    EXPECT_GT((wrong / change.abs().max()).abs().max().item<double>(), 0.1);
  }
}

}  // namespace
}  // namespace motet::testing
