// From a TOML file to numbers on disk: the command line and Python call exactly these.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "motet/anneal.hpp"
#include "motet/compose.hpp"
#include "motet/metrics.hpp"
#include "motet/preset.hpp"
#include "motet/run_config.hpp"
#include "motet/train.hpp"

namespace motet {

/// Where a run stands; given to RunHooks::progress after every step.
struct Progress {
  std::string phase;      ///< "sample" or "train"
  double fraction = 0.0;  ///< of the steps, in [0, 1]
  int64_t step = 0;       ///< done since the run began, before any interruption too
  int64_t num_steps = 0;  ///< in all
  double seconds = 0.0;   ///< since this process began the run
  double steps_per_second = 0.0;
  double seconds_left = 0.0;  ///< at the rate so far
  int64_t level = -1;         ///< sampling: the noise level
  /// Sampling: of the level before `level` in the plan, whose counts are complete (those of `level`
  /// are still on the device). NaN at the first level, where that one had no MCMC steps, for
  /// kernels without a Metropolis test, and in training.
  double acceptance = std::numeric_limits<double>::quiet_NaN();
  double loss = std::numeric_limits<double>::quiet_NaN();  ///< training: of this step; else NaN
};

/// Called while a run works; both may be empty.
struct RunHooks {
  std::function<void(const Progress&)> progress;
  /// True: write the checkpoint, then throw Interrupted. Asked after every step.
  std::function<bool()> should_stop;
};

/// Files of a run; an empty path is not written. All are written atomically.
struct RunFiles {
  /// .npy float32 (N, *event), chain i in row i. With weights.resampling = "none" the final log
  /// weights, float64 (N), go beside it into log_weights_path().
  std::string samples;
  std::string json;     ///< every number of the run
  std::string report;   ///< one self-contained HTML page
  std::string weights;  ///< training: .safetensors, or a folder of a network of images
  /// .png of the first samples; events must be images (1 or 3, H, W).
  std::string picture;
  bool resume = false;  ///< continue the checkpoint, to the same bits as an uninterrupted run
};

/// A finished sampling run.
struct RunReport {
  std::string json;  ///< as written to RunFiles::json
  Tensor samples;    ///< (min(num_samples, metrics_num_samples), *event) float32: the first chains
  Tensor reference;  ///< as many exact samples of the target, float64; undefined without metrics
  /// (rows of samples) float64; undefined unless weights.resampling is "none": what the samples
  /// stand for only together with these.
  Tensor log_weights;
  /// Of image events: the first chains on entering some levels and at the end, float32
  /// (positions, chains, C, H, W), NaN where a run that was resumed did not see them; else undefined.
  Tensor evolution;
  std::vector<int64_t> evolution_levels;  ///< of its positions; -1: the samples
};
/// "x.npy" -> "x.log_weights.npy".
std::string log_weights_path(const std::string& samples);

/// A finished training run.
struct TrainReport {
  std::string json;
  Weights weights;  ///< of a network of images only its provenance
};

/// The config's models as one target; `describe()` of it lands in the report. Sampler "exact" ramps
/// factors that divide where exponents sum to 0 or less; products in mixtures are normalised by
/// pilot runs. Throws DataError, ConfigError, ShapeError.
ModelPtr load_target(const SampleConfig& config);
/// What `motet info --target` prints: the target's tree, which densities are known, how the sampler
/// accepts, what a step costs, whether the target is a law as far as can be told. Loads the models;
/// some hundred evaluations. Throws as load_target() and resolve_sampler().
std::string describe_target(const SampleConfig& config);
/// The schedule that the target was trained for, else the config's, else cosine(100). Throws
/// ConfigError when the two differ.
NoiseSchedule choose_schedule(const SampleConfig& config, const Model& target);
/// The config's sampler on `schedule`, its overrides applied; a plan whose step sizes are still to
/// be found has anneal.adapt set. Throws ConfigError naming the key.
Sampler resolve_sampler(const SampleConfig& config, const ModelPtr& target,
                        const NoiseSchedule& schedule);

/// A config whose sampler is fixed: what a pilot run found is in `overrides`, and `toml` says how.
/// `directory`: where the config will lie; its weights are named relative to it. Throws ConfigError
/// when the sampler leaves nothing open, and as run().
SampleConfig tuned_config(const SampleConfig& config, const std::string& directory,
                          const RunHooks& hooks = {});

/// Samples, measures and writes `files`. Memory is bounded by tile_size, not by num_samples.
/// Throws, before any work, ConfigError and ShapeError (models and sampler that do not fit, a
/// checkpoint of another config) and DataError (a file); then NumericalError, Interrupted (after
/// the checkpoint was written if a file names it; its text says how to go on).
RunReport run(const SampleConfig& config, const RunFiles& files = {}, const RunHooks& hooks = {});
/// Trains and writes `files`; throws as run().
TrainReport run_train(const TrainJob& job, const RunFiles& files = {}, const RunHooks& hooks = {});

/// "0.1.0", the commit it was built from ("-dirty" with local changes, "unknown" outside git), and
/// torch's version.
std::string version();
std::string commit();
std::string torch_version();

}  // namespace motet
