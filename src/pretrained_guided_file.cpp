// motet.json of guided-diffusion folders. Flags are those of the reference code's script_util.py
// (model_and_diffusion_defaults, classifier_defaults); what that code fixes in place of a flag
// (NUM_CLASSES, in_channels = 3, ...) are the "constants".
//   linear    beta from 1e-4 to 0.02, times 1000 / T     cosine  as Nichol and Dhariwal 2021
//   respacing keeps some of the T levels with their alpha_bar; the network sees the old times, times
//             1000 / T if they are rescaled
#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "error_shape.hpp"
#include "json_object.hpp"
#include "motet/error.hpp"
#include "pretrained_guided.hpp"

namespace motet::detail {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMostSteps = 100'000;
constexpr int64_t kMostSize = 1'000'000;  // ranges proper are the networks'
constexpr size_t kMostNumbers = 64;
const std::string kUNet = "UNetModel";
const std::string kClassifier = "EncoderUNetModel";
const std::string kListExample = "must be numbers with commas between them, such as \"32,16,8\"";

// "1, 2,4" as numbers; nothing for other texts.
template <class Number>
std::optional<std::vector<Number>> numbers_of(std::string_view text) {
  std::vector<Number> numbers;
  while (numbers.size() < kMostNumbers) {
    const size_t comma = text.find(',');
    std::string_view entry = text.substr(0, comma);
    while (entry.starts_with(' ')) {
      entry.remove_prefix(1);
    }
    while (entry.ends_with(' ')) {
      entry.remove_suffix(1);
    }
    Number number = 0;
    const auto [end, error] = std::from_chars(entry.data(), entry.data() + entry.size(), number);
    if (error != std::errc() || end != entry.data() + entry.size()) {
      return std::nullopt;
    }
    numbers.push_back(number);
    if (comma == std::string_view::npos) {
      return numbers;
    }
    text.remove_prefix(comma + 1);
  }
  return std::nullopt;
}

template <class Number>
std::vector<Number> take_list(JsonObject& object, const std::string& key,
                              const std::string& fallback) {
  const std::string text = object.text(key, fallback);
  if (text.empty()) {
    return {};
  }
  const auto numbers = numbers_of<Number>(text);
  if (!numbers) {
    object.fail(key, kListExample);
  }
  return *numbers;
}

// create_model() and create_classifier() choose by the size of the image.
std::vector<double> default_multiples(int64_t image_size) {
  switch (image_size) {
    case 512:
      return {0.5, 1, 1, 2, 2, 4, 4};
    case 256:
      return {1, 1, 2, 2, 4, 4};
    case 128:
      return {1, 1, 2, 3, 4};
    case 64:
      return {1, 2, 3, 4};
    default:
      return {};
  }
}

std::vector<double> take_multiples(JsonObject& object, int64_t image_size) {
  std::vector<double> given = take_list<double>(object, "channel_mult", "");
  if (!given.empty()) {
    return given;
  }
  std::vector<double> known = default_multiples(image_size);
  if (known.empty()) {
    throw DataError(object.where() +
                    ": channel_mult is missing; image_size = " + std::to_string(image_size) +
                    ", and there are defaults for 64, 128, 256 and 512 only");
  }
  return known;
}

int64_t take_size(JsonObject& object, const std::string& key, int64_t fallback) {
  return object.integer(key, fallback, -1, kMostSize);
}

// Of training and of the reference's arithmetic: known, of the right kind, and of no matter here.
void pass_over(JsonObject& flags, const std::vector<std::string>& switches) {
  for (const std::string& key : switches) {
    (void)flags.boolean(key, false);
  }
}

GuidedDiffusion take_diffusion(JsonObject& flags) {
  GuidedDiffusion diffusion;
  diffusion.noise_schedule = flags.text("noise_schedule", "linear", {"linear", "cosine"});
  diffusion.num_steps = flags.integer("diffusion_steps", 1000, 1, kMostSteps);
  diffusion.respacing = flags.text("timestep_respacing", "");
  diffusion.rescales_times = flags.boolean("rescale_timesteps", false);
  diffusion.predicts_x_0 = flags.boolean("predict_xstart", false);
  pass_over(flags, {"use_kl", "rescale_learned_sigmas"});
  return diffusion;
}

AdmConfig take_unet(JsonObject& flags, JsonObject& constants) {
  AdmConfig config;
  config.image_size = take_size(flags, "image_size", 64);
  config.num_channels = take_size(flags, "num_channels", 128);
  config.num_res_blocks = take_size(flags, "num_res_blocks", 2);
  config.channel_mult = take_multiples(flags, config.image_size);
  config.attention_resolutions = take_list<int64_t>(flags, "attention_resolutions", "16,8");
  config.num_heads = take_size(flags, "num_heads", 4);
  config.num_head_channels = take_size(flags, "num_head_channels", -1);
  config.num_heads_upsample = take_size(flags, "num_heads_upsample", -1);
  config.use_scale_shift_norm = flags.boolean("use_scale_shift_norm", true);
  config.resblock_updown = flags.boolean("resblock_updown", false);
  config.use_new_attention_order = flags.boolean("use_new_attention_order", false);
  config.learn_sigma = flags.boolean("learn_sigma", false);
  const bool has_classes = flags.boolean("class_cond", false);
  const int64_t num_classes = take_size(constants, "num_classes", 1000);
  config.num_classes = has_classes ? num_classes : 0;
  (void)flags.number("dropout", 0.0, 0.0, 1.0);
  pass_over(flags, {"use_checkpoint", "use_fp16"});
  return config;
}

AdmConfig take_classifier(JsonObject& flags, JsonObject& constants) {
  AdmConfig config;
  config.image_size = take_size(flags, "image_size", 64);
  config.num_channels = take_size(flags, "classifier_width", 128);
  config.num_res_blocks = take_size(flags, "classifier_depth", 2);
  config.channel_mult = take_multiples(constants, config.image_size);
  config.attention_resolutions =
      take_list<int64_t>(flags, "classifier_attention_resolutions", "32,16,8");
  config.num_heads = take_size(constants, "num_heads", 1);
  config.num_head_channels = take_size(constants, "num_head_channels", 64);
  config.use_scale_shift_norm = flags.boolean("classifier_use_scale_shift_norm", true);
  config.resblock_updown = flags.boolean("classifier_resblock_updown", true);
  config.use_new_attention_order = constants.boolean("use_new_attention_order", false);
  config.num_classes = take_size(constants, "num_classes", 1000);
  config.pool = adm_pool_from(flags.text("classifier_pool", "attention",
                                         {"adaptive", "attention", "spatial", "spatial_v2"}));
  pass_over(flags, {"classifier_use_fp16", "learn_sigma"});
  return config;
}

void refuse_larger(JsonObject& flags) {
  for (const char* key : {"large_size", "small_size"}) {
    if (flags.has(key)) {
      flags.fail(key, "but networks that make images larger (SuperResModel) are not supported");
    }
  }
}

void check_diffusion(const GuidedDiffusion& diffusion, const std::string& where) {
  try {
    (void)guided_schedule(diffusion);
  } catch (const ConfigError& error) {
    throw DataError(where + ": " + error.what());
  }
}

// "1,0.5" with the shortest decimals that read back.
template <class Number>
std::string list_text(const std::vector<Number>& numbers) {
  std::string text;
  for (const Number number : numbers) {
    std::array<char, 32> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number);
    text += (text.empty() ? "" : ",") + std::string(digits.data(), end.ptr);
  }
  return text;
}

