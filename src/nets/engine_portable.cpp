// The float32 loops in plain C++, for CPUs that have no engine of their own.
#include <cmath>

#include "nets/engine.hpp"
#include "nets/engine_macros.hpp"
#include "nets/engine_pack.hpp"

namespace motet::detail {
namespace {

// Four lanes of ordinary arithmetic; compilers turn them into the baseline's vectors. Products and
// sums round separately: a fused multiply-add without hardware is a slow library call.
struct Portable {
  static constexpr int kWidth = 4;
  static constexpr int kRows = 4;
  using Element = float;
  struct V {
    float lane[kWidth];
  };

  template <class Function>
  MOTET_INLINE static V map(Function function) {
    V result;
    for (int i = 0; i < kWidth; ++i) {
      result.lane[i] = function(i);
    }
    return result;
  }
  static V zero() { return set1(0.0f); }
  static V set1(float x) {
    return map([&](int) { return x; });
  }
  static V load(const float* x) {
    return map([&](int i) { return x[i]; });
  }
  static void store(float* to, V x) {
    for (int i = 0; i < kWidth; ++i) {
      to[i] = x.lane[i];
    }
  }
  static V add(V a, V b) {
    return map([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static V sub(V a, V b) {
    return map([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static V mul(V a, V b) {
    return map([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static V fma(V a, V b, V c) {
    return map([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
  }
  static V fnma(V a, V b, V c) {
    return map([&](int i) { return c.lane[i] - a.lane[i] * b.lane[i]; });
  }
  static V min(V a, V b) {
    return map([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static float sum(V x) { return (x.lane[0] + x.lane[2]) + (x.lane[1] + x.lane[3]); }
  static V get(const float* from) { return load(from); }
  static void put(float* to, V x) { store(to, x); }
  static void put(float* to, V low, V high) {
    store(to, low);
    store(to + kWidth, high);
  }
  static float inverse_sqrt(float x) { return 1.0f / std::sqrt(x); }
  static V exp2(V x) {
    return map([&](int i) { return std::exp2(x.lane[i]); });
  }
  static V reciprocal(V x) {
    return map([&](int i) { return 1.0f / x.lane[i]; });
  }
};

}  // namespace
}  // namespace motet::detail

// clang-format off
#include "nets/engine_loops.inl"
#include "nets/engine_images.inl"
#include "nets/engine_float.inl"
// clang-format on

namespace motet::detail {

const Engine& portable_engine() {
  static const Engine engine = make_float_engine<Portable>("portable");
  return engine;
}

}  // namespace motet::detail
