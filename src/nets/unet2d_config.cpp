// config.json of UNet2DModel, both ways. Keys, defaults and meanings are those of diffusers 0.42.1,
// models/unets/unet_2d.py.
#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "error_shape.hpp"
#include "json_object.hpp"
#include "motet/error.hpp"
#include "nets/unet2d.hpp"
#include "nets/words.hpp"

namespace motet::detail {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxBlocks = 16;
constexpr int64_t kMaxLayers = 64;
constexpr int64_t kMaxRows = int64_t{1} << 24;  // of a table of embeddings
constexpr const char* kConditionDim = "_motet_condition_dim";

constexpr Words<UNet2DBlock, 5> kDownWords = {
    {{UNet2DBlock::plain, "DownBlock2D"},
     {UNet2DBlock::attention, "AttnDownBlock2D"},
     {UNet2DBlock::resnet, "ResnetDownsampleBlock2D"},
     {UNet2DBlock::skip, "SkipDownBlock2D"},
     {UNet2DBlock::skip_attention, "AttnSkipDownBlock2D"}}};
constexpr Words<UNet2DBlock, 5> kUpWords = {{{UNet2DBlock::plain, "UpBlock2D"},
                                             {UNet2DBlock::attention, "AttnUpBlock2D"},
                                             {UNet2DBlock::resnet, "ResnetUpsampleBlock2D"},
                                             {UNet2DBlock::skip, "SkipUpBlock2D"},
                                             {UNet2DBlock::skip_attention, "AttnSkipUpBlock2D"}}};
constexpr Words<TimeEmbedding, 3> kTimeWords = {{{TimeEmbedding::positional, "positional"},
                                                 {TimeEmbedding::fourier, "fourier"},
                                                 {TimeEmbedding::learned, "learned"}}};
constexpr Words<Activation, 4> kActivationWords = {{{Activation::silu, "silu"},
                                                    {Activation::mish, "mish"},
                                                    {Activation::gelu, "gelu"},
                                                    {Activation::relu, "relu"}}};
constexpr Words<Resampling, 2> kResamplingWords = {
    {{Resampling::conv, "conv"}, {Resampling::resnet, "resnet"}}};

// A word of a small table; other words are a DataError.
template <class Enum, size_t N>
Enum read_word(JsonObject& object, const std::string& key, Enum fallback,
               const Words<Enum, N>& words) {
  std::vector<std::string> choices;
  for (const auto& [value, word] : words) {
    choices.emplace_back(word);
  }
  const std::string given = object.text(key, word_of(words, fallback), choices);
  return words[static_cast<size_t>(std::find(choices.begin(), choices.end(), given) -
                                   choices.begin())]
      .first;
}

[[noreturn]] void refuse(const JsonObject& object, const std::string& text) {
  throw ConfigError(object.where() + ": " + text);
}

template <size_t N>
UNet2DBlock block_of(const JsonObject& object, const std::string& key, std::string name,
                     const Words<UNet2DBlock, N>& words) {
  constexpr std::string_view kOldPrefix = "UNetRes";  // diffusers takes it off too
  if (name.starts_with(kOldPrefix)) {
    name = name.substr(kOldPrefix.size());
  }
  std::string allowed;
  for (const auto& [block, word] : words) {
    if (name == word) {
      return block;
    }
    allowed += (allowed.empty() ? "" : ", ") + std::string(word);
  }
  refuse(object, key + " has " + quoted_text(name) + ", which motet does not have; it has " +
                     allowed + "; export the network as a program instead (docs/loading.md)");
}

template <size_t N>
void read_blocks(JsonObject& object, const std::string& key, const Words<UNet2DBlock, N>& words,
                 std::vector<UNet2DBlock>& blocks) {
  if (const auto names = object.texts(key, kMaxBlocks)) {
    blocks.clear();
    for (const std::string& name : *names) {
      blocks.push_back(block_of(object, key, name, words));
    }
  }
}

void read_size(JsonObject& object, UNet2DConfig& config) {
  const Json* size = object.member("sample_size");
  if (size == nullptr) {
    refuse(object,
           "sample_size is null: the network takes images of any size; write the one that it was "
           "trained on into the file, as \"sample_size\": 32 or [height, width]");
  }
  if (size->is_array()) {
    const auto pair = *object.integers("sample_size", 1, kMaxUNet2DSize, 2);
    if (pair.size() != 2) {
      object.fail("sample_size", "must be one number, or [height, width]");
    }
    config.height = pair[0];
    config.width = pair[1];
  } else {
    config.height = config.width = object.integer("sample_size", 0, 1, kMaxUNet2DSize);
  }
}

void read_blocks_and_channels(JsonObject& object, UNet2DConfig& config) {
  read_blocks(object, "down_block_types", kDownWords, config.down_blocks);
  read_blocks(object, "up_block_types", kUpWords, config.up_blocks);
  config.block_out_channels = object.integers("block_out_channels", 1, kMaxUNet2DSize, kMaxBlocks)
                                  .value_or(config.block_out_channels);
  config.layers_per_block =
      object.integer("layers_per_block", config.layers_per_block, 1, kMaxLayers);
  config.has_mid_block = !object.is_null("mid_block_type");
  const std::string middle = object.text("mid_block_type", "UNetMidBlock2D");
  if (middle != "UNetMidBlock2D" && middle != "UNetResMidBlock2D") {
    refuse(object, "mid_block_type = " + quoted_text(middle) +
                       ", must be \"UNetMidBlock2D\" or null; export the network as a program "
                       "instead (docs/loading.md)");
  }
  config.mid_block_scale_factor = object.number("mid_block_scale_factor", 1.0, 1e-3, 1e3);
  config.add_attention = object.boolean("add_attention", true);
  config.downsample_padding = object.integer("downsample_padding", 1, 0, 1);
  config.downsampling = read_word(object, "downsample_type", Resampling::conv, kResamplingWords);
  config.upsampling = read_word(object, "upsample_type", Resampling::conv, kResamplingWords);
}

void read_layers(JsonObject& object, UNet2DConfig& config) {
  object.number("dropout", 0.0, 0.0, 1.0);  // none when a network is only run
  std::string activation = object.text("act_fn", "silu");
  std::transform(activation.begin(), activation.end(), activation.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (activation != "swish") {  // another name of silu
    const Json word = {{"act_fn", activation}};
    JsonObject lower(word, object.where());
    config.activation = read_word(lower, "act_fn", Activation::silu, kActivationWords);
  }
  if (object.is_null("attention_head_dim")) {
    config.attention_head_dim = std::nullopt;
  }
  if (const auto dim = object.optional_integer("attention_head_dim", 1, kMaxUNet2DSize)) {
    config.attention_head_dim = dim;
  }
  if (object.is_null("norm_num_groups")) {
    config.norm_num_groups = std::nullopt;
  }
  if (const auto groups = object.optional_integer("norm_num_groups", 1, kMaxUNet2DSize)) {
    config.norm_num_groups = groups;
  }
  config.attn_norm_num_groups = object.optional_integer("attn_norm_num_groups", 1, kMaxUNet2DSize);
  config.norm_eps = object.number("norm_eps", config.norm_eps, 1e-12, 1.0);
  const std::string norm = object.text("resnet_time_scale_shift", "default");
  if (norm != "default" && norm != "scale_shift") {
    refuse(object, "resnet_time_scale_shift = " + quoted_text(norm) +
                       ", must be \"default\" or \"scale_shift\"");
  }
  config.scale_shift = norm == "scale_shift";
}

void read_embeddings(JsonObject& object, UNet2DConfig& config) {
  config.time_embedding =
      read_word(object, "time_embedding_type", TimeEmbedding::positional, kTimeWords);
  config.time_embedding_dim = object.integer("time_embedding_dim", 0, 0, kMaxUNet2DSize);
  config.freq_shift = object.number("freq_shift", 0.0, -1e6, 1e6);
  config.flip_sin_to_cos = object.boolean("flip_sin_to_cos", true);
  const std::string kind = object.text("class_embed_type", "", {"timestep", "identity"});
  const auto num_classes = object.optional_integer("num_class_embeds", 1, kMaxRows);
  if (!kind.empty()) {
    config.class_embedding =
        kind == "timestep" ? ClassEmbedding::timestep : ClassEmbedding::identity;
  } else if (num_classes) {
    config.class_embedding = ClassEmbedding::learned;
    config.num_class_embeds = *num_classes;
  }
  if (config.class_embedding == ClassEmbedding::identity) {
    config.condition_dim = object.integer(kConditionDim, 0, 0, config.time_dim() / 2);
  }
  const auto num_times = object.optional_integer("num_train_timesteps", 1, kMaxRows);
  if (config.time_embedding == TimeEmbedding::learned) {
    if (!num_times) {
      throw DataError(object.where() +
                      ": num_train_timesteps is missing: time_embedding_type = \"learned\" needs "
                      "it");
    }
    config.num_train_timesteps = *num_times;
  }
}

template <size_t N>
Json words_of(const std::vector<UNet2DBlock>& blocks, const Words<UNet2DBlock, N>& words) {
  Json list = Json::array();
  for (const UNet2DBlock block : blocks) {
    list.push_back(word_of(words, block));
  }
  return list;
}

template <class Value>
Json or_null(const std::optional<Value>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json class_type(ClassEmbedding embedding) {
  return embedding == ClassEmbedding::timestep   ? Json("timestep")
         : embedding == ClassEmbedding::identity ? Json("identity")
                                                 : Json(nullptr);
}

}  // namespace

UNet2DConfig unet2d_config(const Json& json, const std::string& where) {
  JsonObject object(json, where);
  UNet2DConfig config;
  read_size(object, config);
  config.in_channels = object.integer("in_channels", 3, 1, kMaxUNet2DSize);
  config.out_channels = object.integer("out_channels", 3, 1, kMaxUNet2DSize);
  config.center_input_sample = object.boolean("center_input_sample", false);
  read_blocks_and_channels(object, config);
  read_layers(object, config);
  read_embeddings(object, config);
  object.finish();
  check_unet2d(config, where);
  return config;
}

Json to_json(const UNet2DConfig& config) {
  const bool is_square = config.height == config.width;
  const bool has_classes = config.class_embedding == ClassEmbedding::learned;
  Json json = {
      {"_class_name", "UNet2DModel"},
      {"sample_size", is_square ? Json(config.height) : Json::array({config.height, config.width})},
      {"in_channels", config.in_channels},
      {"out_channels", config.out_channels},
      {"center_input_sample", config.center_input_sample},
      {"time_embedding_type", word_of(kTimeWords, config.time_embedding)},
      {"time_embedding_dim",
       config.time_embedding_dim == 0 ? Json(nullptr) : Json(config.time_embedding_dim)},
      {"freq_shift", config.freq_shift},
      {"flip_sin_to_cos", config.flip_sin_to_cos},
      {"down_block_types", words_of(config.down_blocks, kDownWords)},
      {"up_block_types", words_of(config.up_blocks, kUpWords)},
      {"block_out_channels", config.block_out_channels},
      {"layers_per_block", config.layers_per_block},
      {"mid_block_type", config.has_mid_block ? Json("UNetMidBlock2D") : Json(nullptr)},
      {"mid_block_scale_factor", config.mid_block_scale_factor},
      {"add_attention", config.add_attention},
      {"downsample_padding", config.downsample_padding},
      {"downsample_type", word_of(kResamplingWords, config.downsampling)},
      {"upsample_type", word_of(kResamplingWords, config.upsampling)},
      {"act_fn", word_of(kActivationWords, config.activation)},
      {"attention_head_dim", or_null(config.attention_head_dim)},
      {"norm_num_groups", or_null(config.norm_num_groups)},
      {"attn_norm_num_groups", or_null(config.attn_norm_num_groups)},
      {"norm_eps", config.norm_eps},
      {"resnet_time_scale_shift", config.scale_shift ? "scale_shift" : "default"},
      {"class_embed_type", class_type(config.class_embedding)},
      {"num_class_embeds", has_classes ? Json(config.num_class_embeds) : Json(nullptr)},
      {"num_train_timesteps", config.time_embedding == TimeEmbedding::learned
                                  ? Json(config.num_train_timesteps)
                                  : Json(nullptr)}};
  if (config.condition_dim > 0) {
    json[kConditionDim] = config.condition_dim;
  }
  return json;
}

}  // namespace motet::detail