void put_diffusion(const GuidedDiffusion& diffusion, Json& flags) {
  flags["noise_schedule"] = diffusion.noise_schedule;
  flags["diffusion_steps"] = diffusion.num_steps;
  flags["timestep_respacing"] = diffusion.respacing;
  flags["rescale_timesteps"] = diffusion.rescales_times;
  flags["predict_xstart"] = diffusion.predicts_x_0;
}

void put_unet(const AdmConfig& config, Json& flags, Json& constants) {
  flags["num_channels"] = config.num_channels;
  flags["num_res_blocks"] = config.num_res_blocks;
  flags["channel_mult"] = list_text(config.channel_mult);
  flags["attention_resolutions"] = list_text(config.attention_resolutions);
  flags["num_heads"] = config.num_heads;
  flags["num_head_channels"] = config.num_head_channels;
  flags["num_heads_upsample"] = config.num_heads_upsample;
  flags["use_scale_shift_norm"] = config.use_scale_shift_norm;
  flags["resblock_updown"] = config.resblock_updown;
  flags["use_new_attention_order"] = config.use_new_attention_order;
  flags["learn_sigma"] = config.learn_sigma;
  flags["class_cond"] = config.num_classes > 0;
  if (config.num_classes > 0) {
    constants["num_classes"] = config.num_classes;
  }
}

