// Networks of guided-diffusion: gradients, inputs, and settings that are refused.
#include "nets/adm.hpp"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <limits>

#include "motet/error.hpp"
#include "support/adm.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

using detail::AdmConfig;
using detail::AdmPool;

AdmConfig small_config() {
  return {.image_size = 4,
          .in_channels = 1,
          .num_channels = 32,
          .num_res_blocks = 1,
          .channel_mult = {1, 1},
          .attention_resolutions = {2},
          .num_heads = 2};
}

detail::TensorMap in_float64(const detail::Architecture& network) {
  detail::TensorMap tensors = testing::adm_tensors(network.expected_tensors());
  for (auto& [name, tensor] : tensors) {
    tensor = tensor.to(at::kDouble);
  }
  return tensors;
}

// |derivative of g along v by autograd - by central differences| / |derivative|.
double gradient_error(const detail::Architecture& network) {
  const detail::TensorMap tensors = in_float64(network);
  const Tensor time = at::full({1}, 40.0, at::kFloat);
  const Tensor x = testing::adm_points(1, 4).to(at::kDouble);
  const Tensor v = testing::hashed(x.numel(), 5).view_as(x);
  const auto g = [&](const Tensor& at_x) {
    const Tensor f = network.forward(tensors, at_x, time, {});
    return (f * testing::hashed(f.numel(), 6).view_as(f)).sum() + f.square().sum();
  };
  const Tensor leaf = x.clone().requires_grad_(true);
  const Tensor slope = (torch::autograd::grad({g(leaf)}, {leaf})[0] * v).sum();
  constexpr double kStep = 1e-6;
  const Tensor expected = (g(x + kStep * v) - g(x - kStep * v)) / (2.0 * kStep);
  return ((slope - expected) / expected).abs().item<double>();
}

TEST(Adm, GradientsAgreeWithFiniteDifferences) {
  AdmConfig config = small_config();
  EXPECT_LT(gradient_error(*detail::adm_unet(config)), 1e-7);
  config.num_classes = 3;
  for (const AdmPool pool : {AdmPool::adaptive, AdmPool::spatial, AdmPool::spatial_v2}) {
    config.pool = pool;
    EXPECT_LT(gradient_error(*detail::adm_classifier(config)), 1e-7) << to_string(pool);
  }
  config.pool = AdmPool::attention;
  config.num_head_channels = 16;
  config.resblock_updown = true;
  EXPECT_LT(gradient_error(*detail::adm_classifier(config)), 1e-7);
}

// Energies are trained through their gradient.
TEST(Adm, GradientsAreDifferentiable) {
  const auto network = detail::adm_unet(small_config());
  detail::TensorMap tensors = in_float64(*network);
  Tensor& weight = tensors.at("input_blocks.1.0.in_layers.2.weight");
  weight.requires_grad_(true);
  const Tensor x = testing::adm_points(1, 4).to(at::kDouble).requires_grad_(true);
  const Tensor time = at::full({1}, 40.0, at::kFloat);
  const auto loss = [&] {
    const Tensor f = network->forward(tensors, x, time, {});
    return torch::autograd::grad({f.square().sum()}, {x}, {}, true, true)[0].square().sum();
  };
  const Tensor slope = torch::autograd::grad({loss()}, {weight})[0];
  const Tensor v = testing::hashed(weight.numel(), 8).view_as(weight);
  constexpr double kStep = 1e-6;
  const auto moved = [&](double step) {
    const at::NoGradGuard no_graph;
    weight.add_(v, step);
    const at::AutoGradMode with_graph(true);
    return loss().detach();
  };
  const Tensor above = moved(kStep);
  const Tensor expected = (above - moved(-2.0 * kStep)) / (2.0 * kStep);
  EXPECT_LT((((slope * v).sum() - expected) / expected).abs().item<double>(), 1e-6);
}

