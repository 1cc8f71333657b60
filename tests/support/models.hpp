// Models for tests: wrappers that count, hide or break, and exact targets.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "motet/compose.hpp"
#include "motet/model.hpp"

namespace motet::testing {

/// Passes everything on and counts what it was asked.
class CountingModel : public Model {
 public:
  explicit CountingModel(ModelPtr model) : model_(std::move(model)) {}
  Eval evaluate(const Tensor& x, const NoiseLevel& level) const override {
    ++num_calls_;
    num_rows_ += x.size(0);
    return model_->evaluate(x, level);
  }
  bool is_exact() const override { return model_->is_exact(); }
  bool is_normalised() const override { return model_->is_normalised(); }
  std::vector<int64_t> event_shape() const override { return model_->event_shape(); }
  std::string describe() const override { return model_->describe(); }
  std::optional<NoiseSchedule> schedule() const override { return model_->schedule(); }

  int64_t num_calls() const { return num_calls_; }
  int64_t num_rows() const { return num_rows_; }

 private:
  ModelPtr model_;
  mutable int64_t num_calls_ = 0;
  mutable int64_t num_rows_ = 0;
};

using motet::score_only;

/// `model` with NaN scores and densities where the first coordinate is above `bound`.
ModelPtr nan_above(const ModelPtr& model, double bound);

/// The score -x + strength (-x_2, x_1, 0, ...): a Gaussian's with a rotation, which is no gradient.
/// Score-only; d >= 2.
ModelPtr rotating_gaussian(int64_t d, double strength);

/// Score sum_i x_i^power e_i, log density sum_i x_i^(power+1) / (power + 1), the log density shown
/// only if `is_exact`.
ModelPtr power_score(int64_t d, int64_t power, bool is_exact);

/// Three overlapping Gaussians in 2-D, symmetric in nothing: the target of the invariance checks.
AnalyticPtr skewed_mixture();

/// Mixture of `num_modes` Gaussians in d dimensions, with means and standard deviations that differ
/// in every coordinate; a function of d and num_modes only.
AnalyticPtr uneven_mixture(int64_t d, int64_t num_modes);

/// One Gaussian in d dimensions.
AnalyticPtr gaussian(const std::vector<double>& mean, const std::vector<double>& sd,
                     std::string name = "gaussian");

/// A Gaussian with this mean (d) and covariance (d, d), and its exact diffusion to every level.
AnalyticPtr correlated_gaussian(const Tensor& mean, const Tensor& covariance,
                                std::string name = "correlated gaussian");

/// A level with this alpha_bar, outside of any schedule.
NoiseLevel level_at(double alpha_bar, int64_t index = 0);

}  // namespace motet::testing
