// The motet.json of an exported program. All of it is checked before the program is loaded: a key
// that is not known is an error, for a misspelt one would leave its default in force.
#include "pretrained_program_file.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "error_shape.hpp"
#include "json_object.hpp"
#include "motet/error.hpp"
#include "nets/words.hpp"

namespace motet::detail {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxLevels = 100'000;
constexpr size_t kMaxDimensions = 7;  // and the batch
constexpr size_t kMaxInputs = 32;
constexpr size_t kMaxNotes = 64;
constexpr size_t kMaxWord = 1024;
constexpr int64_t kMaxNumbers = int64_t{1} << 28;
constexpr int64_t kMaxInputNumbers = int64_t{1} << 26;
constexpr int64_t kMaxBatch = 4096;
constexpr double kMaxTime = 1e30;

constexpr Words<at::ScalarType, 7> kDtypes = {{{at::kFloat, "float32"},
                                               {at::kDouble, "float64"},
                                               {at::kHalf, "float16"},
                                               {at::kBFloat16, "bfloat16"},
                                               {at::kLong, "int64"},
                                               {at::kInt, "int32"},
                                               {at::kBool, "bool"}}};
constexpr Words<ProgramReturns, 3> kReturns = {
    {{ProgramReturns::output, "output"},
     {ProgramReturns::energy, "energy"},
     {ProgramReturns::energy_and_gradient, "energy_and_gradient"}}};
constexpr Words<Coordinates, 2> kCoordinates = {
    {{Coordinates::variance_preserving, "variance_preserving"},
     {Coordinates::variance_exploding, "variance_exploding"}}};

// The words of a table, as JsonObject takes them.
template <class Value, size_t kNum>
std::vector<std::string> words_of(const Words<Value, kNum>& words) {
  std::vector<std::string> names;
  for (const auto& [value, word] : words) {
    names.emplace_back(word);
  }
  return names;
}

template <class Value, size_t kNum>
Value word(JsonObject& object, const std::string& key, const Words<Value, kNum>& words,
           Value absent) {
  return value_of(words, key, object.text(key, word_of(words, absent), words_of(words)));
}

void need(const JsonObject& object, const std::string& key) {
  if (!object.has(key)) {
    throw DataError(object.where() + ": missing key " + quoted_text(key));
  }
}

std::string short_text(JsonObject& object, const std::string& key) {
  need(object, key);
  std::string text = object.text(key, "");
  if (text.empty() || text.size() > kMaxWord) {
    object.fail(key, "must have 1 to " + std::to_string(kMaxWord) + " bytes");
  }
  return text;
}

// Sizes of at least 1, of at most max_numbers numbers in all.
std::vector<int64_t> shape_of(JsonObject& object, const std::string& key, int64_t max_numbers) {
  const auto shape = object.integers(key, 1, max_numbers, kMaxDimensions);
  int64_t numbers = 1;
  for (const int64_t size : shape.value_or(std::vector<int64_t>())) {
    if (size > max_numbers / numbers) {
      object.fail(key, "must have at most " + std::to_string(max_numbers) + " numbers in all");
    }
    numbers *= size;
  }
  return shape.value_or(std::vector<int64_t>());
}

at::ScalarType float_dtype(JsonObject& object, const std::string& key) {
  const at::ScalarType dtype = word(object, key, kDtypes, at::kFloat);
  if (!at::isFloatingType(dtype)) {
    object.fail(key, "must be a float dtype");
  }
  return dtype;
}

ProgramInput parse_input(const Json& json, const std::string& where) {
  JsonObject object(json, where);
  ProgramInput input;
  input.spec.name = short_text(object, "name");
  const Json* shape = object.member("shape");
  if (shape != nullptr && *shape != Json::array()) {  // [] is one number a row, as no shape is
    input.spec.shape = shape_of(object, "shape", kMaxInputNumbers);
  }
  input.dtype = word(object, "dtype", kDtypes, at::kFloat);
  input.spec.num_values = object.integer("num_values", 0, 0, kMaxNumbers);
  if (input.spec.num_values > 0 && (input.dtype != at::kLong || !input.spec.shape.empty())) {
    object.fail("num_values", "must be left out: only one int64 a row is a class");
  }
  object.finish();
  return input;
}

std::vector<ProgramInput> parse_inputs(JsonObject& object) {
  std::vector<ProgramInput> inputs;
  const Json* list = object.member("inputs");
  if (list == nullptr) {
    return inputs;
  }
  if (!list->is_array() || list->size() > kMaxInputs) {
    object.fail("inputs", "must be a list of at most " + std::to_string(kMaxInputs) + " objects");
  }
  std::set<std::string> names;
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string where = object.where() + ": inputs[" + std::to_string(i) + "]";
    inputs.push_back(parse_input((*list)[i], where));
    if (!names.insert(inputs.back().spec.name).second) {
      throw DataError(where + ": " + quoted_text(inputs.back().spec.name) + " is there twice");
    }
  }
  return inputs;
}

