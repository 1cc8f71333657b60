// UNetModel and EncoderUNetModel of guided-diffusion, tensor by tensor as their state dicts have
// them (github.com/openai/guided-diffusion, guided_diffusion/unet.py):
//   e = time_embed(sinusoids(t)) + label_emb(class)
//   down: input_blocks, each block's output kept; middle_block; up: output_blocks, each at
//   cat(h, what the block opposite kept); out. The classifier ends after the middle.
#include "nets/adm.hpp"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <sstream>
#include <utility>

#include "motet/error.hpp"
#include "nets/adm_layers.hpp"
#include "nets/layers.hpp"
#include "nets/words.hpp"

namespace motet::detail {
namespace {

constexpr Words<AdmPool, 4> kPools = {{{AdmPool::adaptive, "adaptive"},
                                       {AdmPool::attention, "attention"},
                                       {AdmPool::spatial, "spatial"},
                                       {AdmPool::spatial_v2, "spatial_v2"}}};
constexpr int64_t kPerceptronWidth = 2048;
constexpr size_t kMostLevels = 12;
constexpr double kMostMultiple = 64.0;
const std::string kClass = "class_labels";

using Block = std::vector<AdmLayer>;

// The layers in the order in which they run.
struct Plan {
  std::vector<Block> input, output;
  Block middle;
  std::vector<int64_t> kept;  // channels of the outputs of `input`
  int64_t num_bottom = 0;     // channels in the middle
  int64_t bottom_size = 0;    // pixels a side
};

template <class Value>
[[noreturn]] void fail(const std::string& name, const Value& value, const std::string& allowed) {
  std::ostringstream text;
  text << "network: " << name << " = " << value << ", must be " << allowed;
  throw ConfigError(text.str());
}

void check_range(const std::string& name, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) {
    fail(name, value, "from " + std::to_string(low) + " to " + std::to_string(high));
  }
}

// -1 stands for: not given.
void check_optional(const std::string& name, int64_t value, int64_t high) {
  if (value != -1 && (value < 1 || value > high)) {
    fail(name, value, "-1 (not used), or from 1 to " + std::to_string(high));
  }
}

std::string item(const char* name, size_t index) {
  return std::string(name) + "[" + std::to_string(index) + "]";
}

int64_t width_of(const AdmConfig& config, size_t level) {
  return static_cast<int64_t>(config.channel_mult[level] *
                              static_cast<double>(config.num_channels));
}

void check_widths(const AdmConfig& config) {
  const size_t num = config.channel_mult.size();
  if (num < 1 || num > kMostLevels) {
    fail("number of entries of channel_mult", num, "from 1 to " + std::to_string(kMostLevels));
  }
  for (size_t level = 0; level < num; ++level) {
    const double multiple = config.channel_mult[level];
    if (!(multiple > 0.0 && multiple <= kMostMultiple)) {
      fail(item("channel_mult", level), multiple, "in (0, 64]");
    }
    if (width_of(config, level) < 1 || width_of(config, level) % kAdmNormGroups != 0) {
      fail("num_channels * " + item("channel_mult", level), width_of(config, level),
           "a multiple of " + std::to_string(kAdmNormGroups) + ", the groups of the norms");
    }
  }
  const int64_t factor = int64_t{1} << (num - 1);
  if (config.image_size % factor != 0) {
    fail("image_size", config.image_size,
         "a multiple of " + std::to_string(factor) + ", as channel_mult has " +
             std::to_string(num) + " levels");
  }
}

void check_config(const AdmConfig& config) {
  check_range("image_size", config.image_size, 1, 4096);
  check_range("in_channels", config.in_channels, 1, 1024);
  check_range("num_channels", config.num_channels, 1, 4096);
  check_range("num_res_blocks", config.num_res_blocks, 1, 64);
  check_widths(config);
  for (size_t i = 0; i < config.attention_resolutions.size(); ++i) {
    check_range(item("attention_resolutions", i), config.attention_resolutions[i], 1, 4096);
  }
  check_range("num_heads", config.num_heads, 1, 1024);
  check_optional("num_head_channels", config.num_head_channels, 4096);
  check_optional("num_heads_upsample", config.num_heads_upsample, 1024);
}

// Throws unless the heads share out the channels.
int64_t heads_of(const AdmConfig& config, int64_t num_channels, bool is_up) {
  if (config.num_head_channels != -1) {
    if (num_channels % config.num_head_channels != 0) {
      fail("num_head_channels", config.num_head_channels,
           "a divisor of " + std::to_string(num_channels) + ", the channels of an attention layer");
    }
    return num_channels / config.num_head_channels;
  }
  const bool has_own = is_up && config.num_heads_upsample != -1;
  const int64_t num_heads = has_own ? config.num_heads_upsample : config.num_heads;
  if (num_channels % num_heads != 0) {
    fail(has_own ? "num_heads_upsample" : "num_heads", num_heads,
         "a divisor of " + std::to_string(num_channels) + ", the channels of an attention layer");
  }
  return num_heads;
}

// Builds a plan layer by layer, as the reference code's constructors do.
class Planner {
 public:
  explicit Planner(const AdmConfig& config) : config_(config) {
    for (const int64_t size : config.attention_resolutions) {
      attention_factors_.push_back(config.image_size / size);
    }
  }

