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

detail::NetworkPtr open_network(const GuidedFile& file, const std::string& folder,
                                const PretrainedOptions& options) {
  detail::ArchitecturePtr architecture = architecture_of(file, folder);
  const TensorFile tensors = read_safetensors(path_in(folder, kTensorsName));
  return detail::bound_network(std::move(architecture), tensors.tensors, options.inputs,
                               options.compute, options.device, prefix_of(folder));
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
  detail::OutputSpec spec = {.prediction = file.diffusion.predicts_x_0
                                               ? detail::Prediction::sample
                                               : detail::Prediction::epsilon,
                             .schedule = detail::guided_schedule(file.diffusion),
                             .times = detail::guided_times(file.diffusion)};
  return detail::prediction_model(open_network(file, folder, options), std::move(spec),
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
  detail::ClassifierSpec spec = {.schedule = detail::guided_schedule(file.diffusion),
                                 .times = detail::guided_times(file.diffusion),
                                 .label = label};
  return detail::network_classifier(open_network(file, folder, options), std::move(spec),
                                    std::move(name));
}

namespace detail {

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
