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
  /// Throws ConfigError for a null model.
  Target(ModelPtr model, NoiseLevel level);
  /// One evaluation for every row of x. Throws ShapeError if x is not (B, *event), or if the model
  /// returns tensors of other shapes or breaks its promise to be exact; ConfigError for a model that
  /// tracks log densities, which need a ledger.
  Eval evaluate(const Tensor& x) const;
  /// The same where the tracked log densities at x are known: ledger (B, n) float64; undefined for
  /// models that track none.
  Eval evaluate(const Tensor& x, const Tensor& ledger) const;
  /// At high noise, where chains begin: tracked leaves are Gaussians of variance sigma^2 there, so
  /// their scores tell their log densities. For other models evaluate(x).
  Eval begin(const Tensor& x) const;
  /// At y, reached from x on a straight line: each tracked log density changes by the trapezoid of
  /// its leaf's score (exactly, where that leaf knows the difference). One evaluation.
  Eval evaluate_from(const Tensor& y, const Tensor& x, const Eval& at_x) const;
  /// `eval`, that of x, with another ledger; no evaluation.
  Eval with_ledger(const Eval& eval, const Tensor& ledger, const Tensor& x) const;
  /// Parts of the model that have an entry in the ledger; empty for models that track nothing.
  const std::vector<size_t>& tracked() const;
  const NoiseLevel& level() const { return level_; }
  const Model& model() const { return *model_; }
  /// Inverse square scales of the law's coordinates up to a common factor, (1, *event); undefined:
  /// all alike. Changes nothing of what is left invariant: Hamiltonian kernels move by it.
  const Tensor& mass() const { return mass_; }
  /// `mass`: one entry > 0 for each coordinate, in any shape; or undefined. Throws ShapeError for
  /// another number of entries.
  void set_mass(const Tensor& mass);
  bool is_exact() const { return model_->is_exact(); }
  /// Calls of evaluate so far: evaluations per chain.
  int64_t num_evaluations() const { return num_evaluations_; }
  /// Wall seconds inside the model so far.
  double seconds() const { return seconds_; }

 private:
  void check_point(const Tensor& x) const;
  void check_eval(const Eval& eval, const Tensor& x) const;
  void check_parts(const Eval& eval, const Tensor& x) const;
  std::vector<Eval> evaluate_parts(const Tensor& x) const;
  template <class Call>
  auto timed(const Call& call) const;

  ModelPtr model_;
  const TrackingModel* tracking_ = nullptr;  // model_, where it tracks anything
  NoiseLevel level_;
  Tensor mass_;
  mutable int64_t num_evaluations_ = 0;
  mutable double seconds_ = 0.0;
};

/// Points that a proposal went through, from current (front) to proposed (back), with what is known
/// at each. HMC gives its L+1 leapfrog points, MALA its two ends.
struct Path {
  std::vector<Tensor> points;  ///< (B, *event) each
  std::vector<Eval> evals;     ///< same length
};

/// A rule's estimate and, from the same points, that of a rule of lower order: how far they are
/// apart tells where neither can be trusted.
struct RatioPair {
  Tensor estimate;     ///< (B) float64, as LogRatio::estimate
  Tensor lower_order;  ///< (B) float64, nothing refused; undefined where the rule has no such pair
  /// The path's last Eval with the ledger as this rule finds it; no score where nothing is tracked:
  /// the path's own holds then.
  Eval back = {};
};

/// Estimator of log p(back) - log p(front), (B) float64: the exact part by difference, the
/// remainder by quadrature; of models that track log densities, each of these by the same rule on
/// its own leaf, then the difference of what the ledgers at both ends tell. Changes its sign when the path is reversed, as the true difference
/// does, whatever the quadrature error (with a ledger: to the order of the rule); or is -inf in both directions, where a guard refuses the
/// path.
class LogRatio {
 public:
  virtual ~LogRatio() = default;
  /// (B) float64. Throws ShapeError for a path of under 2 points or without one Eval a point,
  /// ConfigError when the model lacks what the rule needs.
  virtual Tensor estimate(const Target& target, const Path& path) const = 0;
  /// estimate() and its rival, at estimate()'s cost in evaluations: the trapezoid beside the
  /// polynomial curve rule on two segments or more; other rules have none. Throws as estimate().
  virtual RatioPair estimate_pair(const Target& target, const Path& path) const {
    return {estimate(target, path), {}};
  }
  /// Extra evaluations of one estimate on a target with a remainder (0 on exact targets).
  virtual int64_t num_evaluations() const = 0;
  virtual std::string describe() const = 0;
};
using LogRatioPtr = std::shared_ptr<const LogRatio>;

/// Log densities' difference ([S23] eq. 8): exact, no evaluation. Throws ConfigError at the first
/// estimate on a target that is not exact.
LogRatioPtr exact_ratio();

enum class LineRule { trapezoid, simpson, gauss_lobatto };
/// Straight segment from front to back, num_points = N nodes, both ends included (ends are known:
/// N - 2 evaluations) ([S23] eq. 13; Simpson on a straight line: Remy et al. 2020). Exact for
/// remainders that are polynomials along the line, of degree 1 (trapezoid), 3 (Simpson) or 2N - 3
/// (Gauss-Lobatto); else the error is of order l^3 / N^2, l^5 / N^4 or l^(2N-1) in the segment's
/// length l. Throws ConfigError for N outside 2 .. 64, and for an even N with Simpson.
LogRatioPtr line_ratio(int64_t num_points, LineRule rule = LineRule::trapezoid);

enum class CurveRule {
  /// Polyline ([S23] section 4; "4-curve" for 3 leapfrogs). Exact for linear remainders
  /// (Gaussians); else the error over a trajectory is of order h^3, and at a coarse step the test
  /// can leave more bias than no test would (docs/method.md, Log ratios).
  trapezoid,
  /// Positions and scores are interpolated by polynomials through the path's points, and the line
  /// integral of these is taken in closed form: order h^5 for 2 and 3 segments, h^7 for 4 and 5.
  /// Longer paths are cut into windows of at most 5 segments; one segment is the trapezoid. Needs
  /// points that are equidistant in time, as a trajectory's are.
  polynomial,
};
/// Line integral along the path's own points: no evaluation. guard > 0 (nats; polynomial only):
/// -inf, a clean rejection, where the polynomial and the trapezoid differ by more. The difference
/// keeps its size when the path is reversed, so a Metropolis test stays reversible; a trajectory
/// that leaves the region where the score is trusted can fool one rule, not both (docs/method.md,
/// Log ratios). No effect on paths of one segment, where the two rules are one. Throws ConfigError
/// for a guard that is negative or not finite, or given to the trapezoid.
LogRatioPtr curve_ratio(CurveRule rule = CurveRule::trapezoid, double guard = 0.0);

std::string to_string(LineRule rule);
/// Throws ConfigError naming the allowed words.
LineRule line_rule_from(const std::string& name);
std::string to_string(CurveRule rule);
CurveRule curve_rule_from(const std::string& name);

}  // namespace motet
