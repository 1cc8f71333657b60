// Several .npy arrays in one file, one after the other: what equinox writes.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>
#include <vector>

namespace motet::detail {

/// Arrays as parse_npy() takes them, and numbers of shape (), that fill `bytes` to the end, at most
/// max_arrays. Throws DataError, naming the array (from 1), for all else.
std::vector<at::Tensor> parse_npy_sequence(std::string_view bytes, const std::string& name,
                                           size_t max_arrays);

}  // namespace motet::detail
