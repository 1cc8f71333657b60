// Residual blocks, attention over pixels and changes of resolution as diffusers 0.42.1 defines them
// (models/resnet.py, attention_processor.py, upsampling.py, downsampling.py).
#include "nets/unet2d_blocks.hpp"

#include <ATen/core/grad_mode.h>
#include <torch/types.h>

#include <cmath>

#include "nets/layers.hpp"

namespace motet::detail {
namespace {

bool has_shortcut(const Resnet& layer) {
  return layer.has_shortcut || layer.num_in != layer.num_out;
}

at::Tensor resized(const at::Tensor& x, Resize resize) {
  switch (resize) {
    case Resize::halve:
      return at::avg_pool2d(x, {2, 2}, {2, 2});
    case Resize::double_nearest:
      return upsample_nearest(x);
    case Resize::halve_fir:
      return halve_fir(x);
    case Resize::double_fir:
      return double_fir(x);
    default:
      return x;
  }
}

// The filter's outer product with itself, of sum `gain`, as a kernel of one channel.
at::Tensor fir_kernel(const at::Tensor& like, double gain) {
  const at::Tensor taps = at::tensor({1.0, 3.0, 3.0, 1.0}, like.options());
  return (at::outer(taps, taps) * (gain / 64.0)).view({1, 1, 4, 4});
}

// Every channel as an image of its own.
at::Tensor channels_apart(const at::Tensor& x) { return x.reshape({-1, 1, x.size(2), x.size(3)}); }

at::Tensor heads_of(const at::Tensor& x, int64_t num_heads) {
  return x.view({x.size(0), x.size(1), num_heads, -1}).transpose(1, 2);
}

// softmax(q k^T / sqrt(d)) v of (B, heads, pixels, d).
at::Tensor attend(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) {
  if (!at::GradMode::is_enabled()) {
    return at::scaled_dot_product_attention(query, key, value);
  }
  const double scale = 1.0 / std::sqrt(static_cast<double>(query.size(-1)));
  return at::matmul(at::softmax(at::matmul(query * scale, key.transpose(-2, -1)), -1), value);
}

at::Tensor norm_activate(const TensorMap& tensors, const std::string& name, const at::Tensor& x,
                         int64_t num_groups, const LayerOptions& options) {
  if (options.activation == Activation::silu) {
    return group_norm_silu(tensors, name, x, num_groups, options.epsilon);
  }
  return activate(group_norm(tensors, name, x, num_groups, options.epsilon), options.activation);
}

}  // namespace

void add_resnet(ShapeMap& shapes, const Resnet& layer, const LayerOptions& options) {
  add_norm(shapes, layer.name + ".norm1", layer.num_in);
  add_conv(shapes, layer.name + ".conv1", layer.num_in, layer.num_out, 3);
  add_linear(shapes, layer.name + ".time_emb_proj", options.time_dim,
             (options.scale_shift ? 2 : 1) * layer.num_out);
  add_norm(shapes, layer.name + ".norm2", layer.num_out);
  add_conv(shapes, layer.name + ".conv2", layer.num_out, layer.num_out, 3);
  if (has_shortcut(layer)) {
    add_conv(shapes, layer.name + ".conv_shortcut", layer.num_in, layer.num_out, 1);
  }
}

void add_attention(ShapeMap& shapes, const Attention& layer) {
  const int64_t inner = layer.num_heads() * layer.head_dim;
  if (layer.groups) {
    add_norm(shapes, layer.name + ".group_norm", layer.channels);
  }
  for (const char* projection : {".to_q", ".to_k", ".to_v"}) {
    add_linear(shapes, layer.name + projection, layer.channels, inner);
  }
  add_linear(shapes, layer.name + ".to_out.0", inner, layer.channels);
}

at::Tensor activate(const at::Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::mish:
      return at::mish(x);
    case Activation::gelu:
      return at::gelu(x);
    case Activation::relu:
      return at::relu(x);
    default:
      return at::silu(x);
  }
}

at::Tensor upsample_nearest(const at::Tensor& x) {
  return at::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)}, 2.0, 2.0);
}

at::Tensor halve_fir(const at::Tensor& x) {
  const at::Tensor half =
      at::conv2d(channels_apart(x), fir_kernel(x, 1.0), std::nullopt, {2, 2}, {1, 1});
  return half.view({x.size(0), x.size(1), half.size(2), half.size(3)});
}

at::Tensor double_fir(const at::Tensor& x) {
  const at::Tensor twice =
      at::conv_transpose2d(channels_apart(x), fir_kernel(x, 4.0), std::nullopt, {2, 2}, {1, 1});
  return twice.view({x.size(0), x.size(1), twice.size(2), twice.size(3)});
}

at::Tensor resnet(const TensorMap& tensors, const Resnet& layer, const LayerOptions& options,
                  const at::Tensor& x, const at::Tensor& embedded) {
  const auto name = [&layer](const char* part) { return layer.name + part; };
  at::Tensor h = norm_activate(tensors, name(".norm1"), x, layer.groups_in, options);
  h = resized(h, layer.resize);
  const at::Tensor time =
      linear(tensors, name(".time_emb_proj"), activate(embedded, options.activation));
  if (options.scale_shift) {
    const std::vector<at::Tensor> scale_and_shift = time.unsqueeze(-1).unsqueeze(-1).chunk(2, 1);
    h = conv2d(tensors, name(".conv1"), h, 1, 1);
    h = group_norm(tensors, name(".norm2"), h, layer.groups_out, options.epsilon);
    h = activate(h * (1 + scale_and_shift[0]) + scale_and_shift[1], options.activation);
  } else {
    h = conv2d_plus(tensors, name(".conv1"), h, time, 1, 1);
    h = norm_activate(tensors, name(".norm2"), h, layer.groups_out, options);
  }
  h = conv2d(tensors, name(".conv2"), h, 1, 1);
  at::Tensor past = resized(x, layer.resize);
  if (has_shortcut(layer)) {
    past = conv2d(tensors, name(".conv_shortcut"), past);
  }
  return layer.scale == 1.0 ? past + h : (past + h) / layer.scale;
}

at::Tensor attention(const TensorMap& tensors, const Attention& layer, const LayerOptions& options,
                     const at::Tensor& x) {
  const auto project = [&](const char* part, const at::Tensor& rows) {
    return heads_of(linear(tensors, layer.name + part, rows), layer.num_heads());
  };
  at::Tensor normed = x;
  if (layer.groups) {
    normed = group_norm(tensors, layer.name + ".group_norm", x, *layer.groups, options.epsilon);
  }
  const at::Tensor pixels = normed.flatten(2).transpose(1, 2);  // (B, H W, C)
  const at::Tensor mixed =
      attend(project(".to_q", pixels), project(".to_k", pixels), project(".to_v", pixels));
  const at::Tensor joined = mixed.transpose(1, 2).flatten(2);
  const at::Tensor out = linear(tensors, layer.name + ".to_out.0", joined);
  const at::Tensor sum = x + out.transpose(1, 2).reshape(x.sizes());
  return layer.scale == 1.0 ? sum : sum / layer.scale;
}

}  // namespace motet::detail
