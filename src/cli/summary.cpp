// Tables on the terminal.
#include "cli/summary.hpp"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <ostream>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/command.hpp"

namespace motet::cli {
namespace {

constexpr int kNameWidth = 24;

struct Row {
  const char* key;
  int digits;
  const char* meaning;
};

constexpr Row kMetricRows[] = {
    {"ll_true", 3, "mean log likelihood in nats"},
    {"ll_paper", 3, "the same in the published table's units"},
    {"num_outside_support", 0, "points of density zero, not in the means"},
    {"w2", 4, "transport distance to exact samples"},
    {"w2_paper", 3, "the same in the published table's units"},
    {"w2_folded", 4, "transport distance with the modes folded together"},
    {"gmm", 5, "distance of fitted mixtures' covariances"},
    {"energy_distance", 5, "energy distance to exact samples"},
    {"mmd_squared", 6, "squared kernel discrepancy to exact samples"},
    {"fraction_outside_modes", 4, "share of points outside the modes"},
};

// Smallest and largest acceptance over the levels that proposed anything.
std::string acceptance_range(const nlohmann::json& levels) {
  double low = 1.0;
  double high = 0.0;
  for (const auto& level : levels) {
    const double acceptance = number_at(level, "acceptance");
    if (std::isfinite(acceptance)) {
      low = std::min(low, acceptance);
      high = std::max(high, acceptance);
    }
  }
  return low > high ? "-" : fixed(low, 3) + " to " + fixed(high, 3) + " over the levels";
}

// "103, and 104 by each of 512 chains of the pilot run".
std::string evaluations_text(const nlohmann::json& run) {
  std::string text = std::to_string(run.value("evaluations_per_chain", int64_t{0}));
  if (run.contains("tune")) {
    const auto& tune = run.at("tune");
    text += ", and " + std::to_string(tune.value("evaluations_per_chain", int64_t{0})) +
            " by each of " + std::to_string(tune.value("num_chains", int64_t{0})) +
            " chains of the pilot run";
  }
  return text;
}

std::string weights_text(const nlohmann::json& run) {
  double smallest = 1.0;
  for (const auto& level : run.at("levels")) {
    const double ess = number_at(level, "ess");
    smallest = std::isfinite(ess) ? std::min(smallest, ess) : smallest;
  }
  const auto& islands = run.at("islands");
  const auto lowest = run.at("sampler").at("weights").value("lowest_level", int64_t{0});
  return (lowest == 0 ? "" : "down to level " + std::to_string(lowest) + ": ") +
         "smallest effective share " + fixed(smallest, 3) + ", " +
         std::to_string(islands.value("num_islands", int64_t{0})) + " islands of " +
         std::to_string(islands.value("island_size", int64_t{0})) + " chains";
}

// "ring 0.483 for weight 0.500 (+- 0.003), ...": the mean share of each component of a tracked mixture.
std::string components_text(const nlohmann::json& components) {
  std::string text;
  for (const auto& row : components) {
    text += (text.empty() ? "" : ", ") + row.value("component", "") + " " +
            fixed(number_at(row, "share"), 3) + " for weight " +
            fixed(number_at(row, "weight"), 3) + " (+- " +
            fixed(number_at(row, "standard_error"), 3) + ")";
  }
  return text;
}

// What a metric is; why it is not there.
std::string meaning_of(const nlohmann::json& metrics, const Row& row) {
  const bool has_reason = metrics.at(row.key).is_null() && metrics.contains("errors") &&
                          metrics.at("errors").contains(row.key);
  return has_reason ? metrics.at("errors").at(row.key).value("method", "") : row.meaning;
}

// " +- 0.018"; nothing where there is no error bar.
std::string error_text(const nlohmann::json& metrics, const Row& row) {
  const auto errors = metrics.find("errors");
  if (errors == metrics.end() || !errors->contains(row.key)) {
    return "";
  }
  const double error = number_at(errors->at(row.key), "standard_error");
  // Counts and their errors are of the same size; an error of 2.3 points is not 2.
  return std::isfinite(error) ? " +- " + fixed(error, std::max(row.digits, 1)) : "";
}

std::string groups_text(const nlohmann::json& run) {
  const auto& groups = run.at("groups");
  const std::string count = std::to_string(groups.value("num_groups", int64_t{0}));
  const std::string of = groups.value("of", "");
  return of == "islands"      ? count + " groups of whole islands"
         : of == "neighbours" ? count + " groups of neighbours within islands"
                              : count + " groups of " + of;
}

// "R-hat 1.003, ESS bulk 1890, tail 1776 at worst (20 groups of chains)".
std::string convergence_text(const nlohmann::json& run) {
  const auto& convergence = run.at("convergence");
  if (convergence.contains("note")) {
    return convergence.value("note", "");
  }
  return "R-hat " + fixed(number_at(convergence, "rhat"), 3) + ", ESS bulk " +
         fixed(number_at(convergence, "ess_bulk"), 0) + ", tail " +
         fixed(number_at(convergence, "ess_tail"), 0) + " at worst, over " + groups_text(run);
}

// "0.503 +- 0.011, 0.497 +- 0.011".
std::string modes_text(const nlohmann::json& modes) {
  std::string text;
  for (const auto& mode : modes) {
    const double error =
        std::fmax(number_at(mode, "binomial_error"), number_at(mode, "group_error"));
    text +=
        (text.empty() ? "" : ", ") + fixed(number_at(mode, "share"), 3) + " +- " + fixed(error, 3);
  }
  return text;
}

// Whether the chains count alike, and whether islands agree.
void print_chains(const nlohmann::json& run, std::ostream& out) {
  if (run.contains("log_weights")) {
    print_line(out, "unresampled",
               "the samples count with their log weights; effective share " +
                   fixed(number_at(run.at("log_weights"), "effective_share"), 3));
  }
  if (run.contains("convergence")) {
    print_line(out, "convergence", convergence_text(run));
  }
}

}  // namespace

double number_at(const nlohmann::json& json, const std::string& key) {
  return json.contains(key) && json.at(key).is_number() ? json.at(key).get<double>() : std::nan("");
}

void print_line(std::ostream& out, const std::string& name, const std::string& value) {
  const std::string shown = printable(name);
  out << std::left << std::setw(kNameWidth) << shown;
  out << (shown.size() >= static_cast<size_t>(kNameWidth) ? " " : "");
  for (const char c : printable(value)) {  // lines of a long value are indented under it
    out << c << (c == '\n' ? std::string(kNameWidth, ' ') : "");
  }
  out << "\n";
}

void print_metrics(const nlohmann::json& metrics, std::ostream& out) {
  constexpr size_t kValueWidth = 12;
  std::vector<std::pair<const Row*, std::string>> values;
  size_t name_width = kNameWidth;
  size_t value_width = kValueWidth;
  for (const Row& row : kMetricRows) {
    if (metrics.contains(row.key)) {
      values.emplace_back(
          &row, fixed(number_at(metrics, row.key), row.digits) + error_text(metrics, row));
      name_width = std::max(name_width, std::string_view(row.key).size() + 2);
      value_width = std::max(value_width, values.back().second.size() + 2);
    }
  }
  for (const auto& [row, value] : values) {
    out << std::left << std::setw(static_cast<int>(name_width)) << row->key
        << std::setw(static_cast<int>(value_width)) << value << meaning_of(metrics, *row) << "\n";
  }
}

void print_run(const nlohmann::json& run, std::ostream& out) {
  const auto& sampler = run.at("sampler");
  print_line(out, "target", run.value("target", ""));
  for (const auto& note : run.value("target_notes", nlohmann::json::array())) {
    print_line(out, "note", note.get<std::string>());
  }
  print_line(out, "sampler",
             sampler.value("name", "") + " (" + sampler.value("preset", "") + "), " +
                 sampler.value("kernel", ""));
  print_line(out, "chains", std::to_string(run.value("num_chains", int64_t{0})));
  const auto used = run.value("compute_used", nlohmann::json());
  if (used.is_string() && used != run.value("compute", "")) {
    print_line(out, "compute", used.get<std::string>() + ", not " + run.value("compute", ""));
  }
  print_line(out, "seed", std::to_string(run.value("seed", uint64_t{0})));
  if (!sampler.value("ratio", "").empty()) {
    print_line(out, "acceptance", acceptance_range(run.at("levels")));
  }
  print_line(out, "evaluations_per_chain", evaluations_text(run));
  if (run.contains("islands")) {
    print_line(out, "weights", weights_text(run));
  }
  if (run.contains("components")) {
    print_line(out, "components", components_text(run.at("components")));
  }
  print_chains(run, out);
  if (run.at("metrics").is_object()) {
    if (run.at("metrics").contains("modes")) {
      print_line(out, "mode_shares", modes_text(run.at("metrics").at("modes")));
    }
    print_metrics(run.at("metrics"), out);
  } else if (run.contains("metrics_note")) {
    print_line(out, "metrics", run.value("metrics_note", ""));
  }
  const auto& seconds = run.at("seconds");
  print_line(out, "seconds",
             fixed(number_at(seconds, "total"), 2) + ", " +
                 fixed(number_at(seconds, "network"), 2) + " in the models");
}

}  // namespace motet::cli
