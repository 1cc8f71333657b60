// The plan is as the constructors of diffusers' blocks have it (models/unets/unet_2d.py,
// unet_2d_blocks.py of 0.42.1), their quirks included.
#include "nets/unet2d_plan.hpp"

#include <algorithm>
#include <functional>
#include <numbers>
#include <utility>

#include "motet/error.hpp"

namespace motet::detail {
namespace {

bool skips(UNet2DBlock block) {
  return block == UNet2DBlock::skip || block == UNet2DBlock::skip_attention;
}

// Makes the plan of a config. Everything is as the constructors of diffusers' blocks have it.
class Planner {
 public:
  explicit Planner(const UNet2DConfig& config) : config_(config) {}

  UNet2DPlan plan() const {
    UNet2DPlan plan;
    plan.options = {.activation = config_.activation,
                    .epsilon = config_.norm_eps,
                    .scale_shift = config_.scale_shift,
                    .time_dim = config_.time_dim()};
    const auto& channels = config_.block_out_channels;
    const size_t count = channels.size();
    for (size_t i = 0; i < count; ++i) {
      plan.down.push_back(down(i, channels[i == 0 ? 0 : i - 1], channels[i], i + 1 == count));
    }
    if (config_.has_mid_block) {
      add_middle(plan);
    }
    for (size_t i = 0; i < count; ++i) {
      const size_t mirrored = count - 1 - i;
      plan.up.push_back(up(i, channels[mirrored == 0 ? 0 : mirrored - 1], channels[mirrored],
                           channels[std::min(mirrored + 1, count - 1)], i + 1 == count));
    }
    plan.groups_out = config_.norm_num_groups.value_or(std::min<int64_t>(channels.front() / 4, 32));
    return plan;
  }

 private:
  static int64_t quarter(int64_t channels) { return std::min<int64_t>(channels / 4, 32); }
  double scale_of(UNet2DBlock block) const { return skips(block) ? std::numbers::sqrt2 : 1.0; }

  Resnet resnet_of(UNet2DBlock block, std::string name, int64_t num_in, int64_t num_out) const {
    Resnet layer{
        .name = std::move(name), .num_in = num_in, .num_out = num_out, .scale = scale_of(block)};
    layer.groups_in = skips(block) ? quarter(num_in) : config_.norm_num_groups.value_or(0);
    layer.groups_out = skips(block) ? quarter(num_out) : config_.norm_num_groups.value_or(0);
    return layer;
  }

  Attention attention_of(UNet2DBlock block, std::string name, int64_t channels) const {
    constexpr int64_t kSkipGroups = 32;
    return {.name = std::move(name),
            .channels = channels,
            .head_dim = config_.attention_head_dim.value_or(channels),
            .groups = skips(block) ? kSkipGroups : config_.norm_num_groups.value_or(0),
            .scale = scale_of(block)};
  }

  Stage down(size_t index, int64_t num_in, int64_t num_out, bool is_last) const {
    const UNet2DBlock block = config_.down_blocks[index];
    Stage stage{.name = "down_blocks." + std::to_string(index), .is_skip = skips(block)};
    stage.channels = num_out;
    for (int64_t i = 0; i < config_.layers_per_block; ++i) {
      const std::string place = "." + std::to_string(i);
      stage.resnets.push_back(
          resnet_of(block, stage.name + ".resnets" + place, i == 0 ? num_in : num_out, num_out));
      if (block == UNet2DBlock::attention || block == UNet2DBlock::skip_attention) {
        stage.attentions.push_back(
            attention_of(block, stage.name + ".attentions" + place, num_out));
      }
    }
    if (!is_last) {
      resize(stage, block, config_.downsampling, true);
    }
    return stage;
  }

