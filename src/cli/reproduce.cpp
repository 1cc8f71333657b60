// motet reproduce table1
#include "motet/reproduce.hpp"

#include <filesystem>
#include <iostream>

#include "cli/command.hpp"
#include "motet/io.hpp"

namespace motet::cli {
namespace {

struct Options {
  ReproduceConfig config;
  std::string compute = "float32";
  std::string train_precision = "float32";
  bool render = false;
  bool quiet = false;
};

void run_command(Options options) {
  ReproduceConfig& config = options.config;
  config.compute = compute_from(options.compute);
  config.mixed_precision = options.train_precision == "mixed";
  if (options.render) {
    summarise_table1(config.folder);
  } else {
    warn_of_compute(config.compute, config.device);
    reproduce_table1(config, terminal_hooks(options.quiet));
  }
  end_progress();
  const std::filesystem::path folder(config.folder);
  std::cout << read_file((folder / "table1.md").string()) << "\nreport  "
            << (folder / "report.html").string() << "\n";
}

void add_options(CLI::App& command, Options& options) {
  ReproduceConfig& config = options.config;
  command.add_option("--repeats", config.num_repeats, "repeats, each with its own training")
      ->capture_default_str()
      ->type_name("R");
  command.add_option("--first-repeat", config.first_repeat, "number of the first one")
      ->capture_default_str()
      ->type_name("K");
  command
      .add_option("--preset", config.preset,
                  "paper: the reference code to the letter; corrected: the same samplers right")
      ->capture_default_str()
      ->type_name("paper|corrected");
  command
      .add_option("--rows", config.rows,
                  "rows to make: score, energy, a sampler's name, or one row such as "
                  "score/hmc-4-curve; default: all 15")
      ->delimiter(',')
      ->type_name("ROW,...");
  command.add_option("--out", config.folder, "folder of the repeats and the table")
      ->capture_default_str()
      ->type_name("DIR");
  command.add_flag("--resume", config.resume,
                   "add what is missing to the repeats there; continue a stopped run");
  command.add_option("--compute", options.compute, "arithmetic of sampling")
      ->check(CLI::IsMember({"reference", "float32", "bfloat16"}))
      ->capture_default_str();
  command.add_option("--train-precision", options.train_precision, "arithmetic of training")
      ->check(CLI::IsMember({"float32", "mixed"}))
      ->capture_default_str();
  command.add_option("--device", config.device, "of sampling: cpu or cuda")->capture_default_str();
  command.add_option("--train-steps", config.train_steps, "training steps of each network")
      ->capture_default_str();
  command.add_option("--batch-size", config.batch_size, "points of a training step")
      ->capture_default_str();
  command.add_option("--num-samples", config.num_samples, "chains a row")->capture_default_str();
  command.add_flag("--render", options.render,
                   "only write the table and the report again from the repeats there");
  command.add_flag("--quiet", options.quiet, "no progress on stderr");
}

}  // namespace

void add_reproduce(CLI::App& app) {
  CLI::App* command = app.add_subcommand("reproduce", "Make a published table again, end to end");
  command->require_subcommand(1);
  CLI::App* table = command->add_subcommand(
      "table1", "Table 1 of the paper: 15 rows, trained, sampled, measured and compared");
  auto options = std::make_shared<Options>();
  add_options(*table, *options);
  table->callback([options] { run_command(*options); });
}

}  // namespace motet::cli
