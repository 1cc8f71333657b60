// `motet diagnose`: a sampling config to a verdict, as JSON and as a page.
#pragma once

#include <string>

#include "motet/diagnose.hpp"
#include "motet/run.hpp"

namespace motet {

/// A finished diagnosis.
struct DiagnoseReport {
  std::string json;  ///< every number; the verdict under the key "diagnosis"
  Diagnosis diagnosis;
};

/// Diagnoses the config's sampler on the config's target with the config's seed: with config.seed
/// the pilot's chains are the first ones of that run. `settings.exponents` and `device` are taken
/// from the config. Writes files.json and files.report (others are ignored). Throws as run() and
/// diagnose(); nothing is kept when it is stopped.
DiagnoseReport run_diagnose(const SampleConfig& config, const DiagnoseConfig& settings = {},
                            const RunFiles& files = {}, const RunHooks& hooks = {});

/// One self-contained HTML page: lights and sentences, curves along the levels, the path
/// dependence's histogram, every number.
std::string diagnose_page(const DiagnoseReport& report);

}  // namespace motet
