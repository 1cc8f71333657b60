// motet sample [CONFIG.toml] [--target EXPR], and motet tapestry CONFIG.toml
#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/command.hpp"
#include "cli/summary.hpp"
#include "motet/error.hpp"

namespace motet::cli {
namespace {

struct Options {
  SampleOptions sample;
  RunFiles files;
  std::vector<std::string> shorthands[6];  // each at most one entry
  bool quiet = false;
  bool is_tapestry = false;
};
constexpr const char* kShorthandKeys[] = {"sampler", "num_samples", "seed",
                                          "compute", "device",      "evaluations"};

void run_command(Options options) {
  for (size_t i = 0; i < std::size(kShorthandKeys); ++i) {
    for (const std::string& value : options.shorthands[i]) {
      options.sample.overrides.push_back(std::string(kShorthandKeys[i]) + "=" + value);
    }
  }
  const SampleConfig config = load_sample_config(options.sample);
  if (options.is_tapestry && !config.tapestry) {
    throw ConfigError("tapestry: " + config.name +
                      " has no table [tapestry]; add one, or use motet sample");
  }
  if (std::any_of(config.terms.begin(), config.terms.end(),
                  [](const TermConfig& term) { return !term.file().empty(); })) {
    warn_of_compute(config.compute, config.device);
  }
  const RunReport report = run(config, options.files, terminal_hooks(options.quiet));
  end_progress();
  const auto json = nlohmann::json::parse(report.json);
  print_run(json, std::cout);
  std::string log_weights;
  if (json.contains("log_weights") && json.at("log_weights").at("file").is_string()) {
    log_weights = json.at("log_weights").at("file").get<std::string>();
  }
  const std::pair<const char*, const std::string*> written[] = {{"samples", &options.files.samples},
                                                                {"log_weights", &log_weights},
                                                                {"json", &options.files.json},
                                                                {"png", &options.files.picture},
                                                                {"report", &options.files.report}};
  for (const auto& [what, path] : written) {
    if (!path->empty()) {
      print_line(std::cout, what, *path);
    }
  }
}

// The options that both commands have, and what they do.
void add_options(CLI::App* command, const std::shared_ptr<Options>& options) {
  const auto shorthand = [&](size_t i, const std::string& flag, const std::string& doc,
                             const std::string& type) {
    command->add_option(flag, options->shorthands[i], doc)->type_name(type)->expected(1);
  };
  shorthand(0, "--sampler", "exact, or a sampler of the published table", "NAME");
  shorthand(1, "--num-samples", "chains, one sample each", "N");
  shorthand(2, "--seed", "of every random number", "S");
  shorthand(3, "--compute", "float32, bfloat16 or reference", "WORD");
  shorthand(4, "--device", "cpu or cuda", "DEVICE");
  shorthand(5, "--evaluations,--budget", "of each factor that a chain of sampler exact may cost",
            "N");
  command->add_option("--out", options->files.samples, "samples, float32 (N, *event)")
      ->type_name("F.npy");
  command->add_option("--png", options->files.picture, "the first samples, if they are images")
      ->type_name("F.png");
  command->add_option("--report", options->files.report, "one self-contained page")
      ->type_name("F.html");
  command->add_option("--json", options->files.json, "every number of the run")
      ->type_name("F.json");
  command->add_flag("--resume", options->files.resume,
                    "continue the checkpoint of a stopped run, to the same bits");
  add_config_options(*command, options->sample.overrides, options->quiet);
  command->callback([options] { run_command(*options); });
}

}  // namespace

void add_sample(CLI::App& app) {
  CLI::App* command = app.add_subcommand("sample", "Sample a composition of models");
  auto options = std::make_shared<Options>();
  add_sample_config(*command, options->sample);
  add_options(command, options);
}

void add_tapestry(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("tapestry", "Sample overlapping windows on a canvas, a model each");
  auto options = std::make_shared<Options>();
  options->is_tapestry = true;
  command->add_option("config", options->sample.config, "a config with a table [tapestry]")
      ->required()
      ->type_name("CONFIG.toml");
  add_options(command, options);
}

}  // namespace motet::cli
