// motet train CONFIG.toml
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/command.hpp"
#include "cli/summary.hpp"
#include "motet/error.hpp"

namespace motet::cli {
namespace {

struct Options {
  std::string config;
  RunFiles files;
  std::vector<std::string> overrides;
  std::string seed;
  bool quiet = false;
};

void run_command(Options options) {
  if (!options.seed.empty()) {
    options.overrides.push_back("seed=" + options.seed);
  }
  const TrainJob job = load_train_config(options.config, options.overrides);
  if (options.files.weights.empty()) {
    options.files.weights = std::filesystem::path(options.config).stem().string() +
                            (job.image_network ? "" : ".safetensors");
  }
  const TrainReport report = run_train(job, options.files, terminal_hooks(options.quiet));
  end_progress();
  const auto json = nlohmann::json::parse(report.json);
  std::cout << "weights        " << options.files.weights << "\n";
  if (!json["losses"].empty()) {
    const auto& last = json["losses"].back();  // null where it was not finite
    std::cout << "loss           " << (last.is_number() ? fixed(last.get<double>(), 4) : "-")
              << "  (mean of the last " << json["loss_every"] << " steps)\n";
  }
  if (!json["held_out"].empty()) {
    std::cout << "held-out loss  " << fixed(number_at(json["held_out"].back(), "mean"), 4) << "\n";
  }
  std::cout << "seconds        " << fixed(json["seconds"]["total"].get<double>(), 1) << "\n";
}

}  // namespace

void add_train(CLI::App& app) {
  CLI::App* command = app.add_subcommand("train", "Train a network on a data set");
  auto options = std::make_shared<Options>();
  command->add_option("config", options->config, "TOML file (docs/config.md)")
      ->required()
      ->type_name("CONFIG.toml");
  command
      ->add_option("--out", options->files.weights,
                   "weights file, or folder of a network of images; default: the config's name + "
                   ".safetensors, or without an ending")
      ->type_name("W.safetensors");
  command->add_option("--json", options->files.json, "every number of the run")
      ->type_name("F.json");
  command->add_option("--seed", options->seed, "the same as --set seed=S")->type_name("S");
  command->add_flag("--resume", options->files.resume,
                    "continue the checkpoint of a stopped run, to the same bits");
  add_config_options(*command, options->overrides, options->quiet);
  command->callback([options] { run_command(*options); });
}

}  // namespace motet::cli
