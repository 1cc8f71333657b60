// The hand-written training pass. A tile of rows goes forward and back through the whole network
// while it is in the cache; what the weight gradients need is written out as matrix factors, and
// dW = left right follows for the whole batch.
//
// Energies: with r = f or f - x, E = |r|^2, g = grad_x E, the loss mean |g - n|^2 has the gradient
// of S = sum <v, g> at fixed v = 2 (g - n) / (B d), and S is the directional derivative of E along
// v. Its gradient needs, for every value y of the network, the adjoint p = dE/dy (found when g is),
// the derivative of y along v (a second forward pass) and the derivative q of p along v (a second
// backward pass): a product y = W x gets dW = q x^T + p xdot^T (Pearlmutter 1994).
// The features phi(x) of the first layer hold no weights: all they add is g = J^T p and
// phidot = J v.
#include "train_tiled_pass.hpp"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>

namespace motet::detail {

template <class Real, class Operand>
void TiledPass<Real, Operand>::prepare(const Tensor& weights, const Batch& batch,
                                       bool with_gradient) {
  network_.pack(sizes_, weights);
  batch_.assign(sizes_, batch);
  row_error_.assign(batch_.row.size(), 0.0);
  tapes_.resize(static_cast<size_t>(at::get_num_threads()));
  for (TapeType& tape : tapes_) {
    tape.resize(sizes_, is_energy_ && with_gradient);
  }
  if (!with_gradient) {
    return;
  }
  factors_.resize(sizes_, column(batch_.tiles, 0));
  sums_.assign(static_cast<size_t>(batch_.tiles * sum_layout_.count), Real{0});
  slots_.resize(static_cast<size_t>(sizes_.blocks));
  const int64_t count = static_cast<int64_t>(batch_.slot_level.size()) * sizes_.inner_padded;
  for (Buffer<Real>& slots : slots_) {
    std::fill_n(slots.resize(count), count, Real{0});
  }
}

template <class Real, class Operand>
double TiledPass<Real, Operand>::gradient(const Tensor& weights, const Batch& batch,
                                          const Tensor& gradient) {
  prepare(weights, batch, true);
  at::parallel_for(0, batch_.tiles, 1, [&](int64_t begin, int64_t end) {
    TapeType& tape = tapes_[static_cast<size_t>(at::get_thread_num())];
    for (int64_t tile = begin; tile < end; ++tile) {
      run_tile(tile, tape, true);
    }
    release_products<Operand>();
  });
  Real* flat = static_cast<Real*>(gradient.data_ptr());
  weight_gradients(flat);
  level_gradients(flat);
  add_up(flat);
  double total = 0.0;
  for (const double error : row_error_) {
    total += error;
  }
  return total / static_cast<double>(batch_.rows * sizes_.event);
}

template <class Real, class Operand>
Tensor TiledPass<Real, Operand>::row_losses(const Tensor& weights, const Batch& batch) {
  prepare(weights, batch, false);
  at::parallel_for(0, batch_.tiles, 1, [&](int64_t begin, int64_t end) {
    TapeType& tape = tapes_[static_cast<size_t>(at::get_thread_num())];
    for (int64_t tile = begin; tile < end; ++tile) {
      run_tile(tile, tape, false);
    }
    release_products<Operand>();
  });
  Tensor losses = at::empty({batch_.rows}, at::kDouble);
  double* to = losses.data_ptr<double>();
  for (size_t i = 0; i < batch_.row.size(); ++i) {
    if (batch_.row[i] >= 0) {
      to[batch_.row[i]] = row_error_[i] / static_cast<double>(sizes_.event);
    }
  }
  return losses;
}

template <class Real, class Operand>
void TiledPass<Real, Operand>::run_tile(int64_t tile, TapeType& tape, bool with_gradient) {
  Real* sums = sums_.data() + (with_gradient ? tile * sum_layout_.count : 0);
  forward(tile, tape, with_gradient);
  if (is_energy_) {
    energy_gradient(tile, tape, with_gradient);
  } else {
    tile_error(tile, tape, tape.output);
  }
  if (!with_gradient) {
    return;
  }
  if (is_energy_) {
    tangent(tile, tape);
    backward_tangent(tile, tape, sums);
    energy_sums(tile, tape, sums);
  } else {
    score_gradient(tile, tape, sums);
  }
}

/// Squared errors of the rows, and tape.error = d loss / d prediction (zero for padding rows).
template <class Real, class Operand>
void TiledPass<Real, Operand>::tile_error(int64_t tile, TapeType& tape, const Real* prediction) {
  const int64_t d = sizes_.event;
  const Real* noise = batch_.noise.data() + tile * kTileRows * d;
  const Real scale = static_cast<Real>(2.0 / static_cast<double>(batch_.rows * d));
  for (int64_t r = 0; r < kTileRows; ++r) {
    const auto row = static_cast<size_t>(tile * kTileRows + r);
    const Real weight = batch_.row[row] >= 0 ? Real{1} : Real{0};
    double sum = 0.0;
    for (int64_t k = 0; k < d; ++k) {
      const Real error = weight == Real{0} ? Real{0} : prediction[r * d + k] - noise[r * d + k];
      tape.error[r * d + k] = scale * error;
      sum += static_cast<double>(error) * static_cast<double>(error);
    }
    row_error_[row] = sum;
  }
}

/// Where a layer's input goes as right factor: at once when no packing is needed.
template <class Real, class Operand>
Operand* TiledPass<Real, Operand>::right_target(TapeType& tape, int64_t tile, int64_t block,
                                                int layer, int copy) {
  if constexpr (kSameType<Real, Operand>) {
    return factors_.right(block, layer) + column(tile, copy) * sizes_.inputs(layer, true);
  }
  return tape.factor;
}

template <class Real, class Operand>
void TiledPass<Real, Operand>::keep_right(const Operand* factor, int64_t tile, int64_t block,
                                          int layer, int copy) {
  if constexpr (!kSameType<Real, Operand>) {
    const int64_t n = sizes_.inputs(layer, true);
    loops_.pack(kTileRows, n, factor, factors_.right(block, layer) + column(tile, copy) * n);
  }
}

/// The adjoint in tape.factor as left factor of the layer's weight gradient.
template <class Real, class Operand>
void TiledPass<Real, Operand>::keep_left(TapeType& tape, int64_t tile, int64_t block, int layer,
                                         int copy) {
  loops_.transpose(kTileRows, sizes_.outputs(layer, true), tape.factor, factors_.stride(),
                   factors_.left(block, layer) + column(tile, copy), tape.scratch);
}

/// tape.product = W x.
template <class Real, class Operand>
void TiledPass<Real, Operand>::product(TapeType& tape, int64_t block, int layer,
                                       const Operand* x) const {
  const int64_t n = sizes_.outputs(layer, true);
  const int64_t k = sizes_.inputs(layer, true);
  const auto& packed = network_.blocks[static_cast<size_t>(block)].layers[layer];
  multiply(kTileRows, n, k, x, k, packed.forward.data(), n, tape.product, n, false);
}

/// tape.product = W^T d with d in tape.factor.
template <class Real, class Operand>
void TiledPass<Real, Operand>::product_back(TapeType& tape, int64_t block, int layer) const {
  const int64_t n = sizes_.inputs(layer, true);
  const int64_t k = sizes_.outputs(layer, true);
  const auto& packed = network_.blocks[static_cast<size_t>(block)].layers[layer];
  multiply(kTileRows, n, k, tape.factor, k, packed.backward.data(), n, tape.product, n, false);
}

template <class Real, class Operand>
void TiledPass<Real, Operand>::forward(int64_t tile, TapeType& tape, bool keep) {
  const int64_t narrow = sizes_.width_padded;
  const int64_t wide = sizes_.inner_padded;
  const int32_t* level = batch_.level.data() + tile * kTileRows;
  if (!sizes_.features.is_identity()) {
    sizes_.features.values(x(tile), kTileRows, tape.features);
  }
  loops_.expand(kTileRows, sizes_.num_features, narrow, phi(tile, tape),
                network_.input_weight.data(), network_.input_bias.data(), tape.h);
  for (int64_t b = 0; b < sizes_.blocks; ++b) {
    const auto& block = network_.blocks[static_cast<size_t>(b)];
    const TapeBlock& kept = tape.blocks[static_cast<size_t>(b)];
    const auto target = [&](int layer) {
      return keep ? right_target(tape, tile, b, layer, 0) : tape.factor;
    };
    const auto finish = [&](int layer, const Operand* factor) {
      if (keep) {
        keep_right(factor, tile, b, layer, 0);
      }
      product(tape, b, layer, factor);
    };
    Operand* factor = target(kHidden);
    loops_.norm_silu(kTileRows, sizes_.width, narrow, tape.h, block.gamma.data(), block.beta.data(),
                     kept.norm, factor);
    finish(kHidden, factor);
    factor = target(kMiddle);
    loops_.silu(kTileRows, wide, tape.product, block.level_table.data(), level, kept.hidden,
                factor);
    finish(kMiddle, factor);
    factor = target(kOutput);
    loops_.silu(kTileRows, wide, tape.product, block.middle_bias.data(), nullptr, kept.middle,
                factor);
    finish(kOutput, factor);
    loops_.add(kTileRows, narrow, tape.product, block.output_bias.data(), tape.h);
  }
  loops_.contract(kTileRows, sizes_.event, narrow, tape.h, network_.output_weight.data(),
                  network_.output_bias.data(), tape.output);
}

/// Adjoints, from dh of the last residual stream to dh of the first. With `sums` (scores) the
/// gradients of biases and norms too. copy < 0: keep nothing.
template <class Real, class Operand>
void TiledPass<Real, Operand>::backward(int64_t tile, TapeType& tape, Real* dh, Real* sums,
                                        int copy) {
  const int64_t narrow = sizes_.width_padded;
  const int64_t wide = sizes_.inner_padded;
  const int32_t* slot = batch_.slot.data() + tile * kTileRows;
  const auto at = [&](int64_t offset) { return sums == nullptr ? nullptr : sums + offset; };
  for (int64_t b = sizes_.blocks; b-- > 0;) {
    const auto index = static_cast<size_t>(b);
    const TapeBlock& kept = tape.blocks[index];
    const auto back = [&](int layer) {
      if (copy >= 0) {
        keep_left(tape, tile, b, layer, copy);
      }
      product_back(tape, b, layer);
    };
    const auto through_silu = [&](const SiluTape<Real>& silu, Real* bias, const int32_t* rows) {
      if (silu.curve != nullptr) {
        loops_.multiply(kTileRows, wide, tape.product, silu.curve);
      }
      loops_.silu_backward(kTileRows, wide, silu.slope, nullptr, tape.product, tape.factor, bias,
                           rows);
    };
    loops_.to_operand(kTileRows, narrow, dh, tape.factor, at(sum_layout_.output_layer_bias[index]));
    back(kOutput);
    through_silu(kept.middle, at(sum_layout_.middle_bias[index]), nullptr);
    back(kMiddle);
    through_silu(kept.hidden, sums == nullptr ? nullptr : slots_[index].data(), slot);
    back(kHidden);
    loops_.norm_backward(kTileRows, sizes_.width, narrow, network_.blocks[index].gamma.data(),
                         kept.norm, tape.product, dh, at(sum_layout_.gamma[index]),
                         at(sum_layout_.beta[index]));
  }
}

template <class Real, class Operand>
void TiledPass<Real, Operand>::score_gradient(int64_t tile, TapeType& tape, Real* sums) {
  const int64_t narrow = sizes_.width_padded;
  const int64_t d = sizes_.event;
  loops_.expand(kTileRows, d, narrow, tape.error, network_.output_weight.data(), nullptr, tape.dh);
  loops_.accumulate_outer(kTileRows, d, narrow, tape.error, tape.h,
                          sums + sum_layout_.output_weight);
  for (int64_t i = 0; i < kTileRows * d; ++i) {
    sums[sum_layout_.output_bias + i % d] += tape.error[i];
  }
  backward(tile, tape, tape.dh, sums, 0);
  loops_.accumulate_outer(kTileRows, sizes_.num_features, narrow, phi(tile, tape), tape.dh,
                          sums + sum_layout_.input_weight);
  loops_.to_operand(kTileRows, narrow, tape.dh, tape.factor, sums + sum_layout_.input_bias);
}

/// g = grad_x E into tape.seed_dot's place, errors and v = tape.error.
template <class Real, class Operand>
void TiledPass<Real, Operand>::energy_gradient(int64_t tile, TapeType& tape, bool with_gradient) {
  const int64_t narrow = sizes_.width_padded;
  const int64_t d = sizes_.event;
  for (int64_t i = 0; i < kTileRows * d; ++i) {
    tape.seed[i] = 2 * (tape.output[i] - (is_residual_ ? x(tile)[i] : Real{0}));
  }
  loops_.expand(kTileRows, d, narrow, tape.seed, network_.output_weight.data(), nullptr, tape.dh);
  backward(tile, tape, tape.dh, nullptr, with_gradient ? 1 : -1);
  Real* eps = tape.seed_dot;
  loops_.contract(kTileRows, sizes_.num_features, narrow, tape.dh, network_.input_weight.data(),
                  nullptr, tape.features_adjoint);
  std::fill_n(eps, kTileRows * d, Real{0});
  sizes_.features.pull(tape.features, tape.features_adjoint, sizes_.num_features, kTileRows, eps);
  if (is_residual_) {
    for (int64_t i = 0; i < kTileRows * d; ++i) {
      eps[i] -= tape.seed[i];
    }
  }
  tile_error(tile, tape, eps);
}

/// Directional derivatives along v of all values of the network.
template <class Real, class Operand>
void TiledPass<Real, Operand>::tangent(int64_t tile, TapeType& tape) {
  const int64_t narrow = sizes_.width_padded;
  const int64_t wide = sizes_.inner_padded;
  sizes_.features.push(tape.features, tape.error, kTileRows, tape.features_dot);
  loops_.expand(kTileRows, sizes_.num_features, narrow, tape.features_dot,
                network_.input_weight.data(), nullptr, tape.hdot);
  for (int64_t b = 0; b < sizes_.blocks; ++b) {
    const TapeBlock& kept = tape.blocks[static_cast<size_t>(b)];
    const auto finish = [&](int layer, const Operand* factor) {
      keep_right(factor, tile, b, layer, 1);
      product(tape, b, layer, factor);
    };
    Operand* factor = right_target(tape, tile, b, kHidden, 1);
    loops_.norm_tangent(kTileRows, sizes_.width, narrow, tape.hdot,
                        network_.blocks[static_cast<size_t>(b)].gamma.data(), kept.norm, factor);
    finish(kHidden, factor);
    factor = right_target(tape, tile, b, kMiddle, 1);
    loops_.silu_tangent(kTileRows, wide, tape.product, kept.hidden, factor);
    finish(kMiddle, factor);
    factor = right_target(tape, tile, b, kOutput, 1);
    loops_.silu_tangent(kTileRows, wide, tape.product, kept.middle, factor);
    finish(kOutput, factor);
    loops_.add(kTileRows, narrow, tape.product, nullptr, tape.hdot);
  }
  loops_.contract(kTileRows, sizes_.event, narrow, tape.hdot, network_.output_weight.data(),
                  nullptr, tape.output_dot);
}

/// Directional derivatives q of the adjoints, with the gradients of biases and norms.
template <class Real, class Operand>
void TiledPass<Real, Operand>::backward_tangent(int64_t tile, TapeType& tape, Real* sums) {
  const int64_t narrow = sizes_.width_padded;
  const int64_t wide = sizes_.inner_padded;
  const int64_t d = sizes_.event;
  for (int64_t i = 0; i < kTileRows * d; ++i) {
    tape.seed_dot[i] = 2 * (tape.output_dot[i] - (is_residual_ ? tape.error[i] : Real{0}));
  }
  loops_.expand(kTileRows, d, narrow, tape.seed_dot, network_.output_weight.data(), nullptr,
                tape.dh_dot);
  for (int64_t b = sizes_.blocks; b-- > 0;) {
    const auto index = static_cast<size_t>(b);
    const TapeBlock& kept = tape.blocks[index];
    const auto back = [&](int layer) {
      keep_left(tape, tile, b, layer, 0);
      product_back(tape, b, layer);
    };
    loops_.to_operand(kTileRows, narrow, tape.dh_dot, tape.factor,
                      sums + sum_layout_.output_layer_bias[index]);
    back(kOutput);
    loops_.silu_backward(kTileRows, wide, kept.middle.slope, kept.middle.curve, tape.product,
                         tape.factor, sums + sum_layout_.middle_bias[index], nullptr);
    back(kMiddle);
    loops_.silu_backward(kTileRows, wide, kept.hidden.slope, kept.hidden.curve, tape.product,
                         tape.factor, slots_[index].data(), batch_.slot.data() + tile * kTileRows);
    back(kHidden);
    loops_.norm_backward_tangent(
        kTileRows, sizes_.width, narrow, network_.blocks[index].gamma.data(), kept.norm,
        tape.product, tape.dh_dot, sums + sum_layout_.gamma[index], sums + sum_layout_.beta[index]);
  }
}

/// Gradients of the first and last layer: q x^T + p xdot^T each.
template <class Real, class Operand>
void TiledPass<Real, Operand>::energy_sums(int64_t tile, TapeType& tape, Real* sums) {
  const int64_t narrow = sizes_.width_padded;
  const int64_t d = sizes_.event;
  Real* output_weight = sums + sum_layout_.output_weight;
  loops_.accumulate_outer(kTileRows, d, narrow, tape.seed_dot, tape.h, output_weight);
  loops_.accumulate_outer(kTileRows, d, narrow, tape.seed, tape.hdot, output_weight);
  for (int64_t i = 0; i < kTileRows * d; ++i) {
    sums[sum_layout_.output_bias + i % d] += tape.seed_dot[i];
  }
  Real* input_weight = sums + sum_layout_.input_weight;
  loops_.accumulate_outer(kTileRows, sizes_.num_features, narrow, phi(tile, tape), tape.dh_dot,
                          input_weight);
  loops_.accumulate_outer(kTileRows, sizes_.num_features, narrow, tape.features_dot, tape.dh,
                          input_weight);
  loops_.to_operand(kTileRows, narrow, tape.dh_dot, tape.factor, sums + sum_layout_.input_bias);
}

std::unique_ptr<GradientPass> tiled_pass(const NetworkConfig& config, Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::float32:
      return std::make_unique<TiledPass<float, float>>(config);
    case Arithmetic::bfloat16:
      return std::make_unique<TiledPass<float, c10::BFloat16>>(config);
    case Arithmetic::float64:
      return std::make_unique<TiledPass<double, double>>(config);
  }
  TORCH_INTERNAL_ASSERT(false);
}

}  // namespace motet::detail
