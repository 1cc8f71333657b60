#include "support/models.hpp"

#include <torch/types.h>

#include <limits>

#include "motet/rng.hpp"

namespace motet::testing {
namespace {

class CorrelatedGaussian : public AnalyticModel {
 public:
  CorrelatedGaussian(const Tensor& mean, const Tensor& covariance, std::string name)
      : mean_(mean.to(at::kDouble)),
        covariance_(covariance.to(at::kDouble)),
        root_(at::linalg_cholesky(covariance_)),
        name_(std::move(name)) {}

  Eval evaluate(const Tensor& x, const NoiseLevel& level) const override {
    const Tensor offset = x.to(at::kDouble) - mean_ * std::sqrt(level.alpha_bar);
    const Tensor score = -at::matmul(offset, precision(level.alpha_bar));
    return {.score = score.to(x.scalar_type()),
            .log_density = 0.5 * (offset * score).sum(1),
            .remainder = {}};
  }
  bool is_normalised() const override { return false; }
  std::vector<int64_t> event_shape() const override { return {mean_.size(0)}; }
  std::string describe() const override { return name_; }
  Tensor sample_data(int64_t num_samples, Rng& rng) const override {
    const Tensor n = rng.normal_like(at::empty({num_samples, mean_.size(0)}, at::kDouble));
    return mean_ + at::matmul(n, root_.t());
  }
  Tensor log_density_data(const Tensor& x) const override {
    return evaluate(x, {.index = 0, .alpha_bar = 1.0, .beta = 0.0}).log_density;
  }

 private:
  Tensor precision(double alpha_bar) const {
    const Tensor noise = at::eye(mean_.size(0), at::kDouble) * (1.0 - alpha_bar);
    return at::linalg_inv(covariance_ * alpha_bar + noise);
  }

  Tensor mean_, covariance_, root_;
  std::string name_;
};

}  // namespace

ModelPtr nan_above(const ModelPtr& model, double bound) {
  return from_callable(
      [model, bound](const Tensor& x, const NoiseLevel& level) {
        constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
        Eval eval = model->evaluate(x, level);
        const Tensor bad = x.flatten(1).select(1, 0).gt(bound);
        const auto break_rows = [&](const Tensor& values) {
          return values.defined() ? values.masked_fill(bad.view({-1, 1}), kNan) : Tensor();
        };
        eval.score = break_rows(eval.score);
        eval.remainder = break_rows(eval.remainder);
        if (eval.log_density.defined()) {
          eval.log_density = eval.log_density.masked_fill(bad, kNan);
        }
        return eval;
      },
      model->event_shape(), model->is_exact(), "nan above");
}

ModelPtr rotating_gaussian(int64_t d, double strength) {
  return from_callable(
      [strength](const Tensor& x, const NoiseLevel& /*level*/) {
        const Tensor score = -x;
        score.select(1, 0).sub_(x.select(1, 1), strength);
        score.select(1, 1).add_(x.select(1, 0), strength);
        return Eval{.score = score, .log_density = {}, .remainder = {}};
      },
      {d}, /*is_exact=*/false, "rotating gaussian");
}

ModelPtr power_score(int64_t d, int64_t power, bool is_exact) {
  return from_callable(
      [power, is_exact](const Tensor& x, const NoiseLevel& /*level*/) {
        const Tensor score = x.pow(power);
        Tensor log_density;
        if (is_exact) {
          log_density = (score * x).sum(1) / static_cast<double>(power + 1);
        }
        return Eval{.score = score, .log_density = log_density, .remainder = {}};
      },
      {d}, is_exact, "power " + std::to_string(power));
}

AnalyticPtr skewed_mixture() {
  return gaussian_mixture(at::tensor({0.55, 0.3, 0.15}, at::kDouble),
                          at::tensor({-0.5, 0.1, 0.6, -0.4, 0.2, 0.9}, at::kDouble).view({3, 2}),
                          at::tensor({0.45, 0.3, 0.25, 0.5, 0.6, 0.25}, at::kDouble).view({3, 2}),
                          "skewed mixture");
}

AnalyticPtr uneven_mixture(int64_t d, int64_t num_modes) {
  Rng rng = Rng(20).split("uneven mixture");
  const Tensor shape = at::empty({num_modes, d}, at::kDouble);
  const Tensor means = rng.normal_like(shape);
  const Tensor sds = 0.3 + 0.5 * rng.uniform_like(shape);
  const Tensor weights = at::arange(1, num_modes + 1, at::kDouble);
  return gaussian_mixture(weights, means, sds, "uneven mixture");
}

AnalyticPtr gaussian(const std::vector<double>& mean, const std::vector<double>& sd,
                     std::string name) {
  return gaussian_mixture(at::ones({1}, at::kDouble), at::tensor(mean, at::kDouble).unsqueeze(0),
                          at::tensor(sd, at::kDouble).unsqueeze(0), std::move(name));
}

AnalyticPtr correlated_gaussian(const Tensor& mean, const Tensor& covariance, std::string name) {
  return std::make_shared<CorrelatedGaussian>(mean, covariance, std::move(name));
}

NoiseLevel level_at(double alpha_bar, int64_t index) {
  return {.index = index, .alpha_bar = alpha_bar, .beta = 1.0 - alpha_bar};
}

}  // namespace motet::testing
