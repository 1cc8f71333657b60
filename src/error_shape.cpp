// Shapes in messages, and the check that every model makes of its points.
#include "error_shape.hpp"

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

void check_points(const at::Tensor& x, const std::vector<int64_t>& event_shape,
                  const std::string& model_name) {
  // "(B, 2)": what a batch of the event shape looks like.
  const std::string batch =
      event_shape.empty() ? "(B)" : "(B, " + shape_text(event_shape).substr(1);
  const std::string where = "model \"" + model_name + "\": x ";
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

}  // namespace motet::detail
