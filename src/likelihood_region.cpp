// Hard regions. A box blurred by noise of standard deviation r is, in each coordinate,
//   Phi((high - u) / r) - Phi((low - u) / r),
// the probability that x_0 ~ N(u, r^2) lies inside; an open side leaves one Phi. At level 0 a
// region is its indicator: nothing softer ends with the law that was asked for.
#include <torch/types.h>

#include <cmath>
#include <limits>
#include <utility>

#include "analytic_smear.hpp"
#include "error_shape.hpp"
#include "likelihood_checks.hpp"
#include "motet/error.hpp"
#include "motet/likelihood.hpp"

namespace motet {
namespace {

using detail::shape_text;

Tensor clean_points(const Tensor& x, const NoiseLevel& level) {
  return x.detach().to(at::kDouble) / std::sqrt(level.alpha_bar);
}

// 0 inside, -inf outside, no score: what x_0 = x / sqrt(abar) is allowed.
Likelihood::Value hard(const Tensor& inside, const Tensor& x) {
  const Tensor zeros = at::zeros({x.size(0)}, x.options().dtype(at::kDouble));
  return {.log_likelihood =
              zeros.masked_fill(inside.logical_not(), -std::numeric_limits<double>::infinity()),
          .score = at::zeros_like(x)};
}

Tensor indices_where(const Tensor& mask) { return mask.nonzero().flatten(); }

class Box : public Likelihood {
 public:
  Box(Tensor low, Tensor high, const LikelihoodConfig& config, std::string name)
      : low_(std::move(low)), high_(std::move(high)), config_(config), name_(std::move(name)) {
    const Tensor has_low = low_.isfinite();
    const Tensor has_high = high_.isfinite();
    both_ = indices_where(has_low.logical_and(has_high));
    only_low_ = indices_where(has_low.logical_and(has_high.logical_not()));
    only_high_ = indices_where(has_high.logical_and(has_low.logical_not()));
  }

  Value evaluate(const Tensor& x, const NoiseLevel& level,
                 const Tensor& prior_score) const override {
    detail::check_points_of("likelihood \"" + name_ + "\"", x, event_shape());
    if (level.index == 0) {
      return hard(allows(clean_points(x, level)), x);
    }
    if (is_gradient()) {
      const double root = std::sqrt(level.alpha_bar);
      return blurred(clean_points(x, level), level.sigma() / root, 1.0 / root, x);
    }
    const detail::CleanEstimate clean = detail::clean_estimate(level, config_.prior_sd);
    return blurred(detail::clean_mean(name_, x, level, prior_score), std::sqrt(clean.variance),
                   clean.jacobian, x);
  }

  bool is_gradient() const override {
    return config_.approximation == LikelihoodApproximation::flat;
  }
  LikelihoodPath path() const override { return LikelihoodPath::given; }
  std::vector<int64_t> event_shape() const override { return {low_.size(0)}; }
  std::string describe() const override { return name_; }

  Tensor allows(const Tensor& x_0) const override {
    detail::check_points_of("likelihood \"" + name_ + "\"", x_0, event_shape());
    const Tensor low = low_.to(x_0.device());
    const Tensor high = high_.to(x_0.device());
    return x_0.ge(low).logical_and_(x_0.le(high)).all(1);
  }

 private:
  // At the clean points u (B, d), float64, with `radius` the standard deviation of x_0 about them.
  Value blurred(const Tensor& u, double radius, double jacobian, const Tensor& x) const {
    const Tensor place = u / radius;
    Value sum{at::zeros({x.size(0)}, place.options()), at::zeros_like(place)};
    const auto pick = [&x](const Tensor& values, const Tensor& columns) {
      return values.to(x.device()).index_select(-1, columns.to(x.device()));
    };
    const auto add = [&](const Tensor& columns, const Tensor& log_mass, const Tensor& slope) {
      sum.log_likelihood += log_mass.sum(1);
      sum.score.index_copy_(1, columns.to(x.device()), slope);
    };
    if (both_.numel() > 0) {
      const Tensor low = pick(low_, both_) / radius;
      const Tensor high = pick(high_, both_) / radius;
      const Tensor offset = pick(place, both_) - 0.5 * (low + high);
      const detail::Smeared mass = detail::smear(offset.abs(), high - low);
      add(both_, mass.log_mass, mass.slope * offset.sign());
    }
    if (only_low_.numel() > 0) {
      const detail::Smeared mass =
          detail::smear_half_line(pick(place, only_low_) - pick(low_, only_low_) / radius);
      add(only_low_, mass.log_mass, mass.slope);
    }
    if (only_high_.numel() > 0) {
      const detail::Smeared mass =
          detail::smear_half_line(pick(high_, only_high_) / radius - pick(place, only_high_));
      add(only_high_, mass.log_mass, -mass.slope);
    }
    sum.score = (sum.score * (jacobian / radius)).to(x.scalar_type());
    return sum;
  }

