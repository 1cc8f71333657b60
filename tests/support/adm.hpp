// Networks of guided-diffusion with the weights and points of tools/golden_adm.py, which are made by
// a formula on both sides.
#pragma once

#include <torch/types.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "nets/tensors.hpp"

namespace motet::testing {

/// Numbers of [-1, 1) that look random: whole numbers over 2^15.
inline at::Tensor hashed(int64_t count, int64_t key) {
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t mixed = ((i + 1) * (i + 7 + 13 * key) * 40503 + 30011 * key) % 65536;
    values.push_back(static_cast<double>(mixed) / 32768.0 - 1.0);
  }
  return at::tensor(values, at::kDouble);
}

inline at::Tensor adm_tensor(const std::string& name, const std::vector<int64_t>& shape,
                             int64_t key) {
  const int64_t count = c10::multiply_integers(shape);
  at::Tensor values = hashed(count, key);
  if (name.ends_with("bias")) {
    values = 0.1 * values;
  } else if (shape.size() == 1) {
    values = 1.0 + 0.3 * values;
  } else {
    values = values * std::sqrt(3.0 / (static_cast<double>(count) / static_cast<double>(shape[0])));
  }
  return values.to(at::kFloat).view(shape);
}

/// All of a network's tensors, float32.
inline detail::TensorMap adm_tensors(const detail::ShapeMap& shapes) {
  detail::TensorMap tensors;
  int64_t key = 0;
  for (const auto& [name, shape] : shapes) {
    tensors[name] = adm_tensor(name, shape, key++);
  }
  return tensors;
}

/// (2, channels, size, size) float32.
inline at::Tensor adm_points(int64_t channels, int64_t size) {
  return (1.5 * hashed(2 * channels * size * size, 99).to(at::kFloat))
      .view({2, channels, size, size});
}

/// FNV-1a (64 bits) of the lines "NAME SIZE SIZE ...".
inline std::string fingerprint(const detail::ShapeMap& shapes) {
  uint64_t value = 0xCBF29CE484222325;
  const auto add = [&value](const std::string& text) {
    for (const char byte : text) {
      value = (value ^ static_cast<unsigned char>(byte)) * 0x100000001B3;
    }
  };
  for (const auto& [name, shape] : shapes) {
    add(name);
    for (const int64_t size : shape) {
      add(" " + std::to_string(size));
    }
    add("\n");
  }
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4) {
    text += kDigits[value >> shift & 15];
  }
  return text;
}

}  // namespace motet::testing
