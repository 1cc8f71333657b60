// log p(back) - log p(front) along a path r(u), u in [0, 1] ([S23] eq. 8 and 13):
//   f = [log_density(back) - log_density(front)] + int_0^1 remainder(r(u)) . r'(u) du,
// the first part exact, the second by a quadrature that is symmetric in u, so that f changes sign
// with the path: without quadrature error a Metropolis test built on it is reversible.
#include "motet/ratio.hpp"

#include <torch/types.h>

#include <cmath>
#include <limits>
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

// The closed-form part of the ratio; zeros where nothing is known in closed form. Between two points
// outside a hard region (-inf both) the region says nothing: 0, not -inf + inf.
Tensor exact_part(const Tensor& x, const Eval& front, const Eval& back) {
  if (!back.log_density.defined()) {
    return at::zeros({x.size(0)}, x.options().dtype(at::kDouble));
  }
  constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();
  const Tensor outside =
      (front.log_density == kMinusInfinity).logical_and_(back.log_density == kMinusInfinity);
  return (back.log_density - front.log_density).masked_fill_(outside, 0.0);
}

Tensor exact_part(const Path& path) {
  return exact_part(path.points.front(), path.evals.front(), path.evals.back());
}

// The path as a part of the model sees it.
Path path_of_part(const Path& path, size_t part) {
  Path own{path.points, {}};
  for (const Eval& eval : path.evals) {
    own.evals.push_back(eval.parts[part]);
  }
  return own;
}

// The path's last Eval with its ledger by `integral`, the rule for remainders.
template <class Integral>
Eval settle_back(const Target& target, const Path& path, const Integral& integral) {
  std::vector<Tensor> changes;
  for (const size_t part : target.tracked()) {
    const Path own = path_of_part(path, part);
    Tensor change = exact_part(own);
    if (own.evals.front().remainder.defined()) {
      change = change + integral(own);
    }
    changes.push_back(change);
  }
  const Tensor ledger = path.evals.front().ledger + at::stack(changes, 1);
  return target.with_ledger(path.evals.back(), ledger, path.points.back());
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
    return estimate_pair(target, path).estimate;
  }

  RatioPair estimate_pair(const Target& target, const Path& path) const override {
    check_path(path);
    const bool is_tracked = !target.tracked().empty();
    if (!path.evals.front().remainder.defined() && !is_tracked) {
      return {exact_part(path), {}};
    }
    const Path line = points_on_line(target, path);
    const auto integral = [this](const Path& own) { return integrate(own); };
    const Eval& front = line.evals.front();
    const Eval back = is_tracked ? settle_back(target, line, integral) : line.evals.back();
    Tensor sum = exact_part(line.points.front(), front, back);
    if (front.remainder.defined()) {
      sum = sum + integrate(line);
    }
    return {sum, {}, is_tracked ? back : Eval{}};
  }

  int64_t num_evaluations() const override {
    return static_cast<int64_t>(quadrature_.nodes.size()) - 2;
  }

  std::string describe() const override {
    return std::to_string(quadrature_.nodes.size()) + "-point " + to_string(rule_) + " on the line";
  }

 private:
  // The straight segment's nodes, evaluated where they are not known.
  Path points_on_line(const Target& target, const Path& path) const {
    const Tensor& start = path.points.front();
    const Eval& front = path.evals.front();
    const Tensor segment = path.points.back() - start;
    Path line{{start}, {front}};
    for (size_t i = 1; i + 1 < quadrature_.nodes.size(); ++i) {
      const Tensor point = start.add(segment, quadrature_.nodes[i]);
      line.evals.push_back(target.evaluate_from(point, start, front));
      line.points.push_back(point);
    }
    line.points.push_back(path.points.back());
    line.evals.push_back(path.evals.back());
    return line;
  }

  Tensor integrate(const Path& line) const {
    Tensor mean = (line.evals.front().remainder.to(at::kDouble) * quadrature_.weights.front())
                      .add(line.evals.back().remainder, quadrature_.weights.back());
    for (size_t i = 1; i + 1 < line.evals.size(); ++i) {
      mean.add_(line.evals[i].remainder, quadrature_.weights[i]);
    }
    return event_dot(mean, line.points.back() - line.points.front());
  }

  LineRule rule_;
  Quadrature quadrature_;
};

using Matrix = std::vector<std::vector<double>>;
// Coefficients, constant first; long double, since terms of opposite sign cancel.
using Polynomial = std::vector<long double>;

// prod_{j != i} (t - j) over j = 0 .. degree: integers, exact in double.
Polynomial lagrange_numerator(int64_t degree, int64_t i) {
  Polynomial result = {1.0L};
  for (int64_t j = 0; j <= degree; ++j) {
    if (j == i) {
      continue;
    }
    Polynomial next(result.size() + 1, 0.0L);
    for (size_t k = 0; k < result.size(); ++k) {
      next[k + 1] += result[k];
      next[k] -= static_cast<long double>(j) * result[k];
    }
    result = std::move(next);
  }
  return result;
}

