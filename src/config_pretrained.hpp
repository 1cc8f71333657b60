// What a [model.NAME] table says of a network of other people's.
#pragma once

#include <string>
#include <vector>

#include "motet/run_config.hpp"
#include "settings.hpp"

namespace motet::detail {

/// The keys of a pretrained network under `prefix` ("model.*").
std::vector<Key> pretrained_keys(const std::string& prefix);
/// Those of the table under `prefix` ("model.y."), called `name`; files are taken from `directory`.
/// Throws ConfigError where the table has no weights, and for an input that is neither a number nor
/// a .npy or .safetensors file.
PretrainedConfig read_pretrained(const Settings& settings, const std::string& prefix,
                                 const std::string& name, const std::string& directory);
/// Whether an expression may name such a file or folder in quotes: .safetensors, .ts, .pt2, .eqx, or a
/// folder, which has no dot in its name or a / at its end.
bool is_weights_name(const std::string& path);

}  // namespace motet::detail
