// The training loops for any processor.
#include "train_kernels.hpp"

#if !defined(__clang__)
#pragma GCC optimize("fp-contract=fast")
#endif
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors never cross a function that is not inlined

namespace motet::detail::baseline {
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

}  // namespace motet::detail::baseline
