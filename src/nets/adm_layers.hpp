// Private to adm.cpp: the layers of guided-diffusion's networks and their tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "nets/tensors.hpp"

namespace motet::detail {

enum class AdmPart { convolution, residual, attention, resample };
enum class AdmResample { none, down, up };

/// One module of a block, as the state dict names it ("input_blocks.3.0").
struct AdmLayer {
  AdmPart part = AdmPart::residual;
  std::string name;
  int64_t num_in = 0;
  int64_t num_out = 0;
  int64_t num_heads = 1;                     ///< attention
  AdmResample resample = AdmResample::none;  ///< residual, resample
};

/// What all layers of a network have in common.
struct AdmStyle {
  int64_t embedding_dim = 0;
  bool has_scale_shift = false;    ///< the embedding scales the norm, too
  bool has_resample_conv = true;   ///< else nearest neighbours and means of 2 x 2
  bool splits_heads_last = false;  ///< channels of qkv: q, k, v of all heads; else head by head
};

inline constexpr int64_t kAdmNormGroups = 32;
inline constexpr double kAdmNormEpsilon = 1e-5;

/// Adds the tensors of a layer.
void add_adm_layer(ShapeMap& shapes, const AdmLayer& layer, const AdmStyle& style);
/// The layer at h (B, num_in, H, W) with the embedding (B or 1, embedding_dim) of time and class:
/// (B, num_out, H', W').
at::Tensor apply_adm_layer(const TensorMap& tensors, const AdmLayer& layer, const AdmStyle& style,
                           const at::Tensor& h, const at::Tensor& embedding);

/// Group norm of 32 groups, in float32 where the dtype is narrower, and SiLU.
at::Tensor adm_norm_silu(const TensorMap& tensors, const std::string& name, const at::Tensor& h);

/// NAME.positional_embedding (C, size^2 + 1), NAME.qkv_proj and NAME.c_proj to num_out: attention of
/// the mean to all positions (Radford et al. 2021, CLIP).
void add_attention_pool(ShapeMap& shapes, const std::string& name, int64_t num_in, int64_t num_out,
                        int64_t size);
/// h (B, C, H, W) -> (B, num_out).
at::Tensor attention_pool(const TensorMap& tensors, const std::string& name, const at::Tensor& h,
                          int64_t num_heads);

}  // namespace motet::detail
