// Mixtures of uniform boxes, at every level. With x_t = sqrt(abar) x_0 + sigma n, a box diffuses
// to, per coordinate,
//   [Phi(u_high) - Phi(u_low)] / (sqrt(abar) width),
//   u_high = (x - sqrt(abar) low) / sigma, u_low = (x - sqrt(abar) high) / sigma,
// and a mixture of boxes to the mixture of these. In float64, finite far in the tails.
#include <torch/types.h>

#include <cmath>
#include <limits>
#include <utility>

#include "analytic_detail.hpp"
#include "analytic_smear.hpp"
#include "error_shape.hpp"
#include "motet/error.hpp"
#include "motet/model.hpp"

namespace motet {
namespace {

using detail::shape_text;

constexpr double kLowest = std::numeric_limits<double>::lowest();

class BoxMixture : public AnalyticModel {
 public:
  // weights (K), low and high (K, d)
  BoxMixture(const Tensor& weights, Tensor low, Tensor high, std::string name)
      : name_(std::move(name)),
        weighting_(weights),
        low_(std::move(low)),
        high_(std::move(high)),
        log_heights_(weighting_.logs() - (high_ - low_).log().sum(1)) {}

  Eval evaluate(const Tensor& x, const NoiseLevel& level) const override {
    const Tensor points = detail::checked_input(x, event_shape(), name_).unsqueeze(1);
    const double shrink = std::sqrt(level.alpha_bar);
    const double sigma = level.sigma();
    const Tensor centre = (0.5 * shrink * (low_ + high_)).to(points.device());
    const Tensor spread = (shrink / sigma * (high_ - low_)).to(points.device());
    const Tensor offset = (points - centre) / sigma;
    const detail::Smeared smeared = detail::smear(offset.abs(), spread);
    // Relative to the nearest box of each coordinate: far out, where each is of size t^2 / 2, sums
    // over coordinates would lose what tells boxes of one row apart. Where all underflow to -inf
    // they are as near as each other.
    const Tensor nearest = smeared.log_mass.amax(1, /*keepdim=*/true);
    const Tensor relative = smeared.log_mass.clamp_min(kLowest) - nearest.clamp_min(kLowest);
    const Tensor log_terms = relative.sum(2) + log_heights_.to(points.device());
    const Tensor shares = detail::component_shares(log_terms).unsqueeze(2);
    const Tensor pull = smeared.slope * offset.sign() / sigma;
    // A box without a share adds nothing, however hard it pulls: 0 * inf is NaN.
    const Tensor score = (shares * pull).masked_fill(shares.eq(0.0), 0.0).sum(1);
    const double log_scale = static_cast<double>(low_.size(1)) * std::log(shrink);
    return {.score = score.to(x.scalar_type()),
            .log_density = nearest.sum({1, 2}) + at::logsumexp(log_terms, 1) - log_scale,
            .remainder = {}};
  }

  Tensor sample_data(int64_t num_samples, Rng& rng) const override {
    if (low_.size(0) == 1) {  // a lone box needs no draw of which
      return low_ + (high_ - low_) * rng.uniform_like(low_.expand({num_samples, low_.size(1)}));
    }
    const Tensor box = weighting_.draw(num_samples, rng);
    const Tensor low = low_.index_select(0, box);
    return low + (high_.index_select(0, box) - low) * rng.uniform_like(low);
  }

  Tensor log_density_data(const Tensor& x) const override {
    const Tensor points = detail::checked_input(x, event_shape(), name_).unsqueeze(1);
    const Tensor low = low_.to(points.device());
    const Tensor high = high_.to(points.device());
    const Tensor outside = points.gt(low).logical_and_(points.lt(high)).all(2).logical_not_();
    const Tensor heights = log_heights_.to(points.device()).expand_as(outside);
    return at::logsumexp(heights.masked_fill(outside, -std::numeric_limits<double>::infinity()), 1);
  }

  std::vector<int64_t> event_shape() const override { return {low_.size(1)}; }
  std::string describe() const override { return name_; }

 private:
  std::string name_;
  detail::Weighting weighting_;
  Tensor low_;          // (K, d)
  Tensor high_;         // (K, d)
  Tensor log_heights_;  // (K): log of weight over volume
};

// Corners (K, d) and weights (K), checked but for their shapes, become the law.
AnalyticPtr make_boxes(const std::string& where, const Tensor& weights, const Tensor& low,
                       const Tensor& high, std::string name) {
  Tensor own_low = detail::own(low);
  Tensor own_high = detail::own(high);
  detail::check_entries(where, "low", own_low, own_low.isfinite(), "finite");
  detail::check_entries(where, "high", own_high,
                        own_high.isfinite().logical_and_(own_high.gt(own_low)), "finite and > low");
  return std::make_shared<BoxMixture>(weights, std::move(own_low), std::move(own_high),
                                      std::move(name));
}

}  // namespace

AnalyticPtr uniform_box(const Tensor& low, const Tensor& high, std::string name) {
  const std::string where = "uniform_box \"" + name + "\"";
  if (low.dim() != 1 || low.numel() == 0 || low.sizes() != high.sizes()) {
    throw ShapeError(where + ": low has shape " + shape_text(low.sizes()) + ", high " +
                     shape_text(high.sizes()) + ", must both be (d) with d >= 1");
  }
  return make_boxes(where, at::ones({1}, at::kDouble), low.unsqueeze(0), high.unsqueeze(0),
                    std::move(name));
}

AnalyticPtr box_mixture(const Tensor& weights, const Tensor& low, const Tensor& high,
                        std::string name) {
  const std::string where = "box_mixture \"" + name + "\"";
  if (low.dim() != 2 || low.numel() == 0 || low.sizes() != high.sizes()) {
    throw ShapeError(where + ": low has shape " + shape_text(low.sizes()) + ", high " +
                     shape_text(high.sizes()) + ", must both be (K, d) with K, d >= 1");
  }
  if (weights.dim() != 1 || weights.size(0) != low.size(0)) {
    throw ShapeError(where + ": weights has shape " + shape_text(weights.sizes()) +
                     ", must be (K) = (" + std::to_string(low.size(0)) + ") as low has shape " +
                     shape_text(low.sizes()));
  }
  const Tensor own_weights = detail::own(weights);
  detail::check_entries(where, "weights", own_weights, detail::good_scale(own_weights),
                        "finite and > 0");
  return make_boxes(where, own_weights, low, high, std::move(name));
}

}  // namespace motet
