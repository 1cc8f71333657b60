// The tables of keys of the two kinds of config, and the ranges that they share.
#pragma once

#include <vector>

#include "settings.hpp"

namespace motet::detail {

inline constexpr Range kPositive{.low = 0.0, .low_open = true};
inline constexpr double kMaxCount = 1e9;
constexpr Range counts(double low, double high = kMaxCount) { return {.low = low, .high = high}; }

const std::vector<Key>& sample_keys();
const std::vector<Key>& train_keys();
/// Of [network] for the architecture "residual_mlp".
std::vector<Key> residual_mlp_keys();
/// Of the tables that read_likelihood() reads; low and high are among the laws' keys.
std::vector<Key> likelihood_keys();

}  // namespace motet::detail
