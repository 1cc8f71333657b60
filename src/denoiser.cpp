// A denoiser as a model. With y = x / sqrt(abar) = x_0 + v n and D = E[x_0 | y], Tweedie's formula
// says grad log p(y) = (D - y) / v^2, and the score of x is that divided by sqrt(abar):
//   s = (sqrt(abar) D - x) / sigma^2.
#include <torch/types.h>

#include <cmath>
#include <utility>

#include "error_shape.hpp"
#include "motet/error.hpp"
#include "motet/model.hpp"

namespace motet {
namespace {

using detail::shape_text;

class Denoiser : public Model {
 public:
  Denoiser(DenoiserFunction function, std::vector<int64_t> event_shape, NoiseSchedule schedule,
           std::string name)
      : function_(std::move(function)),
        event_shape_(std::move(event_shape)),
        schedule_(std::move(schedule)),
        name_(std::move(name)) {}

  Eval evaluate(const Tensor& x, const NoiseLevel& level) const override {
    const at::NoGradGuard no_graph;
    detail::check_points(x, event_shape_, name_);
    if (level.index < 0 || level.index >= schedule_.num_levels()) {
      throw ConfigError("denoiser: \"" + name_ + "\" knows levels 0 to " +
                        std::to_string(schedule_.num_levels() - 1) + ", but is asked for level " +
                        std::to_string(level.index) + "; sample on the model's own schedule");
    }
    const double scale = std::sqrt(level.alpha_bar);
    const Tensor denoised = function_(x.detach() / scale, level.sigma() / scale);
    if (!denoised.defined() || denoised.sizes() != x.sizes() ||
        denoised.scalar_type() != x.scalar_type()) {
      throw ShapeError("denoiser: \"" + name_ + "\" returns " +
                       (denoised.defined() ? detail::dtype_text(denoised.scalar_type()) + " " +
                                                 shape_text(denoised.sizes())
                                           : std::string("an undefined tensor")) +
                       ", must be as its points: " + detail::dtype_text(x.scalar_type()) + " " +
                       shape_text(x.sizes()));
    }
    const Tensor score = (scale * denoised.detach() - x) / (level.sigma() * level.sigma());
    return {.score = score, .log_density = {}, .remainder = score};
  }

  bool is_exact() const override { return false; }
  std::vector<int64_t> event_shape() const override { return event_shape_; }
  std::string describe() const override { return name_; }
  std::optional<NoiseSchedule> schedule() const override { return schedule_; }

 private:
  DenoiserFunction function_;
  std::vector<int64_t> event_shape_;
  NoiseSchedule schedule_;
  std::string name_;
};

}  // namespace

ModelPtr from_denoiser(DenoiserFunction function, std::vector<int64_t> event_shape,
                       NoiseSchedule schedule, std::string name) {
  if (!function) {
    throw ConfigError("from_denoiser \"" + name + "\": function is empty, must be callable");
  }
  for (const int64_t size : event_shape) {
    if (size < 1) {
      throw ConfigError("from_denoiser \"" + name + "\": event_shape is " +
                        shape_text(event_shape) + ", every size must be >= 1");
    }
  }
  return std::make_shared<Denoiser>(std::move(function), std::move(event_shape),
                                    std::move(schedule), std::move(name));
}

}  // namespace motet