void put_classifier(const AdmConfig& config, Json& flags, Json& constants) {
  flags["classifier_width"] = config.num_channels;
  flags["classifier_depth"] = config.num_res_blocks;
  flags["classifier_attention_resolutions"] = list_text(config.attention_resolutions);
  flags["classifier_use_scale_shift_norm"] = config.use_scale_shift_norm;
  flags["classifier_resblock_updown"] = config.resblock_updown;
  flags["classifier_pool"] = to_string(config.pool);
  constants["channel_mult"] = list_text(config.channel_mult);
  constants["num_heads"] = config.num_heads;
  constants["num_head_channels"] = config.num_head_channels;
  constants["use_new_attention_order"] = config.use_new_attention_order;
  constants["num_classes"] = config.num_classes;
}

[[noreturn]] void fail_respacing(const std::string& respacing, const std::string& why) {
  throw ConfigError("timestep_respacing = " + quoted_text(respacing) + ", " + why);
}

std::vector<int64_t> strided_steps(int64_t num_steps, int64_t count, const std::string& respacing) {
  for (int64_t stride = 1; stride < num_steps; ++stride) {
    if ((num_steps - 1) / stride + 1 == count) {
      std::vector<int64_t> kept;
      for (int64_t step = 0; step < num_steps; step += stride) {
        kept.push_back(step);
      }
      return kept;
    }
  }
  fail_respacing(respacing, "but no whole stride takes " + std::to_string(count) + " of " +
                                std::to_string(num_steps) + " steps");
}

}  // namespace

std::vector<int64_t> spaced_steps(int64_t num_steps, const std::string& respacing) {
  const std::string ddim = "ddim";
  const bool is_strided = respacing.starts_with(ddim);
  const std::string list = respacing.empty() ? std::to_string(num_steps)
                           : is_strided      ? respacing.substr(ddim.size())
                                             : respacing;
  const auto counts = numbers_of<int64_t>(list);
  if (!counts || (is_strided && counts->size() != 1)) {
    fail_respacing(respacing, "must be counts such as \"250\" or \"10,15,20\", or \"ddim50\"");
  }
  if (is_strided) {
    return strided_steps(num_steps, counts->front(), respacing);
  }
  const auto num_sections = static_cast<int64_t>(counts->size());
  std::vector<int64_t> kept;
  int64_t start = 0;
  for (int64_t i = 0; i < num_sections; ++i) {
    const int64_t size = num_steps / num_sections + (i < num_steps % num_sections ? 1 : 0);
    const int64_t count = (*counts)[static_cast<size_t>(i)];
    if (count < 0 || count > size) {
      fail_respacing(respacing, "but section " + std::to_string(i + 1) + " has " +
                                    std::to_string(size) + " steps, of which it cannot keep " +
                                    std::to_string(count));
    }
    // Summed up, and halves rounded to even, as the reference code does it: its steps to the last one.
    const double stride =
        count <= 1 ? 1.0 : static_cast<double>(size - 1) / static_cast<double>(count - 1);
    double place = 0.0;
    for (int64_t step = 0; step < count; ++step) {
      kept.push_back(start + static_cast<int64_t>(std::nearbyint(place)));
      place += stride;
    }
    start += size;
  }
  if (kept.empty()) {
    fail_respacing(respacing, "must keep at least 1 step");
  }
  return kept;
}

