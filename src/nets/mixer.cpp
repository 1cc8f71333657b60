// With P patches of a grid, c channels each, t in (0, t1], [a; b] channels one after the other:
//   y = conv_in([x; t / t1])           stride = kernel = patch size, then (c, P)
//   y <- y + MLP_P(LN(y));  y <- y^T;  y <- y + MLP_c(LN(y));  y <- y^T     for each block
//   f = conv_out(LN(y))                transposed convolution, back to pixels
// MLP(z) = W_2 ReLU(W_1 z + b_1) + b_2 along the last dimension; LN over both dimensions at once,
// with a weight and bias for each entry, epsilon 1e-5. Order of layers as in galaxygrad 0.2.1,
// models_eqx.py. Equinox's transposed convolution correlates the spread-out input with its kernel
// (out, in, p, p): torch's has the kernel (in, out, p, p), flipped.
#include "nets/mixer.hpp"

#include <torch/types.h>

#include <utility>

#include "motet/error.hpp"

namespace motet::detail {
namespace {

constexpr double kNormEpsilon = 1e-5;

void check_size(const char* name, int64_t value, int64_t most = kMaxMixerSize) {
  if (value < 1 || value > most) {
    throw ConfigError(std::string("mixer: ") + name + " = " + std::to_string(value) +
                      ", must be from 1 to " + std::to_string(most));
  }
}

void check(const MixerConfig& config) {
  check_size("num_channels", config.num_channels);
  check_size("height", config.height);
  check_size("width", config.width);
  check_size("patch_size", config.patch_size);
  check_size("hidden_size", config.hidden_size);
  check_size("mix_patch", config.mix_patch);
  check_size("mix_hidden", config.mix_hidden);
  check_size("num_blocks", config.num_blocks, kMaxMixerBlocks);
  if (config.height % config.patch_size != 0 || config.width % config.patch_size != 0) {
    throw ConfigError("mixer: patch_size = " + std::to_string(config.patch_size) +
                      ", must divide the image of " + std::to_string(config.height) + "x" +
                      std::to_string(config.width));
  }
  if (!(config.last_time > 0.0) || !std::isfinite(config.last_time)) {
    throw ConfigError("mixer: last_time must be a finite number > 0");
  }
}

void add_mlp(ShapeMap& shapes, const std::string& name, int64_t size, int64_t width) {
  shapes[name + ".layers.0.weight"] = {width, size};
  shapes[name + ".layers.0.bias"] = {width};
  shapes[name + ".layers.1.weight"] = {size, width};
  shapes[name + ".layers.1.bias"] = {size};
}

void add_grid_norm(ShapeMap& shapes, const std::string& name, int64_t rows, int64_t columns) {
  shapes[name + ".weight"] = {rows, columns};
  shapes[name + ".bias"] = {rows, columns};
}

at::Tensor mlp(const TensorMap& tensors, const std::string& name, const at::Tensor& x) {
  const auto layer = [&](const at::Tensor& input, const char* index) {
    const std::string full = name + ".layers." + index;
    return at::linear(input, tensors.at(full + ".weight"), tensors.at(full + ".bias"));
  };
  return layer(layer(x, "0").relu(), "1");
}

at::Tensor grid_norm(const TensorMap& tensors, const std::string& name, const at::Tensor& x) {
  const at::Tensor& weight = tensors.at(name + ".weight");
  return at::layer_norm(x, weight.sizes(), weight, tensors.at(name + ".bias"), kNormEpsilon);
}

class Mixer : public Architecture {
 public:
  explicit Mixer(const MixerConfig& config) : config_(config) {}

  ShapeMap expected_tensors() const override {
    const MixerConfig& c = config_;
    const int64_t patches = (c.height / c.patch_size) * (c.width / c.patch_size);
    ShapeMap shapes;
    shapes["conv_in.weight"] = {c.hidden_size, c.num_channels + 1, c.patch_size, c.patch_size};
    shapes["conv_in.bias"] = {c.hidden_size, 1, 1};
    shapes["conv_out.weight"] = {c.num_channels, c.hidden_size, c.patch_size, c.patch_size};
    shapes["conv_out.bias"] = {c.num_channels, 1, 1};
    for (int64_t i = 0; i < c.num_blocks; ++i) {
      const std::string block = "blocks." + std::to_string(i) + ".";
      add_mlp(shapes, block + "patch_mixer", patches, c.mix_patch);
      add_mlp(shapes, block + "hidden_mixer", c.hidden_size, c.mix_hidden);
      add_grid_norm(shapes, block + "norm1", c.hidden_size, patches);
      add_grid_norm(shapes, block + "norm2", patches, c.hidden_size);
    }
    add_grid_norm(shapes, "norm", c.hidden_size, patches);
    return shapes;
  }

  std::vector<int64_t> event_shape() const override {
    return {config_.num_channels, config_.height, config_.width};
  }
  std::vector<int64_t> output_shape() const override { return event_shape(); }

  std::string describe() const override {
    return "MLP-Mixer(" + std::to_string(config_.num_channels) + "x" +
           std::to_string(config_.height) + "x" + std::to_string(config_.width) + ")";
  }

  at::Tensor forward(const TensorMap& tensors, const at::Tensor& x, const at::Tensor& time,
                     const Inputs& /*inputs*/) const override {
    const int64_t p = config_.patch_size;
    const at::Tensor share = time.div(config_.last_time).to(x.scalar_type()).view({-1, 1, 1, 1});
    const at::Tensor clock = share.expand({x.size(0), 1, config_.height, config_.width});
    at::Tensor y = at::conv2d(at::cat({x, clock}, 1), tensors.at("conv_in.weight"),
                              tensors.at("conv_in.bias").flatten(), p);
    y = y.flatten(2).contiguous();
    for (int64_t i = 0; i < config_.num_blocks; ++i) {
      const std::string block = "blocks." + std::to_string(i) + ".";
      y = y + mlp(tensors, block + "patch_mixer", grid_norm(tensors, block + "norm1", y));
      y = y.transpose(1, 2).contiguous();
      y = y + mlp(tensors, block + "hidden_mixer", grid_norm(tensors, block + "norm2", y));
      y = y.transpose(1, 2).contiguous();
    }
    y = grid_norm(tensors, "norm", y).unflatten(2, {config_.height / p, config_.width / p});
    const at::Tensor kernel = tensors.at("conv_out.weight").transpose(0, 1).flip({2, 3});
    return at::conv_transpose2d(y, kernel, tensors.at("conv_out.bias").flatten(), p);
  }

 private:
  MixerConfig config_;
};

}  // namespace

ArchitecturePtr mixer_architecture(const MixerConfig& config) {
  check(config);
  return std::make_shared<Mixer>(config);
}

std::vector<std::string> mixer_leaf_names(const MixerConfig& config) {
  std::vector<std::string> names;
  const auto add = [&names](const std::string& layer) {
    names.push_back(layer + ".weight");
    names.push_back(layer + ".bias");
  };
  add("conv_in");
  add("conv_out");
  for (int64_t i = 0; i < config.num_blocks; ++i) {
    const std::string block = "blocks." + std::to_string(i) + ".";
    for (const char* mixer : {"patch_mixer", "hidden_mixer"}) {
      add(block + mixer + ".layers.0");
      add(block + mixer + ".layers.1");
    }
    add(block + "norm1");
    add(block + "norm2");
  }
  add("norm");
  return names;
}

}  // namespace motet::detail
