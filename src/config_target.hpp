// What a config samples: its [model.NAME] tables and the expression that composes them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "motet/run.hpp"
#include "settings.hpp"

namespace motet::detail {

struct TargetSettings {
  std::string target;                      ///< as SampleConfig::target
  std::optional<TapestryConfig> tapestry;  ///< as SampleConfig::tapestry
  std::vector<TermConfig> terms;           ///< as SampleConfig::terms
};
/// Reads `target` and the [model.*] tables; opens no weights file. Tables that a target given by an
/// override (--target, --set) does not use are dropped from `settings`. Throws ConfigError for
/// tables that are no factor, expressions that cannot be parsed, names that stand for nothing,
/// expressions that lead back to themselves, and tables that a target of the file does not use.
TargetSettings read_target(Settings& settings, const std::string& directory);

/// The names of the laws that an expression may use without a table.
std::vector<std::string> named_laws();

/// Settings ("target=...") that give a config's expressions with the quoted file names that `rename`
/// makes of them; none for a config without quoted files.
std::vector<std::string> renamed_files(
    const SampleConfig& config, const std::function<std::string(const std::string&)>& rename);

}  // namespace motet::detail
