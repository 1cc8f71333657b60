// The inner loops of a network pass, one set per instruction set, chosen at run time.
//
// Why not library calls: a fused forward pass of the paper's network through oneDNN reaches 60-80 %
// of a large GEMM, because every product writes its result to memory and reads it back for the
// activation. Here bias, SiLU, its derivative and the residual sum happen in registers, and a tile
// of rows stays in cache through all layers. Second reason: every output element is one chain of
// fused multiply-adds over k = 0, 1, ..., so a row's bits cannot depend on the rows beside it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace motet::detail {

/// Columns of a packed weight panel; every padded width is a multiple of it. Also a multiple of
/// the depth of one AMX step.
inline constexpr int64_t kPanel = 32;

/// `size` rounded up to whole panels.
inline constexpr int64_t padded(int64_t size) { return (size + kPanel - 1) / kPanel * kPanel; }

/// Arguments of one product of a tile of rows with packed weights. Strides count elements.
/// "Element" is float, or bfloat16 in the AMX engine.
struct Product {
  const void* a;       ///< (rows, num_in) elements
  int64_t a_stride;    ///< between rows of a
  const void* weight;  ///< packed by Engine::pack
  const float* bias;   ///< (num_out)
  void* c;             ///< (rows, num_out)
  int64_t c_stride;    ///< between rows of c
  float* slope;        ///< (rows, num_out), packed rows: SiLU' to write or to multiply by; may be
                       ///< null where it is only written
  int64_t rows;        ///< for the AMX engine a and c own memory up to whole blocks of 32 rows
  int64_t num_in;      ///< AMX engine: padded
  int64_t num_out;     ///< padded
};

/// Arguments of SiLU(LayerNorm(h)) of a tile and of its backward pass. Rows of h and of its
/// gradient are h_stride floats apart; normed and slope are packed rows of padded(width).
struct Norm {
  float* h;  ///< (rows, width): the input; in the backward pass its gradient, added to
  int64_t h_stride;
  const float* gamma;  ///< (padded), zero beyond width
  const float* beta;   ///< (padded), zero beyond width
  const float* mask;   ///< (padded), 1 up to width, then 0
  void* out;           ///< forward: elements; backward: float gradient of SiLU(LayerNorm(h))
  int64_t out_stride;
  float* normed;      ///< (h - mean) / sd, kept for the backward pass; null: not kept
  float* slope;       ///< SiLU'(.) gamma, kept for the backward pass
  float* inverse_sd;  ///< (rows)
  int64_t rows;
  int64_t width;
  double epsilon;
};

/// Arguments of SiLU(GroupNorm(x)) of one image whose channels lie innermost, (pixels, channels)
/// elements, packed.
struct GroupNorm {
  const void* x;
  void* out;  ///< may be x
  int64_t pixels;
  int64_t channels;    ///< a multiple of kChannelStep
  int64_t num_groups;  ///< divides channels
  const float* gamma;  ///< (channels)
  const float* beta;   ///< (channels)
  double epsilon;
  bool with_silu;  ///< else the norm alone
  float* scratch;  ///< (2 channels)
};
/// Channels that the image loops take at a time: the widest vector.
inline constexpr int64_t kChannelStep = 16;

/// One instruction set's loops. All functions are pure: they touch what their arguments name.
struct Engine {
  const char* name;
  int64_t element_size;  ///< bytes
  int64_t row_block;     ///< rows computed together; a tile is best a multiple of it
  /// (num_out, num_in) row major floats -> packed bytes, zero-padded to whole panels.
  std::vector<std::byte> (*pack)(const float* weight, int64_t num_in, int64_t num_out);
  void (*linear)(const Product&);        ///< c = a w + bias, float c
  void (*linear_silu)(const Product&);   ///< c = SiLU(a w + bias); slope = SiLU' unless null
  void (*linear_add)(const Product&);    ///< c += a w + bias, float c
  void (*linear_scale)(const Product&);  ///< c = (a w) * slope
  void (*norm_silu)(const Norm&);        ///< out = SiLU(LayerNorm(h))
  void (*norm_backward)(const Norm&);    ///< h gradient += that of out through SiLU and LayerNorm
  void (*group_norm)(const GroupNorm&);  ///< out = SiLU(GroupNorm(x)), elements to elements
  /// (rows, num) floats -> elements; num a multiple of kPanel.
  void (*narrow)(const float* from, int64_t from_stride, void* to, int64_t to_stride, int64_t rows,
                 int64_t num);
  void (*begin)();  ///< before the first product on a thread
  void (*end)();    ///< after the last
};

/// The best float32 engine of this CPU: AVX-512, AVX2 or portable.
const Engine& float32_engine();
/// bfloat16 products with float32 sums; null where the CPU (or its system) has no AMX. The one test
/// for AMX: training asks here too.
const Engine* bfloat16_engine();

// One per translation unit; the first three only for x86-64. Each may only be called once the CPU
// is known to have its instructions: its whole file is compiled for them.
const Engine* avx512_engine();
const Engine* avx2_engine();
const Engine* amx_engine();
const Engine& portable_engine();

}  // namespace motet::detail
