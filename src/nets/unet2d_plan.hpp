// Which layers a UNet2DModel has: made from its config once, walked by the list of its tensors and
// by its forward pass.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "nets/unet2d.hpp"
#include "nets/unet2d_blocks.hpp"

namespace motet::detail {

/// Channels of the images that skip past; fixed in diffusers.
inline constexpr int64_t kImageChannels = 3;

/// One block, down or up.
struct Stage {
  std::string name = {};
  bool is_skip = false;
  std::vector<Resnet> resnets = {};
  std::vector<Attention> attentions = {};  ///< one behind each resnet, or one behind all
  std::optional<Resnet> resize_resnet = {};
  std::optional<std::string> resize_conv = {};
  int64_t channels = 0;
  int64_t skip_groups = 0;  ///< > 0: of the norm before skip_conv, up

  bool resizes() const { return resize_resnet.has_value() || resize_conv.has_value(); }
};

struct UNet2DPlan {
  LayerOptions options = {};
  std::vector<Stage> down = {};
  std::vector<Resnet> middle = {};
  std::optional<Attention> middle_attention = {};
  std::vector<Stage> up = {};
  int64_t groups_out = 32;
};

/// The plan of a config whose numbers fit each other (check_unet2d).
UNet2DPlan unet2d_plan(const UNet2DConfig& config);

}  // namespace motet::detail
