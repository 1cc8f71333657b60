// Linear maps, convolutions, group norms and the sinusoidal embedding of time.
#include "nets/layers.hpp"

#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/types.h>

#include <cmath>
#include <optional>
#include <string_view>
#include <vector>

#include "nets/engine.hpp"

namespace motet::detail {
namespace {

std::optional<at::Tensor> bias_of(const TensorMap& tensors, const std::string& name) {
  const auto found = tensors.find(name + ".bias");
  return found == tensors.end() ? std::nullopt : std::optional<at::Tensor>(found->second);
}

// torch's fused convolution, which takes packed weights; it has no C++ function.
using PointwiseConvolution = at::Tensor(const at::Tensor&, const at::Tensor&,
                                        const std::optional<at::Tensor>&, at::IntArrayRef,
                                        at::IntArrayRef, at::IntArrayRef, int64_t, std::string_view,
                                        c10::List<std::optional<at::Scalar>>,
                                        std::optional<std::string_view>);

at::Tensor packed_conv2d(const at::Tensor& x, const at::Tensor& weight,
                         const std::optional<at::Tensor>& bias, int64_t stride, int64_t padding) {
  static const auto convolution = c10::Dispatcher::singleton()
                                      .findSchemaOrThrow("mkldnn::_convolution_pointwise", "")
                                      .typed<PointwiseConvolution>();
  const std::vector<int64_t> paddings(2, padding);
  const std::vector<int64_t> strides(2, stride);
  const std::vector<int64_t> dilations(2, 1);
  return convolution.call(x, weight, bias, paddings, strides, dilations, 1, "none",
                          c10::List<std::optional<at::Scalar>>(), "");
}

// The engine whose elements x holds; null where the fused norm does not serve.
const Engine* image_engine(const at::Tensor& x) {
  const bool is_laid_out = x.dim() == 4 && x.size(1) % kChannelStep == 0 &&
                           x.is_contiguous(at::MemoryFormat::ChannelsLast);
  if (at::GradMode::is_enabled() || !x.is_cpu() || !is_laid_out) {
    return nullptr;
  }
  switch (x.scalar_type()) {
    case at::kFloat:
      return &float32_engine();
    case at::kBFloat16:
      return bfloat16_engine();
    default:
      return nullptr;
  }
}

at::Tensor fused_norm(const Engine& engine, const at::Tensor& gamma, const at::Tensor& beta,
                      const at::Tensor& x, int64_t num_groups, double epsilon, bool with_silu) {
  at::Tensor out = at::empty_like(x);
  const at::Tensor scales = gamma.to(at::kFloat).contiguous();
  const at::Tensor shifts = beta.to(at::kFloat).contiguous();
  const int64_t channels = x.size(1);
  const int64_t pixels = x.size(2) * x.size(3);
  const int64_t image_bytes = pixels * channels * engine.element_size;
  const auto* from = static_cast<const std::byte*>(x.const_data_ptr());
  auto* to = static_cast<std::byte*>(out.mutable_data_ptr());
  at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(static_cast<size_t>(2 * channels));
    for (int64_t i = begin; i < end; ++i) {
      engine.group_norm({.x = from + i * image_bytes,
                         .out = to + i * image_bytes,
                         .pixels = pixels,
                         .channels = channels,
                         .num_groups = num_groups,
                         .gamma = scales.const_data_ptr<float>(),
                         .beta = shifts.const_data_ptr<float>(),
                         .epsilon = epsilon,
                         .with_silu = with_silu,
                         .scratch = scratch.data()});
    }
  });
  return out;
}

at::Tensor torch_norm(const at::Tensor& gamma, const at::Tensor& beta, const at::Tensor& x,
                      int64_t num_groups, double epsilon) {
  if (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble) {
    return at::group_norm(x, num_groups, gamma, beta, epsilon);
  }
  return at::group_norm(x.to(at::kFloat), num_groups, gamma.to(at::kFloat), beta.to(at::kFloat),
                        epsilon)
      .to(x.scalar_type());
}

at::Tensor norm(const TensorMap& tensors, const std::string& name, const at::Tensor& x,
                int64_t num_groups, double epsilon, bool with_silu) {
  const at::Tensor& gamma = tensors.at(name + ".weight");
  const at::Tensor& beta = tensors.at(name + ".bias");
  if (const Engine* engine = image_engine(x)) {
    return fused_norm(*engine, gamma, beta, x, num_groups, epsilon, with_silu);
  }
  const at::Tensor normed = torch_norm(gamma, beta, x, num_groups, epsilon);
  return with_silu ? at::silu(normed) : normed;
}

}  // namespace

