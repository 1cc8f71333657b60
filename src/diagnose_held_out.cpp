// The held-out test: the sampler on a composition whose law is known. Factor i is diffused from
// N(m_i, s_i^2), so at every level the product with exponents a_i is the Gaussian
//   precision  P = sum_i a_i / v_i,  v_i = abar s_i^2 + sigma^2  (each coordinate its own),
//   mean       sum_i a_i sqrt(abar) m_i / v_i / P.
// The scales are chosen so that at the plan's last level its standard deviation is about the
// target's local scale: the plan's step sizes are as coarse for it as for the target.
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "diagnose_detail.hpp"
#include "motet/compose.hpp"
#include "motet/error.hpp"
#include "preset_start.hpp"

namespace motet::detail {
namespace {

constexpr int64_t kNumIslands = 16;
constexpr int64_t kMaxCoordinates = 16;  // measured, at even spacing
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kMinAcceptance = 0.3;  // below, means of exp(log_accept) hang on rare proposals

struct Factor {
  double exponent;
  Tensor mean;  // (d) float64
  Tensor sd;    // (d) float64
  ModelPtr model;
};

ModelPtr without_density(const ModelPtr& model) {
  return from_callable(
      [model](const Tensor& x, const NoiseLevel& level) {
        Eval eval;
        eval.score = model->evaluate(x, level).score;
        return eval;
      },
      model->event_shape(), /*is_exact=*/false, model->describe());
}

// Means and widths differ between factors and coordinates, so that no symmetry hides an error.
// Factors with negative exponents are twice as wide: then P > 0 wherever the exponents' sum is.
std::vector<Factor> make_factors(const std::vector<double>& exponents, int64_t d, double sd,
                                 bool is_exact) {
  std::vector<Factor> factors;
  for (size_t i = 0; i < exponents.size(); ++i) {
    const auto shift = static_cast<int64_t>(i);
    const Tensor place = at::arange(shift, shift + d, at::kDouble);
    Factor factor;
    factor.exponent = exponents[i];
    factor.sd = (1.0 + 0.25 * at::remainder(place, 3.0)) * (exponents[i] < 0.0 ? 2.0 * sd : sd);
    factor.mean = (at::remainder(place, 2.0) - 0.3) * sd;
    factor.model = gaussian_mixture(at::ones({1}, at::kDouble), factor.mean.unsqueeze(0),
                                    factor.sd.unsqueeze(0), "gaussian " + std::to_string(i + 1));
    factor.model = is_exact ? factor.model : without_density(factor.model);
    factors.push_back(std::move(factor));
  }
  return factors;
}

struct Law {
  Tensor mean;  // (d) float64
  Tensor sd;
};

Law law_at(const std::vector<Factor>& factors, const NoiseLevel& level) {
  Tensor precision = at::zeros_like(factors.front().mean);
  Tensor weighted = precision.clone();
  for (const Factor& factor : factors) {
    const Tensor variance = level.alpha_bar * factor.sd.square() + (1.0 - level.alpha_bar);
    precision += factor.exponent / variance;
    weighted += factor.exponent * std::sqrt(level.alpha_bar) * factor.mean / variance;
  }
  return {weighted / precision, precision.rsqrt()};
}

// One quantity whose expectation under the law is 0, one column a comparison: its mean over
// islands, and the normal score of that.
struct Comparison {
  double max_abs_z = 0.0;
  double max_abs_mean = 0.0;
};

Comparison compare(const Tensor& errors) {
  const auto num_columns = errors.size(1);
  const Tensor islands = errors.view({kNumIslands, -1, num_columns}).mean(1);
  Comparison worst;
  for (int64_t j = 0; j < num_columns; ++j) {
    const Estimate estimate = over_islands(islands.select(1, j));
    if (!std::isfinite(estimate.value)) {
      return {kInfinity, kInfinity};  // a chain broke: the worst there is
    }
    const double t = estimate.value / std::max(estimate.standard_error, 1e-300);
    const double z = std::abs(z_of_student(t, static_cast<double>(kNumIslands - 1)));
    worst.max_abs_z = std::max(worst.max_abs_z, z);
    worst.max_abs_mean = std::max(worst.max_abs_mean, std::abs(estimate.value));
  }
  return worst;
}

// Weights of mean 1 in every island; undefined where all are equal.
Tensor island_weights(const Tensor& log_weights) {
  if (!log_weights.defined()) {
    return {};
  }
  const Tensor islands = log_weights.to(at::kCPU, at::kDouble).view({kNumIslands, -1});
  return (at::softmax(islands, 1) * static_cast<double>(islands.size(1))).view({-1, 1});
}

void compare_moments(const SampleResult& run, const Law& law, HeldOutTest& result) {
  const Tensor weights = island_weights(run.log_weights);
  const auto weighted = [&](const Tensor& errors) {
    return weights.defined() ? errors * weights : errors;
  };
  const Tensor points = run.x.flatten(1);
  const int64_t d = points.size(1);
  const int64_t num_coordinates = std::min(d, kMaxCoordinates);
  const Tensor chosen = at::arange(num_coordinates) * d / num_coordinates;
  const Tensor kept = chosen.to(at::kLong);
  const Tensor scaled =
      ((points.to(at::kCPU, at::kDouble) - law.mean) / law.sd).index_select(1, kept);
  const Comparison mean = compare(weighted(scaled));
  Tensor covariance = scaled.square() - 1.0;
  if (num_coordinates > 1) {
    const Tensor products =
        scaled.narrow(1, 0, num_coordinates - 1) * scaled.narrow(1, 1, num_coordinates - 1);
    covariance = at::cat({covariance, products}, 1);
  }
  const Comparison second = compare(weighted(covariance));
  result.max_abs_z_mean = mean.max_abs_z;
  result.max_abs_z_covariance = second.max_abs_z;
  result.max_mean_error = mean.max_abs_mean;
  result.max_covariance_error = second.max_abs_mean;
  const auto num_comparisons = static_cast<double>(scaled.size(1) + covariance.size(1));
  const double p = p_of_z(std::max(mean.max_abs_z, second.max_abs_z));
  result.p_value = std::min(1.0, num_comparisons * p);
}

// The Metropolis test alone, from exact draws: no annealing error can hide or feign anything.
void check_balance(const ModelPtr& model, const std::vector<Factor>& factors,
                   const Sampler& sampler, const DiagnoseConfig& config, const Rng& rng,
                   HeldOutTest& result) {
  double worst = -1.0;
  for (const LevelPlan& plan : sampler.anneal.levels) {
    if (plan.num_steps == 0) {
      continue;
    }
    const Law law = law_at(factors, plan.level);
    Rng draw = rng.split("balance").at(plan.level.index, 0);
    const Tensor like = at::empty({config.num_held_out, law.mean.size(0)}, at::kDouble);
    const Tensor x = (law.mean + law.sd * draw.normal_like(like)).to(config.device, at::kFloat);
    const Target target(model, plan.level);
    const Step step =
        sampler.kernel->step(target, {x, target.evaluate(x), {}}, plan.step_size, draw);
    if (step.info.accepted.to(at::kDouble).mean().item<double>() < kMinAcceptance) {
      continue;
    }
    ++result.num_balance_levels;
    const Estimate residual = balance_residual(step.info.log_accept);
    const double z = std::abs(residual.value) / std::max(residual.standard_error, 1e-12);
    if (z > worst) {
      worst = z;
      result.balance = residual;
      result.balance_level = plan.level.index;
    }
  }
}

std::vector<double> used_exponents(const DiagnoseConfig& config) {
  std::vector<double> used;
  std::copy_if(config.exponents.begin(), config.exponents.end(), std::back_inserter(used),
               [](double exponent) { return exponent != 0.0; });
  return used;
}

// "" when the test can be run.
std::string reason_to_skip(const DiagnoseConfig& config, double total, double scale) {
  if (config.num_held_out == 0) {
    return "no chains were asked for";
  }
  if (!(total > 0.0)) {
    return "the exponents add up to no more than 0, so that no composition of Gaussians is a law "
           "at "
           "high noise";
  }
  return std::isfinite(scale) ? "" : "no score of the target is finite at the last level";
}

ModelPtr product_of(const std::vector<Factor>& factors) {
  std::vector<Term> terms;
  for (const Factor& factor : factors) {
    terms.push_back({factor.model, factor.exponent});
  }
  return product(std::move(terms));
}

// Standard deviation of the factors' data for which the product is about `scale` wide at `level`.
double data_sd(double scale, double total, const NoiseLevel& level) {
  const double noise = 1.0 - level.alpha_bar;
  const double variance = (scale * scale * total - noise) / level.alpha_bar;
  constexpr double kWidest = 1.0;  // data are of about unit scale
  return std::sqrt(std::clamp(variance, noise / 16.0, kWidest));
}

}  // namespace

HeldOutTest held_out_test(const Model& target, const NoiseSchedule& schedule,
                          const Sampler& sampler, double scale, const DiagnoseConfig& config,
                          const Rng& rng, const std::function<bool(double)>& observer) {
  HeldOutTest result;
  const std::vector<double> exponents = used_exponents(config);
  double total = 0.0;
  for (const double exponent : exponents) {
    total += exponent;
  }
  result.skipped = reason_to_skip(config, total, scale);
  if (!result.skipped.empty()) {
    return result;
  }
  const int64_t d = c10::multiply_integers(target.event_shape());
  const NoiseLevel last = sampler.anneal.levels.back().level;
  const bool is_exact = target.is_exact() || sampler.needs_energy;
  const std::vector<Factor> factors =
      make_factors(exponents, d, data_sd(scale, total, last), is_exact);
  const ModelPtr model = product_of(factors);
  result.target = model->describe();
  result.num_islands = kNumIslands;
  result.num_chains = config.num_held_out / kNumIslands * kNumIslands;

  Sampler same = sampler;
  same.anneal.last_map = LastMap::none;  // whose law is known only for isotropic modes
  for (LevelPlan& plan : same.anneal.levels) {
    plan.mass = Tensor();  // of the target's own widths; the factors are about as wide all round
  }
  if (same.anneal.weights) {
    same.anneal.weights->island_size = result.num_chains / kNumIslands;
  }
  const Tensor x_init = starting_points(*model, same, result.num_chains, config.device, rng);
  const auto num_levels = static_cast<double>(same.anneal.levels.size());
  const Observer watch = [&](const AnnealState& state) {
    return !observer || observer(static_cast<double>(state.level_position) / num_levels);
  };
  const SampleResult run = anneal(model, schedule, same.kernel, same.anneal, x_init, rng, watch);
  compare_moments(run, law_at(factors, last), result);
  if (same.kernel != nullptr && same.kernel->is_adjusted()) {
    check_balance(model, factors, same, config, rng, result);
  }
  return result;
}

}  // namespace motet::detail
