// The 2-D benchmark and its numbers. Ring: p_1 = (1/K) sum_k N(c_k, sd^2 I) on a circle. Bar,
// widened: p_2 = prob_inside / area inside |x| < half_width, |y| < half_height, and
// (1 - prob_inside) / area in the rest of the box |x|, |y| < outer, 0 outside that.
//   log p(x) = log p_1(x) + log p_2(x) - log Z,  Z = int p_1 p_2 = sum of ring masses x heights.
// The reference code of Sjoberg et al. (arXiv 2307.14012) adds the ring's log normaliser
// log(K 2 pi sd^2) where it has to be subtracted; ll_paper repeats that, ll_true does not.
#include "motet/metrics.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <sstream>

#include "metrics_detail.hpp"
#include "motet/error.hpp"

namespace motet {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double normal_cdf(double z) { return 0.5 * std::erfc(-z / std::numbers::sqrt2); }

// Mass of N(mean, sd^2) in |x| < half. By the nearer tail: a difference of two cdfs close to 1
// has no digits left.
double mass_between(double mean, double sd, double half) {
  const double centre = std::abs(mean);
  return normal_cdf((half - centre) / sd) - normal_cdf((-half - centre) / sd);
}

void require(bool valid, const char* key, double value, const char* allowed) {
  if (!valid) {
    std::ostringstream text;
    text << "product benchmark: " << key << " = " << value << ", must be " << allowed;
    throw ConfigError(text.str());
  }
}

void check(const ProductBenchmark& b) {
  require(b.num_modes >= 1, "num_modes", static_cast<double>(b.num_modes), ">= 1");
  require(b.radius >= 0.0 && std::isfinite(b.radius), "radius", b.radius, ">= 0 and finite");
  require(b.sd > 0.0 && std::isfinite(b.sd), "sd", b.sd, "> 0 and finite");
  require(b.half_width > 0.0 && std::isfinite(b.half_width), "half_width", b.half_width,
          "> 0 and finite");
  require(b.half_height > 0.0 && std::isfinite(b.half_height), "half_height", b.half_height,
          "> 0 and finite");
  require(b.outer > std::max(b.half_width, b.half_height) && std::isfinite(b.outer), "outer",
          b.outer, "finite and larger than half_width and half_height");
  require(b.prob_inside > 0.0 && b.prob_inside <= 1.0, "prob_inside", b.prob_inside, "in (0, 1]");
}

struct Point2 {
  double x;
  double y;
};

std::vector<Point2> ring_centres(const ProductBenchmark& b) {
  std::vector<Point2> centres;
  for (int64_t k = 0; k < b.num_modes; ++k) {
    const double angle =
        2.0 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(b.num_modes);
    centres.push_back({b.radius * std::cos(angle), b.radius * std::sin(angle)});
  }
  return centres;
}

// The widened product's density, with all that does not depend on the point worked out once.
class ProductDensity {
 public:
  explicit ProductDensity(const ProductBenchmark& b)
      : b_(b),
        centres_(ring_centres(b)),
        log_ring_normaliser_(
            std::log(static_cast<double>(b.num_modes) * 2.0 * std::numbers::pi * b.sd * b.sd)) {
    const double inner_area = 4.0 * b.half_width * b.half_height;
    const double inner_height = b.prob_inside / inner_area;
    const double outer_height = (1.0 - b.prob_inside) / (4.0 * b.outer * b.outer - inner_area);
    double inner_mass = 0.0;
    double box_mass = 0.0;
    for (const Point2& c : centres_) {
      inner_mass += mass_between(c.x, b.sd, b.half_width) * mass_between(c.y, b.sd, b.half_height);
      box_mass += mass_between(c.x, b.sd, b.outer) * mass_between(c.y, b.sd, b.outer);
    }
    const double share = 1.0 / static_cast<double>(b.num_modes);
    const double total =
        share * (inner_mass * inner_height + (box_mass - inner_mass) * outer_height);
    require(total > 0.0, "radius", b.radius, "such that the ring meets the bar");
    log_inner_ = std::log(inner_height) - std::log(total);
    log_outer_ = std::log(outer_height) - std::log(total);  // -inf when prob_inside = 1
  }

