// log p(back) - log p(front) along a path r(u), u in [0, 1] ([S23] eq. 8 and 13):
//   f = [log_density(back) - log_density(front)] + int_0^1 remainder(r(u)) . r'(u) du,
// the first part exact, the second by a quadrature that is symmetric in u, so that f changes sign
// with the path: without quadrature error a Metropolis test built on it is reversible.
#include "motet/ratio.hpp"

#include <torch/types.h>

#include <cmath>
#include <numbers>
#include <sstream>

#include "motet/error.hpp"

namespace motet {
namespace {

// <a, b> over the event dimensions, (B) float64.
Tensor event_dot(const Tensor& a, const Tensor& b) {
  return (a.to(at::kDouble) * b.to(at::kDouble)).flatten(1).sum(1);
}

void check_path(const Path& path) {
  if (path.points.size() < 2 || path.points.size() != path.evals.size()) {
    throw ShapeError("ratio: a path of " + std::to_string(path.points.size()) + " points and " +
                     std::to_string(path.evals.size()) +
                     " evaluations; give at least 2 points and one evaluation for each");
  }
}

// The closed-form part of the ratio; zeros where nothing is known in closed form.
Tensor exact_part(const Path& path) {
  const Eval& front = path.evals.front();
  const Eval& back = path.evals.back();
  if (back.log_density.defined()) {
    return back.log_density - front.log_density;
  }
  const Tensor& x = path.points.front();
  return at::zeros({x.size(0)}, x.options().dtype(at::kDouble));
}

class ExactRatio : public LogRatio {
 public:
  Tensor estimate(const Target& target, const Path& path) const override {
    check_path(path);
    if (!target.is_exact()) {
      throw ConfigError("ratio: exact needs log densities, but \"" + target.model().describe() +
                        "\" gives only scores; use a line or curve ratio, or energy models");
    }
    return exact_part(path);
  }
  int64_t num_evaluations() const override { return 0; }
  std::string describe() const override { return "exact difference of log densities"; }
};

struct Quadrature {
  std::vector<double> nodes;    // in [0, 1], ends included
  std::vector<double> weights;  // sum to 1
};

// Values of the Legendre polynomials P_n(x) and P_{n-1}(x).
std::pair<double, double> legendre(int64_t n, double x) {
  double previous = 1.0;
  double current = x;
  for (int64_t k = 2; k <= n; ++k) {
    const auto degree = static_cast<double>(k);
    const double next = ((2.0 * degree - 1.0) * x * current - (degree - 1.0) * previous) / degree;
    previous = current;
    current = next;
  }
  return {current, previous};
}

// Nodes are the ends and the zeros of P'_{n-1}; weights 2 / (n (n-1) P_{n-1}(x)^2) on [-1, 1]
// (Abramowitz and Stegun 25.4.32). Newton's iteration on (1 - x^2) P'_{n-1}(x) = (n-1) (P_{n-2}(x)
// - x P_{n-1}(x)), from Chebyshev points.
Quadrature gauss_lobatto(int64_t num_points) {
  Quadrature rule;
  const int64_t degree = num_points - 1;
  const auto n = static_cast<double>(num_points);
  for (int64_t i = 0; i < num_points; ++i) {
    double x = -std::cos(std::numbers::pi * static_cast<double>(i) / static_cast<double>(degree));
    for (int iteration = 0; iteration < 50; ++iteration) {
      const auto [p, p_below] = legendre(degree, x);
      const double correction = (x * p - p_below) / (n * p);
      x -= correction;
      if (std::abs(correction) < 1e-16) {
        break;
      }
    }
    const double p = legendre(degree, x).first;
    rule.nodes.push_back(0.5 * (x + 1.0));
    rule.weights.push_back(1.0 / (n * (n - 1.0) * p * p));
  }
  return rule;
}

Quadrature uniform_rule(int64_t num_points, LineRule rule) {
  Quadrature result;
  const int64_t last = num_points - 1;
  const double spacing = 1.0 / static_cast<double>(last);
  for (int64_t i = 0; i <= last; ++i) {
    const bool is_end = i == 0 || i == last;
    double weight = is_end ? 0.5 : 1.0;
    if (rule == LineRule::simpson) {
      weight = is_end ? 1.0 / 3.0 : (i % 2 == 1 ? 4.0 / 3.0 : 2.0 / 3.0);
    }
    result.nodes.push_back(static_cast<double>(i) * spacing);
    result.weights.push_back(weight * spacing);
  }
  return result;
}

class LineRatio : public LogRatio {
 public:
  LineRatio(int64_t num_points, LineRule rule)
      : rule_(rule),
        quadrature_(rule == LineRule::gauss_lobatto ? gauss_lobatto(num_points)
                                                    : uniform_rule(num_points, rule)) {}

