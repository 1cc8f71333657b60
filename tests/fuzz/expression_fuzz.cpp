// libFuzzer target of the compact notation: any text gives a tree or a ConfigError, and a tree's text
// gives the same text again.
#include <cstdint>
#include <cstdlib>

#include "motet/error.hpp"
#include "motet/expression.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::string canonical;
  try {
    const motet::Expression tree = motet::parse_expression(text);
    motet::names_in(tree);
    canonical = motet::to_string(tree);
  } catch (const motet::ConfigError&) {
    return 0;
  }
  constexpr size_t kSafeLength = 2000;  // blanks around operators may lead beyond the limit
  if (size < kSafeLength && motet::to_string(motet::parse_expression(canonical)) != canonical) {
    std::abort();
  }
  return 0;
}
