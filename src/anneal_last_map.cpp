// The last level's law is not the data's: every factor carries noise of variance sigma^2 there.
// Where factor i is Gaussian near a chain, with curvature k_i of -log p_i, its precision at the data
// is k_i / (1 - sigma^2 k_i). With K = sum_i a_i k_i and P = sum_i a_i k_i / (1 - sigma^2 k_i), the
// product's precisions at the level and at the data, and T = sum_i a_i s_i / (1 - sigma^2 k_i), the
// score that its factors have without their noise, the law at the level is carried to the data's by
//   sqrt(alpha_bar) x_0 = x + T / P - S / sqrt(K P)
//                       = x + g S + (T / P - S / K),   g = (1 - sqrt(K / P)) / K,
// a contraction about the level's mode and a shift to the data's. One factor: no shift, and
// g = (1 - sqrt(1 - sigma^2 k)) / k.
#include "anneal_last_map.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "model_rows.hpp"
#include "motet/compose.hpp"
#include "motet/error.hpp"

namespace motet::detail {
namespace {

// Median of chi^2 with d degrees of freedom, by bisection.
double median_chi_squared(int64_t d) {
  double low = 0.0;
  double high = 2.0 * static_cast<double>(d) + 2.0;
  const Tensor half = at::scalar_tensor(0.5 * static_cast<double>(d), at::kDouble);
  for (int i = 0; i < 60; ++i) {
    const double middle = 0.5 * (low + high);
    const Tensor at_middle = at::scalar_tensor(0.5 * middle, at::kDouble);
    (at::special_gammainc(half, at_middle).item<double>() < 0.5 ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

// Each chain's curvature of -log p along its score, (B) float64: the score's finite difference along
// itself, a step of sigma / 20 long: small against every scale of the level (>= sigma), large
// against float32 rounding.
Tensor curvature_along_score(const Target& target, const Tensor& x, const Eval& eval) {
  const Tensor& score = eval.score;
  const double length = 0.05 * target.level().sigma();
  const Tensor direction = score / as_rows(score.flatten(1).norm(2, 1).clamp_min(1e-30), score);
  const Tensor moved = target.evaluate_from(x.add(direction, length), x, eval).score;
  return ((score - moved) * direction).to(at::kDouble).flatten(1).sum(1).div_(length);
}

// g = (1 - sqrt(1 - z)) / k without its cancellation at small z = sigma^2 k, z kept in [0, 1].
Tensor contraction(const Tensor& curvature, double variance) {
  const Tensor scaled = (curvature * variance).clamp(0.0, 1.0);
  return (1.0 + (1.0 - scaled).sqrt()).reciprocal_().mul_(variance);
}

// The weights of the map of a product, from the curvatures of its factors.
struct ProductMap {
  double contraction = 0.0;
  double shift_score = 0.0;         // of T
  double shift_back = 0.0;          // of S
  std::vector<double> sharpenings;  // 1 / (1 - sigma^2 k_i)
};

// Where the level's precision is lost in the noise, or the data's would vanish (a negated factor as
// steep as the others), no Gaussian is in sight: half of Tweedie's step, its limit for a wide law.
ProductMap product_map(const std::vector<Term>& terms, const std::vector<double>& curvatures,
                       double variance) {
  constexpr double kLargest = 1.0 - 1e-6;  // of sigma^2 k_i; 1 is a factor without any width
  constexpr double kSmallest = 1e-3;       // of sigma^2 K, and of P / K
  ProductMap map;
  double here = 0.0;  // sigma^2 K
  double data = 0.0;  // sigma^2 P
  for (size_t i = 0; i < terms.size(); ++i) {
    const double scaled = std::min(curvatures[i] * variance, kLargest);
    const double sharpening = 1.0 / (1.0 - scaled);
    here += terms[i].exponent * scaled;
    data += terms[i].exponent * scaled * sharpening;
    map.sharpenings.push_back(sharpening);
  }
  if (here < kSmallest || data < kSmallest * here) {
    map.contraction = 0.5 * variance;
    return map;
  }
  map.contraction = variance * (1.0 - std::sqrt(here / data)) / here;
  map.shift_score = variance / data;
  map.shift_back = variance / here;
  return map;
}

// A shift longer than the noise that it is to take off is no refinement: cut there.
Tensor at_most(const Tensor& shift, double length) {
  const Tensor norm = square_norm(shift).sqrt_().clamp_min_(1e-300);
  return shift * as_rows((length / norm).clamp_max_(1.0), shift).to(shift.scalar_type());
}

Mapped map_product(const ModelPtr& model, const Target& target, const ChainState& chains,
                   const std::vector<double>& curvatures) {
  const double variance = 1.0 - target.level().alpha_bar;
  const Tensor& score = chains.eval.score;
  std::vector<Term> terms = factors(model);
  const ProductMap map = product_map(terms, curvatures, variance);
  const Tensor contracted = chains.x.add(score, map.contraction);
  if (terms.size() == 1 || map.shift_score == 0.0) {
    return {contracted};
  }
  for (size_t i = 0; i < terms.size(); ++i) {
    terms[i].exponent *= map.sharpenings[i];
  }
  const Target sharpened(product(std::move(terms)), target.level());
  const Tensor shift =
      sharpened.evaluate(chains.x).score * map.shift_score - score * map.shift_back;
  const auto d = static_cast<double>(score[0].numel());
  return {contracted + at_most(shift, std::sqrt(variance * d)), sharpened.num_evaluations(),
          sharpened.seconds()};
}

}  // namespace

double inverse_square_scale(const Tensor& score) {
  const Tensor square = square_norm(score);
  const Tensor finite = square.masked_select(at::isfinite(square));
  const double median = finite.numel() > 0 ? finite.median().item<double>() : 0.0;
  return std::max(median, 1e-300) / median_chi_squared(score[0].numel());
}

std::vector<double> factor_curvatures(const ModelPtr& model, const Target& target,
                                      const Tensor& x) {
  std::vector<double> curvatures;
  for (const Term& term : factors(model)) {
    const Target factor(term.model, target.level());
    const Tensor found = curvature_along_score(factor, x, factor.evaluate(x));
    const Tensor finite = found.masked_select(at::isfinite(found));
    curvatures.push_back(finite.numel() > 0 ? finite.median().item<double>() : 0.0);
  }
  return curvatures;
}

void check_curvature(const AnnealConfig& config, const ModelPtr& model) {
  const size_t given = config.curvature.size();
  const size_t num_factors = factors(model).size();
  const bool is_finite = std::all_of(config.curvature.begin(), config.curvature.end(),
                                     [](double k) { return std::isfinite(k); });
  if ((given > 1 && given != num_factors) || !is_finite) {
    throw ConfigError("anneal: curvature has " + std::to_string(given) +
                      " entries, must have 0, 1 or one for each of the " +
                      std::to_string(num_factors) + " factors of \"" + model->describe() +
                      "\", all finite");
  }
}

Mapped last_map(const ModelPtr& model, const Target& target, const ChainState& chains, LastMap kind,
                const std::vector<double>& curvatures) {
  const double variance = 1.0 - target.level().alpha_bar;
  const double scale = 1.0 / std::sqrt(target.level().alpha_bar);
  const Tensor& score = chains.eval.score;
  switch (kind) {
    case LastMap::none:
      return {chains.x};
    case LastMap::rescale:
      return {chains.x * scale};
    case LastMap::tweedie:
      return {chains.x.add(score, variance).mul_(scale)};
    case LastMap::curvature:
      break;
  }
  if (curvatures.size() == factors(model).size()) {
    Mapped mapped = map_product(model, target, chains, curvatures);
    mapped.x = mapped.x * scale;
    return mapped;
  }
  const Tensor curvature =
      curvatures.empty() ? as_rows(curvature_along_score(target, chains.x, chains.eval), score)
                         : at::scalar_tensor(curvatures[0], at::kDouble);
  const Tensor weight = contraction(curvature, variance).to(score.options());
  return {(chains.x + weight * score).mul_(scale)};
}

}  // namespace motet::detail
