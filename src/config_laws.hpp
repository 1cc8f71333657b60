// Analytic laws in a config: the keys that they take in [model.NAME] and [data], and reading them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "motet/model.hpp"
#include "settings.hpp"

namespace motet::detail {

/// The keys of a law under `prefix` ("model.*", "data"); `use` is the doc of the first.
std::vector<Key> law_keys(const std::string& prefix, const std::string& use);
/// A list of lists of numbers as a float64 matrix. Throws ConfigError for rows of several lengths and
/// for no entry.
at::Tensor rows_as_matrix(const Settings& settings, const std::string& name);
/// PREFIXevent_shape, sizes of an event of num_coordinates numbers; nothing where it is not given.
/// Throws ConfigError when their product is another number.
std::optional<std::vector<int64_t>> read_event_shape(const Settings& settings,
                                                     const std::string& prefix,
                                                     int64_t num_coordinates);
/// The law under `prefix` ("model.ring.", "data."), or null when none is given. Throws ConfigError
/// for parameters of another law, and for missing or ill-shaped ones.
AnalyticPtr read_law(const Settings& settings, const std::string& prefix, const std::string& name);

}  // namespace motet::detail
