// Counter-based randomness. A number is a pure function of (seed, chain, level, step, draw,
// coordinate): the six fill the key and the counter of one Philox4x32-10 call (Salmon et al. 2011;
// layout in philox.hpp), so nothing depends on batch, thread or history. One 128-bit block gives
// two 52-bit uniforms u = (k + 1/2) 2^-52, and by Box and Muller (1958) two normals
// r cos(2 pi u_2), r sin(2 pi u_2), r = sqrt(-2 log u_1).
// On the CPU a plain loop: 2000 x 2 normals cost well under a hundredth of a network pass. Other
// devices get the same integers by int64 tensor operations, without a transfer.
#include "motet/rng.hpp"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <cmath>
#include <numbers>
#include <string>

#include "motet/error.hpp"
#include "philox.hpp"

namespace motet {
namespace detail {
namespace {

constexpr double kTwoPi = 2.0 * std::numbers::pi;
// Blocks a thread takes at least; one block is about 50 ns, waking a thread some microseconds.
constexpr int64_t kGrainBlocks = 1024;

// 52 and not 53 bits: with the half that keeps 0 away, a 53rd bit would round the largest up to 1.
double to_uniform(uint32_t high, uint32_t low) {
  const uint64_t bits = (static_cast<uint64_t>(high) << 20) | (low >> 12);
  return (static_cast<double>(bits) + 0.5) * 0x1p-52;
}

// 23 bits for the same reason; a cast of the double could round up to 1.
float to_uniform_float(uint32_t high) { return (static_cast<float>(high >> 9) + 0.5F) * 0x1p-23F; }

struct Pair {
  double first;
  double second;
};

Pair to_normals(const PhiloxBlock& words) {
  const double radius = std::sqrt(-2.0 * std::log(to_uniform(words[0], words[1])));
  const double angle = kTwoPi * to_uniform(words[2], words[3]);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

template <typename Scalar>
Pair to_uniforms(const PhiloxBlock& words) {
  if constexpr (std::is_same_v<Scalar, float>) {
    return {to_uniform_float(words[0]), to_uniform_float(words[2])};
  }
  return {to_uniform(words[0], words[1]), to_uniform(words[2], words[3])};
}

int64_t blocks_for(int64_t num_coordinates) { return (num_coordinates + 1) / 2; }

// Fills (num_chains, num_coordinates) with convert(block): coordinates 2b and 2b+1 are block b's.
template <typename Scalar, typename Convert>
void fill(Scalar* out, const DrawPosition& position, int64_t first_chain, int64_t num_chains,
          int64_t num_coordinates, const Convert& convert) {
  const int64_t num_blocks = blocks_for(num_coordinates);
  at::parallel_for(0, num_chains * num_blocks, kGrainBlocks, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i / num_blocks;
      const int64_t block = i % num_blocks;
      const Pair pair = convert(philox_at(position, static_cast<uint32_t>(first_chain + row),
                                          static_cast<uint32_t>(block)));
      Scalar* const at = out + row * num_coordinates + 2 * block;
      at[0] = static_cast<Scalar>(pair.first);
      if (2 * block + 1 < num_coordinates) {
        at[1] = static_cast<Scalar>(pair.second);
      }
    }
  });
}

Tensor low_word(const Tensor& x) { return x.bitwise_and(int64_t{0xFFFFFFFF}); }

// One Philox round on (c0, c1, c2, c3). int64 products wrap to the same 64 bits as unsigned ones;
// the arithmetic shift is masked back to the high word.
void philox_round(std::array<Tensor, 4>& c, int64_t key0, int64_t key1) {
  const Tensor product0 = c[0] * static_cast<int64_t>(PHILOX_M4x32_0);
  const Tensor product1 = c[2] * static_cast<int64_t>(PHILOX_M4x32_1);
  const Tensor high0 = low_word(product0.bitwise_right_shift(32));
  const Tensor high1 = low_word(product1.bitwise_right_shift(32));
  c = {high1.bitwise_xor(c[1]).bitwise_xor(key0), low_word(product1),
       high0.bitwise_xor(c[3]).bitwise_xor(key1), low_word(product0)};
}

// to_uniform on (high, low) words.
Tensor uniform_from(const Tensor& high, const Tensor& low) {
  const Tensor bits = high.bitwise_left_shift(20).bitwise_or(low.bitwise_right_shift(12));
  return (bits.to(at::kDouble) + 0.5) * 0x1p-52;
}

// (num_chains, num_blocks, 2) -> (num_chains, num_coordinates), the padding number dropped.
Tensor interleave(const Tensor& first, const Tensor& second, int64_t num_coordinates) {
  return at::stack({first, second}, -1).flatten(1).narrow(1, 0, num_coordinates).contiguous();
}

}  // namespace

Tensor philox_tensor(const DrawPosition& position, int64_t first_chain, int64_t num_chains,
                     int64_t num_blocks, at::Device device) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  const auto full = [&](int64_t value) {
    return at::full({num_chains, num_blocks}, value, options);
  };
  const Tensor chain = at::arange(first_chain, first_chain + num_chains, options).unsqueeze(1);
  const Tensor block = at::arange(num_blocks, options).unsqueeze(0);
  std::array<Tensor, 4> c = {
      chain.expand({num_chains, num_blocks}), full(position.step), full(level_word(position)),
      block.bitwise_or(int64_t{draw_word(position)}).expand({num_chains, num_blocks})};
  auto key0 = static_cast<uint32_t>(position.seed);
  auto key1 = static_cast<uint32_t>(position.seed >> 32);
  for (int round = 0; round < philox4x32_rounds; ++round) {
    philox_round(c, key0, key1);
    key0 += PHILOX_W32_0;
    key1 += PHILOX_W32_1;
  }
  return at::stack({c[0], c[1], c[2], c[3]});
}

