// Weights files: safetensors whose metadata say all that is needed to use the tensors:
//   motet.format            "1"
//   motet.architecture      "residual_mlp"
//   motet.config            {"event_dim": 2, "width": 128, ...}: the sizes of NetworkConfig, and
//                           "frequencies": [...] where there are any; of a classifier
//                           "num_classes" too
//   motet.parameterisation  "score", "energy_norm", "energy_residual" or "classifier"
//   motet.schedule          {"name": "cosine(...)", "alpha_bars": [...]}: exact doubles
//   motet.provenance.KEY    free text: data, command, seed, commit, ...
// Every key is checked, and so is every tensor against the architecture, before a number is used.
// Metadata keys of other programs (without "motet.") are ignored.
#include <ATen/ops/isfinite.h>
#include <torch/types.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "io_detail.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "nets/residual_mlp.hpp"

namespace motet {
namespace {

using Json = nlohmann::ordered_json;

const std::string kFormatKey = "motet.format";
const std::string kArchitectureKey = "motet.architecture";
const std::string kConfigKey = "motet.config";
const std::string kParameterisationKey = "motet.parameterisation";
const std::string kScheduleKey = "motet.schedule";
const std::string kProvenancePrefix = "motet.provenance.";
const std::string kFrequencies = "frequencies";
const std::string kFormat = "1";
const std::string kArchitecture = "residual_mlp";
constexpr size_t kMaxKeys = 16;             // a key is looked up by going through all
constexpr size_t kMaxJsonSize = 4'000'000;  // 100,000 levels at full precision take 2.4 MB

// The sizes of a config, and the largest that a file may ask for: expected_tensors() is built from
// them before any tensor is looked at.
struct Size {
  const char* name;
  int64_t NetworkConfig::*member;
  int64_t max;
};
constexpr Size kSizes[] = {
    {"event_dim", &NetworkConfig::event_dim, 1'000'000},
    {"width", &NetworkConfig::width, 65'536},
    {"num_blocks", &NetworkConfig::num_blocks, 1'000},
    {"widen", &NetworkConfig::widen, 64},
    {"embedding_dim", &NetworkConfig::embedding_dim, 65'536},
    {"num_levels", &NetworkConfig::num_levels, 100'000},
};
constexpr Size kNumClasses = {"num_classes", &NetworkConfig::num_classes, 65'536};

std::vector<Size> sizes_of(Parameterisation parameterisation) {
  std::vector<Size> sizes(std::begin(kSizes), std::end(kSizes));
  if (parameterisation == Parameterisation::classifier) {
    sizes.push_back(kNumClasses);
  }
  return sizes;
}

std::string did_you_mean(std::string_view given, const std::vector<std::string>& known) {
  const std::string best = nearest(given, known);
  return best.empty() ? "" : "; did you mean " + detail::quoted_text(best) + "?";
}

// An object without nested objects and without duplicate keys (nlohmann would keep the last one).
Json parse_flat_object(const std::string& text, const std::string& where) {
  if (text.size() > kMaxJsonSize) {
    throw DataError(where + "has " + std::to_string(text.size()) + " bytes, must have at most " +
                    std::to_string(kMaxJsonSize));
  }
  std::set<std::string> keys;
  const auto check = [&](int depth, Json::parse_event_t event, Json& value) {
    const bool is_nested = (event == Json::parse_event_t::object_start && depth > 0) ||
                           (event == Json::parse_event_t::array_start && depth > 1);
    if (is_nested) {
      throw DataError(where + "is nested too deeply");
    }
    if (event == Json::parse_event_t::key && keys.size() == kMaxKeys) {
      throw DataError(where + "has more than " + std::to_string(kMaxKeys) + " keys");
    }
    if (event == Json::parse_event_t::key && !keys.insert(value.get<std::string>()).second) {
      throw DataError(where + "duplicate key " + detail::quoted_text(value.get<std::string>()));
    }
    return true;
  };
  Json result;
  try {
    result = Json::parse(text, check);
  } catch (const Json::exception&) {
    throw DataError(where + "is not valid JSON");
  }
  if (!result.is_object()) {
    throw DataError(where + "must be a JSON object");
  }
  return result;
}

void check_keys(const Json& object, const std::vector<std::string>& known,
                const std::string& where) {
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      throw DataError(where + "unknown key " + detail::quoted_text(key) + did_you_mean(key, known));
    }
  }
  for (const std::string& key : known) {
    if (!object.contains(key)) {
      throw DataError(where + "missing key " + detail::quoted_text(key));
    }
  }
}

void check_size(const Size& size, const Json& value, const std::string& where) {
  // A value beyond int64 is kept as unsigned, and would come out of get<int64_t>() wrapped.
  const bool is_wrapped = value.is_number_unsigned() && value.get<uint64_t>() >> 63 != 0;
  const bool is_in_range = value.is_number_integer() && !is_wrapped && value.get<int64_t>() >= 1 &&
                           value.get<int64_t>() <= size.max;
  if (!is_in_range) {
    std::string given = value.dump(-1, ' ', true, Json::error_handler_t::replace);
    if (given.size() > 40) {
      given = given.substr(0, 40) + "...";
    }
    throw DataError(where + size.name + " = " + given + ", must be an integer from 1 to " +
                    std::to_string(size.max));
  }
}

// A loaded network keeps what every level adds in every block: more numbers than the file holds.
void check_level_table(const NetworkConfig& config, const std::string& where) {
  constexpr int64_t kMaxNumbers = int64_t{1} << 28;  // 1 GiB
  constexpr int64_t kStep = 32;                      // rows are padded to full registers
  const int64_t row = (config.widen * config.width + kStep - 1) / kStep * kStep;
  const int64_t numbers = config.num_levels * config.num_blocks * row;
  if (numbers > kMaxNumbers) {
    throw DataError(where + "num_levels * num_blocks * widen * width = " + std::to_string(numbers) +
                    " (the last two rounded up to 32), must be at most " +
                    std::to_string(kMaxNumbers));
  }
}

// Networks of x alone have no such key, as in files from before there was one.
std::vector<double> take_frequencies(Json& object, const std::string& where) {
  const auto found = object.find(kFrequencies);
  if (found == object.end()) {
    return {};
  }
  const bool is_list = found->is_array() && !found->empty() && found->size() <= kMaxFrequencies;
  const auto is_frequency = [](const Json& item) {
    return item.is_number() && item.get<double>() > 0.0 && item.get<double>() <= kMaxFrequency;
  };
  if (!is_list || !std::all_of(found->begin(), found->end(), is_frequency)) {
    throw DataError(where + kFrequencies + " must be a list of 1 to " +
                    std::to_string(kMaxFrequencies) + " numbers in (0, " +
                    std::to_string(static_cast<int64_t>(kMaxFrequency)) + "]");
  }
  auto frequencies = found->get<std::vector<double>>();
  object.erase(found);
  return frequencies;
}

void check_features(const NetworkConfig& config, const std::string& where) {
  try {
    detail::check_network_config(config);
  } catch (const ConfigError& error) {
    throw DataError(where + error.what());
  }
}

NetworkConfig parse_config(const std::string& text, Parameterisation parameterisation,
                           const std::string& where) {
  Json object = parse_flat_object(text, where);
  const std::vector<double> frequencies = take_frequencies(object, where);
  const std::vector<Size> sizes = sizes_of(parameterisation);
  std::vector<std::string> known;
  for (const Size& size : sizes) {
    known.emplace_back(size.name);
  }
  check_keys(object, known, where);
  NetworkConfig config;
  config.parameterisation = parameterisation;
  for (const Size& size : sizes) {
    check_size(size, object[size.name], where);
    config.*size.member = object[size.name].get<int64_t>();
  }
  config.frequencies = frequencies;
  check_features(config, where);
  check_level_table(config, where);
  return config;
}

// The numbers after `first` and `second` in a text that begins with `kind`; nothing for others. Not
// by scanf, which reads as the program's locale writes.
std::optional<std::pair<double, double>> numbers_of(std::string_view text, std::string_view kind,
                                                    std::string_view first,
                                                    std::string_view second) {
  const auto after = [text](std::string_view label) -> std::optional<double> {
    const size_t found = text.find(label);
    double value = 0.0;
    if (found == std::string_view::npos) {
      return std::nullopt;
    }
    const auto* begin = text.data() + found + label.size();
    const bool is_number =
        std::from_chars(begin, text.data() + text.size(), value).ec == std::errc();
    return is_number ? std::optional(value) : std::nullopt;
  };
  const auto a = after(first);
  const auto b = after(second);
  return text.starts_with(kind) && a && b ? std::optional(std::pair(*a, *b)) : std::nullopt;
}

// The schedule that made the name, so that a loaded one describes itself as the saved one did.
std::optional<NoiseSchedule> named_schedule(const std::string& name, int64_t num_levels) {
  if (const auto ab = numbers_of(name, "cosine(", ", offset=", ", max_beta=")) {
    return NoiseSchedule::cosine(num_levels, ab->first, ab->second);
  }
  if (const auto ab = numbers_of(name, "linear(", ", beta_first=", ", beta_last=")) {
    return NoiseSchedule::linear(num_levels, ab->first, ab->second);
  }
  if (const auto ab = numbers_of(name, "scaled_linear(", ", beta_first=", ", beta_last=")) {
    return NoiseSchedule::scaled_linear(num_levels, ab->first, ab->second);
  }
  return std::nullopt;
}

NoiseSchedule parse_schedule(const std::string& text, const std::string& where) {
  const Json object = parse_flat_object(text, where);
  check_keys(object, {"name", "alpha_bars"}, where);
  const Json& list = object["alpha_bars"];
  const bool is_numbers =
      list.is_array() &&
      std::all_of(list.begin(), list.end(), [](const Json& item) { return item.is_number(); });
  if (!object["name"].is_string() || !is_numbers) {
    throw DataError(where + "name must be a string and alpha_bars an array of numbers");
  }
  auto alpha_bars = list.get<std::vector<double>>();
  const auto name = object["name"].get<std::string>();
  try {
    // The numbers decide, the name only describes: another machine's cosine may differ in a bit.
    const auto named = named_schedule(name, static_cast<int64_t>(alpha_bars.size()));
    if (named && named->describe() == name && named->alpha_bars() == alpha_bars) {
      return *named;
    }
    return NoiseSchedule::from_alpha_bars(std::move(alpha_bars));
  } catch (const ConfigError& error) {
    throw DataError(where + error.what());
  }
}

Parameterisation parse_parameterisation(const std::string& word, const std::string& where) {
  try {
    return parameterisation_from(word);
  } catch (const ConfigError& error) {
    throw DataError(where + error.what());
  }
}

// Exactly the tensors of the architecture, without a NaN or infinity.
void check_tensors(const Weights& weights, const std::string& prefix) {
  detail::check_tensors(weights.config, weights.tensors, prefix);
  for (const auto& [name, tensor] : weights.tensors) {
    const int64_t num_bad = tensor.numel() - at::isfinite(tensor).sum().item<int64_t>();
    if (num_bad > 0) {
      throw DataError(prefix + "tensor " + detail::quoted_text(name) + ": " +
                      std::to_string(num_bad) + " of " + std::to_string(tensor.numel()) +
                      " values are not finite; the training that made it diverged");
    }
  }
}

void check_num_levels(const Weights& weights, const std::string& prefix) {
  if (weights.config.num_levels != weights.schedule.num_levels()) {
    throw DataError(
        prefix + "motet.config has num_levels = " + std::to_string(weights.config.num_levels) +
        ", but motet.schedule has " + std::to_string(weights.schedule.num_levels()) + " levels");
  }
}

// Format and names of the metadata; the values are parsed by the caller.
void check_metadata(const std::map<std::string, std::string>& metadata, const std::string& prefix) {
  const auto format = metadata.find(kFormatKey);
  if (format == metadata.end()) {
    throw DataError(prefix + "not a motet weights file: its metadata have no " +
                    detail::quoted_text(kFormatKey) + "; motet train makes one");
  }
  if (format->second != kFormat) {
    throw DataError(prefix + "motet.format is " + detail::quoted_text(format->second) +
                    ", must be \"1\"; a newer motet may have made it");
  }
  const std::vector<std::string> known = {kFormatKey, kArchitectureKey, kConfigKey,
                                          kParameterisationKey, kScheduleKey};
  for (const auto& [key, value] : metadata) {
    const bool is_ours = key.starts_with("motet.") && !key.starts_with(kProvenancePrefix);
    if (is_ours && std::find(known.begin(), known.end(), key) == known.end()) {
      throw DataError(prefix + "unknown metadata key " + detail::quoted_text(key) +
                      did_you_mean(key, known));
    }
  }
  for (const std::string& key : known) {
    if (!metadata.contains(key)) {
      throw DataError(prefix + "missing metadata key " + detail::quoted_text(key));
    }
  }
  if (metadata.at(kArchitectureKey) != kArchitecture) {
    throw DataError(prefix + "motet.architecture is " +
                    detail::quoted_text(metadata.at(kArchitectureKey)) + ", must be " +
                    detail::quoted_text(kArchitecture));
  }
}

}  // namespace

Weights load_weights(const std::string& path) {
  TensorFile file = read_safetensors(path);
  const std::string prefix = "weights: " + path + ": ";
  const auto& metadata = file.metadata;
  check_metadata(metadata, prefix);
  Weights weights;
  const Parameterisation parameterisation = parse_parameterisation(
      metadata.at(kParameterisationKey), prefix + kParameterisationKey + ": ");
  weights.config =
      parse_config(metadata.at(kConfigKey), parameterisation, prefix + kConfigKey + ": ");
  weights.schedule = parse_schedule(metadata.at(kScheduleKey), prefix + kScheduleKey + ": ");
  check_num_levels(weights, prefix);
  for (const auto& [key, value] : metadata) {
    if (key.starts_with(kProvenancePrefix)) {
      weights.provenance[key.substr(kProvenancePrefix.size())] = value;
    }
  }
  weights.tensors = std::move(file.tensors);
  check_tensors(weights, prefix);
  return weights;
}

void save_weights(const std::string& path, const Weights& weights) {
  const std::string prefix = "weights: " + path + ": ";
  Json config = Json::object();
  for (const Size& size : sizes_of(weights.config.parameterisation)) {
    config[size.name] = weights.config.*size.member;
    check_size(size, config[size.name], prefix + kConfigKey + ": ");
  }
  check_features(weights.config, prefix + kConfigKey + ": ");
  if (!weights.config.frequencies.empty()) {
    config[kFrequencies] = weights.config.frequencies;
  }
  check_level_table(weights.config, prefix + kConfigKey + ": ");
  check_num_levels(weights, prefix);
  check_tensors(weights, prefix);
  // The shortest decimal that reads back to the same double: exact.
  const Json schedule = {{"name", weights.schedule.describe()},
                         {"alpha_bars", weights.schedule.alpha_bars()}};
  TensorFile file;
  file.tensors = weights.tensors;
  file.metadata = {{kFormatKey, kFormat},
                   {kArchitectureKey, kArchitecture},
                   {kConfigKey, config.dump()},
                   {kParameterisationKey, to_string(weights.config.parameterisation)},
                   {kScheduleKey, schedule.dump()}};
  for (const auto& [key, value] : weights.provenance) {
    file.metadata[kProvenancePrefix + key] = value;
  }
  write_safetensors(path, file);
}

}  // namespace motet
