// The straight line with as many points as each level needs, found by a pilot.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "motet/ratio.hpp"

namespace motet {

/// Number of Gauss-Lobatto points by the index of a level.
using LinePoints = std::map<int64_t, int64_t>;

/// line_ratio(N, rule) with N by the target's level: interior points only where noise has not yet
/// smoothed the score. N comes from choose_line_points on a pilot and is then fixed: were it chosen
/// from the proposals at hand, the way back could choose another, and the test would not be
/// reversible. num_evaluations() is that of the dearest level. Throws ConfigError for an empty table
/// and for N that line_ratio does not take; estimate() throws ConfigError on a level that is not in
/// the table.
LogRatioPtr adaptive_line_ratio(const LinePoints& num_points,
                                LineRule rule = LineRule::gauss_lobatto);

/// What choose_line_points looks for.
struct LineTolerance {
  double tolerance = 0.01;  ///< nats, > 0: error of the log ratio that may stay
  double quantile = 0.99;   ///< in (0, 1]: share of the proposals whose error must be below it
  int64_t max_points = 16;  ///< 2 .. 63: the most to try
};

/// What it found.
struct LineChoice {
  int64_t num_points = 2;  ///< N: the smallest that suffices, else max_points
  double error = 0.0;      ///< nats: the quantile of |N points - (N + 1) points|
  bool is_within_tolerance = false;
  int64_t num_evaluations = 0;  ///< spent, a proposal
};

/// Number of points for the target's level, from a pilot: the fronts and backs of a batch of
/// proposals, some hundred or more, as the unadjusted kernel makes them (its step takes them all).
/// The error of N points is estimated by an embedded pair, as the difference from N + 1, whose
/// error is smaller by two orders in the segment's length; both are blind to what lies between
/// their points. A difference that is not finite counts as infinite. Cost: sum of N - 1 evaluations
/// over the N tried; none on exact targets. Throws ConfigError for settings outside their ranges
/// and for a pilot without proposals, ShapeError as LogRatio::estimate.
LineChoice choose_line_points(const Target& target, const Path& pilot,
                              const LineTolerance& wanted = {});

/// For pilot runs only: the Gauss-Lobatto line with N chosen anew from the proposals at hand at every
/// estimate, so that chains depend on each other and no law is exactly invariant. What the last
/// estimate of each level chose makes the fixed adaptive_line_ratio() of the run that follows. Not
/// for use by several threads at once.
class PilotLineRatio : public LogRatio {
 public:
  /// Throws ConfigError as choose_line_points.
  explicit PilotLineRatio(const LineTolerance& wanted = {});
  /// Costs what choose_line_points costs and N - 2 evaluations more.
  Tensor estimate(const Target& target, const Path& path) const override;
  RatioPair estimate_pair(const Target& target, const Path& path) const override;
  /// Of the dearest estimate: when max_points do not suffice.
  int64_t num_evaluations() const override;
  std::string describe() const override;
  /// By the index of each level seen so far; max_points also where that does not suffice.
  const LinePoints& num_points() const { return num_points_; }

 private:
  LineTolerance wanted_;
  mutable LinePoints num_points_;
};

}  // namespace motet
