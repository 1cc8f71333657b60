// bfloat16 products on AMX tiles with float32 sums, and AVX-512 loops around them.
//
// A register block is 32 x 32 sums in four tiles; a step adds the product of 2 x (16 rows x 32 k)
// and 2 x (32 k x 16 columns). The sums go through a 4 KiB buffer in the first-level cache to the
// activation. Activations are rounded to bfloat16 once, when a layer's output is written.
#include "nets/engine.hpp"
#include "nets/engine_macros.hpp"
#include "nets/engine_pack.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

MOTET_BEGIN_TARGET("avx512f,avx512bw,avx512bf16,amx-tile,amx-bf16")

#include "nets/engine_avx512.hpp"

namespace motet::detail {
namespace {

// As Avx512, but elements are bfloat16 and so need fewer bits of the sigmoid: a cubic (1e-4) and
// the table's 14 bits are below half a unit in the last place of bfloat16 (2e-3).
struct Amx : Avx512 {
  using Element = uint16_t;
  MOTET_INLINE static void put(uint16_t* to, V low, V high) {
    const __m512bh both = _mm512_cvtne2ps_pbh(high, low);
    __builtin_memcpy(to, &both, sizeof both);
  }
  MOTET_INLINE static V get(const uint16_t* from) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  MOTET_INLINE static void put(uint16_t* to, V x) {
    const __m256bh bits = _mm512_cvtneps_pbh(x);
    __builtin_memcpy(to, &bits, sizeof bits);
  }
  MOTET_INLINE static V exp2(V x) {
    const V n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const V f = sub(x, n);
    V p = set1(5.500892550e-2f);
    p = fma(p, f, set1(2.422109544e-1f));
    p = fma(p, f, set1(6.932829022e-1f));
    p = fma(p, f, set1(1.0f));
    return _mm512_scalef_ps(p, n);
  }
  MOTET_INLINE static V reciprocal(V x) { return _mm512_rcp14_ps(x); }
};

}  // namespace
}  // namespace motet::detail

// clang-format off
#include "nets/engine_loops.inl"
#include "nets/engine_images.inl"
// clang-format on

namespace motet::detail {
namespace {

constexpr int64_t kBlock = 32;  // rows of a register block
constexpr int kSumStride = 32;  // floats

// Palette 1, all eight tiles 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

// The configuration is static because g++ 12's intrinsic tells the optimiser only of its first 8
// bytes: stores to a local one are dropped.
void begin_tiles() {
  static constexpr TileConfig kConfig;
  _tile_loadconfig(&kConfig);
}

// Libraries that use the tiles configure them before each use; leaving them idle lets the CPU save
// power and the system skip their state.
void end_tiles() { _tile_release(); }

// The sums of a 32 x 32 block of a (rows, num_in) times a panel.
MOTET_INLINE void tile_block(const uint16_t* a, int64_t a_stride, const uint16_t* panel,
                             int64_t num_in, float* sums) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const int64_t stride = a_stride * 2;
  for (int64_t k = 0; k < num_in; k += kPanel) {
    _tile_loadd(4, a + k, stride);
    _tile_loadd(6, panel + k * kPanel, 64);
    _tile_loadd(7, panel + k * kPanel + 512, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a + 16 * a_stride + k, stride);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  constexpr int kBytes = kSumStride * 4;
  _tile_stored(0, sums, kBytes);
  _tile_stored(1, sums + 16, kBytes);
  _tile_stored(2, sums + 16 * kSumStride, kBytes);
  _tile_stored(3, sums + 16 * kSumStride + 16, kBytes);
}

template <class Store>
void tile_product(const Product& p) {
  alignas(64) float sums[kBlock * kSumStride];
  const auto* a = static_cast<const uint16_t*>(p.a);
  const auto* weight = static_cast<const uint16_t*>(p.weight);
  for (int64_t column = 0; column < p.num_out; column += kPanel) {
    for (int64_t row = 0; row < p.rows; row += kBlock) {
      tile_block(a + row * p.a_stride, p.a_stride, weight + column * p.num_in, p.num_in, sums);
      const int64_t num = p.rows - row < kBlock ? p.rows - row : kBlock;
      for (int64_t r = 0; r < num; ++r) {
        const float* sum = sums + r * kSumStride;
        Store::apply(p, row + r, column, Amx::load(sum), Amx::load(sum + 16));
      }
    }
  }
}

void silu_product(const Product& p) {
  p.slope != nullptr ? tile_product<StoreSilu<Amx, true>>(p)
                     : tile_product<StoreSilu<Amx, false>>(p);
}

}  // namespace

const Engine* amx_engine() {
  static const Engine engine = {.name = "amx",
                                .element_size = 2,
                                .row_block = kBlock,
                                .pack = pack_bfloat16,
                                .linear = tile_product<StoreAffine<Amx>>,
                                .linear_silu = silu_product,
                                .linear_add = tile_product<StoreAdd<Amx>>,
                                .linear_scale = tile_product<StoreScaled<Amx>>,
                                .norm_silu = norm_silu<Amx>,
                                .norm_backward = norm_backward<Amx>,
                                .group_norm = group_norm<Amx>,
                                .narrow = narrow_rows<Amx>,
                                .begin = begin_tiles,
                                .end = end_tiles};
  return &engine;
}

}  // namespace motet::detail
MOTET_END_TARGET
#endif
