// How far samples are from a target: log likelihood, transport, mixture fit, modes, kernel
// distances.
//
// Common to all: points are (N, d), any floating-point dtype and device, never written to; the work
// is done in float64 on the CPU. ShapeError for other shapes or dtypes, and NumericalError with the
// number of rows that hold a NaN or infinity: no point is dropped silently.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "motet/rng.hpp"

namespace motet {

/// A number with its Monte-Carlo standard error; NaN where it could not be measured.
struct Estimate {
  double value = std::numeric_limits<double>::quiet_NaN();
  double standard_error = std::numeric_limits<double>::quiet_NaN();
};

/// How the N rows of a sample hang together: what error bars and weights need.
struct SampleGroups {
  Tensor group;              ///< (N) int64 in [0, num_groups), ascending; undefined: no error bars
  int64_t num_groups = 0;    ///< independent of each other, or nearly so
  bool are_islands = false;  ///< groups are whole islands of a run
  Tensor log_weights;        ///< (N) float64, in rows that count; undefined: all equal
};
/// Groups of consecutive rows: num_rows of islands of island_size rows (0: rows that are all
/// independent). With at least 4 whole islands, up to 50 groups of whole islands (a shorter last one
/// is its own), else 4 to 20 groups of equally many rows (num_rows / 16 at most). In one island,
/// the copies that resampling makes of a chain lie next to each other, so that such groups keep
/// most families whole. ConfigError for num_rows < 1 or island_size < 0.
SampleGroups consecutive_groups(int64_t num_rows, int64_t island_size = 0);

/// The benchmark of Sjoberg et al. (arXiv 2307.14012): a ring of num_modes Gaussians times a bar.
/// Its metrics widen the bar to |x|, |y| < outer with probability 1 - prob_inside. Functions that
/// take it throw ConfigError for a size that is not positive and finite, for outer <= half_width or
/// half_height, and for a ring that misses the bar.
struct ProductBenchmark {
  int64_t num_modes = 8;
  double radius = 0.5;
  double sd = 0.03;
  double half_width = 0.2;
  double half_height = 1.0;
  double outer = 1.1;
  double prob_inside = 0.99;
};

/// num_samples exact draws of ring x bar, the bar not widened: (num_samples, 2) float64. Chooses
/// each point's mode by its mass in the bar, then inverts the distribution functions of the cut
/// normal. Two draws of rng; row i depends only on (seed, chain i, position of rng). Throws
/// ConfigError for num_samples < 1.
Tensor sample_product_benchmark(int64_t num_samples, Rng& rng,
                                const ProductBenchmark& benchmark = {});

/// Log density of the ring times the widened bar, nats, normalised: x (B, 2) -> (B) float64 on x's
/// device; -inf outside the outer box.
Tensor log_density_product_benchmark(const Tensor& x, const ProductBenchmark& benchmark = {});

/// Means over the points inside the support. Where num_outside_support > 0, the mean over all
/// points is -inf (and the reference code prints that); report the count beside the means.
struct LogLikelihood {
  double ll_true = 0.0;   ///< nats; 3.4761 expected of exact samples; -inf if none is inside
  double ll_paper = 0.0;  ///< as the reference code computes it: it adds log(K 2 pi sd^2), the
                          ///< ring's normaliser, instead of subtracting it (6.192 nats lower)
  int64_t num_outside_support = 0;  ///< points of density 0 (log likelihood -inf)
};
/// x (N, 2). A good value is no proof of a good sample: oversharp samples score higher than exact
/// ones, so read it with w2, w2_folded, gmm and mode_sd.
LogLikelihood log_likelihood(const Tensor& x, const ProductBenchmark& benchmark = {});

/// Least-cost assignment for a cost matrix (N, N), any sign: the column of each row. Exact up to
/// float64 rounding (Jonker and Volgenant 1987, Crouse 2016). O(N^3) at worst: at N = 2000 .5 s for
/// two samples of the benchmark, 2-4 s for sets that lie far apart, 8 s for the worst costs known.
/// Throws ShapeError when the matrix is not square or N > 20,000.
std::vector<int64_t> assignment(const Tensor& cost);

/// 2-Wasserstein distance of two sets of N points: sqrt of the least mean squared distance over all
/// one-to-one assignments. 8 N^2 bytes; N <= 20,000. Throws ShapeError when the shapes differ.
double w2_assignment(const Tensor& x, const Tensor& y);

/// w2_assignment after replacing the second coordinate by its absolute value: blind to how a sample
/// is shared out between two modes that mirror each other, which dominates w2 (two exact sets of
/// 2000 points: w2 .083 +- .036, folded .0045). Needs d >= 2.
double w2_folded(const Tensor& x, const Tensor& y);

/// Sliced W2: sqrt of the mean over random unit vectors u of W2^2(u.x, u.y) (Bonneel et al. 2015).
/// O(num_directions N log N): for sets too large to assign. Equal shapes; one draw of rng. Throws
/// ConfigError for num_directions < 1.
double w2_sliced(const Tensor& x, const Tensor& y, int64_t num_directions, Rng& rng);

/// A Gaussian mixture with diagonal covariances.
struct GmmFit {
  std::vector<double> weights;                 ///< (K), sum 1
  std::vector<std::vector<double>> means;      ///< (K, d)
  std::vector<std::vector<double>> variances;  ///< (K, d)
  double log_likelihood = 0.0;                 ///< mean per point, nats
  int64_t num_iterations = 0;
  bool converged = false;  ///< false: stopped after 100 iterations
};
/// Expectation-maximisation from k-means++ and k-means, the likeliest of num_starts; scikit-learn's
/// defaults (1e-6 added to variances, stop at a change below 1e-3 nats). Takes num_starts draws of
/// rng. Throws ConfigError for counts < 1, ShapeError for fewer points than components.
GmmFit fit_gmm(const Tensor& x, int64_t num_components, Rng& rng, int64_t num_starts = 4);
/// Mean over components of |cov_a - cov_b|_F, after the matching of components that brings their
/// means closest together. Throws ShapeError when numbers of components or coordinates differ.
double gmm_distance(const GmmFit& a, const GmmFit& b);
/// As the reference code: the c-th component of a against the c-th of b, in the order found.
double gmm_distance_unmatched(const GmmFit& a, const GmmFit& b);

struct ModeReport {
  std::vector<double> mode_fractions;        ///< (K): share of all points that belong to each mode
  std::vector<std::vector<double>> mode_sd;  ///< (K, d): standard deviations (divisor n - 1) of a
                                             ///< mode's points; NaN for fewer than 2 points
  double fraction_outside_modes = 0.0;
};
/// Where the modes of a law are.
struct ModeSet {
  Tensor centres;              ///< (K, d) float64
  double radius = 0.0;         ///< of a mode, as modes() takes it
  std::vector<double> shares;  ///< (K): probability of each mode under the law, sum 1
};
/// The modes of the ring that lie in the bar; radius half the way between neighbours on the ring.
ModeSet product_modes(const ProductBenchmark& benchmark = {});

/// Shares and widths of modes: a point belongs to the nearest of centres (K, d) if it is at most
/// `radius` away, else to none. Throws ConfigError for radius <= 0.
ModeReport modes(const Tensor& x, const Tensor& centres, double radius);

/// Share of a sample in one mode, with two error bars.
struct ModeOccupancy {
  double fraction = 0.0;
  /// sqrt(f (1 - f) / N): of N independent chains; of weighted ones, N is (sum w)^2 / sum w^2.
  double binomial_error = 0.0;
  /// Over the islands or groups; NaN for a single one.
  double island_error = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> island_fractions;  ///< (I): of each island or group
};
/// One entry a mode, as modes(x, centres, radius) has them; x (N, d) holds num_islands islands of
/// equally many consecutive rows. Throws ShapeError when N is not a multiple of num_islands, else
/// as modes().
std::vector<ModeOccupancy> mode_occupancy(const Tensor& x, const Tensor& centres, double radius,
                                          int64_t num_islands = 1);
/// The same for groups of any sizes, and for weighted rows.
std::vector<ModeOccupancy> mode_occupancy(const Tensor& x, const Tensor& centres, double radius,
                                          const SampleGroups& groups);

/// Energy distance 2 E|X-Y| - E|X-X'| - E|Y-Y'| as a V-statistic, >= 0 (Szekely and Rizzo 2013).
/// x (N, d), y (M, d); O((N+M)^2 d) time, O(N+M) memory; the same bits for any number of threads.
double energy_distance(const Tensor& x, const Tensor& y);

/// Squared maximum mean discrepancy, unbiased, so that it can be negative; kernel
/// exp(-|x-y|^2 / (2 bandwidth^2)) (Gretton et al. 2012, eq. 3). bandwidth <= 0: the median
/// distance of the pooled sample (of 2000 of its rows at even spacing when it is larger). Cost and
/// memory as energy_distance. Throws ShapeError for fewer than 2 points, ConfigError for a
/// bandwidth that is not finite, NumericalError when the median is 0.
double mmd_squared(const Tensor& x, const Tensor& y, double bandwidth = 0.0);

/// How visible the borders of windows are in images x (N, C, H, W), and the number behind it.
struct SeamScore {
  /// Mean |difference| of neighbouring places with a window's edge between them, over the same of
  /// all other neighbours. 1: the borders are no different from the rest. The expectation of images
  /// whose differences have one distribution everywhere is 1 up to O(1 / number of neighbours).
  Estimate score;
  double at_seams = 0.0;   ///< mean |difference| across edges
  double elsewhere = 0.0;  ///< of all other neighbours
  int64_t num_seams = 0;   ///< pairs of neighbours across an edge, of one channel of an image
};
/// A window's rectangle on a canvas.
struct WindowPlace {
  int64_t row = 0, column = 0, height = 1, width = 1;
};
/// The seam score of images (N, C, H, W) whose windows lie so. An edge runs along the border of a
/// window, but not along that of the canvas; one that two windows share counts once. The standard
/// error is the ratio's over images, NaN for a single one. Throws ConfigError for windows outside
/// the images, without an edge inside, or with an edge between all neighbours, NumericalError where
/// nothing differs elsewhere.
SeamScore seam_score(const Tensor& x, const std::vector<WindowPlace>& windows);

/// Monte-Carlo standard error of a metric, over repeats with new samples and new exact samples.
struct MetricError {
  double standard_error = std::numeric_limits<double>::quiet_NaN();
  std::string method;  ///< how it was found, or why there is none
};

/// The published table's numbers, in its units and corrected, and some that it lacks.
struct ProductMetrics {
  LogLikelihood log_likelihood;
  double w2 = 0.0;
  double w2_paper = 0.0;  ///< w2 * sqrt(num_pairwise / 2), as the reference code computes it
  double w2_folded = 0.0;
  double gmm = 0.0;
  double gmm_paper = 0.0;  ///< single starts, components unmatched, as the reference code does
  double energy_distance = 0.0;
  double mmd_squared = 0.0;
  ModeReport modes;          ///< of the ring's modes in the bar, radius half the way between modes
  int64_t num_pairwise = 0;  ///< points used for w2, w2_folded, energy_distance and mmd_squared
  /// With groups only. By the JSON's names: means from the spread over groups, W2 from the dual
  /// potentials of its assignment, the others by leaving out one group at a time.
  std::map<std::string, MetricError> errors;
  std::vector<ModeOccupancy> occupancy;  ///< (K), with groups only
};
/// Metrics on pairs of points cost the square (MMD) or cube (W2) of their number.
inline constexpr int64_t kMaxPairwise = 4000;
/// x and as many exact samples `reference`, (N, 2), N >= 2. About a second at N = 2000. The metrics
/// on pairs of points take min(N, max_pairwise) rows at even spacing, so that a million points need
/// seconds. Takes 10 draws of rng. Throws ShapeError unless x and reference are equally many
/// points, ConfigError for a bad benchmark, NumericalError for rows that are not finite and when
/// the median distance of mmd_squared is 0.
/// `groups` (N rows) give every number an error bar, at a few per cent of the time. Of weighted rows
/// only weighted means are measured (log likelihood, shares); the others are NaN, and `errors` says
/// why. Throws ShapeError for groups of another number of rows.
ProductMetrics product_metrics(const Tensor& x, const Tensor& reference, Rng& rng,
                               const ProductBenchmark& benchmark = {},
                               int64_t max_pairwise = kMaxPairwise,
                               const SampleGroups& groups = {});

}  // namespace motet