  Tensor estimate(const Target& target, const Path& path) const override {
    check_path(path);
    const Tensor exact = exact_part(path);
    const Eval& front = path.evals.front();
    const Eval& back = path.evals.back();
    if (!front.remainder.defined()) {
      return exact;
    }
    const Tensor& start = path.points.front();
    const Tensor segment = path.points.back() - start;
    const size_t last = quadrature_.nodes.size() - 1;
    Tensor mean = (front.remainder.to(at::kDouble) * quadrature_.weights.front())
                      .add(back.remainder, quadrature_.weights.back());
    for (size_t i = 1; i < last; ++i) {
      const Eval inside = target.evaluate(start.add(segment, quadrature_.nodes[i]));
      mean.add_(inside.remainder, quadrature_.weights[i]);
    }
    return exact + event_dot(mean, segment);
  }

  int64_t num_evaluations() const override {
    return static_cast<int64_t>(quadrature_.nodes.size()) - 2;
  }

  std::string describe() const override {
    return std::to_string(quadrature_.nodes.size()) + "-point " + to_string(rule_) + " on the line";
  }

 private:
  LineRule rule_;
  Quadrature quadrature_;
};

class CurveRatio : public LogRatio {
 public:
  Tensor estimate(const Target& /*target*/, const Path& path) const override {
    check_path(path);
    Tensor sum = exact_part(path);
    if (!path.evals.front().remainder.defined()) {
      return sum;
    }
    for (size_t i = 1; i < path.points.size(); ++i) {
      const Tensor total = path.evals[i - 1].remainder + path.evals[i].remainder;
      sum = sum.add(event_dot(total, path.points[i] - path.points[i - 1]), 0.5);
    }
    return sum;
  }
  int64_t num_evaluations() const override { return 0; }
  std::string describe() const override { return "trapezoid on the curve"; }
};

constexpr std::pair<LineRule, const char*> kLineRules[] = {
    {LineRule::trapezoid, "trapezoid"},
    {LineRule::simpson, "simpson"},
    {LineRule::gauss_lobatto, "gauss_lobatto"}};

}  // namespace

Target::Target(ModelPtr model, NoiseLevel level) : model_(std::move(model)), level_(level) {
  if (model_ == nullptr) {
    throw ConfigError("target: no model given (null), must be a model");
  }
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

Eval Target::evaluate(const Tensor& x) const {
  const auto event = model_->event_shape();
  if (!x.defined() || x.dim() != static_cast<int64_t>(event.size()) + 1 ||
      x.sizes().slice(1) != at::IntArrayRef(event)) {
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
  const at::NoGradGuard no_grad;
  const auto start = std::chrono::steady_clock::now();
  Eval eval = model_->evaluate(x.detach(), level_);
  seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  ++num_evaluations_;
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
  return eval;
}

LogRatioPtr exact_ratio() { return std::make_shared<ExactRatio>(); }

LogRatioPtr line_ratio(int64_t num_points, LineRule rule) {
  if (num_points < 2 || num_points > 64) {
    throw ConfigError("ratio: line_ratio(num_points = " + std::to_string(num_points) +
                      "): must be between 2 and 64");
  }
  if (rule == LineRule::simpson && num_points % 2 == 0) {
    throw ConfigError("ratio: line_ratio(num_points = " + std::to_string(num_points) +
                      ", simpson): Simpson's rule needs an odd number of points, 3 or more");
  }
  return std::make_shared<LineRatio>(num_points, rule);
}

LogRatioPtr curve_ratio() { return std::make_shared<CurveRatio>(); }

std::string to_string(LineRule rule) {
  for (const auto& [value, name] : kLineRules) {
    if (value == rule) {
      return name;
    }
  }
  return "";
}

LineRule line_rule_from(const std::string& name) {
  for (const auto& [value, known] : kLineRules) {
    if (name == known) {
      return value;
    }
  }
  throw ConfigError("ratio: rule = \"" + name + "\", must be trapezoid, simpson or gauss_lobatto");
}

}  // namespace motet
