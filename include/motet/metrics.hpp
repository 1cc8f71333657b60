// How far samples are from a target: log likelihood, transport, mixture fit, modes, kernel
// distances.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "motet/model.hpp"

namespace motet {

/// The benchmark's product of ring and bar with its metrics' conventions (method.md 3 and 4).
struct ProductBenchmark {
  int64_t num_modes = 8;
  double radius = 0.5;
  double sd = 0.03;
  double half_width = 0.2;
  double half_height = 1.0;
  double outer = 1.1;  ///< the bar is widened to |x|, |y| < outer with probability 1 - prob_inside
  double prob_inside = 0.99;
};

/// num_samples exact draws of the product law (B, 2), float64, by rejection from the ring.
Tensor sample_product_benchmark(int64_t num_samples, Rng& rng,
                                const ProductBenchmark& benchmark = {});
/// Log density of the widened product in nats, (B) float64; -inf outside the outer box. Normalised.
Tensor log_density_product_benchmark(const Tensor& x, const ProductBenchmark& benchmark = {});

struct LogLikelihood {
  double ll_true = 0.0;  ///< mean over the points inside the support, nats (3.468 for true samples)
  double ll_paper =
      0.0;  ///< what the reference code prints: normaliser with its sign slip (6.192 nats lower)
  int64_t num_outside_support =
      0;  ///< points of density 0 (log likelihood -inf), left out of the means
};
LogLikelihood log_likelihood(const Tensor& x, const ProductBenchmark& benchmark = {});

/// Squared-distance optimal assignment of N to N points (Jonker and Volgenant 1987, Crouse 2016);
/// W2 = sqrt(mean cost). x, y (N, d). O(N^3) worst, seconds at N = 2000. Throws ShapeError when the
/// sizes differ.
double w2_assignment(const Tensor& x, const Tensor& y);
/// Least-cost assignment for a cost matrix (N, N): column of each row.
std::vector<int64_t> assignment(const Tensor& cost);
/// W2 after folding y -> |y|: insensitive to the balance of the two modes (method.md 4).
double w2_folded(const Tensor& x, const Tensor& y);
/// Sliced W2 by num_directions random projections, for sets too large to assign; equal sizes.
double w2_sliced(const Tensor& x, const Tensor& y, int64_t num_directions, Rng& rng);

/// Gaussian mixture fitted by EM (k-means++ start, best of num_starts), diagonal covariances.
struct GmmFit {
  std::vector<double> weights;
  std::vector<std::vector<double>> means;
  std::vector<std::vector<double>> variances;
  double log_likelihood = 0.0;  ///< mean per point
  int64_t num_iterations = 0;
};
GmmFit fit_gmm(const Tensor& x, int64_t num_components, Rng& rng, int64_t num_starts = 4);
/// Mean Frobenius distance of the covariances after matching components by their means (method.md
/// 3).
double gmm_distance(const GmmFit& a, const GmmFit& b);
/// As the reference code: components in the order the fits found them (unmatched), for paper units.
double gmm_distance_unmatched(const GmmFit& a, const GmmFit& b);

struct ModeReport {
  std::vector<double>
      mode_fractions;  ///< share of all points within `radius` of each mode's centre
  std::vector<std::vector<double>> mode_sd;  ///< sd per coordinate of the points in each mode
  double fraction_outside_modes = 0.0;
};
/// centres (K, d).
ModeReport modes(const Tensor& x, const Tensor& centres, double radius);

/// Szekely-Rizzo energy distance 2E|X-Y| - E|X-X'| - E|Y-Y'| (V-statistic, >= 0).
double energy_distance(const Tensor& x, const Tensor& y);
/// Squared maximum mean discrepancy, Gaussian kernel exp(-|x-y|^2 / (2 bandwidth^2)), unbiased;
/// bandwidth <= 0: median distance of the pooled sample.
double mmd_squared(const Tensor& x, const Tensor& y, double bandwidth = 0.0);

/// All the table's numbers at once against `reference` exact samples (same size).
struct ProductMetrics {
  LogLikelihood log_likelihood;
  double w2 = 0.0;
  double w2_paper = 0.0;  ///< w2 * sqrt(N / 2), as the reference code computes it
  double w2_folded = 0.0;
  double gmm = 0.0;
  double gmm_paper = 0.0;
  double energy_distance = 0.0;
  double mmd_squared = 0.0;
  ModeReport modes;
};
ProductMetrics product_metrics(const Tensor& x, const Tensor& reference, Rng& rng,
                               const ProductBenchmark& benchmark = {});

}  // namespace motet
