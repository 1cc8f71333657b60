// Values, ranges and key descriptions as text, and what no text of a config may hold.

#include <algorithm>
#include <charconv>
#include <cmath>

#include "settings.hpp"

namespace motet::detail {
namespace {

constexpr size_t kMaxDots = 32;         // of a dotted key; known ones have 2
constexpr size_t kMaxQuotedDots = 128;  // of a line with quotes

// A TOML basic string.
std::string quoted_text(const std::string& text) {
  static const char* const kDigits = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += "\\u00";
      out += kDigits[(c >> 4) & 15];
      out += kDigits[c & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

}  // namespace

bool Range::contains(double value) const {
  return (low_open ? value > low : value >= low) && (high_open ? value < high : value <= high);
}

std::string Range::describe() const {
  const bool below = std::isfinite(low);
  const bool above = std::isfinite(high);
  const auto bound = [](double value) {  // whole numbers without ".0"
    return value == std::floor(value) && std::abs(value) < 1e15
               ? std::to_string(static_cast<int64_t>(value))
               : number_text(value);
  };
  if (below && above) {
    return std::string("in ") + (low_open ? "(" : "[") + bound(low) + ", " + bound(high) +
           (high_open ? ")" : "]");
  }
  if (below) {
    return (low_open ? "> " : ">= ") + bound(low);
  }
  return above ? (high_open ? "< " : "<= ") + bound(high) : "";
}

std::string number_text(double value) {
  if (std::isnan(value)) {
    return "nan";
  }
  if (std::isinf(value)) {
    return value > 0 ? "inf" : "-inf";
  }
  std::string buffer(32, '\0');
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  buffer.resize(static_cast<size_t>(end - buffer.data()));
  if (buffer.find_first_of(".e") == std::string::npos) {
    buffer += ".0";
  }
  return buffer;
}

std::string to_toml(const Value& value) {
  const auto list = [](const auto& entries, auto text) {
    std::string out = "[";
    for (size_t i = 0; i < entries.size(); ++i) {
      out += (i == 0 ? "" : ", ") + text(entries[i]);
    }
    return out + "]";
  };
  const auto integer = [](int64_t entry) { return std::to_string(entry); };
  if (const auto* boolean = std::get_if<bool>(&value)) {
    return *boolean ? "true" : "false";
  }
  if (const auto* whole = std::get_if<int64_t>(&value)) {
    return std::to_string(*whole);
  }
  if (const auto* number = std::get_if<double>(&value)) {
    return number_text(*number);
  }
  if (const auto* integers = std::get_if<std::vector<int64_t>>(&value)) {
    return list(*integers, integer);
  }
  if (const auto* numbers = std::get_if<std::vector<double>>(&value)) {
    return list(*numbers, number_text);
  }
  if (const auto* rows = std::get_if<std::vector<std::vector<double>>>(&value)) {
    return list(*rows, [&list](const auto& row) { return list(row, number_text); });
  }
  return quoted_text(std::get<std::string>(value));
}

std::string describe_allowed(const Key& key) {
  if (!key.choices.empty()) {
    std::string text = "one of ";
    for (size_t i = 0; i < key.choices.size(); ++i) {
      text += (i == 0 ? "\"" : ", \"") + key.choices[i] + "\"";
    }
    return text;
  }
  const std::string range = key.range.describe();
  const std::string with_range = range.empty() ? "" : " " + range;
  std::string text;
  for (const KeyType type : key.types) {
    text += text.empty() ? "" : " or ";
    switch (type) {
      case KeyType::boolean:
        text += "true or false";
        break;
      case KeyType::integer:
        text += "an integer" + with_range;
        break;
      case KeyType::number:
        text += "a number" + with_range;
        break;
      case KeyType::text:
        text += "a text in quotes";
        break;
      case KeyType::integers:
        text += "a list of integers" + with_range;
        break;
      case KeyType::numbers:
        text += "a list of numbers" + with_range;
        break;
      case KeyType::rows:
        text += "a list of lists of numbers" + with_range;
        break;
    }
  }
  return text;
}

int64_t find_long_key(std::string_view toml) {
  int64_t number = 1;
  for (size_t begin = 0; begin < toml.size(); ++number) {
    const size_t end = std::min(toml.find('\n', begin), toml.size());
    std::string_view line = toml.substr(begin, end - begin);
    const bool has_quotes = line.find_first_of("\"'") != std::string_view::npos;
    line = has_quotes ? line : line.substr(0, line.find('#'));
    size_t dots = 0;
    for (const char c : line) {
      const bool ends_key = !has_quotes && std::string_view("=,[]{}").find(c) != line.npos;
      dots = ends_key ? 0 : dots + (c == '.' ? 1 : 0);
      if (dots > (has_quotes ? kMaxQuotedDots : kMaxDots)) {
        return number;
      }
    }
    begin = end + 1;
  }
  return 0;
}

std::string long_key_text() {
  return "more than " + std::to_string(kMaxDots) + " dots in a key or word, or more than " +
         std::to_string(kMaxQuotedDots) + " in a line with quotes";
}

}  // namespace motet::detail