  // log p_2 - log Z.
  double log_bar(const Point2& p) const {
    if (std::abs(p.x) < b_.half_width && std::abs(p.y) < b_.half_height) {
      return log_inner_;
    }
    return std::abs(p.x) < b_.outer && std::abs(p.y) < b_.outer ? log_outer_ : -kInfinity;
  }

  // log sum_k exp(-|p - c_k|^2 / (2 sd^2)), by the largest term.
  double log_ring_sum(const Point2& p) const {
    const double scale = -0.5 / (b_.sd * b_.sd);
    double nearest = kInfinity;
    for (const Point2& c : centres_) {
      nearest = std::min(nearest, squared_distance(p, c));
    }
    double sum = 0.0;
    for (const Point2& c : centres_) {
      sum += std::exp(scale * (squared_distance(p, c) - nearest));
    }
    return scale * nearest + std::log(sum);
  }

  double log_ring_normaliser() const { return log_ring_normaliser_; }

 private:
  static double squared_distance(const Point2& a, const Point2& b) {
    return (a.x - b.x) * (a.x - b.x) + (a.y - b.y) * (a.y - b.y);
  }

  ProductBenchmark b_;
  std::vector<Point2> centres_;
  double log_ring_normaliser_;
  double log_inner_ = 0.0;
  double log_outer_ = 0.0;
};

// A uniform number's place in N(mean, sd^2) cut to |x| < half, by inversion of the distribution
// function; mirrored so that the interval's bulk lies in the lower tail, where cdf keeps its
// digits.
Tensor truncated_normal(const Tensor& uniform, const Tensor& mean, double sd, double half) {
  const Tensor sign = torch::where(mean < 0.0, -1.0, 1.0).to(torch::kFloat64);
  const Tensor centre = mean * sign;
  const Tensor below = torch::special_ndtr((-half - centre) / sd);
  const Tensor above = torch::special_ndtr((half - centre) / sd);
  const Tensor z = torch::special_ndtri(below + uniform * (above - below));
  return sign * (centre + sd * z).clamp(-half, half);
}

// Half the way between neighbouring modes of the ring: the largest discs that do not overlap.
double mode_radius(const ProductBenchmark& b) {
  if (b.num_modes == 1 || b.radius == 0.0) {
    return 6.0 * b.sd;
  }
  return b.radius * std::sin(std::numbers::pi / static_cast<double>(b.num_modes));
}

struct ModeSums {
  int64_t count = 0;
  std::vector<double> mean;
  std::vector<double> squares;  // of differences from the mean
};

// Welford's update: no cancellation, one pass.
void add(ModeSums& sums, const double* point) {
  ++sums.count;
  for (size_t k = 0; k < sums.mean.size(); ++k) {
    const double before = point[k] - sums.mean[k];
    sums.mean[k] += before / static_cast<double>(sums.count);
    sums.squares[k] += before * (point[k] - sums.mean[k]);
  }
}

std::vector<double> standard_deviations(const ModeSums& sums) {
  std::vector<double> sd;
  for (const double squares : sums.squares) {
    sd.push_back(sums.count < 2 ? std::numeric_limits<double>::quiet_NaN()
                                : std::sqrt(squares / static_cast<double>(sums.count - 1)));
  }
  return sd;
}

}  // namespace

std::string detail::shape_text(const Tensor& x) {
  if (!x.defined()) {
    return "undefined";
  }
  std::ostringstream text;
  text << "(";
  for (int64_t k = 0; k < x.dim(); ++k) {
    text << (k > 0 ? ", " : "") << x.size(k);
  }
  text << (x.dim() == 1 ? ",)" : ")");
  return text.str();
}

