// The tables of keys of the two kinds of config.
#pragma once

#include <vector>

#include "settings.hpp"

namespace motet::detail {

const std::vector<Key>& sample_keys();
const std::vector<Key>& train_keys();
/// Of the tables that read_likelihood() reads; low and high are among the laws' keys.
std::vector<Key> likelihood_keys();

}  // namespace motet::detail
