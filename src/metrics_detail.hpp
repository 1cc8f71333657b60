// What the metrics' source files share: checks of their input and squared distances. Not public.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace motet::detail {

using at::Tensor;

/// The points x (N, d) as contiguous float64 on the CPU; x itself is never written to. Throws
/// ShapeError unless x is a floating-point matrix with N, d >= 1, and NumericalError with the
/// number of rows that hold a NaN or infinity.
Tensor finite_points(const std::string& where, const std::string& name, const Tensor& x);

/// Throws ShapeError unless x and y, both (N, d) points, have the same d (and N if `same_size`).
void require_alike(const std::string& where, const Tensor& x, const Tensor& y, bool same_size);

/// `count` rows of points (N, d) at even spacing, or all of them when count >= N.
Tensor thinned(const Tensor& points, int64_t count);

/// "(2000, 2)".
std::string shape_text(const Tensor& x);

/// out[j] = |point - y_j|^2 for j in [begin, end); `transposed` is y^T (d, N), contiguous float64.
/// By differences: the expanded square loses half the digits of nearby points.
void squared_distances(const double* point, const Tensor& transposed, int64_t begin, int64_t end,
                       double* out);

/// As w2_sliced, along the given unit vectors (K, d): sqrt of the mean squared 1-D distance.
double w2_along(const Tensor& x, const Tensor& y, const Tensor& directions);

}  // namespace motet::detail
