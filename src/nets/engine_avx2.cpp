// The float32 loops for AVX2 with FMA: 6 x 16 register blocks.
#include "nets/engine.hpp"
#include "nets/engine_macros.hpp"
#include "nets/engine_pack.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

MOTET_BEGIN_TARGET("avx2,fma")

namespace motet::detail {
namespace {

struct Avx2 {
  using V = __m256;
  using Element = float;
  static constexpr int kWidth = 8;
  static constexpr int kRows = 6;  // 12 sums, 2 weights and a broadcast in 16 registers

  MOTET_INLINE static V zero() { return _mm256_setzero_ps(); }
  MOTET_INLINE static V set1(float x) { return _mm256_set1_ps(x); }
  MOTET_INLINE static V load(const float* x) { return _mm256_loadu_ps(x); }
  MOTET_INLINE static void store(float* to, V x) { _mm256_storeu_ps(to, x); }
  MOTET_INLINE static V add(V a, V b) { return _mm256_add_ps(a, b); }
  MOTET_INLINE static V sub(V a, V b) { return _mm256_sub_ps(a, b); }
  MOTET_INLINE static V mul(V a, V b) { return _mm256_mul_ps(a, b); }
  MOTET_INLINE static V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  MOTET_INLINE static V fnma(V a, V b, V c) { return _mm256_fnmadd_ps(a, b, c); }
  MOTET_INLINE static V min(V a, V b) { return _mm256_min_ps(a, b); }
  MOTET_INLINE static float sum(V x) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_shuffle_ps(half, half, 1)));
  }
  MOTET_INLINE static V get(const float* from) { return load(from); }
  MOTET_INLINE static void put(float* to, V x) { store(to, x); }
  MOTET_INLINE static void put(float* to, V low, V high) {
    store(to, low);
    store(to + kWidth, high);
  }
  MOTET_INLINE static float inverse_sqrt(float x) {
    return 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
  }
  // As in AVX-512; 2^n is built from its bits, so the exponent is bounded below as well.
  MOTET_INLINE static V exp2(V x) {
    x = _mm256_max_ps(x, set1(-126.0f));
    const V n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const V f = sub(x, n);
    V p = set1(1.326472615e-3f);
    p = fma(p, f, set1(9.671512991e-3f));
    p = fma(p, f, set1(5.550733581e-2f));
    p = fma(p, f, set1(2.402224243e-1f));
    p = fma(p, f, set1(6.931470037e-1f));
    p = fma(p, f, set1(1.0f));
    const __m256i scale =
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return mul(p, _mm256_castsi256_ps(scale));
  }
  MOTET_INLINE static V reciprocal(V x) { return _mm256_div_ps(set1(1.0f), x); }
};

}  // namespace
}  // namespace motet::detail

// clang-format off
#include "nets/engine_loops.inl"
#include "nets/engine_images.inl"
#include "nets/engine_float.inl"
// clang-format on

namespace motet::detail {

const Engine* avx2_engine() {
  static const Engine engine = make_float_engine<Avx2>("avx2");
  return &engine;
}

}  // namespace motet::detail
MOTET_END_TARGET
#endif
