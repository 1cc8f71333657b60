// The benchmark in a few lines: compose ring x bar, sample it by two methods, compare.
#include <torch/types.h>

#include <cstdio>
#include <string>

#include "motet/anneal.hpp"
#include "motet/compose.hpp"
#include "motet/preset.hpp"

namespace {

torch::Tensor sample(const std::string& sampler) {
  // Factors: exact laws here; a trained network is network_model(load_weights(path), name).
  const auto target = motet::product({{motet::ring()}, {motet::bar()}});
  const auto schedule = motet::NoiseSchedule::cosine(100);
  const auto recipe = motet::make_sampler(sampler, "corrected", schedule);

  const motet::Rng rng(/*seed=*/1);
  const auto start = rng.split("init").normal_like(torch::empty({500, 2}));
  const auto result = motet::anneal(target, schedule, recipe.kernel, recipe.anneal, start, rng);
  return result.x;  // (500, 2); row i has the same bits in any batch
}

// Share of the points that lie within 5 standard deviations of one of the product's two modes.
double on_mode(const torch::Tensor& x) {
  const auto y = x.select(1, 1).abs() - 0.5;
  return (x.select(1, 0).square() + y.square() < 0.15 * 0.15)
      .to(torch::kFloat64)
      .mean()
      .item<double>();
}

}  // namespace

int main() {
  const double reverse = on_mode(sample("reverse"));
  const double hmc = on_mode(sample("hmc-4-curve"));
  std::printf("on the modes: reverse %.3f, hmc %.3f\n", reverse, hmc);
  return hmc > reverse ? 0 : 1;
}
