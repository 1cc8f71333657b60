// motet diagnose [CONFIG.toml] [--target EXPR]
#include <algorithm>
#include <cmath>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/command.hpp"
#include "cli/summary.hpp"
#include "motet/run_diagnose.hpp"

namespace motet::cli {
namespace {

struct Options {
  SampleOptions sample;
  RunFiles files;
  DiagnoseConfig settings;
  std::string seed;
  bool quiet = false;
};

// At most four significant digits, so that columns stay narrow.
std::string cell(double value) {
  if (!std::isfinite(value)) {
    return "-";
  }
  std::ostringstream out;
  out << std::setprecision(3) << value;
  return out.str();
}

void print_levels(const std::vector<LevelDiagnosis>& levels) {
  constexpr int kWidth = 12;
  const auto print = [](const std::vector<std::string>& cells) {
    for (const std::string& text : cells) {
      std::cout << std::right << std::setw(kWidth) << text;
    }
    std::cout << "\n";
  };
  print({"level", "step_size", "acceptance", "jump", "path (nat)", "quadrature", "curl", "settling",
         "balance"});
  for (const LevelDiagnosis& row : levels) {
    print({std::to_string(row.level.index), cell(row.step_size), cell(row.acceptance),
           cell(row.squared_jump), cell(row.path_dependence), cell(row.quadrature_error),
           cell(row.curl.value), cell(row.lag.value), cell(row.balance.value)});
  }
}

// Words of a sentence in lines of at most kColumns, for print_line to indent.
std::string wrapped(const std::string& sentence) {
  constexpr size_t kColumns = 76;
  std::istringstream words(sentence);
  std::string out;
  size_t column = 0;
  for (std::string word; words >> word;) {
    const bool breaks = column > 0 && column + 1 + word.size() > kColumns;
    out += column == 0 ? "" : breaks ? "\n" : " ";
    column = breaks || column == 0 ? word.size() : column + 1 + word.size();
    out += word;
  }
  return out;
}

void print_diagnosis(const DiagnoseReport& report) {
  const auto json = nlohmann::json::parse(report.json);
  const auto& sampler = json.at("sampler");
  print_line(std::cout, "target", json.value("target", ""));
  print_line(std::cout, "sampler",
             sampler.value("name", "") + " (" + sampler.value("preset", "") + "), " +
                 sampler.value("kernel", ""));
  print_line(std::cout, "evaluations_per_chain",
             std::to_string(report.diagnosis.evaluations_per_chain));
  std::cout << "\n";
  print_levels(report.diagnosis.levels);
  std::cout << "\n";
  for (const Check& check : report.diagnosis.checks) {
    print_line(std::cout, check.name, wrapped(to_string(check.light) + ": " + check.sentence));
  }
  std::cout << "\n";
  print_line(std::cout, "overall", to_string(report.diagnosis.light));
}

void run_command(Options options) {
  if (!options.seed.empty()) {
    options.sample.overrides.push_back("seed=" + options.seed);
  }
  const SampleConfig config = load_sample_config(options.sample);
  if (std::any_of(config.terms.begin(), config.terms.end(),
                  [](const TermConfig& term) { return !term.file().empty(); })) {
    warn_of_compute(config.compute, config.device);
  }
  const DiagnoseReport report =
      run_diagnose(config, options.settings, options.files, terminal_hooks(options.quiet));
  end_progress();
  print_diagnosis(report);
  const std::pair<const char*, const std::string*> written[] = {{"json", &options.files.json},
                                                                {"report", &options.files.report}};
  for (const auto& [what, path] : written) {
    if (!path->empty()) {
      print_line(std::cout, what, *path);
    }
  }
}

}  // namespace

void add_diagnose(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "diagnose", "Say how far a config's sampler can be trusted, and what to do");
  auto options = std::make_shared<Options>();
  add_sample_config(*command, options->sample);
  command->add_option("--num-chains", options->settings.num_chains, "chains of the pilot run")
      ->capture_default_str()
      ->type_name("N");
  command
      ->add_option("--num-held-out", options->settings.num_held_out,
                   "chains of the test on Gaussians; 0: none")
      ->capture_default_str()
      ->type_name("N");
  command->add_option("--seed", options->seed, "the same as --set seed=S")->type_name("S");
  command->add_option("--json", options->files.json, "every number, under \"diagnosis\"")
      ->type_name("F.json");
  command->add_option("--report", options->files.report, "one self-contained page")
      ->type_name("F.html");
  add_config_options(*command, options->sample.overrides, options->quiet);
  command->callback([options] { run_command(*options); });
}

}  // namespace motet::cli