Tensor uniform_tensor(const DrawPosition& position, int64_t first_chain, int64_t num_chains,
                      int64_t num_coordinates, at::ScalarType dtype, at::Device device) {
  const Tensor words =
      philox_tensor(position, first_chain, num_chains, blocks_for(num_coordinates), device);
  if (dtype == at::kFloat) {
    const auto convert = [](const Tensor& high) {
      return (high.bitwise_right_shift(9).to(at::kFloat) + 0.5) * 0x1p-23;
    };
    return interleave(convert(words[0]), convert(words[2]), num_coordinates);
  }
  return interleave(uniform_from(words[0], words[1]), uniform_from(words[2], words[3]),
                    num_coordinates);
}

Tensor normal_tensor(const DrawPosition& position, int64_t first_chain, int64_t num_chains,
                     int64_t num_coordinates, at::ScalarType dtype, at::Device device) {
  const Tensor words =
      philox_tensor(position, first_chain, num_chains, blocks_for(num_coordinates), device);
  const Tensor radius = (uniform_from(words[0], words[1]).log() * -2.0).sqrt();
  const Tensor angle = uniform_from(words[2], words[3]) * kTwoPi;
  return interleave(radius * angle.cos(), radius * angle.sin(), num_coordinates).to(dtype);
}

}  // namespace detail

namespace {

constexpr int64_t limit(int bits) { return int64_t{1} << bits; }

void check_range(const char* what, int64_t value, int64_t end, const char* advice = "") {
  if (value < 0 || value >= end) {
    throw ConfigError("rng: " + std::string(what) + " = " + std::to_string(value) +
                      ", must be in 0 .. " + std::to_string(end - 1) + advice);
  }
}

// What a draw fills: (num_chains, num_coordinates) rows of a checked tensor.
struct Extent {
  int64_t num_chains;
  int64_t num_coordinates;
};

Extent extent_of(const Tensor& like) {
  if (like.dim() < 1) {
    throw ShapeError("rng: like has no batch dimension, must be (B, *event)");
  }
  if (like.scalar_type() != at::kFloat && like.scalar_type() != at::kDouble) {
    throw ShapeError(std::string("rng: like has dtype ") + c10::toString(like.scalar_type()) +
                     ", must be Float or Double");
  }
  const int64_t num_chains = like.size(0);
  int64_t num_coordinates = 1;
  for (const int64_t size : like.sizes().slice(1)) {
    num_coordinates *= size;
  }
  return {num_chains, num_coordinates};
}

void check_extent(const Extent& extent, int64_t first_chain) {
  if (extent.num_chains > 0) {
    check_range("last chain", first_chain + extent.num_chains - 1, limit(detail::kChainBits));
  }
  if (extent.num_coordinates > 0) {
    check_range("last coordinate", extent.num_coordinates - 1, 2 * limit(detail::kBlockBits));
  }
}

// FNV-1a, 64 bits: only spreads short purposes; Philox under the old key does the mixing.
uint64_t fnv1a(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325U;
  for (const char c : text) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
  }
  return hash;
}

}  // namespace

