// Counter-based randomness: Philox4x32-10 (Salmon et al. 2011), keyed by (seed, chain, level, step,
// draw).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>

namespace motet {

using at::Tensor;

/// Random numbers that depend only on (seed, chain, level, step, draw), never on the batch a chain
/// is in, the number of threads, or what was drawn before at another position. Row i of every
/// result belongs to chain first_chain + i. A small value type: copy it freely; a copy continues
/// independently from the same position.
///
/// Every draw throws ConfigError after 2^20 draws at one (level, step), for a chain of 2^32 or
/// above and for more than 2^25 coordinates a chain; those with a `like` throw ShapeError when it
/// has no batch dimension or a dtype other than float32 and float64.
class Rng {
 public:
  /// Throws ConfigError unless 0 <= first_chain < 2^32.
  explicit Rng(uint64_t seed, int64_t first_chain = 0);

  /// The same seed and chains, placed at (level, step) with the draw counter at 0.
  /// 0 <= level < 2^20, 0 <= step < 2^32. Throws ConfigError outside.
  Rng at(int64_t level, int64_t step) const;

  /// An independent generator for another purpose ("init", "data", ...) of the same run, at the
  /// same chains, level and step, with the draw counter at 0.
  Rng split(std::string_view purpose) const;

  /// The same generator with row 0 belonging to chain `first_chain`. Throws ConfigError unless
  /// 0 <= first_chain < 2^32.
  Rng for_chains(int64_t first_chain) const;

  /// Standard normal, shape, dtype and device of `like` (B, *event). Advances the draw counter by
  /// one.
  Tensor normal_like(const Tensor& like);

  /// Uniform on (0, 1), shape (num_chains), float64 on the device of `like` (whose shape and dtype
  /// do not matter), one number a chain. Advances the draw counter by one. Throws ConfigError
  /// unless 0 <= num_chains < 2^32.
  Tensor uniform(int64_t num_chains, const Tensor& like);

  /// Uniform on (0, 1), shape, dtype and device of `like` (B, *event). Advances the draw counter by
  /// one.
  Tensor uniform_like(const Tensor& like);

  uint64_t seed() const { return seed_; }
  int64_t first_chain() const { return first_chain_; }

 private:
  uint64_t seed_;
  int64_t first_chain_ = 0;
  int64_t level_ = 0;
  int64_t step_ = 0;
  int64_t draw_ = 0;
};

}  // namespace motet
