// Watching a run, stopping it, and going on later to the same bits.
#include <torch/types.h>

#include <cstdio>
#include <optional>

#include "motet/anneal.hpp"
#include "motet/compose.hpp"
#include "motet/error.hpp"

int main() {
  const auto schedule = motet::NoiseSchedule::cosine(20);
  const auto target = motet::product({{motet::ring()}, {motet::bar()}});
  const auto kernel = std::make_shared<motet::Hmc>(motet::HmcConfig{}, motet::exact_ratio());
  motet::AnnealConfig config;
  for (int64_t index = schedule.num_levels() - 1; index >= 0; --index) {
    const auto level = schedule.level(index);
    config.levels.push_back({.level = level, .num_steps = 4, .step_size = 0.3 * level.sigma()});
  }
  const motet::Rng rng(7);
  const auto start = rng.split("init").normal_like(torch::empty({200, 2}));
  const auto whole = motet::anneal(target, schedule, kernel, config, start, rng);

  // The observer sees the state after every step; returning false ends the run with Interrupted.
  std::optional<motet::AnnealState> saved;
  const auto stop_at_half = [&](const motet::AnnealState& state) {
    saved = state;
    return state.level_position < 10;
  };
  try {
    motet::anneal(target, schedule, kernel, config, start, rng, stop_at_half);
    return 1;  // not reached: the observer stopped the run
  } catch (const motet::Interrupted& stop) {
    std::printf("%s\n", stop.what());
  }

  const auto resumed = motet::anneal(target, schedule, kernel, config, start, rng, {}, &*saved);
  for (const auto& level : resumed.levels) {
    std::printf("level %2ld  acceptance %.3f\n", static_cast<long>(level.index),
                level.acceptance());
  }
  return torch::equal(whole.x, resumed.x) ? 0 : 1;
}
