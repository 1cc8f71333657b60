// The straight line with as many points as each level needs, found by a pilot.
#pragma once

#include <cstdint>
#include <map>

#include "motet/ratio.hpp"

namespace motet {

/// Number of Gauss-Lobatto points by the index of a level.
using LinePoints = std::map<int64_t, int64_t>;

/// line_ratio(N, gauss_lobatto) with N by the target's level: interior points only where noise has
/// not yet smoothed the score. N comes from choose_line_points on a pilot and is then fixed: were
/// it chosen from the proposals at hand, the way back could choose another, and the test would not
/// be reversible. num_evaluations() is that of the dearest level. Throws ConfigError for an empty
/// table and for N outside 2 .. 64; estimate() throws ConfigError on a level that is not in the
/// table.
LogRatioPtr adaptive_line_ratio(const LinePoints& num_points);

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

}  // namespace motet
