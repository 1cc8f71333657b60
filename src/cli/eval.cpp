// motet eval SAMPLES.npy --target NAME
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/command.hpp"
#include "cli/summary.hpp"
#include "motet/evaluate.hpp"
#include "motet/io.hpp"

namespace motet::cli {
namespace {

struct Options {
  std::string samples;
  std::string target;
  std::string log_weights;
  std::optional<std::string> json;  // empty text: to stdout, alone
  uint64_t seed = 0;
  int64_t num_samples = 2000;
};

void run_command(const Options& options) {
  const std::string json = evaluate_samples(
      read_npy(options.samples), options.samples,
      {.target = options.target,
       .seed = options.seed,
       .num_samples = options.num_samples,
       .log_weights = options.log_weights.empty() ? at::Tensor() : read_npy(options.log_weights)});
  if (options.json && options.json->empty()) {
    std::cout << json;
    return;
  }
  if (options.json) {
    write_file_atomic(*options.json, json);
  }
  const auto parsed = nlohmann::json::parse(json);
  print_line(std::cout, "samples", options.samples);
  print_line(std::cout, "target", options.target);
  print_line(std::cout, "num_samples",
             std::to_string(parsed.at("metrics").at("num_samples").get<int64_t>()) + " of " +
                 std::to_string(parsed.at("num_chains").get<int64_t>()));
  print_metrics(parsed.at("metrics"), std::cout);
}

}  // namespace

void add_eval(CLI::App& app) {
  CLI::App* command = app.add_subcommand("eval", "Measure samples against an exact target");
  auto options = std::make_shared<Options>();
  command->add_option("samples", options->samples, "samples (N, d)")
      ->required()
      ->type_name("SAMPLES.npy");
  std::string names;
  for (const std::string& name : evaluation_targets()) {
    names += (names.empty() ? "" : ", ") + name;
  }
  command->add_option("--target", options->target, names)->required()->type_name("NAME");
  CLI::Option* json =
      command->add_option("--json", "every number, into F.json; without a file: on stdout, alone")
          ->expected(0, 1)
          ->type_name("[F.json]");
  command->add_option("--seed", options->seed, "of the exact samples compared with")
      ->type_name("S");
  command
      ->add_option("--num-samples", options->num_samples,
                   "measure the first N (2000); W2 costs their cube")
      ->type_name("N");
  command
      ->add_option("--log-weights", options->log_weights,
                   "log weights (N) of the samples, as a run without resampling writes them")
      ->type_name("F.npy");
  command->callback([options, json] {
    if (json->count() > 0) {
      options->json = json->results().empty() ? "" : json->results().front();
    }
    run_command(*options);
  });
}

}  // namespace motet::cli
