// Hand-written passes of the residual MLP on the CPU: prepacked weights, fused layers, cached
// tiles.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "nets/engine.hpp"
#include "nets/features.hpp"
#include "nets/residual_mlp.hpp"

namespace motet::detail {

/// Weights of one Linear layer, packed for an engine.
struct PackedLinear {
  std::vector<std::byte> weight;
  std::vector<float> bias;  ///< padded; zeros for a transposed layer
  int64_t num_in = 0;       ///< as the engine counts it
  int64_t num_out = 0;      ///< padded
};

/// The network at all its levels, ready to run. Immutable, safe to call from many threads. Rows are
/// shared out over at::get_num_threads() threads; the bits of a row depend on nothing but that row.
class FastNetwork {
 public:
  /// Packs `tensors` (float32, on the CPU, checked). `product_engine` runs the blocks; the
  /// input and output layers and all norms are float32. `with_gradient` packs the transposed
  /// weights too. Memory: the weights once (twice), and num_levels * num_blocks * widen * width
  /// floats for the level terms, which are folded into the hidden layers' biases.
  FastNetwork(const TensorMap& tensors, const NetworkConfig& config, const Engine& product_engine,
              bool with_gradient);

  /// f(x, t): x (rows, d) -> out (rows, d), both row major floats. Not of a classifier.
  void forward(const float* x, int64_t rows, int64_t level, float* out) const;

  /// E = ||f||^2, or ||f - x||^2 if `residual`: energy (rows) and its gradient in x (rows, d).
  /// Needs with_gradient. Cost: see network_model() in motet/model.hpp.
  void energy(const float* x, int64_t rows, int64_t level, bool residual, double* energy,
              float* gradient) const;

  /// Of a classifier: log softmax(f)_label (rows) and its gradient in x (rows, d). Needs
  /// with_gradient. Cost: as energy().
  void log_share(const float* x, int64_t rows, int64_t level, int64_t label, double* log_share,
                 float* gradient) const;

  /// True when a row costs both the same, so that run_together() shares them out evenly.
  bool costs_as(const FastNetwork& other) const;

  /// One network's forward() or energy().
  struct Job {
    const FastNetwork* network = nullptr;
    const float* x = nullptr;
    int64_t level = 0;
    bool residual = false;
    double* energy = nullptr;  ///< null: forward()
    float* out = nullptr;      ///< f, or the energy's gradient
  };
  /// All jobs, of as many rows each, in one parallel region: networks that cost the same, or threads
  /// wait. Where a batch has fewer blocks of rows than there are threads, several networks keep
  /// busy what one cannot. The bits are those of one call each.
  static void run_together(const std::vector<Job>& jobs, int64_t rows);

 private:
  struct Block {
    std::vector<float> gamma, beta;
    std::vector<float> level_bias;  // (num_levels, padded inner): b_h + W_l e_t + b_l
    PackedLinear hidden, middle, output;
    PackedLinear hidden_back, middle_back, output_back;
  };
  struct Memory;

  PackedLinear pack(const TensorMap& tensors, const std::string& name, const Engine& engine) const;
  PackedLinear pack_back(const TensorMap& tensors, const std::string& name,
                         const Engine& engine) const;
  Block pack_block(const TensorMap& tensors, int64_t index, bool with_gradient) const;
  Product product(const PackedLinear& layer, const void* a, int64_t a_stride, void* c,
                  int64_t c_stride, int64_t rows) const;
  Norm norm(const Block& block, float* h, int64_t rows) const;

  void forward_tile(size_t index, int64_t start, int64_t rows, int64_t level, Memory& memory) const;
  void backward_tile(size_t index, int64_t start, int64_t rows, Memory& memory) const;
  void forward_blocks(const float* x, int64_t rows, int64_t level, Memory& memory) const;
  void backward_blocks(int64_t rows, Memory& memory) const;
  void energy_ends(const float* x, int64_t rows, bool residual, double* energy, float* gradient,
                   Memory& memory) const;
  void log_share_ends(int64_t rows, int64_t label, double* log_share, Memory& memory) const;
  const float* inputs(const float* x, int64_t rows, Memory& memory) const;
  int64_t ends_stride() const;
  int64_t backward_chunk() const;
  void forward_rows(const float* x, int64_t rows, int64_t level, float* out) const;
  static void run_rows(const Job& job, int64_t begin, int64_t num);
  template <class Ends>
  void gradient_rows(const float* x, int64_t rows, int64_t level, float* gradient,
                     const Ends& ends) const;
  template <class Function>
  void for_rows(int64_t rows, const Function& function) const;

  NetworkConfig config_;
  Features features_;
  const Engine& outer_;
  const Engine& inner_;
  std::vector<float> mask_;  // (padded width): 1, then 0
  PackedLinear input_, output_, input_back_, output_back_;
  std::vector<Block> blocks_;
};

}  // namespace motet::detail
