// Ring x bar in tests that need no more of it than its modes.
#pragma once

#include <torch/types.h>

#include <cmath>

#include "motet/metrics.hpp"

namespace motet::testing {

/// Share of the rows of x (N, 2) in neither mode of ring x bar: as product_metrics() says, which
/// spends seconds on W2 where many rows are astray.
inline double fraction_outside_modes(const Tensor& x) {
  const Tensor centres = at::tensor({0.0, 0.5, 0.0, -0.5}, at::kDouble).view({2, 2});
  const double half_way_to_next_mode = 0.5 * std::sin(M_PI / 8.0);
  return modes(x.to(at::kDouble), centres, half_way_to_next_mode).fraction_outside_modes;
}

}  // namespace motet::testing
