// UNet2DModel of diffusers 0.42.1 (models/unets/unet_2d.py, unet_2d_blocks.py). The time, embedded,
// goes into every residual block. Images go down through blocks that each halve the resolution (all
// but the last), through a middle, and up again; every layer on the way up sees, joined to its
// channels, the output of its counterpart on the way down.
//
// A network is a plan of layers, made once from the config: the list of tensors and the forward
// pass both walk it, so no name stands twice.
#include "nets/unet2d.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "error_shape.hpp"
#include "motet/error.hpp"
#include "nets/layers.hpp"
#include "nets/unet2d_blocks.hpp"
#include "nets/unet2d_plan.hpp"

namespace motet::detail {
namespace {

// The features of a time: an odd number of channels ends in a 0.
int64_t num_time_features(const UNet2DConfig& config) {
  const int64_t channels = config.block_out_channels.front();
  return config.time_embedding == TimeEmbedding::fourier ? 2 * channels : channels;
}

class UNet2D : public Architecture {
 public:
  explicit UNet2D(UNet2DConfig config) : config_(std::move(config)), plan_(unet2d_plan(config_)) {}

  std::vector<int64_t> event_shape() const override {
    return {config_.in_channels, config_.height, config_.width};
  }
  std::vector<int64_t> output_shape() const override {
    return {config_.out_channels, config_.height, config_.width};
  }
  std::string describe() const override {
    return "UNet2DModel(" + std::to_string(config_.in_channels) + "x" +
           std::to_string(config_.height) + "x" + std::to_string(config_.width) + ")";
  }

  std::vector<InputSpec> inputs() const override {
    const bool is_time = config_.class_embedding == ClassEmbedding::timestep;
    switch (config_.class_embedding) {
      case ClassEmbedding::none:
        return {};
      case ClassEmbedding::identity:
        return {{.name = "class_labels", .shape = {config_.time_dim()}}};
      default:
        return {{.name = "class_labels",
                 .num_values = !is_time ? config_.num_class_embeds
                               : config_.time_embedding == TimeEmbedding::learned
                                   ? config_.num_train_timesteps
                                   : 0}};
    }
  }

  ShapeMap expected_tensors() const override {
    ShapeMap shapes;
    const int64_t channels = config_.block_out_channels.front();
    add_conv(shapes, "conv_in", config_.in_channels, channels, 3);
    add_embeddings(shapes);
    for (const Stage& stage : plan_.down) {
      add_stage(shapes, stage);
      if (stage.is_skip && stage.resizes()) {
        add_conv(shapes, stage.name + ".skip_conv", kImageChannels, stage.channels, 1);
      }
    }
    for (const Resnet& layer : plan_.middle) {
      add_resnet(shapes, layer, plan_.options);
    }
    if (plan_.middle_attention) {
      add_attention(shapes, *plan_.middle_attention);
    }
    for (const Stage& stage : plan_.up) {
      add_stage(shapes, stage);
      if (stage.skip_groups > 0) {
        add_conv(shapes, stage.name + ".skip_conv", stage.channels, kImageChannels, 3);
        add_norm(shapes, stage.name + ".skip_norm", stage.channels);
      }
    }
    add_norm(shapes, "conv_norm_out", channels);
    add_conv(shapes, "conv_out", channels, config_.out_channels, 3);
    return shapes;
  }

  bool packs_convolutions() const override { return true; }

  at::Tensor forward(const TensorMap& tensors, const at::Tensor& x, const at::Tensor& time,
                     const Inputs& inputs) const override {
    const at::Tensor image = config_.center_input_sample ? 2 * x - 1 : x;
    const at::Tensor embedded = embed(tensors, time, inputs, x.scalar_type());
    std::vector<at::Tensor> kept;
    at::Tensor h = go_down(tensors, image, embedded, kept);
    if (!plan_.middle.empty()) {
      h = resnet(tensors, plan_.middle[0], plan_.options, h, embedded);
      if (plan_.middle_attention) {
        h = attention(tensors, *plan_.middle_attention, plan_.options, h);
      }
      h = resnet(tensors, plan_.middle[1], plan_.options, h, embedded);
    }
    at::Tensor past;  // the image that skips past, on the way up
    h = go_up(tensors, h, embedded, kept, past);
    h = group_norm_silu(tensors, "conv_norm_out", h, plan_.groups_out, config_.norm_eps);
    h = conv2d(tensors, "conv_out", h, 1, 1);
    h = past.defined() ? h + past : h;
    return config_.time_embedding == TimeEmbedding::fourier
               ? h / time.view({-1, 1, 1, 1}).to(h.scalar_type())
               : h;
  }

