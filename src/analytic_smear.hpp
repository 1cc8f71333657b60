// Masses of a unit normal on intervals and half-lines, precise at any distance.
#pragma once

#include <ATen/core/Tensor.h>

namespace motet::detail {

/// The mass that a unit normal has on an interval or half-line, and how it changes with the place;
/// all in units of sigma.
struct Smeared {
  at::Tensor log_mass;
  at::Tensor slope;  ///< derivative of log_mass by the argument
};

/// Of an interval of width `spread` > 0, seen `distance` >= 0 off its centre, float64. The slope,
/// by distance, is <= 0.
Smeared smear(const at::Tensor& distance, const at::Tensor& spread);

/// Of the half-line whose end lies `depth` away, float64; inside where depth > 0: log Phi(depth).
Smeared smear_half_line(const at::Tensor& depth);

}  // namespace motet::detail
