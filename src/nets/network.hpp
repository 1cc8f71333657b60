// Networks of any architecture: what defines one, one that is ready to run, and how its output
// becomes a score. The residual MLP has fused passes of its own (network_model.cpp).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "motet/model.hpp"
#include "nets/tensors.hpp"
#include "nets/words.hpp"

namespace motet::detail {

/// An input beside the point and the time: a class, an embedding of a text.
struct InputSpec {
  std::string name;
  std::vector<int64_t> shape = {};  ///< of one row; empty: one number a row
  int64_t num_values = 0;           ///< > 0: whole numbers, 0 to num_values - 1 (dtype int64)
  bool is_required = true;
};

/// The inputs of a model, by name: one row each, (1, *shape), the same for all chains.
using Inputs = std::map<std::string, at::Tensor>;
/// `given` as rows (1, *shape), classes as int64. Throws ConfigError, its message opened by `prefix`,
/// for inputs that are missing, unknown or not as `specs` say.
Inputs checked_inputs(const std::vector<InputSpec>& specs, const Inputs& given,
                      const std::string& prefix);

/// A network as a function of its weights: names and shapes of its tensors, and f. Immutable.
class Architecture {
 public:
  virtual ~Architecture() = default;
  /// Name and shape of every tensor, as the files that people have name them.
  virtual ShapeMap expected_tensors() const = 0;
  /// Shape of one point, (C, H, W) of an image.
  virtual std::vector<int64_t> event_shape() const = 0;
  /// Shape of one output: as event_shape(), (2 C, H, W) where a variance is learned too, (K) of a
  /// classifier.
  virtual std::vector<int64_t> output_shape() const = 0;
  virtual std::vector<InputSpec> inputs() const { return {}; }
  /// True when every tensor of four dimensions is the weight of a conv2d() of layers.hpp: passes on
  /// the CPU then pack them.
  virtual bool packs_convolutions() const { return false; }
  /// "UNet2DModel(1x28x28)"; lands in reports.
  virtual std::string describe() const = 0;
  /// f(x, t), (B, *output_shape), by plain torch operations: the definition. Differentiable, twice,
  /// in x and in the tensors. x (B, *event) and the tensors have one dtype and device; `time` is
  /// (B) or (1) float32 on it, as the network counts time; inputs are (B, ...) or (1, ...).
  virtual at::Tensor forward(const TensorMap& tensors, const at::Tensor& x, const at::Tensor& time,
                             const Inputs& inputs) const = 0;
};
using ArchitecturePtr = std::shared_ptr<const Architecture>;

/// Energy E (B), float64, and grad_x E (B, *event).
struct EnergyPass {
  at::Tensor energy, gradient;
};

/// Numbers (B) of what a network returns, f (B, *output_shape) float32 with a graph.
using OutputFunction = std::function<at::Tensor(const at::Tensor& f)>;

/// A network with its weights and inputs, on its device. Safe to call from one thread at a time.
class Network {
 public:
  virtual ~Network() = default;
  virtual std::vector<int64_t> event_shape() const = 0;
  virtual std::vector<int64_t> output_shape() const = 0;
  /// What x is to be converted to.
  virtual at::Device device() const = 0;
  virtual at::ScalarType dtype() const { return at::kFloat; }
  /// f(x, t), (B, *output_shape) float32; x (B, *event), dtype() and device(); no graph.
  virtual at::Tensor forward(const at::Tensor& x, double time) const = 0;
  /// E(x, t) and its gradient. `residual`: E = ||f - x||^2, else ||f||^2; a program that is an
  /// energy itself ignores it.
  virtual EnergyPass energy(const at::Tensor& x, double time, bool residual) const = 0;
  /// E = g(f(x, t)) and its gradient, for a g by plain torch operations. Throws ConfigError where no
  /// gradients pass through the network, as here.
  virtual EnergyPass energy_of_output(const at::Tensor& x, double time,
                                      const OutputFunction& g) const;
};
using NetworkPtr = std::shared_ptr<const Network>;

/// Rows that pass through a network at once, so that peak memory does not grow with the batch: as
/// many as make about 2^18 numbers of x, at most 64.
int64_t rows_at_once(const std::vector<int64_t>& event_shape);

/// The architecture with these weights. Every pass has the same number of rows, the last filled up:
/// libraries choose an algorithm by the shape, so else a row's bits would depend on the batch.
/// float32 and bfloat16 keep images channels-last; bfloat16 runs whole in that dtype, but for the
/// input and the output. Cost: a pass of rows_at_once() rows for each such piece of a batch. Throws
/// DataError for tensors that are not those of the architecture (`prefix` opens the message),
/// ConfigError for inputs that are missing, unknown or not as inputs() says, and for a device.
NetworkPtr bound_network(ArchitecturePtr architecture, const TensorMap& tensors, Inputs inputs,
                         Compute compute, const std::string& device, const std::string& prefix);

/// What the first channels of a network's output say of x_t = sqrt(abar) x_0 + sigma n.
enum class Prediction {
  epsilon,          ///< n: s = -f / sigma
  sample,           ///< x_0, a denoiser: s = (sqrt(abar) f - x) / sigma^2 (Tweedie)
  v_prediction,     ///< sqrt(abar) n - sigma x_0: s = -(sqrt(abar) f + sigma x) / sigma
  score,            ///< s itself, of the coordinates that the network sees
  energy_norm,      ///< log p = -||f||^2 / sigma ([S23] eq. 16)
  energy_residual,  ///< log p = -||f - x||^2 / sigma
  energy,           ///< log p = -E, of a program that is an energy itself
};
/// Whether it gives a log density too.
bool is_energy(Prediction prediction);
/// Their words in files and configs.
inline constexpr Words<Prediction, 7> kPredictions = {
    {{Prediction::epsilon, "epsilon"},
     {Prediction::sample, "sample"},
     {Prediction::v_prediction, "v_prediction"},
     {Prediction::score, "score"},
     {Prediction::energy_norm, "energy_norm"},
     {Prediction::energy_residual, "energy_residual"},
     {Prediction::energy, "energy"}}};
std::string to_string(Prediction prediction);
/// Throws ConfigError naming the allowed words.
Prediction prediction_from(const std::string& name);

/// What x a network sees at a level.
enum class Coordinates {
  variance_preserving,  ///< x itself
  variance_exploding,   ///< x / sqrt(abar) = x_0 + v n with v = sigma / sqrt(abar)
};

/// Throws ConfigError for a level outside of a network's num_levels.
void check_level(int64_t num_levels, const NoiseLevel& level, const std::string& name);
/// Throws ConfigError, opened by `prefix`, unless there is a time for each level.
void check_times(const std::vector<double>& times, const NoiseSchedule& schedule,
                 const std::string& prefix);

/// How a network's output is to be read.
struct OutputSpec {
  Prediction prediction = Prediction::epsilon;
  Coordinates coordinates = Coordinates::variance_preserving;
  NoiseSchedule schedule;
  /// The network's time at each level of the schedule.
  std::vector<double> times;
};

/// The network as a model, whose points are the network's own (images in [-1, 1], say). An output
/// of twice the channels of x carries a learned variance, which is no part of the score and is left
/// out. Score networks have only a remainder, energies are exact. Throws ConfigError where times
/// and levels differ in number or the output's shape does not serve; evaluate() throws ConfigError
/// for a level outside the schedule's.
ModelPtr prediction_model(NetworkPtr network, OutputSpec spec, std::string name);

}  // namespace motet::detail
