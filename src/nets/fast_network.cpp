// Passes of h <- h + W_o SiLU(W_m SiLU(W_h SiLU(LayerNorm(h)) + b_t) + b_m) + b_o and of its
// gradient.
//
// Order of work: a thread takes a chunk of rows; block by block (so that one block's weights, 512
// KB in float32, stay in the second-level cache); inside a block, tile by tile of rows (so that the
// tile's activations stay there too). The energy's backward pass needs SiLU' of every activation
// and the normalised h: the forward pass keeps them, 12 KB a row for the paper's network, and the
// chunk is cut so that they fit the cache as well as may be.
#include "nets/fast_network.hpp"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>

namespace motet::detail {
namespace {

constexpr size_t kAlignment = 64;     // a cache line, and an AVX-512 vector
constexpr int64_t kStrideGap = 16;    // floats: keeps rows of a tile out of the same cache set
constexpr int64_t kChunkRows = 1024;  // most rows that a thread takes through the blocks at once
constexpr int64_t kChunkBytes = int64_t{6} << 20;  // most memory kept for a backward pass
constexpr int64_t kTileRows = 96;                  // a multiple of every engine's row_block

struct Free {
  void operator()(std::byte* bytes) const {
    ::operator delete(bytes, std::align_val_t{kAlignment});
  }
};

// Grow-only aligned memory. Zeroed when it grows, so that padding is defined.
class Buffer {
 public:
  void reserve(int64_t num_bytes) {
    const auto bytes = static_cast<size_t>(num_bytes);
    if (bytes > size_) {
      bytes_.reset(static_cast<std::byte*>(::operator new(bytes, std::align_val_t{kAlignment})));
      std::memset(bytes_.get(), 0, bytes);
      size_ = bytes;
    }
  }
  float* floats() { return reinterpret_cast<float*>(bytes_.get()); }
  void* elements() { return bytes_.get(); }

 private:
  std::unique_ptr<std::byte, Free> bytes_;
  size_t size_ = 0;
};

int64_t stride_of(int64_t width) { return padded(width) + kStrideGap; }

std::vector<float> padded_copy(const at::Tensor& vector) {
  const at::Tensor source = vector.contiguous();
  std::vector<float> result(static_cast<size_t>(padded(source.numel())), 0.0f);
  std::copy_n(source.const_data_ptr<float>(), source.numel(), result.begin());
  return result;
}

PackedLinear pack_matrix(const at::Tensor& matrix, const Engine& engine) {
  const at::Tensor weight = matrix.contiguous();
  const int64_t num_out = weight.size(0);
  const int64_t num_in = weight.size(1);
  return {.weight = engine.pack(weight.const_data_ptr<float>(), num_in, num_out),
          .bias = std::vector<float>(static_cast<size_t>(padded(num_out)), 0.0f),
          .num_in = engine.element_size == 4 ? num_in : padded(num_in),
          .num_out = padded(num_out)};
}

}  // namespace

// What a thread needs for its chunk. One per thread for its whole life (page faults of fresh memory
// cost more than a pass over a small batch); grows to the largest network the thread has run.
struct FastNetwork::Memory {
  struct Kept {
    Buffer normed, norm_slope, inverse_sd, hidden_slope, middle_slope;
  };
  Buffer h, f, gradient;  // all rows of the chunk; f: the network's output, then p of its inputs
  Buffer features;
  Buffer n, u, v, tile;  // one tile
  std::vector<Kept> kept;
  bool keeps = false;  // the forward pass is to keep what the backward pass needs

  void reserve(const NetworkConfig& config, int64_t element_size, int64_t rows, bool keep);

