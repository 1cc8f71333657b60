// The motet.json of an exported program. All of it is checked before the program is loaded: a key that
// is not known is an error, for a misspelt one would leave its default in force.
#include "pretrained_program_file.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "error_shape.hpp"
#include "motet/error.hpp"
#include "nets/words.hpp"

namespace motet::detail {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxText = 8'000'000;
constexpr size_t kMaxLevels = 100'000;
constexpr size_t kMaxDimensions = 7;  // and the batch
constexpr size_t kMaxInputs = 32;
constexpr size_t kMaxNotes = 64;
constexpr size_t kMaxWord = 1024;
constexpr int64_t kMaxNumbers = int64_t{1} << 28;
constexpr int64_t kMaxInputNumbers = int64_t{1} << 26;
constexpr int64_t kMaxBatch = 4096;

constexpr Words<at::ScalarType, 7> kDtypes = {{{at::kFloat, "float32"},
                                               {at::kDouble, "float64"},
                                               {at::kHalf, "float16"},
                                               {at::kBFloat16, "bfloat16"},
                                               {at::kLong, "int64"},
                                               {at::kInt, "int32"},
                                               {at::kBool, "bool"}}};
constexpr Words<Coordinates, 2> kCoordinates = {
    {{Coordinates::variance_preserving, "variance_preserving"},
     {Coordinates::variance_exploding, "variance_exploding"}}};

// JSON without a key twice in an object (nlohmann would keep the last), at most 4 levels deep.
Json parse_json(std::string_view text, const std::string& prefix) {
  if (text.size() > kMaxText) {
    throw DataError(prefix + std::to_string(text.size()) + " bytes, must be at most " +
                    std::to_string(kMaxText));
  }
  std::vector<std::set<std::string>> keys;
  const auto check = [&](int depth, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start) {
      if (depth >= 4) {
        throw DataError(prefix + "is nested too deeply");
      }
      keys.emplace_back();
    } else if (event == Json::parse_event_t::object_end ||
               event == Json::parse_event_t::array_end) {
      keys.pop_back();
    } else if (event == Json::parse_event_t::key &&
               !keys.back().insert(value.get<std::string>()).second) {
      throw DataError(prefix + "has the key " + quoted_text(value.get<std::string>()) + " twice");
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), check);
  } catch (const Json::parse_error& error) {
    throw DataError(prefix + "is not valid JSON at its byte " + std::to_string(error.byte));
  } catch (const Json::exception&) {  // a number beyond float64
    throw DataError(prefix + "is not valid JSON");
  }
}

// One object of the file: its keys by kind, with the place and the limits in every message.
class Object {
 public:
  Object(const Json& json, std::string where, const std::vector<std::string>& known)
      : json_(json), where_(std::move(where)) {
    if (!json.is_object()) {
      throw DataError(where_ + "must be a JSON object");
    }
    for (const auto& [key, value] : json.items()) {
      if (std::find(known.begin(), known.end(), key) == known.end()) {
        const std::string near = nearest(key, known);
        throw DataError(where_ + "unknown key " + quoted_text(key) +
                        (near.empty() ? "" : "; did you mean " + quoted_text(near) + "?"));
      }
    }
  }

  bool has(const char* key) const { return json_.contains(key); }
  const std::string& where() const { return where_; }
  const Json& operator[](const char* key) const {
    if (!has(key)) {
      throw DataError(where_ + "missing key " + quoted_text(key));
    }
    return json_[key];
  }
  [[noreturn]] void fail(const char* key, const std::string& allowed) const {
    std::string given = json_[key].dump(-1, ' ', true, Json::error_handler_t::replace);
    if (given.size() > 60) {
      given = given.substr(0, 60) + "...";
    }
    throw DataError(where_ + key + " = " + given + ", must be " + allowed);
  }

  std::string text(const char* key) const {
    if (!(*this)[key].is_string() || json_[key].get_ref<const std::string&>().size() > kMaxWord) {
      fail(key, "a string of at most " + std::to_string(kMaxWord) + " bytes");
    }
    return json_[key].get<std::string>();
  }

  int64_t integer(const char* key, int64_t low, int64_t high) const {
    if (!is_whole((*this)[key], low, high)) {
      fail(key, "an integer from " + std::to_string(low) + " to " + std::to_string(high));
    }
    return json_[key].get<int64_t>();
  }

