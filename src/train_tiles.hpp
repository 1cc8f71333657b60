// Workspace of the hand-written training pass: packed weights, tapes of a tile, factors of the
// weight gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <type_traits>
#include <vector>

#include "nets/features.hpp"
#include "train_kernels.hpp"
#include "train_pass.hpp"

namespace motet::detail {

/// Rows of a tile. Measured with the paper's network: 64 keeps a tile's tape in a 2 MiB cache; 32
/// costs as much in weights' traffic as it saves, 128 overflows the cache on the energy's tape.
inline constexpr int64_t kTileRows = 64;

/// The three products of a block.
enum Layer { kHidden = 0, kMiddle = 1, kOutput = 2 };
inline constexpr int kLayers = 3;

/// Memory for numbers, zero at first, aligned to registers. Grows only; growing loses the contents.
template <class T>
class Buffer {
 public:
  /// At least `count` numbers.
  T* resize(int64_t count);
  T* data() const { return static_cast<T*>(memory_.get()); }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<void, Free> memory_;
  int64_t count_ = 0;
};

/// Sizes of the network, true and padded to kPad, and the layout of the flat buffers.
struct Sizes {
  explicit Sizes(const NetworkConfig& config);
  Features features;  ///< of x: what the first layer sees
  int64_t event, num_features, width, inner, embedding, levels, blocks;
  int64_t width_padded, inner_padded;
  std::vector<Parameter> layout;
  /// Offset of a tensor in the flat buffers.
  int64_t offset(const std::string& name) const;
  /// Outputs and inputs of a block's product; the padded ones with `padded`.
  int64_t outputs(int layer, bool padded) const;
  int64_t inputs(int layer, bool padded) const;
};
/// "blocks.<block>.<hidden | middle | output>".
std::string layer_name(int64_t block, int layer);

/// One product's weights as right factors: of x -> W x and of the way back.
template <class Operand>
struct PackedLayer {
  Buffer<Operand> forward, backward;
};

/// A network's weights in the form the tiles use.
template <class Real, class Operand>
struct PackedNetwork {
  struct Block {
    PackedLayer<Operand> layers[kLayers];
    Buffer<Real> gamma, beta, middle_bias, output_bias;
    Buffer<Real> level_weight;  ///< (embedding, inner)
    Buffer<Real> level_table;   ///< (levels, inner): embedding level_weight + both biases
  };
  Buffer<Real> input_weight, input_bias;    ///< (features, width), (width)
  Buffer<Real> output_weight, output_bias;  ///< (event, width), (event)
  Buffer<Real> embedding;                   ///< (levels, embedding)
  std::vector<Block> blocks;

  /// Packs flat weights. Cost: one read and two writes of them.
  void pack(const Sizes& sizes, const at::Tensor& weights);

 private:
  struct Scratch {
    Buffer<Real> padded;
    Buffer<Operand> rounded, turned;
  };
  void pack_layer(const Sizes& sizes, const Real* flat, int64_t block, int layer, Scratch& scratch);
  void pack_vectors(const Sizes& sizes, const Real* flat, int64_t block);
  void pack_ends(const Sizes& sizes, const Real* flat);
  std::vector<Scratch> scratch_;
};

/// What one tile remembers between its passes, for one thread.
template <class Real, class Operand>
struct Tape {
  struct Block {
    NormTape<Real> norm;
    SiluTape<Real> hidden, middle;
  };
  /// `with_curves`: also the second derivatives that an energy's gradient needs.
  void resize(const Sizes& sizes, bool with_curves);

  std::vector<Block> blocks;
  Real *h, *hdot, *dh, *dh_dot;                         ///< (rows, width)
  Real* product;                                        ///< (rows, inner)
  Real *output, *output_dot, *seed, *seed_dot, *error;  ///< (rows, event)
  Real *features, *features_dot, *features_adjoint;     ///< (rows, features)
  Operand *factor, *scratch;                            ///< (rows, inner)

 private:
  Buffer<Real> reals_;
  Buffer<Operand> operands_;
  bool with_curves_ = false;
};

/// Factors of the weight gradients of the whole batch: dW = left right with left (out, columns) and
/// right (columns, in), columns the batch, twice for energies.
template <class Operand>
struct Factors {
  void resize(const Sizes& sizes, int64_t columns);
  Operand* left(int64_t block, int layer) const { return left_[index(block, layer)].data(); }
  Operand* right(int64_t block, int layer) const { return right_[index(block, layer)].data(); }
  int64_t columns() const { return columns_; }
  /// Leading dimension of the left factors; not a multiple of 4096 bytes, which would put all rows
  /// of a tile into the same sets of the cache.
  int64_t stride() const { return columns_ + kPad; }

 private:
  static size_t index(int64_t block, int layer) {
    return static_cast<size_t>(block * kLayers + layer);
  }
  std::vector<Buffer<Operand>> left_, right_;
  int64_t columns_ = 0;
};

/// Sums over one tile's rows of the gradients that are no matrix products, as offsets into a row of
/// numbers: one row a tile, added up in the order of the tiles.
struct SumLayout {
  explicit SumLayout(const Sizes& sizes);
  int64_t input_weight, input_bias, output_weight, output_bias, loss;
  std::vector<int64_t> gamma, beta, output_layer_bias, middle_bias;
  int64_t count;
};

/// A batch sorted by level (so that a tile's table rows are few and neighbours), padded to tiles
/// with rows of weight zero.
template <class Real>
struct SortedBatch {
  void assign(const Sizes& sizes, const Batch& batch);
  int64_t rows = 0, tiles = 0;
  std::vector<int64_t> row;    ///< row in the batch of each sorted row; -1 for padding
  Buffer<Real> x, noise;       ///< (tiles * kTileRows, event)
  std::vector<int32_t> level;  ///< of each row
  std::vector<int32_t> slot;   ///< of each row: one slot for every level in every tile
  std::vector<int32_t> slot_level;
};

/// C = A B (+ C): A (m, k) row-major, B (k, n) packed by Kernels::pack, C (m, n) row-major.
void multiply(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b,
              int64_t ldb, float* c, int64_t ldc, bool add);
void multiply(int64_t m, int64_t n, int64_t k, const c10::BFloat16* a, int64_t lda,
              const c10::BFloat16* b, int64_t ldb, float* c, int64_t ldc, bool add);
void multiply(int64_t m, int64_t n, int64_t k, const double* a, int64_t lda, const double* b,
              int64_t ldb, double* c, int64_t ldc, bool add);
/// To be called by a thread after its last multiply: frees the matrix unit's registers.
template <class Operand>
void release_products();

/// The same storage for activations and factors: no packing needed.
template <class Real, class Operand>
inline constexpr bool kSameType = std::is_same_v<Real, Operand>;

}  // namespace motet::detail
