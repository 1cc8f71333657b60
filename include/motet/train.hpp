// Training a noise-predicting network or a noise-aware classifier on a data set: simple loss or
// cross-entropy, Adam, EMA.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "motet/model.hpp"

namespace motet {

/// Something to train on: draws fresh points.
class DataSet {
 public:
  virtual ~DataSet() = default;
  /// (num_samples, d) float64 or float32 on the CPU, any strides; row i from chain i of rng.
  virtual Tensor sample(int64_t num_samples, Rng& rng) const = 0;
  /// Numbers of a point.
  virtual int64_t event_dim() const = 0;
  /// Shape of a point: (d), or (C, H, W) of images, which sample() gives as (num_samples, C, H, W).
  virtual std::vector<int64_t> event_shape() const { return {event_dim()}; }
  virtual std::string describe() const = 0;
};
using DataSetPtr = std::shared_ptr<const DataSet>;

/// Points that each belong to a class, 0 to num_classes - 1: what a classifier learns.
class LabelledData : public DataSet {
 public:
  struct Draw {
    Tensor points;  ///< as DataSet::sample()
    Tensor labels;  ///< (num_samples) int64 on the CPU
  };
  /// Points with their classes; row i from chain i of rng.
  virtual Draw sample_labelled(int64_t num_samples, Rng& rng) const = 0;
  virtual int64_t num_classes() const = 0;
  Tensor sample(int64_t num_samples, Rng& rng) const override {
    return sample_labelled(num_samples, rng).points;
  }
};

/// Points that each come with a vector of numbers, such as where an object of an image is.
class ConditionedData : public DataSet {
 public:
  struct Draw {
    Tensor points;      ///< as DataSet::sample()
    Tensor conditions;  ///< (num_samples, condition_dim) float64 or float32 on the CPU
  };
  /// Points with their conditions; row i from chain i of rng.
  virtual Draw sample_conditioned(int64_t num_samples, Rng& rng) const = 0;
  virtual int64_t condition_dim() const = 0;
  Tensor sample(int64_t num_samples, Rng& rng) const override {
    return sample_conditioned(num_samples, rng).points;
  }
};

/// A built-in set, 2-D, roughly inside [-1, 1]^2. ring, bar: the benchmark's laws (model.hpp).
/// checkerboard: uniform on the 8 squares of a 4 x 4 board over [-1, 1]^2 that touch the corner
/// (-1, -1) or one another at corners. moons: two interleaved half circles, the first
/// (cos a, sin a), the second (1 - cos a, 1/2 - sin a), a uniform on (0, pi), plus normal noise of
/// sd .05, then (x - 1/2, y - 1/4) / 1.5. swiss_roll: (a cos a, a sin a) / (4.5 pi), a uniform on
/// (1.5 pi, 4.5 pi), plus normal noise of sd .02. Throws ConfigError listing the names.
DataSetPtr builtin_data(const std::string& name);
/// Draws of an analytic law, such as a Gaussian mixture of any dimension. Throws ConfigError for
/// null.
DataSetPtr analytic_data(AnalyticPtr law);
/// Rows of a user's array (N, d), drawn with replacement. Throws DataError for other shapes or
/// non-finite rows.
DataSetPtr array_data(const Tensor& rows, std::string name);
/// The same with the class of each row: labels (N), whole numbers from 0 on of any dtype, of which
/// the largest tells the number of classes. Throws DataError for other labels and for one class.
DataSetPtr array_data(const Tensor& rows, const Tensor& labels, std::string name);
/// What is done to images as they are drawn.
struct ImageOptions {
  int64_t pad = 0;    ///< > 0: pixels a side, black around the image
  bool flip = false;  ///< every second image is mirrored, by chance
};
/// Images (N, H, W) or (N, C, H, W), drawn with replacement as (C, H, W): uint8, which becomes
/// v / 127.5 - 1, or floats in [-1, 1]. `labels` (N) as in array_data(), or undefined: none. Throws
/// DataError for other images and labels, ConfigError for a pad below the images' side.
DataSetPtr image_data(const Tensor& images, const Tensor& labels, const ImageOptions& options,
                      std::string name);

/// Scenes of cubes and spheres that stand on a plane, see src/data_scenes.cpp.
struct SceneOptions {
  int64_t size = 32;        ///< pixels a side, 8 to 512
  int64_t min_objects = 1;  ///< of min_objects to max_objects, at most 5, evenly
  int64_t max_objects = 5;
};
/// The scenes of rows of `rng`: images (B, 3, size, size) in [-1, 1], where their objects stand, the
/// first num_objects of (B, 5, 2) in [-1, 1]^2 (x to the right, y away from the camera), the others
/// 0; the number of them (B) int64, and of each its shape (0 cube, 1 sphere) (B, 5) int64.
struct Scenes {
  Tensor images, positions, num_objects, shapes;
};
/// Renders num_scenes scenes, row i from chain i of rng. Throws ConfigError for bad options.
Scenes draw_scenes(const SceneOptions& options, int64_t num_scenes, Rng& rng);
/// Fresh scenes, each with the position of one of its objects as its condition. Throws as
/// draw_scenes().
DataSetPtr scene_data(const SceneOptions& options);

/// Class k with probability weights[k] over their sum, and a point of classes[k]. A draw costs one
/// of every class. Throws ConfigError for fewer than two classes, a null one, another number of
/// weights, or weights that are not positive and finite; ShapeError when dimensions differ.
DataSetPtr labelled_data(std::vector<DataSetPtr> classes, std::vector<double> weights);

/// How the noise level of each point of a batch is drawn, u uniform in (0, 1).
enum class LevelLaw {
  uniform,  ///< floor(T u)
  squared,  ///< floor(T u^2): small noise, where scores have their finest structure, more often
};
std::string to_string(LevelLaw law);
/// Throws ConfigError naming the allowed words.
LevelLaw level_law_from(const std::string& name);

/// The learning rate at step k of K.
enum class RateSchedule {
  constant,  ///< learning_rate
  cosine,    ///< learning_rate (1 + cos(pi k / K)) / 2
};
std::string to_string(RateSchedule schedule);
/// Throws ConfigError naming the allowed words.
RateSchedule rate_schedule_from(const std::string& name);

struct TrainConfig {
  NetworkConfig network;
  NoiseSchedule schedule = NoiseSchedule::cosine(100);
  int64_t num_steps = 15000;
  int64_t batch_size = 2000;
  LevelLaw level_law = LevelLaw::uniform;
  double learning_rate = 1e-3;
  RateSchedule rate_schedule = RateSchedule::constant;
  double beta1 = 0.9, beta2 = 0.999, adam_epsilon = 1e-8;
  double ema_decay = 0.999;
  /// Step k's decay is at most (1 + k) / (10 + k), so that short runs forget the initial weights.
  bool ema_warmup = false;
  int64_t warmup_steps = 0;  ///< step k < warmup_steps: the rate times (k + 1) / warmup_steps
  /// Share of the points whose label or condition the network does not see, for classifier-free
  /// guidance (Ho and Salimans 2022).
  double drop_probability = 0.0;
  double gradient_clip = 0.0;  ///< largest global norm; 0: off
  /// bfloat16 matrix products in the blocks; float32 weights, moments, norms, residual stream,
  /// first and last layer, loss. Needs a processor with AMX (ConfigError).
  bool mixed_precision = false;
  /// Plain autograd instead of the hand-written passes: the definition, for tests and benches.
  /// Classifiers are always trained by it.
  bool reference_path = false;
  uint64_t seed = 0;
  int64_t held_out_every = 1000;  ///< steps between held-out losses
  int64_t held_out_size = 20000;  ///< points, spread evenly over the levels; at least num_levels
};

/// "paper" (as the defaults of TrainConfig) and "motet".
std::vector<std::string> recipe_names();
/// Settings that belong together. "motet" differs from "paper" in network.frequencies, level_law,
/// learning_rate and rate_schedule, at the same network size and cost; docs/howto.md says by how
/// much the score errors differ. Throws ConfigError naming the recipes.
TrainConfig train_recipe(const std::string& name);

/// Loss on held-out points and noise, the same at every step of a run: mean over points and
/// coordinates of (eps - eps_hat)^2 of the EMA network, in float32; of a classifier, the mean of
/// -log p(label | x_t).
struct HeldOut {
  int64_t step = 0;
  double mean = 0.0;
  /// One for each noise level; of more than 100 levels, for each tenth of them.
  std::vector<double> per_level;
};

/// Steps averaged in each entry of TrainState::losses.
inline constexpr int64_t kLossEvery = 100;

/// Everything to go on with: named tensors (weights, EMA, Adam moments) and the step. Resumes to
/// the same bits. The tensors an observer sees are the ones training goes on with: clone what is to
/// be kept.
struct TrainState {
  int64_t step = 0;
  /// "weight.<name>", "ema.<name>", "adam1.<name>", "adam2.<name>".
  std::map<std::string, Tensor> tensors;
  std::vector<double> losses;  ///< mean training loss of each kLossEvery steps
  double pending_loss = 0.0;   ///< sum of the losses since the last entry of `losses`
  std::vector<HeldOut> held_out;
};

/// Called after every step; return false to stop early (train then throws Interrupted).
using TrainObserver = std::function<bool(const TrainState& state, double loss)>;

/// Initial state as the reference's: Linear weights normal of sd 1/sqrt(fan_in) truncated at 2 sd,
/// embedding the same with sd 1, biases 0, norms 1, last layer of each block and output layer zero
/// (for energy_norm the output layer is drawn like the others: ||0||^2 has no gradient). Throws
/// ConfigError for bad settings.
TrainState initial_state(const TrainConfig& config);

/// Trains from `resume` (default: initial_state) to config.num_steps. Loss: mean over the batch of
/// ||eps - eps_hat(x_t, t)||^2 / d (Ho et al. 2020, eq. 14), or of a classifier -log p(label | x_t)
/// (Dhariwal and Nichol 2021, section 4), t by level_law, fresh data and noise every step, drawn from Philox at (step): the bits depend neither on the number of threads nor on
/// interruptions (reference_path: the latter only; cosine: as long as num_steps stays). Adam
/// (Kingma and Ba 2015) with epsilon outside the root; average <- ema_decay average +
/// (1 - ema_decay) weight after each step, from the initial weights. Throws ConfigError for bad
/// settings, a classifier on data without labels and a `resume` beyond num_steps, DataError when `resume` is not of this network,
/// ShapeError when the data give other points than DataSet says, NumericalError naming the step
/// when loss or gradient is not finite.
TrainState train(const TrainConfig& config, const DataSet& data, const TrainObserver& observer = {},
                 const TrainState* resume = nullptr);
/// What a network sees of a condition c (B, k), entries of about unit size: sin(f c_i) and cos(f c_i)
/// for dim / (2 k) frequencies f from pi/2 to 8 pi, evenly in log f; for each i first the sines. (B,
/// dim) float32, filled up with zeros; all zeros stand for no condition. Throws ShapeError.
Tensor condition_features(const Tensor& conditions, int64_t dim);

/// How a state was trained: data, seed, steps, every setting, the last held-out loss, as texts.
std::map<std::string, std::string> train_provenance(const TrainConfig& config,
                                                    const TrainState& state, const DataSet& data);
/// The EMA network of a state, with provenance filled in from config and data.
Weights trained_weights(const TrainConfig& config, const TrainState& state, const DataSet& data);

}  // namespace motet
