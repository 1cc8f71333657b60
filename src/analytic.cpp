// Laws known in closed form at every level, and users' functions. With x_t = sqrt(abar) x_0 +
// sigma n:
//   mixture  sum_k w_k N(m_k, diag(s_k^2))  ->  sum_k w_k N(sqrt(abar) m_k, abar s_k^2 + sigma^2)
//   box      U(low, high), per coordinate   ->  [Phi(u_high) - Phi(u_low)] / (sqrt(abar) width),
//            u_high = (x - sqrt(abar) low) / sigma, u_low = (x - sqrt(abar) high) / sigma.
// Everything is computed in float64, whatever the dtype of x, and stays finite far in the tails.
#include <torch/types.h>

#include <cmath>
#include <numbers>
#include <sstream>
#include <utility>

#include "analytic_smear.hpp"
#include "error_shape.hpp"
#include "motet/error.hpp"
#include "motet/model.hpp"

namespace motet {
namespace {

using detail::check_entries;
using detail::own;
using detail::shape_text;

[[noreturn]] void fail_shape(const std::string& name, const std::string& problem) {
  throw ShapeError("model \"" + name + "\": " + problem);
}

// x (B, *event) as float64; float32 and float64 are accepted.
Tensor checked_input(const Tensor& x, const std::vector<int64_t>& event_shape,
                     const std::string& name) {
  detail::check_points(x, event_shape, name);
  return x.detach().to(at::kDouble);
}

class GaussianMixture : public AnalyticModel {
 public:
  GaussianMixture(const Tensor& weights, Tensor means, const Tensor& sds, std::string name)
      : name_(std::move(name)),
        log_weights_((weights / weights.sum()).log()),
        cumulative_(weights.cumsum(0) / weights.sum()),
        means_(std::move(means)),
        sds_(sds.expand_as(means_).contiguous()) {
    cumulative_[-1] = 1.0;  // a uniform above a sum rounded down must still find a component
  }

  Eval evaluate(const Tensor& x, const NoiseLevel& level) const override {
    const Tensor points = checked_input(x, event_shape(), name_);
    const Terms terms = evaluate_terms(points, level.alpha_bar);
    // Where even the nearest component underflows to -inf, all share alike: never inf - inf.
    const Tensor lowest = terms.log_terms.clamp_min(std::numeric_limits<double>::lowest());
    const Tensor shares = at::softmax(lowest, 1).unsqueeze(2);
    return {.score = (shares * terms.pull).sum(1).to(x.scalar_type()),
            .log_density = at::logsumexp(terms.log_terms, 1),
            .remainder = {}};
  }

  Tensor sample_data(int64_t num_samples, Rng& rng) const override {
    const Tensor picks = rng.uniform(num_samples, means_);
    const Tensor component = at::searchsorted(cumulative_, picks, /*out_int32=*/false,
                                              /*right=*/true);
    const Tensor centres = means_.index_select(0, component);
    return centres + sds_.index_select(0, component) * rng.normal_like(centres);
  }

  Tensor log_density_data(const Tensor& x) const override {
    const Tensor points = checked_input(x, event_shape(), name_);
    return at::logsumexp(evaluate_terms(points, 1.0).log_terms, 1);
  }

  std::vector<int64_t> event_shape() const override { return {means_.size(1)}; }
  std::string describe() const override { return name_; }

 private:
  struct Terms {
    Tensor log_terms;  // (B, K): log of weight times density of each component
    Tensor pull;       // (B, K, d): score of each component
  };

  Terms evaluate_terms(const Tensor& points, double alpha_bar) const {
    const Tensor variances = (sds_.square() * alpha_bar + (1.0 - alpha_bar)).to(points.device());
    const Tensor centres = (means_ * std::sqrt(alpha_bar)).to(points.device());
    const Tensor offsets = points.unsqueeze(1) - centres;
    const Tensor pull = -offsets / variances;
    const Tensor log_norm = 0.5 * (variances * (2.0 * std::numbers::pi)).log().sum(1);
    const Tensor exponents = 0.5 * (offsets * pull).sum(2);
    return {log_weights_.to(points.device()) - log_norm + exponents, pull};
  }

  std::string name_;
  Tensor log_weights_;  // (K)
  Tensor cumulative_;   // (K), last entry 1
  Tensor means_;        // (K, d)
  Tensor sds_;          // (K, d)
};

class UniformBox : public AnalyticModel {
 public:
  UniformBox(Tensor low, Tensor high, std::string name)
      : name_(std::move(name)),
        low_(std::move(low)),
        high_(std::move(high)),
        log_volume_((high_ - low_).log().sum().item<double>()) {}

