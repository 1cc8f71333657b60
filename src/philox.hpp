// The counter layout and the raw numbers behind motet::Rng; private, shared with its tests.
#pragma once

#include <ATen/core/Tensor.h>
#include <Random123/philox.h>

#include <array>
#include <cstdint>

namespace motet::detail {

using at::Tensor;
using PhiloxBlock = std::array<uint32_t, 4>;

/// Bits of each field of the 128-bit Philox counter. No two positions share a counter:
///   word 0: chain (32)
///   word 1: step (32)
///   word 2: level (20, low bits), low 12 bits of draw
///   word 3: block (24, low bits), high 8 bits of draw
/// The key is the seed: key[0] its low word, key[1] its high word. One block gives two numbers.
constexpr int kChainBits = 32;
constexpr int kStepBits = 32;
constexpr int kLevelBits = 20;
constexpr int kBlockBits = 24;
constexpr int kDrawBits = 20;
constexpr int kDrawLowBits = 12;

/// Where in a run a draw is made; all fields within their bits.
struct DrawPosition {
  uint64_t seed = 0;
  int64_t level = 0;
  int64_t step = 0;
  int64_t draw = 0;
};

/// Words 2 and 3 of the counter, block left out (it is or-ed into word 3).
inline uint32_t level_word(const DrawPosition& position) {
  return static_cast<uint32_t>(position.level | (position.draw << kLevelBits));
}
inline uint32_t draw_word(const DrawPosition& position) {
  return static_cast<uint32_t>((position.draw >> kDrawLowBits) << kBlockBits);
}

/// Philox4x32-10 of one counter.
inline PhiloxBlock philox(uint64_t seed, const PhiloxBlock& counter) {
  const r123::Philox4x32::ctr_type words = {{counter[0], counter[1], counter[2], counter[3]}};
  const r123::Philox4x32::key_type key = {
      {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}};
  const r123::Philox4x32::ctr_type out = r123::Philox4x32()(words, key);
  return {out[0], out[1], out[2], out[3]};
}

inline PhiloxBlock philox_at(const DrawPosition& position, uint32_t chain, uint32_t block) {
  return philox(position.seed, {chain, static_cast<uint32_t>(position.step), level_word(position),
                                draw_word(position) | block});
}

/// The same integers by torch operations on `device`, without a transfer to the host: (4,
/// num_chains, num_blocks) int64, each in 0 .. 2^32-1.
Tensor philox_tensor(const DrawPosition& position, int64_t first_chain, int64_t num_chains,
                     int64_t num_blocks, at::Device device);

/// Torch-operation versions of the draws for devices other than the CPU (and, in tests, on it).
/// uniform: the same bits as the CPU loop's; normal: equal to the rounding of the device's log,
/// cos and sin. Both (num_chains, num_coordinates).
Tensor uniform_tensor(const DrawPosition& position, int64_t first_chain, int64_t num_chains,
                      int64_t num_coordinates, at::ScalarType dtype, at::Device device);
Tensor normal_tensor(const DrawPosition& position, int64_t first_chain, int64_t num_chains,
                     int64_t num_coordinates, at::ScalarType dtype, at::Device device);

}  // namespace motet::detail
