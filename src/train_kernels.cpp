// Chooses the training loops for this machine's instruction set, once.
#include "train_kernels.hpp"

#include <ATen/native/CPUBlas.h>

#include "nets/engine.hpp"
#include "train_pass.hpp"

namespace motet::detail {

namespace baseline {
template <class Real, class Operand>
const Kernels<Real, Operand>& loops();
}  // namespace baseline
namespace avx2 {
template <class Real, class Operand>
const Kernels<Real, Operand>& loops();
}  // namespace avx2
namespace avx512 {
template <class Real, class Operand>
const Kernels<Real, Operand>& loops();
}  // namespace avx512

template <class Real, class Operand>
const Kernels<Real, Operand>& kernels() {
#if defined(__x86_64__) && !defined(__clang__)  // see train_lanes.inc
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return avx512::loops<Real, Operand>();
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2")) {
    return avx2::loops<Real, Operand>();
  }
#endif
  return baseline::loops<Real, Operand>();
}

// The engines of sampling say whether the processor has AMX, torch whether its own products use it:
// it may be built without them, or told not to by the environment.
bool has_bfloat16_products() {
  return bfloat16_engine() != nullptr && at::native::cpublas::could_pack(at::kBFloat16);
}

template const Kernels<float, float>& kernels();
template const Kernels<float, c10::BFloat16>& kernels();
template const Kernels<double, double>& kernels();

}  // namespace motet::detail
