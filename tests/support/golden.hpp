// Files of tests/golden, as tools/golden_*.py wrote them.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/types.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace motet::testing {

/// tests/golden/NAME.json.
inline nlohmann::json read_golden(const std::string& name) {
  std::ifstream file(MOTET_SOURCE_DIR "/tests/golden/" + name + ".json");
  return nlohmann::json::parse(file);
}

/// Rows of numbers as a float64 matrix.
inline at::Tensor matrix(const nlohmann::json& rows) {
  std::vector<double> flat;
  for (const nlohmann::json& row : rows) {
    for (const nlohmann::json& entry : row) {
      flat.push_back(entry.get<double>());
    }
  }
  return at::tensor(flat, at::kDouble).reshape({static_cast<int64_t>(rows.size()), -1});
}

}  // namespace motet::testing
