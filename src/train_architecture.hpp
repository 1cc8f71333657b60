// Training of networks that are an Architecture: U-Nets of images and their classifiers.
#pragma once

#include <optional>
#include <string>

#include "motet/train.hpp"
#include "nets/network.hpp"
#include "train_pass.hpp"

namespace motet::detail {

/// What an architecture learns.
struct Objective {
  /// What its output says of x_t; nothing: the class of x_0, by cross-entropy.
  std::optional<Prediction> prediction;
  /// The architecture's input that labels or conditions go to; empty: none. An input of K + 1 values
  /// takes K classes and, as the last, "no label"; one of a vector takes condition_features(), and
  /// zeros as "no condition".
  std::string condition = {};
};

/// The pass by plain torch operations and autograd: images channels-last, the time of level i is i.
/// The loss is the mean of (f - what f is to predict)^2, row_losses() are in eps for all predictions
/// so that they compare. `compute` bfloat16: activations and gradients of activations in bfloat16;
/// weights, their gradients and the loss in float32. The bits depend on the number of threads.
std::unique_ptr<GradientPass> architecture_pass(ArchitecturePtr architecture, Objective objective,
                                                const NoiseSchedule& schedule, Compute compute);

/// torch's defaults: weights and biases of linear maps and convolutions uniform within
/// +-1/sqrt(fan_in), embeddings normal, norms 1 and 0. Zero are, as in Ho et al. (2020), what ends a
/// residual block, an attention and the network, so that a block begins as the identity; a last
/// layer whose square is the energy is drawn (its gradient at 0 is 0).
TrainState initial_architecture_state(const Architecture& architecture, const Objective& objective,
                                      uint64_t seed);

/// Trains from `resume` (default: initial_architecture_state()) to config.num_steps; config.network
/// and config.reference_path are not looked at, mixed_precision is Compute::bfloat16. Throws as
/// train(), ConfigError for data that do not fit the architecture.
TrainState train_architecture(const TrainConfig& config, const ArchitecturePtr& architecture,
                              const Objective& objective, const DataSet& data,
                              const TrainObserver& observer, const TrainState* resume);

/// The averaged weights of a state, by the names of the architecture.
TensorMap trained_tensors(const Architecture& architecture, const TrainState& state);

}  // namespace motet::detail