  Eval evaluate(const Tensor& x, const NoiseLevel& level) const override {
    const Tensor points = checked_input(x, event_shape(), name_);
    const double shrink = std::sqrt(level.alpha_bar);
    const double sigma = level.sigma();
    const Tensor centre = (0.5 * shrink * (low_ + high_)).to(points.device());
    const Tensor spread = (shrink / sigma * (high_ - low_)).to(points.device());
    const Tensor offset = (points - centre) / sigma;
    const detail::Smeared smeared = detail::smear(offset.abs(), spread);
    const double log_scale = log_volume_ + static_cast<double>(low_.size(0)) * std::log(shrink);
    return {.score = (smeared.slope * offset.sign() / sigma).to(x.scalar_type()),
            .log_density = smeared.log_mass.sum(1) - log_scale,
            .remainder = {}};
  }

  Tensor sample_data(int64_t num_samples, Rng& rng) const override {
    const Tensor shape = low_.expand({num_samples, low_.size(0)});
    return low_ + (high_ - low_) * rng.uniform_like(shape);
  }

  Tensor log_density_data(const Tensor& x) const override {
    const Tensor points = checked_input(x, event_shape(), name_);
    const Tensor low = low_.to(points.device());
    const Tensor high = high_.to(points.device());
    const Tensor inside = points.gt(low).logical_and_(points.lt(high)).all(1);
    const Tensor density = at::full({points.size(0)}, -log_volume_, points.options());
    return density.masked_fill(inside.logical_not(), -std::numeric_limits<double>::infinity());
  }

  std::vector<int64_t> event_shape() const override { return {low_.size(0)}; }
  std::string describe() const override { return name_; }

 private:
  std::string name_;
  Tensor low_;   // (d)
  Tensor high_;  // (d)
  double log_volume_;
};

class Callable : public Model {
 public:
  Callable(EvaluateFunction function, std::vector<int64_t> event_shape, bool is_exact,
           std::string name)
      : function_(std::move(function)),
        event_shape_(std::move(event_shape)),
        is_exact_(is_exact),
        name_(std::move(name)) {}

  Eval evaluate(const Tensor& x, const NoiseLevel& level) const override {
    checked_input(x, event_shape_, name_);
    Eval eval = function_(x, level);
    check_like_x(eval.score, "score", x);
    if (eval.remainder.defined()) {
      check_like_x(eval.remainder, "remainder", x);
    }
    if (eval.log_density.defined()) {
      check_log_density(eval.log_density, x);
      eval.log_density = eval.log_density.detach().to(at::kDouble);
    }
    check_promise(eval);
    // A score alone: nothing of it is explained. One tensor under both names, so that products and
    // selections pay for it once.
    const bool is_unexplained = eval.remainder.is_same(eval.score) ||
                                (!eval.remainder.defined() && !eval.log_density.defined());
    eval.score = eval.score.detach();
    if (is_unexplained) {
      eval.remainder = eval.score;
    } else if (eval.remainder.defined()) {
      eval.remainder = eval.remainder.detach();
    }
    return eval;
  }

  bool is_exact() const override { return is_exact_; }
  std::vector<int64_t> event_shape() const override { return event_shape_; }
  std::string describe() const override { return name_; }

 private:
  void check_like_x(const Tensor& value, const std::string& what, const Tensor& x) const {
    if (!value.defined()) {
      fail_shape(name_, what + " is undefined, must have x's shape " + shape_text(x.sizes()));
    }
    if (value.sizes() != x.sizes()) {
      fail_shape(name_, what + " has shape " + shape_text(value.sizes()) +
                            ", must have x's shape " + shape_text(x.sizes()));
    }
    if (value.scalar_type() != x.scalar_type()) {
      fail_shape(name_, what + " has dtype " + c10::toString(value.scalar_type()) +
                            ", must have x's dtype " + c10::toString(x.scalar_type()));
    }
  }

  void check_log_density(const Tensor& value, const Tensor& x) const {
    if (value.dim() != 1 || value.size(0) != x.size(0)) {
      fail_shape(name_, "log_density has shape " + shape_text(value.sizes()) + ", must be (B) = (" +
                            std::to_string(x.size(0)) + ")");
    }
  }

  // is_exact is a promise on which exact ratios rely.
  void check_promise(const Eval& eval) const {
    if (is_exact_ && (eval.remainder.defined() || !eval.log_density.defined())) {
      throw ConfigError("model \"" + name_ +
                        "\": is_exact is true, so log_density must be given and remainder left "
                        "undefined; return them so, or say is_exact = false");
    }
  }