Tensor detail::finite_points(const std::string& where, const std::string& name, const Tensor& x) {
  if (!x.defined() || x.dim() != 2 || x.size(0) < 1 || x.size(1) < 1) {
    throw ShapeError(where + ": " + name + " has shape " + shape_text(x) +
                     ", must be (N, d) with N, d >= 1: one point a row");
  }
  if (!x.is_floating_point()) {
    throw ShapeError(where + ": " + name + " has dtype " + c10::toString(x.scalar_type()) +
                     ", must be a floating-point type");
  }
  const Tensor points = x.detach().to(torch::kCPU, torch::kFloat64).contiguous();
  const int64_t num_bad = points.isfinite().all(1).logical_not().sum().item<int64_t>();
  if (num_bad > 0) {
    throw NumericalError(where + ": " + std::to_string(num_bad) + " of " +
                         std::to_string(points.size(0)) + " rows of " + name +
                         " hold a NaN or infinity; every entry must be finite");
  }
  return points;
}

Tensor detail::benchmark_points(const std::string& where, const std::string& name,
                                const Tensor& x) {
  const Tensor points = finite_points(where, name, x);
  if (points.size(1) != 2) {
    throw ShapeError(where + ": " + name + " has shape " + shape_text(x) +
                     ", must be (N, 2): the benchmark lives in the plane");
  }
  return points;
}

void detail::require_alike(const std::string& where, const Tensor& x, const Tensor& y,
                           bool same_size) {
  if (x.size(1) != y.size(1) || (same_size && x.size(0) != y.size(0))) {
    throw ShapeError(where + ": x is " + shape_text(x) + " and y is " + shape_text(y) +
                     (same_size ? ", must have the same shape" : ", must have as many columns"));
  }
}

Tensor detail::thinned(const Tensor& points, int64_t count) {
  const int64_t num_points = points.size(0);
  if (count >= num_points) {
    return points;
  }
  return points.index_select(
      0, torch::arange(count, torch::kInt64).mul_(num_points).floor_divide_(count));
}

Tensor sample_product_benchmark(int64_t num_samples, Rng& rng, const ProductBenchmark& benchmark) {
  check(benchmark);
  if (num_samples < 1) {
    throw ConfigError("sample_product_benchmark: num_samples = " + std::to_string(num_samples) +
                      ", must be >= 1");
  }
  std::vector<double> flat;
  std::vector<double> masses;
  for (const Point2& c : ring_centres(benchmark)) {
    flat.insert(flat.end(), {c.x, c.y});
    masses.push_back(mass_between(c.x, benchmark.sd, benchmark.half_width) *
                     mass_between(c.y, benchmark.sd, benchmark.half_height));
  }
  const Tensor cumulative = torch::tensor(masses, torch::kFloat64).cumsum(0);
  const double total = cumulative[-1].item<double>();
  require(total > 0.0, "radius", benchmark.radius, "such that the ring meets the bar");
  const Tensor like = torch::empty({num_samples, 2}, torch::kFloat64);
  const Tensor mode = torch::searchsorted(cumulative, rng.uniform(num_samples, like) * total,
                                          /*out_int32=*/false, /*right=*/true)
                          .clamp_max(benchmark.num_modes - 1);
  const Tensor centre = torch::tensor(flat, torch::kFloat64).reshape({-1, 2}).index_select(0, mode);
  const Tensor uniform = rng.uniform_like(like);
  return torch::stack({truncated_normal(uniform.select(1, 0), centre.select(1, 0), benchmark.sd,
                                        benchmark.half_width),
                       truncated_normal(uniform.select(1, 1), centre.select(1, 1), benchmark.sd,
                                        benchmark.half_height)},
                      1);
}

Tensor log_density_product_benchmark(const Tensor& x, const ProductBenchmark& benchmark) {
  check(benchmark);
  const Tensor points = detail::benchmark_points("log_density_product_benchmark", "x", x);
  const ProductDensity density(benchmark);
  Tensor result = torch::empty({points.size(0)}, torch::kFloat64);
  const double* xy = points.const_data_ptr<double>();
  double* out = result.mutable_data_ptr<double>();
  for (int64_t i = 0; i < points.size(0); ++i) {
    const Point2 p{xy[2 * i], xy[2 * i + 1]};
    out[i] = density.log_ring_sum(p) - density.log_ring_normaliser() + density.log_bar(p);
  }
  return result.to(x.device());
}

