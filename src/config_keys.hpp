// The tables of keys of the two kinds of config.
#pragma once

#include <vector>

#include "settings.hpp"

namespace motet::detail {

const std::vector<Key>& sample_keys();
const std::vector<Key>& train_keys();

}  // namespace motet::detail
