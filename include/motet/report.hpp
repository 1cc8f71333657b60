// Pictures and pages: SVG panels, and one self-contained HTML report (no network, no scripts).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "motet/run.hpp"

namespace motet {

/// What one panel shows of the plane.
struct View {
  double low_x = -1.0, high_x = 1.0;
  double low_y = -1.0, high_y = 1.0;
};
/// A square view around the origin that holds 99.5 % of all points (N, 2), with a margin: a few
/// stray points do not shrink the rest. Non-finite points do not count. Throws ShapeError for other
/// shapes.
View view_of(const std::vector<Tensor>& points);

/// Points (N, 2) in one colour.
struct ScatterLayer {
  Tensor points;
  std::string colour_class;  ///< "samples" or "reference": coloured by the page's style
  double radius = 1.2;       ///< pixels
  double opacity = 0.5;
};
/// One scatter panel with a frame, ticks and a title.
struct ScatterPanel {
  std::string title;
  std::string caption;  ///< under the title, smaller
  std::vector<ScatterLayer> layers;
};
/// A curve over a horizontal axis of level indices (high noise left).
struct Curve {
  std::string label;
  std::vector<double> x;
  std::vector<double> y;  ///< NaN: a gap
};

/// Panels side by side, `num_columns` in a row, all with the same view. A whole <svg> element with
/// its own style, readable alone and inside a page, on light and dark backgrounds. Points outside
/// the view are not drawn but counted in the caption. Throws ShapeError for points that are not
/// (N, 2), ConfigError for no panel or num_columns < 1.
std::string scatter_svg(const std::vector<ScatterPanel>& panels, const View& view, int num_columns);
/// Which values the y axis of a line chart shows.
enum class YAxis { fitted, from_zero, logarithmic };
/// One line chart of up to six curves (then the colours repeat). A whole <svg> element. `x_label`
/// names a rising axis; empty: level indices. Throws ShapeError for a curve with more x than y or
/// fewer.
std::string line_svg(const std::string& title, const std::string& y_label,
                     const std::vector<Curve>& curves, YAxis y_axis = YAxis::fitted,
                     const std::string& x_label = "");

/// One row of an interval chart: a number, two error bars, what it is made of and what it should be.
struct Interval {
  std::string label;
  double value = 0.0;
  double inner_error = 0.0;   ///< half the thick bar
  double outer_error = 0.0;   ///< half the thin bar; NaN: none
  std::vector<double> parts;  ///< small dots
  double exact = 0.0;         ///< a tick; NaN: none
};
/// Rows below each other over one axis. A whole <svg> element. Throws ConfigError for no row.
std::string interval_svg(const std::string& title, const std::string& caption,
                         const std::vector<Interval>& rows);

/// Histogram of values of any shape in 61 bins around 0, over 99 % of their sizes; those beyond and
/// those not finite are counted in the caption, which calls a value one of `unit`. A whole <svg>
/// element.
std::string histogram_svg(const std::string& title, const std::string& x_label,
                          const Tensor& values, const std::string& unit = "particles");

/// A finished run under the name its panel has.
struct NamedRun {
  std::string name;
  RunReport report;
};
/// The HTML report of one or several sampling runs of the same target: pictures (scatter plots of
/// points in the plane; of images (1 or 3, H, W) the samples themselves, a few chains on their way,
/// values and spatial frequencies), metrics in both
/// unit systems with what each means, configs to run again, environment, citations. `exact` (the
/// metrics of another set of exact samples) becomes the last row: what no sampler can beat.
/// Throws ConfigError for no runs.
std::string sample_report(const std::vector<NamedRun>& runs,
                          const std::optional<ProductMetrics>& exact = std::nullopt);

/// BibTeX entries of the papers that the run with this JSON rests on. Throws DataError when it is
/// not the JSON of a motet run (`name` is for the message).
std::string citations(const std::string& json, const std::string& name);

}  // namespace motet
