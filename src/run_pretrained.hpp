// Networks of terms: loaded from whatever their path holds, with what a checkpoint must know of
// them.
#pragma once

#include <map>
#include <string>

#include "motet/run.hpp"
#include "sample_run.hpp"

namespace motet::detail {

/// The network of a term with weights: a motet weights file, or pretrained. Throws as
/// load_weights(), network_model() and load_pretrained(); ConfigError for inputs and the like of a
/// weights file.
ModelPtr load_network(const SampleConfig& config, const TermConfig& term);

/// Hash of all that a term's files hold, inputs included, and the metadata of a weights file (of a
/// pretrained network: its kind). Throws DataError.
WeightsSource weights_source(const TermConfig& term);

}  // namespace motet::detail
