// Shapes, dtypes, names and numbers in messages, and the check that every model makes of its points.
#include "error_shape.hpp"

#include <array>
#include <charconv>
#include <cstdio>
#include <sstream>

#include "motet/error.hpp"

namespace motet::detail {

std::string shape_text(c10::IntArrayRef shape) {
  std::ostringstream text;
  text << '(';
  for (size_t i = 0; i < shape.size(); ++i) {
    text << (i == 0 ? "" : ", ") << shape[i];
  }
  text << ')';
  return text.str();
}

std::string six_digits(double value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

std::string shortest_digits(double value) {
  std::array<char, 32> text{};
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
}

std::string quoted_text(std::string_view text) {
  constexpr size_t kMaxShown = 80;
  std::string result = "\"";
  for (const char c : text.substr(0, kMaxShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '"' && c != '\\') {
      result += c;
      continue;
    }
    char escaped[5];
    std::snprintf(escaped, sizeof(escaped), "\\x%02x", static_cast<unsigned>(byte));
    result += escaped;
  }
  return result + (text.size() > kMaxShown ? "...\"" : "\"");
}

std::string dtype_text(c10::ScalarType dtype) {
  switch (dtype) {
    case c10::ScalarType::Double:
      return "float64";
    case c10::ScalarType::Float:
      return "float32";
    case c10::ScalarType::Half:
      return "float16";
    case c10::ScalarType::BFloat16:
      return "bfloat16";
    case c10::ScalarType::Long:
      return "int64";
    case c10::ScalarType::Int:
      return "int32";
    case c10::ScalarType::Short:
      return "int16";
    case c10::ScalarType::Char:
      return "int8";
    case c10::ScalarType::Byte:
      return "uint8";
    case c10::ScalarType::Bool:
      return "bool";
    default:
      return c10::toString(dtype);
  }
}

void check_points(const at::Tensor& x, const std::vector<int64_t>& event_shape,
                  const std::string& model_name) {
  check_points_of("model \"" + model_name + "\"", x, event_shape);
}

void check_points_of(const std::string& owner, const at::Tensor& x,
                     const std::vector<int64_t>& event_shape) {
  // "(B, 2)": what a batch of the event shape looks like.
  const std::string batch =
      event_shape.empty() ? "(B)" : "(B, " + shape_text(event_shape).substr(1);
  const std::string where = owner + ": x ";
  if (!x.defined()) {
    throw ShapeError(where + "is undefined, must be " + batch);
  }
  if (x.dim() < 1 || x.sizes().slice(1) != c10::IntArrayRef(event_shape)) {
    throw ShapeError(where + "has shape " + shape_text(x.sizes()) + ", must be " + batch);
  }
  if (x.scalar_type() != at::kFloat && x.scalar_type() != at::kDouble) {
    throw ShapeError(where + "has dtype " + c10::toString(x.scalar_type()) +
                     ", must be Float or Double");
  }
}

at::Tensor own(const at::Tensor& values) {
  return values.detach().to(at::kCPU, at::kDouble, /*non_blocking=*/false, /*copy=*/true);
}

void check_entries(const std::string& where, const std::string& what, const at::Tensor& values,
                   const at::Tensor& is_good, const std::string& allowed) {
  const at::Tensor bad = is_good.flatten().logical_not().nonzero();
  if (bad.numel() == 0) {
    return;
  }
  const auto index = bad[0].item<int64_t>();
  std::ostringstream text;
  text << where << ": entry " << index << " of " << what << " = "
       << values.flatten()[index].item<double>() << ", must be " << allowed;
  throw ConfigError(text.str());
}

}  // namespace motet::detail
