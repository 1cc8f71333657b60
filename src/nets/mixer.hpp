// Score networks made of an MLP-Mixer (Tolstikhin et al. 2021), as the package galaxygrad has them.
#pragma once

#include <cstdint>

#include "nets/network.hpp"

namespace motet::detail {

/// Sizes of a mixer; the defaults are galaxygrad's for 32 x 32 pixels.
struct MixerConfig {
  int64_t num_channels = 1;
  int64_t height = 32;
  int64_t width = 32;
  int64_t patch_size = 4;    ///< of both sides; divides height and width
  int64_t hidden_size = 64;  ///< channels of a patch
  int64_t mix_patch = 512;   ///< hidden width of the MLP over patches
  int64_t mix_hidden = 512;  ///< hidden width of the MLP over channels
  int64_t num_blocks = 4;
  double last_time = 10.0;  ///< the network sees time / last_time
  bool operator==(const MixerConfig&) const = default;
};

/// Most numbers that one layer of a mixer may have, and most blocks: files come from strangers.
inline constexpr int64_t kMaxMixerSize = 1 << 20;
inline constexpr int64_t kMaxMixerBlocks = 1000;

/// The network f(x, t), as large as x. Tensors are named and shaped as equinox's pytree:
/// conv_in.weight (hidden, C + 1, p, p), conv_in.bias (hidden, 1, 1), conv_out.weight (C, hidden,
/// p, p), conv_out.bias (C, 1, 1), blocks.I.patch_mixer.layers.J.weight (out, in) and bias,
/// blocks.I.hidden_mixer likewise, blocks.I.norm1.weight and bias (hidden, P), norm2 (P, hidden),
/// norm (hidden, P), with P patches. Throws ConfigError naming the first size that cannot be.
ArchitecturePtr mixer_architecture(const MixerConfig& config);

/// Names of its tensors in the order in which equinox stores them.
std::vector<std::string> mixer_leaf_names(const MixerConfig& config);

}  // namespace motet::detail
