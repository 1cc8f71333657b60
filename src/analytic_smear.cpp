// A unit normal smeared over an interval or a half-line.
//
// An interval reaches from `near` = distance - spread / 2 to `far` = distance + spread / 2.
// Outside (near >= 0) the mass is a difference of two tails,
//   Phi(-t) = exp(-t^2 / 2) erfcx(t / sqrt 2) / 2:
//   mass = exp(-near^2 / 2) / 2 * tails,
//   tails = erfcx(near / sqrt 2) - exp(-fall) erfcx(far / sqrt 2),
// precise at any distance, as fall = spread * distance = (far^2 - near^2) / 2 is known without
// cancellation (in a difference of two log_ndtr, each of size t^2 / 2, it is lost). Inside, the two
// terms of mass = [erf(-near / sqrt 2) + erf(far / sqrt 2)] / 2 are both positive. A thin interval
// (high noise) would make both differences cancel: there the Taylor series of the normal density
// about the centre, whose next terms are below 1e-15.
//
// A half-line has the mass Phi(t): one tail as above for t < 0, 1 - Phi(-t) else.
#include "analytic_smear.hpp"

#include <torch/types.h>

#include <cmath>
#include <numbers>

namespace motet::detail {
namespace {

using at::Tensor;

constexpr double kRootHalf = std::numbers::sqrt2 / 2.0;

}  // namespace

Smeared smear(const Tensor& distance, const Tensor& spread) {
  constexpr double kThin = 1e-3;
  const double log_two_pi = std::log(2.0 * std::numbers::pi);
  const Tensor near = distance - 0.5 * spread;
  const Tensor far = distance + 0.5 * spread;
  const Tensor fall = spread * distance;
  const Tensor outside = near.ge(0.0);
  const Tensor is_thin = fall.lt(kThin).logical_and_(spread.lt(kThin));

  const Tensor gaussian = -0.5 * near.square();
  const Tensor tails =
      at::special_erfcx(near * kRootHalf) - (-fall).exp() * at::special_erfcx(far * kRootHalf);
  const Tensor inner = (-near * kRootHalf).erf() + (far * kRootHalf).erf();
  const Tensor log_mass =
      at::where(outside, gaussian + tails.log(), inner.log()) - std::numbers::ln2;
  const Tensor edge = at::where(outside, tails.reciprocal(), gaussian.exp() / inner);
  const Tensor score = std::sqrt(2.0 / std::numbers::pi) * (-fall).expm1() * edge;

  const Tensor thin_log_mass = spread.log() - 0.5 * (distance.square() + log_two_pi) +
                               (fall.square() - spread.square()) / 24.0;
  const Tensor thin_score = distance * (spread.square() / 12.0 - 1.0);
  return {at::where(is_thin, thin_log_mass, log_mass), at::where(is_thin, thin_score, score)};
}

Smeared smear_half_line(const Tensor& depth) {
  const Tensor outside = depth.lt(0.0);
  const Tensor gaussian = -0.5 * depth.square();
  // Each branch at its own side only: beyond, erfcx overflows.
  const Tensor tail = at::special_erfcx(-depth.clamp_max(0.0) * kRootHalf);
  const Tensor missing = 0.5 * at::special_erfc(depth.clamp_min(0.0) * kRootHalf);
  const Tensor log_mass =
      at::where(outside, gaussian + tail.log() - std::numbers::ln2, (-missing).log1p());
  const Tensor slope =
      at::where(outside, std::sqrt(2.0 / std::numbers::pi) * tail.reciprocal(),
                gaussian.exp() / (std::sqrt(2.0 * std::numbers::pi) * (1.0 - missing)));
  return {log_mass, slope};
}

}  // namespace motet::detail