  Stage up(size_t index, int64_t num_skip, int64_t num_out, int64_t num_before,
           bool is_last) const {
    const UNet2DBlock block = config_.up_blocks[index];
    Stage stage{.name = "up_blocks." + std::to_string(index), .is_skip = skips(block)};
    stage.channels = num_out;
    for (int64_t i = 0; i <= config_.layers_per_block; ++i) {
      const int64_t own = i == 0 ? num_before : num_out;
      const int64_t joined = i == config_.layers_per_block ? num_skip : num_out;
      const std::string place = "." + std::to_string(i);
      Resnet layer = resnet_of(block, stage.name + ".resnets" + place, own + joined, num_out);
      if (block == UNet2DBlock::skip_attention) {
        layer.groups_in = std::min<int64_t>(own + joined / 4, 32);  // diffusers' precedence
      }
      stage.resnets.push_back(std::move(layer));
      if (block == UNet2DBlock::attention) {
        stage.attentions.push_back(
            attention_of(block, stage.name + ".attentions" + place, num_out));
      }
    }
    if (block == UNet2DBlock::skip_attention) {
      stage.attentions.push_back(attention_of(block, stage.name + ".attentions.0", num_out));
    }
    if (!is_last) {
      resize(stage, block, config_.upsampling, false);
      stage.skip_groups = stage.is_skip ? quarter(num_out) : 0;
    }
    return stage;
  }

  void resize(Stage& stage, UNet2DBlock block, Resampling resampling, bool is_down) const {
    const bool by_resnet = stage.is_skip || block == UNet2DBlock::resnet ||
                           (block == UNet2DBlock::attention && resampling == Resampling::resnet);
    const std::string list = stage.name + (is_down ? ".downsamplers.0" : ".upsamplers.0");
    if (!by_resnet) {
      stage.resize_conv = list + ".conv";
      return;
    }
    const std::string own = stage.name + (is_down ? ".resnet_down" : ".resnet_up");
    Resnet layer = resnet_of(block, stage.is_skip ? own : list, stage.channels, stage.channels);
    layer.has_shortcut = stage.is_skip;
    layer.resize = is_down ? (stage.is_skip ? Resize::halve_fir : Resize::halve)
                           : (stage.is_skip ? Resize::double_fir : Resize::double_nearest);
    stage.resize_resnet = std::move(layer);
  }

  void add_middle(UNet2DPlan& plan) const {
    const int64_t channels = config_.block_out_channels.back();
    const int64_t groups = config_.norm_num_groups.value_or(quarter(channels));
    for (int i = 0; i < 2; ++i) {
      plan.middle.push_back({.name = "mid_block.resnets." + std::to_string(i),
                             .num_in = channels,
                             .num_out = channels,
                             .groups_in = groups,
                             .groups_out = groups,
                             .scale = config_.mid_block_scale_factor});
    }
    if (config_.add_attention) {
      const auto by_default = config_.scale_shift ? std::nullopt : std::optional<int64_t>(groups);
      plan.middle_attention = Attention{
          .name = "mid_block.attentions.0",
          .channels = channels,
          .head_dim = config_.attention_head_dim.value_or(channels),
          .groups = config_.attn_norm_num_groups ? config_.attn_norm_num_groups : by_default,
          .scale = config_.mid_block_scale_factor};
    }
  }

  const UNet2DConfig& config_;
};

// What does not fit in a config, found before anything is computed.
class Checker {
 public:
  Checker(const UNet2DConfig& config, const std::string& where) : config_(config), where_(where) {}

  void check() const {
    check_counts();
    check_halving();
    check_skips();
    const UNet2DPlan plan = unet2d_plan(config_);
    for (const std::vector<Stage>* stages : {&plan.down, &plan.up}) {
      for (const Stage& stage : *stages) {
        check_stage(stage);
      }
    }
    for (const Resnet& layer : plan.middle) {
      check_resnet(layer);
    }
    if (plan.middle_attention) {
      check_attention(*plan.middle_attention);
    }
    check_groups("conv_norm_out", config_.block_out_channels.front(), plan.groups_out);
  }

 private:
  [[noreturn]] void fail(const std::string& why) const { throw ConfigError(where_ + ": " + why); }