long double value_at(const Polynomial& polynomial, long double t) {
  long double value = 0.0L;
  for (size_t k = polynomial.size(); k-- > 0;) {
    value = value * t + polynomial[k];
  }
  return value;
}

// int_0^end a b' dt.
long double integral_of_slope(const Polynomial& a, const Polynomial& b, long double end) {
  long double sum = 0.0L;
  for (size_t k = 0; k < a.size(); ++k) {
    for (size_t m = 1; m < b.size(); ++m) {
      const auto power = static_cast<long double>(k + m);
      sum += a[k] * b[m] * static_cast<long double>(m) * std::pow(end, power) / power;
    }
  }
  return sum;
}

// W_ij = int_0^L l_i(t) l_j'(t) dt with the Lagrange polynomials l_i of the nodes 0 .. L.
Matrix polynomial_weights(int64_t num_segments) {
  const auto size = static_cast<size_t>(num_segments) + 1;
  std::vector<Polynomial> numerators;
  for (int64_t i = 0; i <= num_segments; ++i) {
    numerators.push_back(lagrange_numerator(num_segments, i));
  }
  Matrix weights(size, std::vector<double>(size));
  for (size_t i = 0; i < size; ++i) {
    for (size_t j = 0; j < size; ++j) {
      const long double scale = value_at(numerators[i], static_cast<long double>(i)) *
                                value_at(numerators[j], static_cast<long double>(j));
      const auto end = static_cast<long double>(num_segments);
      weights[i][j] =
          static_cast<double>(integral_of_slope(numerators[i], numerators[j], end) / scale);
    }
  }
  return weights;
}

// `total` as `count` parts as equal as can be, larger ones first.
std::vector<int64_t> equal_parts(int64_t total, int64_t count) {
  std::vector<int64_t> parts;
  for (int64_t i = 0; i < count; ++i) {
    parts.push_back(total / count + (i < total % count ? 1 : 0));
  }
  return parts;
}

constexpr int64_t kMaxWindow = 5;  // equidistant nodes: longer ones would oscillate (Runge)

const Matrix& weights_of(int64_t num_segments) {
  static const std::vector<Matrix> all = [] {
    std::vector<Matrix> list(1);
    for (int64_t n = 1; n <= kMaxWindow; ++n) {
      list.push_back(polynomial_weights(n));
    }
    return list;
  }();
  return all[static_cast<size_t>(num_segments)];
}

// Segments of each polynomial: as few as have at most kMaxWindow each and read the same from both
// ends, so that the rule changes its sign with the path.
std::vector<int64_t> windows(int64_t num_segments) {
  int64_t count = (num_segments + kMaxWindow - 1) / kMaxWindow;
  if (num_segments % 2 == 1 && count % 2 == 0) {
    ++count;  // an odd sum needs a middle
  }
  int64_t middle = 0;
  if (count % 2 == 1) {
    middle = num_segments / count;
    if ((num_segments - middle) % 2 == 1) {
      ++middle;
    }
  }
  std::vector<int64_t> half = equal_parts((num_segments - middle) / 2, count / 2);
  std::vector<int64_t> result = half;
  if (middle > 0) {
    result.push_back(middle);
  }
  result.insert(result.end(), half.rbegin(), half.rend());
  return result;
}

class CurveRatio : public LogRatio {
 public:
  CurveRatio(CurveRule rule, double guard) : rule_(rule), guard_(guard) {}

  Tensor estimate(const Target& target, const Path& path) const override {
    if (!target.tracked().empty()) {
      return estimate_tracked(target, path).estimate;
    }
    check_path(path);
    Tensor sum = exact_part(path);
    if (!path.evals.front().remainder.defined()) {
      return sum;
    }
    if (rule_ == CurveRule::trapezoid) {
      return sum + trapezoid(path);
    }
    const Tensor integral = polynomial(path);
    sum = sum + integral;
    return guard_ > 0.0 ? guarded(sum, integral, trapezoid(path)) : sum;
  }
  RatioPair estimate_pair(const Target& target, const Path& path) const override {
    if (!target.tracked().empty()) {
      return estimate_tracked(target, path);
    }
    if (rule_ == CurveRule::trapezoid || path.points.size() < 3) {
      return {estimate(target, path), {}};
    }
    check_path(path);
    const Tensor exact = exact_part(path);
    if (!path.evals.front().remainder.defined()) {
      return {exact, {}};
    }
    const Tensor integral = polynomial(path);
    const Tensor rough = trapezoid(path);
    return {guarded(exact + integral, integral, rough), exact + rough};
  }
  int64_t num_evaluations() const override { return 0; }
  std::string describe() const override {
    std::ostringstream text;
    text << to_string(rule_) << " on the curve";
    if (guard_ > 0.0) {
      text << ", guarded at " << guard_ << " nat";
    }
    return text.str();
  }

