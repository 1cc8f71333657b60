// What every network asks of its tensors: exactly those that its architecture has, in the right shapes.
#include "nets/tensors.hpp"

#include <ATen/Context.h>
#include <torch/types.h>

#include "error_shape.hpp"
#include "motet/error.hpp"

namespace motet {
namespace {

using detail::quoted_text;
using detail::shape_text;

std::string cause_of_shape(at::IntArrayRef found, at::IntArrayRef expected) {
  if (found.size() == 2 && found[0] == expected.back() && found[1] == expected.front()) {
    return "it is transposed: weights are (out, in) as in torch";
  }
  return "the tensors and the config are of two different networks";
}

void check_tensor(const std::string& name, const at::Tensor& tensor, at::IntArrayRef expected,
                  const std::string& prefix, detail::TensorDtype dtype) {
  const std::string where = prefix + "tensor " + quoted_text(name) + ": ";
  if (!tensor.defined()) {
    throw DataError(where + "is undefined");
  }
  if (tensor.sizes() != expected) {
    throw DataError(where + "shape " + shape_text(tensor.sizes()) + ", expected " +
                    shape_text(expected) + "; " + cause_of_shape(tensor.sizes(), expected));
  }
  const bool is_any = dtype == detail::TensorDtype::any_float;
  if (is_any ? !tensor.is_floating_point() : tensor.scalar_type() != at::kFloat) {
    throw DataError(where + "dtype " + detail::dtype_text(tensor.scalar_type()) + ", expected " +
                    (is_any ? "a float dtype" : "float32; convert it"));
  }
}

}  // namespace

namespace detail {

void check_tensors(const ShapeMap& expected, const TensorMap& tensors, const std::string& prefix,
                   TensorDtype dtype) {
  std::vector<std::string> extra;
  for (const auto& [name, tensor] : tensors) {
    if (!expected.contains(name)) {
      extra.push_back(name);
    }
  }
  for (const auto& [name, shape] : expected) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      const std::string other = nearest(name, extra);
      throw DataError(prefix + "tensor " + quoted_text(name) + " of shape " + shape_text(shape) +
                      " is missing; " +
                      (other.empty() ? "the tensors are of another architecture or another size"
                                     : "there is " + quoted_text(other) + " instead"));
    }
    check_tensor(name, found->second, shape, prefix, dtype);
  }
  if (!extra.empty()) {
    throw DataError(prefix + "tensor " + quoted_text(extra.front()) +
                    " is not part of the network that the config describes; the tensors are of "
                    "another architecture or another size");
  }
}

at::Device device_from(const std::string& device) {
  if (device == "cpu") {
    return at::kCPU;
  }
  if (device != "cuda") {
    throw ConfigError("network: device = \"" + device + "\" is not known; allowed: cpu, cuda");
  }
  if (!at::hasCUDA()) {
    throw ConfigError(
        "network: device = \"cuda\", but this build of torch or this machine has no CUDA; use "
        "device = \"cpu\"");
  }
  return at::kCUDA;
}

}  // namespace detail
}  // namespace motet
