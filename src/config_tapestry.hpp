// The table [tapestry] of a config: windows on a canvas, as a grid of names or one by one.
#pragma once

#include <string>
#include <vector>

#include "motet/run_config.hpp"
#include "settings.hpp"

namespace motet::detail {

std::vector<Key> tapestry_keys();

/// The table; expressions are not parsed. Throws ConfigError for a table without windows, with both
/// a grid and windows, for keys of the one that stand beside the other, and for grids with rows of
/// different lengths.
TapestryConfig read_tapestry(const Settings& settings);

/// The key that holds the expression of window `index` of read_tapestry().
std::string window_key(const Settings& settings, size_t index);

}  // namespace motet::detail
