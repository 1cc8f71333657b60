// A network's tensors by name, and where they live.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace motet::detail {

using TensorMap = std::map<std::string, at::Tensor>;
using ShapeMap = std::map<std::string, std::vector<int64_t>>;

/// Which dtypes a file may have.
enum class TensorDtype {
  float32,
  any_float,  ///< float16, bfloat16, float32, float64: what other people's files hold
};

/// Throws DataError unless `tensors` are exactly those expected, in such a dtype: `prefix`, the
/// tensor, what was found, what was expected.
void check_tensors(const ShapeMap& expected, const TensorMap& tensors, const std::string& prefix,
                   TensorDtype dtype);

/// "cpu" or "cuda" as torch has it. Throws ConfigError for other words and an absent device.
at::Device device_from(const std::string& device);

}  // namespace motet::detail
