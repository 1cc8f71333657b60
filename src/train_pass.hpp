// One training pass: loss and its gradient for a batch, by the definition or by hand-written loops.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "motet/model.hpp"

namespace motet::detail {

/// Where one tensor of the network lies in a flat buffer of all.
struct Parameter {
  std::string name;
  std::vector<int64_t> shape;
  int64_t offset = 0;
  int64_t count = 0;
};
/// All tensors, in the order of their names, without gaps.
std::vector<Parameter> parameter_layout(const std::map<std::string, std::vector<int64_t>>& shapes);
/// Those of expected_tensors(config).
std::vector<Parameter> parameter_layout(const NetworkConfig& config);
/// Views of `flat` under the tensors' names, `prefix` before each.
std::map<std::string, at::Tensor> named_views(const std::vector<Parameter>& layout,
                                              const at::Tensor& flat,
                                              const std::string& prefix = "");

/// Noised points with what was added: x = sqrt(alpha_bar) x_0 + sigma noise.
struct Batch {
  at::Tensor x;                ///< (B, *event), dtype of the weights
  at::Tensor noise;            ///< (B, *event)
  at::Tensor level;            ///< (B) int64
  at::Tensor start = {};       ///< x_0 (B, *event)
  at::Tensor label = {};       ///< (B) int64, where the network has classes
  at::Tensor condition = {};   ///< (B, k) float32, where the network has a condition
  at::Tensor is_dropped = {};  ///< (B) bool: rows to be seen without label or condition
};

/// Simple loss, mean over the batch and coordinates of (eps_hat - noise)^2, of the network whose
/// numbers lie in `weights` (flat, as parameter_layout); of a classifier the cross-entropy, mean
/// over the batch of -log softmax(f)_label. Not thread-safe: passes keep workspace.
class GradientPass {
 public:
  virtual ~GradientPass() = default;
  /// The loss; its gradient goes to `gradient` (flat, overwritten).
  virtual double gradient(const at::Tensor& weights, const Batch& batch,
                          const at::Tensor& gradient) = 0;
  /// Squared error of each point, mean over coordinates, or its cross-entropy: (B) float64.
  virtual at::Tensor row_losses(const at::Tensor& weights, const Batch& batch) = 0;
};

/// Plain torch operations and autograd (twice for energies): the definition. Weights of any float
/// dtype.
std::unique_ptr<GradientPass> reference_pass(const NetworkConfig& config);

enum class Arithmetic {
  float32,
  bfloat16,  ///< bfloat16 factors of the block's matrix products, all else float32
  float64,   ///< slow; for tests
};
/// Hand-written forward and backward, a tile of rows at a time. Not of classifiers. Weights float32 (float64 for
/// Arithmetic::float64). The bits do not depend on the number of threads.
std::unique_ptr<GradientPass> tiled_pass(const NetworkConfig& config, Arithmetic arithmetic);
/// True where this processor can multiply packed bfloat16 matrices: never without the bfloat16
/// engine of sampling (nets/engine.hpp).
bool has_bfloat16_products();

}  // namespace motet::detail
