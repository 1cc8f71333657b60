// Vector operations of AVX-512 for engine_loops.inl; included after the target was set.
#pragma once

#if !defined(__clang__)
// g++ 12 takes the intrinsics' deliberately undefined operands for a mistake (its bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace motet::detail {
namespace {

struct Avx512 {
  using V = __m512;
  using Element = float;
  static constexpr int kWidth = 16;
  static constexpr int kRows = 12;  // 24 sums, 2 weights and the broadcasts in 32 registers

  MOTET_INLINE static V zero() { return _mm512_setzero_ps(); }
  MOTET_INLINE static V set1(float x) { return _mm512_set1_ps(x); }
  MOTET_INLINE static V load(const float* x) { return _mm512_loadu_ps(x); }
  MOTET_INLINE static void store(float* to, V x) { _mm512_storeu_ps(to, x); }
  MOTET_INLINE static V add(V a, V b) { return _mm512_add_ps(a, b); }
  MOTET_INLINE static V sub(V a, V b) { return _mm512_sub_ps(a, b); }
  MOTET_INLINE static V mul(V a, V b) { return _mm512_mul_ps(a, b); }
  MOTET_INLINE static V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  MOTET_INLINE static V fnma(V a, V b, V c) { return _mm512_fnmadd_ps(a, b, c); }
  MOTET_INLINE static V min(V a, V b) { return _mm512_min_ps(a, b); }
  MOTET_INLINE static float sum(V x) { return _mm512_reduce_add_ps(x); }
  MOTET_INLINE static V get(const float* from) { return load(from); }
  MOTET_INLINE static void put(float* to, V x) { store(to, x); }
  MOTET_INLINE static void put(float* to, V low, V high) {
    store(to, low);
    store(to + kWidth, high);
  }
  MOTET_INLINE static float inverse_sqrt(float x) {
    return 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
  }
  // 2^x = 2^n 2^f, |f| <= 1/2, by the degree-5 polynomial of least relative error with p(0) = 1:
  // 9e-8.
  MOTET_INLINE static V exp2(V x) {
    const V n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const V f = sub(x, n);
    V p = set1(1.326472615e-3f);
    p = fma(p, f, set1(9.671512991e-3f));
    p = fma(p, f, set1(5.550733581e-2f));
    p = fma(p, f, set1(2.402224243e-1f));
    p = fma(p, f, set1(6.931470037e-1f));
    p = fma(p, f, set1(1.0f));
    return _mm512_scalef_ps(p, n);
  }
  // 14 bits from the table, one Newton step: full float precision at a third of a division's cost.
  MOTET_INLINE static V reciprocal(V x) {
    const V r = _mm512_rcp14_ps(x);
    return mul(r, fnma(x, r, set1(2.0f)));
  }
};

}  // namespace
}  // namespace motet::detail