 private:
  void add_embeddings(ShapeMap& shapes) const {
    const int64_t channels = config_.block_out_channels.front();
    const int64_t features = num_time_features(config_);
    const int64_t width = config_.time_dim();
    if (config_.time_embedding == TimeEmbedding::fourier) {
      shapes["time_proj.weight"] = {channels};
    } else if (config_.time_embedding == TimeEmbedding::learned) {
      shapes["time_proj.weight"] = {config_.num_train_timesteps, channels};
    }
    add_linear(shapes, "time_embedding.linear_1", features, width);
    add_linear(shapes, "time_embedding.linear_2", width, width);
    if (config_.class_embedding == ClassEmbedding::learned) {
      shapes["class_embedding.weight"] = {config_.num_class_embeds, width};
    } else if (config_.class_embedding == ClassEmbedding::timestep) {
      add_linear(shapes, "class_embedding.linear_1", features, width);
      add_linear(shapes, "class_embedding.linear_2", width, width);
    }
  }

  void add_stage(ShapeMap& shapes, const Stage& stage) const {
    for (const Resnet& layer : stage.resnets) {
      add_resnet(shapes, layer, plan_.options);
    }
    for (const Attention& layer : stage.attentions) {
      add_attention(shapes, layer);
    }
    if (stage.resize_resnet) {
      add_resnet(shapes, *stage.resize_resnet, plan_.options);
    }
    if (stage.resize_conv) {
      add_conv(shapes, *stage.resize_conv, stage.channels, stage.channels, 3);
    }
  }

  at::Tensor time_features(const TensorMap& tensors, const at::Tensor& time) const {
    switch (config_.time_embedding) {
      case TimeEmbedding::fourier: {
        const at::Tensor& frequencies = tensors.at("time_proj.weight");
        const at::Tensor phase = time.to(at::kFloat).log().unsqueeze(1) *
                                 frequencies.to(at::kFloat).unsqueeze(0) * 2 * std::numbers::pi;
        return at::cat({phase.sin(), phase.cos()}, 1);
      }
      case TimeEmbedding::learned:
        return at::embedding(tensors.at("time_proj.weight"), time.round().to(at::kLong));
      default:
        return time_embedding(time, config_.block_out_channels.front(), config_.flip_sin_to_cos,
                              config_.freq_shift);
    }
  }

  static at::Tensor two_layers(const TensorMap& tensors, const std::string& name,
                               const at::Tensor& features) {
    return linear(tensors, name + ".linear_2",
                  at::silu(linear(tensors, name + ".linear_1", features)));
  }

  at::Tensor embed(const TensorMap& tensors, const at::Tensor& time, const Inputs& inputs,
                   at::ScalarType dtype) const {
    at::Tensor embedded =
        two_layers(tensors, "time_embedding", time_features(tensors, time).to(dtype));
    switch (config_.class_embedding) {
      case ClassEmbedding::learned:
        return embedded +
               at::embedding(tensors.at("class_embedding.weight"), inputs.at("class_labels"));
      case ClassEmbedding::timestep:
        return embedded + two_layers(tensors, "class_embedding",
                                     time_features(tensors, inputs.at("class_labels")).to(dtype));
      case ClassEmbedding::identity:
        return embedded + inputs.at("class_labels").to(dtype);
      default:
        return embedded;
    }
  }

  at::Tensor halve(const TensorMap& tensors, const Stage& stage, const at::Tensor& x,
                   const at::Tensor& embedded) const {
    if (stage.resize_resnet) {
      return resnet(tensors, *stage.resize_resnet, plan_.options, x, embedded);
    }
    const bool pads_one_side = config_.downsample_padding == 0;
    return conv2d(tensors, *stage.resize_conv,
                  pads_one_side ? at::constant_pad_nd(x, {0, 1, 0, 1}) : x, 2,
                  config_.downsample_padding);
  }

