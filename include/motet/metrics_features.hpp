// How far sets of images are apart, in features of a network or any other vectors of numbers.
// Points and errors as in metrics.hpp.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "motet/rng.hpp"

namespace motet {

/// Squared Frechet distance of the Gaussians with the sets' means and covariances (divisor N - 1):
/// |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2) (Dowson and Landau 1982; of
/// Inception features: FID, Heusel et al. 2017). features (N, d) and (M, d); float64, square roots
/// by eigenvalues of symmetric matrices, those within rounding of 0 taken as 0; O((N + M) d^2 +
/// d^3). Biased upwards by O(d / N): compare it with frechet_floor() and between sets of one size
/// only. Throws ShapeError for sets of another d or fewer than 2 rows.
double frechet_distance(const Tensor& features_a, const Tensor& features_b);

/// frechet_distance() of two halves of one set.
struct FrechetFloor {
  double mean = 0.0;     ///< over the splits
  double sd = 0.0;       ///< between splits, which share rows: not an error of the mean
  int64_t num_rows = 0;  ///< of a half: N / 2
};
/// What frechet_distance() is of two sets of N / 2 rows of one law: num_splits random splits of the
/// rows. Distances of sets of that many rows mean something above mean + 2 sd. Takes num_splits
/// draws of rng. Throws ConfigError for num_splits < 2, ShapeError for fewer than 4 rows.
FrechetFloor frechet_floor(const Tensor& features, int64_t num_splits, Rng& rng);

/// How different the rows of one class are from each other.
struct ClassDiversity {
  int64_t label = 0;
  int64_t num_rows = 0;
  double mean_distance = 0.0;  ///< over pairs of different rows; NaN for a single row
};
/// Mean Euclidean distance over pairs of rows (N, d) with the same label, one entry a label that is
/// there, rising; labels (N) int64. A sampler that repeats itself within a class is below the
/// data's. O(sum of n_k^2 d) time, O(N d) memory. Throws ShapeError for labels of another shape
/// or dtype.
std::vector<ClassDiversity> class_diversity(const Tensor& features, const Tensor& labels);

}  // namespace motet
