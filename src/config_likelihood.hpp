// A [model.NAME] table that conditions the others instead of being a factor.
#pragma once

#include <string>

#include "motet/likelihood.hpp"
#include "settings.hpp"

namespace motet::detail {

/// The likelihood under `prefix` ("model.obs."), called `name`; null when the table has no key
/// likelihood. `directory` is what a file named in the table is relative to. Throws ConfigError for
/// keys of another likelihood or of a law, keys that are missing and values that do not fit;
/// DataError as read_npy().
LikelihoodPtr read_likelihood(const Settings& settings, const std::string& prefix,
                              const std::string& name, const std::string& directory);

}  // namespace motet::detail