  // At most kMaxDimensions sizes of at least 1, of at most max_numbers numbers in all.
  std::vector<int64_t> shape(const char* key, size_t min_dims, int64_t max_numbers) const {
    const Json& list = (*this)[key];
    bool is_good = list.is_array() && list.size() >= min_dims && list.size() <= kMaxDimensions;
    int64_t numbers = 1;
    for (size_t i = 0; is_good && i < list.size(); ++i) {
      is_good = is_whole(list[i], 1, max_numbers / numbers);
      numbers *= is_good ? list[i].get<int64_t>() : 1;
    }
    if (!is_good) {
      fail(key, "a list of " + std::to_string(min_dims) + " to " + std::to_string(kMaxDimensions) +
                    " integers >= 1, of at most " + std::to_string(max_numbers) +
                    " numbers in all");
    }
    return list.get<std::vector<int64_t>>();
  }

  std::vector<double> numbers(const char* key) const {
    const Json& list = (*this)[key];
    const auto is_number = [](const Json& item) {
      return item.is_number() && std::isfinite(item.get<double>());
    };
    if (!list.is_array() || list.empty() || list.size() > kMaxLevels ||
        !std::all_of(list.begin(), list.end(), is_number)) {
      fail(key, "a list of 1 to " + std::to_string(kMaxLevels) + " numbers");
    }
    return list.get<std::vector<double>>();
  }

  // A word of a table, or `absent` where the key is not there.
  template <class Value, size_t kNum>
  Value word(const char* key, const Words<Value, kNum>& words, Value absent) const {
    if (!has(key)) {
      return absent;
    }
    return in_file([&] { return value_of(words, key, text(key)); });
  }

  // What the library says of a value, as a flaw of this file.
  template <class Function>
  auto in_file(const Function& function) const {
    try {
      return function();
    } catch (const ConfigError& error) {
      throw DataError(where_ + error.what());
    }
  }

 private:
  static bool is_whole(const Json& value, int64_t low, int64_t high) {
    // A value beyond int64 is kept as unsigned, and would come out of get<int64_t>() wrapped.
    const bool is_wrapped = value.is_number_unsigned() && value.get<uint64_t>() >> 63 != 0;
    return value.is_number_integer() && !is_wrapped && value.get<int64_t>() >= low &&
           value.get<int64_t>() <= high;
  }

  const Json& json_;
  std::string where_;
};

at::ScalarType float_dtype(const Object& object, const char* key) {
  const at::ScalarType dtype = object.word(key, kDtypes, at::kFloat);
  if (!at::isFloatingType(dtype)) {
    object.fail(key, "a float dtype");
  }
  return dtype;
}

ProgramInput parse_input(const Json& json, const std::string& where) {
  const Object object(json, where, {"name", "shape", "dtype", "num_values"});
  ProgramInput input;
  input.spec.name = object.text("name");
  if (input.spec.name.empty()) {
    object.fail("name", "a name");
  }
  input.spec.shape = object.shape("shape", 0, kMaxInputNumbers);
  input.dtype = object.word("dtype", kDtypes, at::kFloat);
  if (object.has("num_values")) {
    if (input.dtype != at::kLong || !input.spec.shape.empty()) {
      object.fail("num_values", "left out: only one int64 a row (shape []) is a class");
    }
    input.spec.num_values = object.integer("num_values", 1, kMaxNumbers);
  }
  return input;
}

std::vector<ProgramInput> parse_inputs(const Object& object) {
  std::vector<ProgramInput> inputs;
  if (!object.has("inputs")) {
    return inputs;
  }
  const Json& list = object["inputs"];
  if (!list.is_array() || list.size() > kMaxInputs) {
    object.fail("inputs", "a list of at most " + std::to_string(kMaxInputs) + " objects");
  }
  std::set<std::string> names;
  for (size_t i = 0; i < list.size(); ++i) {
    inputs.push_back(parse_input(list[i], object.where() + "inputs[" + std::to_string(i) + "]: "));
    if (!names.insert(inputs.back().spec.name).second) {
      object.fail("inputs", "of different names");
    }
  }
  return inputs;
}

ProgramSpec parse_spec(const Object& object) {
  ProgramSpec spec;
  spec.event_shape = object.shape("event_shape", 1, kMaxNumbers);
  spec.dtype = float_dtype(object, "dtype");
  spec.time_dtype = object.word("time_dtype", kDtypes, at::kFloat);
  if (spec.time_dtype != at::kFloat && spec.time_dtype != at::kLong) {
    object.fail("time_dtype", "float32 or int64");
  }
  spec.batch_size = object.has("batch_size") ? object.integer("batch_size", 0, kMaxBatch) : 0;
  spec.inputs = parse_inputs(object);
  if (object.has("returns")) {
    spec.returns = object.in_file([&] { return program_returns_from(object.text("returns")); });
  }
  spec.output_shape = spec.event_shape;
  if (object.has("output_shape")) {
    spec.output_shape = object.shape("output_shape", 1, kMaxNumbers);
    if (spec.returns != ProgramReturns::output) {
      object.fail("output_shape",
                  "left out where returns = " + quoted_text(to_string(spec.returns)));
    }
  }
  return spec;
}

