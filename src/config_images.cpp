// [data] and [network] of images. The network's keys keep the names and meanings of the code that
// they are from, and become the JSON object that its own config file has.
#include "config_images.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "config_keys.hpp"

namespace motet::detail {
namespace {

using enum KeyType;

constexpr double kMaxSize = 65536.0;

const std::vector<std::string> kUNet = {"unet"};
const std::vector<std::string> kEncoder = {"encoder_unet"};

std::vector<Key> unet_keys() {
  return {
      {.name = "network.prediction",
       .types = {text},
       .fallback = "\"epsilon\"",
       .choices = {"epsilon", "v_prediction", "sample", "energy_norm", "energy_residual"},
       .doc = "unet: what it learns of x_t = sqrt(abar) x_0 + sigma n: n, sqrt(abar) n - sigma "
              "x_0, x_0, or an energy E = ||f||^2 or ||f - x||^2 whose gradient is n",
       .only_with = {"network.architecture", kUNet}},
      {.name = "network.block_out_channels",
       .types = {integers},
       .fallback = "[32, 64, 64]",
       .range = counts(1, kMaxSize),
       .doc = "unet: channels of each resolution, the finest first; each halves the size",
       .only_with = {"network.architecture", kUNet}},
      {.name = "network.layers_per_block",
       .types = {integer},
       .fallback = "1",
       .range = counts(1, 64),
       .doc = "unet: residual blocks a resolution (one more on the way up)",
       .only_with = {"network.architecture", kUNet}},
      {.name = "network.down_block_types",
       .types = {texts},
       .doc = "unet: as diffusers names them, one a resolution; default: DownBlock2D, the last "
              "AttnDownBlock2D"},
      {.name = "network.up_block_types",
       .types = {texts},
       .doc = "unet: the same, the coarsest first; default: AttnUpBlock2D, then UpBlock2D"},
      {.name = "network.norm_num_groups",
       .types = {integer},
       .fallback = "8",
       .range = counts(1, kMaxSize),
       .doc = "unet: groups of the norms; must divide all channels",
       .only_with = {"network.architecture", kUNet}},
      {.name = "network.attention_head_dim",
       .types = {integer},
       .fallback = "32",
       .range = counts(1, kMaxSize),
       .doc = "unet: channels of a head of attention",
       .only_with = {"network.architecture", kUNet}},
      {.name = "network.resnet_time_scale_shift",
       .types = {text},
       .fallback = "\"default\"",
       .choices = {"default", "scale_shift"},
       .doc = "unet: the time adds to a residual block, or scales and shifts its second norm",
       .only_with = {"network.architecture", kUNet}},
      {.name = "network.num_class_embeds",
       .types = {integer},
       .range = counts(2, kMaxSize),
       .doc = "unet: it sees the class: as many as the data have, and one more, \"none\", where "
              "train.drop_probability > 0"},
      {.name = "network.class_embed_type",
       .types = {text},
       .choices = {"identity"},
       .doc = "unet: it sees the condition of the data (a position of \"scenes\") as waves, added "
              "to the embedded time"},
  };
}

std::vector<Key> encoder_keys() {
  return {
      {.name = "network.num_channels",
       .types = {integer},
       .fallback = "32",
       .range = counts(1, kMaxSize),
       .doc = "encoder_unet: channels of the finest resolution; a multiple of 32",
       .only_with = {"network.architecture", kEncoder}},
      {.name = "network.num_res_blocks",
       .types = {integer},
       .fallback = "1",
       .range = counts(1, 64),
       .doc = "encoder_unet: residual blocks a resolution",
       .only_with = {"network.architecture", kEncoder}},
      {.name = "network.channel_mult",
       .types = {numbers},
       .fallback = "[1.0, 2.0, 2.0]",
       .range = {.low = 0.0, .high = kMaxSize, .low_open = true},
       .doc = "encoder_unet: channels of each resolution over num_channels",
       .only_with = {"network.architecture", kEncoder}},
      {.name = "network.attention_resolutions",
       .types = {integers},
       .fallback = "[7, 8]",
       .range = counts(1, kMaxSize),
       .doc = "encoder_unet: sides in pixels of the resolutions with attention",
       .only_with = {"network.architecture", kEncoder},
       .may_be_empty = true},
      {.name = "network.num_head_channels",
       .types = {integer},
       .fallback = "32",
       .range = counts(1, kMaxSize),
       .doc = "encoder_unet: channels of a head of attention",
       .only_with = {"network.architecture", kEncoder}},
      {.name = "network.pool",
       .types = {text},
       .fallback = "\"attention\"",
       .choices = {"adaptive", "attention", "spatial", "spatial_v2"},
       .doc = "encoder_unet: how it ends",
       .only_with = {"network.architecture", kEncoder}},
  };
}

std::string word_after_dot(const std::string& name) { return name.substr(name.rfind('.') + 1); }

// Keys of another architecture, or of none.
void refuse_keys(const Settings& settings, const std::vector<Key>& keys,
                 const std::string& architecture) {
  for (const Key& key : keys) {
    if (settings.given(key.name)) {
      settings.fail(key.name, "but network.architecture is \"" + architecture +
                                  "\", which has no such parameter");
    }
  }
}

nlohmann::json unet_json(const Settings& settings) {
  const auto channels = settings.get<std::vector<int64_t>>("network.block_out_channels");
  nlohmann::json json = {
      {"block_out_channels", channels},
      {"layers_per_block", settings.get<int64_t>("network.layers_per_block")},
      {"norm_num_groups", settings.get<int64_t>("network.norm_num_groups")},
      {"attention_head_dim", settings.get<int64_t>("network.attention_head_dim")},
      {"resnet_time_scale_shift", settings.get<std::string>("network.resnet_time_scale_shift")}};
  std::vector<std::string> down(channels.size(), "DownBlock2D");
  std::vector<std::string> up(channels.size(), "UpBlock2D");
  down.back() = "AttnDownBlock2D";
  up.front() = "AttnUpBlock2D";
  json["down_block_types"] = down;
  json["up_block_types"] = up;
  for (const char* name : {"network.down_block_types", "network.up_block_types"}) {
    if (settings.given(name)) {
      json[word_after_dot(name)] = settings.get<std::vector<std::string>>(name);
    }
  }
  if (settings.given("network.num_class_embeds")) {
    json["num_class_embeds"] = settings.get<int64_t>("network.num_class_embeds");
  }
  if (settings.given("network.class_embed_type")) {
    json["class_embed_type"] = settings.get<std::string>("network.class_embed_type");
  }
  return json;
}

nlohmann::json encoder_json(const Settings& settings) {
  return {{"num_channels", settings.get<int64_t>("network.num_channels")},
          {"num_res_blocks", settings.get<int64_t>("network.num_res_blocks")},
          {"channel_mult", settings.get<std::vector<double>>("network.channel_mult")},
          {"attention_resolutions",
           settings.get<std::vector<int64_t>>("network.attention_resolutions")},
          {"num_head_channels", settings.get<int64_t>("network.num_head_channels")},
          {"pool", settings.get<std::string>("network.pool")}};
}

// What labels and conditions are for: a network that does not see them does not learn from them.
void check_conditions(const Settings& settings, const DataConfig& data,
                      const std::string& architecture) {
  const bool sees_class = settings.given("network.num_class_embeds");
  const bool needs_labels = architecture == "encoder_unet" || sees_class;
  if (!data.labels.empty() && !needs_labels) {
    settings.fail("data.labels",
                  "but the network does not see the class; leave it out, or give "
                  "network.num_class_embeds");
  }
  if (data.labels.empty() && needs_labels) {
    settings.fail(sees_class ? "network.num_class_embeds" : "network.architecture",
                  "but [data] has no classes; give data.images with data.labels");
  }
  if (settings.given("network.class_embed_type")) {
    if (sees_class) {
      settings.fail("network.class_embed_type",
                    "but network.num_class_embeds is given too; leave one out");
    }
    if (data.set != "scenes") {
      settings.fail("network.class_embed_type",
                    "but the data have no condition; set data.set = \"scenes\"");
    }
  }
}

void check_training(const Settings& settings, const DataConfig& data,
                    const std::string& architecture) {
  if (settings.get<bool>("train.reference_path")) {
    settings.fail("train.reference_path",
                  "but networks of images have one path only; leave it out");
  }
  if (data.images.empty() && data.set != "scenes") {
    settings.fail("network.architecture",
                  "needs images; give data.images or data.set = \"scenes\"");
  }
  check_conditions(settings, data, architecture);
}

}  // namespace

std::vector<Key> image_data_keys() {
  return {
      {.name = "data.images",
       .types = {text},
       .doc = "images, relative to the config: an idx file (MNIST's format, plain or gzip), a "
              ".npy file (N, C, H, W) in [-1, 1], or a .safetensors file with \"images\" (uint8) "
              "and, maybe, \"labels\""},
      {.name = "data.pad",
       .types = {integer},
       .range = counts(1, 4096),
       .doc = "images are filled up with black to so many pixels a side"},
      {.name = "data.flip",
       .types = {boolean},
       .doc = "true: every second image is mirrored, by chance"},
      {.name = "data.size",
       .types = {integer},
       .range = counts(8, 512),
       .doc = "scenes: pixels a side; default 32"},
      {.name = "data.min_objects",
       .types = {integer},
       .range = counts(1, 5),
       .doc = "scenes: fewest objects; default 1"},
      {.name = "data.max_objects",
       .types = {integer},
       .range = counts(1, 5),
       .doc = "scenes: most objects; default 5"},
  };
}

std::vector<Key> image_network_keys() {
  std::vector<Key> keys = unet_keys();
  const std::vector<Key> encoder = encoder_keys();
  keys.insert(keys.end(), encoder.begin(), encoder.end());
  return keys;
}

void read_image_data(const Settings& settings, const std::string& directory, DataConfig& data) {
  const bool has_images = settings.given("data.images");
  for (const char* name : {"data.pad", "data.flip"}) {
    if (settings.given(name) && !has_images) {
      settings.fail(name, "but data.images is not given");
    }
  }
  for (const char* name : {"data.size", "data.min_objects", "data.max_objects"}) {
    if (settings.given(name) && data.set != "scenes") {
      settings.fail(name, "but data.set is not \"scenes\"");
    }
  }
  const auto integer = [&settings](const char* name, int64_t& value) {
    value = settings.given(name) ? settings.get<int64_t>(name) : value;
  };
  integer("data.pad", data.image_options.pad);
  integer("data.size", data.scenes.size);
  integer("data.min_objects", data.scenes.min_objects);
  integer("data.max_objects", data.scenes.max_objects);
  if (data.scenes.min_objects > data.scenes.max_objects) {
    settings.fail_whole("data.min_objects is above data.max_objects");
  }
  if (has_images) {
    const std::filesystem::path given(settings.get<std::string>("data.images"));
    data.images = (std::filesystem::path(directory) / given).string();
    data.image_options.flip = settings.given("data.flip") && settings.get<bool>("data.flip");
  }
}

std::optional<ImageNetwork> read_image_network(const Settings& settings, const DataConfig& data) {
  const auto architecture = settings.get<std::string>("network.architecture");
  if (architecture == "residual_mlp") {
    refuse_keys(settings, image_network_keys(), architecture);
    if (!data.images.empty() || data.set == "scenes") {
      settings.fail_whole(
          "[data] has images, but network.architecture is \"residual_mlp\", which takes points "
          "(d); "
          "set network.architecture = \"unet\" or \"encoder_unet\"");
    }
    return std::nullopt;
  }
  refuse_keys(settings, architecture == "unet" ? encoder_keys() : unet_keys(), architecture);
  refuse_keys(settings, residual_mlp_keys(), architecture);
  check_training(settings, data, architecture);
  const bool is_unet = architecture == "unet";
  return ImageNetwork{.architecture = architecture,
                      .config = (is_unet ? unet_json(settings) : encoder_json(settings)).dump(),
                      .prediction = is_unet ? settings.get<std::string>("network.prediction") : ""};
}

}  // namespace motet::detail
