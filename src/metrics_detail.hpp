// What the metrics' source files share: checks of their input and squared distances. Not public.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "motet/metrics.hpp"

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

/// MetricError::method.
inline constexpr const char* kByGroups = "spread over groups";
inline constexpr const char* kByGroupsOrBinomial = "spread over groups, at least the binomial one";
inline constexpr const char* kByPotentials =
    "spread over groups of the assignment's dual potentials";
inline constexpr const char* kByJackknife = "jackknife over groups";

/// As finite_points, and (N, 2) for the benchmark in the plane.
Tensor benchmark_points(const std::string& where, const std::string& name, const Tensor& x);

/// (N) int64: the centre, of (K, d), that each of the points belongs to; -1: none. As modes().
Tensor mode_labels(const Tensor& points, const Tensor& centres, double radius);

/// (N) float64 >= 0 with mean 1: exp(log_weights), those that are not finite 0; ones when equal.
/// Throws NumericalError when all are 0.
Tensor weights_of(const SampleGroups& groups, int64_t num_rows);

/// Throws ShapeError unless groups.group, and log_weights if defined, have num_rows entries.
void require_groups(const std::string& where, const SampleGroups& groups, int64_t num_rows);

/// r = sum of numerators / sum of denominators, (N) float64 each, and its error from the groups' own
/// sums S_g, W_g: sqrt(G / (G - 1) sum_g (S_g - r W_g)^2) / sum_g W_g; of equal groups the standard
/// deviation of their means / sqrt(G).
Estimate ratio_over_groups(const Tensor& numerators, const Tensor& denominators,
                           const SampleGroups& groups);

/// Error of a share: its own, but at least the binomial one at (k + 1/2) / (n + 1), since no point at
/// all of a kind is no proof that there is none. n: the number of points that the weights are worth.
double share_error(const Estimate& share, double num_effective);

/// Half the interval of sqrt(value) that one standard error spans: the derivative of the root alone
/// would give a multiple of it where the value is below its error.
double root_error(const Estimate& square);

/// From a statistic computed G times, each time without one group:
/// sqrt((G - 1) / G sum_g (t_g - mean)^2).
double jackknife_error(const std::vector<double>& replicates);

/// w2_assignment of checked points with its potentials: u_i + v_i (N), the duals of row and column
/// i. Their mean is W2^2, and they are its derivatives with respect to the points' masses.
struct Transport {
  double w2 = 0.0;
  Tensor potentials;
};
Transport transport(const Tensor& points, const Tensor& others);
/// The same of points whose second coordinate was replaced by its absolute value.
Transport folded_transport(const Tensor& points, const Tensor& others);

/// energy_distance and mmd_squared of checked points, (N, d) both, with the error by leaving out
/// each group's rows of both. The sums over pairs are taken once, a group's pairs apart.
Estimate energy_distance_over(const Tensor& points, const Tensor& others,
                              const SampleGroups& groups);
Estimate mmd_squared_over(const Tensor& points, const Tensor& others, const SampleGroups& groups);

/// Expectation-maximisation of checked points from the components of `start`; no random numbers.
GmmFit refit_gmm(const Tensor& points, const GmmFit& start);

}  // namespace motet::detail