  Tensor low_;        // (d), -inf where open
  Tensor high_;       // (d), inf where open
  Tensor both_;       // columns with both bounds
  Tensor only_low_;   // with one
  Tensor only_high_;  // with the other
  LikelihoodConfig config_;
  std::string name_;
};

class CallableRegion : public Likelihood {
 public:
  CallableRegion(InsideFunction inside, std::vector<int64_t> event_shape, std::string name)
      : inside_(std::move(inside)), event_shape_(std::move(event_shape)), name_(std::move(name)) {}

  Value evaluate(const Tensor& x, const NoiseLevel& level,
                 const Tensor& /*prior_score*/) const override {
    detail::check_points_of("likelihood \"" + name_ + "\"", x, event_shape_);
    if (level.index > 0) {
      return {.log_likelihood = at::zeros({x.size(0)}, x.options().dtype(at::kDouble)),
              .score = at::zeros_like(x)};
    }
    return hard(allows(clean_points(x, level).to(x.scalar_type())), x);
  }

  LikelihoodPath path() const override { return LikelihoodPath::given; }
  std::vector<int64_t> event_shape() const override { return event_shape_; }
  std::string describe() const override { return name_; }

  Tensor allows(const Tensor& x_0) const override {
    detail::check_points_of("likelihood \"" + name_ + "\"", x_0, event_shape_);
    const Tensor inside = inside_(x_0);
    if (!inside.defined() || inside.scalar_type() != at::kBool || inside.dim() != 1 ||
        inside.size(0) != x_0.size(0)) {
      throw ShapeError("likelihood \"" + name_ + "\": inside " +
                       (inside.defined() ? "is " + detail::dtype_text(inside.scalar_type()) +
                                               " of shape " + shape_text(inside.sizes())
                                         : std::string("is undefined")) +
                       ", must be bool (B) = (" + std::to_string(x_0.size(0)) + ")");
    }
    return inside.detach();
  }

 private:
  InsideFunction inside_;
  std::vector<int64_t> event_shape_;
  std::string name_;
};

}  // namespace

LikelihoodPtr region_box(const Tensor& low, const Tensor& high, const LikelihoodConfig& config,
                         std::string name) {
  const std::string where = "region_box \"" + name + "\"";
  if (!low.defined() || !high.defined() || low.dim() != 1 || low.numel() == 0 ||
      low.sizes() != high.sizes()) {
    const auto text = [](const Tensor& t) { return t.defined() ? shape_text(t.sizes()) : "()"; };
    throw ShapeError(where + ": low has shape " + text(low) + ", high " + text(high) +
                     ", must both be (d) with d >= 1");
  }
  const Tensor own_low = detail::own(low);
  const Tensor own_high = detail::own(high);
  constexpr double kInf = std::numeric_limits<double>::infinity();
  detail::check_entries(where, "low", own_low, own_low.lt(kInf), "finite or -inf");
  detail::check_entries(where, "high", own_high, own_high.gt(own_low), "above low, or inf");
  if (own_low.isinf().logical_and(own_high.isinf()).all().item<bool>()) {
    throw ConfigError(where + ": no coordinate has a bound; give at least one, or leave it out");
  }
  if (config.approximation == LikelihoodApproximation::dps) {
    throw ConfigError(where +
                      ": approximation = \"dps\" would be hard at every level; use \"tweedie\" or "
                      "\"flat\"");
  }
  detail::check_prior_sd(where, config.prior_sd);
  return std::make_shared<Box>(own_low, own_high, config, std::move(name));
}

LikelihoodPtr region_from_callable(InsideFunction inside, std::vector<int64_t> event_shape,
                                   std::string name) {
  const std::string where = "region_from_callable \"" + name + "\"";
  if (!inside) {
    throw ConfigError(where + ": inside is empty, must be callable");
  }
  detail::check_event_shape(where, event_shape);
  return std::make_shared<CallableRegion>(std::move(inside), std::move(event_shape),
                                          std::move(name));
}

}  // namespace motet
