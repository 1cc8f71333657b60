// Diagonal Gaussian mixtures by expectation-maximisation, with the settings of scikit-learn's
// GaussianMixture, which the benchmark's reference code calls: start from k-means, variances
// raised by 1e-6, stop when the mean log-likelihood changes by less than 1e-3, at most 100
// iterations. k-means starts from k-means++ centres (Arthur and Vassilvitskii 2007).
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "metrics_detail.hpp"
#include "motet/error.hpp"
#include "motet/metrics.hpp"

namespace motet {
namespace {

constexpr double kAddedVariance = 1e-6;
constexpr double kTolerance = 1e-3;
constexpr int64_t kMaxIterations = 100;
constexpr int64_t kMaxLloydIterations = 300;
constexpr double kLog2Pi = 1.8378770664093454836;

using Matrix = std::vector<std::vector<double>>;

struct Points {
  const double* data;
  int64_t num_points;
  int64_t dim;
  const double* operator[](int64_t i) const { return data + i * dim; }
};

double squared_distance(const double* a, const std::vector<double>& b) {
  double sum = 0.0;
  for (size_t k = 0; k < b.size(); ++k) {
    const double difference = a[k] - b[k];
    sum += difference * difference;
  }
  return sum;
}

std::vector<double> row_of(const Points& x, int64_t i) { return {x[i], x[i] + x.dim}; }

// The index at which the running sum of `weights` passes share * total; the uniform one if all
// weights are zero (every point already is a centre).
int64_t pick(const std::vector<double>& weights, double share) {
  double total = 0.0;
  for (const double weight : weights) {
    total += weight;
  }
  const auto size = static_cast<int64_t>(weights.size());
  if (total == 0.0) {
    return std::min(size - 1, static_cast<int64_t>(share * static_cast<double>(size)));
  }
  double running = 0.0;
  int64_t last_positive = 0;
  for (int64_t i = 0; i < size; ++i) {
    const double weight = weights[static_cast<size_t>(i)];
    running += weight;
    if (weight > 0.0) {
      last_positive = i;
      if (running > share * total) {
        return i;
      }
    }
  }
  return last_positive;
}

// k-means++: each further centre is a point drawn with probability proportional to its squared
// distance from the centres so far. `shares` holds one uniform number a centre.
Matrix spread_centres(const Points& x, const Tensor& shares) {
  const double* share = shares.const_data_ptr<double>();
  std::vector<double> nearest_squared(static_cast<size_t>(x.num_points), 1.0);
  Matrix centres;
  for (int64_t c = 0; c < shares.size(0); ++c) {
    centres.push_back(row_of(x, pick(nearest_squared, share[c])));
    for (int64_t i = 0; i < x.num_points; ++i) {
      double& nearest = nearest_squared[static_cast<size_t>(i)];
      const double distance = squared_distance(x[i], centres.back());
      nearest = c == 0 ? distance : std::min(nearest, distance);
    }
  }
  return centres;
}

int64_t nearest_centre(const double* point, const Matrix& centres) {
  int64_t best = 0;
  double best_distance = std::numeric_limits<double>::infinity();
  for (size_t c = 0; c < centres.size(); ++c) {
    const double distance = squared_distance(point, centres[c]);
    if (distance < best_distance) {
      best_distance = distance;
      best = static_cast<int64_t>(c);
    }
  }
  return best;
}

// Centres become the means of their points; a centre without points stays where it is.
void move_centres(const Points& x, const std::vector<int64_t>& labels, Matrix& centres) {
  Matrix sums(centres.size(), std::vector<double>(static_cast<size_t>(x.dim), 0.0));
  std::vector<int64_t> counts(centres.size(), 0);
  for (int64_t i = 0; i < x.num_points; ++i) {
    const auto c = static_cast<size_t>(labels[static_cast<size_t>(i)]);
    ++counts[c];
    for (size_t k = 0; k < sums[c].size(); ++k) {
      sums[c][k] += x[i][k];
    }
  }
  for (size_t c = 0; c < centres.size(); ++c) {
    for (size_t k = 0; counts[c] > 0 && k < centres[c].size(); ++k) {
      centres[c][k] = sums[c][k] / static_cast<double>(counts[c]);
    }
  }
}

// Lloyd's iteration until no point changes its centre: label of each point.
std::vector<int64_t> k_means(const Points& x, Matrix& centres) {
  std::vector<int64_t> labels(static_cast<size_t>(x.num_points), -1);
  for (int64_t iteration = 0; iteration < kMaxLloydIterations; ++iteration) {
    bool changed = false;
    for (int64_t i = 0; i < x.num_points; ++i) {
      const int64_t label = nearest_centre(x[i], centres);
      changed = changed || label != labels[static_cast<size_t>(i)];
      labels[static_cast<size_t>(i)] = label;
    }
    if (!changed) {
      break;
    }
    move_centres(x, labels, centres);
  }
  return labels;
}

// One component from its responsibilities (column c of the row-major (N, K) array). Means first,
// variances about them: E x^2 - (E x)^2 would lose the digits of narrow components.
void fit_component(const Points& x, const std::vector<double>& responsibilities, size_t c,
                   GmmFit& fit) {
  const size_t num_components = fit.weights.size();
  double total = 10.0 * std::numeric_limits<double>::epsilon();
  std::vector<double> mean(static_cast<size_t>(x.dim), 0.0);
  std::vector<double> variance(mean.size(), 0.0);
  for (int64_t i = 0; i < x.num_points; ++i) {
    const double share = responsibilities[static_cast<size_t>(i) * num_components + c];
    total += share;
    for (size_t k = 0; k < mean.size(); ++k) {
      mean[k] += share * x[i][k];
    }
  }
  fit.weights[c] = total;
  // A component that holds nothing keeps its place instead of jumping to the origin.
  const bool empty = total < 1e-12;
  for (size_t k = 0; k < mean.size(); ++k) {
    mean[k] = empty ? fit.means[c][k] : mean[k] / total;
  }
  for (int64_t i = 0; i < x.num_points; ++i) {
    const double share = responsibilities[static_cast<size_t>(i) * num_components + c];
    for (size_t k = 0; k < mean.size(); ++k) {
      const double difference = x[i][k] - mean[k];
      variance[k] += share * difference * difference;
    }
  }
  for (double& entry : variance) {
    entry = entry / total + kAddedVariance;
  }
  fit.means[c] = std::move(mean);
  fit.variances[c] = std::move(variance);
}

void maximise(const Points& x, const std::vector<double>& responsibilities, GmmFit& fit) {
  double total = 0.0;
  for (size_t c = 0; c < fit.weights.size(); ++c) {
    fit_component(x, responsibilities, c, fit);
    total += fit.weights[c];
  }
  for (double& weight : fit.weights) {
    weight /= total;
  }
}

// log weight - log normaliser of each component.
std::vector<double> log_factors(const GmmFit& fit) {
  std::vector<double> factors;
  for (size_t c = 0; c < fit.weights.size(); ++c) {
    double log_factor = std::log(fit.weights[c]);
    for (const double variance : fit.variances[c]) {
      log_factor -= 0.5 * (kLog2Pi + std::log(variance));
    }
    factors.push_back(log_factor);
  }
  return factors;
}

// Responsibilities into the row-major (N, K) array; returns the mean log likelihood.
double expect(const Points& x, const GmmFit& fit, std::vector<double>& responsibilities) {
  const std::vector<double> factors = log_factors(fit);
  double total = 0.0;
  for (int64_t i = 0; i < x.num_points; ++i) {
    double* shares = responsibilities.data() + static_cast<size_t>(i) * factors.size();
    double highest = -std::numeric_limits<double>::infinity();
    for (size_t c = 0; c < factors.size(); ++c) {
      double exponent = 0.0;
      for (size_t k = 0; k < fit.means[c].size(); ++k) {
        const double difference = x[i][k] - fit.means[c][k];
        exponent += difference * difference / fit.variances[c][k];
      }
      shares[c] = factors[c] - 0.5 * exponent;
      highest = std::max(highest, shares[c]);
    }
    double sum = 0.0;
    for (size_t c = 0; c < factors.size(); ++c) {
      shares[c] = std::exp(shares[c] - highest);
      sum += shares[c];
    }
    for (size_t c = 0; c < factors.size(); ++c) {
      shares[c] /= sum;
    }
    total += highest + std::log(sum);
  }
  return total / static_cast<double>(x.num_points);
}

// Iterates to convergence from the parameters in `fit`.
void climb(const Points& x, std::vector<double>& responsibilities, GmmFit& fit) {
  double previous = -std::numeric_limits<double>::infinity();
  while (!fit.converged && fit.num_iterations < kMaxIterations) {
    const double reached = expect(x, fit, responsibilities);
    maximise(x, responsibilities, fit);
    ++fit.num_iterations;
    fit.converged = std::abs(reached - previous) < kTolerance;
    previous = reached;
  }
  fit.log_likelihood = expect(x, fit, responsibilities);
}

GmmFit fit_from(const Points& x, Matrix centres) {
  const size_t num_components = centres.size();
  const std::vector<int64_t> labels = k_means(x, centres);
  std::vector<double> responsibilities(static_cast<size_t>(x.num_points) * num_components, 0.0);
  for (size_t i = 0; i < labels.size(); ++i) {
    responsibilities[i * num_components + static_cast<size_t>(labels[i])] = 1.0;
  }
  GmmFit fit;
  fit.weights.resize(num_components);
  fit.means = std::move(centres);
  fit.variances.resize(num_components);
  maximise(x, responsibilities, fit);
  climb(x, responsibilities, fit);
  return fit;
}

void require_comparable(const std::string& where, const GmmFit& a, const GmmFit& b) {
  const auto dim = [](const GmmFit& fit) { return fit.means.empty() ? 0 : fit.means[0].size(); };
  if (a.means.empty() || a.means.size() != b.means.size() || dim(a) != dim(b)) {
    throw ShapeError(where + ": fits of " + std::to_string(a.means.size()) + " components in " +
                     std::to_string(dim(a)) + " dimensions and " + std::to_string(b.means.size()) +
                     " in " + std::to_string(dim(b)) + ", must be the same and >= 1");
  }
}

double covariance_distance(const std::vector<double>& a, const std::vector<double>& b) {
  return std::sqrt(squared_distance(a.data(), b));
}

}  // namespace

GmmFit fit_gmm(const Tensor& x, int64_t num_components, Rng& rng, int64_t num_starts) {
  if (num_components < 1 || num_starts < 1) {
    throw ConfigError("fit_gmm: num_components = " + std::to_string(num_components) +
                      ", num_starts = " + std::to_string(num_starts) + ", must both be >= 1");
  }
  const Tensor points = detail::finite_points("fit_gmm", "x", x);
  if (points.size(0) < num_components) {
    throw ShapeError("fit_gmm: " + std::to_string(points.size(0)) + " points for " +
                     std::to_string(num_components) +
                     " components, must be at least one point a component");
  }
  const Points view{points.const_data_ptr<double>(), points.size(0), points.size(1)};
  GmmFit best;
  for (int64_t start = 0; start < num_starts; ++start) {
    const Tensor shares = rng.uniform(num_components, points);
    GmmFit fit = fit_from(view, spread_centres(view, shares));
    if (start == 0 || fit.log_likelihood > best.log_likelihood) {
      best = std::move(fit);
    }
  }
  return best;
}

GmmFit detail::refit_gmm(const Tensor& points, const GmmFit& start) {
  const Points view{points.const_data_ptr<double>(), points.size(0), points.size(1)};
  GmmFit fit = start;
  fit.num_iterations = 0;
  fit.converged = false;
  std::vector<double> responsibilities(static_cast<size_t>(view.num_points) * fit.weights.size());
  climb(view, responsibilities, fit);
  return fit;
}

double gmm_distance(const GmmFit& a, const GmmFit& b) {
  require_comparable("gmm_distance", a, b);
  const auto num_components = static_cast<int64_t>(a.means.size());
  Tensor cost = torch::empty({num_components, num_components}, torch::kFloat64);
  double* entry = cost.mutable_data_ptr<double>();
  for (const std::vector<double>& mean : a.means) {
    for (const std::vector<double>& other : b.means) {
      *entry++ = squared_distance(mean.data(), other);
    }
  }
  const std::vector<int64_t> match = assignment(cost);
  double total = 0.0;
  for (size_t c = 0; c < match.size(); ++c) {
    total += covariance_distance(a.variances[c], b.variances[static_cast<size_t>(match[c])]);
  }
  return total / static_cast<double>(num_components);
}

double gmm_distance_unmatched(const GmmFit& a, const GmmFit& b) {
  require_comparable("gmm_distance_unmatched", a, b);
  double total = 0.0;
  for (size_t c = 0; c < a.variances.size(); ++c) {
    total += covariance_distance(a.variances[c], b.variances[c]);
  }
  return total / static_cast<double>(a.variances.size());
}

}  // namespace motet
