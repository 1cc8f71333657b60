// Measuring samples that are already on disk.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace motet {

struct EvaluateConfig {
  std::string target;          ///< a name of evaluation_targets()
  uint64_t seed = 0;           ///< of the exact samples compared with
  int64_t num_samples = 2000;  ///< rows measured, the first ones; >= 16
  at::Tensor log_weights;      ///< (N) of the rows of x, any float dtype; undefined: all equal
};

/// "product" (the benchmark, all the table's metrics), "ring", "bar" (log likelihood, W2, energy
/// distance, MMD).
const std::vector<std::string>& evaluation_targets();

/// JSON with the key "metrics" as a run's; W2, energy distance and MMD take at most kMaxPairwise
/// rows at even spacing ("num_pairwise"). x (N, 2), any float dtype; `name` is for messages. Throws
/// ConfigError for an unknown target or weights with another target than "product", ShapeError for
/// other shapes or under 16 rows, DataError for rows that are not finite and weights that are all 0.
std::string evaluate_samples(const at::Tensor& x, const std::string& name,
                             const EvaluateConfig& config);

}  // namespace motet
