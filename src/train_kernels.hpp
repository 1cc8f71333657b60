// Row loops of the hand-written training passes, compiled for several instruction sets.
//
// A tile is a few dozen rows (points of the batch) that go through the whole network while they are
// in the cache. Every array below is a tile (rows, n), contiguous, n a multiple of kPad; columns
// beyond the true width are zero. Real is the type of sums and activations, Operand that of matrix
// products' factors: (float, float), (float, BFloat16) and, for tests, (double, double).
#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>

namespace motet::detail {

/// Feature dimensions are padded to a multiple of this: two registers of bfloat16 pairs.
inline constexpr int64_t kPad = 32;
/// Added to the variance in every LayerNorm; the value of nets/residual_mlp.hpp.
inline constexpr double kNormEpsilon = 1e-5;

/// Adam's settings at one step; `correction` are the bias corrections 1 - beta^step.
struct AdamStep {
  double learning_rate, beta1, beta2, epsilon, correction1, correction2, ema_decay, gradient_scale;
};

/// What a LayerNorm + SiLU keeps of its forward pass, for one block.
template <class Real>
struct NormTape {
  Real* normed;    ///< (rows, n): (h - mean) rstd
  Real* rstd;      ///< (rows)
  Real* slope;     ///< (rows, n): SiLU'(gamma normed + beta)
  Real* curve;     ///< (rows, n): SiLU''; null where no second derivative is wanted
  Real* adjoint;   ///< (rows, n): adjoint of gamma normed + beta, filled going back
  Real* tangent;   ///< (rows, n): energy only, directional derivative of `normed`
  Real* rstd_dot;  ///< (rows): energy only, relative derivative of rstd
};

/// What a SiLU keeps of its forward pass.
template <class Real>
struct SiluTape {
  Real* slope;  ///< (rows, n): SiLU'
  Real* curve;  ///< (rows, n): SiLU'', later curve * adjoint, later that * tangent; may be null
};

template <class Real, class Operand>
class Kernels {
 public:
  /// out[r] = bias + sum_k x[r][k] weight[k]; weight (depth, n). `bias` may be null (zero).
  virtual void expand(int64_t rows, int64_t depth, int64_t n, const Real* x, const Real* weight,
                      const Real* bias, Real* out) const = 0;
  /// out[r][k] = bias[k] + sum_j h[r][j] weight[k][j]; weight (depth, n). `bias` may be null.
  virtual void contract(int64_t rows, int64_t depth, int64_t n, const Real* h, const Real* weight,
                        const Real* bias, Real* out) const = 0;
  /// sums[k] += sum_r x[r][k] d[r]; sums (depth, n).
  virtual void accumulate_outer(int64_t rows, int64_t depth, int64_t n, const Real* x,
                                const Real* d, Real* sums) const = 0;

  /// y = SiLU(gamma LayerNorm(h) + beta), keeping the tape. `width` is the true width.
  virtual void norm_silu(int64_t rows, int64_t width, int64_t n, const Real* h, const Real* gamma,
                         const Real* beta, const NormTape<Real>& tape, Operand* y) const = 0;
  /// y = SiLU(a + bias[index[r]]); bias (*, n); a null index is row 0 for all.
  virtual void silu(int64_t rows, int64_t n, const Real* a, const Real* bias, const int32_t* index,
                    const SiluTape<Real>& tape, Operand* y) const = 0;
  /// h += o + bias. `bias` may be null.
  virtual void add(int64_t rows, int64_t n, const Real* o, const Real* bias, Real* h) const = 0;

  /// y = d as matrix factor; sums += column sums of d unless null.
  virtual void to_operand(int64_t rows, int64_t n, const Real* d, Operand* y, Real* sums) const = 0;
  /// y = slope d + extra as factor (`extra` null: zero), before rounding added to row index[r] of
  /// sums (*, n); a null index is row 0 for all, null sums none.
  virtual void silu_backward(int64_t rows, int64_t n, const Real* slope, const Real* extra,
                             const Real* d, Operand* y, Real* sums, const int32_t* index) const = 0;
  /// curve <- curve d.
  virtual void multiply(int64_t rows, int64_t n, const Real* d, Real* curve) const = 0;
  /// Through SiLU and LayerNorm: adjoint d of y becomes that of h, added to dh; sums of gamma and
  /// beta unless null. With tape.curve: keeps adjoint, curve <- curve d.
  virtual void norm_backward(int64_t rows, int64_t width, int64_t n, const Real* gamma,
                             const NormTape<Real>& tape, const Real* d, Real* dh, Real* gamma_sums,
                             Real* beta_sums) const = 0;

  /// Directional derivative through SiLU: y = slope a as factor, curve <- curve a.
  virtual void silu_tangent(int64_t rows, int64_t n, const Real* a, const SiluTape<Real>& tape,
                            Operand* y) const = 0;
  /// Directional derivative hdot of h through LayerNorm and SiLU; fills tape.tangent, rstd_dot.
  virtual void norm_tangent(int64_t rows, int64_t width, int64_t n, const Real* hdot,
                            const Real* gamma, const NormTape<Real>& tape, Operand* y) const = 0;
  /// Directional derivative of norm_backward: d is the derivative of the adjoint of y
  /// (overwritten); that of the adjoint of h is added to dh.
  virtual void norm_backward_tangent(int64_t rows, int64_t width, int64_t n, const Real* gamma,
                                     const NormTape<Real>& tape, Real* d, Real* dh,
                                     Real* gamma_sums, Real* beta_sums) const = 0;

  /// Right factor (K, n) of a product from row-major (rows = K, n), rows even: as it is, or for
  /// bfloat16 with rows 2i and 2i+1 interleaved (the layout of the AMX instructions).
  virtual void pack(int64_t rows, int64_t n, const Operand* x, Operand* out) const = 0;
  /// out[j][r] = x[r][j], out with leading dimension `stride`; rows a multiple of kPad.
  virtual void transpose(int64_t rows, int64_t n, const Operand* x, int64_t stride, Operand* out,
                         Operand* scratch) const = 0;

  /// Sum of squares.
  virtual double sum_squares(int64_t count, const Real* x) const = 0;
  /// One Adam step (Kingma and Ba 2015, epsilon outside the root) and the moving average, on
  /// `count` numbers.
  virtual void adam(int64_t count, const AdamStep& step, const Real* gradient, Real* weight,
                    Real* moment1, Real* moment2, Real* average) const = 0;

 protected:
  /// Not virtual, and nothing to delete: instances are static. A virtual one would be an inline
  /// function compiled for every instruction set under one name.
  ~Kernels() = default;
};

/// The loops for this machine's instruction set.
template <class Real, class Operand>
const Kernels<Real, Operand>& kernels();

}  // namespace motet::detail
