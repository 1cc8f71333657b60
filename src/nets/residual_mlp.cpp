// h_0 = W_in phi(x) + b_in, phi(x) = x or x with its sines and cosines (features.hpp); every block
//   h <- h + W_o SiLU(W_m SiLU(W_h SiLU(LayerNorm(h)) + b_h + W_l e_t + b_l) + b_m) + b_o,
// f(x, t) = W_out h + b_out, with e_t the learned embedding of level t (method.md 3).
#include "nets/residual_mlp.hpp"

#include <torch/types.h>

#include <array>
#include <sstream>
#include <utility>
#include <vector>

#include "motet/error.hpp"
#include "nets/features.hpp"
#include "nets/network.hpp"

namespace motet {
namespace {

using detail::ShapeMap;

void add_linear(ShapeMap& shapes, const std::string& name, int64_t num_in, int64_t num_out) {
  shapes[name + ".weight"] = {num_out, num_in};
  shapes[name + ".bias"] = {num_out};
}

void check_frequencies(const NetworkConfig& config) {
  const auto num = static_cast<int64_t>(config.frequencies.size());
  if (config.frequencies.size() > kMaxFrequencies) {
    throw ConfigError("network: " + std::to_string(num) + " frequencies, must be at most " +
                      std::to_string(kMaxFrequencies));
  }
  for (size_t i = 0; i < config.frequencies.size(); ++i) {
    const double frequency = config.frequencies[i];
    if (!(frequency > 0.0 && frequency <= kMaxFrequency)) {
      std::ostringstream text;
      text << "network: frequencies[" << i << "] = " << frequency << ", must be in (0, 1000000]";
      throw ConfigError(text.str());
    }
  }
  if (num > 0 && config.event_dim > detail::kMaxFeatures / (1 + 2 * num)) {
    throw ConfigError("network: event_dim = " + std::to_string(config.event_dim) + " with " +
                      std::to_string(num) + " frequencies gives event_dim * (1 + 2 * " +
                      std::to_string(num) + ") inputs, must be at most " +
                      std::to_string(detail::kMaxFeatures));
  }
}

void check_num_classes(const NetworkConfig& config) {
  const bool is_classifier = config.parameterisation == Parameterisation::classifier;
  if (is_classifier && config.num_classes < 2) {
    throw ConfigError("network: num_classes = " + std::to_string(config.num_classes) +
                      ", must be >= 2 for a classifier");
  }
  if (!is_classifier && config.num_classes != 0) {
    throw ConfigError("network: num_classes = " + std::to_string(config.num_classes) +
                      ", but parameterisation = \"" + to_string(config.parameterisation) +
                      "\" has no classes; must be 0");
  }
}

}  // namespace

std::map<std::string, std::vector<int64_t>> expected_tensors(const NetworkConfig& config) {
  detail::check_network_config(config);
  const int64_t inner = config.widen * config.width;
  ShapeMap shapes;
  shapes["embedding.weight"] = {config.num_levels, config.embedding_dim};
  add_linear(shapes, "input", detail::Features(config).count(), config.width);
  for (int64_t i = 0; i < config.num_blocks; ++i) {
    const std::string block = "blocks." + std::to_string(i);
    shapes[block + ".norm.weight"] = {config.width};
    shapes[block + ".norm.bias"] = {config.width};
    add_linear(shapes, block + ".hidden", config.width, inner);
    add_linear(shapes, block + ".level", config.embedding_dim, inner);
    add_linear(shapes, block + ".middle", inner, inner);
    add_linear(shapes, block + ".output", inner, config.width);
  }
  add_linear(shapes, "output", config.width, detail::num_outputs(config));
  return shapes;
}

namespace detail {

int64_t num_outputs(const NetworkConfig& config) {
  return config.parameterisation == Parameterisation::classifier ? config.num_classes
                                                                 : config.event_dim;
}

void check_network_config(const NetworkConfig& config) {
  const std::array<std::pair<const char*, int64_t>, 6> sizes = {{
      {"event_dim", config.event_dim},
      {"width", config.width},
      {"num_blocks", config.num_blocks},
      {"widen", config.widen},
      {"embedding_dim", config.embedding_dim},
      {"num_levels", config.num_levels},
  }};
  for (const auto& [name, size] : sizes) {
    if (size < 1) {
      throw ConfigError(std::string("network: ") + name + " = " + std::to_string(size) +
                        ", must be >= 1");
    }
  }
  check_frequencies(config);
  check_num_classes(config);
}

void check_tensors(const NetworkConfig& config, const TensorMap& tensors,
                   const std::string& prefix) {
  check_tensors(expected_tensors(config), tensors, prefix, TensorDtype::float32);
}

void check_level(const NetworkConfig& config, const NoiseLevel& level, const std::string& name) {
  check_level(config.num_levels, level, name);
}

at::Tensor reference_forward(const TensorMap& tensors, const NetworkConfig& config,
                             const at::Tensor& x, const at::Tensor& level_index,
                             std::optional<at::ScalarType> product_dtype) {
  const auto linear = [&](const std::string& name, const at::Tensor& input) {
    return at::linear(input, tensors.at(name + ".weight"), tensors.at(name + ".bias"));
  };
  const at::ScalarType dtype = product_dtype.value_or(x.scalar_type());
  const auto narrow_linear = [&](const std::string& name, const at::Tensor& input) {
    if (dtype == x.scalar_type()) {
      return linear(name, input);
    }
    const at::Tensor narrow = at::linear(input.to(dtype), tensors.at(name + ".weight").to(dtype));
    return narrow.to(x.scalar_type()) + tensors.at(name + ".bias");
  };
  const at::Tensor embedded = at::embedding(tensors.at("embedding.weight"), level_index);
  at::Tensor h = linear("input", feature_tensor(config, x));
  for (int64_t i = 0; i < config.num_blocks; ++i) {
    const std::string block = "blocks." + std::to_string(i);
    const at::Tensor normed = at::layer_norm(h, {config.width}, tensors.at(block + ".norm.weight"),
                                             tensors.at(block + ".norm.bias"), kLayerNormEpsilon);
    const at::Tensor hidden = at::silu(narrow_linear(block + ".hidden", at::silu(normed)) +
                                       linear(block + ".level", embedded));
    const at::Tensor middle = at::silu(narrow_linear(block + ".middle", hidden));
    h = h + narrow_linear(block + ".output", middle);
  }
  return linear("output", h);
}

}  // namespace detail
}  // namespace motet
