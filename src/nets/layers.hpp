// Layers that networks of images share, as plain torch operations on tensors by name.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "nets/tensors.hpp"

namespace motet::detail {

/// NAME.weight (out, in) and, unless left out, NAME.bias (out).
void add_linear(ShapeMap& shapes, const std::string& name, int64_t num_in, int64_t num_out,
                bool has_bias = true);
/// NAME.weight (out, in, size, size) and, unless left out, NAME.bias (out).
void add_conv(ShapeMap& shapes, const std::string& name, int64_t num_in, int64_t num_out,
              int64_t size, bool has_bias = true);
/// NAME.weight and NAME.bias (num): of a norm.
void add_norm(ShapeMap& shapes, const std::string& name, int64_t num);

/// x W^T + b over the last dimension; without a bias where there is no NAME.bias.
at::Tensor linear(const TensorMap& tensors, const std::string& name, const at::Tensor& x);
/// 2-D convolution of x (B, C, H, W), by packed weights where pack_convolutions() made them.
at::Tensor conv2d(const TensorMap& tensors, const std::string& name, const at::Tensor& x,
                  int64_t stride = 1, int64_t padding = 0);
/// The same plus `added`, (B, out) or (1, out), at every pixel. One row costs nothing.
at::Tensor conv2d_plus(const TensorMap& tensors, const std::string& name, const at::Tensor& x,
                       const at::Tensor& added, int64_t stride = 1, int64_t padding = 0);
/// Norm over num_groups groups of channels of x (B, C, ...), computed in float32.
at::Tensor group_norm(const TensorMap& tensors, const std::string& name, const at::Tensor& x,
                      int64_t num_groups, double epsilon);
/// SiLU of it. Both are one pass of our own where no graph is kept and x is on the CPU, channels
/// last, of float32 or (with AMX) bfloat16 and a multiple of 16 channels; a row's bits do not depend
/// on the batch.
at::Tensor group_norm_silu(const TensorMap& tensors, const std::string& name, const at::Tensor& x,
                           int64_t num_groups, double epsilon);

/// The tensors with all weights of four dimensions packed for convolutions by oneDNN: for passes on
/// the CPU that keep no graph. The weights of transposed convolutions are not to be among them.
TensorMap pack_convolutions(const TensorMap& tensors);

/// Half the columns are cosines, half sines, of time * max_period^(-k / (dim / 2 - shift)), k = 0,
/// 1, ...: (N, dim) float32 of time (N); an odd dim ends in a 0 (Vaswani et al. 2017, as Ho et al.
/// 2020 have it). Sines come first unless `cosines_first`.
at::Tensor time_embedding(const at::Tensor& time, int64_t dim, bool cosines_first, double shift,
                          double scale = 1.0, double max_period = 10000.0);

}  // namespace motet::detail
