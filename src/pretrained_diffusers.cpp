// Folders of diffusers: config.json -> architecture, safetensors (one file, or shards by their
// index) -> tensors, scheduler_config.json -> noise levels and what the output means.
#include <torch/types.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "error_shape.hpp"
#include "json_object.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "motet/train.hpp"
#include "nets/unet2d.hpp"
#include "pretrained_detail.hpp"

namespace motet {
namespace detail {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kConfig = "config.json";
constexpr const char* kPipeline = "model_index.json";
constexpr const char* kScheduler = "scheduler_config.json";
constexpr const char* kStem = "diffusion_pytorch_model";
constexpr size_t kMaxShards = 1000;

[[noreturn]] void fail_data(const std::string& path, const std::string& why) {
  throw DataError("diffusers: " + path + ": " + why);
}

[[noreturn]] void fail_config(const std::string& path, const std::string& why) {
  throw ConfigError("diffusers: " + path + ": " + why);
}

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

// The folder with config.json: this one, or unet/ of a pipeline's.
fs::path network_folder(const fs::path& folder) {
  if (is_file(folder / kConfig)) {
    return folder;
  }
  if (is_file(folder / "unet" / kConfig)) {
    return folder / "unet";
  }
  if (is_file(folder / kPipeline)) {
    fail_config(folder.string(),
                "the pipeline has no unet/config.json; of pipelines motet takes those of a "
                "UNet2DModel; export others with tools/export/ (docs/loading.md)");
  }
  fail_data(folder.string(), "has no config.json");
}

// Of the network's folder, where a repository is flat; else of the pipeline's.
std::optional<fs::path> find_scheduler(const fs::path& network) {
  for (const fs::path& place : {network / kScheduler, network / "scheduler" / kScheduler,
                                (network / ".." / "scheduler" / kScheduler).lexically_normal()}) {
    if (is_file(place)) {
      return place;
    }
  }
  return std::nullopt;
}

fs::path scheduler_file(const fs::path& network) {
  const std::optional<fs::path> found = find_scheduler(network);
  if (!found) {
    fail_data(network.string(),
              "there is no scheduler_config.json here, in scheduler/ or in ../scheduler/; without "
              "it nobody knows what the network predicts, and at which noise");
  }
  return *found;
}

// Names in the folder "STEM<middle>END", for the files of variants ("fp16").
std::vector<std::string> names_like(const fs::path& folder, const std::string& begin,
                                    const std::string& end) {
  std::vector<std::string> names;
  for (std::string& name : file_names(folder.string())) {
    if (name.size() >= begin.size() + end.size() && name.starts_with(begin) &&
        name.ends_with(end)) {
      names.push_back(std::move(name));
    }
  }
  return names;
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) {
    text += (text.empty() ? "" : ", ") + quoted_text(name);
  }
  return text;
}

// Shards are named by their index, so they are no single file.
bool is_shard(const std::string& name) { return name.find("-of-") != std::string::npos; }

struct WeightFiles {
  std::string index;                 // empty: one file
  std::vector<std::string> weights;  // names in the folder
};

// The file that holds the weights, or the index of several; a variant only where it is alone.
WeightFiles find_weights(const fs::path& folder) {
  const std::string single = std::string(kStem) + ".safetensors";
  const std::string index = single + ".index.json";
  if (is_file(folder / index)) {
    return {.index = index, .weights = {}};
  }
  if (is_file(folder / single)) {
    return {.index = {}, .weights = {single}};
  }
  const std::vector<std::string> indices = names_like(folder, single + ".index.", ".json");
  std::vector<std::string> files = names_like(folder, std::string(kStem) + ".", ".safetensors");
  std::erase_if(files, is_shard);
  if (indices.size() + files.size() > 1) {
    std::vector<std::string> all = indices;
    all.insert(all.end(), files.begin(), files.end());
    fail_config(folder.string(), "has several variants of the weights: " + listed(all) +
                                     "; rename the one to be used to " + quoted_text(single) +
                                     ", or take the others away");
  }
  if (!indices.empty()) {
    return {.index = indices.front(), .weights = {}};
  }
  if (files.empty()) {
    const std::string pickle = std::string(kStem) + ".bin";
    fail_data(
        folder.string(),
        is_file(folder / pickle)
            ? "has only " + pickle +
                  ", a pickle, which can run any code when it is opened, so motet never does; "
                  "the converters in tools/export/ make safetensors of it (docs/loading.md)"
            : "has no " + single + " and no " + index);
  }
  return {.index = {}, .weights = files};
}

// Which file each tensor is in, from an index. Names stay inside the folder.
std::map<std::string, std::string> read_index(const fs::path& path) {
  const std::string where = "diffusers: " + path.string();
  const Json json = read_json_file(path.string(), where);
  JsonObject object(json, where);
  object.allow({"metadata"});
  const Json* map = object.member("weight_map");
  object.finish();
  if (map == nullptr || !map->is_object() || map->empty()) {
    fail_data(path.string(), "weight_map must be an object of tensors and their files");
  }
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : map->items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    const bool is_plain = fs::path(name).filename().string() == name && name != "." &&
                          name != ".." && name.find('\\') == std::string::npos;
    if (!is_plain || fs::path(name).extension() != ".safetensors") {
      fail_data(path.string(), "tensor " + quoted_text(tensor) + " is in " +
                                   (file.is_string() ? quoted_text(name) : "no file") +
                                   ", must be in a .safetensors file of this folder");
    }
    files[tensor] = name;
  }
  return files;
}

