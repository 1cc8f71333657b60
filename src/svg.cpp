// Scatter panels and line charts as SVG text. Points are zero-length strokes with round caps (12
// bytes each, not a 40-byte circle), in chunks: chunks overlay, so dense places look dense. Paths
// grow by append(): at -O3 g++ 12 sees overruns in "M" + text that are not there (as in gcc bug
// 105651).
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <sstream>

#include "motet/error.hpp"
#include "motet/report.hpp"
#include "svg_detail.hpp"

namespace motet {
namespace {

using detail::escape;
using detail::pixels;

constexpr double kPanel = 220.0;     // side of a panel's square
constexpr double kLeft = 40.0;       // room for tick labels
constexpr double kGap = 16.0;        // between panels
constexpr double kTop = 44.0;        // title and caption
constexpr double kBottom = 26.0;     // tick labels
constexpr int64_t kChunk = 125;      // points of one path
constexpr double kChartWidth = 640;  // plot area of a line chart
constexpr double kChartHeight = 190;

const char* const kStyle =
    "<style>"
    "text{font:12px system-ui,sans-serif;fill:#1f2430}"
    ".title{font-weight:600;font-size:13px}.minor{fill:#5d6675;font-size:11px}"
    ".frame{fill:none;stroke:#aab2bf}.grid{stroke:#e3e7ed;fill:none}"
    ".samples{stroke:#1d5fd6}.reference{stroke:#9aa3b0}"
    ".c0{stroke:#1d5fd6}.c1{stroke:#d9480f}.c2{stroke:#2b8a3e}.c3{stroke:#862e9c}"
    ".c4{stroke:#b08900}.c5{stroke:#0b7285}"
    ".dots{fill:none;stroke-linecap:round}.curve{fill:none;stroke-width:1.6;stroke-linejoin:round}"
    ".bars{fill:#1d5fd6;fill-opacity:.75}"
    ".inner{stroke:#1d5fd6;stroke-width:7;stroke-opacity:.45}.outer{stroke:#1d5fd6;stroke-width:1."
    "6}"
    ".exact{stroke:#d9480f;stroke-width:2.4}"
    "@media (prefers-color-scheme:dark){text{fill:#e6e9ef}.minor{fill:#a3adbb}"
    ".frame{stroke:#566070}.grid{stroke:#2c333e}.samples{stroke:#74b0ff}.reference{stroke:#6d7683}"
    ".c0{stroke:#74b0ff}.c1{stroke:#ff9a62}.c2{stroke:#6fd383}.c3{stroke:#d597ea}"
    ".c4{stroke:#e4c65b}.c5{stroke:#63d3e6}.bars{fill:#74b0ff}"
    ".inner,.outer{stroke:#74b0ff}.exact{stroke:#ff9a62}}"
    "</style>";

std::string open_svg(double width, double height, const std::string& label) {
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + pixels(width) + " " +
         pixels(height) + "\" width=\"" + pixels(width) + "\" role=\"img\" aria-label=\"" +
         escape(label) + "\">" + kStyle;
}

std::string text_at(double x, double y, const std::string& text, const std::string& css,
                    const std::string& anchor) {
  return "<text x=\"" + pixels(x) + "\" y=\"" + pixels(y) + "\" class=\"" + css +
         "\" text-anchor=\"" + anchor + "\">" + escape(text) + "</text>";
}

std::string line_between(double x1, double y1, double x2, double y2) {
  return "<path class=\"grid\" d=\"M" + pixels(x1) + " " + pixels(y1) + "L" + pixels(x2) + " " +
         pixels(y2) + "\"/>";
}

// A linear map of an interval of data to pixels.
struct Axis {
  double low, high, from, to;
  double at(double value) const { return from + (value - low) / (high - low) * (to - from); }
};

std::string scatter_frame(const Axis& x, const Axis& y, bool label_y) {
  std::string out;
  for (const double tick : detail::nice_ticks(x.low, x.high, 5)) {
    out += line_between(x.at(tick), y.from, x.at(tick), y.to);
    out += text_at(x.at(tick), y.from + 15.0, detail::tick_text(tick), "minor", "middle");
  }
  for (const double tick : detail::nice_ticks(y.low, y.high, 5)) {
    out += line_between(x.from, y.at(tick), x.to, y.at(tick));
    if (label_y) {
      out += text_at(x.from - 6.0, y.at(tick) + 4.0, detail::tick_text(tick), "minor", "end");
    }
  }
  out += "<rect class=\"frame\" x=\"" + pixels(x.from) + "\" y=\"" + pixels(y.to) + "\" width=\"" +
         pixels(x.to - x.from) + "\" height=\"" + pixels(y.from - y.to) + "\"/>";
  return out;
}

Tensor as_points(const Tensor& points) {
  if (points.dim() != 2 || points.size(1) != 2) {
    std::ostringstream text;
    text << "svg: points of shape " << points.sizes() << ", must be (N, 2)";
    throw ShapeError(text.str());
  }
  return points.detach().to(at::kCPU, at::kDouble).contiguous();
}

// The layer's dots; counts those outside the view.
std::string dots(const ScatterLayer& layer, const Axis& x, const Axis& y, int64_t& num_outside) {
  const Tensor points = as_points(layer.points);
  const auto table = points.accessor<double, 2>();
  const std::string open = "<path class=\"dots " + escape(layer.colour_class) +
                           "\" stroke-width=\"" + pixels(2.0 * layer.radius) +
                           "\" stroke-opacity=\"" + pixels(layer.opacity) + "\" d=\"";
  std::string out;
  std::string path;
  for (int64_t i = 0; i < points.size(0); ++i) {
    const double px = table[i][0];
    const double py = table[i][1];
    if (px >= x.low && px <= x.high && py >= y.low && py <= y.high) {
      path.append("M").append(pixels(x.at(px)));
      path.append(" ").append(pixels(y.at(py))).append("h0");
    } else {
      ++num_outside;
    }
    if ((i + 1) % kChunk == 0 || i + 1 == points.size(0)) {
      out += path.empty() ? "" : open + path + "\"/>";
      path.clear();
    }
  }
  return out;
}

std::string draw_panel(const ScatterPanel& panel, const View& view, double left, double top,
                       bool label_y) {
  const Axis x{view.low_x, view.high_x, left, left + kPanel};
  const Axis y{view.low_y, view.high_y, top + kPanel, top};
  std::string out = scatter_frame(x, y, label_y);
  int64_t num_outside = 0;
  for (const ScatterLayer& layer : panel.layers) {
    out += dots(layer, x, y, num_outside);
  }
  std::string caption = panel.caption;
  if (num_outside > 0) {
    caption += (caption.empty() ? "" : "; ") + std::to_string(num_outside) + " outside the view";
  }
  out += text_at(left, top - 22.0, panel.title, "title", "start");
  out += text_at(left, top - 7.0, caption, "minor", "start");
  return out;
}

Axis value_axis(const std::vector<Curve>& curves, YAxis kind) {
  const bool log_y = kind == YAxis::logarithmic;
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  for (const Curve& curve : curves) {
    for (const double value : curve.y) {
      if (std::isfinite(value) && (!log_y || value > 0.0)) {
        low = std::min(low, log_y ? std::log10(value) : value);
        high = std::max(high, log_y ? std::log10(value) : value);
      }
    }
  }
  if (!(low <= high)) {
    low = 0.0;
    high = 1.0;
  }
  if (kind == YAxis::from_zero) {
    low = std::min(low, 0.0);
  }
  const double margin = high > low ? 0.06 * (high - low) : std::max(0.05 * std::abs(high), 0.01);
  const double bottom = kind == YAxis::from_zero && low == 0.0 ? 0.0 : low - margin;
  return {bottom, high + margin, kTop + kChartHeight, kTop};
}

// 1, 2 and 5 times powers of ten inside the axis of log10 values.
std::vector<double> log_ticks(const Axis& y) {
  std::vector<double> ticks;
  for (double decade = std::floor(y.low); decade <= y.high; decade += 1.0) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double value = factor * std::pow(10.0, decade);
      if (std::log10(value) >= y.low && std::log10(value) <= y.high) {
        ticks.push_back(value);
      }
    }
  }
  return ticks;
}

