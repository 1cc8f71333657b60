// Workspace of the hand-written training pass. Packing is a copy into the layout the matrix
// products want, with zeros up to kPad; nothing here depends on the number of threads.
#include "train_tiles.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>
#include <torch/types.h>

#include <algorithm>
#include <cstring>
#include <new>

namespace motet::detail {
namespace {

int64_t padded(int64_t size) { return (size + kPad - 1) / kPad * kPad; }

/// (rows, n) of leading dimension n to leading dimension `stride`, or its transpose when asked.
template <class Real>
void copy_rows(int64_t rows, int64_t n, const Real* from, int64_t stride, Real* to) {
  for (int64_t r = 0; r < rows; ++r) {
    std::copy(from + r * n, from + (r + 1) * n, to + r * stride);
  }
}

template <class Real>
void copy_transposed(int64_t rows, int64_t n, const Real* from, int64_t stride, Real* to) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < n; ++j) {
      to[j * stride + r] = from[r * n + j];
    }
  }
}

}  // namespace

/// Large buffers ask for huge pages: a tile writes its columns of a left factor into hundreds of
/// rows, each on a page of its own, and would miss the address cache on every one.
template <class T>
T* Buffer<T>::resize(int64_t count) {
  if (count > count_) {
    constexpr size_t kHugePage = size_t{1} << 21;
    const size_t wanted = static_cast<size_t>(count) * sizeof(T);
    const size_t unit = wanted >= kHugePage / 4 ? kHugePage : 64;
    const size_t bytes = (wanted + unit - 1) / unit * unit;
    memory_.reset(std::aligned_alloc(unit, bytes));
    if (memory_ == nullptr) {
      throw std::bad_alloc();
    }
#if defined(__linux__)
    if (unit == kHugePage) {
      madvise(memory_.get(), bytes, MADV_HUGEPAGE);  // a hint: failure changes only the speed
    }
#endif
    std::memset(memory_.get(), 0, bytes);
    count_ = count;
  }
  return data();
}

Sizes::Sizes(const NetworkConfig& config)
    : features(config),
      event(config.event_dim),
      num_features(features.count()),
      width(config.width),
      inner(config.widen * config.width),
      embedding(config.embedding_dim),
      levels(config.num_levels),
      blocks(config.num_blocks),
      width_padded(padded(width)),
      inner_padded(padded(inner)),
      layout(parameter_layout(config)) {}

int64_t Sizes::offset(const std::string& name) const {
  const auto found = std::lower_bound(
      layout.begin(), layout.end(), name,
      [](const Parameter& parameter, const std::string& key) { return parameter.name < key; });
  TORCH_INTERNAL_ASSERT(found != layout.end() && found->name == name, name);
  return found->offset;
}

int64_t Sizes::outputs(int layer, bool with_padding) const {
  const bool narrow = layer == kOutput;
  return with_padding ? (narrow ? width_padded : inner_padded) : (narrow ? width : inner);
}

int64_t Sizes::inputs(int layer, bool with_padding) const {
  const bool narrow = layer == kHidden;
  return with_padding ? (narrow ? width_padded : inner_padded) : (narrow ? width : inner);
}

std::string layer_name(int64_t block, int layer) {
  static const char* const kNames[kLayers] = {"hidden", "middle", "output"};
  return "blocks." + std::to_string(block) + "." + kNames[layer];
}

template <class Real, class Operand>
void PackedNetwork<Real, Operand>::pack(const Sizes& sizes, const at::Tensor& weights) {
  const Real* flat = static_cast<const Real*>(weights.data_ptr());
  blocks.resize(static_cast<size_t>(sizes.blocks));
  scratch_.resize(static_cast<size_t>(at::get_num_threads()));
  at::parallel_for(0, sizes.blocks * kLayers, 1, [&](int64_t begin, int64_t end) {
    Scratch& scratch = scratch_[static_cast<size_t>(at::get_thread_num())];
    for (int64_t task = begin; task < end; ++task) {
      pack_layer(sizes, flat, task / kLayers, static_cast<int>(task % kLayers), scratch);
    }
  });
  at::parallel_for(0, sizes.blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      pack_vectors(sizes, flat, block);
    }
  });
  pack_ends(sizes, flat);
}

template <class Real, class Operand>
void PackedNetwork<Real, Operand>::pack_layer(const Sizes& sizes, const Real* flat, int64_t block,
                                              int layer, Scratch& scratch) {
  const auto& loops = kernels<Real, Operand>();
  const int64_t outputs = sizes.outputs(layer, true);
  const int64_t inputs = sizes.inputs(layer, true);
  const Real* weight = flat + sizes.offset(layer_name(block, layer) + ".weight");
  if (outputs != sizes.outputs(layer, false) || inputs != sizes.inputs(layer, false)) {
    Real* copy = scratch.padded.resize(sizes.inner_padded * sizes.inner_padded);
    std::fill_n(copy, outputs * inputs, Real{0});
    copy_rows(sizes.outputs(layer, false), sizes.inputs(layer, false), weight, inputs, copy);
    weight = copy;
  }
  Operand* rounded = scratch.rounded.resize(sizes.inner_padded * sizes.inner_padded);
  Operand* turned = scratch.turned.resize(2 * sizes.inner_padded * sizes.inner_padded);
  loops.to_operand(outputs, inputs, weight, rounded, nullptr);
  loops.transpose(outputs, inputs, rounded, outputs, turned, turned + outputs * inputs);
  PackedLayer<Operand>& packed = blocks[static_cast<size_t>(block)].layers[layer];
  loops.pack(inputs, outputs, turned, packed.forward.resize(outputs * inputs));
  loops.pack(outputs, inputs, rounded, packed.backward.resize(outputs * inputs));
}

