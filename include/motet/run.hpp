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
#include "motet/train.hpp"

namespace motet {

/// When a long run writes its checkpoint. A checkpoint is also written when the run is stopped.
struct CheckpointConfig {
  double every_seconds = 120.0;
  int64_t every_steps = 0;  ///< > 0: also after every so many steps
  /// As it is, or for configs from files relative to them; empty: the run's first output file +
  /// ".checkpoint".
  std::string path;
};

/// Classes of points: a law each, with weights in proportion to their probabilities. Empty: none.
struct Classes {
  std::vector<AnalyticPtr> laws;
  std::vector<double> weights;
};

/// A classifier as the config has it: a weights file, or classes whose laws are known.
struct ClassifierConfig {
  std::string weights;  ///< path of a safetensors file; empty: Bayes' rule over `classes`
  Classes classes;
  int64_t label = 0;  ///< the class that it stands for
};

/// One factor of the target, as the config has it: a weights file or an analytic law.
struct TermConfig {
  std::string name;     ///< for reports
  std::string weights;  ///< path of a safetensors file; empty for analytic laws
  AnalyticPtr law;      ///< null for weights files
  /// Set: not a law, but what conditions the others; weights and law are then empty.
  std::optional<ClassifierConfig> classifier;
  double exponent = 1.0;
  bool score_only = false;  ///< hide the log density
};

/// Step sizes: one constant, one a level of the plan, or factor * beta^power (power_step_size).
struct StepSizeRule {
  std::vector<double> values;
  double factor = 0.0;  ///< > 0: the power rule, `values` is empty
  double power = 0.0;
};

/// What a config changes of its named sampler; unset fields stay the sampler's.
struct SamplerOverrides {
  std::optional<std::string> kernel;  ///< "ula", "mala", "uhmc", "hmc", "hmc-unflipped"
  std::optional<int64_t> num_leapfrog;
  std::optional<double> damping;
  /// One row for all levels, or one a level of the plan.
  std::optional<std::vector<std::vector<double>>> mass;
  std::optional<std::string> ratio;                ///< "exact", "line", "curve"
  std::optional<std::string> ratio_rule;           ///< a LineRule or CurveRule, as the ratio is
  std::optional<std::vector<int64_t>> num_points;  ///< one, or one a level of the plan
  std::optional<double> guard;
  std::optional<StepSizeRule> step_size;
  std::optional<std::vector<int64_t>> steps_per_level;  ///< one, or one a level of the plan
  std::optional<std::vector<int64_t>> levels;           ///< falling
  std::optional<Placement> placement;
  std::optional<ReverseStep> reverse_step;
  std::optional<LastMap> last_map;
  std::optional<std::vector<double>> curvature;
  std::optional<std::string> start;    ///< "standard", "composition"
  std::optional<int64_t> evaluations;  ///< of sampler "exact": its budget
  std::optional<bool> weighted;
  std::optional<WeightRule> weight_rule;
  std::optional<Resampling> resampling;
  std::optional<double> ess_threshold;
  std::optional<double> max_share;
  std::optional<int64_t> island_size;
  std::optional<bool> matched;
};

/// The pilot run that finds what a sampler's plan leaves open (tune()).
struct TuneConfig {
  int64_t num_chains = 512;
  std::optional<double> target_acceptance;  ///< of AdaptConfig, as the others; unset: the sampler's
  std::optional<double> rate;
  std::optional<double> start;
  std::optional<double> cap;
  std::optional<double> tolerance;  ///< nats: of a line ratio whose number of points is open
  bool diagonal_mass = false;       ///< as AdaptConfig
  std::optional<double> max_disagreement;
};

/// A whole sampling run; docs/config.md lists the TOML keys. Made by parse_config.
struct SampleConfig {
  std::string name;  ///< of the file, for messages
  std::vector<TermConfig> terms;
  std::optional<NoiseSchedule> schedule;  ///< set: must agree with the networks'
  std::string sampler = "exact";          ///< a name of sampler_names()
  std::string preset = "corrected";       ///< a name of preset_names()
  SamplerOverrides overrides;
  TuneConfig tune;
  int64_t num_samples = 2000;
  uint64_t seed = 0;
  int64_t tile_size = 8192;  ///< chains in memory at a time; the bits do not depend on it
  Compute compute = Compute::float32;
  std::string device = "cpu";
  std::string metrics_target;          ///< "product", or "" for none
  int64_t metrics_num_samples = 2000;  ///< chains measured, the first ones; W2 costs their cube
  CheckpointConfig checkpoint;
  std::string toml;                             ///< the resolved config: gives this one again
  std::map<std::string, std::string> identity;  ///< every key that decides the result
};

/// What to train on: exactly one of the first three.
struct DataConfig {
  std::string set;   ///< a name of builtin_data()
  std::string file;  ///< path of a .npy file (N, d)
  AnalyticPtr law;
  std::string labels;  ///< path of a .npy file (N), the class of each row of `file`; or empty
  Classes classes;     ///< what `law` consists of; or empty
};

/// A whole training run. Made by parse_train_config.
struct TrainJob {
  std::string name;
  DataConfig data;
  TrainConfig train;
  CheckpointConfig checkpoint;
  std::string toml;
  std::map<std::string, std::string> identity;
};

/// Checks a sampling config before any work; reads no file. `name` is for messages, `overrides` are
/// "key=value", relative paths are taken from `directory`. Throws ConfigError
/// ("config: product.toml:9: unknown key kernel.stepsize; did you mean kernel.step_size?").
SampleConfig parse_config(std::string_view toml, const std::string& name = "config",
                          const std::vector<std::string>& overrides = {},
                          const std::string& directory = ".");
TrainJob parse_train_config(std::string_view toml, const std::string& name = "config",
                            const std::vector<std::string>& overrides = {},
                            const std::string& directory = ".");
/// The same from a file (at most 1 MiB); paths are relative to it. Throws DataError when missing.
SampleConfig load_config(const std::string& path, const std::vector<std::string>& overrides = {});
TrainJob load_train_config(const std::string& path, const std::vector<std::string>& overrides = {});

/// One row of docs/config.md.
struct ConfigKey {
  std::string name;      ///< "kernel.step_size"; "*" stands for any name
  std::string allowed;   ///< "a number > 0"
  std::string fallback;  ///< as TOML; empty: none
  std::string doc;
};
std::vector<ConfigKey> sample_config_keys();
std::vector<ConfigKey> train_config_keys();

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
  std::string weights;  ///< training: .safetensors
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
};
/// "x.npy" -> "x.log_weights.npy".
std::string log_weights_path(const std::string& samples);

/// A finished training run.
struct TrainReport {
  std::string json;
  Weights weights;
};

/// The config's models as one target; `describe()` of it lands in the report. Throws DataError,
/// ConfigError, ShapeError.
ModelPtr load_target(const SampleConfig& config);
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