  Plan encoder() {
    width_ = width_of(config_, 0);
    keep({{.part = AdmPart::convolution,
           .name = "input_blocks.0.0",
           .num_in = config_.in_channels,
           .num_out = width_}});
    for (size_t level = 0; level < config_.channel_mult.size(); ++level) {
      for (int64_t i = 0; i < config_.num_res_blocks; ++i) {
        Block block;
        add_residual(block, input_name(), width_, width_of(config_, level));
        add_attention(block, input_name(), false);
        keep(std::move(block));
      }
      if (level + 1 < config_.channel_mult.size()) {
        Block block;
        add_resample(block, input_name(), AdmResample::down);
        keep(std::move(block));
        factor_ *= 2;
      }
    }
    add_residual(plan_.middle, "middle_block", width_, width_);
    push_attention(plan_.middle, "middle_block", false);
    add_residual(plan_.middle, "middle_block", width_, width_);
    plan_.num_bottom = width_;
    plan_.bottom_size = config_.image_size / factor_;
    return plan_;
  }

  Plan whole() {
    encoder();
    std::vector<int64_t> kept = plan_.kept;
    for (size_t level = config_.channel_mult.size(); level-- > 0;) {
      for (int64_t i = 0; i <= config_.num_res_blocks; ++i) {
        const std::string name = "output_blocks." + std::to_string(plan_.output.size());
        Block block;
        add_residual(block, name, width_ + kept.back(), width_of(config_, level));
        kept.pop_back();
        add_attention(block, name, true);
        if (level > 0 && i == config_.num_res_blocks) {
          add_resample(block, name, AdmResample::up);
          factor_ /= 2;
        }
        plan_.output.push_back(std::move(block));
      }
    }
    return plan_;
  }

 private:
  std::string input_name() const { return "input_blocks." + std::to_string(plan_.input.size()); }
  static std::string next_name(const Block& block, const std::string& name) {
    return name + "." + std::to_string(block.size());
  }
  void keep(Block block) {
    plan_.kept.push_back(block.back().num_out);
    plan_.input.push_back(std::move(block));
  }
  void add_residual(Block& block, const std::string& name, int64_t num_in, int64_t num_out) {
    block.push_back({.part = AdmPart::residual,
                     .name = next_name(block, name),
                     .num_in = num_in,
                     .num_out = num_out});
    width_ = num_out;
  }
  void add_attention(Block& block, const std::string& name, bool is_up) {
    if (std::find(attention_factors_.begin(), attention_factors_.end(), factor_) !=
        attention_factors_.end()) {
      push_attention(block, name, is_up);
    }
  }
  void push_attention(Block& block, const std::string& name, bool is_up) {
    block.push_back({.part = AdmPart::attention,
                     .name = next_name(block, name),
                     .num_in = width_,
                     .num_out = width_,
                     .num_heads = heads_of(config_, width_, is_up)});
  }
  void add_resample(Block& block, const std::string& name, AdmResample resample) {
    block.push_back({.part = config_.resblock_updown ? AdmPart::residual : AdmPart::resample,
                     .name = next_name(block, name),
                     .num_in = width_,
                     .num_out = width_,
                     .resample = resample});
  }

