// Frechet distance and diversity in features. The trace of the root is taken of the symmetric form
// C_a^1/2 C_b C_a^1/2, which has the eigenvalues of C_a C_b without its complex roots from
// rounding.
#include "motet/metrics_features.hpp"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <cmath>
#include <limits>
#include <sstream>
#include <tuple>

#include "metrics_detail.hpp"
#include "motet/error.hpp"

namespace motet {
namespace {

struct Gaussian {
  Tensor mean;
  Tensor covariance;
};

Gaussian gaussian_of(const Tensor& points) {
  const Tensor mean = points.mean(0);
  const Tensor centred = points - mean;
  return {mean, centred.t().matmul(centred).div(static_cast<double>(points.size(0) - 1))};
}

// Roots of eigenvalues that should be >= 0. Those that are 0 come out as rounding, d eps of the
// largest, whose roots would add up to some 1e-6 where there are fewer rows than columns.
Tensor roots_of(const Tensor& values) {
  const double largest = values.abs().max().item<double>();
  const double rounding =
      static_cast<double>(values.size(0)) * largest * std::numeric_limits<double>::epsilon();
  return values.masked_fill(values.le(rounding), 0.0).sqrt();
}

Tensor root_of(const Tensor& covariance) {
  const auto [values, vectors] = at::linalg_eigh(covariance);
  return (vectors * roots_of(values)).matmul(vectors.t());
}

double distance_of(const Tensor& a, const Tensor& b) {
  const Gaussian first = gaussian_of(a);
  const Gaussian second = gaussian_of(b);
  const Tensor root = root_of(first.covariance);
  const Tensor product = root.matmul(second.covariance).matmul(root);
  const Tensor values = at::linalg_eigvalsh((product + product.t()) * 0.5);
  const double cross = roots_of(values).sum().item<double>();
  const double traces = (first.covariance.trace() + second.covariance.trace()).item<double>();
  return (first.mean - second.mean).square().sum().item<double>() + traces - 2.0 * cross;
}

void require_rows(const std::string& where, const Tensor& points, int64_t least) {
  if (points.size(0) < least) {
    throw ShapeError(where + ": " + std::to_string(points.size(0)) +
                     " rows, must be >= " + std::to_string(least));
  }
}

double mean_distance(const Tensor& points) {
  const int64_t rows = points.size(0);
  if (rows < 2) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  const Tensor transposed = points.t().contiguous();
  const double* values = points.const_data_ptr<double>();
  std::vector<double> sums(static_cast<size_t>(rows), 0.0);
  at::parallel_for(0, rows, 8, [&](int64_t begin, int64_t end) {
    std::vector<double> squared(static_cast<size_t>(rows));
    for (int64_t i = begin; i < end; ++i) {
      detail::squared_distances(values + i * points.size(1), transposed, i + 1, rows,
                                squared.data());
      for (int64_t j = 0; j < rows - i - 1; ++j) {
        sums[static_cast<size_t>(i)] += std::sqrt(squared[static_cast<size_t>(j)]);
      }
    }
  });
  double total = 0.0;  // in order: the same bits for any number of threads
  for (const double sum : sums) {
    total += sum;
  }
  return total / (0.5 * static_cast<double>(rows) * static_cast<double>(rows - 1));
}

}  // namespace

double frechet_distance(const Tensor& features_a, const Tensor& features_b) {
  const std::string where = "frechet_distance";
  const Tensor a = detail::finite_points(where, "features_a", features_a);
  const Tensor b = detail::finite_points(where, "features_b", features_b);
  detail::require_alike(where, a, b, /*same_size=*/false);
  require_rows(where, a, 2);
  require_rows(where, b, 2);
  return distance_of(a, b);
}

FrechetFloor frechet_floor(const Tensor& features, int64_t num_splits, Rng& rng) {
  const std::string where = "frechet_floor";
  const Tensor points = detail::finite_points(where, "features", features);
  require_rows(where, points, 4);
  if (num_splits < 2) {
    throw ConfigError(where + ": num_splits = " + std::to_string(num_splits) + ", must be >= 2");
  }
  const int64_t half = points.size(0) / 2;
  const Tensor like = at::empty({points.size(0), 1}, at::kDouble);
  std::vector<double> distances;
  for (int64_t i = 0; i < num_splits; ++i) {
    const Tensor order = rng.uniform_like(like).flatten().argsort();
    distances.push_back(distance_of(points.index_select(0, order.narrow(0, 0, half)),
                                    points.index_select(0, order.narrow(0, half, half))));
  }
  const Tensor all = at::tensor(distances, at::kDouble);
  return {all.mean().item<double>(), all.std().item<double>(), half};
}

std::vector<ClassDiversity> class_diversity(const Tensor& features, const Tensor& labels) {
  const Tensor points = detail::finite_points("class_diversity", "features", features);
  if (!labels.defined() || labels.scalar_type() != at::kLong ||
      labels.sizes() != at::IntArrayRef{points.size(0)}) {
    std::ostringstream text;
    text << "class_diversity: labels ";
    if (labels.defined()) {
      text << "are " << labels.scalar_type() << " of shape " << detail::shape_text(labels);
    } else {
      text << "are undefined";
    }
    text << ", must be int64 (N) = (" << points.size(0) << "): one for each row of features";
    throw ShapeError(text.str());
  }
  const Tensor own = labels.to(at::kCPU).contiguous();
  const Tensor known = std::get<0>(at::_unique(own, /*sorted=*/true));
  std::vector<ClassDiversity> result;
  for (int64_t k = 0; k < known.size(0); ++k) {
    const auto label = known[k].item<int64_t>();
    const Tensor rows = own.eq(label).nonzero().squeeze(1);
    result.push_back({label, rows.size(0), mean_distance(points.index_select(0, rows))});
  }
  return result;
}

}  // namespace motet
