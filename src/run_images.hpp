// Networks of images in a training run: made for the data, and written as the folders that other
// people's code reads.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "motet/run_config.hpp"
#include "pretrained_guided.hpp"
#include "train_architecture.hpp"

namespace motet::detail {

/// A network of images that fits its data.
struct ImageTraining {
  ArchitecturePtr architecture;
  Objective objective;
  nlohmann::json config;             ///< unet: config.json
  std::optional<GuidedFile> guided;  ///< encoder_unet: motet.json
};

/// The network for points of `data`. Throws ConfigError for settings that do not fit each other or
/// the data, and for a classifier on a schedule that guided-diffusion has no name for.
ImageTraining image_training(const ImageNetwork& network, const DataSet& data,
                             const NoiseSchedule& schedule);

/// The data of a training config; files are read. Throws DataError, ConfigError.
DataSetPtr open_data(const DataConfig& data);
/// Every file that `data` are read from: config key -> path.
std::map<std::string, std::string> data_files(const DataConfig& data);

/// Makes the folder of a trained network, or fills the one that is there: config.json,
/// scheduler_config.json and diffusion_pytorch_model.safetensors, as diffusers loads them; of a
/// classifier motet.json and model.safetensors. The tensors carry `provenance`.
/// Throws DataError when it cannot be written.
void save_image_network(const std::string& folder, const ImageNetwork& network,
                        const ImageTraining& training, const NoiseSchedule& schedule,
                        const TensorMap& tensors,
                        const std::map<std::string, std::string>& provenance);

/// Throws DataError unless `folder` can be made beside what is there, or is a folder.
void check_folder(const std::string& folder);

/// scheduler_config.json of DDPMScheduler for a schedule, with what the network predicts. Betas that
/// are evenly spaced become "linear", all others a list.
nlohmann::json scheduler_json(const NoiseSchedule& schedule, const std::string& prediction);

}  // namespace motet::detail
