// Shapes in messages, and the check that every model makes of its points.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace motet::detail {

/// "(128, 2)", "(3)", "()".
std::string shape_text(c10::IntArrayRef shape);

/// Throws ShapeError, naming the model, unless x is (B, *event) of float32 or float64.
void check_points(const at::Tensor& x, const std::vector<int64_t>& event_shape,
                  const std::string& model_name);

}  // namespace motet::detail
