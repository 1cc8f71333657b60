// What a run is told: sampling and training configs, from TOML files or filled in by hand.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "motet/anneal.hpp"
#include "motet/compose.hpp"
#include "motet/preset.hpp"
#include "motet/tapestry.hpp"
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

/// An input of a pretrained network: a number, or a file with a tensor.
struct InputConfig {
  double number = 0.0;
  std::string file = {};  ///< path of a .npy or .safetensors file; empty: the number
  bool operator==(const InputConfig&) const = default;
};

/// What a config says of a pretrained network beside its path; see PretrainedOptions.
struct PretrainedConfig {
  std::map<std::string, InputConfig> inputs = {};
  std::optional<std::vector<double>> condition = {};  ///< empty: "none"
  int64_t num_levels = 0;                             ///< 0: all
  bool ignore_clipping = false;
  bool operator==(const PretrainedConfig&) const = default;
  bool is_default() const { return *this == PretrainedConfig{}; }
};

/// One part of the target, as the config has it: a weights file, an analytic law, a likelihood or a
/// classifier.
struct TermConfig {
  std::string name;     ///< of its table or law; of a file in an expression, its path there
  std::string weights;  ///< path of a weights file or a pretrained network; empty for the others
  AnalyticPtr law;      ///< null for the others
  LikelihoodPtr likelihood;                    ///< null for the others
  std::optional<ClassifierConfig> classifier;  ///< a likelihood that is still to be loaded
  double exponent = 1.0;                       ///< in the product; 1 where there is a target
  bool score_only = false;                     ///< hide the log density
  bool is_quoted = false;                      ///< a file that an expression names in quotes
  PretrainedConfig pretrained;                 ///< how `weights` of other people's are run

  /// Whether it conditions laws instead of being one.
  bool conditions() const { return likelihood != nullptr || classifier.has_value(); }
  /// The weights file of the law or classifier; empty: none.
  const std::string& file() const { return classifier ? classifier->weights : weights; }
};

/// A window of a tapestry, as the config has it.
struct WindowConfig {
  std::string model;  ///< an expression of the terms' names, tables' own expressions written out
  int64_t row = 0;    ///< of a grid: counted in windows
  int64_t column = 0;
  double exponent = 1.0;
};

/// The table [tapestry]: windows on a canvas instead of a target.
struct TapestryConfig {
  std::vector<WindowConfig> windows;
  bool is_grid = false;         ///< windows of one size, each overlapping its neighbours
  int64_t overlap = 0;          ///< of a grid
  std::vector<int64_t> canvas;  ///< height and width; empty: as small as the windows allow
  OverlapRule rule = OverlapRule::cover;
  double taper = 0.0;
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
  std::optional<int64_t> lowest_level;  ///< absent: "exact" asks its pilot run
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

/// How pictures of a run of images are drawn (image_grid()); the samples do not depend on it.
struct PictureConfig {
  double low = -1.0;  ///< value shown as black; below it too
  double high = 1.0;  ///< value shown as white; above it too
  int64_t num_images = 64;
  int64_t num_columns = 8;
};

/// A whole sampling run; docs/config.md lists the TOML keys. Made by parse_config.
struct SampleConfig {
  std::string name;  ///< of the file, for messages
  /// An expression of the terms' names, tables' own expressions written out; empty: the product of
  /// all terms.
  std::string target;
  std::optional<TapestryConfig> tapestry;  ///< in the place of a target
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
  PictureConfig pictures;
  std::string toml;                             ///< the resolved config: gives this one again
  std::map<std::string, std::string> identity;  ///< every key that decides the result
};

/// What to train on: exactly one of set, file, law and images.
struct DataConfig {
  std::string set;   ///< a name of builtin_data()
  std::string file;  ///< path of a .npy file (N, d)
  AnalyticPtr law;
  std::string
      labels;       ///< path of the class of each row of `file` or `images`, .npy or idx; or empty
  Classes classes;  ///< what `law` consists of; or empty
  std::string images;          ///< path of an idx file, .npy or .safetensors
  ImageOptions image_options;  ///< of `images`
  SceneOptions scenes;         ///< of the set "scenes"
};

/// A network of images to train, instead of TrainConfig::network.
struct ImageNetwork {
  std::string architecture;  ///< "unet" or "encoder_unet"
  /// JSON object by the names of that network's own config: of diffusers' config.json, or of
  /// guided-diffusion's flags. The data say the size and the channels.
  std::string config;
  std::string prediction;  ///< unet: "epsilon", "v_prediction", "sample" or an energy
};

/// A whole training run. Made by parse_train_config.
struct TrainJob {
  std::string name;
  DataConfig data;
  TrainConfig train;
  std::optional<ImageNetwork> image_network;
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

}  // namespace motet
