#include "support/compositions.hpp"

#include <torch/types.h>

#include <cmath>

namespace motet::testing {

Eval HiddenLaw::evaluate(const Tensor& x, const NoiseLevel& level) const {
  const Eval eval = law_->evaluate(x, level);
  if (is_energy_) {
    return {.score = eval.score,
            .log_density = eval.log_density + 3.0 + std::log(level.alpha_bar),
            .remainder = {}};
  }
  return {.score = eval.score, .log_density = {}, .remainder = eval.score};
}

ModelPtr hidden(const AnalyticPtr& law) { return std::make_shared<HiddenLaw>(law); }
ModelPtr energy(const AnalyticPtr& law) { return std::make_shared<HiddenLaw>(law, true); }

Tensor exact_ledger(const ModelPtr& model, const Tensor& x, const NoiseLevel& level) {
  const std::vector<ModelPtr> parts = leaves(model);
  std::vector<Tensor> columns;
  for (const size_t part : dynamic_cast<const TrackingModel&>(*model).tracked()) {
    const auto& leaf = dynamic_cast<const HiddenLaw&>(*parts.at(part));
    columns.push_back(leaf.law().evaluate(x, level).log_density);
  }
  return at::stack(columns, 1);
}

Eval exact_eval(const ModelPtr& model, const Tensor& x, const NoiseLevel& level) {
  const auto* tracking = dynamic_cast<const TrackingModel*>(model.get());
  if (tracking == nullptr || tracking->tracked().empty()) {
    return model->evaluate(x, level);
  }
  return tracking->combine(tracking->evaluate_parts(x, level), exact_ledger(model, x, level), x,
                           level);
}

LogDensity log_density_of(const ModelPtr& model) {
  return [model](const Tensor& x, const NoiseLevel& level) {
    return model->evaluate(x, level).log_density;
  };
}

LogDensity log_product(std::vector<LogFactor> factors) {
  return [factors = std::move(factors)](const Tensor& x, const NoiseLevel& level) {
    Tensor sum = at::zeros({x.size(0)}, at::kDouble);
    for (const LogFactor& factor : factors) {
      sum = sum + factor.exponent * factor.log_density(x, level);
    }
    return sum;
  };
}

LogDensity log_mixture(std::vector<LogComponent> components) {
  return [components = std::move(components)](const Tensor& x, const NoiseLevel& level) {
    double total = 0.0;
    std::vector<Tensor> logs;
    for (const LogComponent& component : components) {
      total += component.weight;
      logs.push_back(component.log_density(x, level) + std::log(component.weight));
    }
    return at::stack(logs).logsumexp(0) - std::log(total);
  };
}

double GridLaw::mean() const { return (shares * points).sum().item<double>(); }

double GridLaw::sd() const {
  return std::sqrt((shares * (points - mean()).square()).sum().item<double>());
}

double GridLaw::share_below(double bound) const {
  return (shares * points.lt(bound)).sum().item<double>();
}

Tensor GridLaw::draws(int64_t num_draws, Rng& rng) const {
  // The shares are of cells around the points; inside a cell the law is flat.
  const Tensor cumulated = shares.cumsum(0);
  const Tensor at_quantile =
      (at::arange(num_draws, at::kDouble) + 0.5) / static_cast<double>(num_draws);
  const Tensor cell = at::searchsorted(cumulated, at_quantile).clamp(0, points.size(0) - 1);
  const Tensor share = shares.index_select(0, cell);
  const Tensor inside = (at_quantile - cumulated.index_select(0, cell) + share) / share - 0.5;
  const double spacing = (points[1] - points[0]).item<double>();
  const Tensor quantiles = points.index_select(0, cell) + spacing * inside;
  const Tensor order = rng.uniform(num_draws, quantiles).argsort();
  return quantiles.index_select(0, order).unsqueeze(1);
}

GridLaw grid_law(const LogDensity& log_density, const NoiseLevel& level, double low, double high) {
  constexpr int64_t kNumPoints = 4001;
  GridLaw law;
  law.points = at::linspace(low, high, kNumPoints, at::kDouble);
  const Tensor logs = log_density(law.points.unsqueeze(1), level);
  const double spacing = (high - low) / static_cast<double>(kNumPoints - 1);
  law.log_integral = logs.logsumexp(0).item<double>() + std::log(spacing);
  law.shares = logs.softmax(0);
  return law;
}

double log_integral(const LogDensity& log_density, const NoiseLevel& level, double count) {
  return grid_law(log_density, level).log_integral +
         0.5 * (count - 1.0) * std::log(level.alpha_bar);
}

LogNormalisers log_integrals(const LogDensity& log_density, const NoiseSchedule& schedule,
                             double count) {
  LogNormalisers table;
  for (int64_t index = 0; index < schedule.num_levels(); ++index) {
    const NoiseLevel level = schedule.level(index);
    table.log_v.push_back(std::log((1.0 - level.alpha_bar) / level.alpha_bar));
    table.value.push_back(log_integral(log_density, level, count));
  }
  return table;
}

}  // namespace motet::testing
