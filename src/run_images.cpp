// Data and networks of images for a training run. What is written is what diffusers reads; the
// metadata of the tensors say how they were trained.
#include "run_images.hpp"

#include <torch/types.h>

#include <cmath>
#include <filesystem>

#include "error_shape.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "nets/unet2d.hpp"
#include "run_detail.hpp"

namespace motet {
namespace {

namespace fs = std::filesystem;
using detail::ImageTraining;
using nlohmann::json;

bool has_ending(const std::string& path, const std::string& ending) {
  return path.size() >= ending.size() &&
         path.compare(path.size() - ending.size(), ending.size(), ending) == 0;
}

Tensor read_labels(const std::string& path) {
  return has_ending(path, ".npy") ? read_npy(path) : read_idx(path);
}

DataSetPtr open_images(const DataConfig& data) {
  Tensor images;
  Tensor labels;
  if (has_ending(data.images, ".safetensors")) {
    const TensorFile file = read_safetensors(data.images);
    const auto found = file.tensors.find("images");
    if (found == file.tensors.end()) {
      throw DataError("read: " + data.images + ": there is no tensor \"images\"");
    }
    images = found->second;
    if (!data.labels.empty() && fs::path(data.labels) == fs::path(data.images)) {
      const auto classes = file.tensors.find("labels");
      if (classes == file.tensors.end()) {
        throw DataError("read: " + data.images + ": there is no tensor \"labels\"");
      }
      return image_data(images, classes->second, data.image_options, data.images);
    }
  } else {
    images = has_ending(data.images, ".npy") ? read_npy(data.images) : read_idx(data.images);
  }
  if (!data.labels.empty()) {
    labels = read_labels(data.labels);
  }
  return image_data(images, labels, data.image_options, data.images);
}

ImageTraining unet_training(const ImageNetwork& network, const std::vector<int64_t>& shape,
                            int64_t condition_dim) {
  json config = json::parse(network.config);
  config["sample_size"] = shape[1] == shape[2] ? json(shape[1]) : json({shape[1], shape[2]});
  config["in_channels"] = shape[0];
  config["out_channels"] = shape[0];
  const std::string where = "train: [network]";
  detail::UNet2DConfig parsed = detail::unet2d_config(config, where);
  if (parsed.class_embedding == detail::ClassEmbedding::identity) {
    parsed.condition_dim = condition_dim;
  }
  const bool sees_more = parsed.class_embedding != detail::ClassEmbedding::none;
  return {.architecture = detail::unet2d(parsed, where),
          .objective = {.prediction = detail::prediction_from(network.prediction),
                        .condition = sees_more ? "class_labels" : ""},
          .config = detail::to_json(parsed),
          .guided = {}};
}

// The schedule by guided-diffusion's names.
detail::GuidedDiffusion guided_diffusion(const NoiseSchedule& schedule) {
  for (const char* name : {"linear", "cosine"}) {
    detail::GuidedDiffusion diffusion;
    diffusion.noise_schedule = name;
    diffusion.num_steps = schedule.num_levels();
    if (detail::guided_schedule(diffusion).same_levels(schedule)) {
      return diffusion;
    }
  }
  throw ConfigError(
      "train: network.architecture = \"encoder_unet\" is written with guided-diffusion's "
      "schedules, "
      "but the schedule is " +
      schedule.describe() +
      "; set schedule.type = \"linear\" with beta from 0.1 / num_levels to 20 / num_levels, or "
      "\"cosine\" as it is");
}

ImageTraining encoder_training(const ImageNetwork& network, const std::vector<int64_t>& shape,
                               int64_t num_classes, const NoiseSchedule& schedule) {
  const json config = json::parse(network.config);
  if (shape[1] != shape[2]) {
    throw ConfigError(
        "train: network.architecture = \"encoder_unet\" takes square images, the data have the "
        "shape " +
        detail::shape_text(shape));
  }
  detail::GuidedFile file;
  file.is_classifier = true;
  file.diffusion = guided_diffusion(schedule);
  detail::AdmConfig& adm = file.network;
  adm.image_size = shape[1];
  adm.in_channels = shape[0];
  adm.num_classes = num_classes;
  adm.num_channels = config.at("num_channels");
  adm.num_res_blocks = config.at("num_res_blocks");
  adm.channel_mult = config.at("channel_mult").get<std::vector<double>>();
  adm.attention_resolutions = config.at("attention_resolutions").get<std::vector<int64_t>>();
  adm.num_head_channels = config.at("num_head_channels");
  adm.pool = detail::adm_pool_from(config.at("pool"));
  return {
      .architecture = detail::adm_classifier(adm), .objective = {}, .config = {}, .guided = file};
}

void write_json(const fs::path& path, const json& value) {
  write_file_atomic(path.string(), value.dump(2) + "\n");
}

bool is_linear(const std::vector<double>& betas) {
  const auto last = static_cast<double>(betas.size() - 1);
  for (size_t i = 0; i < betas.size(); ++i) {
    const double even =
        betas.front() + (betas.back() - betas.front()) * static_cast<double>(i) / last;
    if (std::abs(betas[i] - even) > 1e-12 * even) {
      return false;
    }
  }
  return true;
}

std::vector<double> betas_of(const NoiseSchedule& schedule) {
  std::vector<double> betas;
  for (int64_t i = 0; i < schedule.num_levels(); ++i) {
    betas.push_back(schedule.level(i).beta);
  }
  return betas;
}

}  // namespace

namespace detail {

ImageTraining image_training(const ImageNetwork& network, const DataSet& data,
                             const NoiseSchedule& schedule) {
  const std::vector<int64_t> shape = data.event_shape();
  if (shape.size() != 3) {
    throw ConfigError("train: network.architecture = \"" + network.architecture +
                      "\" takes images, but the data " + data.describe() + " have the shape " +
                      shape_text(shape));
  }
  if (network.architecture == "unet") {
    const auto* conditioned = dynamic_cast<const ConditionedData*>(&data);
    return unet_training(network, shape, conditioned == nullptr ? 0 : conditioned->condition_dim());
  }
  const auto* labelled = dynamic_cast<const LabelledData*>(&data);
  return encoder_training(network, shape, labelled == nullptr ? 2 : labelled->num_classes(),
                          schedule);
}

DataSetPtr open_data(const DataConfig& data) {
  if (!data.images.empty()) {
    return open_images(data);
  }
  if (data.set == "scenes") {
    return scene_data(data.scenes);
  }
  if (!data.classes.laws.empty()) {
    std::vector<DataSetPtr> classes;
    for (const AnalyticPtr& law : data.classes.laws) {
      classes.push_back(analytic_data(law));
    }
    return labelled_data(std::move(classes), data.classes.weights);
  }
  if (data.law) {
    return analytic_data(data.law);
  }
  if (!data.labels.empty()) {
    return array_data(read_npy(data.file), read_labels(data.labels), data.file);
  }
  return data.file.empty() ? builtin_data(data.set) : array_data(read_npy(data.file), data.file);
}

std::map<std::string, std::string> data_files(const DataConfig& data) {
  std::map<std::string, std::string> files;
  for (const auto& [key, path] : {std::pair{"data.file", data.file},
                                  {"data.images", data.images},
                                  {"data.labels", data.labels}}) {
    if (!path.empty()) {
      files[key] = path;
    }
  }
  return files;
}

json scheduler_json(const NoiseSchedule& schedule, const std::string& prediction) {
  const std::vector<double> betas = betas_of(schedule);
  json config = {{"_class_name", "DDPMScheduler"}, {"num_train_timesteps", schedule.num_levels()},
                 {"prediction_type", prediction},  {"beta_schedule", "linear"},
                 {"beta_start", betas.front()},    {"beta_end", betas.back()},
                 {"trained_betas", nullptr},       {"variance_type", "fixed_small"},
                 {"clip_sample", false},           {"thresholding", false},
                 {"timestep_spacing", "leading"},  {"rescale_betas_zero_snr", false}};
  if (!is_linear(betas)) {
    config["trained_betas"] = betas;
  }
  return config;
}

void check_folder(const std::string& folder) {
  std::error_code error;
  if (!folder.empty() && fs::exists(folder, error) && !fs::is_directory(folder, error)) {
    throw DataError("write: " + folder +
                    ": is a file, must be the name of a folder: a network of images is written as "
                    "several files");
  }
  check_writable(folder.empty() ? "" : (fs::path(folder).parent_path() / "config.json").string());
}

void save_image_network(const std::string& folder, const ImageNetwork& network,
                        const ImageTraining& training, const NoiseSchedule& schedule,
                        const TensorMap& tensors,
                        const std::map<std::string, std::string>& provenance) {
  std::map<std::string, std::string> metadata = {{"format", "pt"}};  // diffusers asks for it
  for (const auto& [key, value] : provenance) {
    metadata["motet.provenance." + key] = value;
  }
  if (training.guided) {
    save_guided_diffusion(folder, *training.guided, tensors, metadata);
    return;
  }
  const fs::path root(folder);
  std::error_code error;
  fs::create_directories(root, error);
  if (error) {
    throw DataError("write: " + folder + ": cannot be made: " + error.message());
  }
  write_json(root / "scheduler_config.json", scheduler_json(schedule, network.prediction));
  write_safetensors((root / "diffusion_pytorch_model.safetensors").string(),
                    {.tensors = tensors, .metadata = metadata});
  write_json(root / "config.json", training.config);  // the last: with it a folder is complete
}

}  // namespace detail
}  // namespace motet