TEST(Adm, ClassesGoInByTheirOwnName) {
  AdmConfig config = small_config();
  EXPECT_TRUE(detail::adm_unet(config)->inputs().empty());
  config.num_classes = 3;
  const auto network = detail::adm_unet(config);
  ASSERT_EQ(network->inputs().size(), 1U);
  EXPECT_EQ(network->inputs()[0].name, "class_labels");
  EXPECT_EQ(network->inputs()[0].num_values, 3);
  EXPECT_EQ(network->describe(), "UNetModel(1x4x4)");
  EXPECT_EQ(detail::adm_classifier(config)->describe(), "EncoderUNetModel(1x4x4)");
}

TEST(Adm, LearnedVariancesDoubleTheOutput) {
  AdmConfig config = small_config();
  config.learn_sigma = true;
  const auto network = detail::adm_unet(config);
  EXPECT_EQ(network->output_shape(), (std::vector<int64_t>{2, 4, 4}));
  EXPECT_EQ(network->expected_tensors().at("out.2.weight"), (std::vector<int64_t>{2, 32, 3, 3}));
}

// Sets one thing and names the message.
struct Bad {
  void (*set)(AdmConfig&);
  const char* message;
};

TEST(Adm, RefusesSettingsThatCannotBe) {
  const std::vector<Bad> cases = {
      {[](AdmConfig& c) { c.image_size = 0; }, "image_size = 0, must be from 1 to 4096"},
      {[](AdmConfig& c) { c.image_size = 5; },
       "image_size = 5, must be a multiple of 2, as channel_mult has 2 levels"},
      {[](AdmConfig& c) { c.in_channels = 0; }, "in_channels = 0, must be from 1 to 1024"},
      {[](AdmConfig& c) { c.num_channels = -1; }, "num_channels = -1, must be from 1 to 4096"},
      {[](AdmConfig& c) { c.num_channels = 48; },
       "num_channels * channel_mult[0] = 48, must be a multiple of 32, the groups of the norms"},
      {[](AdmConfig& c) { c.num_res_blocks = 65; }, "num_res_blocks = 65, must be from 1 to 64"},
      {[](AdmConfig& c) { c.channel_mult = {}; },
       "number of entries of channel_mult = 0, must be from 1 to 12"},
      {[](AdmConfig& c) { c.channel_mult = {1, std::numeric_limits<double>::quiet_NaN()}; },
       "channel_mult[1] = nan, must be in (0, 64]"},
      {[](AdmConfig& c) { c.attention_resolutions = {2, 0}; },
       "attention_resolutions[1] = 0, must be from 1 to 4096"},
      {[](AdmConfig& c) { c.num_heads = 3; },
       "num_heads = 3, must be a divisor of 32, the channels of an attention layer"},
      {[](AdmConfig& c) { c.num_heads = 0; }, "num_heads = 0, must be from 1 to 1024"},
      {[](AdmConfig& c) { c.num_heads_upsample = 5; },
       "num_heads_upsample = 5, must be a divisor of 32, the channels of an attention layer"},
      {[](AdmConfig& c) { c.num_head_channels = 0; },
       "num_head_channels = 0, must be -1 (not used), or from 1 to 4096"},
      {[](AdmConfig& c) { c.num_head_channels = 20; },
       "num_head_channels = 20, must be a divisor of 32, the channels of an attention layer"},
      {[](AdmConfig& c) { c.num_classes = -1; }, "num_classes = -1, must be from 0 to 1000000"},
  };
  for (const Bad& bad : cases) {
    AdmConfig config = small_config();
    bad.set(config);
    EXPECT_THROW_MSG(detail::adm_unet(config), ConfigError, std::string("network: ") + bad.message);
  }
}

TEST(Adm, RefusesClassifiersThatCannotBe) {
  AdmConfig config = small_config();
  EXPECT_THROW_MSG(detail::adm_classifier(config), ConfigError,
                   "network: num_classes = 0, must be from 2 to 1000000");
  config.num_classes = 2;
  config.pool = AdmPool::attention;
  EXPECT_THROW_MSG(detail::adm_classifier(config), ConfigError,
                   "network: num_head_channels = -1, must be > 0 with pool = \"attention\"");
  EXPECT_THROW_MSG(
      detail::adm_pool_from("max"), ConfigError,
      "pool = \"max\" is not known; allowed: adaptive, attention, spatial, spatial_v2");
}

}  // namespace
}  // namespace motet
