// log p(y) - log p(x) from scores: line integrals along a path whose ends, and often interior, are
// known.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "motet/model.hpp"

namespace motet {

/// What a kernel leaves invariant: a model at one level. Shapes are checked, graphs cut and
/// evaluations counted here and nowhere else.
class Target {
 public:
  Target(ModelPtr model, NoiseLevel level);
  /// One evaluation for every row of x. Throws ShapeError if x is not (B, *event).
  Eval evaluate(const Tensor& x) const;
  const NoiseLevel& level() const { return level_; }
  const Model& model() const { return *model_; }
  bool is_exact() const { return model_->is_exact(); }
  /// Calls of evaluate so far: evaluations per chain.
  int64_t num_evaluations() const { return num_evaluations_; }
  /// Wall seconds inside the model so far.
  double seconds() const { return seconds_; }

 private:
  ModelPtr model_;
  NoiseLevel level_;
  mutable int64_t num_evaluations_ = 0;
  mutable double seconds_ = 0.0;
};

/// Points that a proposal went through, from current (front) to proposed (back), with what is known
/// at each. HMC gives its L+1 leapfrog points, MALA its two ends.
struct Path {
  std::vector<Tensor> points;  ///< (B, *event) each
  std::vector<Eval> evals;     ///< same length
};

/// Estimator of log p(back) - log p(front), (B) float64: the exact part by difference, the
/// remainder by quadrature. Changes its sign when the path is reversed, so that a Metropolis test
/// with it stays reversible.
class LogRatio {
 public:
  virtual ~LogRatio() = default;
  /// Throws ShapeError when the path has under 2 points or the model lacks what the rule needs.
  virtual Tensor estimate(const Target& target, const Path& path) const = 0;
  /// Extra evaluations of one estimate on a target with a remainder (0 on exact targets).
  virtual int64_t num_evaluations() const = 0;
  virtual std::string describe() const = 0;
};
using LogRatioPtr = std::shared_ptr<const LogRatio>;

/// Log densities' difference ([S23] eq. 8). Throws ConfigError at the first estimate on a target
/// that is not exact.
LogRatioPtr exact_ratio();

enum class LineRule { trapezoid, simpson, gauss_lobatto };
/// Straight segment from front to back, num_points nodes, both ends included (ends are known:
/// num_points - 2 evaluations) ([S23] eq. 13; Simpson on a straight line: Remy et al. 2020).
/// Simpson needs an odd num_points >= 3.
LogRatioPtr line_ratio(int64_t num_points, LineRule rule = LineRule::trapezoid);

/// Trapezoid over the polyline of the path's own points: no evaluation ([S23] section 4; "4-curve"
/// for 3 leapfrogs).
LogRatioPtr curve_ratio();

std::string to_string(LineRule rule);
LineRule line_rule_from(const std::string& name);

}  // namespace motet
