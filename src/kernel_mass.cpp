// Copies of the diagonal mass: made at the first use on a device, then kept.
#include "kernel_mass.hpp"

#include <torch/types.h>

#include <algorithm>
#include <string>

#include "motet/error.hpp"

namespace motet::detail {

at::Tensor DiagonalMass::flat_like(const at::Tensor& x) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = std::find_if(copies_.begin(), copies_.end(), [&](const at::Tensor& copy) {
    return copy.device() == x.device() && copy.scalar_type() == x.scalar_type();
  });
  if (found != copies_.end()) {
    return *found;
  }
  copies_.push_back(at::tensor(entries_, x.options()));
  return copies_.back();
}

at::Tensor DiagonalMass::like(const at::Tensor& x) const {
  if (entries_.empty()) {
    return {};
  }
  const at::IntArrayRef event = x.sizes().slice(1);
  const int64_t num_coordinates = c10::multiply_integers(event);
  if (num_coordinates != static_cast<int64_t>(entries_.size())) {
    throw ShapeError("kernel: mass has " + std::to_string(entries_.size()) +
                     " entries, but one sample has " + std::to_string(num_coordinates) +
                     " coordinates; give one entry a coordinate, or none for unit mass");
  }
  return flat_like(x).view(event).unsqueeze(0);
}

}  // namespace motet::detail
