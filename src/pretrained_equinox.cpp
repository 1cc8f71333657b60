// Equinox's leaves: .npy arrays one after the other, without names; the last is the number t1 that
// times are divided by. The shapes tell the sizes of the mixer. galaxygrad's process is
// x_t = e^(-t/2) x_0 + sqrt(1 - e^-t) n, t in (0, t1]: abar = e^-t, and v = (1 - abar) / abar = e^t
// - 1. Its output is the score. Its points are log(1 + pixel) / .1 (galaxygrad 0.2.1, scorenet.py).
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "error_shape.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "motet/pretrained.hpp"
#include "nets/mixer.hpp"
#include "npy_sequence.hpp"
#include "pretrained_detail.hpp"

namespace motet {
namespace {

using detail::MixerConfig;
using detail::shape_text;

constexpr int64_t kMaxBytes = int64_t{1} << 30;
constexpr size_t kFixedLeaves = 7;   // conv_in, conv_out, norm: two each; t1
constexpr size_t kBlockLeaves = 12;  // two MLPs of four, two norms of two
constexpr size_t kMaxLeaves = 20'000;
// Between galaxygrad's smallest time of use and t1, even in log v.
constexpr int64_t kNumLevels = 200;
constexpr double kFirstTime = 0.01;
constexpr double kMostTime = 80.0;  // e^-t is a number of float32

[[noreturn]] void fail(const std::string& path, const std::string& why) {
  throw DataError("equinox: " + path + ": " + why);
}

// The sizes that the shapes of the first leaves say; the rest is checked against them.
MixerConfig config_of(const std::vector<Tensor>& leaves, const std::string& path) {
  if (leaves.size() < kFixedLeaves + kBlockLeaves ||
      (leaves.size() - kFixedLeaves) % kBlockLeaves != 0) {
    fail(path, std::to_string(leaves.size()) +
                   " arrays, must have 7 and 12 for each block of a mixer; it is another network");
  }
  const Tensor& last = leaves.back();
  const Tensor& conv = leaves[0];
  const Tensor& patch = leaves[4];
  const Tensor& hidden = leaves[8];
  if (last.dim() != 0 || conv.dim() != 4 || patch.dim() != 2 || hidden.dim() != 2) {
    fail(path, "array 1 has shape " + shape_text(conv.sizes()) + ", array 5 " +
                   shape_text(patch.sizes()) + ", array 9 " + shape_text(hidden.sizes()) +
                   " and the last " + shape_text(last.sizes()) +
                   ", must have 4, 2, 2 and 0 dimensions; it is another network");
  }
  MixerConfig config;
  config.num_channels = conv.size(1) - 1;
  config.patch_size = conv.size(2);
  config.hidden_size = conv.size(0);
  config.mix_patch = patch.size(0);
  config.mix_hidden = hidden.size(0);
  config.num_blocks = static_cast<int64_t>((leaves.size() - kFixedLeaves) / kBlockLeaves);
  config.last_time = last.item<double>();
  const auto side = std::llround(std::sqrt(static_cast<double>(patch.size(1))));
  if (side * side != patch.size(1) || side < 1) {
    fail(path, std::to_string(patch.size(1)) + " patches, must be those of a square image");
  }
  // What is too large stays too large, and the product is a number.
  config.height = side * std::min(config.patch_size, detail::kMaxMixerSize + 1);
  config.width = config.height;
  return config;
}

NoiseSchedule schedule_of(const MixerConfig& config, std::vector<double>& times,
                          const std::string& path) {
  if (!(config.last_time > kFirstTime && config.last_time <= kMostTime)) {
    fail(path, "the last number is " + detail::six_digits(config.last_time) +
                   ", must be the largest time, in (0.01, 80]");
  }
  const double low = std::log(std::expm1(kFirstTime));
  const double high = std::log(std::expm1(config.last_time));
  std::vector<double> alpha_bars;
  for (int64_t i = 0; i < kNumLevels; ++i) {
    const double share = static_cast<double>(i) / static_cast<double>(kNumLevels - 1);
    times.push_back(std::log1p(std::exp(low + share * (high - low))));
    alpha_bars.push_back(std::exp(-times.back()));
  }
  try {
    return NoiseSchedule::from_alpha_bars(alpha_bars);
  } catch (const ConfigError& error) {  // times too near to each other
    fail(path, error.what());
  }
}

detail::ArchitecturePtr architecture_of(const MixerConfig& config, const std::string& path) {
  try {
    return detail::mixer_architecture(config);
  } catch (const ConfigError& error) {
    fail(path, error.what());
  }
}

}  // namespace

ModelPtr load_mixer(const std::string& path, std::string name, const PretrainedOptions& options) {
  const std::vector<Tensor> leaves =
      detail::parse_npy_sequence(read_file(path, kMaxBytes), path, kMaxLeaves);
  const MixerConfig config = config_of(leaves, path);
  const detail::ArchitecturePtr architecture = architecture_of(config, path);
  detail::TensorMap tensors;
  const std::vector<std::string> names = detail::mixer_leaf_names(config);
  for (size_t i = 0; i < names.size(); ++i) {
    tensors[names[i]] = leaves[i];
    if (!at::isfinite(leaves[i]).all().item<bool>()) {
      fail(path, "array " + std::to_string(i + 1) + " has entries that are not finite");
    }
  }
  std::vector<double> times;
  NoiseSchedule schedule = schedule_of(config, times, path);
  const std::string prefix = "equinox: " + path + ": ";
  detail::OutputSpec output =
      detail::respaced({.prediction = detail::Prediction::score,
                        .coordinates = detail::Coordinates::variance_preserving,
                        .schedule = std::move(schedule),
                        .times = std::move(times)},
                       options.num_levels, prefix);
  detail::NetworkPtr network = detail::bound_network(architecture, tensors, options.inputs,
                                                     options.compute, options.device, prefix);
  return detail::prediction_model(std::move(network), std::move(output), std::move(name));
}

}  // namespace motet