ProgramSpec parse_spec(JsonObject& object) {
  need(object, "event_shape");
  ProgramSpec spec;
  spec.event_shape = shape_of(object, "event_shape", kMaxNumbers);
  spec.dtype = float_dtype(object, "dtype");
  spec.time_dtype = word(object, "time_dtype", kDtypes, at::kFloat);
  if (spec.time_dtype != at::kFloat && spec.time_dtype != at::kLong) {
    object.fail("time_dtype", "must be \"float32\" or \"int64\"");
  }
  spec.batch_size = object.integer("batch_size", 0, 0, kMaxBatch);
  spec.inputs = parse_inputs(object);
  spec.returns = word(object, "returns", kReturns, ProgramReturns::output);
  spec.output_shape = spec.event_shape;
  if (object.has("output_shape")) {
    spec.output_shape = shape_of(object, "output_shape", kMaxNumbers);
    if (spec.returns != ProgramReturns::output) {
      object.fail("output_shape",
                  "must be left out where returns = " + quoted_text(to_string(spec.returns)));
    }
  }
  return spec;
}

// energy_norm stands for log p = -E / sigma of any E: what it squares, the program has done
// already.
Prediction prediction_of(JsonObject& object, ProgramReturns returns) {
  need(object, "parameterisation");
  const Prediction prediction = word(object, "parameterisation", kPredictions, Prediction::epsilon);
  if ((prediction == Prediction::energy) != (returns != ProgramReturns::output)) {
    object.fail("parameterisation",
                prediction == Prediction::energy
                    ? "needs returns = \"energy\" or \"energy_and_gradient\""
                    : "must be \"energy\" where returns = " + quoted_text(to_string(returns)));
  }
  if (prediction != Prediction::energy) {
    if (object.has("log_density")) {
      object.fail("log_density", "must be left out unless parameterisation = \"energy\"");
    }
    return prediction;
  }
  need(object, "log_density");
  const std::string law = object.text("log_density", "", {"-E", "-E / sigma"});
  return law == "-E" ? Prediction::energy : Prediction::energy_norm;
}

NoiseSchedule schedule_of(JsonObject& object) {
  need(object, "alpha_bars");
  try {
    return NoiseSchedule::from_alpha_bars(*object.numbers("alpha_bars", 0.0, 1.0, kMaxLevels));
  } catch (const ConfigError& error) {
    throw DataError(object.where() + ": " + error.what());
  }
}

OutputSpec parse_output(JsonObject& object, const ProgramSpec& spec) {
  need(object, "times");
  OutputSpec output = {
      .prediction = prediction_of(object, spec.returns),
      .coordinates = word(object, "coordinates", kCoordinates, Coordinates::variance_preserving),
      .schedule = schedule_of(object),
      .times = *object.numbers("times", -kMaxTime, kMaxTime, kMaxLevels)};
  if (static_cast<int64_t>(output.times.size()) != output.schedule.num_levels()) {
    throw DataError(object.where() + ": " + std::to_string(output.times.size()) + " times for " +
                    std::to_string(output.schedule.num_levels()) + " alpha_bars, must be one each");
  }
  const auto is_whole = [](double time) { return time == std::floor(time); };
  if (spec.time_dtype == at::kLong &&
      !std::all_of(output.times.begin(), output.times.end(), is_whole)) {
    object.fail("times", "must be whole numbers, for time_dtype = \"int64\"");
  }
  return output;
}

void parse_data(JsonObject& all, ProgramFile& file) {
  need(all, "data");
  JsonObject data(*all.member("data"), all.where() + ": data");
  file.data_units = short_text(data, "units");
  if (const auto range = data.numbers("range", -kMaxTime, kMaxTime, 2)) {
    if (range->size() != 2 || (*range)[0] >= (*range)[1]) {
      data.fail("range", "must be [low, high] with low < high");
    }
    file.data_range = {(*range)[0], (*range)[1]};
  }
  data.finish();
}

void parse_provenance(JsonObject& object, ProgramFile& file) {
  const Json* notes = object.member("provenance");
  if (notes == nullptr) {
    return;
  }
  bool is_good = notes->is_object() && notes->size() <= kMaxNotes;
  for (const Json& value : *notes) {
    is_good = is_good && value.is_string();
  }
  if (!is_good) {
    object.fail("provenance",
                "must be an object of at most " + std::to_string(kMaxNotes) + " texts");
  }
  file.provenance = notes->get<std::map<std::string, std::string>>();
}

}  // namespace

std::string program_json_path(const std::string& path) { return path + ".motet.json"; }
std::string program_pairs_path(const std::string& path) { return path + ".pairs.safetensors"; }

ProgramFile parse_program_file(std::string_view text, const std::string& where) {
  const Json json = parse_json_object(text, where);
  JsonObject object(json, where);
  if (object.text("format", "") != "motet.program") {
    throw DataError(where + ": is no motet.json of a program: its format is not \"motet.program\"");
  }
  if (object.integer("version", 0, 0, kMaxNumbers) != 1) {
    object.fail("version", "must be 1; a newer motet may have made it");
  }
  const ProgramSpec spec = parse_spec(object);
  ProgramFile file = {.spec = spec,
                      .output = parse_output(object, spec),
                      .data_units = {},
                      .data_range = {},
                      .provenance = {}};
  parse_data(object, file);
  parse_provenance(object, file);
  object.finish();
  return file;
}

}  // namespace motet::detail
