// Packed layouts of weights. Kept apart from the engines: nothing of the standard library may be
// compiled for their instruction sets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace motet::detail {

/// Bytes of float panels [num_out / 32][num_in][32], zero beyond num_out, from (num_out, num_in).
std::vector<std::byte> pack_float32(const float* weight, int64_t num_in, int64_t num_out);

/// Bytes of bfloat16 AMX panels [num_out / 32][num_in / 32][2 halves][16 pairs of k][16
/// columns][2], zero beyond num_in and num_out, rounded to nearest even.
std::vector<std::byte> pack_bfloat16(const float* weight, int64_t num_in, int64_t num_out);

}  // namespace motet::detail