  void check_counts() const {
    const size_t count = config_.block_out_channels.size();
    if (count == 0 || config_.down_blocks.size() != count || config_.up_blocks.size() != count) {
      fail("there are " + std::to_string(config_.down_blocks.size()) + " down_block_types, " +
           std::to_string(config_.up_blocks.size()) + " up_block_types and " +
           std::to_string(count) + " block_out_channels, must be as many of each, at least 1");
    }
    const double half = static_cast<double>(config_.block_out_channels.front() / 2);
    if (config_.time_embedding == TimeEmbedding::positional && config_.freq_shift == half) {
      fail(
          "freq_shift is half the first of block_out_channels: the frequencies of the time would "
          "be infinite");
    }
    const bool needs_groups =
        std::any_of(config_.down_blocks.begin(), config_.down_blocks.end(), std::not_fn(skips)) ||
        std::any_of(config_.up_blocks.begin(), config_.up_blocks.end(), std::not_fn(skips));
    if (needs_groups && !config_.norm_num_groups) {
      fail("norm_num_groups is null, which only blocks that skip allow");
    }
  }

  void check_halving() const {
    const int64_t factor = int64_t{1} << (config_.block_out_channels.size() - 1);
    if (config_.height < 1 || config_.width < 1 || config_.height % factor != 0 ||
        config_.width % factor != 0) {
      fail("sample_size is " + std::to_string(config_.height) + " x " +
           std::to_string(config_.width) + ", must be multiples of " + std::to_string(factor) +
           ": each block but the last halves the image");
    }
  }

  // The image that skips past is resized by the blocks that skip only.
  void check_skips() const {
    const auto last_down =
        std::find_if_not(config_.down_blocks.begin(), config_.down_blocks.end(), skips);
    const auto end_down = config_.down_blocks.end() - 1;  // the last block does not resize
    const bool is_down_wrong = last_down < end_down && std::any_of(last_down, end_down, skips);
    const auto first_up = std::find_if(config_.up_blocks.begin(), config_.up_blocks.end(), skips);
    const bool is_up_wrong = !std::all_of(first_up, config_.up_blocks.end(), skips);
    if (is_down_wrong || is_up_wrong) {
      fail(std::string(is_down_wrong ? "down" : "up") + "_block_types has a block that skips " +
           (is_down_wrong ? "after" : "before") +
           " one that does not: the images that skip past would not have its size");
    }
    const bool has_skips = first_up != config_.up_blocks.end() ||
                           std::any_of(config_.down_blocks.begin(), end_down, skips);
    if (has_skips &&
        (config_.in_channels != kImageChannels || config_.out_channels != kImageChannels)) {
      fail("blocks that skip are for images of 3 channels, but in_channels = " +
           std::to_string(config_.in_channels) +
           " and out_channels = " + std::to_string(config_.out_channels));
    }
  }

  void check_stage(const Stage& stage) const {
    for (const Resnet& layer : stage.resnets) {
      check_resnet(layer);
    }
    for (const Attention& layer : stage.attentions) {
      check_attention(layer);
    }
    if (stage.resize_resnet) {
      check_resnet(*stage.resize_resnet);
    }
    if (stage.skip_groups > 0) {
      check_groups(stage.name + ".skip_norm", stage.channels, stage.skip_groups);
    }
  }

  void check_resnet(const Resnet& layer) const {
    check_groups(layer.name + ".norm1", layer.num_in, layer.groups_in);
    check_groups(layer.name + ".norm2", layer.num_out, layer.groups_out);
  }

  void check_attention(const Attention& layer) const {
    if (layer.groups) {
      check_groups(layer.name + ".group_norm", layer.channels, *layer.groups);
    }
    if (layer.head_dim > layer.channels) {
      fail("attention_head_dim = " + std::to_string(layer.head_dim) + ", but " + layer.name +
           " has only " + std::to_string(layer.channels) + " channels");
    }
  }

  void check_groups(const std::string& name, int64_t channels, int64_t groups) const {
    if (groups < 1 || channels % groups != 0) {
      fail(name + " has " + std::to_string(channels) + " channels, which " +
           std::to_string(groups) + " groups do not divide; see norm_num_groups");
    }
  }

  const UNet2DConfig& config_;
  const std::string& where_;
};

}  // namespace

int64_t UNet2DConfig::time_dim() const {
  return time_embedding_dim > 0 ? time_embedding_dim : 4 * block_out_channels.front();
}

void check_unet2d(const UNet2DConfig& config, const std::string& where) {
  Checker(config, where).check();
}

UNet2DPlan unet2d_plan(const UNet2DConfig& config) { return Planner(config).plan(); }

}  // namespace motet::detail