Axis level_axis(const std::vector<Curve>& curves) {
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  for (const Curve& curve : curves) {
    for (const double level : curve.x) {
      low = std::min(low, level);
      high = std::max(high, level);
    }
  }
  if (!(low < high)) {
    low = std::isfinite(low) ? low - 0.5 : 0.0;
    high = low + 1.0;
  }
  return {high, low, kLeft + 14.0, kLeft + 14.0 + kChartWidth};  // high noise left
}

std::string draw_curve(const Curve& curve, const Axis& x, const Axis& y, bool log_y,
                       size_t colour) {
  std::string path;
  bool pen_down = false;
  for (size_t i = 0; i < curve.x.size(); ++i) {
    const double value = log_y ? std::log10(curve.y[i]) : curve.y[i];
    if (!std::isfinite(value)) {
      pen_down = false;
      continue;
    }
    path.append(pen_down ? "L" : "M").append(pixels(x.at(curve.x[i])));
    path.append(" ").append(pixels(y.at(value)));
    pen_down = true;
  }
  return "<path class=\"curve c" + std::to_string(colour) + "\" d=\"" + path + "\"/>";
}

// Largest |value| of the middle 99 %, so that a few outliers do not flatten all bars.
double histogram_reach(const std::vector<double>& values) {
  std::vector<double> sizes;
  for (const double value : values) {
    sizes.push_back(std::abs(value));
  }
  if (sizes.empty()) {
    return 1.0;
  }
  const auto rank = static_cast<std::ptrdiff_t>(0.99 * static_cast<double>(sizes.size() - 1));
  std::nth_element(sizes.begin(), sizes.begin() + rank, sizes.end());
  return std::max(1.02 * sizes[static_cast<size_t>(rank)], 1e-12);
}

