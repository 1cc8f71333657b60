// The report's part about the chains themselves: whether islands agree, how the modes are shared out,
// and what a few chains did on their way down.
#include <algorithm>
#include <cmath>
#include <sstream>

#include "motet/report.hpp"
#include "report_detail.hpp"
#include "svg_detail.hpp"

namespace motet::detail {
namespace {

using Json = nlohmann::json;

double number(const Json& json, const char* key) {
  return json.contains(key) && json.at(key).is_number() ? json.at(key).get<double>() : std::nan("");
}

// What the groups are, and so what their agreement is worth.
std::string meaning_of(const std::string& of) {
  if (of == "islands") {
    return "Groups are whole islands: independent repeats of the run. R-hat above 1.01 means that "
           "they disagree: the weights or the modes had not settled. At 1 they agree, which they "
           "also do where all miss the same mode or share the same bias.";
  }
  if (of == "neighbours") {
    return "Groups are neighbouring chains of fewer than four islands. Resampling leaves copies of "
           "a chain side by side, so an ESS below the number of chains counts families. R-hat "
           "cannot see what a whole island has wrong: for that run at least four (island_size, "
           "metrics.num_samples).";
  }
  return "Chains never met, so their groups are exchangeable: R-hat is 1 and ESS the number of "
         "chains whatever the sampler does. It checks the book-keeping, and nothing else.";
}

std::string convergence_row(const MetricsRow& row) {
  const Json& found = row.json->at("convergence");
  std::ostringstream out;
  out << "<tr><td>" << escape(row.name) << "</td>";
  if (found.contains("note")) {
    out << "<td colspan=\"7\">" << escape(found.value("note", "")) << "</td></tr>\n";
    return out.str();
  }
  const Json& groups = row.json->at("groups");
  out << "<td>" << groups.value("num_groups", 0) << ", " << escape(groups.value("of", ""))
      << "</td><td>" << found.value("num_coordinates_measured", 0) << " of "
      << found.value("num_coordinates", 0) << "</td><td>" << fixed(number(found, "rhat"), 3)
      << "</td><td>" << fixed(number(found, "median_rhat"), 3) << "</td><td>"
      << fixed(number(found, "ess_bulk"), 0) << "</td><td>" << fixed(number(found, "ess_tail"), 0)
      << "</td><td>" << found.value("num_chains", 0) << "</td></tr>\n";
  return out.str();
}

std::string convergence_table(const std::vector<MetricsRow>& rows) {
  std::string out =
      "<div class=\"wide\"><table><tr><th>sampler</th><th>groups</th><th>coordinates</th>"
      "<th>largest R-hat</th><th>median R-hat</th><th>smallest bulk ESS</th>"
      "<th>smallest tail ESS</th><th>chains</th></tr>\n";
  std::vector<std::string> said;
  for (const MetricsRow& row : rows) {
    out += convergence_row(row);
    const Json& groups = row.json->at("groups");
    const std::string meaning = groups.is_object() ? meaning_of(groups.value("of", "")) : "";
    if (!meaning.empty() && std::find(said.begin(), said.end(), meaning) == said.end()) {
      said.push_back(meaning);
    }
  }
  out += "</table></div>\n";
  for (const std::string& meaning : said) {
    out += "<p class=\"quiet\">" + meaning + "</p>\n";
  }
  return out;
}

std::string place_of(const Json& centre) {
  std::string text;
  for (const Json& coordinate : centre) {
    const double rounded = std::round(100.0 * coordinate.get<double>()) / 100.0;  // not "-0.00"
    text += (text.empty() ? "" : ", ") + fixed(rounded == 0.0 ? 0.0 : rounded, 2);
  }
  return "(" + text + ")";
}

std::string modes_table(const std::vector<MetricsRow>& rows) {
  std::ostringstream out;
  out << "<div class=\"wide\"><table><tr><th>sampler</th><th>mode at</th><th>share</th>"
         "<th>binomial error</th><th>error over groups</th><th>exact share</th></tr>\n";
  for (const MetricsRow& row : rows) {
    for (const Json& mode : row.json->at("metrics").at("modes")) {
      out << "<tr><td>" << escape(row.name) << "</td><td>" << place_of(mode.at("centre"))
          << "</td><td>" << fixed(number(mode, "share"), 4) << "</td><td>"
          << fixed(number(mode, "binomial_error"), 4) << "</td><td>"
          << fixed(number(mode, "group_error"), 4) << "</td><td>"
          << fixed(number(mode, "exact_share"), 4) << "</td></tr>\n";
    }
  }
  out << "</table></div>\n";
  return out.str();
}

std::string modes_part(const std::vector<MetricsRow>& rows) {
  std::vector<Interval> intervals;
  for (const MetricsRow& row : rows) {
    const Json& metrics = row.json->at("metrics");
    if (!metrics.is_object() || !metrics.contains("modes")) {
      return "";
    }
    for (const Json& mode : metrics.at("modes")) {
      Interval interval;
      interval.label = row.name + " " + place_of(mode.at("centre"));
      interval.value = number(mode, "share");
      interval.inner_error = number(mode, "binomial_error");
      interval.outer_error = number(mode, "group_error");
      interval.exact = number(mode, "exact_share");
      for (const Json& part : mode.at("group_shares")) {
        interval.parts.push_back(part.is_number() ? part.get<double>() : std::nan(""));
      }
      intervals.push_back(std::move(interval));
    }
  }
  return "<h2>Modes</h2>\n<div class=\"wide\">" +
         interval_svg("Share of each mode",
                      "thick: binomial error; thin: error over groups; grey: the groups; upright: "
                      "exact",
                      intervals) +
         "</div>\n" + modes_table(rows) +
         "<p class=\"quiet\">Where the error over groups is much the larger one, chains hang "
         "together "
         "and are worth fewer than their number. A share of one mode more than three errors from "
         "the exact one is a fault of the run, or of the models.</p>\n";
}

std::string trace_part(const Json& run) {
  const Json& trace = run.at("trace");
  std::vector<Curve> curves;
  const auto levels = trace.at("levels").get<std::vector<double>>();
  for (const Json& chain : trace.at("chains")) {
    Curve curve{"chain " + std::to_string(curves.size()), levels, {}};
    for (const Json& value : chain) {
      curve.y.push_back(value.is_number() ? value.get<double>() : std::nan(""));
    }
    curves.push_back(std::move(curve));
  }
  const std::string resampled =
      run.contains("islands") && !run.contains("log_weights")
          ? " Where an island is resampled, a row may go on as the copy of another chain: a jump."
          : "";
  return "<div class=\"wide\">" +
         line_svg("Paths of the first chains", trace.value("value", "") + ", on entering a level",
                  curves) +
         "</div>\n<p class=\"quiet\">The last point, at -1, is the sample." + resampled + "</p>\n";
}

// What the ledger of a mixture from scores comes to: the error of its own that the run can see.
std::string components_part(const std::vector<MetricsRow>& rows) {
  std::string table;
  for (const MetricsRow& row : rows) {
    for (const Json& found : row.json->value("components", Json::array())) {
      table += "<tr><td>" + escape(row.name) + "</td><td>" + escape(found.value("component", "")) +
               "</td><td>" + fixed(number(found, "weight"), 3) + "</td><td>" +
               fixed(number(found, "share"), 3) + " &plusmn; " +
               fixed(number(found, "standard_error"), 3) + "</td></tr>\n";
    }
  }
  return table.empty()
             ? ""
             : "<h2>Components of mixtures</h2>\n<div class=\"wide\"><table><tr><th>sampler</th>"
               "<th>component</th><th>weight</th><th>mean share</th></tr>\n" +
                   table +
                   "</table></div>\n<p class=\"quiet\">Each chain tracks its components' log "
                   "densities. Of a mixture that stands alone, the mean of a component's posterior "
                   "probability over right samples is its weight. A mean that is off tells of an "
                   "error "
                   "that moves at fixed levels made in the tracking; those of the way down it does "
                   "not see (docs/operators.md).</p>\n";
}

}  // namespace

std::string chains_section(const std::vector<MetricsRow>& rows) {
  return components_part(rows) + modes_part(rows) + "<h2>Across chains</h2>\n" +
         convergence_table(rows) + (rows.size() == 1 ? trace_part(*rows.front().json) : "");
}

}  // namespace motet::detail
