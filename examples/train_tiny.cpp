// Train a small network on the two moons, save it, load it again, and sample from it.
//
// usage: example_train_tiny [WEIGHTS]   (default: train_tiny.safetensors in the current folder)
#include <torch/types.h>

#include <cstdio>
#include <string>

#include "motet/io.hpp"
#include "motet/metrics.hpp"
#include "motet/preset.hpp"
#include "motet/train.hpp"

int main(int argc, char** argv) {
  const std::string path = argc > 1 ? argv[1] : "train_tiny.safetensors";
  const auto moons = motet::builtin_data("moons");
  motet::TrainConfig config;
  config.network.width = 64;
  config.network.num_blocks = 2;
  config.num_steps = 600;
  config.batch_size = 512;
  config.learning_rate = 2e-3;
  config.ema_decay = 0.98;
  config.held_out_every = 200;
  config.held_out_size = 1000;

  const auto state = motet::train(config, *moons);
  for (const auto& held_out : state.held_out) {
    std::printf("step %4ld  held-out loss %.4f\n", static_cast<long>(held_out.step), held_out.mean);
  }
  motet::save_weights(path, motet::trained_weights(config, state, *moons));

  const auto model = motet::network_model(motet::load_weights(path), "moons");
  const auto recipe = motet::make_sampler("reverse", "corrected", config.schedule);
  const motet::Rng rng(1);
  const auto start = rng.split("init").normal_like(torch::empty({500, 2}));
  const auto result =
      motet::anneal(model, config.schedule, recipe.kernel, recipe.anneal, start, rng);

  // Far nearer to the data than the noise that the chains started from.
  auto data_rng = rng.split("data");
  const auto data = moons->sample(500, data_rng);
  const double from_samples = motet::energy_distance(result.x, data);
  const double from_noise = motet::energy_distance(start, data);
  std::printf("energy distance to the data: samples %.4f, noise %.4f\n", from_samples, from_noise);
  return from_samples < 0.1 * from_noise ? 0 : 1;
}