std::string draw_bars(const std::vector<int64_t>& counts, const Axis& x, const Axis& y) {
  std::string path;
  const double width = (x.high - x.low) / static_cast<double>(counts.size());
  for (size_t i = 0; i < counts.size(); ++i) {
    const double left = x.at(x.low + width * static_cast<double>(i));
    const double right = x.at(x.low + width * static_cast<double>(i + 1));
    if (counts[i] > 0) {
      path.append("M").append(pixels(left)).append(" ").append(pixels(y.from));
      path.append("V").append(pixels(y.at(static_cast<double>(counts[i]))));
      path.append("H").append(pixels(right)).append("V").append(pixels(y.from)).append("Z");
    }
  }
  return "<path class=\"bars\" d=\"" + path + "\"/>";
}

// The span of all that an interval chart shows.
Axis interval_axis(const std::vector<Interval>& rows, double from, double to) {
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  const auto include = [&](double value) {
    if (std::isfinite(value)) {
      low = std::min(low, value);
      high = std::max(high, value);
    }
  };
  for (const Interval& row : rows) {
    for (const double error : {row.inner_error, row.outer_error}) {
      include(row.value - error);
      include(row.value + error);
    }
    include(row.value);
    include(row.exact);
    std::for_each(row.parts.begin(), row.parts.end(), include);
  }
  if (!(low <= high)) {
    low = 0.0;
    high = 1.0;
  }
  const double margin = high > low ? 0.05 * (high - low) : std::max(0.05 * std::abs(high), 0.01);
  return {low - margin, high + margin, from, to};
}

std::string stroke(const std::string& css, double x1, double y1, double x2, double y2) {
  return "<path class=\"" + css + "\" d=\"M" + pixels(x1) + " " + pixels(y1) + "L" + pixels(x2) +
         " " + pixels(y2) + "\"/>";
}

std::string draw_interval(const Interval& row, const Axis& x, double y) {
  constexpr double kHalf = 8.0;  // height of the exact tick
  std::string path;
  for (const double part : row.parts) {
    if (std::isfinite(part)) {
      path.append("M").append(pixels(x.at(part))).append(" ").append(pixels(y)).append("h0");
    }
  }
  std::string out =
      path.empty() ? "" : "<path class=\"dots reference\" stroke-width=\"5\" d=\"" + path + "\"/>";
  const auto bar = [&](const char* css, double error) {
    out += std::isfinite(error)
               ? stroke(css, x.at(row.value - error), y, x.at(row.value + error), y)
               : "";
  };
  bar("inner", row.inner_error);
  bar("outer", row.outer_error);
  if (std::isfinite(row.exact)) {
    out += stroke("exact", x.at(row.exact), y - kHalf, x.at(row.exact), y + kHalf);
  }
  return out + "<path class=\"dots samples\" stroke-width=\"6\" d=\"M" + pixels(x.at(row.value)) +
         " " + pixels(y) + "h0\"/>";
}

}  // namespace

