// What the loaders of other people's networks share.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "motet/pretrained.hpp"
#include "nets/network.hpp"

namespace motet::detail {

/// A JSON object from a file of at most 16 MiB; see parse_json_object(). Errors begin with `where`.
nlohmann::json read_json_file(const std::string& path, const std::string& where);

/// Names of the regular files directly inside, sorted. Throws DataError for a folder that cannot be
/// listed.
std::vector<std::string> file_names(const std::string& folder);

/// `num_levels` of the levels, evenly spread, with their own times: level round(i (T - 1) /
/// (num_levels - 1)) of the T, as space_timesteps() of guided-diffusion takes them. 0: as it is.
/// Throws ConfigError "PREFIX num_levels = ..." outside 2 to T.
OutputSpec respaced(OutputSpec spec, int64_t num_levels, const std::string& prefix);

/// A network as its files have it, before it is bound to inputs and a device.
struct PretrainedNetwork {
  ArchitecturePtr architecture;
  OutputSpec output;
  /// What a reader of `motet info` should know beside: "clipping", "...".
  std::vector<std::pair<std::string, std::string>> notes = {};
};

/// The rows of describe_pretrained().
std::vector<std::pair<std::string, std::string>> describe_network(const PretrainedNetwork& network);

/// Throws DataError "PREFIX tensor ... has entries that are not finite" for the first such.
void check_finite(const TensorMap& tensors, const std::string& prefix);

/// The schedule, times and prediction of a scheduler_config.json of diffusers.
struct SchedulerConfig {
  OutputSpec output;
  std::string clipping;  ///< which setting clips or thresholds; empty: none
};
/// Throws DataError for what is broken, ConfigError for schedulers and settings that motet has not.
SchedulerConfig scheduler_config(const nlohmann::json& json, const std::string& where);

/// Parts of load_diffusers() that pretrained.cpp needs.
PretrainedNetwork read_diffusers(const std::string& folder);
std::vector<std::string> diffusers_files(const std::string& folder);
bool is_diffusers_folder(const std::string& folder);

/// A folder of guided-diffusion, a network or a classifier. Throws DataError.
PretrainedNetwork read_guided_diffusion(const std::string& folder);

}  // namespace motet::detail