// energy_norm stands for log p = -E / sigma of any E: what it squares, the program has done already.
Prediction prediction_of(const Object& object, ProgramReturns returns) {
  const std::string word = object.text("parameterisation");
  const Prediction prediction =
      object.in_file([&] { return word == "energy" ? Prediction::energy : prediction_from(word); });
  if ((prediction == Prediction::energy) != (returns != ProgramReturns::output)) {
    object.fail("parameterisation",
                prediction == Prediction::energy
                    ? "of an output, or give returns = \"energy\" or \"energy_and_gradient\""
                    : "\"energy\" where returns = " + quoted_text(to_string(returns)));
  }
  if (prediction != Prediction::energy) {
    if (object.has("log_density")) {
      object.fail("log_density", "left out unless parameterisation = \"energy\"");
    }
    return prediction;
  }
  const std::string law = object.text("log_density");
  if (law != "-E" && law != "-E / sigma") {
    object.fail("log_density", "\"-E\" or \"-E / sigma\"");
  }
  return law == "-E" ? Prediction::energy : Prediction::energy_norm;
}

OutputSpec parse_output(const Object& object, const ProgramSpec& spec) {
  OutputSpec output = {
      .prediction = prediction_of(object, spec.returns),
      .coordinates = object.word("coordinates", kCoordinates, Coordinates::variance_preserving),
      .schedule = object.in_file(
          [&] { return NoiseSchedule::from_alpha_bars(object.numbers("alpha_bars")); }),
      .times = object.numbers("times")};
  if (static_cast<int64_t>(output.times.size()) != output.schedule.num_levels()) {
    throw DataError(object.where() + std::to_string(output.times.size()) + " times for " +
                    std::to_string(output.schedule.num_levels()) + " alpha_bars, must be one each");
  }
  const auto is_whole = [](double time) { return time == std::floor(time); };
  if (spec.time_dtype == at::kLong &&
      !std::all_of(output.times.begin(), output.times.end(), is_whole)) {
    object.fail("times", "whole numbers, for time_dtype is \"int64\"");
  }
  return output;
}

void parse_data(const Object& all, ProgramFile& file) {
  const Object data(all["data"], all.where() + "data: ", {"units", "range"});
  file.data_units = data.text("units");
  if (!data.has("range")) {
    return;
  }
  const std::vector<double> range = data.numbers("range");
  if (range.size() != 2 || range[0] >= range[1]) {
    data.fail("range", "[low, high] with low < high");
  }
  file.data_range = {range[0], range[1]};
}

void parse_provenance(const Object& object, ProgramFile& file) {
  if (!object.has("provenance")) {
    return;
  }
  const Json& notes = object["provenance"];
  bool is_good = notes.is_object() && notes.size() <= kMaxNotes;
  for (const auto& [key, value] : notes.items()) {
    is_good = is_good && value.is_string();
  }
  if (!is_good) {
    object.fail("provenance", "an object of at most " + std::to_string(kMaxNotes) + " strings");
  }
  file.provenance = notes.get<std::map<std::string, std::string>>();
}

}  // namespace

std::string program_json_path(const std::string& path) { return path + ".motet.json"; }
std::string program_pairs_path(const std::string& path) { return path + ".pairs.safetensors"; }

ProgramFile parse_program_file(std::string_view text, const std::string& prefix) {
  const Json json = parse_json(text, prefix);
  if (!json.is_object() || json.value("format", Json()) != "motet.program") {
    throw DataError(prefix + "is no motet.json of a program: format must be \"motet.program\"");
  }
  if (json.value("version", Json()) != 1) {
    throw DataError(prefix + "version must be 1; a newer motet may have made it");
  }
  const Object object(json, prefix,
                      {"format", "version", "parameterisation", "log_density", "returns",
                       "coordinates", "event_shape", "output_shape", "alpha_bars", "times",
                       "time_dtype", "inputs", "dtype", "batch_size", "data", "provenance"});
  const ProgramSpec spec = parse_spec(object);
  ProgramFile file = {.spec = spec,
                      .output = parse_output(object, spec),
                      .data_units = {},
                      .data_range = {},
                      .provenance = {}};
  parse_data(object, file);
  parse_provenance(object, file);
  return file;
}

}  // namespace motet::detail
