// motet info FILE: what a weights file, a network, samples, a run or a config is. motet info
// --target EXPR: what an expression stands for. motet info --keys: the table of config keys.
#include <torch/types.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <sstream>

#include "cli/command.hpp"
#include "cli/summary.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "motet/pretrained.hpp"

namespace motet::cli {
namespace {

constexpr int64_t kMaxTextBytes = int64_t{1} << 28;

std::string shape_text(const Tensor& tensor) {
  std::ostringstream out;
  out << tensor.sizes();
  return out.str();
}

void show_tensor_file(const std::string& path) {
  const TensorFile file = read_safetensors(path);
  int64_t num_values = 0;
  for (const auto& [name, tensor] : file.tensors) {
    num_values += tensor.numel();
  }
  print_line(std::cout, "file", path);
  print_line(
      std::cout, "numbers",
      std::to_string(num_values) + " in " + std::to_string(file.tensors.size()) + " tensors");
  for (const auto& [key, value] : file.metadata) {
    print_line(std::cout, key, value);
  }
  std::cout << "\n";
  for (const auto& [name, tensor] : file.tensors) {
    print_line(std::cout, name,
               std::string(c10::toString(tensor.scalar_type())) + " " + shape_text(tensor));
  }
}

void show_samples(const std::string& path) {
  const Tensor x = read_npy(path);
  print_line(std::cout, "file", path);
  print_line(std::cout, "dtype", c10::toString(x.scalar_type()));
  print_line(std::cout, "shape", shape_text(x));
  if (x.numel() == 0) {
    return;
  }
  const Tensor columns = x.reshape({x.size(0), -1}).to(at::kDouble);
  const Tensor finite = at::isfinite(columns);
  print_line(std::cout, "not finite",
             std::to_string(columns.numel() - finite.sum().item<int64_t>()));
  constexpr int64_t kMaxShown = 16;
  for (int64_t i = 0; i < std::min(columns.size(1), kMaxShown); ++i) {
    const Tensor values = columns.select(1, i).masked_select(finite.select(1, i));
    if (values.numel() > 0) {
      print_line(std::cout, "coordinate " + std::to_string(i),
                 "min " + fixed(values.min().item<double>(), 4) + "  mean " +
                     fixed(values.mean().item<double>(), 4) + "  max " +
                     fixed(values.max().item<double>(), 4));
    }
  }
  if (columns.size(1) > kMaxShown) {
    print_line(std::cout, "",
               "and " + std::to_string(columns.size(1) - kMaxShown) + " more coordinates");
  }
}

void show_run(const std::string& path, const nlohmann::json& json) {
  const std::string kind = json.is_object() ? json.value("kind", "") : "";
  if (kind == "sample") {
    print_run(json, std::cout);
  } else if (kind == "eval") {
    print_line(std::cout, "samples", json.value("samples", ""));
    print_metrics(json.at("metrics"), std::cout);
  } else if (kind == "diagnose") {
    const auto& diagnosis = json.at("diagnosis");
    print_line(std::cout, "target", json.value("target", ""));
    for (const auto& check : diagnosis.at("checks")) {
      print_line(std::cout, check.value("name", ""),
                 check.value("light", "") + ": " + check.value("sentence", ""));
    }
    print_line(std::cout, "overall", diagnosis.value("light", ""));
  } else if (kind == "train") {
    print_line(std::cout, "steps", std::to_string(json.value("num_steps", int64_t{0})));
    if (!json.at("held_out").empty()) {
      print_line(std::cout, "held-out loss",
                 fixed(number_at(json.at("held_out").back(), "mean"), 5));
    }
  } else {
    throw DataError("info: " + path + ": JSON, but not of a motet run");
  }
  print_line(std::cout, "commit", json.value("commit", ""));
}

void show_json(const std::string& path) {
  const auto json = nlohmann::json::parse(read_file(path, kMaxTextBytes), nullptr, false);
  try {
    show_run(path, json);
  } catch (const nlohmann::json::exception& error) {
    throw DataError("info: " + path + ": not as motet writes the JSON of a run: " + error.what());
  }
}

// A config says by its tables what it is for.
void show_config(const std::string& path) {
  try {
    const std::string toml = load_config(path).toml;
    std::cout << "# a sampling config, every key with its value\n" << toml;
  } catch (const ConfigError& sampling) {
    try {
      const std::string toml = load_train_config(path).toml;
      std::cout << "# a training config, every key with its value\n" << toml;
    } catch (const ConfigError& training) {
      throw ConfigError("info: " + path + ": as a sampling config: " + sampling.what() +
                        "; as a training config: " + training.what());
    }
  }
}

void print_keys(const std::vector<ConfigKey>& keys, const std::string& title) {
  std::cout << "## " << title << "\n\n| key | value | default | meaning |\n|---|---|---|---|\n";
  for (const ConfigKey& key : keys) {
    std::cout << "| `" << key.name << "` | " << key.allowed << " | "
              << (key.fallback.empty() ? "" : "`" + key.fallback + "`") << " | " << key.doc
              << " |\n";
  }
}

void show_keys() {
  print_keys(sample_config_keys(), "motet sample");
  std::cout << "\n";
  print_keys(train_config_keys(), "motet train");
}

void show_target(const SampleOptions& options) {
  std::cout << printable(describe_target(load_sample_config(options)));
}

void show_network(const std::string& path) {
  const auto rows = describe_pretrained(path);
  print_line(std::cout, "network", path);
  for (const auto& [name, text] : rows) {
    print_line(std::cout, name, printable(text));
  }
}

void show_file(const std::string& path) {
  if (pretrained_kind(path) != PretrainedKind::none || std::filesystem::is_directory(path)) {
    show_network(path);
    return;
  }
  const std::string extension = std::filesystem::path(path).extension().string();
  if (extension == ".safetensors" || extension == ".checkpoint") {
    show_tensor_file(path);
  } else if (extension == ".npy") {
    show_samples(path);
  } else if (extension == ".json") {
    show_json(path);
  } else if (extension == ".toml") {
    show_config(path);
  } else {
    throw ConfigError("info: \"" + path +
                      "\": must end in .safetensors, .checkpoint, .npy, .json or .toml");
  }
}

}  // namespace

void add_info(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("info", "Describe a weights file, a network, samples, a run or a config");
  auto options = std::make_shared<SampleOptions>();
  auto keys = std::make_shared<bool>(false);
  CLI::Option* file =
      command
          ->add_option("file", options->config,
                       ".safetensors, .npy, .json, .toml, or a folder or program of a network")
          ->type_name("FILE");
  CLI::Option* target =
      command
          ->add_option("--target", options->target,
                       "an expression (docs/expressions.md), with FILE for the config that its "
                       "names are from: its tree, cost, and whether it is a law")
          ->type_name("EXPR")
          ->allow_extra_args(false);
  command->add_flag("--keys", *keys, "the table of all config keys, as in docs/config.md")
      ->excludes(file)
      ->excludes(target);
  command->callback([options, keys] {
    if (*keys) {
      show_keys();
    } else if (!options->target.empty()) {
      show_target(*options);
    } else if (options->config.empty()) {
      throw CLI::RequiredError("file");
    } else {
      show_file(options->config);
    }
  });
}

}  // namespace motet::cli
