#include "model_rows.hpp"

#include <torch/types.h>

namespace motet::detail {

at::Tensor square_norm(const at::Tensor& x) {
  // Squares in x's own dtype: half the passes over memory of a copy in float64.
  return x.square().flatten(1).sum(1, /*keepdim=*/false, at::kDouble);
}

at::Tensor finite_rows(const at::Tensor& x) { return at::isfinite(x).flatten(1).all(1); }

}  // namespace motet::detail
