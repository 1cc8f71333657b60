// Keys of pretrained networks: inputs by name, respacing, clipping. No file is opened here.
#include "config_pretrained.hpp"

#include <filesystem>

#include "config_keys.hpp"

namespace motet::detail {
namespace {

namespace fs = std::filesystem;

constexpr const char* kInputs = "inputs";
constexpr const char* kCondition = "condition";

bool is_tensor_name(const fs::path& path) {
  return path.extension() == ".npy" || path.extension() == ".safetensors";
}

InputConfig read_input(const Settings& settings, const std::string& key,
                       const std::string& directory) {
  if (settings.holds<double>(key)) {
    return {.number = settings.get<double>(key)};
  }
  const fs::path path(settings.get<std::string>(key));
  if (!is_tensor_name(path)) {
    settings.fail(key, "must be a number, or a file whose name ends in .npy or .safetensors");
  }
  return {.file = path.is_absolute() ? path.string() : (fs::path(directory) / path).string()};
}

}  // namespace

std::vector<Key> pretrained_keys(const std::string& prefix) {
  return {
      {.name = prefix + ".num_levels",
       .types = {KeyType::integer},
       .range = counts(2, 100000),
       .doc = "of a pretrained network: only so many of its noise levels, evenly spread, the first "
              "and the last among them (all)"},
      {.name = prefix + ".ignore_clipping",
       .types = {KeyType::boolean},
       .doc = "load a pretrained network whose sampler clips or thresholds, and sample the "
              "unclipped law (false)"},
      {.name = prefix + "." + kCondition,
       .types = {KeyType::numbers},
       .doc = "what a network that motet train trained on conditions is told, in the data's own "
              "numbers: [x, y] of \"scenes\"; []: \"none\" (docs/training.md)",
       .may_be_empty = true},
      {.name = prefix + "." + kInputs + ".*",
       .types = {KeyType::number, KeyType::text},
       .doc = "an input of a pretrained network by its name, the same for all chains: a number, or "
              "a .npy or .safetensors file, relative to the config (docs/loading.md)"},
  };
}

PretrainedConfig read_pretrained(const Settings& settings, const std::string& prefix,
                                 const std::string& name, const std::string& directory) {
  std::vector<std::string> given;
  for (const char* key : {"num_levels", "ignore_clipping", kCondition}) {
    if (settings.given(prefix + key)) {
      given.push_back(prefix + key);
    }
  }
  const std::vector<std::string> inputs = settings.keys_in(prefix + kInputs);
  given.insert(given.end(), inputs.begin(), inputs.end());
  if (!given.empty() && !settings.given(prefix + "weights")) {
    settings.fail(given.front(),
                  "but [model." + name + "] has no weights of a network; leave it out");
  }
  PretrainedConfig config;
  if (settings.given(prefix + "num_levels")) {
    config.num_levels = settings.get<int64_t>(prefix + "num_levels");
  }
  if (settings.given(prefix + "ignore_clipping")) {
    config.ignore_clipping = settings.get<bool>(prefix + "ignore_clipping");
  }
  if (settings.given(prefix + kCondition)) {
    config.condition = settings.get<std::vector<double>>(prefix + kCondition);
  }
  for (const std::string& key : inputs) {
    config.inputs[key.substr(key.rfind('.') + 1)] = read_input(settings, key, directory);
  }
  if (config.condition && config.inputs.contains("class_labels")) {
    settings.fail(prefix + kCondition,
                  "but [model." + name +
                      ".inputs] gives class_labels, which the condition becomes; leave one out");
  }
  return config;
}

bool is_weights_name(const std::string& path) {
  const std::string extension = fs::path(path).extension().string();
  return extension.empty() || extension == ".safetensors" || extension == ".ts" ||
         extension == ".pt2" || extension == ".eqx";
}

}  // namespace motet::detail
