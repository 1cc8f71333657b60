// Where a sampler's chains begin.
#pragma once

#include <string>

#include "motet/preset.hpp"

namespace motet::detail {

/// num_chains draws of N(0, sampler.start_sd^2 I), (B, *event) float32 on `device`, from
/// rng.split("init").
Tensor starting_points(const Model& target, const Sampler& sampler, int64_t num_chains,
                       const std::string& device, const Rng& rng);

}  // namespace motet::detail