  at::Tensor go_down(const TensorMap& tensors, const at::Tensor& image, const at::Tensor& embedded,
                     std::vector<at::Tensor>& kept) const {
    at::Tensor past = image;
    at::Tensor h = conv2d(tensors, "conv_in", image, 1, 1);
    kept.push_back(h);
    for (const Stage& stage : plan_.down) {
      for (size_t i = 0; i < stage.resnets.size(); ++i) {
        h = resnet(tensors, stage.resnets[i], plan_.options, h, embedded);
        if (!stage.attentions.empty()) {
          h = attention(tensors, stage.attentions[i], plan_.options, h);
        }
        kept.push_back(h);
      }
      if (!stage.resizes()) {
        continue;
      }
      h = halve(tensors, stage, h, embedded);
      if (stage.is_skip) {
        past = halve_fir(past);
        h = conv2d(tensors, stage.name + ".skip_conv", past) + h;
      }
      kept.push_back(h);
    }
    return h;
  }

  at::Tensor go_up(const TensorMap& tensors, at::Tensor h, const at::Tensor& embedded,
                   std::vector<at::Tensor>& kept, at::Tensor& past) const {
    for (const Stage& stage : plan_.up) {
      const bool has_one_behind_all = stage.is_skip && !stage.attentions.empty();
      for (size_t i = 0; i < stage.resnets.size(); ++i) {
        h = at::cat({h, kept.back()}, 1);
        kept.pop_back();
        h = resnet(tensors, stage.resnets[i], plan_.options, h, embedded);
        if (!stage.attentions.empty() && !has_one_behind_all) {
          h = attention(tensors, stage.attentions[i], plan_.options, h);
        }
      }
      if (has_one_behind_all) {
        h = attention(tensors, stage.attentions.front(), plan_.options, h);
      }
      if (stage.is_skip) {
        past = past.defined() ? double_fir(past) : past;
        past = stage.skip_groups > 0 ? with_image_of(tensors, stage, h, past) : past;
      }
      if (stage.resize_resnet) {
        h = resnet(tensors, *stage.resize_resnet, plan_.options, h, embedded);
      } else if (stage.resize_conv) {
        h = conv2d(tensors, *stage.resize_conv, upsample_nearest(h), 1, 1);
      }
    }
    return h;
  }

  // `past` and the image that a stage adds to it.
  at::Tensor with_image_of(const TensorMap& tensors, const Stage& stage, const at::Tensor& h,
                           const at::Tensor& past) const {
    const at::Tensor normed =
        group_norm_silu(tensors, stage.name + ".skip_norm", h, stage.skip_groups, config_.norm_eps);
    const at::Tensor image = conv2d(tensors, stage.name + ".skip_conv", normed, 1, 1);
    return past.defined() ? past + image : image;
  }

  UNet2DConfig config_;
  UNet2DPlan plan_;
};

}  // namespace

TensorMap renamed_old_attentions(TensorMap tensors) {
  const std::vector<std::pair<std::string, std::string>> parts = {{".query.", ".to_q."},
                                                                  {".key.", ".to_k."},
                                                                  {".value.", ".to_v."},
                                                                  {".proj_attn.", ".to_out.0."}};
  TensorMap renamed;
  for (auto& [name, tensor] : tensors) {
    std::string own = name;
    for (const auto& [old_part, new_part] : parts) {
      const size_t at = own.find(old_part);
      if (at != std::string::npos && own.find(".attentions.") < at) {
        own.replace(at, old_part.size(), new_part);
      }
    }
    if (!renamed.emplace(own, std::move(tensor)).second) {
      throw DataError("tensor " + quoted_text(own) + " is there twice, by an old and a new name");
    }
  }
  return renamed;
}

ArchitecturePtr unet2d(UNet2DConfig config, const std::string& where) {
  check_unet2d(config, where);
  return std::make_shared<UNet2D>(std::move(config));
}

}  // namespace motet::detail
