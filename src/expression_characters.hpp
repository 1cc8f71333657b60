// The classes of characters of the compact notation.
#pragma once

namespace motet::detail {

inline bool is_digit(char c) { return c >= '0' && c <= '9'; }
inline bool starts_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
inline bool continues_name(char c) { return starts_name(c) || is_digit(c) || c == '-' || c == '.'; }
// A byte that continues a character of UTF-8.
inline bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }
inline bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

}  // namespace motet::detail
