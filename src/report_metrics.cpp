// The report's tables: what was measured, in true and in published units, and what it means.
#include <algorithm>
#include <cmath>
#include <sstream>

#include "report_detail.hpp"
#include "svg_detail.hpp"

namespace motet::detail {
namespace {

using Json = nlohmann::json;

struct Column {
  const char* key;
  const char* title;
  int digits;
  const char* meaning;
};

// The exact product's own values are in docs/reproduction.md; here each column says how to read it.
constexpr Column kTrueUnits[] = {
    {"ll_true", "LL (nats)", 3,
     "Mean log likelihood of the samples under the true product. 3.4761 for exact samples; higher "
     "means too sharp, lower means stray points. Points of density zero are counted, not "
     "averaged."},
    {"num_outside_support", "outside support", 0, "Points where the true density is zero."},
    {"fraction_outside_modes", "outside modes", 4,
     "Share of points outside both modes of the product."},
    {"w2_folded", "folded W2", 4,
     "Transport distance to exact samples after folding y to |y|, so that the balance of the two "
     "modes does not count. Two exact sets of 2000 differ by .0045."},
    {"w2", "W2", 4,
     "Transport distance to exact samples. Two exact sets of 2000 differ by .08, because the "
     "number "
     "of points in each mode is random."},
    {"gmm", "GMM", 5,
     "Distance of the covariances of fitted two-component mixtures. .00006 for exact samples."},
    {"energy_distance", "energy distance", 5,
     "Energy distance to exact samples; 0 for equal laws."},
};
constexpr Column kPaperUnits[] = {
    {"ll_paper", "LL", 2,
     "As the reference code prints it: 6.192 below the true value, by a sign slip in the mixture's "
     "normaliser."},
    {"w2_paper", "W2", 2, "As the reference code prints it: W2 times sqrt(N / 2)."},
    {"gmm_paper", "GMM", 5, "As the reference code computes it, components unmatched."},
};

double number(const Json& json, const char* key) {
  return json.contains(key) && json.at(key).is_number() ? json.at(key).get<double>() : std::nan("");
}

// "± 0.018" under the number and quieter; nothing where there is no error bar.
std::string error_of(const Json& metrics, const Column& column) {
  if (!metrics.contains("errors") || !metrics.at("errors").contains(column.key)) {
    return "";
  }
  const double error = number(metrics.at("errors").at(column.key), "standard_error");
  return std::isfinite(error) ? "<br><span class=\"quiet\">\u00b1 " +
                                    fixed(error, std::max(column.digits, 1)) + "</span>"
                              : "";
}

template <size_t N>
std::string metric_cells(const Json& metrics, const Column (&columns)[N]) {
  std::string out;
  for (const Column& column : columns) {
    out += "<td>" + fixed(number(metrics, column.key), column.digits) + error_of(metrics, column) +
           "</td>";
  }
  return out;
}

template <size_t N>
std::string table(const std::vector<MetricsRow>& rows, const Json* exact,
                  const Column (&columns)[N], bool with_costs) {
  std::ostringstream out;
  out << "<div class=\"wide\"><table><tr><th>sampler</th>";
  for (const Column& column : columns) {
    out << "<th>" << escape(column.title) << "</th>";
  }
  out << (with_costs ? "<th>evaluations</th><th>seconds</th>" : "") << "</tr>\n";
  for (const MetricsRow& row : rows) {
    out << "<tr><td>" << escape(row.name) << "</td>"
        << metric_cells(row.json->at("metrics"), columns);
    if (with_costs) {
      out << "<td>" << row.json->at("evaluations_per_chain").get<int64_t>() << "</td><td>"
          << fixed(number(row.json->at("seconds"), "total"), 1) << "</td>";
    }
    out << "</tr>\n";
  }
  if (exact != nullptr) {
    out << "<tr class=\"exact\"><td>exact samples</td>"
        << metric_cells(exact->at("metrics"), columns) << (with_costs ? "<td></td><td></td>" : "")
        << "</tr>\n";
  }
  out << "</table></div>\n";
  return out.str();
}

template <size_t N>
std::string meanings(const Column (&columns)[N]) {
  std::string out = "<dl>";
  for (const Column& column : columns) {
    out += "<dt>" + escape(column.title) + "</dt><dd>" + escape(column.meaning) + "</dd>";
  }
  return out + "</dl>\n";
}

std::string costs(const std::vector<MetricsRow>& rows) {
  std::ostringstream out;
  out << "<h2>Cost</h2>\n<div class=\"wide\"><table><tr><th>sampler</th><th>evaluations per "
         "chain</th><th>seconds</th><th>in the models</th></tr>\n";
  for (const MetricsRow& row : rows) {
    const Json& seconds = row.json->at("seconds");
    out << "<tr><td>" << escape(row.name) << "</td><td>"
        << row.json->at("evaluations_per_chain").get<int64_t>() << "</td><td>"
        << fixed(number(seconds, "total"), 1) << "</td><td>" << fixed(number(seconds, "network"), 1)
        << "</td></tr>\n";
  }
  out << "</table></div>\n";
  return out.str();
}

}  // namespace

std::string fixed(double value, int digits) {
  if (!std::isfinite(value)) {
    return "-";
  }
  std::ostringstream out;
  out.setf(std::ios::fixed);
  out.precision(digits);
  out << value;
  return out.str();
}

std::string lead(const std::vector<MetricsRow>& rows) {
  const MetricsRow* best = nullptr;
  const MetricsRow* worst = nullptr;
  const auto outside = [](const MetricsRow& row) {
    return number(row.json->at("metrics"), "fraction_outside_modes");
  };
  for (const MetricsRow& row : rows) {
    if (!row.json->at("metrics").is_object()) {
      const Json& json = *row.json;
      return std::to_string(json.at("num_chains").get<int64_t>()) + " samples by " +
             escape(row.name) + ", " +
             std::to_string(json.at("evaluations_per_chain").get<int64_t>()) +
             " evaluations of each model per chain." +
             (json.contains("metrics_note")
                  ? " Metrics: " + escape(json.at("metrics_note").get<std::string>()) + "."
                  : "");
    }
    best = best == nullptr || outside(row) < outside(*best) ? &row : best;
    worst = worst == nullptr || outside(row) > outside(*worst) ? &row : worst;
  }
  const auto percent = [&](const MetricsRow& row) { return fixed(100.0 * outside(row), 1) + " %"; };
  if (rows.size() == 1) {
    return percent(*best) + " of the samples by " + escape(best->name) +
           " lie outside the modes of the product.";
  }
  return "Samplers of the same models: <b>" + escape(worst->name) + "</b> leaves " +
         percent(*worst) + " of its samples outside the modes of the product, <b>" +
         escape(best->name) + "</b> " + percent(*best) + ".";
}

std::string metrics_section(const std::vector<MetricsRow>& rows, const Json* exact) {
  for (const MetricsRow& row : rows) {
    if (!row.json->at("metrics").is_object()) {
      return costs(rows);
    }
  }
  return "<h2>Measured against exact samples</h2>\n" + table(rows, exact, kTrueUnits, true) +
         "<p class=\"quiet\">\u00b1: Monte-Carlo standard error over repeats of the run; the JSON "
         "says how "
         "each was found.</p>\n" +
         "<details open><summary>What the numbers mean</summary>\n" + meanings(kTrueUnits) +
         "</details>\n<h2>The same in the published table's units</h2>\n" +
         table(rows, exact, kPaperUnits, false) + "<details><summary>What differs</summary>\n" +
         meanings(kPaperUnits) + "</details>\n";
}

}  // namespace motet::detail
