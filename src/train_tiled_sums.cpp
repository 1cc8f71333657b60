// The parts of the gradient that a training pass makes after its tiles: the weight gradients from
// their factors, and the sums over the tiles. All in an order that the number of threads leaves as
// it is.
#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <string>

#include "train_tiled_pass.hpp"

namespace motet::detail {

/// dW = left right, in chunks of the batch that fit the caches, added up in their order. Splitting
/// the rows of dW among many threads reads the right factor again for each part, but changes no
/// sum.
template <class Real, class Operand>
void TiledPass<Real, Operand>::weight_gradients(Real* gradient) const {
  const int64_t part = at::get_num_threads() > 4 ? 64 : sizes_.inner;
  const int64_t depth = kSameType<Real, Operand> ? 256 : 1024;
  const int64_t chunks = (sizes_.inner + part - 1) / part;
  at::parallel_for(0, sizes_.blocks * kLayers * chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int layer = static_cast<int>(task / chunks % kLayers);
      const int64_t block = task / chunks / kLayers;
      const int64_t first = task % chunks * part;
      const int64_t rows = std::min(part, sizes_.outputs(layer, false) - first);
      const int64_t n = sizes_.inputs(layer, false);
      const int64_t stride = sizes_.inputs(layer, true);
      Real* to = gradient + sizes_.offset(layer_name(block, layer) + ".weight") + first * n;
      for (int64_t at = 0; rows > 0 && at < factors_.columns(); at += depth) {
        multiply(rows, n, std::min(depth, factors_.columns() - at),
                 factors_.left(block, layer) + first * factors_.stride() + at, factors_.stride(),
                 factors_.right(block, layer) + at * stride, stride, to, n, at > 0);
      }
    }
    release_products<Operand>();
  });
}

/// Adds up the tiles' sums in their order.
template <class Real, class Operand>
void TiledPass<Real, Operand>::add_up(Real* gradient) {
  Real* total = sums_.data();
  for (int64_t tile = 1; tile < batch_.tiles; ++tile) {
    const Real* sums = sums_.data() + tile * sum_layout_.count;
    for (int64_t i = 0; i < sum_layout_.count; ++i) {
      total[i] += sums[i];
    }
  }
  const auto copy = [&](const std::string& name, int64_t offset, int64_t count) {
    std::copy_n(total + offset, count, gradient + sizes_.offset(name));
  };
  for (int64_t b = 0; b < sizes_.blocks; ++b) {
    const auto index = static_cast<size_t>(b);
    const std::string name = "blocks." + std::to_string(b);
    copy(name + ".norm.weight", sum_layout_.gamma[index], sizes_.width);
    copy(name + ".norm.bias", sum_layout_.beta[index], sizes_.width);
    copy(name + ".output.bias", sum_layout_.output_layer_bias[index], sizes_.width);
    copy(name + ".middle.bias", sum_layout_.middle_bias[index], sizes_.inner);
  }
  copy("input.bias", sum_layout_.input_bias, sizes_.width);
  copy("output.bias", sum_layout_.output_bias, sizes_.event);
  Real* input_weight = gradient + sizes_.offset("input.weight");
  for (int64_t k = 0; k < sizes_.num_features; ++k) {
    const Real* row = total + sum_layout_.input_weight + k * sizes_.width_padded;
    for (int64_t j = 0; j < sizes_.width; ++j) {
      input_weight[j * sizes_.num_features + k] = row[j];
    }
  }
  Real* output_weight = gradient + sizes_.offset("output.weight");
  for (int64_t k = 0; k < sizes_.event; ++k) {
    std::copy_n(total + sum_layout_.output_weight + k * sizes_.width_padded, sizes_.width,
                output_weight + k * sizes_.width);
  }
}

/// Gradients of what one block's level table is made of: table = embedding W^T + biases.
template <class Real, class Operand>
void TiledPass<Real, Operand>::level_gradients_of(int64_t b, Real* gradient) {
  const auto index = static_cast<size_t>(b);
  const int64_t n = sizes_.inner_padded;
  const int64_t depth = sizes_.embedding;
  Real* table = level_sums_.data() + b * (sizes_.levels + depth + 1) * n;
  Real* weight = table + sizes_.levels * n;
  Real* bias = weight + depth * n;
  const Real* slots = slots_[index].data();
  for (size_t slot = 0; slot < batch_.slot_level.size(); ++slot) {
    loops_.add(1, n, slots + static_cast<int64_t>(slot) * n, nullptr,
               table + batch_.slot_level[slot] * n);
  }
  for (int64_t level = 0; level < sizes_.levels; ++level) {
    loops_.add(1, n, table + level * n, nullptr, bias);
  }
  loops_.accumulate_outer(sizes_.levels, depth, n, network_.embedding.data(), table, weight);
  loops_.contract(sizes_.levels, depth, n, table, network_.blocks[index].level_weight.data(),
                  nullptr, embedding_sums_.data() + b * sizes_.levels * depth);
  const std::string name = "blocks." + std::to_string(b);
  std::copy_n(bias, sizes_.inner, gradient + sizes_.offset(name + ".level.bias"));
  std::copy_n(bias, sizes_.inner, gradient + sizes_.offset(name + ".hidden.bias"));
  Real* level_weight = gradient + sizes_.offset(name + ".level.weight");
  for (int64_t j = 0; j < sizes_.inner; ++j) {
    for (int64_t k = 0; k < depth; ++k) {
      level_weight[j * depth + k] = weight[k * n + j];
    }
  }
}

template <class Real, class Operand>
void TiledPass<Real, Operand>::level_gradients(Real* gradient) {
  const int64_t depth = sizes_.embedding;
  const int64_t count = sizes_.levels * depth;
  const int64_t block_count = (sizes_.levels + depth + 1) * sizes_.inner_padded;
  level_sums_.assign(static_cast<size_t>(sizes_.blocks * block_count), Real{0});
  embedding_sums_.resize(static_cast<size_t>(sizes_.blocks * count));
  at::parallel_for(0, sizes_.blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      level_gradients_of(block, gradient);
    }
  });
  Real* to = gradient + sizes_.offset("embedding.weight");
  std::fill_n(to, count, Real{0});
  for (int64_t i = 0; i < sizes_.blocks * count; ++i) {
    to[i % count] += embedding_sums_[static_cast<size_t>(i)];
  }
}

template void TiledPass<float, float>::weight_gradients(float*) const;
template void TiledPass<float, float>::add_up(float*);
template void TiledPass<float, float>::level_gradients(float*);
template void TiledPass<float, c10::BFloat16>::weight_gradients(float*) const;
template void TiledPass<float, c10::BFloat16>::add_up(float*);
template void TiledPass<float, c10::BFloat16>::level_gradients(float*);
template void TiledPass<double, double>::weight_gradients(double*) const;
template void TiledPass<double, double>::add_up(double*);
template void TiledPass<double, double>::level_gradients(double*);

}  // namespace motet::detail