  const AdmConfig& config_;
  std::vector<int64_t> attention_factors_;
  Plan plan_;
  int64_t width_ = 0;
  int64_t factor_ = 1;
};

// What both networks share: the embedding of time and the way down.
class AdmNetwork : public Architecture {
 public:
  AdmNetwork(AdmConfig config, Plan plan)
      : config_(std::move(config)),
        plan_(std::move(plan)),
        style_{.embedding_dim = 4 * config_.num_channels,
               .has_scale_shift = config_.use_scale_shift_norm,
               .has_resample_conv = config_.conv_resample,
               .splits_heads_last = config_.use_new_attention_order} {}

  std::vector<int64_t> event_shape() const override {
    return {config_.in_channels, config_.image_size, config_.image_size};
  }

 protected:
  std::string described(const std::string& name) const {
    const std::string size = std::to_string(config_.image_size);
    return name + "(" + std::to_string(config_.in_channels) + "x" + size + "x" + size + ")";
  }

  void add_shared(ShapeMap& shapes) const {
    add_linear(shapes, "time_embed.0", config_.num_channels, style_.embedding_dim);
    add_linear(shapes, "time_embed.2", style_.embedding_dim, style_.embedding_dim);
    for (const Block& block : plan_.input) {
      add_block(shapes, block);
    }
    add_block(shapes, plan_.middle);
  }
  void add_block(ShapeMap& shapes, const Block& block) const {
    for (const AdmLayer& layer : block) {
      add_adm_layer(shapes, layer, style_);
    }
  }

  at::Tensor embedded(const TensorMap& tensors, const at::Tensor& time,
                      at::ScalarType dtype) const {
    const at::Tensor waves =
        time_embedding(time, config_.num_channels, /*cosines_first=*/true, /*shift=*/0.0);
    return linear(tensors, "time_embed.2",
                  at::silu(linear(tensors, "time_embed.0", waves.to(dtype))));
  }
  at::Tensor run(const TensorMap& tensors, const Block& block, at::Tensor h,
                 const at::Tensor& embedding) const {
    for (const AdmLayer& layer : block) {
      h = apply_adm_layer(tensors, layer, style_, h, embedding);
    }
    return h;
  }
  // The outputs of all input blocks.
  std::vector<at::Tensor> run_down(const TensorMap& tensors, const at::Tensor& x,
                                   const at::Tensor& embedding) const {
    std::vector<at::Tensor> kept;
    for (const Block& block : plan_.input) {
      kept.push_back(run(tensors, block, kept.empty() ? x : kept.back(), embedding));
    }
    return kept;
  }

  AdmConfig config_;
  Plan plan_;
  AdmStyle style_;
};

class AdmUNet : public AdmNetwork {
 public:
  using AdmNetwork::AdmNetwork;

  ShapeMap expected_tensors() const override {
    ShapeMap shapes;
    add_shared(shapes);
    if (config_.num_classes > 0) {
      shapes["label_emb.weight"] = {config_.num_classes, style_.embedding_dim};
    }
    for (const Block& block : plan_.output) {
      add_block(shapes, block);
    }
    add_norm(shapes, "out.0", plan_.kept.front());
    add_conv(shapes, "out.2", plan_.kept.front(), output_shape().front(), 3);
    return shapes;
  }

  std::vector<int64_t> output_shape() const override {
    std::vector<int64_t> shape = event_shape();
    shape.front() *= config_.learn_sigma ? 2 : 1;
    return shape;
  }

  std::vector<InputSpec> inputs() const override {
    if (config_.num_classes == 0) {
      return {};
    }
    return {{.name = kClass, .num_values = config_.num_classes}};
  }

  std::string describe() const override { return described("UNetModel"); }

