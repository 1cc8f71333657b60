// Values, ranges and key descriptions as text, and what no text of a config may hold.

#include <algorithm>
#include <charconv>
#include <cmath>

#include "io_detail.hpp"
#include "settings.hpp"

namespace motet::detail {
namespace {

constexpr const char* kDigits = "0123456789abcdef";
constexpr size_t kMaxShown = 60;
constexpr size_t kMaxDots = 32;         // of a dotted key; known ones have 2
constexpr size_t kMaxQuotedDots = 128;  // of a line with quotes

// A TOML basic string.
std::string quoted_text(const std::string& text) {
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

// Line (from 1) of the first key with too many parts; 0 when there is none. toml++ 3.3 makes a
// table of every part of a dotted key, without a limit, and destroys them recursively: 60,000 parts
// end the stack. Counted are the dots between characters that no bare key holds. In a line with
// quotes these may stand in a key, and # need not begin a comment: there the whole line counts.
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

// A byte that continues a character of UTF-8.
bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; }

// The byte at `position`, the first that is not UTF-8; columns count characters, as editors do.
BadLine bad_byte(std::string_view toml, size_t position) {
  const std::string_view before = toml.substr(0, position);
  const size_t begin = before.rfind('\n') + 1;  // 0 in the first line: npos + 1
  const auto column = std::count_if(before.begin() + static_cast<int64_t>(begin), before.end(),
                                    [](char c) { return !is_continuation(c); });
  const auto byte = static_cast<unsigned char>(toml[position]);
  return {1 + std::count(before.begin(), before.end(), '\n'),
          "column " + std::to_string(1 + column) + " has the byte 0x" + kDigits[byte >> 4] +
              kDigits[byte & 15] + ", which is not UTF-8; a config must be UTF-8 text"};
}

}  // namespace

std::optional<BadLine> find_bad_line(std::string_view toml) {
  if (const std::optional<size_t> position = find_invalid_utf8(toml)) {
    return bad_byte(toml, *position);
  }
  if (const int64_t line = find_long_key(toml); line != 0) {
    return BadLine{line, "more than " + std::to_string(kMaxDots) +
                             " dots in a key or word, or more than " +
                             std::to_string(kMaxQuotedDots) + " in a line with quotes"};
  }
  return std::nullopt;
}

std::string shorten(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  if (text.size() > kMaxShown) {
    size_t end = kMaxShown;
    while (end > 0 && is_continuation(text[end])) {
      --end;  // whole characters
    }
    text = text.substr(0, end) + " ...";
  }
  return text;
}

std::string without_blanks(const std::string& name) {
  std::string out;
  for (size_t i = 0; i < name.size(); ++i) {
    const size_t next = std::min(name.find_first_not_of(' ', i), name.size());
    const bool is_at_edge =
        out.empty() || out.back() == '.' || next == name.size() || name[next] == '.';
    if (name[i] != ' ' || !is_at_edge) {
      out += name[i];
    }
  }
  return out;
}

bool is_bare(const std::string& part) {
  return !part.empty() && std::all_of(part.begin(), part.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

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
  if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) {
    return list(*texts, [](const std::string& text) { return quoted_text(text); });
  }
  return quoted_text(std::get<std::string>(value));
}

std::string describe_allowed(const Key& key) {
  if (!key.choices.empty()) {
    std::string text = key.types.front() == KeyType::texts ? "a list of " : "one of ";
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
      case KeyType::texts:
        text += "a list of texts in quotes";
        break;
    }
  }
  return text;
}

}  // namespace motet::detail
