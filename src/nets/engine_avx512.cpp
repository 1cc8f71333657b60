// The float32 loops for AVX-512: 12 x 32 register blocks, as fast as a large library GEMM.
#include "nets/engine.hpp"
#include "nets/engine_macros.hpp"
#include "nets/engine_pack.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

// GCC instantiates templates at the end of the file under the options in force there, so the target
// is never popped for it.
#if !defined(__clang__)
// g++ 12 takes the intrinsics' deliberately undefined operands for a mistake (its bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
#else
#pragma GCC target("avx512f")
#endif
// clang-format off
#include "nets/engine_avx512.hpp"
#include "nets/engine_loops.inl"
#include "nets/engine_float.inl"
// clang-format on

namespace motet::detail {

const Engine* avx512_engine() {
  static const Engine engine = make_float_engine<Avx512>("avx512");
  return &engine;
}

}  // namespace motet::detail
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
const motet::detail::Engine* motet::detail::avx512_engine() { return nullptr; }
#endif
