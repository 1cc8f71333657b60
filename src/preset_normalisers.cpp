// The integral of a product at each level. With Z_a at level a, the weights of a run that starts at
// the product's law there have mean Z_b / Z_a at level b; at high noise the product is the Gaussian
//   prod (2 pi v)^{-d a_i / 2} exp(-A |z|^2 / 2v),  Z = (2 pi v)^{d (1 - C) / 2} A^{-d / 2},
// z = x / sqrt(abar), v = (1 - abar) / abar, A the sum of exponents, C the densities counted.
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "anneal_weights.hpp"
#include "compose_tree.hpp"
#include "motet/preset.hpp"
#include "preset_start.hpp"

namespace motet {
namespace {

double log_integral_at_high_noise(const ModelPtr& target, const NoiseLevel& level) {
  const auto d = static_cast<double>(c10::multiply_integers(target->event_shape()));
  const double count = detail::density_count(detail::tree_of(target).root, level);
  const double exponent = total_exponent(*target, level);
  return 0.5 * d *
         ((1.0 - count) * (std::log(2.0 * std::numbers::pi) + detail::log_v(level)) -
          std::log(exponent));
}

// Islands are independent: log of the mean over them, and its standard error.
std::pair<double, double> mean_of_islands(const Tensor& log_means) {
  const double mean =
      log_means.logsumexp(0).item<double>() - std::log(static_cast<double>(log_means.size(0)));
  const Tensor relative = (log_means - mean).exp();
  const auto count = static_cast<double>(log_means.size(0));
  const double error =
      log_means.size(0) > 1 ? relative.std().item<double>() / std::sqrt(count) : 0.0;
  return {mean, error};
}

// As many levels as the budget's plan has, but from high noise on, where the integral is known.
Sampler normaliser_sampler(const ModelPtr& target, const NoiseSchedule& schedule,
                           const NormaliserConfig& config, const Rng& rng,
                           const std::string& device) {
  Sampler sampler =
      make_exact_sampler(target, schedule, {.evaluations = config.evaluations}, rng, device);
  WeightConfig& weights = *sampler.anneal.weights;
  weights.island_size = std::max<int64_t>(config.num_chains / 8, 2);
  weights.max_share = 0.0;  // cut weights would lose part of the mean
  sampler.anneal.last_map = LastMap::none;
  return sampler;
}

}  // namespace

LogNormalisers measure_normalisers(const ModelPtr& target, const NoiseSchedule& schedule,
                                   const NormaliserConfig& config, const Rng& rng,
                                   const std::string& device, double* standard_error) {
  constexpr int64_t kPilotChains = 512;
  Sampler sampler = normaliser_sampler(target, schedule, config, rng, device);
  const auto start = [&](int64_t count, const Rng& draws) {
    return detail::starting_points(*target, sampler, count, device, draws);
  };
  AnnealConfig pilot = sampler.anneal;
  pilot.weights->island_size = kPilotChains;
  const Rng pilot_rng = rng.split("pilot");
  const TuneResult tuned =
      tune(target, schedule, sampler.kernel, pilot, start(kPilotChains, pilot_rng), pilot_rng);
  AnnealConfig plan = tuned.config;
  plan.weights->island_size = sampler.anneal.weights->island_size;
  const double first = log_integral_at_high_noise(target, plan.levels.front().level);
  LogNormalisers table;
  double error = 0.0;
  const Observer watch = [&](const AnnealState& state) {
    if (state.step == 0 && state.level_position > 0) {
      const size_t position = static_cast<size_t>(state.level_position) - 1;
      const Tensor here =
          state.log_normalisers + detail::log_means(state.log_weights, plan.weights->island_size);
      const auto [mean, spread] = mean_of_islands(here);
      table.log_v.push_back(detail::log_v(plan.levels[position].level));
      table.value.push_back(first + mean);
      error = spread;
    }
    return true;
  };
  const Rng run_rng = rng.split("run");
  anneal(target, schedule, sampler.kernel, plan, start(config.num_chains, run_rng), run_rng, watch);
  std::reverse(table.log_v.begin(), table.log_v.end());
  std::reverse(table.value.begin(), table.value.end());
  if (standard_error != nullptr) {
    *standard_error = error;
  }
  return table;
}

}  // namespace motet
