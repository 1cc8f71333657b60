// Private to safetensors.cpp: the JSON header of a safetensors file.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace motet::detail {

// Limits of what is read, and so of what is written.
inline constexpr uint64_t kMaxHeaderSize = 100'000'000;
inline constexpr size_t kMaxTensors = 100'000;
inline constexpr size_t kMaxMetadata = 10'000;
inline constexpr size_t kMaxNameSize = 1024;

/// The format's word for a dtype.
struct DtypeName {
  const char* name;
  c10::ScalarType dtype;
};
/// In the order in which PyPI safetensors lays tensors out: by falling item size, so that every
/// tensor is aligned and none needs a copy on reading.
inline constexpr DtypeName kDtypes[] = {
    {"I64", c10::ScalarType::Long},      {"F64", c10::ScalarType::Double},
    {"F32", c10::ScalarType::Float},     {"I32", c10::ScalarType::Int},
    {"BF16", c10::ScalarType::BFloat16}, {"F16", c10::ScalarType::Half},
    {"I16", c10::ScalarType::Short},     {"I8", c10::ScalarType::Char},
    {"U8", c10::ScalarType::Byte},       {"BOOL", c10::ScalarType::Bool},
};

/// One tensor as the header describes it; begin and end count from the start of the data.
struct Entry {
  std::string name;
  std::string dtype_name;
  c10::ScalarType dtype = c10::ScalarType::Undefined;
  std::vector<int64_t> shape;
  std::vector<int64_t> offsets;
  bool has_dtype = false;
  bool has_shape = false;
  bool has_offsets = false;

  int64_t item_size() const { return static_cast<int64_t>(c10::elementSize(dtype)); }
  int64_t num_bytes() const { return offsets[1] - offsets[0]; }
};

struct Header {
  std::vector<Entry> entries;  // in the order of the file
  std::map<std::string, std::string> metadata;
};

/// Reads a header event by event (SAX), never as a tree: a header of 10^9 keys or of deep nesting
/// stops at the first limit it breaks, with memory for what was accepted so far. Offsets are not
/// yet compared with shapes or the file. Throws DataError that begins with `prefix`.
Header parse_header(std::string_view text, const std::string& prefix);

}  // namespace motet::detail
