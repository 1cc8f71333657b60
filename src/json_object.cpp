// The tree is nlohmann's; depth and repeated keys are watched while it grows, since it would keep
// the last of two silently.
#include "json_object.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "error_shape.hpp"
#include "motet/error.hpp"

namespace motet::detail {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 32;

// The words of Python's json for numbers that JSON lacks, put in quotes.
std::string with_quoted_words(std::string_view text) {
  constexpr std::array<std::string_view, 3> kWords = {"-Infinity", "Infinity", "NaN"};
  std::string result;
  result.reserve(text.size());
  bool is_inside = false;
  for (size_t i = 0; i < text.size();) {
    const auto word = std::find_if(kWords.begin(), kWords.end(), [&](std::string_view candidate) {
      return !is_inside && text.substr(i, candidate.size()) == candidate;
    });
    if (word != kWords.end()) {
      result += '"' + std::string(*word) + '"';
      i += word->size();
      continue;
    }
    if (is_inside && text[i] == '\\' && i + 1 < text.size()) {
      result += text[i++];
    } else if (text[i] == '"') {
      is_inside = !is_inside;
    }
    result += text[i++];
  }
  return result;
}

// Watches the parser: throws for what the tree would not show afterwards.
class Watcher {
 public:
  explicit Watcher(std::string where) : where_(std::move(where)) {}

  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxDepth) {
      throw DataError(where_ + ": is nested deeper than " + std::to_string(kMaxDepth));
    }
    if (event == Json::parse_event_t::object_start) {
      keys_.emplace_back();
    } else if (event == Json::parse_event_t::object_end) {
      keys_.pop_back();
    } else if (event == Json::parse_event_t::key) {
      const auto key = parsed.get<std::string>();
      if (!keys_.back().insert(key).second) {
        throw DataError(where_ + ": " + quoted_text(key) + " is given twice");
      }
    }
    return true;
  }

 private:
  std::string where_;
  std::vector<std::set<std::string>> keys_;
};

std::string short_text(const Json& value) {
  if (value.is_string()) {
    return quoted_text(value.get_ref<const std::string&>());
  }
  if (value.is_array()) {
    return value.empty() ? "[]" : "a list of " + std::to_string(value.size());
  }
  return value.is_object() ? "an object" : value.dump();
}

std::string interval_text(double low, double high) {
  return "from " + six_digits(low) + " to " + six_digits(high);
}

std::string interval_text(int64_t low, int64_t high) {
  return "from " + std::to_string(low) + " to " + std::to_string(high);
}

// A whole number, or nothing: also from a float without a fraction, as Python may write it.
std::optional<int64_t> whole(const Json& value) {
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{1} << 62) {
    return std::nullopt;
  }
  if (value.is_number_integer()) {
    return value.get<int64_t>();
  }
  constexpr double kExact = 9007199254740992.0;
  if (value.is_number_float() && std::abs(value.get<double>()) <= kExact &&
      value.get<double>() == std::floor(value.get<double>())) {
    return static_cast<int64_t>(value.get<double>());
  }
  return std::nullopt;
}

}  // namespace

Json parse_json_object(std::string_view text, const std::string& where) {
  Json json;
  try {
    json = Json::parse(with_quoted_words(text), Watcher(where));
  } catch (const Json::parse_error& error) {
    throw DataError(where + ": is not valid JSON at its byte " + std::to_string(error.byte));
  } catch (const Json::exception&) {  // a number too large
    throw DataError(where + ": is not valid JSON: it has a number that is out of range");
  }
  if (!json.is_object()) {
    throw DataError(where + ": is " + short_text(json) + ", must be an object { }");
  }
  return json;
}

JsonObject::JsonObject(const Json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  if (!object.is_object()) {
    throw DataError(where_ + ": is " + short_text(object) + ", must be an object { }");
  }
}

bool JsonObject::has(const std::string& key) const {
  return object_.contains(key) && !object_.at(key).is_null();
}

bool JsonObject::is_null(const std::string& key) const {
  return object_.contains(key) && object_.at(key).is_null();
}

const Json* JsonObject::member(const std::string& key) {
  known_.push_back(key);
  return has(key) ? &object_.at(key) : nullptr;
}

void JsonObject::fail(const std::string& key, const std::string& why) const {
  throw DataError(where_ + ": " + key + " = " +
                  short_text(object_.contains(key) ? object_.at(key) : Json()) + ", " + why);
}

std::optional<int64_t> JsonObject::optional_integer(const std::string& key, int64_t low,
                                                    int64_t high) {
  const Json* found = member(key);
  if (found == nullptr) {
    return std::nullopt;
  }
  const std::optional<int64_t> value = whole(*found);
  if (!value || *value < low || *value > high) {
    fail(key, "must be a whole number " + interval_text(low, high));
  }
  return value;
}