std::vector<std::string> shards_of(const std::map<std::string, std::string>& files,
                                   const fs::path& index) {
  std::set<std::string> names;
  for (const auto& [tensor, file] : files) {
    names.insert(file);
  }
  if (names.size() > kMaxShards) {
    fail_data(index.string(), "names " + std::to_string(names.size()) + " files, must be at most " +
                                  std::to_string(kMaxShards));
  }
  return {names.begin(), names.end()};
}

// All tensors of the shards; each where the index says, and nowhere else.
TensorMap read_shards(const fs::path& folder, const std::string& index) {
  const std::map<std::string, std::string> files = read_index(folder / index);
  TensorMap tensors;
  for (const std::string& shard : shards_of(files, folder / index)) {
    if (!is_file(folder / shard)) {
      fail_data((folder / shard).string(), "is missing, but " + index + " names it");
    }
    for (auto& [name, tensor] : read_safetensors((folder / shard).string()).tensors) {
      const auto found = files.find(name);
      if (found == files.end() || found->second != shard) {
        fail_data((folder / shard).string(),
                  "holds tensor " + quoted_text(name) + ", which " + index +
                      (found == files.end() ? " does not name" : " has in " + found->second));
      }
      tensors[name] = std::move(tensor);
    }
  }
  for (const auto& [name, file] : files) {
    if (!tensors.contains(name)) {
      fail_data((folder / file).string(),
                "has no tensor " + quoted_text(name) + ", but " + index + " has it there");
    }
  }
  return tensors;
}

TensorMap read_tensors(const fs::path& folder) {
  const WeightFiles files = find_weights(folder);
  return files.index.empty() ? read_safetensors((folder / files.weights.front()).string()).tensors
                             : read_shards(folder, files.index);
}

UNet2DConfig read_config(const fs::path& folder) {
  const std::string where = "diffusers: " + (folder / kConfig).string();
  const Json json = read_json_file((folder / kConfig).string(), where);
  JsonObject object(json, where);
  const std::string kind = object.text("_class_name", "");
  if (kind != "UNet2DModel") {
    throw ConfigError(where + ": _class_name = " + quoted_text(kind) +
                      ", must be \"UNet2DModel\"; export other networks with tools/export/ "
                      "(docs/loading.md)");
  }
  return unet2d_config(json, where);
}

// Times that the network's embedding cannot take.
void check_times(const UNet2DConfig& config, const OutputSpec& output, const fs::path& scheduler) {
  if (config.time_embedding == TimeEmbedding::fourier && !(output.times.front() > 0.0)) {
    fail_config(scheduler.string(),
                "counts time from 0, but time_embedding_type = \"fourier\" takes its logarithm; "
                "such networks go with a ScoreSdeVeScheduler");
  }
  const double last = output.times.back();
  if (config.time_embedding == TimeEmbedding::learned &&
      !(last < static_cast<double>(config.num_train_timesteps))) {
    fail_config(scheduler.string(), "has more levels than the network's num_train_timesteps = " +
                                        std::to_string(config.num_train_timesteps));
  }
}

constexpr const char* kNotClipped =
    ": a sampler that cuts its estimates of x_0 draws from another law than the one whose score "
    "the "
    "network is, and what is cut is no gradient that a Metropolis test could integrate. motet "
    "samples the unclipped law";

constexpr const char* kClass = "class_labels";

