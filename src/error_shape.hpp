// Shapes, dtypes, names and numbers in messages, and the check that every model makes of its points.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>
#include <vector>

namespace motet::detail {

/// "(128, 2)", "(3)", "()".
std::string shape_text(c10::IntArrayRef shape);
/// `text` in double quotes for a message: at most 80 bytes, everything but printable ASCII as \xNN.
std::string quoted_text(std::string_view text);
/// `value` in at most six digits: "0.0001", "1e-30".
std::string six_digits(double value);
/// The shortest text that reads back to the same number: "0.008".
std::string shortest_digits(double value);
/// "float32", "int64", ...: numpy's and torch's word for a dtype.
std::string dtype_text(c10::ScalarType dtype);

/// Throws ShapeError, naming the model, unless x is (B, *event) of float32 or float64.
void check_points(const at::Tensor& x, const std::vector<int64_t>& event_shape,
                  const std::string& model_name);
/// The same for what is no model: `owner` is "likelihood "NAME"".
void check_points_of(const std::string& owner, const at::Tensor& x,
                     const std::vector<int64_t>& event_shape);

/// A setting as float64 on the CPU; a copy, so that the caller may change his tensor afterwards.
at::Tensor own(const at::Tensor& values);
/// Throws ConfigError "WHERE: entry I of WHAT = VALUE, must be ALLOWED" for the first entry,
/// counted in row-major order, that is not good.
void check_entries(const std::string& where, const std::string& what, const at::Tensor& values,
                   const at::Tensor& is_good, const std::string& allowed);

}  // namespace motet::detail
