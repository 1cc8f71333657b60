// Choice of the engine by what the CPU can do, and the layout of packed float weights.
#include "nets/engine.hpp"

#include <c10/util/BFloat16.h>

#include <cstdlib>
#include <cstring>

#include "nets/engine_pack.hpp"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace motet::detail {
namespace {

#if defined(__x86_64__) && defined(__linux__)
// AMX needs the CPU's tiles and bfloat16 products, the AVX-512 of the loops around them, and the
// kernel's leave to use the tiles' 8 KiB of state (arch_prctl ARCH_REQ_XCOMP_PERM, XTILEDATA).
bool has_amx() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || ((d >> 22) & 1U) == 0 ||
      ((d >> 24) & 1U) == 0) {
    return false;
  }
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d) == 0 || ((a >> 5) & 1U) == 0) {
    return false;  // no avx512_bf16
  }
  constexpr long kRequestPermission = 0x1023;
  constexpr long kTileData = 18;
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

const Engine& choose_float32() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) {
    return *avx512_engine();
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return *avx2_engine();
  }
#endif
  return portable_engine();
}

}  // namespace

const Engine& float32_engine() {
  static const Engine& engine = choose_float32();
  return engine;
}

const Engine* bfloat16_engine() {
#if defined(__x86_64__) && defined(__linux__)
  // For tests: MOTET_TEST_NO_AMX, set to anything, makes this a CPU without AMX.
  static const Engine* engine =
      std::getenv("MOTET_TEST_NO_AMX") == nullptr && has_amx() ? amx_engine() : nullptr;
  return engine;
#else
  return nullptr;
#endif
}

std::vector<std::byte> pack_float32(const float* weight, int64_t num_in, int64_t num_out) {
  std::vector<float> panels(static_cast<size_t>(padded(num_out) * num_in), 0.0f);
  for (int64_t column = 0; column < num_out; ++column) {
    float* panel = panels.data() + column / kPanel * kPanel * num_in + column % kPanel;
    for (int64_t k = 0; k < num_in; ++k) {
      panel[k * kPanel] = weight[column * num_in + k];
    }
  }
  std::vector<std::byte> bytes(panels.size() * sizeof(float));
  std::memcpy(bytes.data(), panels.data(), bytes.size());
  return bytes;
}

std::vector<std::byte> pack_bfloat16(const float* weight, int64_t num_in, int64_t num_out) {
  const int64_t num_steps = padded(num_in) / kPanel;
  std::vector<c10::BFloat16> panels(static_cast<size_t>(padded(num_out) * padded(num_in)));
  for (int64_t column = 0; column < num_out; ++column) {
    for (int64_t k = 0; k < num_in; ++k) {
      const int64_t step = column / kPanel * num_steps + k / kPanel;
      const int64_t half = step * 2 + column % kPanel / 16;
      const int64_t pair = half * 16 + k % kPanel / 2;
      const int64_t at = (pair * 16 + column % 16) * 2 + k % 2;
      panels[static_cast<size_t>(at)] = c10::BFloat16(weight[column * num_in + k]);
    }
  }
  std::vector<std::byte> bytes(panels.size() * sizeof(c10::BFloat16));
  std::memcpy(bytes.data(), panels.data(), bytes.size());
  return bytes;
}

}  // namespace motet::detail
