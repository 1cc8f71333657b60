// The training loops for processors with AVX2.
#include "train_kernels.hpp"

#if defined(__x86_64__) && !defined(__clang__)  // see train_lanes.inc
#include <immintrin.h>

#pragma GCC target("avx2,fma,bmi2")
#pragma GCC optimize("fp-contract=fast")
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors never cross a function that is not inlined

namespace motet::detail::avx2 {
namespace {
#include "train_kernels.inc"
}  // namespace

template <class Real, class Operand>
const Kernels<Real, Operand>& loops() {
  static const Loops<Real, Operand> instance;
  return instance;
}
template const Kernels<float, float>& loops();
template const Kernels<float, c10::BFloat16>& loops();
template const Kernels<double, double>& loops();

}  // namespace motet::detail::avx2
#endif
