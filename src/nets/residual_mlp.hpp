// The paper's residual MLP f(x, t): its tensors and its plain definition (method.md 3).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "motet/model.hpp"
#include "nets/tensors.hpp"

namespace motet::detail {

/// Added to the variance in every LayerNorm, as in haiku.
inline constexpr double kLayerNormEpsilon = 1e-5;

/// Length of f(x, t): event_dim, or num_classes of a classifier.
int64_t num_outputs(const NetworkConfig& config);

/// Throws ConfigError when a size of `config` is below 1 or its frequencies or num_classes are not
/// as NetworkConfig says.
void check_network_config(const NetworkConfig& config);

/// Throws DataError unless `tensors` are exactly those of expected_tensors(config), in float32:
/// `prefix`, the tensor, what was found, what was expected.
void check_tensors(const NetworkConfig& config, const TensorMap& tensors,
                   const std::string& prefix);

/// Throws ConfigError for a level that the network `name` was not trained on.
void check_level(const NetworkConfig& config, const NoiseLevel& level, const std::string& name);

/// f(x, t), (B, num_outputs), from plain torch operations: the definition every faster path must agree with.
/// Differentiable, twice, in x and in `tensors`. x (B, d) has the dtype and device of `tensors`;
/// level_index is int64, (B) or 0-d for one level for all rows, on the same device. With
/// product_dtype the matrix products of the blocks (hidden, middle, output) run in that dtype, all
/// else in that of x.
at::Tensor reference_forward(const TensorMap& tensors, const NetworkConfig& config,
                             const at::Tensor& x, const at::Tensor& level_index,
                             std::optional<at::ScalarType> product_dtype = std::nullopt);

}  // namespace motet::detail