Rng::Rng(uint64_t seed, int64_t first_chain) : seed_(seed), first_chain_(first_chain) {
  check_range("first_chain", first_chain, limit(detail::kChainBits));
}

Rng Rng::at(int64_t level, int64_t step) const {
  check_range("level", level, limit(detail::kLevelBits));
  check_range("step", step, limit(detail::kStepBits));
  Rng placed = *this;
  placed.level_ = level;
  placed.step_ = step;
  placed.draw_ = 0;
  return placed;
}

Rng Rng::split(std::string_view purpose) const {
  const uint64_t hash = fnv1a(purpose);
  const detail::PhiloxBlock words = detail::philox(
      seed_, {static_cast<uint32_t>(hash), static_cast<uint32_t>(hash >> 32), ~0U, ~0U});
  Rng child = *this;
  child.seed_ = (static_cast<uint64_t>(words[1]) << 32) | words[0];
  child.draw_ = 0;
  return child;
}

Rng Rng::for_chains(int64_t first_chain) const {
  check_range("first_chain", first_chain, limit(detail::kChainBits));
  Rng moved = *this;
  moved.first_chain_ = first_chain;
  return moved;
}

namespace {

// The position of the next draw; counts it.
detail::DrawPosition next_draw(uint64_t seed, int64_t level, int64_t step, int64_t& draw) {
  check_range("draw", draw, limit(detail::kDrawBits), "; move on with at(level, step)");
  return {.seed = seed, .level = level, .step = step, .draw = draw++};
}

template <typename Scalar>
void fill_normal(const Tensor& out, const detail::DrawPosition& position, int64_t first_chain,
                 const Extent& extent) {
  detail::fill(out.data_ptr<Scalar>(), position, first_chain, extent.num_chains,
               extent.num_coordinates, detail::to_normals);
}

template <typename Scalar>
void fill_uniform(const Tensor& out, const detail::DrawPosition& position, int64_t first_chain,
                  const Extent& extent) {
  detail::fill(out.data_ptr<Scalar>(), position, first_chain, extent.num_chains,
               extent.num_coordinates, detail::to_uniforms<Scalar>);
}

Tensor draw_uniform(const detail::DrawPosition& position, int64_t first_chain, const Extent& extent,
                    at::ScalarType dtype, at::Device device) {
  check_extent(extent, first_chain);
  if (!device.is_cpu()) {
    return detail::uniform_tensor(position, first_chain, extent.num_chains, extent.num_coordinates,
                                  dtype, device);
  }
  const Tensor out = at::empty({extent.num_chains, extent.num_coordinates}, dtype);
  if (dtype == at::kFloat) {
    fill_uniform<float>(out, position, first_chain, extent);
  } else {
    fill_uniform<double>(out, position, first_chain, extent);
  }
  return out;
}

}  // namespace

Tensor Rng::normal_like(const Tensor& like) {
  const Extent extent = extent_of(like);
  check_extent(extent, first_chain_);
  const detail::DrawPosition position = next_draw(seed_, level_, step_, draw_);
  if (!like.device().is_cpu()) {
    return detail::normal_tensor(position, first_chain_, extent.num_chains, extent.num_coordinates,
                                 like.scalar_type(), like.device())
        .view(like.sizes());
  }
  const Tensor out = at::empty(like.sizes(), like.scalar_type());
  if (like.scalar_type() == at::kFloat) {
    fill_normal<float>(out, position, first_chain_, extent);
  } else {
    fill_normal<double>(out, position, first_chain_, extent);
  }
  return out;
}

Tensor Rng::uniform(int64_t num_chains, const Tensor& like) {
  check_range("num_chains", num_chains, limit(detail::kChainBits));
  const detail::DrawPosition position = next_draw(seed_, level_, step_, draw_);
  return draw_uniform(position, first_chain_, {num_chains, 1}, at::kDouble, like.device())
      .squeeze(1);
}

Tensor Rng::uniform_like(const Tensor& like) {
  const Extent extent = extent_of(like);
  const detail::DrawPosition position = next_draw(seed_, level_, step_, draw_);
  return draw_uniform(position, first_chain_, extent, like.scalar_type(), like.device())
      .view(like.sizes());
}

}  // namespace motet
