// Loading and composing a config's target.
#pragma once

#include <functional>

#include "motet/expression.hpp"
#include "motet/metrics.hpp"
#include "motet/run.hpp"

namespace motet::detail {

/// load_target() with another way to find the normalisers of products in mixtures.
ModelPtr compose_target(const SampleConfig& config, const Normaliser& normaliser);

/// The model that an expression of the config's terms says.
using BuildExpression = std::function<ModelPtr(const std::string& text)>;
/// The windows of config.tapestry on their canvas. Throws as tapestry(), and ConfigError for a grid
/// of windows of different sizes.
ModelPtr compose_tapestry(const SampleConfig& config, const BuildExpression& build);
/// Where the windows of a tapestry lie; none for other targets.
std::vector<WindowPlace> window_places(const Model& target);

/// Those of `levels` at which the target's score, ten standard deviations of the data or more from
/// the middle, points away from it in some direction: no law falls off there. 1 evaluation a level.
/// Nothing for targets that track log densities.
std::vector<int64_t> outward_levels(const ModelPtr& target, const NoiseSchedule& schedule,
                                    const std::vector<int64_t>& levels, const std::string& device);

/// A sentence for each factor of the target that is guidance of another scale than the conditional
/// law's, or a likelihood to another power than 1: it is then another target. None for other targets.
std::vector<std::string> guidance_notes(const SampleConfig& config);

/// "level 3", "levels 3, 5".
std::string levels_text(const std::vector<int64_t>& levels);

/// A target that divides may be no law. Throws ConfigError where it is none at a level of the plan,
/// as far as its score far out tells: for exact leaves only, since networks are not trained there.
void check_exists(const SampleConfig& config, const ModelPtr& target, const NoiseSchedule& schedule,
                  const AnnealConfig& plan);

}  // namespace motet::detail
