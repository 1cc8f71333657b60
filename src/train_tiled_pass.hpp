// The hand-written training pass as a class; its mathematics is in train_tiled_pass.cpp.
#pragma once

#include <vector>

#include "train_tiles.hpp"

namespace motet::detail {

template <class Real, class Operand>
class TiledPass final : public GradientPass {
 public:
  explicit TiledPass(const NetworkConfig& config)
      : sizes_(config),
        sum_layout_(sizes_),
        is_energy_(config.parameterisation != Parameterisation::score),
        is_residual_(config.parameterisation == Parameterisation::energy_residual) {}

  double gradient(const Tensor& weights, const Batch& batch, const Tensor& gradient) override;
  Tensor row_losses(const Tensor& weights, const Batch& batch) override;

 private:
  using TapeType = Tape<Real, Operand>;
  using TapeBlock = typename TapeType::Block;

  void prepare(const Tensor& weights, const Batch& batch, bool with_gradient);
  void run_tile(int64_t tile, TapeType& tape, bool with_gradient);
  void tile_error(int64_t tile, TapeType& tape, const Real* prediction);

  void forward(int64_t tile, TapeType& tape, bool keep);
  void backward(int64_t tile, TapeType& tape, Real* dh, Real* sums, int copy);
  void energy_gradient(int64_t tile, TapeType& tape, bool with_gradient);
  void tangent(int64_t tile, TapeType& tape);
  void backward_tangent(int64_t tile, TapeType& tape, Real* sums);
  void score_gradient(int64_t tile, TapeType& tape, Real* sums);
  void energy_sums(int64_t tile, TapeType& tape, Real* sums);

  Operand* right_target(TapeType& tape, int64_t tile, int64_t block, int layer, int copy);
  void keep_right(const Operand* factor, int64_t tile, int64_t block, int layer, int copy);
  void keep_left(TapeType& tape, int64_t tile, int64_t block, int layer, int copy);
  void product(TapeType& tape, int64_t block, int layer, const Operand* x) const;
  void product_back(TapeType& tape, int64_t block, int layer) const;

  void weight_gradients(Real* gradient) const;
  void add_up(Real* gradient);
  void level_gradients(Real* gradient);
  void level_gradients_of(int64_t block, Real* gradient);
  const Real* x(int64_t tile) const { return batch_.x.data() + tile * kTileRows * sizes_.event; }
  /// What the first layer sees of the tile whose forward pass `tape` holds.
  const Real* phi(int64_t tile, const TapeType& tape) const {
    return sizes_.features.is_identity() ? x(tile) : tape.features;
  }
  int64_t column(int64_t tile, int copy) const {
    return (tile * (is_energy_ ? 2 : 1) + copy) * kTileRows;
  }

  Sizes sizes_;
  SumLayout sum_layout_;
  bool is_energy_, is_residual_;
  const Kernels<Real, Operand>& loops_ = kernels<Real, Operand>();
  PackedNetwork<Real, Operand> network_;
  SortedBatch<Real> batch_;
  Factors<Operand> factors_;
  std::vector<TapeType> tapes_;
  std::vector<Real> sums_;         ///< (tiles, sum_layout_.count)
  std::vector<double> row_error_;  ///< (tiles * kTileRows): squared error, summed over coordinates
  std::vector<Buffer<Real>> slots_;  ///< for each block (slots, inner): sums of level terms
  std::vector<Real> embedding_sums_, level_sums_;
};

}  // namespace motet::detail