  static Memory& of_this_thread() {
    thread_local Memory memory;
    return memory;
  }
};

void FastNetwork::Memory::reserve(const NetworkConfig& config, int64_t element_size, int64_t rows,
                                  bool keep) {
  constexpr int64_t kFloat = 4;
  const int64_t inner = config.widen * config.width;
  const int64_t num_features = Features(config).count();
  keeps = keep;
  h.reserve(rows * stride_of(config.width) * kFloat);
  f.reserve(rows * stride_of(std::max(num_features, num_outputs(config))) * kFloat);
  features.reserve(rows * num_features * kFloat);
  n.reserve(kTileRows * stride_of(config.width) * element_size);
  u.reserve(kTileRows * stride_of(inner) * element_size);
  v.reserve(kTileRows * stride_of(inner) * element_size);
  if (!keep) {
    return;
  }
  gradient.reserve(rows * stride_of(config.width) * kFloat);
  tile.reserve(kTileRows * stride_of(config.width) * kFloat);
  kept.resize(std::max(kept.size(), static_cast<size_t>(config.num_blocks)));
  for (int64_t i = 0; i < config.num_blocks; ++i) {
    Kept& block = kept[static_cast<size_t>(i)];
    block.normed.reserve(rows * padded(config.width) * kFloat);
    block.norm_slope.reserve(rows * padded(config.width) * kFloat);
    block.inverse_sd.reserve(rows * kFloat);
    block.hidden_slope.reserve(rows * padded(inner) * kFloat);
    block.middle_slope.reserve(rows * padded(inner) * kFloat);
  }
}

FastNetwork::FastNetwork(const TensorMap& tensors, const NetworkConfig& config,
                         const Engine& product_engine, bool with_gradient)
    : config_(config), features_(config), outer_(float32_engine()), inner_(product_engine) {
  mask_.assign(static_cast<size_t>(padded(config.width)), 0.0f);
  std::fill_n(mask_.begin(), config.width, 1.0f);
  input_ = pack(tensors, "input", outer_);
  output_ = pack(tensors, "output", outer_);
  if (with_gradient) {
    input_back_ = pack_back(tensors, "input", outer_);
    output_back_ = pack_back(tensors, "output", outer_);
  }
  for (int64_t i = 0; i < config.num_blocks; ++i) {
    blocks_.push_back(pack_block(tensors, i, with_gradient));
  }
}

PackedLinear FastNetwork::pack(const TensorMap& tensors, const std::string& name,
                               const Engine& engine) const {
  PackedLinear layer = pack_matrix(tensors.at(name + ".weight"), engine);
  layer.bias = padded_copy(tensors.at(name + ".bias"));
  return layer;
}

PackedLinear FastNetwork::pack_back(const TensorMap& tensors, const std::string& name,
                                    const Engine& engine) const {
  return pack_matrix(tensors.at(name + ".weight").t(), engine);
}

FastNetwork::Block FastNetwork::pack_block(const TensorMap& tensors, int64_t index,
                                           bool with_gradient) const {
  const std::string name = "blocks." + std::to_string(index);
  Block block;
  block.gamma = padded_copy(tensors.at(name + ".norm.weight"));
  block.beta = padded_copy(tensors.at(name + ".norm.bias"));
  block.hidden = pack(tensors, name + ".hidden", inner_);
  block.middle = pack(tensors, name + ".middle", inner_);
  block.output = pack(tensors, name + ".output", inner_);
  if (with_gradient) {
    block.hidden_back = pack_back(tensors, name + ".hidden", inner_);
    block.middle_back = pack_back(tensors, name + ".middle", inner_);
    block.output_back = pack_back(tensors, name + ".output", inner_);
  }
  const at::Tensor level =
      at::linear(tensors.at("embedding.weight"), tensors.at(name + ".level.weight"),
                 tensors.at(name + ".level.bias") + tensors.at(name + ".hidden.bias"));
  const at::Tensor table = at::zeros({config_.num_levels, block.hidden.num_out}, at::kFloat);
  table.narrow(1, 0, level.size(1)).copy_(level);
  block.level_bias.assign(table.const_data_ptr<float>(),
                          table.const_data_ptr<float>() + table.numel());
  return block;
}

Product FastNetwork::product(const PackedLinear& layer, const void* a, int64_t a_stride, void* c,
                             int64_t c_stride, int64_t rows) const {
  return {.a = a,
          .a_stride = a_stride,
          .weight = layer.weight.data(),
          .bias = layer.bias.data(),
          .c = c,
          .c_stride = c_stride,
          .slope = nullptr,
          .rows = rows,
          .num_in = layer.num_in,
          .num_out = layer.num_out};
}

Norm FastNetwork::norm(const Block& block, float* h, int64_t rows) const {
  return {.h = h,
          .h_stride = stride_of(config_.width),
          .gamma = block.gamma.data(),
          .beta = block.beta.data(),
          .mask = mask_.data(),
          .out = nullptr,
          .out_stride = stride_of(config_.width),
          .normed = nullptr,
          .slope = nullptr,
          .inverse_sd = nullptr,
          .rows = rows,
          .width = config_.width,
          .epsilon = kLayerNormEpsilon};
}

void FastNetwork::forward_tile(size_t index, int64_t start, int64_t rows, int64_t level,
                               Memory& memory) const {
  const Block& block = blocks_[index];
  const int64_t width = padded(config_.width);
  const int64_t inner = block.hidden.num_out;
  const int64_t width_stride = width + kStrideGap;
  const int64_t inner_stride = inner + kStrideGap;
  float* h = memory.h.floats() + start * width_stride;
  void* n = memory.n.elements();
  void* u = memory.u.elements();
  void* v = memory.v.elements();

  Norm first = norm(block, h, rows);
  Product hidden = product(block.hidden, n, width_stride, u, inner_stride, rows);
  Product middle = product(block.middle, u, inner_stride, v, inner_stride, rows);
  const Product last = product(block.output, v, inner_stride, h, width_stride, rows);
  first.out = n;
  hidden.bias = block.level_bias.data() + level * inner;
  if (memory.keeps) {
    Memory::Kept& kept = memory.kept[index];
    first.normed = kept.normed.floats() + start * width;
    first.slope = kept.norm_slope.floats() + start * width;
    first.inverse_sd = kept.inverse_sd.floats() + start;
    hidden.slope = kept.hidden_slope.floats() + start * inner;
    middle.slope = kept.middle_slope.floats() + start * inner;
  }
  inner_.norm_silu(first);
  inner_.linear_silu(hidden);
  inner_.linear_silu(middle);
  inner_.linear_add(last);
}

void FastNetwork::backward_tile(size_t index, int64_t start, int64_t rows, Memory& memory) const {
  const Block& block = blocks_[index];
  Memory::Kept& kept = memory.kept[index];
  const int64_t width = padded(config_.width);
  const int64_t inner = block.hidden.num_out;
  const int64_t width_stride = width + kStrideGap;
  const int64_t inner_stride = inner + kStrideGap;
  float* gradient = memory.gradient.floats() + start * width_stride;
  float* normed_gradient = memory.tile.floats();
  void* n = memory.n.elements();
  void* u = memory.u.elements();
  void* v = memory.v.elements();

  inner_.narrow(gradient, width_stride, n, width_stride, rows, width);
  Product last = product(block.output_back, n, width_stride, v, inner_stride, rows);
  last.slope = kept.middle_slope.floats() + start * inner;
  Product middle = product(block.middle_back, v, inner_stride, u, inner_stride, rows);
  middle.slope = kept.hidden_slope.floats() + start * inner;
  const Product hidden =
      product(block.hidden_back, u, inner_stride, normed_gradient, width_stride, rows);
  Norm first = norm(block, gradient, rows);
  first.out = normed_gradient;
  first.normed = kept.normed.floats() + start * width;
  first.slope = kept.norm_slope.floats() + start * width;
  first.inverse_sd = kept.inverse_sd.floats() + start;
  inner_.linear_scale(last);
  inner_.linear_scale(middle);
  inner_.linear(hidden);
  inner_.norm_backward(first);
}

// Floats between rows of memory.f, which holds outputs and, on the way back, p of all inputs.
int64_t FastNetwork::ends_stride() const {
  return stride_of(std::max(features_.count(), num_outputs(config_)));
}

// phi(x), packed rows; they stay in `memory` for the backward pass.
const float* FastNetwork::inputs(const float* x, int64_t rows, Memory& memory) const {
  if (features_.is_identity()) {
    return x;
  }
  features_.values(x, rows, memory.features.floats());
  return memory.features.floats();
}

void FastNetwork::forward_blocks(const float* x, int64_t rows, int64_t level,
                                 Memory& memory) const {
  const int64_t width_stride = stride_of(config_.width);
  float* h = memory.h.floats();
  outer_.linear(product(input_, inputs(x, rows, memory), features_.count(), h, width_stride, rows));
  for (size_t i = 0; i < blocks_.size(); ++i) {
    for (int64_t start = 0; start < rows; start += kTileRows) {
      forward_tile(i, start, std::min(kTileRows, rows - start), level, memory);
    }
  }
  outer_.linear(product(output_, h, width_stride, memory.f.floats(), ends_stride(), rows));
}

void FastNetwork::backward_blocks(int64_t rows, Memory& memory) const {
  const int64_t width_stride = stride_of(config_.width);
  float* f = memory.f.floats();
  float* gradient = memory.gradient.floats();
  outer_.linear(product(output_back_, f, ends_stride(), gradient, width_stride, rows));
  for (size_t i = blocks_.size(); i-- > 0;) {
    for (int64_t start = 0; start < rows; start += kTileRows) {
      backward_tile(i, start, std::min(kTileRows, rows - start), memory);
    }
  }
  outer_.linear(product(input_back_, gradient, width_stride, f, ends_stride(), rows));
}

void FastNetwork::forward_rows(const float* x, int64_t rows, int64_t level, float* out) const {
  const int64_t dim = config_.event_dim;
  Memory& memory = Memory::of_this_thread();
  memory.reserve(config_, inner_.element_size, std::min(rows, kChunkRows), false);
  for (int64_t start = 0; start < rows; start += kChunkRows) {
    const int64_t num = std::min(kChunkRows, rows - start);
    forward_blocks(x + start * dim, num, level, memory);
    for (int64_t row = 0; row < num; ++row) {
      std::copy_n(memory.f.floats() + row * ends_stride(), dim, out + (start + row) * dim);
    }
  }
}

// With r = f, or f - x: E = sum r^2, dE/dx = J^T 2r, or J^T 2r - 2r. On entry memory.f holds f, on
// return 2r, and `gradient` what the residual adds to J^T 2r.
void FastNetwork::energy_ends(const float* x, int64_t rows, bool residual, double* energy,
                              float* gradient, Memory& memory) const {
  const int64_t dim = config_.event_dim;
  for (int64_t row = 0; row < rows; ++row) {
    float* f = memory.f.floats() + row * ends_stride();
    double sum = 0.0;
    for (int64_t j = 0; j < dim; ++j) {
      const float r = residual ? f[j] - x[row * dim + j] : f[j];
      sum += static_cast<double>(r) * static_cast<double>(r);
      f[j] = 2.0f * r;
      gradient[row * dim + j] = residual ? -f[j] : 0.0f;
    }
    energy[row] = sum;
  }
}

// With q = softmax(f): L = log q_label, dL/dx = J^T (e_label - q). On entry memory.f holds f, on
// return e_label - q.
void FastNetwork::log_share_ends(int64_t rows, int64_t label, double* log_share,
                                 Memory& memory) const {
  const int64_t num = config_.num_classes;
  for (int64_t row = 0; row < rows; ++row) {
    float* f = memory.f.floats() + row * ends_stride();
    const double top = *std::max_element(f, f + num);
    double sum = 0.0;
    for (int64_t j = 0; j < num; ++j) {
      sum += std::exp(f[j] - top);
    }
    log_share[row] = f[label] - top - std::log(sum);
    for (int64_t j = 0; j < num; ++j) {
      f[j] = static_cast<float>((j == label ? 1.0 : 0.0) - std::exp(f[j] - top) / sum);
    }
  }
}

// `ends(start, num, memory)` turns f of the rows from `start` into the gradient by f of what is
// wanted, and sets those rows of `gradient` to what x adds to it beside f.
template <class Ends>
void FastNetwork::gradient_rows(const float* x, int64_t rows, int64_t level, float* gradient,
                                const Ends& ends) const {
  const int64_t dim = config_.event_dim;
  const int64_t most = backward_chunk();
  Memory& memory = Memory::of_this_thread();
  memory.reserve(config_, inner_.element_size, std::min(rows, most), true);
  for (int64_t start = 0; start < rows; start += most) {
    const int64_t num = std::min(most, rows - start);
    forward_blocks(x + start * dim, num, level, memory);
    ends(start, num, memory);
    backward_blocks(num, memory);
    features_.pull(memory.features.floats(), memory.f.floats(), ends_stride(), num,
                   gradient + start * dim);
  }
}

int64_t FastNetwork::backward_chunk() const {
  const int64_t per_block = 2 * padded(config_.width) + 2 * padded(config_.widen * config_.width);
  const int64_t bytes_per_row = config_.num_blocks * per_block * 4;
  const int64_t rows = std::min(kChunkRows, kChunkBytes / bytes_per_row);
  return std::max(rows / inner_.row_block, int64_t{1}) * inner_.row_block;
}

template <class Function>
void FastNetwork::for_rows(int64_t rows, const Function& function) const {
  const int64_t num_blocks = (rows + inner_.row_block - 1) / inner_.row_block;
  at::parallel_for(0, num_blocks, 1, [&](int64_t first, int64_t last) {
    const int64_t begin = first * inner_.row_block;
    const int64_t end = std::min(rows, last * inner_.row_block);
    inner_.begin();
    function(begin, end - begin);
    inner_.end();
  });
}

bool FastNetwork::costs_as(const FastNetwork& other) const {
  const auto sizes = [](const FastNetwork& network) {
    return std::array{network.config_.event_dim, network.config_.width, network.config_.num_blocks,
                      network.config_.widen, network.features_.count()};
  };
  return &inner_ == &other.inner_ && sizes(*this) == sizes(other);
}

void FastNetwork::run_rows(const Job& job, int64_t begin, int64_t num) {
  const FastNetwork& network = *job.network;
  const int64_t dim = network.config_.event_dim;
  const float* x = job.x + begin * dim;
  float* out = job.out + begin * dim;
  network.inner_.begin();
  if (job.energy == nullptr) {
    network.forward_rows(x, num, job.level, out);
  } else {
    const auto ends = [&](int64_t start, int64_t count, Memory& memory) {
      network.energy_ends(x + start * dim, count, job.residual, job.energy + begin + start,
                          out + start * dim, memory);
    };
    network.gradient_rows(x, num, job.level, out, ends);
  }
  network.inner_.end();
}

// Blocks of rows are counted through all jobs, the first job's first; a thread takes a run of them.
void FastNetwork::run_together(const std::vector<Job>& jobs, int64_t rows) {
  if (jobs.empty()) {
    return;
  }
  const int64_t row_block = jobs.front().network->inner_.row_block;
  const int64_t num_blocks = (rows + row_block - 1) / row_block;
  const int64_t total = num_blocks * static_cast<int64_t>(jobs.size());
  at::parallel_for(0, total, 1, [&](int64_t first, int64_t last) {
    while (first < last) {
      const int64_t job = first / num_blocks;
      const int64_t end = std::min(last, (job + 1) * num_blocks);
      const int64_t begin = (first - job * num_blocks) * row_block;
      const int64_t stop = std::min(rows, (end - job * num_blocks) * row_block);
      run_rows(jobs[static_cast<size_t>(job)], begin, stop - begin);
      first = end;
    }
  });
}

void FastNetwork::forward(const float* x, int64_t rows, int64_t level, float* out) const {
  run_together({{.network = this, .x = x, .level = level, .out = out}}, rows);
}

void FastNetwork::energy(const float* x, int64_t rows, int64_t level, bool residual, double* energy,
                         float* gradient) const {
  run_together({{.network = this,
                 .x = x,
                 .level = level,
                 .residual = residual,
                 .energy = energy,
                 .out = gradient}},
               rows);
}

void FastNetwork::log_share(const float* x, int64_t rows, int64_t level, int64_t label,
                            double* log_share, float* gradient) const {
  const int64_t dim = config_.event_dim;
  std::fill_n(gradient, rows * dim, 0.0f);
  for_rows(rows, [&](int64_t begin, int64_t num) {
    const auto ends = [&](int64_t start, int64_t count, Memory& memory) {
      log_share_ends(count, label, log_share + begin + start, memory);
    };
    gradient_rows(x + begin * dim, num, level, gradient + begin * dim, ends);
  });
}

}  // namespace motet::detail
