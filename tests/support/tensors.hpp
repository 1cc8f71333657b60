// Small tensors written out in tests.
#pragma once

#include <torch/types.h>

#include <initializer_list>
#include <vector>

namespace motet {

/// float64 (num_rows, num_columns) from nested lists; at::tensor takes flat lists only.
inline at::Tensor rows(std::initializer_list<std::initializer_list<double>> values) {
  std::vector<double> flat;
  for (const auto& row : values) {
    flat.insert(flat.end(), row.begin(), row.end());
  }
  return at::tensor(flat, at::kDouble).view({static_cast<int64_t>(values.size()), -1});
}

/// (B) bool.
inline at::Tensor bools(std::initializer_list<int> values) {
  return at::tensor(std::vector<int64_t>(values.begin(), values.end())).to(at::kBool);
}

}  // namespace motet
