// What is asked of every chain of a batch, a row each.
#pragma once

#include <ATen/core/Tensor.h>

namespace motet::detail {

/// (B) float64: the sum over the event of x^2.
at::Tensor square_norm(const at::Tensor& x);
/// (B) bool: rows without a NaN or infinity.
at::Tensor finite_rows(const at::Tensor& x);

/// (B) as (B, 1, ..., 1), to act on the rows of `like` (B, *event).
at::Tensor as_rows(const at::Tensor& values, const at::Tensor& like);

}  // namespace motet::detail
