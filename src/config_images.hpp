// Images in a training config: the data, and the networks by their own names.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "motet/run_config.hpp"
#include "settings.hpp"

namespace motet::detail {

/// Keys of [data] that images have: a file of them, padding, flips, scenes.
std::vector<Key> image_data_keys();
/// Keys of [network] for "unet" and "encoder_unet".
std::vector<Key> image_network_keys();

/// Fills the parts of `data` that are about images; paths are taken from `directory`. Throws
/// ConfigError for keys of other data.
void read_image_data(const Settings& settings, const std::string& directory, DataConfig& data);
/// The network where its architecture is one of images. Throws ConfigError for keys of other
/// architectures and settings of training that it does not have.
std::optional<ImageNetwork> read_image_network(const Settings& settings, const DataConfig& data);

}  // namespace motet::detail
