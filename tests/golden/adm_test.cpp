// Networks of guided-diffusion against its own code: outputs, gradients and the tensors of its
// published checkpoints (tools/golden_adm.py).
#include "nets/adm.hpp"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "support/adm.hpp"
#include "support/golden.hpp"

namespace motet {
namespace {

using Json = nlohmann::json;
using detail::AdmConfig;
using testing::adm_points;
using testing::adm_tensors;
using testing::fingerprint;

const Json& golden() {
  static const Json values = testing::read_golden("adm");
  return values;
}

AdmConfig config_of(const Json& given) {
  AdmConfig config = {.image_size = given["image_size"],
                      .in_channels = given["in_channels"],
                      .num_channels = given["model_channels"],
                      .num_res_blocks = given["num_res_blocks"],
                      .channel_mult = given["channel_mult"],
                      .attention_resolutions = {},
                      .num_heads = given.value("num_heads", 1),
                      .num_head_channels = given.value("num_head_channels", -1),
                      .num_heads_upsample = given.value("num_heads_upsample", -1),
                      .conv_resample = given.value("conv_resample", true),
                      .use_scale_shift_norm = given.value("use_scale_shift_norm", false),
                      .resblock_updown = given.value("resblock_updown", false),
                      .use_new_attention_order = given.value("use_new_attention_order", false),
                      .learn_sigma = given["out_channels"] == 2 * given["in_channels"].get<int>(),
                      .num_classes = given.value("num_classes", 0)};
  for (const int64_t factor : given["attention_resolutions"].get<std::vector<int64_t>>()) {
    config.attention_resolutions.push_back(config.image_size / factor);
  }
  return config;
}

Tensor numbers(const Json& values) {
  return at::tensor(values.get<std::vector<double>>(), at::kDouble);
}

double largest_error(const Tensor& found, const Json& expected) {
  return (found.detach().to(at::kDouble).flatten() - numbers(expected)).abs().max().item<double>();
}

Tensor times() { return numbers(golden()["times"]).to(at::kFloat); }

TEST(AdmGolden, UNetModelAgreesWithTheReferenceCode) {
  for (const Json& item : golden()["unets"]) {
    SCOPED_TRACE(item["name"]);
    const AdmConfig config = config_of(item["config"]);
    const auto network = detail::adm_unet(config);
    EXPECT_EQ(fingerprint(network->expected_tensors()), item["tensors"]["hash"]);
    const Tensor x = adm_points(config.in_channels, config.image_size);
    const detail::Inputs inputs = {{"class_labels", at::arange(2) + 3}};
    const auto tensors = adm_tensors(network->expected_tensors());
    EXPECT_LT(largest_error(network->forward(tensors, x, times(), inputs), item["output"]), 1e-5);
  }
}

TEST(AdmGolden, EncoderUNetModelAgreesWithTheReferenceCode) {
  for (const Json& item : golden()["encoders"]) {
    SCOPED_TRACE(item["name"]);
    AdmConfig config = config_of(item["config"]);
    config.num_classes = item["config"]["out_channels"];
    config.pool = detail::adm_pool_from(item["config"]["pool"]);
    const auto network = detail::adm_classifier(config);
    EXPECT_EQ(fingerprint(network->expected_tensors()), item["tensors"]["hash"]);
    const Tensor x = adm_points(config.in_channels, config.image_size).requires_grad_(true);
    const auto tensors = adm_tensors(network->expected_tensors());
    const Tensor f = network->forward(tensors, x, times(), {});
    EXPECT_LT(largest_error(f, item["output"]), 1e-5);
    const Tensor share = at::log_softmax(f, 1).select(1, 3);
    EXPECT_LT(largest_error(share, item["log_share"]), 1e-5);
    const Tensor gradient = torch::autograd::grad({share.sum()}, {x})[0];
    EXPECT_LT(largest_error(gradient, item["gradient"]), 1e-5);
  }
}

// Channels-last, as bound_network() runs them.
TEST(AdmGolden, ChannelsLastAgreesWithTheReferenceCode) {
  const Json& item = golden()["unets"].back();
  const AdmConfig config = config_of(item["config"]);
  const auto network = detail::adm_unet(config);
  const auto tensors = adm_tensors(network->expected_tensors());
  const auto bound = detail::bound_network(network, tensors, {}, Compute::float32, "cpu", "");
  const Tensor x = adm_points(config.in_channels, config.image_size);
  for (int64_t row = 0; row < 2; ++row) {
    const Tensor f = bound->forward(x.narrow(0, row, 1), times()[row].item<double>());
    const auto all = item["output"].get<std::vector<double>>();
    const auto begin = all.begin() + row * f.numel();
    EXPECT_LT(largest_error(f, Json(std::vector<double>(begin, begin + f.numel()))), 1e-5);
  }
}

}  // namespace
}  // namespace motet
