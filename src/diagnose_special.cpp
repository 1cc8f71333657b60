// Distribution functions that the error bars need. The incomplete beta function by its continued
// fraction (Abramowitz and Stegun 26.5.8) with Lentz's algorithm; its inverse by bisection, which
// needs no derivative and ends at neighbouring doubles.
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "diagnose_detail.hpp"

namespace motet::detail {
namespace {

// The fraction converges fast for x < (a + 1) / (a + b + 2); terms grow as sqrt(max(a, b)).
double beta_fraction(double a, double b, double x) {
  constexpr int kMaxTerms = 20000;
  constexpr double kTiny = 1e-300;
  constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
  const auto nonzero = [](double value) { return std::abs(value) < kTiny ? kTiny : value; };
  double c = 1.0;
  double d = 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0));
  double product = d;
  for (int i = 1; i <= kMaxTerms; ++i) {
    const double m = i;
    const double even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
    d = 1.0 / nonzero(1.0 + even * d);
    c = nonzero(1.0 + even / c);
    product *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
    d = 1.0 / nonzero(1.0 + odd * d);
    c = nonzero(1.0 + odd / c);
    product *= d * c;
    if (std::abs(d * c - 1.0) < 4.0 * kEpsilon) {
      break;
    }
  }
  return product;
}

}  // namespace

double incomplete_beta(double a, double b, double x) {
  if (x <= 0.0 || x >= 1.0) {
    return x <= 0.0 ? 0.0 : 1.0;
  }
  const double log_front =
      std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x);
  if (x < (a + 1.0) / (a + b + 2.0)) {
    return std::exp(log_front) * beta_fraction(a, b, x) / a;
  }
  return 1.0 - std::exp(log_front) * beta_fraction(b, a, 1.0 - x) / b;
}

double beta_quantile(double prob, double a, double b) {
  double low = 0.0;
  double high = 1.0;
  constexpr int kHalvings = 1100;  // to the smallest double
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = 0.5 * (low + high);
    if (middle <= low || middle >= high) {
      break;
    }
    (incomplete_beta(a, b, middle) < prob ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

double p_of_z(double z) { return std::erfc(std::abs(z) / std::sqrt(2.0)); }

double z_of_student(double t, double dof) {
  if (std::isnan(t)) {
    return t;
  }
  const double p = incomplete_beta(0.5 * dof, 0.5, dof / (dof + t * t));
  const double tail = std::max(0.5 * p, 1e-300);  // z = 37: far beyond any verdict
  const double z = -at::special_ndtri(at::tensor({tail}, at::kDouble)).item<double>();
  return t < 0.0 ? -z : z;
}

// As numpy: from the upper neighbour where that is nearer, so that the ends come out exactly.
double quantile(const std::vector<double>& sorted, double prob) {
  if (sorted.empty()) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  const double place = prob * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double share = place - static_cast<double>(below);
  const double difference = sorted[above] - sorted[below];
  return share < 0.5 ? sorted[below] + difference * share
                     : sorted[above] - difference * (1.0 - share);
}

std::vector<double> sorted_finite(const Tensor& values) {
  const Tensor flat = values.detach().to(at::kCPU, at::kDouble).flatten().contiguous();
  const double* data = flat.const_data_ptr<double>();
  std::vector<double> result;
  std::copy_if(data, data + flat.numel(), std::back_inserter(result),
               [](double value) { return std::isfinite(value); });
  std::sort(result.begin(), result.end());
  return result;
}

}  // namespace motet::detail
