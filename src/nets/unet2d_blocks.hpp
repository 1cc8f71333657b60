// The layers that UNet2DModel's blocks are made of: each is data (its name, sizes, options) with
// the tensors that it has and its forward pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

#include "nets/tensors.hpp"
#include "nets/unet2d.hpp"

namespace motet::detail {

/// How a residual block changes the resolution on its way.
enum class Resize { none, halve, double_nearest, halve_fir, double_fir };

/// What the layers of a network share.
struct LayerOptions {
  Activation activation = Activation::silu;
  double epsilon = 1e-5;
  bool scale_shift = false;
  int64_t time_dim = 0;
};

/// y = (shortcut(x) + conv2(act(norm2(conv1(act(norm1(x))) + time)))) / scale.
struct Resnet {
  std::string name;
  int64_t num_in = 0;
  int64_t num_out = 0;
  int64_t groups_in = 32;
  int64_t groups_out = 32;
  double scale = 1.0;
  Resize resize = Resize::none;
  bool has_shortcut = false;  ///< a convolution on the way past; always where channels change
};

/// y = (x + W_o attention(W_q n, W_k n, W_v n)) / scale, n = norm(x), over all pixels.
struct Attention {
  std::string name;
  int64_t channels = 0;
  int64_t head_dim = 8;
  std::optional<int64_t> groups = 32;  ///< unset: no norm
  double scale = 1.0;

  int64_t num_heads() const { return channels / head_dim; }
};

void add_resnet(ShapeMap& shapes, const Resnet& layer, const LayerOptions& options);
void add_attention(ShapeMap& shapes, const Attention& layer);

at::Tensor activate(const at::Tensor& x, Activation activation);
/// `embedded` is (B, time_dim) or (1, time_dim).
at::Tensor resnet(const TensorMap& tensors, const Resnet& layer, const LayerOptions& options,
                  const at::Tensor& x, const at::Tensor& embedded);
/// With a graph plain matrix products, which can be differentiated twice; else torch's fused pass,
/// whose memory does not grow with the square of the pixels.
at::Tensor attention(const TensorMap& tensors, const Attention& layer, const LayerOptions& options,
                     const at::Tensor& x);
/// Images twice as large, each pixel four times.
at::Tensor upsample_nearest(const at::Tensor& x);
/// Images of half or double the size by the filter (1, 3, 3, 1) in both directions (Karras et al.
/// 2019), with zeros beyond the edges.
at::Tensor halve_fir(const at::Tensor& x);
at::Tensor double_fir(const at::Tensor& x);

}  // namespace motet::detail
