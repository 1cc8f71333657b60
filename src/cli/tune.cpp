// motet tune [CONFIG.toml] [--target EXPR] -o TUNED.toml
#include <filesystem>
#include <iostream>

#include "cli/command.hpp"
#include "cli/summary.hpp"
#include "motet/io.hpp"
#include "run_detail.hpp"

namespace motet::cli {
namespace {

struct Options {
  SampleOptions sample;
  std::string out;
  bool quiet = false;
};

std::string list_text(const std::vector<double>& numbers) {
  std::string text;
  for (const double number : numbers) {
    text += (text.empty() ? "" : " ") + fixed(number, 4);
  }
  return text;
}

void run_command(const Options& options) {
  const SampleConfig config = load_sample_config(options.sample);
  detail::check_writable(options.out);
  const std::string folder = std::filesystem::absolute(options.out).parent_path().string();
  const SampleConfig tuned = tuned_config(config, folder, terminal_hooks(options.quiet));
  end_progress();
  const std::string source = options.sample.config.empty() ? "a target" : options.sample.config;
  write_file_atomic(options.out,
                    "# " + source + ", its step sizes found by motet tune\n" + tuned.toml);
  print_line(std::cout, "levels", std::to_string(tuned.overrides.levels->size()));
  print_line(std::cout, "step sizes", list_text(tuned.overrides.step_size->values));
  if (tuned.overrides.num_points) {
    std::string points;
    for (const int64_t count : *tuned.overrides.num_points) {
      points += (points.empty() ? "" : " ") + std::to_string(count);
    }
    print_line(std::cout, "line points", points);
  }
  print_line(std::cout, "config", options.out);
}

}  // namespace

void add_tune(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "tune", "Find the step sizes of a config's sampler; writes a config that keeps them fixed");
  auto options = std::make_shared<Options>();
  add_sample_config(*command, options->sample);
  command->add_option("-o,--out", options->out, "the tuned config, for motet sample")
      ->required()
      ->type_name("TUNED.toml");
  add_config_options(*command, options->sample.overrides, options->quiet);
  command->callback([options] { run_command(*options); });
}

}  // namespace motet::cli
