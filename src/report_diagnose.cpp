// The page of a diagnosis: the verdict first, then the pictures that it rests on, then every
// number. Lights are words as well as colours: they survive print and colour blindness.
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "motet/report.hpp"
#include "motet/run_diagnose.hpp"
#include "report_detail.hpp"
#include "svg_detail.hpp"

namespace motet {
namespace {

using detail::escape;
using detail::fixed;
using Json = nlohmann::json;

const char* const kLightStyle = R"(<style>
.light{display:inline-block;min-width:4.4rem;text-align:center;border:1px solid;border-radius:.3rem;padding:0 .5rem;font-weight:600}
.green{color:#2b7a38}.amber{color:#8a5a00}.red{color:#c02424}.skipped{color:#5d6675}
td.say{text-align:left;white-space:normal;min-width:18rem}
@media (prefers-color-scheme:dark){.green{color:#6fd383}.amber{color:#e4c65b}.red{color:#ff8a80}.skipped{color:#a3adbb}}
@media print{.light{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
</style>
)";

std::string badge(const std::string& light) {
  return "<span class=\"light " + light + "\">" + light + "</span>";
}

std::string lead(Light light) {
  switch (light) {
    case Light::green:
      return "Nothing was found that speaks against this run.";
    case Light::amber:
      return "Usable; look at what is amber before you rely on fine details.";
    default:
      return "Do not trust this run as it is: see what is red, and what to do about it.";
  }
}

std::string verdict(const Diagnosis& diagnosis) {
  std::ostringstream out;
  out << "<p class=\"lead\">" << badge(to_string(diagnosis.light)) << " " << lead(diagnosis.light)
      << "</p>\n<div class=\"wide\"><table><tr><th>check</th><th></th><th></th></tr>\n";
  for (const Check& check : diagnosis.checks) {
    out << "<tr><td>" << escape(check.name) << "</td><td>" << badge(to_string(check.light))
        << "</td><td class=\"say\">" << escape(check.sentence) << "</td></tr>\n";
  }
  out << "</table></div>\n";
  return out.str();
}

template <typename Number>
Curve curve_of(const std::string& label, const std::vector<LevelDiagnosis>& levels,
               const Number& number) {
  Curve curve{label, {}, {}};
  for (const LevelDiagnosis& row : levels) {
    curve.x.push_back(static_cast<double>(row.level.index));
    curve.y.push_back(number(row));
  }
  return curve;
}

bool has_values(const Curve& curve) {
  return std::any_of(curve.y.begin(), curve.y.end(),
                     [](double value) { return std::isfinite(value); });
}

std::string chart(const std::string& title, const std::string& label, std::vector<Curve> curves,
                  YAxis y_axis) {
  std::erase_if(curves, [](const Curve& curve) { return !has_values(curve); });
  return curves.empty()
             ? ""
             : "<div class=\"wide\">" + line_svg(title, label, curves, y_axis) + "</div>\n";
}

std::string curves(const std::vector<LevelDiagnosis>& levels) {
  using Row = LevelDiagnosis;
  const auto curve = [&](const std::string& label, const auto& number) {
    return curve_of(label, levels, number);
  };
  return chart("Acceptance and jumps", "share accepted; squared jump over d scale squared",
               {curve("acceptance", [](const Row& row) { return row.acceptance; }),
                curve("squared jump", [](const Row& row) { return row.squared_jump; }),
                curve("ESS of the weights", [](const Row& row) { return row.ess; })},
               YAxis::from_zero) +
         chart("Errors of the log ratio", "nat, logarithmic",
               {curve("path dependence, sd", [](const Row& row) { return row.path_dependence; }),
                curve("the same, 99 %", [](const Row& row) { return row.path_dependence_99; }),
                curve("quadrature, 99 %", [](const Row& row) { return row.quadrature_error; }),
                curve("reference, 99 %", [](const Row& row) { return row.reference_error; })},
               YAxis::logarithmic) +
         chart("Curl", "|J - J^T| / |J + J^T|, logarithmic",
               {curve("curl", [](const Row& row) { return row.curl.value; })}, YAxis::logarithmic) +
         chart("Residuals of the balance", "log E exp(log_accept), 0 in equilibrium",
               {curve("pilot run", [](const Row& row) { return row.lag.value; }),
                curve("after more steps", [](const Row& row) { return row.balance.value; })},
               YAxis::fitted);
}

// Of the level where it spreads most.
std::string histogram(const std::vector<LevelDiagnosis>& levels) {
  const LevelDiagnosis* worst = nullptr;
  for (const LevelDiagnosis& row : levels) {
    if (row.path_differences.defined() && std::isfinite(row.path_dependence) &&
        (worst == nullptr || row.path_dependence > worst->path_dependence)) {
      worst = &row;
    }
  }
  if (worst == nullptr) {
    return "";
  }
  return "<div class=\"wide\">" +
         histogram_svg("Path dependence at level " + std::to_string(worst->level.index),
                       "nat: straight line minus trajectory, one proposal a particle",
                       worst->path_differences) +
         "</div>\n";
}

std::string with_error(const Estimate& estimate, int digits) {
  return std::isfinite(estimate.value)
             ? fixed(estimate.value, digits) + " &plusmn; " + fixed(estimate.standard_error, digits)
             : "-";
}

std::string numbers(const std::vector<LevelDiagnosis>& levels) {
  std::ostringstream out;
  out << "<h2>Every level</h2>\n<div class=\"wide\"><table><tr>";
  for (const char* title : {"level", "step size", "acceptance", "squared jump", "invalid",
                            "path dependence", "quadrature", "curl", "settling", "balance"}) {
    out << "<th>" << title << "</th>";
  }
  out << "</tr>\n";
  for (const LevelDiagnosis& row : levels) {
    out << "<tr><td>" << row.level.index << "</td><td>" << fixed(row.step_size, 4) << "</td><td>"
        << fixed(row.acceptance, 3) << "</td><td>" << fixed(row.squared_jump, 3) << "</td><td>"
        << row.num_invalid << "</td><td>" << fixed(row.path_dependence, 4) << "</td><td>"
        << fixed(row.quadrature_error, 4) << "</td><td>" << with_error(row.curl, 3) << "</td><td>"
        << fixed(row.lag.value, 3) << "</td><td>" << with_error(row.balance, 3) << "</td></tr>\n";
  }
  out << "</table></div>\n";
  return out.str();
}

std::string environment(const Json& json, const HeldOutTest& held_out) {
  std::ostringstream out;
  out << "<h2>How it was made</h2>\n<dl>";
  const auto row = [&out](const std::string& name, const std::string& value) {
    out << "<dt>" << name << "</dt><dd>" << escape(value) << "</dd>";
  };
  const Json& sampler = json.at("sampler");
  row("Target", json.value("target", ""));
  row("Noise schedule", json.value("schedule", ""));
  row("Sampler", sampler.value("name", "") + " (" + sampler.value("preset", "") + "), " +
                     sampler.value("kernel", ""));
  row("Held-out target", held_out.target.empty()
                             ? "none: " + held_out.skipped
                             : held_out.target + ", " + std::to_string(held_out.num_chains) +
                                   " chains in " + std::to_string(held_out.num_islands) +
                                   " islands");
  row("Chains", std::to_string(json.at("num_chains").get<int64_t>()) + ", seed " +
                    std::to_string(json.at("seed").get<uint64_t>()));
  row("Evaluations", std::to_string(json.at("evaluations_per_chain").get<int64_t>()) +
                         " a chain, " + fixed(json.at("seconds").value("total", 0.0), 1) +
                         " seconds");
  row("motet", json.at("versions").value("motet", "") + ", commit " + json.value("commit", ""));
  row("Device", json.value("device", "") + ", " + json.value("compute", ""));
  out << "</dl>\n<details><summary>Config</summary><pre>" << escape(json.value("config_toml", ""))
      << "</pre></details>\n";
  return out.str();
}

}  // namespace

std::string diagnose_page(const DiagnoseReport& report) {
  const Json json = Json::parse(report.json);
  const Diagnosis& diagnosis = report.diagnosis;
  const std::string target = json.value("target", "");
  return detail::html_page("motet diagnose: " + target,
                           kLightStyle + ("<h1>" + escape(target) + "</h1>\n") +
                               verdict(diagnosis) + "<h2>Along the noise levels</h2>\n" +
                               curves(diagnosis.levels) + histogram(diagnosis.levels) +
                               numbers(diagnosis.levels) + environment(json, diagnosis.held_out));
}

}  // namespace motet
