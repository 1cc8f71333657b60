// Training a noise-predicting network on a data set: simple loss, Adam, EMA.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "motet/model.hpp"

namespace motet {

/// Something to train on: draws fresh points.
class DataSet {
 public:
  virtual ~DataSet() = default;
  /// (num_samples, d) float64 on the CPU; row i from chain i of rng.
  virtual Tensor sample(int64_t num_samples, Rng& rng) const = 0;
  virtual int64_t event_dim() const = 0;
  virtual std::string describe() const = 0;
};
using DataSetPtr = std::shared_ptr<const DataSet>;

/// A built-in set: ring, bar, checkerboard, moons, swiss_roll (2-D, roughly inside [-1, 1]^2).
/// Throws ConfigError listing the names.
DataSetPtr builtin_data(const std::string& name);
/// Draws of an analytic law, such as a Gaussian mixture of any dimension.
DataSetPtr analytic_data(AnalyticPtr law);
/// Rows of a user's array (N, d), drawn with replacement. Throws DataError for other shapes or
/// non-finite rows.
DataSetPtr array_data(const Tensor& rows, std::string name);

struct TrainConfig {
  NetworkConfig network;
  NoiseSchedule schedule = NoiseSchedule::cosine(100);
  int64_t num_steps = 15000;
  int64_t batch_size = 2000;
  double learning_rate = 1e-3;
  double beta1 = 0.9, beta2 = 0.999, adam_epsilon = 1e-8;
  double ema_decay = 0.999;
  double gradient_clip = 0.0;    ///< largest global norm; 0: off
  bool mixed_precision = false;  ///< bfloat16 matrix products, float32 master weights
  bool reference_path = false;   ///< plain autograd instead of the hand-written passes: the
                                 ///< definition, for tests and benches
  uint64_t seed = 0;
  int64_t held_out_every = 1000;  ///< steps between held-out losses
  int64_t held_out_size = 4000;
};

/// Loss on held-out noise, mean over points and coordinates of (eps - eps_hat)^2 of the EMA
/// network.
struct HeldOut {
  int64_t step = 0;
  double mean = 0.0;
  std::vector<double> per_level;  ///< one for each noise level
};

/// Everything to go on with: named tensors (weights, EMA, Adam moments) and the step. Resumes to
/// the same bits.
struct TrainState {
  int64_t step = 0;
  std::map<std::string, Tensor>
      tensors;                 ///< "weight.<name>", "ema.<name>", "adam1.<name>", "adam2.<name>"
  std::vector<double> losses;  ///< mean training loss of each 100 steps
  std::vector<HeldOut> held_out;
};

/// Called after every step; return false to stop early (train then throws Interrupted).
using TrainObserver = std::function<bool(const TrainState& state, double loss)>;

/// Initial state: Linear weights as the reference (truncated normal, sd 1/sqrt(fan_in)), last layer
/// of each block and output layer zero (for energy_norm the output layer is not zero: ||0||^2 has
/// no gradient).
TrainState initial_state(const TrainConfig& config);

/// Trains from `state` (default: initial_state) to config.num_steps; the result's Weights are the
/// EMA's. Loss: mean ||eps - eps_hat(x_t, t)||^2 / d, t uniform, fresh data and noise every step,
/// drawn from Philox at (step). Throws NumericalError naming the step when the loss is not finite,
/// ConfigError for bad settings.
TrainState train(const TrainConfig& config, const DataSet& data, const TrainObserver& observer = {},
                 const TrainState* resume = nullptr);
/// The EMA network of a state, with provenance filled in from config and data.
Weights trained_weights(const TrainConfig& config, const TrainState& state, const DataSet& data);

}  // namespace motet
