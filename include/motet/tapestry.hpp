// Tapestries: models of small events on overlapping windows of a large canvas, as one model.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "motet/model.hpp"

namespace motet {

/// A model on a part of a canvas. Its events are (w), (h, w) or (C, h, w), as those of the canvas:
/// the last one or two dimensions are places, what is before them is the same everywhere.
struct Window {
  ModelPtr model;
  int64_t row = 0;        ///< of its first place; 0 where events have no rows
  int64_t column = 0;     ///< of its first place
  double exponent = 1.0;  ///< OverlapRule::product only
};

/// What is done where windows overlap. x_w is what window w sees of the canvas, s_w its score.
enum class OverlapRule {
  /// The mean of the windows' scores at each place, so that each place counts once: sum_w u_w(i)
  /// s_w(i), sum_w u_w(i) = 1 (Du et al. 2023, image tapestries; Bar-Tal et al. 2023). Where u_w
  /// varies over a window this is the gradient of nothing: docs/tapestry.md says what a corrected
  /// chain then has for its target. No log density, and Feynman-Kac weights stay 1.
  cover,
  /// p(x) proportional to prod_w p_w(x_w)^exponent: a law, whose score is the sum of the windows'.
  /// Exact where all windows are. Places under several windows are as much narrower.
  product,
};
std::string to_string(OverlapRule rule);
/// Throws ConfigError naming the allowed words.
OverlapRule overlap_rule_from(const std::string& name);

/// Size of a canvas, and how windows share it.
struct Canvas {
  int64_t height = 1;  ///< 1 where events have no rows
  int64_t width = 1;
  OverlapRule rule = OverlapRule::cover;
  /// cover: u_w rises linearly over so many places from the window's edges inwards, at least 0; 0:
  /// all windows count alike. The code of Du et al. has about 6 for windows of 64.
  double taper = 0.0;
  bool operator==(const Canvas&) const = default;
};

/// Row and column of num_rows x num_columns windows of height x width that overlap their neighbours
/// by `overlap` places, row by row. Throws ConfigError for counts and sizes < 1 and an overlap
/// outside [0, size).
std::vector<std::pair<int64_t, int64_t>> window_grid(int64_t num_rows, int64_t num_columns,
                                                     int64_t height, int64_t width,
                                                     int64_t overlap);

/// The windows as a model of canvas events (W), (H, W) or (C, H, W), at every level: laws that
/// diffuse do so window by window, since the noise of places is independent. Windows that share a
/// model, or a leaf of their compositions, are evaluated in one call, one row for each chain and
/// window: cost, the windows of each distinct leaf (chains x windows rows), each once. Under
/// `cover`, windows that do not overlap are an exact product. Throws ConfigError for no windows, a
/// null model, one that tracks log densities along chains, a bad exponent or taper, a window
/// outside the canvas, a place without a window, a place where exponents sum to 0 or less, and
/// schedules that differ; ShapeError for events of other ranks, or other channels than the first.
ModelPtr tapestry(std::vector<Window> windows, const Canvas& canvas);

}  // namespace motet