  EvaluateFunction function_;
  std::vector<int64_t> event_shape_;
  bool is_exact_;
  std::string name_;
};

void check_mixture_shapes(const std::string& where, const Tensor& weights, const Tensor& means,
                          const Tensor& sds) {
  if (means.dim() != 2 || means.numel() == 0) {
    throw ShapeError(where + ": means has shape " + shape_text(means.sizes()) +
                     ", must be (K, d) with K, d >= 1");
  }
  const int64_t k = means.size(0);
  if (weights.dim() != 1 || weights.size(0) != k) {
    throw ShapeError(where + ": weights has shape " + shape_text(weights.sizes()) +
                     ", must be (K) = (" + std::to_string(k) + ") as means has shape " +
                     shape_text(means.sizes()));
  }
  if (sds.dim() != 2 || sds.size(0) != k || (sds.size(1) != 1 && sds.size(1) != means.size(1))) {
    throw ShapeError(where + ": sds has shape " + shape_text(sds.sizes()) +
                     ", must be (K, d) or (K, 1) as means has shape " + shape_text(means.sizes()));
  }
}

Tensor good_scale(const Tensor& values) { return values.gt(0.0).logical_and_(values.isfinite()); }

}  // namespace

Tensor AnalyticModel::sample_level(int64_t num_samples, const NoiseLevel& level, Rng& rng) const {
  const Tensor data = sample_data(num_samples, rng);
  return std::sqrt(level.alpha_bar) * data + level.sigma() * rng.normal_like(data);
}

AnalyticPtr gaussian_mixture(const Tensor& weights, const Tensor& means, const Tensor& sds,
                             std::string name) {
  const std::string where = "gaussian_mixture \"" + name + "\"";
  check_mixture_shapes(where, weights, means, sds);
  const Tensor own_weights = own(weights);
  const Tensor own_means = own(means);
  const Tensor own_sds = own(sds);
  check_entries(where, "weights", own_weights, good_scale(own_weights), "finite and > 0");
  check_entries(where, "means", own_means, own_means.isfinite(), "finite");
  check_entries(where, "sds", own_sds, good_scale(own_sds), "finite and > 0");
  return std::make_shared<GaussianMixture>(own_weights, own_means, own_sds, std::move(name));
}

AnalyticPtr uniform_box(const Tensor& low, const Tensor& high, std::string name) {
  const std::string where = "uniform_box \"" + name + "\"";
  if (low.dim() != 1 || low.numel() == 0 || low.sizes() != high.sizes()) {
    throw ShapeError(where + ": low has shape " + shape_text(low.sizes()) + ", high " +
                     shape_text(high.sizes()) + ", must both be (d) with d >= 1");
  }
  Tensor own_low = own(low);
  Tensor own_high = own(high);
  check_entries(where, "low", own_low, own_low.isfinite(), "finite");
  check_entries(where, "high", own_high, own_high.isfinite().logical_and_(own_high.gt(own_low)),
                "finite and > low");
  return std::make_shared<UniformBox>(std::move(own_low), std::move(own_high), std::move(name));
}

AnalyticPtr ring(int64_t num_modes, double radius, double sd) {
  if (num_modes < 1) {
    throw ConfigError("ring: num_modes = " + std::to_string(num_modes) + ", must be >= 1");
  }
  const Tensor angles = at::arange(num_modes, at::kDouble) *
                        (2.0 * std::numbers::pi / static_cast<double>(num_modes));
  const Tensor means = radius * at::stack({angles.cos(), angles.sin()}, 1);
  return gaussian_mixture(at::ones({num_modes}, at::kDouble), means,
                          at::full({num_modes, 1}, sd, at::kDouble), "ring");
}

AnalyticPtr bar(double half_width, double half_height) {
  const Tensor high = at::tensor({half_width, half_height}, at::kDouble);
  return uniform_box(-high, high, "bar");
}

ModelPtr from_callable(EvaluateFunction function, std::vector<int64_t> event_shape, bool is_exact,
                       std::string name) {
  if (!function) {
    throw ConfigError("from_callable \"" + name + "\": function is empty, must be callable");
  }
  for (const int64_t size : event_shape) {
    if (size < 1) {
      throw ConfigError("from_callable \"" + name + "\": event_shape is " +
                        shape_text(event_shape) + ", every size must be >= 1");
    }
  }
  return std::make_shared<Callable>(std::move(function), std::move(event_shape), is_exact,
                                    std::move(name));
}

}  // namespace motet