NoiseSchedule guided_schedule(const GuidedDiffusion& diffusion) {
  const int64_t num_steps = diffusion.num_steps;
  const double scale = 1000.0 / static_cast<double>(num_steps);
  const NoiseSchedule whole = diffusion.noise_schedule == "cosine"
                                  ? NoiseSchedule::cosine(num_steps)
                                  : NoiseSchedule::linear(num_steps, scale * 1e-4, scale * 0.02);
  const std::vector<int64_t> kept = spaced_steps(num_steps, diffusion.respacing);
  if (static_cast<int64_t>(kept.size()) == num_steps) {
    return whole;
  }
  std::vector<double> alpha_bars;
  for (const int64_t step : kept) {
    alpha_bars.push_back(whole.alpha_bars()[static_cast<size_t>(step)]);
  }
  return NoiseSchedule::from_alpha_bars(std::move(alpha_bars));
}

std::vector<double> guided_times(const GuidedDiffusion& diffusion) {
  // In float32, as the reference code rescales.
  const auto scale = diffusion.rescales_times
                         ? static_cast<float>(1000.0 / static_cast<double>(diffusion.num_steps))
                         : 1.0F;
  std::vector<double> times;
  for (const int64_t step : spaced_steps(diffusion.num_steps, diffusion.respacing)) {
    times.push_back(static_cast<double>(static_cast<float>(step) * scale));
  }
  return times;
}

GuidedFile parse_guided_file(std::string_view text, const std::string& where) {
  const Json json = parse_json_object(text, where);
  JsonObject object(json, where);
  if (object.text("format", "") != "guided-diffusion") {
    object.fail("format", "must be \"guided-diffusion\"");
  }
  (void)object.integer("version", 1, 1, 1);
  const Json empty = Json::object();
  const Json* flags_given = object.member("flags");
  const Json* constants_given = object.member("constants");
  JsonObject flags(flags_given == nullptr ? empty : *flags_given, where + ": flags");
  JsonObject constants(constants_given == nullptr ? empty : *constants_given,
                       where + ": constants");
  GuidedFile file;
  file.is_classifier = object.text("network", kUNet, {kUNet, kClassifier}) == kClassifier;
  object.finish();
  refuse_larger(flags);
  file.clips = flags.boolean("clip_denoised", false);
  file.diffusion = take_diffusion(flags);
  file.network =
      file.is_classifier ? take_classifier(flags, constants) : take_unet(flags, constants);
  file.network.in_channels = take_size(constants, "in_channels", 3);
  file.network.conv_resample = constants.boolean("conv_resample", true);
  flags.finish();
  constants.finish();
  check_diffusion(file.diffusion, where + ": flags");
  return file;
}

std::string guided_file_text(const GuidedFile& file) {
  Json flags, constants;
  flags["image_size"] = file.network.image_size;
  constants["in_channels"] = file.network.in_channels;
  constants["conv_resample"] = file.network.conv_resample;
  put_diffusion(file.diffusion, flags);
  if (file.is_classifier) {
    put_classifier(file.network, flags, constants);
  } else {
    put_unet(file.network, flags, constants);
  }
  const Json json = {{"format", "guided-diffusion"},
                     {"version", 1},
                     {"network", file.is_classifier ? kClassifier : kUNet},
                     {"flags", flags},
                     {"constants", constants}};
  return json.dump(2) + "\n";
}

}  // namespace motet::detail