std::string interval_svg(const std::string& title, const std::string& caption,
                         const std::vector<Interval>& rows) {
  if (rows.empty()) {
    throw ConfigError("svg: interval_svg() of no rows; give at least one");
  }
  constexpr double kLabel = 170.0;
  constexpr double kRow = 26.0;
  const Axis x = interval_axis(rows, kLabel, kLabel + 460.0);
  const double bottom = kTop + kRow * static_cast<double>(rows.size());
  std::string out = open_svg(x.to + kGap, bottom + 30.0, title);
  out += text_at(8.0, kTop - 22.0, title, "title", "start");
  out += text_at(8.0, kTop - 7.0, caption, "minor", "start");
  for (const double tick : detail::nice_ticks(x.low, x.high, 8)) {
    out += line_between(x.at(tick), kTop + 4.0, x.at(tick), bottom);
    out += text_at(x.at(tick), bottom + 15.0, detail::tick_text(tick), "minor", "middle");
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    const double y = kTop + kRow * (static_cast<double>(i) + 0.5);
    out += text_at(kLabel - 10.0, y + 4.0, rows[i].label, "minor", "end");
    out += draw_interval(rows[i], x, y);
  }
  return out + "</svg>";
}

std::string histogram_svg(const std::string& title, const std::string& x_label,
                          const Tensor& values, const std::string& unit) {
  constexpr size_t kBins = 61;  // odd: one bin is centred on 0
  const Tensor flat = values.detach().to(at::kCPU, at::kDouble).flatten().contiguous();
  const double* data = flat.const_data_ptr<double>();
  std::vector<double> finite;
  std::copy_if(data, data + flat.numel(), std::back_inserter(finite),
               [](double value) { return std::isfinite(value); });
  const double reach = histogram_reach(finite);
  std::vector<int64_t> counts(kBins, 0);
  int64_t num_outside = flat.numel() - static_cast<int64_t>(finite.size());
  for (const double value : finite) {
    const double place = (value / reach + 1.0) * 0.5 * static_cast<double>(kBins);
    if (place >= 0.0 && place < static_cast<double>(kBins)) {
      ++counts[static_cast<size_t>(place)];
    } else {
      ++num_outside;
    }
  }
  const auto most = static_cast<double>(*std::max_element(counts.begin(), counts.end()));
  const Axis x{-reach, reach, kLeft + 14.0, kLeft + 14.0 + kChartWidth};
  const Axis y{0.0, std::max(1.0, 1.06 * most), kTop + kChartHeight, kTop};
  const std::string caption =
      unit + " a bin" +
      (num_outside > 0 ? "; " + std::to_string(num_outside) + " outside the view" : "");
  std::string out = open_svg(x.to + kGap, kTop + kChartHeight + 44.0, title);
  out += text_at(x.from, kTop - 22.0, title, "title", "start");
  out += text_at(x.from, kTop - 7.0, caption, "minor", "start");
  for (const double value : detail::nice_ticks(y.low, y.high, 5)) {
    out += line_between(x.from, y.at(value), x.to, y.at(value));
    out += text_at(x.from - 6.0, y.at(value) + 4.0, detail::tick_text(value), "minor", "end");
  }
  for (const double tick : detail::nice_ticks(x.low, x.high, 8)) {
    out += text_at(x.at(tick), y.from + 15.0, detail::tick_text(tick), "minor", "middle");
  }
  out += text_at((x.from + x.to) / 2.0, y.from + 32.0, x_label, "minor", "middle");
  return out + draw_bars(counts, x, y) + "</svg>";
}

