// The float32 loops for AVX-512: 12 x 32 register blocks, as fast as a large library GEMM.
#include "nets/engine.hpp"
#include "nets/engine_macros.hpp"
#include "nets/engine_pack.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

MOTET_BEGIN_TARGET("avx512f")
// clang-format off
#include "nets/engine_avx512.hpp"
#include "nets/engine_loops.inl"
#include "nets/engine_images.inl"
#include "nets/engine_float.inl"
// clang-format on

namespace motet::detail {

const Engine* avx512_engine() {
  static const Engine engine = make_float_engine<Avx512>("avx512");
  return &engine;
}

}  // namespace motet::detail
MOTET_END_TARGET
#endif
