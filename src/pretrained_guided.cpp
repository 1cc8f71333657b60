// Networks of guided-diffusion from a folder: motet.json says which (pretrained_guided_file.cpp),
// model.safetensors has the tensors by the names of the reference code's state dict.
#include "pretrained_guided.hpp"

#include <torch/types.h>

#include <filesystem>
#include <utility>

#include "error_shape.hpp"
#include "likelihood_network.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "motet/pretrained.hpp"
#include "pretrained_detail.hpp"

namespace motet {
namespace {

using detail::GuidedFile;

constexpr int64_t kMaxJsonSize = 1'000'000;
const std::string kJsonName = "motet.json";
const std::string kTensorsName = "model.safetensors";

std::string prefix_of(const std::string& folder) { return "guided-diffusion: " + folder + ": "; }

std::string path_in(const std::string& folder, const std::string& name) {
  return (std::filesystem::path(folder) / name).string();
}

GuidedFile read_guided_file(const std::string& folder) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored)) {
    throw DataError(prefix_of(folder) +
                    "is no folder; a checkpoint of guided-diffusion is a pickle, "
                    "which motet never loads: make a folder of it with "
                    "tools/export/guided_diffusion.py");
  }
  const std::string path = path_in(folder, kJsonName);
  return detail::parse_guided_file(read_file(path, kMaxJsonSize), "guided-diffusion: " + path);
}

// The network that the file describes. Its settings come from the file, so what they break is the
// file's flaw.
detail::ArchitecturePtr architecture_of(const GuidedFile& file, const std::string& folder) {
  try {
    return file.is_classifier ? detail::adm_classifier(file.network)
                              : detail::adm_unet(file.network);
  } catch (const ConfigError& error) {
    throw DataError("guided-diffusion: " + path_in(folder, kJsonName) + ": " + error.what());
  }
}

detail::OutputSpec output_of(const GuidedFile& file) {
  return {.prediction = file.diffusion.predicts_x_0 ? detail::Prediction::sample
                                                    : detail::Prediction::epsilon,
          .schedule = detail::guided_schedule(file.diffusion),
          .times = detail::guided_times(file.diffusion)};
}

detail::NetworkPtr open_network(const GuidedFile& file, const std::string& folder,
                                const PretrainedOptions& options) {
  detail::ArchitecturePtr architecture = architecture_of(file, folder);
  const TensorFile read = read_safetensors(path_in(folder, kTensorsName));
  detail::NetworkPtr network =
      detail::bound_network(std::move(architecture), read.tensors, options.inputs, options.compute,
                            options.device, prefix_of(folder));
  detail::check_finite(read.tensors, prefix_of(folder));
  return network;
}

}  // namespace

ModelPtr load_guided_diffusion(const std::string& folder, std::string name,
                               const PretrainedOptions& options) {
  const GuidedFile file = read_guided_file(folder);
  if (file.is_classifier) {
    throw ConfigError(
        prefix_of(folder) +
        "is a classifier (EncoderUNetModel), which has no score; give it as classifier "
        "= \"FOLDER\" with a label, or load it by load_guided_diffusion_classifier()");
  }
  if (file.clips && !options.ignore_clipping) {
    throw ConfigError("guided-diffusion: " + path_in(folder, kJsonName) +
                      ": clip_denoised = true, but a clipped estimate of x_0 is no score, and "
                      "Metropolis tests would be wrong; accept the unclipped one with "
                      "ignore_clipping = true, or write false into the file");
  }
  detail::OutputSpec output =
      detail::respaced(output_of(file), options.num_levels, prefix_of(folder));
  return detail::prediction_model(open_network(file, folder, options), std::move(output),
                                  std::move(name));
}

LikelihoodPtr load_guided_diffusion_classifier(const std::string& folder, int64_t label,
                                               std::string name, const PretrainedOptions& options) {
  const GuidedFile file = read_guided_file(folder);
  if (!file.is_classifier) {
    throw ConfigError(
        prefix_of(folder) +
        "is no classifier but a UNetModel; give it as weights = \"FOLDER\", or load it "
        "by load_guided_diffusion()");
  }
  const detail::OutputSpec output =
      detail::respaced(output_of(file), options.num_levels, prefix_of(folder));
  return detail::network_classifier(
      open_network(file, folder, options),
      {.schedule = output.schedule, .times = output.times, .label = label}, std::move(name));
}

namespace detail {

PretrainedNetwork read_guided_diffusion(const std::string& folder) {
  const GuidedFile file = read_guided_file(folder);
  PretrainedNetwork network = {.architecture = architecture_of(file, folder),
                               .output = output_of(file)};
  network.notes.emplace_back("schedule", file.diffusion.noise_schedule + " of " +
                                             std::to_string(file.diffusion.num_steps) + " steps");
  if (file.clips) {
    network.notes.emplace_back("clipping",
                               "clip_denoised = true; loads with ignore_clipping = true only");
  }
  return network;
}

void save_guided_diffusion(const std::string& folder, const GuidedFile& file,
                           const TensorMap& tensors,
                           const std::map<std::string, std::string>& metadata) {
  const ArchitecturePtr architecture =
      file.is_classifier ? adm_classifier(file.network) : adm_unet(file.network);
  (void)guided_schedule(file.diffusion);
  check_tensors(architecture->expected_tensors(), tensors, prefix_of(folder),
                TensorDtype::any_float);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    throw DataError(prefix_of(folder) + "cannot be made (" + error.message() + ")");
  }
  // The description last: with it a folder is complete.
  write_safetensors(path_in(folder, kTensorsName), {.tensors = tensors, .metadata = metadata});
  write_file_atomic(path_in(folder, kJsonName), guided_file_text(file));
}

}  // namespace detail
}  // namespace motet
