// The demonstration: one composition, six samplers, one page.
#pragma once

#include <string>
#include <vector>

#include "motet/run.hpp"

namespace motet {

struct DemoConfig {
  std::string models = "models";  ///< folder of ring.safetensors and bar.safetensors
  std::string out = "out/demo";   ///< folder of report.html, product.svg and one .json a sampler
  int64_t num_samples = 2000;
  uint64_t seed = 1;
  std::string preset = "corrected";
  std::string compute = "bfloat16";  ///< fast where the CPU has AMX, float32's rates elsewhere
  std::vector<std::string> samplers = {"reverse", "u-la",        "la-3-line",
                                       "u-hmc",   "hmc-4-curve", "exact"};
};

struct DemoRow {
  std::string sampler;
  std::string json;  ///< as run() gives it
};
struct DemoResult {
  std::vector<DemoRow> rows;
  ProductMetrics exact;  ///< of exact samples against other exact samples: what no sampler can beat
  std::string report;    ///< path of the page
};

/// Composes ring x bar, samples it with each sampler, writes `out`/report.html, the picture
/// `out`/product.svg (exact samples, the first and the last sampler) and a JSON a sampler.
/// `started` is called with each sampler's name before its run. Throws as run(); keeps no
/// checkpoint, and the text of Interrupted says so.
DemoResult demo(const DemoConfig& config, const RunHooks& hooks = {},
                const std::function<void(const std::string&)>& started = {});

}  // namespace motet
