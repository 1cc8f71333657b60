// UNet2DModel and the schedules of diffusers 0.42.1 (tools/golden_unets.py): every option that motet
// claims, a pipeline's folder and one in shards as save_pretrained() writes them.
#include "nets/unet2d.hpp"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "motet/pretrained.hpp"
#include "pretrained_detail.hpp"
#include "support/golden.hpp"

namespace motet {
namespace {

using Json = nlohmann::json;
using detail::Inputs;
using detail::TensorMap;

const std::string kFolder = MOTET_SOURCE_DIR "/tests/golden/unet2d/";
constexpr double kTolerance = 1e-5;

const Json& golden() {
  static const Json values = testing::read_golden("unet2d");
  return values;
}

// Numbers in [-1, 1] that look random: the maker's formula.
Tensor formula(int64_t index, const std::vector<int64_t>& shape) {
  const Tensor i = at::arange(c10::multiply_integers(shape), at::kDouble);
  return (static_cast<double>(index) + 0.618 * i * i).cos().view(shape);
}

TensorMap weights_of(const detail::Architecture& architecture) {
  TensorMap tensors;
  int64_t index = 0;
  for (const auto& [name, shape] : architecture.expected_tensors()) {
    Tensor values = formula(index++, shape);
    if (shape.size() > 1) {
      const auto fan_in = static_cast<double>(values.numel() / shape.front());
      values = values * std::sqrt(3.0 / fan_in);
    } else {
      values = name.ends_with("weight") ? 1.0 + 0.1 * values : 0.1 * values;
    }
    tensors[name] = values.to(at::kFloat);
  }
  return tensors;
}

Tensor images(const detail::Architecture& architecture) {
  std::vector<int64_t> shape = architecture.event_shape();
  shape.insert(shape.begin(), 2);
  return (1.5 * formula(1000, shape)).to(at::kFloat);
}

Tensor floats(const Json& values) {
  return at::tensor(values.get<std::vector<double>>(), at::kDouble).to(at::kFloat);
}

Inputs inputs_of(const Json& one, const detail::Architecture& architecture) {
  Inputs inputs;
  for (const detail::InputSpec& spec : architecture.inputs()) {
    Tensor labels = floats(one.at("labels").at(spec.name));
    labels = spec.num_values > 0 ? labels.to(at::kLong) : labels;
    inputs[spec.name] = spec.shape.empty() ? labels : labels.view({2, -1});
  }
  return inputs;
}

double largest_difference(const Tensor& found, const Json& expected) {
  return (found.flatten().to(at::kDouble) - floats(expected)).abs().max().item<double>();
}

TEST(UNet2DGolden, EveryOptionAgreesWithDiffusers) {
  const at::NoGradGuard no_graph;
  for (const auto& [name, one] : golden().at("cases").items()) {
    const auto architecture = detail::unet2d(detail::unet2d_config(one.at("config"), name));
    const Tensor f = architecture->forward(weights_of(*architecture), images(*architecture),
                                           floats(one.at("times")), inputs_of(one, *architecture));
    EXPECT_LT(largest_difference(f, one.at("output")), kTolerance) << name;
  }
}

TEST(UNet2DGolden, PassesWithAGraphAgreeWithoutOne) {
  const auto architecture =
      detail::unet2d(detail::unet2d_config(golden().at("cases").at("base").at("config"), "base"));
  const Tensor x = images(*architecture).requires_grad_(true);
  const Tensor f = architecture->forward(weights_of(*architecture), x,
                                         floats(golden()["cases"]["base"]["times"]), {});
  EXPECT_TRUE(f.requires_grad());
  EXPECT_LT(largest_difference(f.detach(), golden()["cases"]["base"]["output"]), kTolerance);
}

// What training an energy needs: the gradient of sum(dE/dx), E = ||f||^2, in a weight.
TEST(UNet2DGolden, PassesCanBeDifferentiatedTwice) {
  const auto architecture = detail::unet2d(
      detail::unet2d_config(golden().at("cases").at("one_block").at("config"), "one_block"));
  TensorMap tensors = weights_of(*architecture);
  for (auto& [name, tensor] : tensors) {
    tensor = tensor.to(at::kDouble);
  }
  const Tensor start = tensors.at("mid_block.attentions.0.to_q.bias");
  const Tensor x = images(*architecture).narrow(0, 0, 1).to(at::kDouble).requires_grad_(true);
  const auto slope_sum = [&](const Tensor& bias) {
    tensors["mid_block.attentions.0.to_q.bias"] = bias;
    const Tensor f = architecture->forward(tensors, x, at::full({1}, 3.0), {});
    return torch::autograd::grad({f.square().sum()}, {x}, {}, true, true)[0].sum();
  };
  const Tensor weight = start.clone().requires_grad_(true);
  const Tensor gradient = torch::autograd::grad({slope_sum(weight)}, {weight})[0];
  Tensor shift = at::zeros_like(start);
  shift[0] = 1e-5;
  const double slope =
      ((slope_sum(start + shift) - slope_sum(start - shift)) / 2e-5).item<double>();
  EXPECT_NEAR(gradient[0].item<double>(), slope, 1e-4 * std::abs(slope) + 1e-7);
}

TEST(UNet2DGolden, NamesAndShapesAreThoseOfTheStateDict) {
  for (const char* name : {"base", "skip_attention"}) {
    const Json& one = golden().at("cases").at(name);
    const auto architecture = detail::unet2d(detail::unet2d_config(one.at("config"), name));
    EXPECT_EQ(architecture->expected_tensors(), one.at("shapes").get<detail::ShapeMap>()) << name;
  }
}

TEST(UNet2DGolden, AConfigSurvivesBeingWritten) {
  for (const auto& [name, one] : golden().at("cases").items()) {
    const detail::UNet2DConfig config = detail::unet2d_config(one.at("config"), name);
    EXPECT_EQ(detail::unet2d_config(detail::to_json(config), name), config) << name;
  }
}

TEST(UNet2DGolden, FoldersGiveWhatDiffusersGives) {
  const Json& expected = golden().at("folders");
  const double alpha_bar = expected.at("alpha_bar");
  const double sigma = std::sqrt(1.0 - alpha_bar);
  for (const char* name : {"pipeline", "sharded", "pipeline/unet"}) {
    const ModelPtr model = load_pretrained(
        kFolder + name, name,
        {.inputs = {{"class_labels", at::tensor(expected.at("class").get<double>())}}});
    ASSERT_EQ(model->event_shape(), (std::vector<int64_t>{2, 4, 4}));
    const Tensor x = (1.5 * formula(1000, {2, 2, 4, 4})).to(at::kFloat);
    const NoiseLevel level = model->schedule()->level(expected.at("time"));
    EXPECT_NEAR(level.alpha_bar, alpha_bar, 1e-6 * alpha_bar);
    // v = sqrt(abar) n - sigma x_0, and x = sqrt(abar) x_0 + sigma n: s = -n / sigma
    const Tensor v = floats(expected.at("output")).view_as(x);
    const Tensor score = -(std::sqrt(alpha_bar) * v + sigma * x) / sigma;
    EXPECT_LT((model->evaluate(x, level).score - score).abs().max().item<double>(), kTolerance)
        << name;
  }
}

TEST(UNet2DGolden, DescriptionsCountTheWeights) {
  const auto rows = describe_pretrained(kFolder + "sharded");
  EXPECT_EQ(rows[0].second, "UNet2DModel(2x4x4)");
  EXPECT_EQ(rows[1].second.substr(0, rows[1].second.find(' ')),
            std::to_string(golden().at("folders").at("num_weights").get<int64_t>()));
}

TEST(SchedulerGolden, AlphaBarsAgreeWithDiffusers) {
  const Json schedulers = testing::read_golden("schedulers");
  for (const auto& [name, one] : schedulers.items()) {
    const detail::SchedulerConfig config = detail::scheduler_config(one.at("config"), name);
    const NoiseSchedule& schedule = config.output.schedule;
    if (one.contains("clips")) {
      EXPECT_EQ(!config.clipping.empty(), one.at("clips").get<bool>()) << name;
    }
    for (size_t i = 0; i < one.at("index").size(); ++i) {
      const int64_t index = one.at("index")[i];
      const double expected = one.at("alpha_bar")[i];
      if (expected == 0.0) {
        EXPECT_EQ(index, schedule.num_levels()) << name << ": the level of pure noise is left out";
        continue;
      }
      EXPECT_NEAR(schedule.level(index).alpha_bar, expected, 1e-6 * expected) << name << index;
      EXPECT_EQ(config.output.times[static_cast<size_t>(index)], static_cast<double>(index));
    }
  }
}

}  // namespace
}  // namespace motet
