// Your own function as a model: here a score without a known density, sampled with a Metropolis
// test.
//
// The double well p(x) ~ exp(-2 (x^2 - 1)^2). The sampler is told the score alone; the test's log
// ratio is its line integral by Gauss-Lobatto, whose 4 points integrate this cubic exactly.
#include <torch/types.h>

#include <cmath>
#include <cstdio>

#include "motet/anneal.hpp"

namespace {

double exact_second_moment() {
  double mass = 0;
  double moment = 0;
  for (double x = -4; x < 4; x += 1e-3) {
    const double p = std::exp(-2 * (x * x - 1) * (x * x - 1));
    mass += p;
    moment += x * x * p;
  }
  return moment / mass;
}

}  // namespace

int main() {
  const auto score = [](const torch::Tensor& x, const motet::NoiseLevel&) {
    const torch::Tensor s = -8.0 * x * (x * x - 1.0);
    return motet::Eval{.score = s, .log_density = {}, .remainder = s};
  };
  const auto model = motet::from_callable(score, {1}, /*is_exact=*/false, "double well");

  // One level is enough: this law needs no annealing.
  const auto schedule = motet::NoiseSchedule::cosine(1);
  motet::AnnealConfig config;
  config.levels = {{.level = schedule.level(0), .num_steps = 200, .step_size = 0.05}};
  const auto ratio = motet::line_ratio(4, motet::LineRule::gauss_lobatto);
  const auto kernel = std::make_shared<motet::Mala>(ratio);

  motet::Rng rng(1);
  // Not from far out: there this score is so steep that every Langevin proposal overshoots.
  const auto start = 0.5 * rng.split("init").normal_like(torch::empty({4000, 1}, torch::kFloat64));
  const auto result = motet::anneal(model, schedule, kernel, config, start, rng);

  const torch::Tensor squares = result.x * result.x;
  const double error = squares.std().item<double>() / std::sqrt(4000.0);
  const double sampled = squares.mean().item<double>();
  std::printf("<x^2> %.4f +- %.4f (exact %.4f), acceptance %.2f\n", sampled, error,
              exact_second_moment(), result.levels[0].acceptance());
  return std::abs(sampled - exact_second_moment()) < 5 * error ? 0 : 1;
}