template <class Real, class Operand>
void PackedNetwork<Real, Operand>::pack_vectors(const Sizes& sizes, const Real* flat,
                                                int64_t index) {
  const std::string name = "blocks." + std::to_string(index);
  Block& block = blocks[static_cast<size_t>(index)];
  const auto copy = [&](const std::string& tensor, int64_t count, Real* to) {
    std::copy_n(flat + sizes.offset(tensor), count, to);
  };
  copy(name + ".norm.weight", sizes.width, block.gamma.resize(sizes.width_padded));
  copy(name + ".norm.bias", sizes.width, block.beta.resize(sizes.width_padded));
  copy(name + ".middle.bias", sizes.inner, block.middle_bias.resize(sizes.inner_padded));
  copy(name + ".output.bias", sizes.width, block.output_bias.resize(sizes.width_padded));
  Real* level_weight = block.level_weight.resize((sizes.embedding + 1) * sizes.inner_padded);
  copy_transposed(sizes.inner, sizes.embedding, flat + sizes.offset(name + ".level.weight"),
                  sizes.inner_padded, level_weight);
  Real* bias = level_weight + sizes.embedding * sizes.inner_padded;
  const Real* level_bias = flat + sizes.offset(name + ".level.bias");
  const Real* hidden_bias = flat + sizes.offset(name + ".hidden.bias");
  std::transform(level_bias, level_bias + sizes.inner, hidden_bias, bias, std::plus<>());
  kernels<Real, Operand>().expand(sizes.levels, sizes.embedding, sizes.inner_padded,
                                  flat + sizes.offset("embedding.weight"), level_weight, bias,
                                  block.level_table.resize(sizes.levels * sizes.inner_padded));
}

template <class Real, class Operand>
void PackedNetwork<Real, Operand>::pack_ends(const Sizes& sizes, const Real* flat) {
  const int64_t stride = sizes.width_padded;
  copy_transposed(sizes.width, sizes.num_features, flat + sizes.offset("input.weight"), stride,
                  input_weight.resize(sizes.num_features * stride));
  std::copy_n(flat + sizes.offset("input.bias"), sizes.width, input_bias.resize(stride));
  copy_rows(sizes.event, sizes.width, flat + sizes.offset("output.weight"), stride,
            output_weight.resize(sizes.event * stride));
  std::copy_n(flat + sizes.offset("output.bias"), sizes.event, output_bias.resize(sizes.event));
  const int64_t count = sizes.levels * sizes.embedding;
  std::copy_n(flat + sizes.offset("embedding.weight"), count, embedding.resize(count));
}

template <class Real, class Operand>
void Tape<Real, Operand>::resize(const Sizes& sizes, bool with_curves) {
  if (!blocks.empty() && (with_curves_ || !with_curves)) {
    return;
  }
  with_curves_ = with_curves;
  const int64_t narrow = kTileRows * sizes.width_padded;
  const int64_t wide = kTileRows * sizes.inner_padded;
  const int64_t ends = padded(kTileRows * sizes.event);
  const int64_t first = padded(kTileRows * sizes.num_features);
  Real* next = reals_.resize(sizes.blocks * (5 * narrow + 4 * wide + 2 * kTileRows) + 4 * narrow +
                             wide + 5 * ends + 3 * first);
  const auto take = [&next](int64_t count) { return std::exchange(next, next + count); };
  const auto take_curve = [&](int64_t count) { return with_curves ? take(count) : nullptr; };
  blocks.resize(static_cast<size_t>(sizes.blocks));
  for (Block& block : blocks) {
    block.norm = {take(narrow), take(kTileRows),    take(narrow),         take_curve(narrow),
                  take(narrow), take_curve(narrow), take_curve(kTileRows)};
    block.hidden = {take(wide), take_curve(wide)};
    block.middle = {take(wide), take_curve(wide)};
  }
  for (Real** pointer : {&h, &hdot, &dh, &dh_dot}) {
    *pointer = take(narrow);
  }
  product = take(wide);
  for (Real** pointer : {&output, &output_dot, &seed, &seed_dot, &error}) {
    *pointer = take(ends);
  }
  for (Real** pointer : {&features, &features_dot, &features_adjoint}) {
    *pointer = take(first);
  }
  factor = operands_.resize(2 * wide);
  scratch = factor + wide;
}

