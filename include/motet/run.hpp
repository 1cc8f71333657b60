// From a TOML file to a report: the CLI and Python call exactly these.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "motet/anneal.hpp"
#include "motet/compose.hpp"
#include "motet/metrics.hpp"
#include "motet/train.hpp"

namespace motet {

/// One factor of the target, as the config has it: a weights file or an analytic law, and its
/// exponent.
struct TermConfig {
  std::string name;      ///< for reports
  std::string weights;   ///< path of a safetensors file; empty for analytic laws
  std::string analytic;  ///< "ring", "bar", "gaussian_mixture", "uniform_box", ...
  std::map<std::string, std::vector<double>> parameters;  ///< of the analytic law
  double exponent = 1.0;
};

/// A whole sampling run. Every field has a TOML key of the same name; docs/config.md lists them.
struct SampleConfig {
  std::vector<TermConfig> terms;
  std::string schedule = "cosine";  ///< used where no network brings its own
  int64_t num_levels = 100;
  std::string sampler =
      "hmc-4-curve";  ///< a name of sampler_names(), or "custom" with the [kernel] table
  std::string preset = "corrected";  ///< "paper" | "corrected" (method.md 4)
  int64_t num_samples = 2000;
  uint64_t seed = 0;
  int64_t tile_size = 8192;         ///< chains in memory at a time; the bits do not depend on it
  std::string compute = "float32";  ///< "reference" | "float32" | "bfloat16"
  std::string device = "cpu";
  std::string target;  ///< what to measure against: "product" or "" for none
  std::map<std::string, std::string> overrides;  ///< as given by --set, for the report
  std::string source;                            ///< the TOML text as read
  // [kernel], [ratio], [anneal]: filled from preset and sampler, then overridden key by key (see
  // parse_config).
  KernelPtr kernel;
  AnnealConfig anneal;
};

/// The table's sampler names, in its order.
const std::vector<std::string>& sampler_names();

}  // namespace motet