 private:
  // The path's own ledgers are the trapezoid's: each point's was found from the one before.
  RatioPair estimate_tracked(const Target& target, const Path& path) const {
    check_path(path);
    const Eval& front = path.evals.front();
    const bool has_remainder = front.remainder.defined();
    Tensor rough = exact_part(path);
    rough = has_remainder ? rough + trapezoid(path) : rough;
    if (rule_ == CurveRule::trapezoid || path.points.size() < 3) {
      return {rough, {}, path.evals.back()};
    }
    const Eval back = settle_back(target, path, [](const Path& own) { return polynomial(own); });
    Tensor fine = exact_part(path.points.front(), front, back);
    fine = has_remainder ? fine + polynomial(path) : fine;
    return {guarded(fine, fine, rough), rough, back};
  }

  // `ratio`, -inf where the two integrals are further apart than the guard allows.
  Tensor guarded(const Tensor& ratio, const Tensor& integral, const Tensor& rough) const {
    if (guard_ == 0.0) {
      return ratio;
    }
    const Tensor strays = (integral - rough).abs() > guard_;
    return ratio.masked_fill(strays, -std::numeric_limits<double>::infinity());
  }

  static Tensor trapezoid(const Path& path) {
    Tensor sum;
    for (size_t i = 1; i < path.points.size(); ++i) {
      const Tensor total = path.evals[i - 1].remainder + path.evals[i].remainder;
      const Tensor part = event_dot(total, path.points[i] - path.points[i - 1]);
      sum = sum.defined() ? sum.add_(part) : part;
    }
    return sum.mul_(0.5);
  }

  static Tensor polynomial(const Path& path) {
    Tensor sum;
    size_t first = 0;
    for (const int64_t part : windows(static_cast<int64_t>(path.points.size()) - 1)) {
      const Tensor integral = window(path, first, weights_of(part));
      sum = sum.defined() ? sum.add_(integral) : integral;
      first += static_cast<size_t>(part);
    }
    return sum;
  }

  // sum_ij W_ij s_i . x_j; rows of W sum to 0, so positions count from the window's first.
  static Tensor window(const Path& path, size_t first, const Matrix& weights) {
    const Tensor origin = path.points[first].to(at::kDouble);
    std::vector<Tensor> moves;
    for (size_t j = 1; j < weights.size(); ++j) {
      moves.push_back(path.points[first + j] - origin);
    }
    Tensor sum;
    for (size_t i = 0; i < weights.size(); ++i) {
      Tensor weighted = moves[0] * weights[i][1];
      for (size_t j = 2; j < weights.size(); ++j) {
        weighted.add_(moves[j - 1], weights[i][j]);
      }
      const Tensor term = event_dot(path.evals[first + i].remainder, weighted);
      sum = sum.defined() ? sum.add_(term) : term;
    }
    return sum;
  }

  CurveRule rule_;
  double guard_;
};

template <class Table, class Rule>
std::string name_in(const Table& table, Rule rule) {
  for (const auto& [value, name] : table) {
    if (value == rule) {
      return name;
    }
  }
  return "";
}

constexpr std::pair<CurveRule, const char*> kCurveRules[] = {{CurveRule::trapezoid, "trapezoid"},
                                                             {CurveRule::polynomial, "polynomial"}};

constexpr std::pair<LineRule, const char*> kLineRules[] = {
    {LineRule::trapezoid, "trapezoid"},
    {LineRule::simpson, "simpson"},
    {LineRule::gauss_lobatto, "gauss_lobatto"}};

}  // namespace

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

LogRatioPtr curve_ratio(CurveRule rule, double guard) {
  std::ostringstream text;
  if (!(guard >= 0.0) || !std::isfinite(guard)) {
    text << "ratio: curve_ratio(guard = " << guard << "): must be >= 0 and finite";
    throw ConfigError(text.str());
  }
  if (guard > 0.0 && rule != CurveRule::polynomial) {
    text << "ratio: curve_ratio(" << to_string(rule) << ", guard = " << guard
         << "): the guard compares the polynomial with the trapezoid; use polynomial";
    throw ConfigError(text.str());
  }
  return std::make_shared<CurveRatio>(rule, guard);
}

std::string to_string(CurveRule rule) { return name_in(kCurveRules, rule); }

CurveRule curve_rule_from(const std::string& name) {
  for (const auto& [value, known] : kCurveRules) {
    if (name == known) {
      return value;
    }
  }
  throw ConfigError("ratio: rule = \"" + name + "\", must be trapezoid or polynomial on a curve");
}

std::string to_string(LineRule rule) { return name_in(kLineRules, rule); }

LineRule line_rule_from(const std::string& name) {
  for (const auto& [value, known] : kLineRules) {
    if (name == known) {
      return value;
    }
  }
  throw ConfigError("ratio: rule = \"" + name + "\", must be trapezoid, simpson or gauss_lobatto");
}

}  // namespace motet
