// Means over the repeats, beside the published numbers: table1.json and table1.md.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <iomanip>
#include <regex>
#include <set>
#include <sstream>

#include "motet/error.hpp"
#include "motet/io.hpp"
#include "reproduce_detail.hpp"

namespace motet::detail {
namespace {

// Mean and standard deviation (n - 1) of a list; the deviation of one number is unknown (null).
Json spread_json(const std::vector<double>& values) {
  if (values.empty()) {
    return nullptr;
  }
  const auto n = static_cast<double>(values.size());
  double mean = 0.0;
  for (const double value : values) {
    mean += value / n;
  }
  double square = 0.0;
  for (const double value : values) {
    square += (value - mean) * (value - mean);
  }
  return {{"mean", number_or_null(mean)},
          {"sd", values.size() < 2 ? Json() : number_or_null(std::sqrt(square / (n - 1.0)))}};
}

Json spread_of(const std::vector<Json>& rows, const std::string& pointer) {
  std::vector<double> values;
  for (const Json& row : rows) {
    const Json& value = row.at(Json::json_pointer(pointer));
    values.push_back(value.is_null() ? std::nan("") : value.get<double>());
  }
  return spread_json(values);
}

// A whole number and nothing else: these go into the page as they are.
int64_t whole_at(const Json& json, const char* key) {
  return json.at(key).get_ref<const Json::number_integer_t&>();
}

Json published_json(const Spread& spread) { return {{"mean", spread.mean}, {"sd", spread.sd}}; }

double deviation(const Json& ours, const Spread& published) {
  return ours.at("mean").is_null() ? std::nan("")
                                   : (double(ours.at("mean")) - published.mean) / published.sd;
}

// Both unit systems of a list of metrics objects.
Json units_json(const std::vector<Json>& metrics) {
  Json json;
  json["paper_units"] = {{"ll", spread_of(metrics, "/ll_paper")},
                         {"w2", spread_of(metrics, "/w2_paper")},
                         {"gmm", spread_of(metrics, "/gmm_paper")}};
  json["corrected_units"] = {
      {"ll", spread_of(metrics, "/ll_true")},
      {"w2", spread_of(metrics, "/w2")},
      {"w2_folded", spread_of(metrics, "/w2_folded")},
      {"gmm", spread_of(metrics, "/gmm")},
      {"fraction_outside_modes", spread_of(metrics, "/fraction_outside_modes")},
      {"num_outside_support", spread_of(metrics, "/num_outside_support")}};
  return json;
}

std::vector<Json> metrics_of(const std::vector<Json>& rows) {
  std::vector<Json> metrics;
  for (const Json& row : rows) {
    metrics.push_back(row.at("metrics"));
  }
  return metrics;
}

Json summary_row(const TableRow& row, const std::vector<Json>& runs) {
  Json json;
  json["name"] = row.name();
  json["parameterisation"] = row.parameterisation;
  json["sampler"] = row.sampler;
  json["num_repeats"] = runs.size();
  json.update(units_json(metrics_of(runs)));
  json["published"] = {{"ll", published_json(row.ll)},
                       {"w2", published_json(row.w2)},
                       {"gmm", published_json(row.gmm)}};
  const Json& ours = json.at("paper_units");
  json["deviation_in_published_sd"] = {{"ll", number_or_null(deviation(ours.at("ll"), row.ll))},
                                       {"w2", number_or_null(deviation(ours.at("w2"), row.w2))},
                                       {"gmm", number_or_null(deviation(ours.at("gmm"), row.gmm))}};
  json["evaluations_per_chain"] = whole_at(runs.front(), "evaluations_per_chain");
  json["acceptance"] = spread_of(runs, "/acceptance/mean");
  json["seconds"] = spread_of(runs, "/seconds/total");
  return json;
}

Json summary_rows(const std::vector<Json>& repeats) {
  Json list = Json::array();
  for (const TableRow& row : table1_rows()) {
    std::vector<Json> runs;
    for (const Json& repeat : repeats) {
      if (repeat.at("rows").contains(row.name())) {
        runs.push_back(repeat.at("rows").at(row.name()));
      }
    }
    if (!runs.empty()) {
      list.push_back(summary_row(row, runs));
    }
  }
  return list;
}

void check_same_settings(const std::vector<Json>& repeats) {
  for (const Json& repeat : repeats) {
    const std::string difference =
        settings_difference(repeats.front().at("settings"), repeat.at("settings"));
    if (!difference.empty()) {
      throw ConfigError("reproduce: repeats " + repeats.front().at("repeat").dump() +
                        " (here) and " + repeat.at("repeat").dump() +
                        " (there) were made with different settings: " + difference +
                        "; keep them in folders of their own");
    }
  }
}

// "-4.07": fixed digits; a dash for the unknown.
std::string fixed(const Json& value, int digits) {
  if (value.is_null()) {
    return "–";
  }
  std::ostringstream text;
  text << std::fixed << std::setprecision(digits) << value.get<double>();
  return text.str();
}

std::string spread_text(const Json& spread, int digits) {
  const std::string mean = fixed(spread.at("mean"), digits);
  return spread.at("sd").is_null() ? mean : mean + " ± " + fixed(spread.at("sd"), digits);
}

std::string signed_text(const Json& value) {
  const std::string text = fixed(value, 1);
  if (value.is_null() || text == "0.0" || text == "-0.0") {
    return value.is_null() ? text : "0.0";
  }
  return value.get<double>() < 0.0 ? text : "+" + text;
}

void write_row(std::ostream& out, const std::vector<std::string>& cells) {
  for (const std::string& cell : cells) {
    out << "| " << cell << " ";
  }
  out << "|\n";
}

void write_header(std::ostream& out, const std::vector<std::string>& cells) {
  write_row(out, cells);
  for (size_t i = 0; i < cells.size(); ++i) {
    out << (i < 2 ? "|---" : "|---:");
  }
  out << "|\n";
}

constexpr int kLlDigits = 2;
constexpr int kW2Digits = 2;
constexpr int kGmmDigits = 5;
constexpr int kTrueW2Digits = 3;

void write_paper_table(std::ostream& out, const Json& summary) {
  write_header(out, {"model", "sampler", "repeats", "LL", "published", "dev.", "W2", "published",
                     "dev.", "GMM", "published", "dev."});
  for (const Json& row : summary.at("rows")) {
    std::vector<std::string> cells = {row.at("parameterisation"), row.at("sampler"),
                                      row.at("num_repeats").dump()};
    for (const auto& [metric, digits] :
         {std::pair{"ll", kLlDigits}, std::pair{"w2", kW2Digits}, std::pair{"gmm", kGmmDigits}}) {
      cells.push_back(spread_text(row.at("paper_units").at(metric), digits));
      cells.push_back(spread_text(row.at("published").at(metric), digits));
      cells.push_back(signed_text(row.at("deviation_in_published_sd").at(metric)));
    }
    write_row(out, cells);
  }
  const Json& exact = summary.at("exact").at("paper_units");
  write_row(out,
            {"–", "*exact samples*", summary.at("exact").at("num_repeats").dump(),
             spread_text(exact.at("ll"), kLlDigits), "", "", spread_text(exact.at("w2"), kW2Digits),
             "", "", spread_text(exact.at("gmm"), kGmmDigits), "", ""});
}

std::vector<std::string> corrected_cells(const Json& units) {
  const Json& ours = units.at("corrected_units");
  return {spread_text(ours.at("ll"), kLlDigits),
          fixed(ours.at("num_outside_support").at("mean"), 1),
          spread_text(ours.at("fraction_outside_modes"), 3),
          spread_text(ours.at("w2"), kTrueW2Digits),
          spread_text(ours.at("w2_folded"), kTrueW2Digits),
          spread_text(ours.at("gmm"), kGmmDigits)};
}

void write_corrected_table(std::ostream& out, const Json& summary) {
  write_header(out, {"model", "sampler", "LL (nats)", "points off the support", "outside the modes",
                     "W2", "folded W2", "GMM", "evaluations", "acceptance", "seconds"});
  for (const Json& row : summary.at("rows")) {
    std::vector<std::string> cells = {row.at("parameterisation"), row.at("sampler")};
    const std::vector<std::string> numbers = corrected_cells(row);
    cells.insert(cells.end(), numbers.begin(), numbers.end());
    cells.push_back(row.at("evaluations_per_chain").dump());
    cells.push_back(fixed(row.at("acceptance").at("mean"), 3));
    cells.push_back(fixed(row.at("seconds").at("mean"), 0));
    write_row(out, cells);
  }
  std::vector<std::string> cells = {"–", "*exact samples*"};
  const std::vector<std::string> numbers = corrected_cells(summary.at("exact"));
  cells.insert(cells.end(), numbers.begin(), numbers.end());
  cells.insert(cells.end(), {"0", "–", "–"});
  write_row(out, cells);
}

std::string settings_text(const Json& summary) {
  const Json& settings = summary.at("settings");
  std::ostringstream text;
  text << "preset " << settings.at("preset").get<std::string>() << ", "
       << settings.at("num_samples") << " samples a row, trained for " << settings.at("train_steps")
       << " steps of " << settings.at("batch_size") << " ("
       << settings.at("train_precision").get<std::string>() << "), sampled in "
       << settings.at("compute").get<std::string>();
  for (const Json& used : summary.value("compute_used", Json::array())) {
    if (used != settings.at("compute")) {
      text << " (rows made without AMX: in " << used.get<std::string>() << ")";
    }
  }
  return text.str();
}

// What the rows' networks ran in, each once; files of older versions do not say.
Json computes_used(const std::vector<Json>& repeats) {
  std::set<std::string> used;
  for (const Json& repeat : repeats) {
    for (const Json& row : repeat.at("rows")) {
      const Json compute = row.value("compute_used", Json());
      if (compute.is_string()) {
        used.insert(compute.get<std::string>());
      }
    }
  }
  return used;
}

// Finds a malformed file here, where it can be named, rather than in the middle of a sum.
void check_repeat(const Json& json, const std::string& path) {
  if (!json.is_object() || json.value("format", Json()) != "motet.table1.repeat.1") {
    throw DataError("reproduce: " + path +
                    ": not a repeat file of this version (format motet.table1.repeat.1)");
  }
  try {
    table1_markdown(summarise({json}));
    whole_at(json.at("settings"), "num_samples");
  } catch (const Json::exception& error) {
    throw DataError("reproduce: " + path + ": malformed: " + error.what());
  }
}

}  // namespace

std::vector<Json> read_repeats(const std::string& folder) {
  namespace fs = std::filesystem;
  std::vector<std::string> paths;
  const std::regex pattern("repeat-[0-9]{2,4}\\.json");
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (std::regex_match(entry.path().filename().string(), pattern)) {
      paths.push_back(entry.path().string());
    }
  }
  std::sort(paths.begin(), paths.end());
  if (paths.empty()) {
    throw DataError("reproduce: " + folder +
                    ": no repeat-NN.json; make one with motet reproduce table1 --out " + folder);
  }
  constexpr int64_t kLargestFile = int64_t{1} << 24;
  std::vector<Json> repeats;
  for (const std::string& path : paths) {
    Json json = Json::parse(read_file(path, kLargestFile), nullptr, false);
    check_repeat(json, path);
    repeats.push_back(std::move(json));
  }
  return repeats;
}

Json summarise(const std::vector<Json>& repeats) {
  check_same_settings(repeats);
  Json summary;
  summary["format"] = "motet.table1.1";
  summary["settings"] = repeats.front().at("settings");
  summary["repeats"] = Json::array();
  std::vector<Json> exact;
  for (const Json& repeat : repeats) {
    summary["repeats"].push_back(whole_at(repeat, "repeat"));
    exact.push_back(repeat.at("exact"));
  }
  summary["rows"] = summary_rows(repeats);
  summary["exact"] = {{"num_repeats", exact.size()}};
  summary["exact"].update(units_json(exact));
  summary["compute_used"] = computes_used(repeats);
  return summary;
}

std::string table1_markdown(const Json& summary) {
  std::ostringstream out;
  out << "Settings: " << settings_text(summary)
      << ". Mean ± standard deviation over the repeats.\n\n"
      << "Paper units, exactly as the reference code computes them; dev. = our mean's distance "
         "from "
         "the published one in published standard deviations.\n\n";
  write_paper_table(out, summary);
  out << "\nCorrected units.\n\n";
  write_corrected_table(out, summary);
  return out.str();
}

}  // namespace motet::detail
