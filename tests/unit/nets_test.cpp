// The residual MLP: its tensors, its definition, and the models made of it.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "motet/error.hpp"
#include "motet/model.hpp"
#include "nets/residual_mlp.hpp"

namespace motet {
namespace {

double silu(double x) { return x / (1.0 + std::exp(-x)); }

// All sizes 1 except width 2, so that every layer, LayerNorm included, can be followed by hand.
NetworkConfig tiny_config() {
  return {
      .event_dim = 1, .width = 2, .num_blocks = 1, .widen = 1, .embedding_dim = 1, .num_levels = 2};
}

detail::TensorMap constant_tensors(const NetworkConfig& config, double value) {
  detail::TensorMap tensors;
  for (const auto& [name, shape] : expected_tensors(config)) {
    tensors[name] = torch::full(shape, value, torch::kDouble);
  }
  return tensors;
}

TEST(ExpectedTensors, OfThePaperNetworkHaveItsShapes) {
  const auto shapes = expected_tensors(NetworkConfig{});
  EXPECT_EQ(shapes.size(), 1u + 2u + 4u * 10u + 2u);
  EXPECT_EQ(shapes.at("embedding.weight"), (std::vector<int64_t>{100, 32}));
  EXPECT_EQ(shapes.at("input.weight"), (std::vector<int64_t>{128, 2}));
  EXPECT_EQ(shapes.at("blocks.3.norm.bias"), (std::vector<int64_t>{128}));
  EXPECT_EQ(shapes.at("blocks.0.hidden.weight"), (std::vector<int64_t>{256, 128}));
  EXPECT_EQ(shapes.at("blocks.0.level.weight"), (std::vector<int64_t>{256, 32}));
  EXPECT_EQ(shapes.at("blocks.0.middle.bias"), (std::vector<int64_t>{256}));
  EXPECT_EQ(shapes.at("blocks.0.output.weight"), (std::vector<int64_t>{128, 256}));
  EXPECT_EQ(shapes.at("output.weight"), (std::vector<int64_t>{2, 128}));
}

TEST(ReferenceForward, FollowsTheFormulaOnATinyNetwork) {
  const NetworkConfig config = tiny_config();
  detail::TensorMap tensors = constant_tensors(config, 0.5);
  tensors["input.weight"] = torch::tensor({{2.0}, {-1.0}}, torch::kDouble);
  tensors["embedding.weight"] = torch::tensor({{7.0}, {-3.0}}, torch::kDouble);
  const double x = 0.3;
  const double h0 = 2.0 * x + 0.5;
  const double h1 = -x + 0.5;
  const double mean = (h0 + h1) / 2.0;
  const double sd = std::sqrt(((h0 - mean) * (h0 - mean) + (h1 - mean) * (h1 - mean)) / 2.0 + 1e-5);
  const double normed0 = silu(0.5 * (h0 - mean) / sd + 0.5);
  const double normed1 = silu(0.5 * (h1 - mean) / sd + 0.5);
  const double level = 0.5 * -3.0 + 0.5;
  const double hidden = silu(0.5 * (normed0 + normed1) + 0.5 + level);
  const double middle = silu(0.5 * (hidden + hidden) + 0.5);
  const double out = 0.5 * (middle + middle) + 0.5;
  const double expected = 0.5 * (h0 + out + h1 + out) + 0.5;
  const at::Tensor f = detail::reference_forward(
      tensors, config, torch::tensor({{x}}, torch::kDouble), torch::tensor(1, torch::kLong));
  EXPECT_NEAR(f.item<double>(), expected, 1e-14);
}

}  // namespace
}  // namespace motet
