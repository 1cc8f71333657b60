// A product of two Gaussians has a closed form: sample it by annealed HMC and compare.
//
// At the last level each factor is N(sqrt(abar) m, abar s^2 + sigma^2); precisions of a product
// add.
#include <torch/types.h>

#include <cmath>
#include <cstdio>

#include "motet/anneal.hpp"
#include "motet/compose.hpp"

namespace {

motet::AnalyticPtr gaussian(double mean, double sd) {
  const auto options = torch::kFloat64;
  return motet::gaussian_mixture(torch::ones({1}, options), torch::full({1, 1}, mean, options),
                                 torch::full({1, 1}, sd, options), "gaussian");
}

}  // namespace

int main() {
  const auto schedule = motet::NoiseSchedule::cosine(20);
  const auto target = motet::product({{gaussian(-0.5, 0.4)}, {gaussian(1.0, 0.6), 2.0}});

  motet::AnnealConfig config;
  for (int64_t index = schedule.num_levels() - 1; index >= 0; --index) {
    const auto level = schedule.level(index);
    config.levels.push_back({.level = level, .num_steps = 5, .step_size = 0.2});
  }
  const auto kernel = std::make_shared<motet::Hmc>(motet::HmcConfig{}, motet::exact_ratio());

  motet::Rng rng(1);
  const int64_t num_chains = 4000;
  const auto start = rng.split("init").normal_like(torch::empty({num_chains, 1}, torch::kFloat64));
  const auto result = motet::anneal(target, schedule, kernel, config, start, rng);

  const auto level = schedule.level(0);
  const auto variance = [&](double sd) { return level.alpha_bar * sd * sd + 1 - level.alpha_bar; };
  const double precision = 1 / variance(0.4) + 2 / variance(0.6);
  const double mean =
      std::sqrt(level.alpha_bar) * (-0.5 / variance(0.4) + 2 * 1.0 / variance(0.6)) / precision;
  const double sd = 1 / std::sqrt(precision);
  const double sampled_mean = result.x.mean().item<double>();
  const double sampled_sd = result.x.std().item<double>();
  std::printf("mean %.4f (exact %.4f)   sd %.4f (exact %.4f)\n", sampled_mean, mean, sampled_sd,
              sd);

  const double error = sd / std::sqrt(static_cast<double>(num_chains));
  const bool agrees =
      std::abs(sampled_mean - mean) < 5 * error && std::abs(sampled_sd - sd) < 5 * error;
  return agrees ? 0 : 1;
}