LogLikelihood log_likelihood(const Tensor& x, const ProductBenchmark& benchmark) {
  check(benchmark);
  const Tensor points = detail::benchmark_points("log_likelihood", "x", x);
  const ProductDensity density(benchmark);
  const double* xy = points.const_data_ptr<double>();
  LogLikelihood result;
  double sum_true = 0.0;
  double sum_paper = 0.0;
  for (int64_t i = 0; i < points.size(0); ++i) {
    const Point2 p{xy[2 * i], xy[2 * i + 1]};
    const double log_bar = density.log_bar(p);
    if (log_bar == -kInfinity) {
      ++result.num_outside_support;
      continue;
    }
    const double log_ring_sum = density.log_ring_sum(p);
    sum_true += log_ring_sum - density.log_ring_normaliser() + log_bar;
    sum_paper += log_ring_sum + density.log_ring_normaliser() + log_bar;  // the slip
  }
  const auto num_inside = static_cast<double>(points.size(0) - result.num_outside_support);
  result.ll_true = num_inside > 0.0 ? sum_true / num_inside : -kInfinity;
  result.ll_paper = num_inside > 0.0 ? sum_paper / num_inside : -kInfinity;
  return result;
}

ModeSet product_modes(const ProductBenchmark& b) {
  check(b);
  ModeSet set;
  std::vector<double> flat;
  double total = 0.0;
  for (const Point2& c : ring_centres(b)) {
    if (std::abs(c.x) < b.half_width && std::abs(c.y) < b.half_height) {
      flat.insert(flat.end(), {c.x, c.y});
      set.shares.push_back(mass_between(c.x, b.sd, b.half_width) *
                           mass_between(c.y, b.sd, b.half_height));
      total += set.shares.back();
    }
  }
  require(!flat.empty(), "half_width", b.half_width,
          "such that the bar holds the centre of a mode of the ring");
  for (double& share : set.shares) {
    share /= total;
  }
  set.centres = torch::tensor(flat, torch::kFloat64).reshape({-1, 2});
  set.radius = mode_radius(b);
  return set;
}

Tensor detail::mode_labels(const Tensor& points, const Tensor& centres, double radius) {
  const Tensor transposed = centres.t().contiguous();
  const int64_t dim = points.size(1);
  std::vector<double> squared(static_cast<size_t>(centres.size(0)));
  Tensor labels = torch::empty({points.size(0)}, torch::kInt64);
  int64_t* label = labels.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < points.size(0); ++i) {
    squared_distances(points.const_data_ptr<double>() + i * dim, transposed, 0, centres.size(0),
                      squared.data());
    const auto nearest = std::min_element(squared.begin(), squared.end());
    label[i] = std::sqrt(*nearest) <= radius ? nearest - squared.begin() : -1;
  }
  return labels;
}

ModeReport modes(const Tensor& x, const Tensor& centres, double radius) {
  if (!(radius > 0.0)) {
    std::ostringstream text;
    text << "modes: radius = " << radius << ", must be > 0";
    throw ConfigError(text.str());
  }
  const Tensor points = detail::finite_points("modes", "x", x);
  const Tensor places = detail::finite_points("modes", "centres", centres);
  detail::require_alike("modes", points, places, false);
  const Tensor labels = detail::mode_labels(points, places, radius);
  const int64_t* label = labels.const_data_ptr<int64_t>();
  const auto width = static_cast<size_t>(points.size(1));
  std::vector<ModeSums> sums(static_cast<size_t>(places.size(0)),
                             {0, std::vector<double>(width), std::vector<double>(width)});
  int64_t num_outside = 0;
  for (int64_t i = 0; i < points.size(0); ++i) {
    if (label[i] >= 0) {
      add(sums[static_cast<size_t>(label[i])],
          points.const_data_ptr<double>() + i * points.size(1));
    } else {
      ++num_outside;
    }
  }
  const auto num_points = static_cast<double>(points.size(0));
  ModeReport report;
  for (const ModeSums& mode : sums) {
    report.mode_fractions.push_back(static_cast<double>(mode.count) / num_points);
    report.mode_sd.push_back(standard_deviations(mode));
  }
  report.fraction_outside_modes = static_cast<double>(num_outside) / num_points;
  return report;
}

}  // namespace motet
