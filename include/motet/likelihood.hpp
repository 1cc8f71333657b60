// What conditions a model: measurements, classifiers and hard regions, as functions of x at every
// noise level.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
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

}  // namespace motet
