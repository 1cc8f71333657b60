// Linear maps, convolutions, group norms and the sinusoidal embedding of time.
#include "nets/layers.hpp"

#include <torch/types.h>

#include <cmath>
#include <optional>

namespace motet::detail {
namespace {

std::optional<at::Tensor> bias_of(const TensorMap& tensors, const std::string& name) {
  const auto found = tensors.find(name + ".bias");
  return found == tensors.end() ? std::nullopt : std::optional<at::Tensor>(found->second);
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
  return at::conv2d(x, tensors.at(name + ".weight"), bias_of(tensors, name), stride, padding);
}

at::Tensor group_norm(const TensorMap& tensors, const std::string& name, const at::Tensor& x,
                      int64_t num_groups, double epsilon) {
  const at::Tensor& weight = tensors.at(name + ".weight");
  const at::Tensor& bias = tensors.at(name + ".bias");
  if (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble) {
    return at::group_norm(x, num_groups, weight, bias, epsilon);
  }
  return at::group_norm(x.to(at::kFloat), num_groups, weight.to(at::kFloat), bias.to(at::kFloat),
                        epsilon)
      .to(x.scalar_type());
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
