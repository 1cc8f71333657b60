// Enumerators and their words in configs, files and reports.
#pragma once

#include <array>
#include <string>
#include <utility>

#include "motet/error.hpp"

namespace motet::detail {

/// Values with their words.
template <class Value, size_t kNum>
using Words = std::array<std::pair<Value, const char*>, kNum>;

/// The word of a value.
template <class Value, size_t kNum>
std::string word_of(const Words<Value, kNum>& words, Value value) {
  for (const auto& [candidate, word] : words) {
    if (candidate == value) {
      return word;
    }
  }
  return "unknown";
}

/// The value of a word; `what` opens the message of the ConfigError that lists the allowed ones.
template <class Value, size_t kNum>
Value value_of(const Words<Value, kNum>& words, const std::string& what, const std::string& name) {
  std::string allowed;
  for (const auto& [value, word] : words) {
    if (name == word) {
      return value;
    }
    allowed += (allowed.empty() ? "" : ", ") + std::string(word);
  }
  throw ConfigError(what + " = \"" + name + "\" is not known; allowed: " + allowed);
}

}  // namespace motet::detail
