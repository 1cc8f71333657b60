// What can be sampled: networks, analytic densities, user callables and compositions, all one type.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "motet/rng.hpp"
#include "motet/schedule.hpp"

namespace motet {

/// What one pass of a model tells about a point x. Law: score == grad(log_density) + remainder.
struct Eval {
  /// (B, *event), dtype and device of x.
  Tensor score;
  /// (B) float64: the part of log p known in closed form (up to a constant); undefined if none.
  Tensor log_density;
  /// (B, *event), dtype of x: the score not explained by log_density; undefined if none (exact
  /// models).
  Tensor remainder;
  /// (B) float64: G of d/dv log p = 1/2 (Laplacian of log p + G), v = (1 - alpha_bar) / alpha_bar, at
  /// a fixed x / sqrt(alpha_bar), in the unit of |score|^2; what Feynman-Kac weights need beside the
  /// score (docs/method.md, Weights). Of a product: the sum of exponent * G. Undefined for a law that
  /// diffuses, whose G is |score|^2.
  Tensor square_sum = {};
  /// (B) float64: d/d(log v) of log p that comes from what a composition itself changes with the
  /// level: ramped exponents, normalisers. Undefined: none.
  Tensor slope = {};
  /// (B) float64 and (B, *event): log of the factors that are given functions at each level instead
  /// of a law that diffuses, and the score that they add. Both are in log_density and score already.
  /// Undefined: none.
  Tensor twist = {};
  Tensor twist_score = {};
  /// Of a TrackingModel: the Evals of its parts, and the log densities that it tracks, (B, n)
  /// float64. score, log_density and the rest are composed of them.
  std::vector<Eval> parts = {};
  Tensor ledger = {};
};

/// A family of laws over noise levels. Implementations are immutable and safe to call from one
/// thread at a time.
class Model {
 public:
  virtual ~Model() = default;
  /// Score and what is known of the log density at x (B, *event) and `level`. Does not write into
  /// x, keeps no graph. The models of motet throw ShapeError, naming themselves, for an x of
  /// another shape or of a dtype other than float32 and float64; networks throw ConfigError for a
  /// level that they were not trained on; a composition throws as its parts. An entry that is not
  /// finite is no error: kernels reject that chain's proposal.
  virtual Eval evaluate(const Tensor& x, const NoiseLevel& level) const = 0;
  /// True when log_density explains the whole score: never a remainder, and nothing is tracked.
  virtual bool is_exact() const = 0;
  /// True when exp(log_density) integrates to 1 at every level: what an exact mixture needs of its
  /// components. Analytic laws do; energies do not.
  virtual bool is_normalised() const { return false; }
  /// Shape of one sample, without the batch dimension.
  virtual std::vector<int64_t> event_shape() const = 0;
  /// "product(ring, bar^0.5)"; lands in every report.
  virtual std::string describe() const = 0;
  /// The schedule that the model was trained for; empty when any schedule will do (analytic
  /// models).
  virtual std::optional<NoiseSchedule> schedule() const { return std::nullopt; }
};
using ModelPtr = std::shared_ptr<const Model>;

/// A model whose score at x depends on log densities that it cannot know from x alone: a mixture of
/// score models. They are carried along each chain, in a ledger (docs/method.md, Ledgers): the path
/// from one point to the next tells by how much each changes. evaluate() throws ConfigError unless
/// tracked() is empty; Target does the bookkeeping.
class TrackingModel : public Model {
 public:
  /// Which parts have an entry in the ledger, in its order; empty: nothing is tracked.
  virtual const std::vector<size_t>& tracked() const = 0;
  /// Each distinct part at x once, in a fixed order: the whole cost of an evaluation. Throws as the
  /// parts' evaluate().
  virtual std::vector<Eval> evaluate_parts(const Tensor& x, const NoiseLevel& level) const = 0;
  /// The Eval at x, of its parts' Evals there and the log densities of the tracked ones, (B, n)
  /// float64, for n = tracked().size(); no evaluation. Keeps both in Eval::parts and Eval::ledger
  /// where n > 0.
  virtual Eval combine(std::vector<Eval> parts, const Tensor& ledger, const Tensor& x,
                       const NoiseLevel& level) const = 0;
  /// Names of the components of all mixtures inside, and the share of each in what its mixture's
  /// density is at the points of `eval`, (B, C) float64: posterior probabilities, whose mean over
  /// exact draws of a lone mixture is the component's weight. `eval` is that at x; costs an
  /// evaluation where nothing is tracked.
  virtual std::vector<std::string> component_names() const = 0;
  /// Their weights; each mixture's sum to 1.
  virtual std::vector<double> component_weights() const = 0;
  virtual Tensor shares(const Eval& eval, const Tensor& x, const NoiseLevel& level) const = 0;
};

/// A law whose data (level-free) samples can be drawn exactly.
class AnalyticModel : public Model {
 public:
  bool is_exact() const override { return true; }
  bool is_normalised() const override { return true; }
  /// num_samples exact draws from the data law (B, d), float64 on the CPU, one chain a row.
  virtual Tensor sample_data(int64_t num_samples, Rng& rng) const = 0;
  /// Exact draws from the law at `level`: sqrt(alpha_bar) x_0 + sigma n. (B, d), float64.
  Tensor sample_level(int64_t num_samples, const NoiseLevel& level, Rng& rng) const;
  /// Log density of the data law itself, (B) float64; -inf outside a bounded support.
  virtual Tensor log_density_data(const Tensor& x) const = 0;
};
using AnalyticPtr = std::shared_ptr<const AnalyticModel>;

/// Mixture of Gaussians with diagonal covariances, and its exact diffusion to every level: weights
/// (K), means (K, d), standard deviations (K, d) or (K, 1), any float dtype. Throws ShapeError for
/// other shapes, ConfigError for weights or standard deviations that are not positive and finite
/// and for means that are not finite.
AnalyticPtr gaussian_mixture(const Tensor& weights, const Tensor& means, const Tensor& sds,
                             std::string name);
/// Uniform law on the box low < x < high, (d) each, and its exact diffusion (differences of normal
/// cdfs). Throws ShapeError unless both are (d) with d >= 1, ConfigError for bounds that are not
/// finite or high <= low in a coordinate.
AnalyticPtr uniform_box(const Tensor& low, const Tensor& high, std::string name);
/// Mixture of uniform laws on boxes, which may overlap, and its exact diffusion: weights (K), corners
/// low and high (K, d), any float dtype. Throws ShapeError for other shapes, ConfigError for weights
/// that are not positive and finite and as uniform_box().
AnalyticPtr box_mixture(const Tensor& weights, const Tensor& low, const Tensor& high,
                        std::string name);
/// The benchmark's ring: num_modes Gaussians of sd on a circle of `radius` (docs/reproduction.md).
/// Throws ConfigError for num_modes < 1, an sd that is not positive and finite, or a radius that is
/// not finite.
AnalyticPtr ring(int64_t num_modes = 8, double radius = 0.5, double sd = 0.03);
/// The benchmark's bar: uniform on |x| < half_width, |y| < half_height (docs/reproduction.md).
/// Throws ConfigError for sizes that are not positive and finite.
AnalyticPtr bar(double half_width = 0.2, double half_height = 1.0);
/// Uniform on the 8 dark squares of a 4 x 4 board on [-1, 1]^2: the law of the data set
/// "checkerboard".
AnalyticPtr checkerboard();
/// Two interleaved half circles: 256 Gaussians of sd 1/30 whose means stand for a uniform angle. Total
/// variation 1.3e-4 and KL 1.8e-6 nats from the data set "moons", whose angle is uniform: it takes
/// some 5e5 draws to tell them apart.
AnalyticPtr moons();
/// Two spiral arms of 1.5 turns that start at 0 and end at radius 0.9, opposite each other: 200
/// Gaussians of sd 0.04. The law of the data set "spirals".
AnalyticPtr spirals();

/// A user's function as a model. `is_exact` promises that the Eval never has a remainder
/// (ConfigError when it breaks that). An Eval of a score alone counts as all remainder. Shapes and
/// dtypes of what it returns are checked at every call (ShapeError names the model and both).
/// Throws ConfigError for an empty function or a size < 1 in event_shape.
using EvaluateFunction = std::function<Eval(const Tensor& x, const NoiseLevel& level)>;
ModelPtr from_callable(EvaluateFunction function, std::vector<int64_t> event_shape, bool is_exact,
                       std::string name);

/// A user's denoiser D(y, v) as a model: y (B, *event) = x_0 + v n, what x_t = sqrt(abar) x_0 +
/// sigma n is in variance-exploding coordinates, v = sigma / sqrt(abar) the standard deviation of
/// its noise; D returns the mean of x_0 given y, (B, *event). Score of x by Tweedie's formula
/// (Efron 2011): s = (sqrt(abar) D - x) / sigma^2. Score-only; one evaluation is one call, on x's
/// dtype and device. Throws ConfigError for an empty function or a size < 1; evaluate() throws
/// ShapeError for another shape or dtype of D, ConfigError for a level outside the schedule.
using DenoiserFunction = std::function<Tensor(const Tensor& y, double v)>;
ModelPtr from_denoiser(DenoiserFunction function, std::vector<int64_t> event_shape,
                       NoiseSchedule schedule, std::string name);

/// How a network's output f(x, t) becomes a score s and a log density (docs/method.md, Models;
/// [S23] eq. 9 and 16).
enum class Parameterisation {
  score,            ///< f predicts eps: s = -f / sigma
  energy_norm,      ///< E = ||f||^2, eps = grad E, log p = -E / sigma
  energy_residual,  ///< E = ||f - x||^2, as the reference code has it
  /// log p(y | x_t) = log softmax(f)_y: no model, but a factor of one (classifier_likelihood())
  classifier,
};
std::string to_string(Parameterisation parameterisation);
/// Throws ConfigError naming the allowed words.
Parameterisation parameterisation_from(const std::string& name);

/// Most frequencies of a network, and the largest: float32 knows x to 6e-8 of its size, so the
/// phase of a faster wave would be noise.
inline constexpr size_t kMaxFrequencies = 64;
inline constexpr double kMaxFrequency = 1e6;

/// Shape of the paper's residual MLP; expected_tensors() lists its tensors. Throughout, sizes below
/// 1 and frequencies outside (0, kMaxFrequency] or more than kMaxFrequencies are a ConfigError.
struct NetworkConfig {
  int64_t event_dim = 2;
  int64_t width = 128;
  int64_t num_blocks = 4;
  int64_t widen = 2;           ///< hidden width of a block is widen * width
  int64_t embedding_dim = 32;  ///< learned embedding of the level
  int64_t num_levels = 100;
  Parameterisation parameterisation = Parameterisation::score;
  /// Radians per unit of x: the first layer sees (x, sin f x, cos f x for each f), event_dim *
  /// (1 + 2 F) numbers, instead of x. Fine structure in few dimensions, which a network of x alone
  /// learns slowly. Empty: the paper's network.
  std::vector<double> frequencies = {};
  /// Of a classifier: the length of f, >= 2. Else 0: f is as long as x.
  int64_t num_classes = 0;
  bool operator==(const NetworkConfig&) const = default;
};

/// A network's numbers with all that is needed to use them: what a weights file holds.
struct Weights {
  NetworkConfig config;
  NoiseSchedule schedule = NoiseSchedule::cosine(100);
  /// float32; names and shapes as in expected_tensors(config).
  std::map<std::string, Tensor> tensors;
  /// Data, training command, seed, commit, recipe, ...
  std::map<std::string, std::string> provenance;
};

/// Name and shape of every tensor of the architecture. Names: "input.weight",
/// "blocks.0.norm.weight", "blocks.0.hidden.weight", "blocks.0.level.weight",
/// "blocks.0.middle.weight", "blocks.0.output.weight", "output.weight", "embedding.weight" and the
/// biases; Linear weights are (out, in) as in torch.
std::map<std::string, std::vector<int64_t>> expected_tensors(const NetworkConfig& config);

/// Arithmetic of a network pass. All three agree to the rounding of their dtype.
enum class Compute {
  reference,  ///< plain eager torch, float32; the definition
  float32,    ///< prepacked, fused, tiled; on CUDA plain torch
  bfloat16,   ///< as float32 with bfloat16 matrix products; float32 residual stream, norms and
              ///< output. CPUs without AMX tiles run float32 instead: see compute_used()
};
std::string to_string(Compute compute);
Compute compute_from(const std::string& name);
/// What network_model() runs for `compute` on `device` of this machine: float32 for bfloat16 on a
/// CPU without AMX tiles, else `compute`. Run reports name both.
Compute compute_used(Compute compute, const std::string& device = "cpu");

/// A trained network as a model. Score networks have only a remainder; energy networks are exact:
/// one evaluation gives energy and gradient, at the measured cost of 1.9 score evaluations in
/// float32, 2.7 in bfloat16. On the CPU, float32 and bfloat16: the bits of a row do not depend on
/// the batch or the thread count. `device` is "cpu" or "cuda"; results come back on the device of
/// x. Throws DataError for wrong tensors, ConfigError for an unknown or absent device and for a
/// classifier. evaluate() throws ConfigError for a level outside the network's.
ModelPtr network_model(Weights weights, std::string name, Compute compute = Compute::float32,
                       const std::string& device = "cpu");

}  // namespace motet