template <class Operand>
void Factors<Operand>::resize(const Sizes& sizes, int64_t columns) {
  if (columns == columns_) {
    return;
  }
  columns_ = columns;
  left_ = std::vector<Buffer<Operand>>(static_cast<size_t>(sizes.blocks * kLayers));
  right_ = std::vector<Buffer<Operand>>(static_cast<size_t>(sizes.blocks * kLayers));
  for (int64_t block = 0; block < sizes.blocks; ++block) {
    for (int layer = 0; layer < kLayers; ++layer) {
      left_[index(block, layer)].resize(sizes.outputs(layer, true) * stride());
      right_[index(block, layer)].resize(sizes.inputs(layer, true) * columns);
    }
  }
}

SumLayout::SumLayout(const Sizes& sizes) {
  int64_t next = 0;
  const auto take = [&next](int64_t size) { return std::exchange(next, next + padded(size)); };
  input_weight = take(sizes.num_features * sizes.width_padded);
  input_bias = take(sizes.width_padded);
  output_weight = take(sizes.event * sizes.width_padded);
  output_bias = take(sizes.event);
  loss = take(1);
  for (int64_t block = 0; block < sizes.blocks; ++block) {
    gamma.push_back(take(sizes.width_padded));
    beta.push_back(take(sizes.width_padded));
    output_layer_bias.push_back(take(sizes.width_padded));
    middle_bias.push_back(take(sizes.inner_padded));
  }
  count = next;
}

template <class Real>
void SortedBatch<Real>::assign(const Sizes& sizes, const Batch& batch) {
  rows = batch.x.size(0);
  tiles = (rows + kTileRows - 1) / kTileRows;
  const auto total = static_cast<size_t>(tiles * kTileRows);
  const int64_t* given = batch.level.const_data_ptr<int64_t>();
  std::vector<int64_t> next(static_cast<size_t>(sizes.levels + 1), 0);
  for (int64_t i = 0; i < rows; ++i) {
    ++next[static_cast<size_t>(given[i] + 1)];
  }
  std::partial_sum(next.begin(), next.end(), next.begin());
  row.assign(total, -1);
  level.assign(total, static_cast<int32_t>(sizes.levels - 1));
  for (int64_t i = 0; i < rows; ++i) {
    const auto to = static_cast<size_t>(next[static_cast<size_t>(given[i])]++);
    row[to] = i;
    level[to] = static_cast<int32_t>(given[i]);
  }
  const int64_t d = sizes.event;
  Real* x_to = x.resize(tiles * kTileRows * d);
  Real* noise_to = noise.resize(tiles * kTileRows * d);
  const Real* x_from = static_cast<const Real*>(batch.x.const_data_ptr());
  const Real* noise_from = static_cast<const Real*>(batch.noise.const_data_ptr());
  slot.resize(total);
  slot_level.clear();
  for (size_t i = 0; i < total; ++i) {
    const int64_t at = static_cast<int64_t>(i) * d;
    if (row[i] >= 0) {
      std::copy_n(x_from + row[i] * d, d, x_to + at);
      std::copy_n(noise_from + row[i] * d, d, noise_to + at);
    } else {
      std::fill_n(x_to + at, d, Real{0});
      std::fill_n(noise_to + at, d, Real{0});
    }
    if (i % kTileRows == 0 || level[i] != level[i - 1]) {
      slot_level.push_back(level[i]);
    }
    slot[i] = static_cast<int32_t>(slot_level.size()) - 1;
  }
}

void multiply(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b,
              int64_t ldb, float* c, int64_t ldc, bool add) {
  at::native::cpublas::brgemm(m, n, k, lda, ldb, ldc, add, a, b, c, false);
}

void multiply(int64_t m, int64_t n, int64_t k, const c10::BFloat16* a, int64_t lda,
              const c10::BFloat16* b, int64_t ldb, float* c, int64_t ldc, bool add) {
  at::native::cpublas::brgemm(m, n, k, lda, ldb, ldc, add, a, b, c, true);
}

void multiply(int64_t m, int64_t n, int64_t k, const double* a, int64_t lda, const double* b,
              int64_t ldb, double* c, int64_t ldc, bool add) {
  for (int64_t i = 0; i < m; ++i) {
    if (!add) {
      std::fill_n(c + i * ldc, n, 0.0);
    }
    for (int64_t l = 0; l < k; ++l) {
      for (int64_t j = 0; j < n; ++j) {
        c[i * ldc + j] += a[i * lda + l] * b[l * ldb + j];
      }
    }
  }
}

template <class Operand>
void release_products() {
  if constexpr (std::is_same_v<Operand, c10::BFloat16>) {
    at::native::cpublas::brgemm_release(true);
  }
}

template class Buffer<float>;
template class Buffer<double>;
template class Buffer<c10::BFloat16>;
template struct PackedNetwork<float, float>;
template struct PackedNetwork<float, c10::BFloat16>;
template struct PackedNetwork<double, double>;
template struct Tape<float, float>;
template struct Tape<float, c10::BFloat16>;
template struct Tape<double, double>;
template struct Factors<float>;
template struct Factors<c10::BFloat16>;
template struct Factors<double>;
template struct SortedBatch<float>;
template struct SortedBatch<double>;
template void release_products<float>();
template void release_products<c10::BFloat16>();
template void release_products<double>();

}  // namespace motet::detail
