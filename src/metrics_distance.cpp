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

// Of f(|x_i - y_j|^2) over pairs: all of them, and those of row group g with column group h.
struct PairSums {
  double total = 0.0;
  Tensor blocks;  // (G, G)
};

// Sums over all i, j; with `upper` only over j > i. `group` (rows = columns) may be undefined: no
// blocks.
template <class F>
PairSums sum_over_pairs(const Tensor& x, const Tensor& y, bool upper, const SampleGroups& groups,
                        const F& f) {
  const Tensor transposed = y.t().contiguous();
  const int64_t rows = x.size(0);
  const int64_t columns = y.size(0);
  const double* points = x.const_data_ptr<double>();
  const int64_t* group = groups.group.defined() ? groups.group.const_data_ptr<int64_t>() : nullptr;
  std::vector<double> row_sums(static_cast<size_t>(rows), 0.0);
  const Tensor row_blocks = torch::zeros({rows, groups.num_groups}, torch::kFloat64);
  double* blocks = row_blocks.mutable_data_ptr<double>();
  at::parallel_for(0, rows, 16, [&](int64_t begin, int64_t end) {
    std::vector<double> squared(static_cast<size_t>(columns));
    for (int64_t k = begin; k < end; ++k) {
      // Long and short rows of the triangle alternate, so that threads share it evenly.
      const int64_t i = k % 2 == 0 ? k / 2 : rows - 1 - k / 2;
      const int64_t first = upper ? i + 1 : 0;
      detail::squared_distances(points + i * x.size(1), transposed, first, columns, squared.data());
      double sum = 0.0;
      for (int64_t j = 0; j < columns - first; ++j) {
        const double value = f(squared[static_cast<size_t>(j)]);
        sum += value;
        if (group != nullptr) {
          blocks[i * groups.num_groups + group[first + j]] += value;
        }
      }
      row_sums[static_cast<size_t>(i)] = sum;
    }
  });
  PairSums sums;
  for (const double sum : row_sums) {
    sums.total += sum;
  }
  if (group != nullptr) {
    sums.blocks = torch::zeros({groups.num_groups, groups.num_groups}, torch::kFloat64)
                      .index_add_(0, groups.group, row_blocks);
  }
  return sums;
}

// Mean over all pairs of f, or over those of different points, without the pairs of group g (-1:
// with all). Row and column groups are the same rows of two sets, or of one (`upper`).
double mean_over_pairs(const PairSums& sums, const Tensor& sizes, bool upper, bool distinct,
                       int64_t g, double num_points) {
  double total = sums.total;
  double left = num_points;
  if (g >= 0) {
    total -=
        (sums.blocks[g].sum() + sums.blocks.select(1, g).sum() - sums.blocks[g][g]).item<double>();
    left -= sizes[g].item<double>();
  }
  return (upper ? 2.0 : 1.0) * total / (left * (distinct ? left - 1.0 : left));
}

// within x + within y - 2 across of `sums` (x, y, across), and its error by leaving out groups.
Estimate combine(const PairSums (&sums)[3], bool distinct, const SampleGroups& groups,
                 double num_points) {
  const Tensor sizes =
      groups.group.defined() ? groups.group.bincount({}, groups.num_groups) : Tensor();
  const auto without = [&](int64_t g) {
    return mean_over_pairs(sums[0], sizes, true, distinct, g, num_points) +
           mean_over_pairs(sums[1], sizes, true, distinct, g, num_points) -
           2.0 * mean_over_pairs(sums[2], sizes, false, false, g, num_points);
  };
  Estimate result;
  result.value = without(-1);
  std::vector<double> replicates;
  for (int64_t g = 0; g < groups.num_groups; ++g) {
    replicates.push_back(without(g));
  }
  result.standard_error = detail::jackknife_error(replicates);
  return result;
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
  const double across = sum_over_pairs(points, others, false, {}, distance).total / (n * m);
  const double within_x = 2.0 * sum_over_pairs(points, points, true, {}, distance).total / (n * n);
  const double within_y = 2.0 * sum_over_pairs(others, others, true, {}, distance).total / (m * m);
  return std::max(0.0, 2.0 * across - within_x - within_y);  // below 0 only by rounding
}

Estimate detail::energy_distance_over(const Tensor& points, const Tensor& others,
                                      const SampleGroups& groups) {
  // Minus the distance, so that the sum has the signs of the kernel distance.
  const auto kernel = [](double squared) { return -std::sqrt(squared); };
  const PairSums sums[] = {sum_over_pairs(points, points, true, groups, kernel),
                           sum_over_pairs(others, others, true, groups, kernel),
                           sum_over_pairs(points, others, false, groups, kernel)};
  Estimate result = combine(sums, false, groups, static_cast<double>(points.size(0)));
  result.value = std::max(0.0, result.value);
  return result;
}

Estimate detail::mmd_squared_over(const Tensor& points, const Tensor& others,
                                  const SampleGroups& groups) {
  const double width = checked_bandwidth(0.0, points, others);
  const double scale = -0.5 / (width * width);
  const auto kernel = [scale](double squared) { return std::exp(scale * squared); };
  const PairSums sums[] = {sum_over_pairs(points, points, true, groups, kernel),
                           sum_over_pairs(others, others, true, groups, kernel),
                           sum_over_pairs(points, others, false, groups, kernel)};
  return combine(sums, true, groups, static_cast<double>(points.size(0)));
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
  const double across = sum_over_pairs(points, others, false, {}, kernel).total / (n * m);
  const double within_x =
      2.0 * sum_over_pairs(points, points, true, {}, kernel).total / (n * (n - 1.0));
  const double within_y =
      2.0 * sum_over_pairs(others, others, true, {}, kernel).total / (m * (m - 1.0));
  return within_x + within_y - 2.0 * across;
}

}  // namespace motet
