// UNet2DModel of diffusers (0.42.1) as an architecture: what its config.json says, its tensors by
// the names of its files, and its forward pass.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "nets/network.hpp"

namespace motet::detail {

/// A block of one resolution, without diffusers' "Down" or "Up".
enum class UNet2DBlock {
  plain,           ///< DownBlock2D, UpBlock2D
  attention,       ///< AttnDownBlock2D, AttnUpBlock2D
  resnet,          ///< ResnetDownsampleBlock2D, ResnetUpsampleBlock2D
  skip,            ///< SkipDownBlock2D, SkipUpBlock2D: images skip past too (Song et al. 2021)
  skip_attention,  ///< AttnSkipDownBlock2D, AttnSkipUpBlock2D
};
/// How a number of time becomes features.
enum class TimeEmbedding { positional, fourier, learned };
/// How a class becomes a part of the embedded time.
enum class ClassEmbedding { none, learned, timestep, identity };
enum class Activation { silu, mish, gelu, relu };
/// How images change their resolution in blocks with attention.
enum class Resampling { conv, resnet };

/// The settings of UNet2DModel; defaults are diffusers' own, but for the size, which has none.
/// Sizes are limited to kMaxUNet2DSize, blocks to 16, layers to 64.
struct UNet2DConfig {
  int64_t height = 0;
  int64_t width = 0;
  int64_t in_channels = 3;
  int64_t out_channels = 3;
  bool center_input_sample = false;  ///< the network sees 2 x - 1
  TimeEmbedding time_embedding = TimeEmbedding::positional;
  int64_t time_embedding_dim = 0;  ///< 0: four times the first block's channels
  double freq_shift = 0.0;
  bool flip_sin_to_cos = true;
  std::vector<UNet2DBlock> down_blocks = {UNet2DBlock::plain, UNet2DBlock::attention,
                                          UNet2DBlock::attention, UNet2DBlock::attention};
  std::vector<UNet2DBlock> up_blocks = {UNet2DBlock::attention, UNet2DBlock::attention,
                                        UNet2DBlock::attention, UNet2DBlock::plain};
  std::vector<int64_t> block_out_channels = {224, 448, 672, 896};
  int64_t layers_per_block = 2;
  bool has_mid_block = true;
  bool add_attention = true;  ///< in the middle
  double mid_block_scale_factor = 1.0;
  int64_t downsample_padding = 1;  ///< 0 or 1; 0 pads right and below only
  Resampling downsampling = Resampling::conv;
  Resampling upsampling = Resampling::conv;
  Activation activation = Activation::silu;
  std::optional<int64_t> attention_head_dim = 8;  ///< unset: one head a block
  std::optional<int64_t> norm_num_groups = 32;    ///< unset: as blocks that skip choose them
  std::optional<int64_t> attn_norm_num_groups;    ///< in the middle
  double norm_eps = 1e-5;
  bool scale_shift = false;  ///< resnet_time_scale_shift = "scale_shift"
  ClassEmbedding class_embedding = ClassEmbedding::none;
  int64_t num_class_embeds = 0;  ///< of ClassEmbedding::learned
  /// Of ClassEmbedding::identity: of how many numbers condition_features() makes what the network
  /// sees ("_motet_condition_dim", which diffusers skips); 0: not said.
  int64_t condition_dim = 0;
  int64_t num_train_timesteps = 0;  ///< of TimeEmbedding::learned

  int64_t time_dim() const;
  bool operator==(const UNet2DConfig&) const = default;
};
inline constexpr int64_t kMaxUNet2DSize = 65536;

/// From the object of a config.json. Throws DataError "WHERE: ..." for unknown keys, wrong types
/// and numbers out of range, ConfigError for blocks and settings that diffusers has and motet has
/// not.
UNet2DConfig unet2d_config(const nlohmann::json& json, const std::string& where);
/// The config.json that gives it again, all keys but dropout's.
nlohmann::json to_json(const UNet2DConfig& config);
/// Throws ConfigError "WHERE: ..." for numbers that do not fit each other: channels that the groups
/// of a norm do not divide, an image that cannot be halved so often.
void check_unet2d(const UNet2DConfig& config, const std::string& where);

/// Names of an older diffusers become those of expected_tensors(): query, key, value and proj_attn
/// of attentions.
TensorMap renamed_old_attentions(TensorMap tensors);

/// The architecture. Its tensors are those of diffusers' state dict; a class is the input
/// "class_labels". Cost and memory are those of its convolutions; attention takes (H W)^2 numbers a
/// head where a graph is kept. Throws as check_unet2d().
ArchitecturePtr unet2d(UNet2DConfig config, const std::string& where = "unet2d");

}  // namespace motet::detail
