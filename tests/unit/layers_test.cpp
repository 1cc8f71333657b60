// The layers of image networks: fused passes against torch's operations.
#include "nets/layers.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "nets/engine.hpp"
#include "nets/network.hpp"

namespace motet {
namespace {

using detail::TensorMap;

at::Tensor image(std::vector<int64_t> shape, at::ScalarType dtype = at::kFloat) {
  const at::Tensor numbers = at::arange(c10::multiply_integers(shape), at::kDouble);
  return (numbers * 0.37)
      .sin()
      .add(0.3)
      .mul(2.0)
      .view(shape)
      .to(dtype)
      .contiguous(at::MemoryFormat::ChannelsLast);
}

TensorMap norm_tensors(int64_t channels, at::ScalarType dtype = at::kFloat) {
  const at::Tensor numbers = at::arange(channels, at::kDouble);
  return {{"norm.weight", (numbers * 0.7).cos().add(1.2).to(dtype)},
          {"norm.bias", (numbers * 1.3).sin().to(dtype)}};
}

double worst(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

TEST(Layers, FusedNormIsTorchsGroupNormAndSilu) {
  const at::NoGradGuard no_graph;
  for (const int64_t channels : {16, 48, 64, 144}) {
    const TensorMap tensors = norm_tensors(channels);
    const at::Tensor x = image({3, channels, 5, 7}) + 20.0;  // far from 0: no squares may cancel
    for (const int64_t groups : {1, 8, 16}) {
      const at::Tensor normed =
          at::group_norm(x.to(at::kDouble), groups, tensors.at("norm.weight").to(at::kDouble),
                         tensors.at("norm.bias").to(at::kDouble), 1e-5);
      EXPECT_LT(worst(detail::group_norm(tensors, "norm", x, groups, 1e-5), normed), 2e-5);
      EXPECT_LT(worst(detail::group_norm_silu(tensors, "norm", x, groups, 1e-5), at::silu(normed)),
                2e-5);
    }
  }
}

TEST(Layers, FusedNormKeepsTheLayoutAndLeavesItsInputAlone) {
  const at::NoGradGuard no_graph;
  const at::Tensor x = image({2, 32, 6, 6});
  const at::Tensor before = x.clone();
  const at::Tensor y = detail::group_norm_silu(norm_tensors(32), "norm", x, 8, 1e-5);
  EXPECT_TRUE(y.is_contiguous(at::MemoryFormat::ChannelsLast));
  EXPECT_TRUE(at::equal(x, before));
}

TEST(Layers, FusedNormOfARowDoesNotDependOnTheOthers) {
  const at::NoGradGuard no_graph;
  const TensorMap tensors = norm_tensors(32);
  const at::Tensor x = image({9, 32, 4, 4});
  const at::Tensor whole = detail::group_norm_silu(tensors, "norm", x, 8, 1e-5);
  const at::Tensor row = x.narrow(0, 5, 1).contiguous(at::MemoryFormat::ChannelsLast);
  EXPECT_TRUE(at::equal(detail::group_norm_silu(tensors, "norm", row, 8, 1e-5).select(0, 0),
                        whole.select(0, 5)));
}

TEST(Layers, NarrowNormIsWithinItsRounding) {
  const at::NoGradGuard no_graph;
  const TensorMap tensors = norm_tensors(64, at::kBFloat16);
  const at::Tensor x = image({2, 64, 6, 6}, at::kBFloat16);
  const at::Tensor wide =
      at::silu(at::group_norm(x.to(at::kDouble), 8, tensors.at("norm.weight").to(at::kDouble),
                              tensors.at("norm.bias").to(at::kDouble), 1e-5));
  const at::Tensor found = detail::group_norm_silu(tensors, "norm", x, 8, 1e-5);
  EXPECT_EQ(found.scalar_type(), at::kBFloat16);
  EXPECT_LT(worst(found, wide), 8e-3 * wide.abs().max().item<double>());
}

TEST(Layers, NormsWithAGraphAreDifferentiable) {
  const at::Tensor x = image({2, 16, 3, 3}).requires_grad_(true);
  const at::Tensor y = detail::group_norm_silu(norm_tensors(16), "norm", x, 4, 1e-5);
  EXPECT_TRUE(y.requires_grad());
}

TEST(Layers, PackedConvolutionsAreTheSame) {
  const at::NoGradGuard no_graph;
  for (const auto& [size, stride, padding] :
       {std::array<int64_t, 3>{3, 1, 1}, {3, 2, 1}, {3, 2, 0}, {1, 1, 0}, {4, 4, 0}}) {
    const at::Tensor weight = image({24, 16, size, size}) / 20.0;
    const TensorMap tensors = {{"conv.weight", weight},
                               {"conv.bias", image({1, 24, 1, 1}).view(24)}};
    const at::Tensor x = image({2, 16, 9, 9});
    const at::Tensor plain = detail::conv2d(tensors, "conv", x, stride, padding);
    const at::Tensor packed =
        detail::conv2d(detail::pack_convolutions(tensors), "conv", x, stride, padding);
    EXPECT_TRUE(packed.is_contiguous(at::MemoryFormat::ChannelsLast));
    EXPECT_LT(worst(packed, plain), 1e-4) << size << stride << padding;
  }
}

}  // namespace
}  // namespace motet