// A condition as the network sees it, (width).
Tensor condition_input(const UNet2DConfig& config, const std::vector<double>& condition,
                       const std::string& prefix) {
  if (config.class_embedding != ClassEmbedding::identity) {
    throw ConfigError(prefix + "condition is for networks with class_embed_type = \"identity\"; " +
                      (config.class_embedding == ClassEmbedding::none
                           ? "this one has no inputs beside x and the time, so leave it out"
                           : "this one takes a number, so give it as the input \"class_labels\""));
  }
  if (config.condition_dim == 0) {
    throw ConfigError(
        prefix +
        "condition was given, but config.json has no _motet_condition_dim, the number of entries "
        "that a network trained by motet train was told; give the input \"class_labels\" itself");
  }
  const int64_t count = std::ssize(condition);
  if (count > 0 && count != config.condition_dim) {
    throw ConfigError(prefix + "condition has " + std::to_string(count) + " numbers, must have " +
                      std::to_string(config.condition_dim) + ", or none for \"none\"");
  }
  const Tensor row = at::tensor(condition, at::kDouble).unsqueeze(0);
  if (!at::isfinite(row).all().item<bool>()) {
    throw ConfigError(prefix + "condition has entries that are not finite");
  }
  return count == 0 ? at::zeros({config.time_dim()})
                    : condition_features(row, config.time_dim()).squeeze(0);
}

Inputs inputs_of(const UNet2DConfig& config, const PretrainedOptions& options,
                 const std::string& prefix) {
  Inputs inputs = options.inputs;
  if (options.condition &&
      !inputs.emplace(kClass, condition_input(config, *options.condition, prefix)).second) {
    throw ConfigError(prefix +
                      "has a condition and the input \"class_labels\", which the condition "
                      "becomes; leave one out");
  }
  return inputs;
}

struct Parts {
  UNet2DConfig config;
  PretrainedNetwork network;
  std::string clipping;
  fs::path scheduler;
};

Parts read_parts(const fs::path& folder) {
  const UNet2DConfig config = read_config(folder);
  const fs::path scheduler = scheduler_file(folder);
  const std::string where = "diffusers: " + scheduler.string();
  SchedulerConfig schedule = scheduler_config(read_json_file(scheduler.string(), where), where);
  check_times(config, schedule.output, scheduler);
  PretrainedNetwork network{
      .architecture = unet2d(config, "diffusers: " + (folder / kConfig).string()),
      .output = std::move(schedule.output)};
  return {.config = config,
          .network = std::move(network),
          .clipping = schedule.clipping,
          .scheduler = scheduler};
}

}  // namespace

bool is_diffusers_folder(const std::string& folder) {
  const fs::path path(folder);
  return is_file(path / kConfig) || is_file(path / kPipeline) || is_file(path / "unet" / kConfig);
}

std::vector<std::string> diffusers_files(const std::string& folder) {
  const fs::path network = network_folder(folder);
  std::vector<std::string> files = {(network / kConfig).string(), scheduler_file(network).string()};
  WeightFiles found = find_weights(network);
  if (!found.index.empty()) {
    files.push_back((network / found.index).string());
    found.weights = shards_of(read_index(network / found.index), network / found.index);
  }
  for (const std::string& name : found.weights) {
    files.push_back((network / name).string());
  }
  return files;
}

PretrainedNetwork read_diffusers(const std::string& folder) {
  Parts parts = read_parts(network_folder(folder));
  parts.network.notes.emplace_back("scheduler", parts.scheduler.string());
  if (parts.config.condition_dim > 0) {
    parts.network.notes.emplace_back(
        "condition", std::to_string(parts.config.condition_dim) + " numbers, or none");
  }
  if (!parts.clipping.empty()) {
    parts.network.notes.emplace_back("clipping",
                                     parts.clipping + "; loads with ignore_clipping = true only");
  }
  return std::move(parts.network);
}

}  // namespace detail

ModelPtr load_diffusers(const std::string& folder, std::string name,
                        const PretrainedOptions& options) {
  const std::filesystem::path network = detail::network_folder(folder);
  detail::Parts parts = detail::read_parts(network);
  if (!parts.clipping.empty() && !options.ignore_clipping) {
    detail::fail_config(parts.scheduler.string(),
                        parts.clipping + detail::kNotClipped +
                            "; accept that with ignore_clipping = true, or write false into the "
                            "file");
  }
  const std::string prefix = "diffusers: " + network.string() + ": ";
  detail::OutputSpec output =
      detail::respaced(std::move(parts.network.output), options.num_levels, prefix);
  detail::Inputs inputs = detail::inputs_of(parts.config, options, prefix);
  detail::TensorMap tensors = detail::read_tensors(network);
  try {
    tensors = detail::renamed_old_attentions(std::move(tensors));
  } catch (const DataError& error) {
    throw DataError(prefix + error.what());
  }
  detail::NetworkPtr bound =
      detail::bound_network(parts.network.architecture, tensors, std::move(inputs), options.compute,
                            options.device, prefix);
  detail::check_finite(tensors, prefix);
  return detail::prediction_model(std::move(bound), std::move(output), std::move(name));
}

}  // namespace motet
