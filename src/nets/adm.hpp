// The networks of guided-diffusion (Dhariwal and Nichol 2021): the U-Net of ADM and the half of one
// that classifies noisy images.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nets/network.hpp"

namespace motet::detail {

/// How EncoderUNetModel ends.
enum class AdmPool {
  adaptive,    ///< the mean over all positions
  attention,   ///< the mean attends to all positions; needs num_head_channels
  spatial,     ///< means of every block, through a perceptron
  spatial_v2,  ///< the same with a group norm inside
};
std::string to_string(AdmPool pool);
/// Throws ConfigError naming the allowed words.
AdmPool adm_pool_from(const std::string& name);

/// Sizes and options, by the names of the reference code's flags, with its defaults for networks.
struct AdmConfig {
  int64_t image_size = 64;  ///< pixels a side; a multiple of 2^(levels - 1)
  int64_t in_channels = 3;
  int64_t num_channels = 128;
  int64_t num_res_blocks = 2;
  /// Channels of each level over num_channels, from the full size down; each level halves the size.
  /// Every product, rounded down, must be a multiple of 32.
  std::vector<double> channel_mult = {1, 2, 3, 4};
  /// Sizes in pixels whose levels have attention; sizes that no level has are ignored.
  std::vector<int64_t> attention_resolutions = {16, 8};
  int64_t num_heads = 4;
  int64_t num_head_channels = -1;   ///< > 0: instead of num_heads
  int64_t num_heads_upsample = -1;  ///< > 0: instead of num_heads on the way up
  bool conv_resample = true;        ///< resampling by convolutions; not with resblock_updown
  bool use_scale_shift_norm = true;
  bool resblock_updown = false;  ///< resampling inside residual blocks
  bool use_new_attention_order = false;
  bool learn_sigma = false;  ///< UNetModel: an output of twice the channels
  int64_t num_classes = 0;   ///< UNetModel: 0: unconditional; EncoderUNetModel: outputs, >= 2
  AdmPool pool = AdmPool::adaptive;  ///< EncoderUNetModel
};

/// UNetModel: (C, H, W) -> the same, or (2 C, H, W). Time is 0 to 999 as a rule; a class goes in as
/// "class_labels". Throws ConfigError naming the first setting that cannot be.
ArchitecturePtr adm_unet(const AdmConfig& config);
/// EncoderUNetModel: (C, H, W) -> (num_classes) logits. Throws as adm_unet().
ArchitecturePtr adm_classifier(const AdmConfig& config);

}  // namespace motet::detail
