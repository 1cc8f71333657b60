#include "model_rows.hpp"

#include <torch/types.h>

#include <vector>

namespace motet::detail {

at::Tensor square_norm(const at::Tensor& x) {
  // Squares in x's own dtype: half the passes over memory of a copy in float64.
  return x.square().flatten(1).sum(1, /*keepdim=*/false, at::kDouble);
}

at::Tensor finite_rows(const at::Tensor& x) { return at::isfinite(x).flatten(1).all(1); }

at::Tensor as_rows(const at::Tensor& values, const at::Tensor& like) {
  std::vector<int64_t> shape(static_cast<size_t>(like.dim()), 1);
  shape[0] = like.size(0);
  return values.view(shape);
}

}  // namespace motet::detail