void add_linear(ShapeMap& shapes, const std::string& name, int64_t num_in, int64_t num_out,
                bool has_bias) {
  shapes[name + ".weight"] = {num_out, num_in};
  if (has_bias) {
    shapes[name + ".bias"] = {num_out};
  }
}

void add_conv(ShapeMap& shapes, const std::string& name, int64_t num_in, int64_t num_out,
              int64_t size, bool has_bias) {
  shapes[name + ".weight"] = {num_out, num_in, size, size};
  if (has_bias) {
    shapes[name + ".bias"] = {num_out};
  }
}

void add_norm(ShapeMap& shapes, const std::string& name, int64_t num) {
  shapes[name + ".weight"] = {num};
  shapes[name + ".bias"] = {num};
}

at::Tensor linear(const TensorMap& tensors, const std::string& name, const at::Tensor& x) {
  return at::linear(x, tensors.at(name + ".weight"), bias_of(tensors, name));
}

at::Tensor conv2d(const TensorMap& tensors, const std::string& name, const at::Tensor& x,
                  int64_t stride, int64_t padding) {
  const at::Tensor& weight = tensors.at(name + ".weight");
  const std::optional<at::Tensor> bias = bias_of(tensors, name);
  return weight.is_mkldnn() ? packed_conv2d(x, weight, bias, stride, padding)
                            : at::conv2d(x, weight, bias, stride, padding);
}

at::Tensor conv2d_plus(const TensorMap& tensors, const std::string& name, const at::Tensor& x,
                       const at::Tensor& added, int64_t stride, int64_t padding) {
  const at::Tensor& weight = tensors.at(name + ".weight");
  if (!weight.is_mkldnn() || added.size(0) != 1) {
    return conv2d(tensors, name, x, stride, padding) + added.unsqueeze(-1).unsqueeze(-1);
  }
  const std::optional<at::Tensor> bias = bias_of(tensors, name);
  const at::Tensor row = added.squeeze(0);
  return packed_conv2d(x, weight, bias ? *bias + row : row, stride, padding);
}

TensorMap pack_convolutions(const TensorMap& tensors) {
  TensorMap packed = tensors;
  for (auto& [name, tensor] : packed) {
    if (tensor.dim() == 4) {
      // What oneDNN would choose for a stride of 1 that keeps the size; others it reorders by call.
      const std::vector<int64_t> padding(2, tensor.size(2) / 2);
      const std::vector<int64_t> ones(2, 1);
      tensor = at::mkldnn_reorder_conv2d_weight(tensor.to_mkldnn(), padding, ones, ones, 1);
    }
  }
  return packed;
}

at::Tensor group_norm(const TensorMap& tensors, const std::string& name, const at::Tensor& x,
                      int64_t num_groups, double epsilon) {
  return norm(tensors, name, x, num_groups, epsilon, false);
}

at::Tensor group_norm_silu(const TensorMap& tensors, const std::string& name, const at::Tensor& x,
                           int64_t num_groups, double epsilon) {
  return norm(tensors, name, x, num_groups, epsilon, true);
}

at::Tensor time_embedding(const at::Tensor& time, int64_t dim, bool cosines_first, double shift,
                          double scale, double max_period) {
  const int64_t half = dim / 2;
  // In this order and in float32, as everybody's networks were trained: with times of 1000 a last
  // bit of a frequency moves its phase by 1e-4.
  const at::Tensor powers = at::arange(half, time.options().dtype(at::kFloat)) *
                            -std::log(max_period) / (static_cast<double>(half) - shift);
  const at::Tensor phase = scale * (time.to(at::kFloat).unsqueeze(1) * powers.exp().unsqueeze(0));
  const at::Tensor first = cosines_first ? phase.cos() : phase.sin();
  const at::Tensor second = cosines_first ? phase.sin() : phase.cos();
  const at::Tensor embedded = at::cat({first, second}, 1);
  return dim % 2 == 0 ? embedded : at::constant_pad_nd(embedded, {0, 1});
}

}  // namespace motet::detail