  at::Tensor forward(const TensorMap& tensors, const at::Tensor& x, const at::Tensor& time,
                     const Inputs& inputs) const override {
    at::Tensor embedding = embedded(tensors, time, x.scalar_type());
    if (config_.num_classes > 0) {
      embedding = embedding + at::embedding(tensors.at("label_emb.weight"), inputs.at(kClass));
    }
    std::vector<at::Tensor> kept = run_down(tensors, x, embedding);
    at::Tensor h = run(tensors, plan_.middle, kept.back(), embedding);
    for (const Block& block : plan_.output) {
      h = run(tensors, block, at::cat({h, kept.back()}, 1), embedding);
      kept.pop_back();
    }
    return conv2d(tensors, "out.2", adm_norm_silu(tensors, "out.0", h), 1, 1);
  }
};

class AdmClassifier : public AdmNetwork {
 public:
  using AdmNetwork::AdmNetwork;

  ShapeMap expected_tensors() const override {
    ShapeMap shapes;
    add_shared(shapes);
    if (is_perceptron()) {
      int64_t num_means = plan_.num_bottom;
      for (const int64_t width : plan_.kept) {
        num_means += width;
      }
      add_linear(shapes, "out.0", num_means, kPerceptronWidth);
      if (config_.pool == AdmPool::spatial_v2) {
        add_norm(shapes, "out.1", kPerceptronWidth);
      }
      add_linear(shapes, last_linear(), kPerceptronWidth, config_.num_classes);
      return shapes;
    }
    add_norm(shapes, "out.0", plan_.num_bottom);
    if (config_.pool == AdmPool::adaptive) {
      add_conv(shapes, "out.3", plan_.num_bottom, config_.num_classes, 1);
    } else {
      add_attention_pool(shapes, "out.2", plan_.num_bottom, config_.num_classes, plan_.bottom_size);
    }
    return shapes;
  }

  std::vector<int64_t> output_shape() const override { return {config_.num_classes}; }
  std::string describe() const override { return described("EncoderUNetModel"); }

  at::Tensor forward(const TensorMap& tensors, const at::Tensor& x, const at::Tensor& time,
                     const Inputs& /*inputs*/) const override {
    const at::Tensor embedding = embedded(tensors, time, x.scalar_type());
    std::vector<at::Tensor> kept = run_down(tensors, x, embedding);
    kept.push_back(run(tensors, plan_.middle, kept.back(), embedding));
    if (is_perceptron()) {
      return perceptron(tensors, kept);
    }
    const at::Tensor h = adm_norm_silu(tensors, "out.0", kept.back());
    if (config_.pool == AdmPool::adaptive) {
      return conv2d(tensors, "out.3", h.mean({2, 3}, true)).flatten(1);
    }
    return attention_pool(tensors, "out.2", h, plan_.num_bottom / config_.num_head_channels);
  }

 private:
  bool is_perceptron() const {
    return config_.pool == AdmPool::spatial || config_.pool == AdmPool::spatial_v2;
  }
  std::string last_linear() const { return config_.pool == AdmPool::spatial ? "out.2" : "out.3"; }

  at::Tensor perceptron(const TensorMap& tensors, const std::vector<at::Tensor>& outputs) const {
    std::vector<at::Tensor> means;
    for (const at::Tensor& output : outputs) {
      means.push_back(output.mean({2, 3}));
    }
    const at::Tensor hidden = linear(tensors, "out.0", at::cat(means, 1));
    return linear(tensors, last_linear(),
                  config_.pool == AdmPool::spatial ? at::relu(hidden)
                                                   : adm_norm_silu(tensors, "out.1", hidden));
  }
};

}  // namespace

std::string to_string(AdmPool pool) { return word_of(kPools, pool); }

AdmPool adm_pool_from(const std::string& name) { return value_of(kPools, "pool", name); }

ArchitecturePtr adm_unet(const AdmConfig& config) {
  check_config(config);
  check_range("num_classes", config.num_classes, 0, 1'000'000);
  return std::make_shared<AdmUNet>(config, Planner(config).whole());
}

ArchitecturePtr adm_classifier(const AdmConfig& config) {
  check_config(config);
  check_range("num_classes", config.num_classes, 2, 1'000'000);
  if (config.pool == AdmPool::attention && config.num_head_channels == -1) {
    fail("num_head_channels", config.num_head_channels, "> 0 with pool = \"attention\"");
  }
  return std::make_shared<AdmClassifier>(config, Planner(config).encoder());
}

}  // namespace motet::detail
