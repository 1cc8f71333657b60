// Shared by the sampling and the training run.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>

#include "motet/run.hpp"

namespace motet::detail {

using Json = nlohmann::ordered_json;

/// Wall seconds since it was made.
class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Largest resident memory of the process so far, in bytes.
int64_t peak_rss_bytes();

/// Not-a-number and infinities become null: JSON has no words for them.
Json number_or_null(double value);

/// Nested JSON of a resolved config ("kernel.step_size" -> {"kernel": {"step_size": ...}}).
Json config_to_json(const std::string& toml);

/// Keys that every JSON file of motet opens with: command, versions, commit, device, threads.
Json environment_json(const std::string& device);

/// Indented, one trailing newline.
std::string dump(const Json& json);

/// Opens and removes a file beside `path` (unless that is empty), so that an unwritable folder is
/// found before any work. Throws DataError.
void check_writable(const std::string& path);
/// The same for every path of a run, and for checkpoint.path if there is one.
void check_writable(const RunFiles& files, const CheckpointConfig& checkpoint);

/// Throws ConfigError when config.device is not there.
void check_device(const SampleConfig& config);

/// Throws ConfigError when the sampler, its mass or the metrics do not fit the target.
void check_sampler(const SampleConfig& config, const Sampler& sampler, const Model& target);

}  // namespace motet::detail
