// Layers of guided-diffusion (Dhariwal and Nichol 2021, github.com/openai/guided-diffusion, unet.py):
//   residual block   h' = conv(SiLU(norm(x))), then norm(h') (1 + scale) + shift or norm(h' + shift)
//                    with the embedding's scale and shift, SiLU, conv, + x
//   attention        softmax(q^T k / sqrt(c)) v of every head, + x
// Attention works on (B, positions, channels): in the channels-last layout of images that is a view,
// and a convolution over single positions is a product of matrices.
#include "nets/adm_layers.hpp"

#include <torch/types.h>

#include <cmath>

#include "nets/layers.hpp"

namespace motet::detail {
namespace {

at::Tensor resampled(const at::Tensor& h, AdmResample resample) {
  switch (resample) {
    case AdmResample::down:
      return at::avg_pool2d(h, {2, 2});
    case AdmResample::up:
      return at::upsample_nearest2d(h, {2 * h.size(2), 2 * h.size(3)});
    default:
      return h;
  }
}

at::Tensor residual(const TensorMap& tensors, const AdmLayer& layer, const AdmStyle& style,
                    const at::Tensor& x, const at::Tensor& embedding) {
  const std::string& name = layer.name;
  const at::Tensor normed = adm_norm_silu(tensors, name + ".in_layers.0", x);
  const at::Tensor h =
      conv2d(tensors, name + ".in_layers.2", resampled(normed, layer.resample), 1, 1);
  const at::Tensor shift =
      linear(tensors, name + ".emb_layers.1", at::silu(embedding)).unsqueeze(2).unsqueeze(3);
  at::Tensor middle;
  if (style.has_scale_shift) {
    const at::Tensor scaled =
        group_norm(tensors, name + ".out_layers.0", h, kAdmNormGroups, kAdmNormEpsilon);
    const std::vector<at::Tensor> parts = shift.chunk(2, 1);
    middle = at::silu(scaled * (1 + parts[0]) + parts[1]);
  } else {
    middle = adm_norm_silu(tensors, name + ".out_layers.0", h + shift);
  }
  const at::Tensor skip = resampled(x, layer.resample);
  return (layer.num_in == layer.num_out ? skip : conv2d(tensors, name + ".skip_connection", skip)) +
         conv2d(tensors, name + ".out_layers.3", middle, 1, 1);
}

// A convolution of size 1 over tokens (B, T, C).
at::Tensor project(const TensorMap& tensors, const std::string& name, const at::Tensor& tokens) {
  return at::linear(tokens, tensors.at(name + ".weight").squeeze(2), tensors.at(name + ".bias"));
}

void add_projection(ShapeMap& shapes, const std::string& name, int64_t num_in, int64_t num_out) {
  shapes[name + ".weight"] = {num_out, num_in, 1};
  shapes[name + ".bias"] = {num_out};
}

at::Tensor tokens_of(const at::Tensor& h) { return h.flatten(2).transpose(1, 2); }

// qkv (B, T, 3 C) -> (B, T, C).
at::Tensor attend(const at::Tensor& qkv, int64_t num_heads, bool splits_heads_last) {
  const int64_t rows = qkv.size(0), positions = qkv.size(1), channels = qkv.size(2) / 3;
  const int64_t width = channels / num_heads;
  const at::Tensor parts =  // (3, B, heads, T, width)
      splits_heads_last
          ? qkv.reshape({rows, positions, 3, num_heads, width}).permute({2, 0, 3, 1, 4})
          : qkv.reshape({rows, positions, num_heads, 3, width}).permute({3, 0, 2, 1, 4});
  const double scale = 1.0 / std::sqrt(std::sqrt(static_cast<double>(width)));
  const at::Tensor logits = at::matmul(parts[0] * scale, (parts[1] * scale).transpose(2, 3));
  const bool is_narrow = logits.scalar_type() != at::kFloat && logits.scalar_type() != at::kDouble;
  const at::Tensor shares = is_narrow ? at::softmax(logits, -1, at::kFloat).to(logits.scalar_type())
                                      : at::softmax(logits, -1);
  return at::matmul(shares, parts[2]).transpose(1, 2).reshape({rows, positions, channels});
}

at::Tensor attention(const TensorMap& tensors, const AdmLayer& layer, const AdmStyle& style,
                     const at::Tensor& x) {
  const at::Tensor normed =
      group_norm(tensors, layer.name + ".norm", x, kAdmNormGroups, kAdmNormEpsilon);
  const at::Tensor qkv = project(tensors, layer.name + ".qkv", tokens_of(normed));
  const at::Tensor mixed = attend(qkv, layer.num_heads, style.splits_heads_last);
  const at::Tensor h = project(tensors, layer.name + ".proj_out", mixed);
  return x + h.reshape({x.size(0), x.size(2), x.size(3), x.size(1)}).permute({0, 3, 1, 2});
}

at::Tensor resample(const TensorMap& tensors, const AdmLayer& layer, const AdmStyle& style,
                    const at::Tensor& h) {
  if (!style.has_resample_conv) {
    return resampled(h, layer.resample);
  }
  return layer.resample == AdmResample::down
             ? conv2d(tensors, layer.name + ".op", h, 2, 1)
             : conv2d(tensors, layer.name + ".conv", resampled(h, layer.resample), 1, 1);
}

void add_residual(ShapeMap& shapes, const AdmLayer& layer, const AdmStyle& style) {
  const std::string& name = layer.name;
  const int64_t num_shifts = style.has_scale_shift ? 2 * layer.num_out : layer.num_out;
  add_norm(shapes, name + ".in_layers.0", layer.num_in);
  add_conv(shapes, name + ".in_layers.2", layer.num_in, layer.num_out, 3);
  add_linear(shapes, name + ".emb_layers.1", style.embedding_dim, num_shifts);
  add_norm(shapes, name + ".out_layers.0", layer.num_out);
  add_conv(shapes, name + ".out_layers.3", layer.num_out, layer.num_out, 3);
  if (layer.num_in != layer.num_out) {
    add_conv(shapes, name + ".skip_connection", layer.num_in, layer.num_out, 1);
  }
}

}  // namespace

at::Tensor adm_norm_silu(const TensorMap& tensors, const std::string& name, const at::Tensor& h) {
  return group_norm_silu(tensors, name, h, kAdmNormGroups, kAdmNormEpsilon);
}

void add_adm_layer(ShapeMap& shapes, const AdmLayer& layer, const AdmStyle& style) {
  switch (layer.part) {
    case AdmPart::convolution:
      return add_conv(shapes, layer.name, layer.num_in, layer.num_out, 3);
    case AdmPart::residual:
      return add_residual(shapes, layer, style);
    case AdmPart::attention:
      add_norm(shapes, layer.name + ".norm", layer.num_in);
      add_projection(shapes, layer.name + ".qkv", layer.num_in, 3 * layer.num_in);
      return add_projection(shapes, layer.name + ".proj_out", layer.num_in, layer.num_out);
    case AdmPart::resample:
      if (style.has_resample_conv) {
        const char* conv = layer.resample == AdmResample::down ? ".op" : ".conv";
        add_conv(shapes, layer.name + conv, layer.num_in, layer.num_out, 3);
      }
  }
}

at::Tensor apply_adm_layer(const TensorMap& tensors, const AdmLayer& layer, const AdmStyle& style,
                           const at::Tensor& h, const at::Tensor& embedding) {
  switch (layer.part) {
    case AdmPart::convolution:
      return conv2d(tensors, layer.name, h, 1, 1);
    case AdmPart::residual:
      return residual(tensors, layer, style, h, embedding);
    case AdmPart::attention:
      return attention(tensors, layer, style, h);
    default:
      return resample(tensors, layer, style, h);
  }
}

void add_attention_pool(ShapeMap& shapes, const std::string& name, int64_t num_in, int64_t num_out,
                        int64_t size) {
  shapes[name + ".positional_embedding"] = {num_in, size * size + 1};
  add_projection(shapes, name + ".qkv_proj", num_in, 3 * num_in);
  add_projection(shapes, name + ".c_proj", num_in, num_out);
}

at::Tensor attention_pool(const TensorMap& tensors, const std::string& name, const at::Tensor& h,
                          int64_t num_heads) {
  const at::Tensor tokens = tokens_of(h);
  const at::Tensor all = at::cat({tokens.mean(1, true), tokens}, 1) +
                         tensors.at(name + ".positional_embedding").t().unsqueeze(0);
  const at::Tensor mixed = attend(project(tensors, name + ".qkv_proj", all), num_heads, true);
  return project(tensors, name + ".c_proj", mixed.narrow(1, 0, 1)).squeeze(1);
}

}  // namespace motet::detail