View view_of(const std::vector<Tensor>& points) {
  std::vector<double> extent;
  for (const Tensor& set : points) {
    const Tensor flat = as_points(set).abs().amax(1);
    const double* values = flat.const_data_ptr<double>();
    std::copy_if(values, values + flat.numel(), std::back_inserter(extent),
                 [](double value) { return std::isfinite(value); });
  }
  if (extent.empty()) {
    return {};
  }
  // A stray point in two hundred is counted in the caption rather than shrinking all the rest.
  const auto rank = static_cast<std::ptrdiff_t>(0.995 * static_cast<double>(extent.size() - 1));
  std::nth_element(extent.begin(), extent.begin() + rank, extent.end());
  const double half = std::max(1.1 * extent[static_cast<size_t>(rank)], 1e-6);
  return {-half, half, -half, half};
}

std::string scatter_svg(const std::vector<ScatterPanel>& panels, const View& view,
                        int num_columns) {
  if (num_columns < 1 || panels.empty()) {
    throw ConfigError("svg: scatter_svg(" + std::to_string(panels.size()) +
                      " panels, num_columns = " + std::to_string(num_columns) +
                      "): both must be >= 1");
  }
  const int columns = std::min(num_columns, static_cast<int>(panels.size()));
  const int rows = (static_cast<int>(panels.size()) + columns - 1) / columns;
  const double width = kLeft + columns * (kPanel + kGap);
  const double height = rows * (kTop + kPanel + kBottom);
  std::string label;
  std::string body;
  for (size_t i = 0; i < panels.size(); ++i) {
    const int column = static_cast<int>(i) % columns;
    const int row = static_cast<int>(i) / columns;
    body += draw_panel(panels[i], view, kLeft + column * (kPanel + kGap),
                       row * (kTop + kPanel + kBottom) + kTop, column == 0);
    label += (i == 0 ? "Scatter of " : ", ") + panels[i].title;
  }
  return open_svg(width, height, label) + body + "</svg>";
}

std::string line_svg(const std::string& title, const std::string& y_label,
                     const std::vector<Curve>& curves, YAxis y_axis, const std::string& x_label) {
  for (const Curve& curve : curves) {
    if (curve.x.size() != curve.y.size()) {
      throw ShapeError("svg: curve \"" + curve.label + "\" has " + std::to_string(curve.x.size()) +
                       " x and " + std::to_string(curve.y.size()) + " y, must have as many");
    }
  }
  const bool log_y = y_axis == YAxis::logarithmic;
  constexpr double kLegend = 170.0;
  const bool is_rising = !x_label.empty();
  Axis x = level_axis(curves);
  if (is_rising) {
    std::swap(x.low, x.high);
  }
  const Axis y = value_axis(curves, y_axis);
  std::string out = open_svg(x.to + kLegend, kTop + kChartHeight + 44.0, title);
  out += text_at(x.from, kTop - 22.0, title, "title", "start");
  out += text_at(x.from, kTop - 7.0, y_label, "minor", "start");
  for (const double value : log_y ? log_ticks(y) : detail::nice_ticks(y.low, y.high, 5)) {
    const double place = y.at(log_y ? std::log10(value) : value);
    out += line_between(x.from, place, x.to, place);
    out += text_at(x.from - 6.0, place + 4.0, detail::tick_text(value), "minor", "end");
  }
  for (const double tick :
       detail::nice_ticks(std::min(x.low, x.high), std::max(x.low, x.high), 10)) {
    out += text_at(x.at(tick), y.from + 15.0, detail::tick_text(tick), "minor", "middle");
  }
  out += text_at((x.from + x.to) / 2.0, y.from + 32.0,
                 is_rising ? x_label : "noise level (high noise left)", "minor", "middle");
  constexpr size_t kColours = 6;
  for (size_t i = 0; i < curves.size(); ++i) {
    const double legend_y = kTop + 8.0 + 17.0 * static_cast<double>(i);
    out += draw_curve(curves[i], x, y, log_y, i % kColours);
    out += "<path class=\"curve c" + std::to_string(i % kColours) + "\" d=\"M" +
           pixels(x.to + 10.0) + " " + pixels(legend_y) + "h18\"/>";
    out += text_at(x.to + 34.0, legend_y + 4.0, curves[i].label, "minor", "start");
  }
  return out + "</svg>";
}

}  // namespace motet
