// The HTML page of one or several runs: pictures first, then numbers, then how to run it again.
// Everything is inline: the page works from a mail attachment and on paper.
#include "motet/report.hpp"

#include <torch/types.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "motet/error.hpp"
#include "motet/image.hpp"
#include "report_detail.hpp"
#include "sample_run.hpp"
#include "svg_detail.hpp"

namespace motet {
namespace {

using detail::escape;
using detail::fixed;
using Json = nlohmann::json;

constexpr int kPanelsInRow = 3;

const char* const kPageStyle = R"(<style>
:root{color-scheme:light dark}
body{font:16px/1.55 system-ui,sans-serif;margin:0 auto;padding:1.2rem;max-width:62rem;color:#1f2430;background:#fff}
h1{font-size:1.5rem;margin:.4rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem}
p{margin:.5rem 0}.lead{font-size:1.05rem}.quiet{color:#5d6675;font-size:.9rem}
.wide{overflow-x:auto}svg{max-width:100%;height:auto;display:block}
img{max-width:100%;height:auto;display:block;image-rendering:pixelated}
figure{margin:.8rem 0}figcaption{font-size:.9rem;margin-bottom:.3rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{padding:.28rem .7rem;text-align:right;border-bottom:1px solid #e3e7ed;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{font-weight:600;white-space:normal;vertical-align:bottom}
tr.exact td{color:#5d6675;font-style:italic}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem;font-size:.92rem}
dt{font-weight:600}dd{margin:0}
pre{background:#f4f6f9;padding:.8rem;border-radius:.4rem;overflow-x:auto;font-size:.82rem;line-height:1.4}
details{margin:.6rem 0}summary{cursor:pointer}
@media (max-width:40rem){body{padding:.7rem}dl{grid-template-columns:1fr}dd{margin-bottom:.4rem}}
@media (prefers-color-scheme:dark){body{color:#e6e9ef;background:#14171c}.quiet,tr.exact td{color:#a3adbb}
th,td{border-color:#2c333e}pre{background:#1d222a}a{color:#74b0ff}}
@media print{body{max-width:none;color:#000;background:#fff}details[open] summary{display:none}h2{break-after:avoid}svg,table{break-inside:avoid}}
</style>
)";

struct Run {
  std::string name;
  Json json;
  const RunReport* report;
};

std::vector<double> column(const Json& levels, const char* key) {
  std::vector<double> values;
  for (const Json& level : levels) {
    const bool has = level.contains(key) && level.at(key).is_number();
    values.push_back(has ? level.at(key).get<double>() : std::nan(""));
  }
  return values;
}

std::string curves(const std::vector<Run>& runs, const char* key, const std::string& title,
                   const std::string& label, YAxis y_axis, bool only_adjusted = false) {
  std::vector<Curve> lines;
  for (const Run& run : runs) {
    const Json& levels = run.json.at("levels");
    const bool adjusted = run.json.at("sampler").value("ratio", "") != "";
    const bool moves = run.json.at("sampler").value("kernel_type", "") != "";
    if (moves && (adjusted || !only_adjusted)) {
      lines.push_back({run.name, column(levels, "index"), column(levels, key)});
    }
  }
  return lines.empty()
             ? ""
             : "<div class=\"wide\">" + line_svg(title, label, lines, y_axis) + "</div>\n";
}

// Of the runs that weigh their chains; nothing when none does.
std::string weight_curves(const std::vector<Run>& runs) {
  std::vector<Curve> lines;
  for (const Run& run : runs) {
    if (run.json.contains("islands")) {
      const Json& levels = run.json.at("levels");
      lines.push_back({run.name, column(levels, "index"), column(levels, "ess")});
    }
  }
  return lines.empty() ? ""
                       : "<div class=\"wide\">" +
                             line_svg("Effective sample size of the weights",
                                      "smallest island's, share of its chains, before resampling",
                                      lines, YAxis::from_zero) +
                             "</div>\n";
}

// As each run's own config has it.
PictureConfig pictures_of(const Json& json) {
  PictureConfig pictures;
  const Json output = json.at("config").value("output", Json::object());
  const auto range = output.value("image_range", std::vector<double>{pictures.low, pictures.high});
  pictures.low = range.at(0);
  pictures.high = range.at(1);
  pictures.num_images = output.value("num_images", pictures.num_images);
  pictures.num_columns = output.value("num_columns", pictures.num_columns);
  return pictures;
}

// Scatter panels of plane samples, images as images; nothing for other event shapes.
std::string pictures(const std::vector<Run>& runs) {
  std::vector<detail::ImageRow> images;
  for (const Run& run : runs) {
    if (is_image(run.report->samples.sizes().slice(1).vec())) {
      images.push_back({run.name, &run.json, run.report, pictures_of(run.json)});
    }
  }
  if (images.size() == runs.size()) {
    return detail::images_section(images);
  }
  std::vector<ScatterPanel> panels;
  std::vector<Tensor> all;
  Tensor reference;
  for (const Run& run : runs) {
    const Tensor& x = run.report->samples;
    if (x.dim() != 2 || x.size(1) != 2) {
      return "";
    }
    reference = run.report->reference.defined() ? run.report->reference : reference;
    all.push_back(x);
  }
  if (reference.defined()) {
    all.push_back(reference);
    panels.push_back(
        {"exact samples", "drawn from the true product", {{reference, "reference", 1.2, 0.8}}});
  }
  for (const Run& run : runs) {
    ScatterPanel panel{run.name, "", {}};
    const Json& metrics = run.json.at("metrics");
    if (metrics.is_object()) {
      panel.caption = fixed(100.0 * metrics.at("fraction_outside_modes").get<double>(), 1) +
                      " % outside the modes";
      panel.layers.push_back({run.report->reference, "reference", 1.2, 0.5});
    }
    if (run.json.contains("log_weights")) {
      panel.caption += std::string(panel.caption.empty() ? "" : "; ") + "weights are not shown";
    }
    panel.layers.push_back({run.report->samples, "samples", 1.1, 0.55});
    panels.push_back(std::move(panel));
  }
  const View view = reference.defined() ? View{-1.1, 1.1, -1.1, 1.1} : view_of(all);
  return "<div class=\"wide\">" + scatter_svg(panels, view, kPanelsInRow) + "</div>\n" +
         (reference.defined()
              ? "<p class=\"quiet\">Blue: samples. Grey: exact samples of the target, the same in "
                "every panel.</p>\n"
              : "");
}

// What the networks ran in, and what was asked for where that is something else.
std::string compute_text(const Json& json) {
  const std::string asked = json.value("compute", "");
  const Json used = json.value("compute_used", Json());
  return !used.is_string() || used == asked
             ? asked
             : used.get<std::string>() + " (" + asked + " was asked for, but this CPU has no AMX)";
}

std::string environment(const std::vector<Run>& runs) {
  const Json& json = runs.front().json;
  std::ostringstream out;
  out << "<h2>How it was made</h2>\n<dl>";
  const auto row = [&out](const std::string& name, const std::string& value) {
    out << "<dt>" << name << "</dt><dd>" << escape(value) << "</dd>";
  };
  row("Target", json.value("target", ""));
  for (const Json& note : json.value("target_notes", Json::array())) {
    row("Note", note.get<std::string>());
  }
  row("Noise schedule", json.value("schedule", ""));
  row("Chains", std::to_string(json.at("num_chains").get<int64_t>()) + ", seed " +
                    std::to_string(json.at("seed").get<uint64_t>()));
  row("motet", json.at("versions").value("motet", "") + ", commit " + json.value("commit", ""));
  row("torch", json.at("versions").value("torch", ""));
  row("Device", json.value("device", "") + ", " + compute_text(json) + ", " +
                    std::to_string(json.value("num_threads", 0)) + " threads");
  row("Peak memory",
      fixed(static_cast<double>(json.value("peak_rss_bytes", int64_t{0})) / 1048576.0, 0) + " MiB");
  for (const Json& model : json.at("models")) {
    const std::string what =
        model.contains("law") ? model.value("law", "")
                              : model.value("weights", "") + " (" + model.value("hash", "") + ")";
    row("Model " + escape(model.value("name", "")),
        what + ", exponent " + fixed(model.value("exponent", 1.0), 2));
  }
  out << "</dl>\n";
  return out.str();
}

std::string configs(const std::vector<Run>& runs) {
  std::string out =
      "<h2>Run it again</h2>\n<p>Save as <code>run.toml</code> in the folder of the config that "
      "this run "
      "had (paths in it are relative to that folder), then "
      "<code>motet sample run.toml --report report.html</code> there. The same seed gives "
      "the same samples.</p>\n";
  for (const Run& run : runs) {
    out += "<details" + std::string(runs.size() == 1 ? " open" : "") + "><summary>" +
           escape(run.name) + "</summary><pre>" + escape(run.json.value("config_toml", "")) +
           "</pre></details>\n";
  }
  return out;
}

std::string cite(const std::vector<Run>& runs) {
  std::string entries;
  for (const Run& run : runs) {
    const std::string more = citations(run.report->json, run.name);
    for (size_t begin = 0; begin < more.size();) {  // entries end with "}\n" at the line's start
      const size_t end = more.find("\n}\n", begin) + 3;
      const std::string entry = more.substr(begin, end - begin);
      entries += entries.find(entry) == std::string::npos ? entry : "";
      begin = end;
    }
  }
  return "<h2>Cite</h2>\n<p>The papers this rests "
         "on.</p>\n<details><summary>BibTeX</summary><pre>" +
         escape(entries) + "</pre></details>\n";
}

}  // namespace

std::string detail::html_page(const std::string& title, const std::string& body) {
  return "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>" +
         escape(title) + "</title>\n" + kPageStyle + "</head><body>\n" + body +
         "<p class=\"quiet\">Made by motet. No scripts, nothing loaded from elsewhere.</p>\n"
         "</body></html>\n";
}

std::string sample_report(const std::vector<NamedRun>& runs,
                          const std::optional<ProductMetrics>& exact) {
  if (runs.empty()) {
    throw ConfigError("report: sample_report() of no runs; give at least one");
  }
  std::vector<Run> all;
  for (const NamedRun& run : runs) {
    all.push_back({run.name, Json::parse(run.report.json), &run.report});
  }
  std::vector<detail::MetricsRow> rows;
  for (const Run& run : all) {
    rows.push_back({run.name, &run.json});
  }
  Json exact_run;
  if (exact) {
    exact_run["metrics"] = Json::parse(detail::metrics_json(*exact, 0).dump());
  }
  const Json* exact_row = exact ? &exact_run : nullptr;
  const std::string target = all.front().json.value("target", "");
  std::ostringstream page;
  page << "<h1>" << escape(target) << "</h1>\n"
       << "<p class=\"lead\">" << detail::lead(rows) << "</p>\n"
       << pictures(all) << detail::metrics_section(rows, exact_row) << detail::chains_section(rows)
       << "<h2>Along the noise levels</h2>\n"
       << curves(all, "acceptance", "Acceptance", "share of proposals accepted", YAxis::fitted,
                 true)
       << weight_curves(all)
       << curves(all, "evaluations", "Evaluations", "evaluations of each model, per chain",
                 YAxis::from_zero)
       << curves(all, "step_size", "Step size", "unit of x (HMC) or of x squared (Langevin)",
                 YAxis::logarithmic)
       << environment(all) << configs(all) << cite(all);
  return detail::html_page("motet: " + target, page.str());
}

}  // namespace motet
