// A path decides who loads it; the files that it stands for decide whether a run may be resumed.
#include "run_pretrained.hpp"

#include <torch/types.h>

#include <filesystem>

#include "checkpoint.hpp"
#include "error_shape.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "motet/pretrained.hpp"

namespace motet::detail {
namespace {

namespace fs = std::filesystem;

bool is_pretrained(const std::string& path) {
  std::error_code error;
  return pretrained_kind(path) != PretrainedKind::none || fs::is_directory(path, error);
}

// The tensor of a file: the only one, or that of the input's name.
Tensor read_input(const std::string& path, const std::string& name) {
  if (fs::path(path).extension() == ".npy") {
    return read_npy(path);
  }
  const TensorFile file = read_safetensors(path);
  const auto found = file.tensors.find(name);
  if (found != file.tensors.end()) {
    return found->second;
  }
  if (file.tensors.size() != 1) {
    throw DataError("read: " + path + ": has " + std::to_string(file.tensors.size()) +
                    " tensors, must have one, or one called " + quoted_text(name));
  }
  return file.tensors.begin()->second;
}

PretrainedOptions options_of(const SampleConfig& config, const TermConfig& term) {
  PretrainedOptions options{.compute = compute_used(config.compute, config.device),
                            .device = config.device,
                            .condition = term.pretrained.condition,
                            .num_levels = term.pretrained.num_levels,
                            .ignore_clipping = term.pretrained.ignore_clipping};
  for (const auto& [name, input] : term.pretrained.inputs) {
    options.inputs[name] = input.file.empty() ? at::scalar_tensor(input.number, at::kFloat)
                                              : read_input(input.file, name);
  }
  return options;
}

std::string kind_text(PretrainedKind kind) {
  switch (kind) {
    case PretrainedKind::diffusers:
      return "diffusers";
    case PretrainedKind::guided_diffusion:
      return "guided_diffusion";
    case PretrainedKind::exported_program:
      return "exported_program";
    default:
      return "mixer";
  }
}

}  // namespace

ModelPtr load_network(const SampleConfig& config, const TermConfig& term) {
  if (is_pretrained(term.weights)) {
    return load_pretrained(term.weights, term.name, options_of(config, term));
  }
  if (!term.pretrained.is_default()) {
    throw ConfigError("config: " + config.name + ": [model." + term.name +
                      "] has inputs, a condition, num_levels or ignore_clipping, but " +
                      term.weights +
                      " is a weights file of motet's, which takes none; leave them out");
  }
  return network_model(load_weights(term.weights), term.name, config.compute, config.device);
}

WeightsSource weights_source(const TermConfig& term) {
  if (!is_pretrained(term.file())) {
    return {.hash = file_hash(term.file()), .metadata = read_safetensors(term.file()).metadata};
  }
  std::string hashes;
  for (const std::string& file : pretrained_files(term.file())) {
    hashes += file_hash(file) + "\n";
  }
  for (const auto& [name, input] : term.pretrained.inputs) {
    hashes += input.file.empty() ? "" : name + " " + file_hash(input.file) + "\n";
  }
  return {.hash = text_hash(hashes),
          .metadata = {{"kind", kind_text(pretrained_kind(term.file()))}}};
}

}  // namespace motet::detail
