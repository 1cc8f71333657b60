// A law or likelihood of d numbers seen as one of an event of another shape with as many numbers, in
// row-major order. Views only: nothing is computed, and all numbers keep their bits.
#include <torch/types.h>

#include <utility>

#include "compose_tree.hpp"
#include "error_shape.hpp"
#include "likelihood_checks.hpp"
#include "motet/compose.hpp"
#include "motet/error.hpp"

namespace motet {
namespace {

using Shape = std::vector<int64_t>;
using detail::shape_text;

std::vector<int64_t> batch_of(const Tensor& x, const Shape& event_shape) {
  std::vector<int64_t> shape = {x.size(0)};
  shape.insert(shape.end(), event_shape.begin(), event_shape.end());
  return shape;
}

Tensor as_event(const Tensor& x, const Shape& event_shape) {
  return x.defined() ? x.reshape(batch_of(x, event_shape)) : x;
}

// What both makers refuse.
void check_shapes(const std::string& where, const Shape& own, const Shape& event_shape) {
  detail::check_event_shape(where, event_shape);
  if (c10::multiply_integers(own) != c10::multiply_integers(event_shape)) {
    throw ShapeError(where + ": event_shape " + shape_text(event_shape) + " has " +
                     std::to_string(c10::multiply_integers(event_shape)) + " numbers, but " +
                     shape_text(own) + " has " + std::to_string(c10::multiply_integers(own)) +
                     "; both must have as many");
  }
}

std::string name_of(const std::string& own, const Shape& event_shape) {
  return own + " as " + shape_text(event_shape);
}

Eval evaluate_as(const Model& model, const std::string& name, const Shape& event_shape,
                 const Tensor& x, const NoiseLevel& level) {
  detail::check_points(x, event_shape, name);
  Eval eval = model.evaluate(as_event(x, model.event_shape()), level);
  const bool is_unexplained = eval.remainder.is_same(eval.score);
  eval.score = as_event(eval.score, event_shape);
  // One tensor under both names stays one: products and selections then pay for it once.
  eval.remainder = is_unexplained ? eval.score : as_event(eval.remainder, event_shape);
  eval.twist_score = as_event(eval.twist_score, event_shape);
  return eval;
}

class Reshaped : public Model {
 public:
  Reshaped(ModelPtr model, Shape event_shape)
      : model_(std::move(model)), event_shape_(std::move(event_shape)) {}

  Eval evaluate(const Tensor& x, const NoiseLevel& level) const override {
    return evaluate_as(*model_, describe(), event_shape_, x, level);
  }
  bool is_exact() const override { return model_->is_exact(); }
  bool is_normalised() const override { return model_->is_normalised(); }
  Shape event_shape() const override { return event_shape_; }
  std::string describe() const override { return name_of(model_->describe(), event_shape_); }
  std::optional<NoiseSchedule> schedule() const override { return model_->schedule(); }

 private:
  ModelPtr model_;
  Shape event_shape_;
};

class ReshapedLaw : public AnalyticModel {
 public:
  ReshapedLaw(AnalyticPtr law, Shape event_shape)
      : law_(std::move(law)), event_shape_(std::move(event_shape)) {}

  Eval evaluate(const Tensor& x, const NoiseLevel& level) const override {
    return evaluate_as(*law_, describe(), event_shape_, x, level);
  }
  Tensor sample_data(int64_t num_samples, Rng& rng) const override {
    return as_event(law_->sample_data(num_samples, rng), event_shape_);
  }
  Tensor log_density_data(const Tensor& x) const override {
    detail::check_points(x, event_shape_, describe());
    return law_->log_density_data(as_event(x, law_->event_shape()));
  }
  Shape event_shape() const override { return event_shape_; }
  std::string describe() const override { return name_of(law_->describe(), event_shape_); }

 private:
  AnalyticPtr law_;
  Shape event_shape_;
};

class ReshapedLikelihood : public Likelihood {
 public:
  ReshapedLikelihood(LikelihoodPtr likelihood, Shape event_shape)
      : likelihood_(std::move(likelihood)), event_shape_(std::move(event_shape)) {}

  Value evaluate(const Tensor& x, const NoiseLevel& level,
                 const Tensor& prior_score) const override {
    detail::check_points_of("likelihood \"" + describe() + "\"", x, event_shape_);
    detail::check_same_as_x(describe(), "prior_score", prior_score, x);
    const Shape own = likelihood_->event_shape();
    Value value = likelihood_->evaluate(as_event(x, own), level, as_event(prior_score, own));
    value.score = as_event(value.score, event_shape_);
    return value;
  }
  LikelihoodPath path() const override { return likelihood_->path(); }
  bool is_gradient() const override { return likelihood_->is_gradient(); }
  Shape event_shape() const override { return event_shape_; }
  std::string describe() const override { return name_of(likelihood_->describe(), event_shape_); }
  std::optional<NoiseSchedule> schedule() const override { return likelihood_->schedule(); }
  Tensor allows(const Tensor& x_0) const override {
    detail::check_points_of("likelihood \"" + describe() + "\"", x_0, event_shape_);
    return likelihood_->allows(as_event(x_0, likelihood_->event_shape()));
  }

 private:
  LikelihoodPtr likelihood_;
  Shape event_shape_;
};

void check_given(const ModelPtr& model) {
  if (model == nullptr) {
    throw ConfigError("compose: reshaped(): no model given (null), must be a model");
  }
}

std::string reshaped_text(const Model& model) {
  return "compose: reshaped(\"" + model.describe() + "\")";
}

}  // namespace

ModelPtr reshaped(ModelPtr model, std::vector<int64_t> event_shape) {
  check_given(model);
  const std::string where = reshaped_text(*model);
  if (detail::tree_of(model).root.kind != detail::Node::Kind::leaf) {
    throw ConfigError(where +
                      ": is a composition, whose exponents and ledgers a view would hide; "
                      "reshape its leaves");
  }
  check_shapes(where, model->event_shape(), event_shape);
  return std::make_shared<Reshaped>(std::move(model), std::move(event_shape));
}

AnalyticPtr reshaped(AnalyticPtr law, std::vector<int64_t> event_shape) {
  check_given(law);
  check_shapes(reshaped_text(*law), law->event_shape(), event_shape);
  return std::make_shared<ReshapedLaw>(std::move(law), std::move(event_shape));
}

LikelihoodPtr reshaped(LikelihoodPtr likelihood, std::vector<int64_t> event_shape) {
  if (likelihood == nullptr) {
    throw ConfigError("likelihood: reshaped(): null given, must be a likelihood");
  }
  check_shapes("likelihood \"" + likelihood->describe() + "\": reshaped()",
               likelihood->event_shape(), event_shape);
  return std::make_shared<ReshapedLikelihood>(std::move(likelihood), std::move(event_shape));
}

}  // namespace motet
