// Where a sampler's chains begin.
#pragma once

#include <string>

#include "motet/preset.hpp"

namespace motet::detail {

/// Standard deviations of a composition's coordinates at high noise over the largest of them, which
/// is start_sd(): float64, () where all are alike, else (*event).
Tensor relative_start_sds(const Model& target, const NoiseLevel& level);

/// num_chains draws of N(0, sampler.start_sd^2 I), narrower where start_sd is the composition's and
/// coordinates are under larger exponents, (B, *event) float32 on `device`, from
/// rng.split("init").
Tensor starting_points(const Model& target, const Sampler& sampler, int64_t num_chains,
                       const std::string& device, const Rng& rng);

}  // namespace motet::detail
