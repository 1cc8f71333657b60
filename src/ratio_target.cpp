// A model at one level: shapes are checked, graphs cut and evaluations counted here; and ledgers kept
// where the model tracks log densities (docs/method.md, Ledgers).
#include <torch/types.h>

#include <chrono>
#include <cmath>
#include <numbers>
#include <sstream>

#include "model_rows.hpp"
#include "motet/error.hpp"
#include "motet/ratio.hpp"

namespace motet {

Target::Target(ModelPtr model, NoiseLevel level) : model_(std::move(model)), level_(level) {
  if (model_ == nullptr) {
    throw ConfigError("target: no model given (null), must be a model");
  }
  const auto* tracking = dynamic_cast<const TrackingModel*>(model_.get());
  if (tracking != nullptr && !tracking->tracked().empty()) {
    tracking_ = tracking;
  }
}

const std::vector<size_t>& Target::tracked() const {
  static const std::vector<size_t> none;
  return tracking_ == nullptr ? none : tracking_->tracked();
}

void Target::set_mass(const Tensor& mass) {
  if (!mass.defined()) {
    mass_ = Tensor();
    return;
  }
  std::vector<int64_t> shape = model_->event_shape();
  const int64_t num_coordinates = c10::multiply_integers(shape);
  if (mass.numel() != num_coordinates) {
    throw ShapeError("target: mass has " + std::to_string(mass.numel()) +
                     " entries, but one sample of \"" + model_->describe() + "\" has " +
                     std::to_string(num_coordinates) + " coordinates; give one entry a coordinate");
  }
  shape.insert(shape.begin(), 1);
  mass_ = mass.reshape(shape);
}

void Target::check_parts(const Eval& eval, const Tensor& x) const {
  std::ostringstream text;
  text << "target: \"" << model_->describe() << "\" returned ";
  if (eval.log_density.defined() &&
      (eval.log_density.dim() != 1 || eval.log_density.size(0) != x.size(0))) {
    text << "a log_density of shape " << eval.log_density.sizes() << " for x of shape " << x.sizes()
         << "; it must have one entry for each row of x";
  } else if (eval.remainder.defined() && eval.remainder.sizes() != x.sizes()) {
    text << "a remainder of shape " << eval.remainder.sizes() << " for x of shape " << x.sizes()
         << "; they must be equal";
  } else if (model_->is_exact() && (eval.remainder.defined() || !eval.log_density.defined())) {
    text << (eval.remainder.defined() ? "a remainder" : "no log_density")
         << ", but says that it is exact; an exact model gives log_density and no remainder";
  } else if (!eval.remainder.defined() && !eval.log_density.defined()) {
    text << "a score alone; give it as remainder too, so that log ratios integrate it";
  } else {
    return;
  }
  throw ShapeError(text.str());
}

void Target::check_point(const Tensor& x) const {
  const auto event = model_->event_shape();
  if (x.defined() && x.dim() == static_cast<int64_t>(event.size()) + 1 &&
      x.sizes().slice(1) == at::IntArrayRef(event)) {
    return;
  }
  std::ostringstream text;
  text << "target: x has shape ";
  if (x.defined()) {
    text << x.sizes();
  } else {
    text << "(undefined)";
  }
  text << ", but \"" << model_->describe() << "\" needs (batch, event) with event shape "
       << at::IntArrayRef(event);
  throw ShapeError(text.str());
}

void Target::check_eval(const Eval& eval, const Tensor& x) const {
  if (!eval.score.defined() || eval.score.sizes() != x.sizes()) {
    std::ostringstream text;
    text << "target: \"" << model_->describe() << "\" returned a score of shape ";
    if (eval.score.defined()) {
      text << eval.score.sizes();
    } else {
      text << "(undefined)";
    }
    text << " for x of shape " << x.sizes() << "; they must be equal";
    throw ShapeError(text.str());
  }
  check_parts(eval, x);
}

// Without a graph, on the clock.
template <class Call>
auto Target::timed(const Call& call) const {
  const at::NoGradGuard no_grad;
  const auto start = std::chrono::steady_clock::now();
  auto result = call();
  seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

Eval Target::evaluate(const Tensor& x) const {
  check_point(x);
  Eval eval = timed([&] { return model_->evaluate(x.detach(), level_); });
  ++num_evaluations_;
  check_eval(eval, x);
  return eval;
}

std::vector<Eval> Target::evaluate_parts(const Tensor& x) const {
  check_point(x);
  std::vector<Eval> parts = timed([&] { return tracking_->evaluate_parts(x.detach(), level_); });
  ++num_evaluations_;
  return parts;
}

Eval Target::with_ledger(const Eval& eval, const Tensor& ledger, const Tensor& x) const {
  Eval settled = timed([&] { return tracking_->combine(eval.parts, ledger, x.detach(), level_); });
  check_eval(settled, x);
  return settled;
}

Eval Target::evaluate(const Tensor& x, const Tensor& ledger) const {
  if (tracking_ == nullptr) {
    return evaluate(x);
  }
  Eval eval;
  eval.parts = evaluate_parts(x);
  return with_ledger(eval, ledger, x);
}

// log N(x; mean, sigma^2 I) of a Gaussian whose score at x is s: |x - mean|^2 = sigma^4 |s|^2.
Eval Target::begin(const Tensor& x) const {
  if (tracking_ == nullptr) {
    return evaluate(x);
  }
  Eval eval;
  eval.parts = evaluate_parts(x);
  const double variance = 1.0 - level_.alpha_bar;
  const double constant =
      0.5 * static_cast<double>(x[0].numel()) * std::log(2.0 * std::numbers::pi * variance);
  std::vector<Tensor> columns;
  for (const size_t part : tracked()) {
    columns.push_back(detail::square_norm(eval.parts[part].score) * (-0.5 * variance) - constant);
  }
  return with_ledger(eval, at::stack(columns, 1), x);
}

Eval Target::evaluate_from(const Tensor& y, const Tensor& x, const Eval& at_x) const {
  if (tracking_ == nullptr) {
    return evaluate(y);
  }
  Eval eval;
  eval.parts = evaluate_parts(y);
  const Tensor half = 0.5 * (y.to(at::kDouble) - x.to(at::kDouble));
  std::vector<Tensor> changes;
  for (const size_t part : tracked()) {
    const Eval& front = at_x.parts[part];
    const Eval& back = eval.parts[part];
    Tensor change = back.log_density.defined() ? back.log_density - front.log_density : Tensor();
    if (back.remainder.defined()) {
      const Tensor sum = front.remainder.to(at::kDouble) + back.remainder;
      const Tensor along = (sum * half).flatten(1).sum(1);
      change = change.defined() ? change + along : along;
    }
    changes.push_back(change);
  }
  return with_ledger(eval, at_x.ledger + at::stack(changes, 1), y);
}

}  // namespace motet
