// Distances between laws from sums over all pairs of points: energy distance (Szekely and Rizzo
// 2013) and maximum mean discrepancy (Gretton et al. 2012). Pairs are visited row by row, so that
// memory stays O(N), and each row's sum is kept apart and added in order: the same bits for any
// number of threads.
#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "metrics_detail.hpp"
#include "motet/error.hpp"
#include "motet/metrics.hpp"

namespace motet {
namespace {

// The median distance is taken over at most this many points (2 million pairs).
constexpr int64_t kMaxMedianPoints = 2000;

// Sum of f(|x_i - y_j|^2) over all i, j; with `upper` only over j > i.
template <class F>
double sum_over_pairs(const Tensor& x, const Tensor& y, bool upper, const F& f) {
  const Tensor transposed = y.t().contiguous();
  const int64_t rows = x.size(0);
  const int64_t columns = y.size(0);
  const double* points = x.const_data_ptr<double>();
  std::vector<double> row_sums(static_cast<size_t>(rows), 0.0);
  at::parallel_for(0, rows, 16, [&](int64_t begin, int64_t end) {
    std::vector<double> squared(static_cast<size_t>(columns));
    for (int64_t k = begin; k < end; ++k) {
      // Long and short rows of the triangle alternate, so that threads share it evenly.
      const int64_t i = k % 2 == 0 ? k / 2 : rows - 1 - k / 2;
      const int64_t first = upper ? i + 1 : 0;
      detail::squared_distances(points + i * x.size(1), transposed, first, columns, squared.data());
      double sum = 0.0;
      for (int64_t j = 0; j < columns - first; ++j) {
        sum += f(squared[static_cast<size_t>(j)]);
      }
      row_sums[static_cast<size_t>(i)] = sum;
    }
  });
  double total = 0.0;
  for (const double sum : row_sums) {
    total += sum;
  }
  return total;
}

double median_distance(const Tensor& x, const Tensor& y) {
  const Tensor pooled = detail::thinned(torch::cat({x, y}), kMaxMedianPoints);
  const int64_t num_points = pooled.size(0);
  const Tensor transposed = pooled.t().contiguous();
  std::vector<double> squared(static_cast<size_t>(num_points * (num_points - 1) / 2));
  double* next = squared.data();
  for (int64_t i = 0; i + 1 < num_points; ++i) {
    detail::squared_distances(pooled.const_data_ptr<double>() + i * pooled.size(1), transposed,
                              i + 1, num_points, next);
    next += num_points - i - 1;
  }
  const auto middle = squared.begin() + static_cast<int64_t>(squared.size() / 2);
  std::nth_element(squared.begin(), middle, squared.end());
  const double above = std::sqrt(*middle);
  if (squared.size() % 2 == 1) {
    return above;
  }
  return 0.5 * (above + std::sqrt(*std::max_element(squared.begin(), middle)));
}

double checked_bandwidth(double bandwidth, const Tensor& x, const Tensor& y) {
  if (bandwidth > 0.0) {
    return bandwidth;
  }
  const double median = median_distance(x, y);
  if (median == 0.0) {
    throw NumericalError(
        "mmd_squared: the median distance of the pooled sample is 0 (most points coincide); give a "
        "bandwidth > 0");
  }
  return median;
}

}  // namespace

void detail::squared_distances(const double* point, const Tensor& transposed, int64_t begin,
                               int64_t end, double* out) {
  // Blocks of columns stay in the first-level cache over the loop on coordinates.
  constexpr int64_t kBlock = 512;
  const int64_t stride = transposed.size(1);
  const double* columns = transposed.const_data_ptr<double>();
  for (int64_t start = begin; start < end; start += kBlock) {
    const int64_t size = std::min(kBlock, end - start);
    double* sums = out + (start - begin);
    std::fill_n(sums, size, 0.0);
    for (int64_t k = 0; k < transposed.size(0); ++k) {
      const double* coordinate = columns + k * stride + start;
      const double value = point[k];
      for (int64_t j = 0; j < size; ++j) {
        const double difference = value - coordinate[j];
        sums[j] += difference * difference;
      }
    }
  }
}

double energy_distance(const Tensor& x, const Tensor& y) {
  const std::string where = "energy_distance";
  const Tensor points = detail::finite_points(where, "x", x);
  const Tensor others = detail::finite_points(where, "y", y);
  detail::require_alike(where, points, others, false);
  const auto distance = [](double squared) { return std::sqrt(squared); };
  const auto n = static_cast<double>(points.size(0));
  const auto m = static_cast<double>(others.size(0));
  const double across = sum_over_pairs(points, others, false, distance) / (n * m);
  const double within_x = 2.0 * sum_over_pairs(points, points, true, distance) / (n * n);
  const double within_y = 2.0 * sum_over_pairs(others, others, true, distance) / (m * m);
  return std::max(0.0, 2.0 * across - within_x - within_y);  // below 0 only by rounding
}

double mmd_squared(const Tensor& x, const Tensor& y, double bandwidth) {
  const std::string where = "mmd_squared";
  if (!std::isfinite(bandwidth)) {
    throw ConfigError(where + ": bandwidth is not finite, must be > 0, or 0 for the median");
  }
  const Tensor points = detail::finite_points(where, "x", x);
  const Tensor others = detail::finite_points(where, "y", y);
  detail::require_alike(where, points, others, false);
  if (points.size(0) < 2 || others.size(0) < 2) {
    throw ShapeError(where + ": x is " + detail::shape_text(points) + " and y is " +
                     detail::shape_text(others) + ", both must have >= 2 rows");
  }
  const double width = checked_bandwidth(bandwidth, points, others);
  const double scale = -0.5 / (width * width);
  const auto kernel = [scale](double squared) { return std::exp(scale * squared); };
  const auto n = static_cast<double>(points.size(0));
  const auto m = static_cast<double>(others.size(0));
  const double across = sum_over_pairs(points, others, false, kernel) / (n * m);
  const double within_x = 2.0 * sum_over_pairs(points, points, true, kernel) / (n * (n - 1.0));
  const double within_y = 2.0 * sum_over_pairs(others, others, true, kernel) / (m * (m - 1.0));
  return within_x + within_y - 2.0 * across;
}

}  // namespace motet
