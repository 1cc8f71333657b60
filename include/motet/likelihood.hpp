// What conditions a model: measurements, classifiers and hard regions, as functions of x at every
// noise level.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "motet/model.hpp"

namespace motet {

/// How log p(y | x) changes with the level, which decides how Feynman-Kac weights account for it
/// (docs/method.md, Conditioning).
enum class LikelihoodPath {
  /// Any function: the weights compare its values at both ends of a reverse step (twist).
  given,
  /// It diffuses by itself, as a law does (a likelihood blurred by the noise; a blurred region).
  diffuses,
  /// It is p(y | x_t) of the very law that it conditions (a noise-aware classifier): together the
  /// two diffuse.
  joint,
};

/// log p(y | x) for noisy x.
class Likelihood {
 public:
  virtual ~Likelihood() = default;
  struct Value {
    Tensor log_likelihood;  ///< (B) float64, up to a constant of the level; -inf: outside
    /// (B, *event), dtype of x: its gradient, or the stated approximation of it, which proposals
    /// follow and tests do not trust.
    Tensor score;
  };
  /// At x (B, *event) and `level`, where the prior's score (B, *event) is prior_score. Throws
  /// ShapeError for an x of another shape.
  virtual Value evaluate(const Tensor& x, const NoiseLevel& level,
                         const Tensor& prior_score) const = 0;
  virtual LikelihoodPath path() const = 0;
  /// True when Value::score is the gradient of log_likelihood.
  virtual bool is_gradient() const { return true; }
  /// Shape of one x, without the batch dimension.
  virtual std::vector<int64_t> event_shape() const = 0;
  virtual std::string describe() const = 0;
  /// The schedule it was trained for; empty when any will do.
  virtual std::optional<NoiseSchedule> schedule() const { return std::nullopt; }
  /// (B) bool: where the data x_0 (B, *event) may lie; undefined: everywhere.
  virtual Tensor allows(const Tensor& /*x_0*/) const { return {}; }
};
using LikelihoodPtr = std::shared_ptr<const Likelihood>;

/// log p(label | x_t) = log softmax(f(x_t, t))_label of a classifier that was trained on noised
/// points (Dhariwal and Nichol 2021, section 4), and its exact gradient; LikelihoodPath::joint.
/// Float32 throughout. Cost: about that of an energy network's evaluation. On the CPU the bits of a
/// row do not depend on the batch or the thread count. `device` as network_model(). Throws DataError
/// for wrong tensors, ConfigError for a network that is no classifier, a label that it does not have
/// and an unknown or absent device. evaluate() throws ConfigError for a level outside the network's.
LikelihoodPtr classifier_likelihood(Weights weights, int64_t label, std::string name,
                                    const std::string& device = "cpu");

/// p(label | x_t) by Bayes' rule over exact, normalised laws p_k with prior probabilities in
/// proportion to weights: w_label p_label,t / sum_k w_k p_k,t. The best that a classifier can be;
/// LikelihoodPath::joint for the prior sum_k w_k p_k. Cost: one evaluation of each class, not
/// counted. Throws ConfigError for fewer than two classes, a null one, one without a normalised log
/// density, another number of weights or one that is not positive and finite, and a label beyond the
/// classes; ShapeError when event shapes differ.
LikelihoodPtr bayes_classifier(std::vector<ModelPtr> classes, std::vector<double> weights,
                               size_t label, std::string name);

/// What is taken for p(y | x_t) where y = A x_0 + n, n ~ N(0, R), with abar = alpha_bar,
/// sigma^2 = 1 - abar, v = sigma^2 / abar, and the prior's score s (docs/conditioning.md). All
/// agree with p(y | x_0) at the data; at level 0 a variance is off by at most v_0 A A^T.
enum class LikelihoodApproximation {
  /// N(A x / sqrt(abar), R + v A A^T): exact for a flat prior, and the one that diffuses by itself,
  /// so LikelihoodPath::diffuses. Its gradient is exact.
  flat,
  /// N(A x0, R), x0 = (x + sigma^2 s) / sqrt(abar) (Tweedie): a point in place of the law of x_0
  /// (Chung et al. 2023, DPS).
  dps,
  /// N(A x0, R + r^2 A A^T), r^2 = v tau^2 / (v + tau^2), tau = prior_sd: exact for a Gaussian
  /// prior of that standard deviation (Song et al. 2023, PiGDM; with the prior's own covariance:
  /// Boys et al. 2023, TMPD).
  tweedie,
};
std::string to_string(LikelihoodApproximation value);
/// Throws ConfigError naming the allowed words.
LikelihoodApproximation likelihood_approximation_from(const std::string& name);

/// Of linear_gaussian() and region_box().
struct LikelihoodConfig {
  LikelihoodApproximation approximation = LikelihoodApproximation::tweedie;
  /// tau > 0: standard deviation that the prior has about its mean, in the data's unit. It sets r^2
  /// of `tweedie`, and of `dps` the gradient only.
  double prior_sd = 1.0;
};

/// y = A x_0 + n, n ~ N(0, diag(noise_sd^2)): `matrix` A (m, d); `observation` (m), or (B, m) for a
/// y of each chain (x must then have B rows, and the rows of an island one y: they resample among
/// themselves); `noise_sd` (m), or one number for all. Any float dtype; computed in float64. The
/// score of dps and tweedie takes sqrt(abar) / sigma^2 r^2 I for the Jacobian of x0 instead of a
/// second evaluation: is_gradient() is false, Metropolis tests and weights compare values. Cost:
/// matrix products only. Throws ShapeError for other shapes, ConfigError for entries that are not
/// finite, and for a noise_sd or prior_sd that is not positive and finite.
LikelihoodPtr linear_gaussian(const Tensor& matrix, const Tensor& observation,
                              const Tensor& noise_sd, const LikelihoodConfig& config = {},
                              std::string name = "measurement");
/// The same where single coordinates are seen, a mask: y_j = x_0[observed[j]] + n_j, indices in
/// row-major order into an event of event_shape. No matrix is made. Throws also ConfigError for no
/// index, one outside of the event, or the same one twice.
LikelihoodPtr linear_gaussian(const std::vector<int64_t>& observed,
                              std::vector<int64_t> event_shape, const Tensor& observation,
                              const Tensor& noise_sd, const LikelihoodConfig& config = {},
                              std::string name = "mask");

/// log p(y | x_0) (B), and its gradient (B, *event) by x_0, at x_0 (B, *event) of x's dtype.
using LogLikelihoodFunction = std::function<Likelihood::Value(const Tensor& x_0)>;
/// A user's log likelihood of the data, at noisy x taken at x0 = (x + sigma^2 s) / sqrt(abar), as
/// `dps`; its gradient times sqrt(abar) / sigma^2 r^2, as linear_gaussian's. Throws ConfigError for
/// an empty function, a size < 1 in event_shape, a bad prior_sd; evaluate() throws ShapeError for
/// what the function returns.
LikelihoodPtr likelihood_from_callable(LogLikelihoodFunction function,
                                       std::vector<int64_t> event_shape, std::string name,
                                       double prior_sd = 1.0);

/// x_0 in the box low <= x_0 <= high, (d) each; infinities leave a side open (half-spaces). Above
/// level 0 the box is blurred, prod_i Phi((high_i - u_i) / r) - Phi((low_i - u_i) / r): `tweedie`
/// at u = x0 with r^2 as above, `flat` at u = x / sqrt(abar) with r^2 = v and its exact gradient,
/// which for a half-space does not fade at high noise. At level 0 it is hard: log likelihood 0
/// where x / sqrt(abar) lies inside, else -inf, and no score. LikelihoodPath::given: a chain that
/// enters level 0 outside has weight 0. Throws ShapeError unless both are (d) with d >= 1, ConfigError for
/// a NaN, an empty side, a box without any bound, `dps`, which would be hard at every level, and a
/// prior_sd that is not positive and finite.
LikelihoodPtr region_box(const Tensor& low, const Tensor& high, const LikelihoodConfig& config = {},
                         std::string name = "box");
/// (B) bool: which x_0 (B, *event) lie inside.
using InsideFunction = std::function<Tensor(const Tensor& x_0)>;
/// Any region: no factor above level 0, hard at level 0 as region_box(). Most chains must get there
/// inside, or few are left. Throws ConfigError for an empty function, a size < 1 in event_shape;
/// evaluate() throws ShapeError for what the function returns.
LikelihoodPtr region_from_callable(InsideFunction inside, std::vector<int64_t> event_shape,
                                   std::string name);

/// `likelihood` of events of another shape with as many numbers, in row-major order: a matrix (m, 784)
/// or a box of 784 sides for images (1, 28, 28). No arithmetic more. Throws ConfigError for null and a
/// size < 1, ShapeError for another number of numbers.
LikelihoodPtr reshaped(LikelihoodPtr likelihood, std::vector<int64_t> event_shape);

}  // namespace motet
