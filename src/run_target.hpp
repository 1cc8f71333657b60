// Loading and composing a config's target.
#pragma once

#include "motet/expression.hpp"
#include "motet/run.hpp"

namespace motet::detail {

/// load_target() with another way to find the normalisers of products in mixtures.
ModelPtr compose_target(const SampleConfig& config, const Normaliser& normaliser);

}  // namespace motet::detail
