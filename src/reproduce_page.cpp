// The page of a reproduced table: Figure 1, the numbers beside the published ones, what they mean.
#include <torch/types.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "io_detail.hpp"
#include "motet/io.hpp"
#include "motet/report.hpp"
#include "report_detail.hpp"
#include "reproduce_detail.hpp"
#include "svg_detail.hpp"

namespace motet::detail {
namespace {

namespace fs = std::filesystem;

constexpr int kPanelsInRow = 3;
// Figure 1's panels beside the target: from no MCMC to the best of the score rows.
const std::vector<std::string>& figure_rows() {
  static const std::vector<std::string> names = {"score/reverse", "score/u-la", "score/la-3-line",
                                                 "score/u-hmc", "score/hmc-4-curve"};
  return names;
}

const Json* find_row(const Json& summary, const std::string& name) {
  const Json& rows = summary.at("rows");
  const auto found = std::find_if(rows.begin(), rows.end(),
                                  [&](const Json& row) { return row.at("name") == name; });
  return found == rows.end() ? nullptr : &*found;
}

// Samples of the first repeat that kept them; undefined when none did.
Tensor find_samples(const Json& summary, const std::string& folder, const std::string& row) {
  for (const Json& repeat : summary.at("repeats")) {
    const std::string path = (fs::path(folder) / repeat_name(repeat) / samples_name(row)).string();
    if (path_exists(path)) {
      return read_npy(path);
    }
  }
  return {};
}

std::string figure(const Json& summary, const std::string& folder) {
  Rng rng(0);
  const Tensor exact =
      sample_product_benchmark(summary.at("settings").at("num_samples").get<int64_t>(), rng);
  std::vector<ScatterPanel> panels = {
      {"target", "exact samples", {{exact, "reference", 1.2, 0.8}}}};
  for (const std::string& name : figure_rows()) {
    const Json* row = find_row(summary, name);
    const Tensor samples = find_samples(summary, folder, name);
    if (row != nullptr && samples.defined()) {
      const Json& outside = row->at("corrected_units").at("fraction_outside_modes").at("mean");
      panels.push_back({row->at("sampler").get<std::string>(),
                        fixed(100.0 * outside.get<double>(), 1) + " % outside the modes",
                        {{exact, "reference", 1.2, 0.5}, {samples, "samples", 1.1, 0.55}}});
    }
  }
  if (panels.size() == 1) {
    return "";
  }
  return "<h2>Figure 1</h2>\n<div class=\"wide\">" +
         scatter_svg(panels, View{-1.1, 1.1, -1.1, 1.1}, kPanelsInRow) +
         "</div>\n<p class=\"quiet\">Blue: samples of one repeat. Grey: exact samples of the "
         "target, the same in every panel. Shares: means over the repeats.</p>\n";
}

struct Column {
  const char* group;
  const char* key;
  const char* title;
  int digits;
};

constexpr Column kPaperColumns[] = {{"paper_units", "ll", "LL", 2},
                                    {"published", "ll", "published", 2},
                                    {"deviation_in_published_sd", "ll", "dev.", 1},
                                    {"paper_units", "w2", "W2", 2},
                                    {"published", "w2", "published", 2},
                                    {"deviation_in_published_sd", "w2", "dev.", 1},
                                    {"paper_units", "gmm", "GMM", 5},
                                    {"published", "gmm", "published", 5},
                                    {"deviation_in_published_sd", "gmm", "dev.", 1}};
constexpr Column kCorrectedColumns[] = {
    {"corrected_units", "ll", "LL (nats)", 2},
    {"corrected_units", "num_outside_support", "off the support", 1},
    {"corrected_units", "fraction_outside_modes", "outside modes", 3},
    {"corrected_units", "w2", "W2", 3},
    {"corrected_units", "w2_folded", "folded W2", 3},
    {"corrected_units", "gmm", "GMM", 5}};

// A number, or "mean ± sd"; empty where the row has no such number.
std::string cell(const Json& row, const Column& column) {
  if (!row.contains(column.group)) {
    return "";
  }
  const Json& value = row.at(column.group).at(column.key);
  const auto text = [&](const Json& number) {
    return number.is_null() ? "–" : fixed(number.get<double>(), column.digits);
  };
  if (!value.is_object()) {
    return text(value);
  }
  return text(value.at("mean")) + (value.at("sd").is_null() ? "" : " ± " + text(value.at("sd")));
}

template <size_t N>
std::string table(const Json& summary, const Column (&columns)[N]) {
  std::ostringstream out;
  out << "<div class=\"wide\"><table><tr><th>row</th><th>repeats</th>";
  for (const Column& column : columns) {
    out << "<th>" << column.title << "</th>";
  }
  out << "</tr>\n";
  const auto write = [&](const Json& row, const std::string& name, const char* kind) {
    out << "<tr" << kind << "><td>" << escape(name) << "</td><td>" << row.at("num_repeats")
        << "</td>";
    for (const Column& column : columns) {
      out << "<td>" << cell(row, column) << "</td>";
    }
    out << "</tr>\n";
  };
  for (const Json& row : summary.at("rows")) {
    write(row, row.at("name"), "");
  }
  write(summary.at("exact"), "exact samples", " class=\"exact\"");
  out << "</table></div>\n";
  return out.str();
}

std::string costs(const Json& summary) {
  std::ostringstream out;
  out << "<h2>Cost</h2>\n<div class=\"wide\"><table><tr><th>row</th><th>evaluations per chain</th>"
         "<th>seconds</th><th>acceptance</th></tr>\n";
  constexpr Column kSeconds{"", "seconds", "", 1};
  constexpr Column kAcceptance{"", "acceptance", "", 3};
  for (const Json& row : summary.at("rows")) {
    const Json wrapped = {{"", row}};
    out << "<tr><td>" << escape(row.at("name").get<std::string>()) << "</td><td>"
        << row.at("evaluations_per_chain") << "</td><td>" << cell(wrapped, kSeconds) << "</td><td>"
        << cell(wrapped, kAcceptance) << "</td></tr>\n";
  }
  out << "</table></div>\n";
  return out.str();
}

std::string settings(const Json& summary) {
  std::ostringstream out;
  out << "<h2>How it was made</h2>\n<dl>";
  for (const auto& [key, value] : summary.at("settings").items()) {
    out << "<dt>" << escape(key) << "</dt><dd>"
        << escape(value.is_string() ? value.get<std::string>() : value.dump()) << "</dd>";
  }
  for (const Json& used : summary.at("compute_used")) {
    out << "<dt>compute used</dt><dd>" << escape(used.get<std::string>()) << "</dd>";
  }
  out << "<dt>repeats</dt><dd>" << escape(summary.at("repeats").dump()) << "</dd></dl>\n";
  return out.str();
}

}  // namespace

std::string table1_page(const Json& summary, const std::string& folder) {
  std::ostringstream body;
  body << "<h1>Table 1, made again</h1>\n"
       << "<p class=\"lead\">The product of a ring of eight Gaussians and a bar, sampled from "
          "networks that know only the factors' scores (or energies).</p>\n"
       << figure(summary, folder) << "<h2>In the published table's units</h2>\n"
       << table(summary, kPaperColumns)
       << "<p class=\"quiet\">Mean ± standard deviation over the repeats, each with its own "
          "training. dev.: distance of our mean from the published one, in published standard "
          "deviations. What these units are, and why the rows end on different noise levels under "
          "the paper preset: docs/reproduction.md.</p>\n"
       << "<h2>In corrected units</h2>\n"
       << table(summary, kCorrectedColumns) << costs(summary) << settings(summary);
  return html_page("motet: Table 1", body.str());
}

}  // namespace motet::detail