int64_t JsonObject::integer(const std::string& key, int64_t fallback, int64_t low, int64_t high) {
  return optional_integer(key, low, high).value_or(fallback);
}

std::optional<double> JsonObject::optional_number(const std::string& key, double low, double high) {
  const Json* found = member(key);
  if (found == nullptr) {
    return std::nullopt;
  }
  if (!found->is_number() || !(found->get<double>() >= low && found->get<double>() <= high)) {
    fail(key, "must be a number " + interval_text(low, high));
  }
  return found->get<double>();
}

double JsonObject::number(const std::string& key, double fallback, double low, double high) {
  return optional_number(key, low, high).value_or(fallback);
}

bool JsonObject::boolean(const std::string& key, bool fallback) {
  const Json* found = member(key);
  if (found != nullptr && !found->is_boolean()) {
    fail(key, "must be true or false");
  }
  return found == nullptr ? fallback : found->get<bool>();
}

std::string JsonObject::text(const std::string& key, const std::string& fallback,
                             const std::vector<std::string>& choices) {
  const Json* found = member(key);
  if (found == nullptr) {
    return fallback;
  }
  if (!found->is_string()) {
    fail(key, "must be a text");
  }
  const auto& value = found->get_ref<const std::string&>();
  if (!choices.empty() && std::find(choices.begin(), choices.end(), value) == choices.end()) {
    std::string allowed;
    for (const std::string& choice : choices) {
      allowed += (allowed.empty() ? "" : ", ") + quoted_text(choice);
    }
    fail(key, "must be one of " + allowed);
  }
  return value;
}

namespace {

const Json* list_of(const JsonObject& object, const Json* found, const std::string& key,
                    size_t most) {
  if (found != nullptr && (!found->is_array() || found->empty() || found->size() > most)) {
    object.fail(key, "must be a list of 1 to " + std::to_string(most) + " entries");
  }
  return found;
}

std::string entry_name(const std::string& key, size_t i) {
  return key + "[" + std::to_string(i) + "]";
}

}  // namespace

std::optional<std::vector<int64_t>> JsonObject::integers(const std::string& key, int64_t low,
                                                         int64_t high, size_t most) {
  const Json* list = list_of(*this, member(key), key, most);
  if (list == nullptr) {
    return std::nullopt;
  }
  std::vector<int64_t> values;
  for (size_t i = 0; i < list->size(); ++i) {
    const std::optional<int64_t> value = whole((*list)[i]);
    if (!value || *value < low || *value > high) {
      throw DataError(where_ + ": " + entry_name(key, i) + " = " + short_text((*list)[i]) +
                      ", must be a whole number " + interval_text(low, high));
    }
    values.push_back(*value);
  }
  return values;
}

std::optional<std::vector<double>> JsonObject::numbers(const std::string& key, double low,
                                                       double high, size_t most) {
  const Json* list = list_of(*this, member(key), key, most);
  if (list == nullptr) {
    return std::nullopt;
  }
  std::vector<double> values;
  for (size_t i = 0; i < list->size(); ++i) {
    const Json& entry = (*list)[i];
    if (!entry.is_number() || !(entry.get<double>() >= low && entry.get<double>() <= high)) {
      throw DataError(where_ + ": " + entry_name(key, i) + " = " + short_text(entry) +
                      ", must be a number " + interval_text(low, high));
    }
    values.push_back(entry.get<double>());
  }
  return values;
}

std::optional<std::vector<std::string>> JsonObject::texts(const std::string& key, size_t most) {
  const Json* list = list_of(*this, member(key), key, most);
  if (list == nullptr) {
    return std::nullopt;
  }
  std::vector<std::string> values;
  for (size_t i = 0; i < list->size(); ++i) {
    if (!(*list)[i].is_string()) {
      throw DataError(where_ + ": " + entry_name(key, i) + " = " + short_text((*list)[i]) +
                      ", must be a text");
    }
    values.push_back((*list)[i].get<std::string>());
  }
  return values;
}

void JsonObject::allow(const std::vector<std::string>& keys) {
  known_.insert(known_.end(), keys.begin(), keys.end());
}

void JsonObject::finish() const {
  for (const auto& [key, value] : object_.items()) {
    const bool is_private = !key.empty() && key.front() == '_';
    if (is_private || std::find(known_.begin(), known_.end(), key) != known_.end()) {
      continue;
    }
    const std::string near = nearest(key, known_);
    throw DataError(where_ + ": unknown key " + quoted_text(key) +
                    (near.empty() ? "; motet does not know what it would change"
                                  : "; did you mean " + quoted_text(near) + "?"));
  }
}

}  // namespace motet::detail
