// The safetensors format: 8 bytes of little-endian header length N, N bytes of JSON that map each
// name to {"dtype", "shape", "data_offsets": [begin, end]} and "__metadata__" to strings, then the
// raw little-endian data, which the tensors cover without holes or overlaps.
//
// The header is read event by event (SAX) and never built as a tree: a header of 10^9 keys or of
// deep nesting stops at the first limit it breaks, with memory for what was accepted so far. Sizes
// are checked against the file before anything of that size is allocated.
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <torch/types.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "io_detail.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"

namespace motet {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are stored little endian");

constexpr uint64_t kPrefixSize = 8;
constexpr uint64_t kMaxHeaderSize = 100'000'000;
constexpr size_t kMaxTensors = 100'000;
constexpr size_t kMaxMetadata = 10'000;
constexpr size_t kMaxNameSize = 1024;

struct DtypeName {
  const char* name;
  c10::ScalarType dtype;
};
constexpr DtypeName kDtypes[] = {
    {"F64", c10::ScalarType::Double}, {"F32", c10::ScalarType::Float},
    {"F16", c10::ScalarType::Half},   {"BF16", c10::ScalarType::BFloat16},
    {"I64", c10::ScalarType::Long},   {"I32", c10::ScalarType::Int},
    {"I16", c10::ScalarType::Short},  {"I8", c10::ScalarType::Char},
    {"U8", c10::ScalarType::Byte},    {"BOOL", c10::ScalarType::Bool},
};

// One tensor as the header describes it; begin and end count from the start of the data.
struct Entry {
  std::string name;
  std::string dtype_name;
  c10::ScalarType dtype = c10::ScalarType::Undefined;
  std::vector<int64_t> shape;
  std::vector<int64_t> offsets;
  bool has_shape = false;
  bool has_offsets = false;

  int64_t item_size() const { return static_cast<int64_t>(c10::elementSize(dtype)); }
  int64_t num_bytes() const { return offsets[1] - offsets[0]; }
};

struct Header {
  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;
};

// Receives the JSON of a header and throws DataError at its first flaw.
class HeaderReader {
 public:
  explicit HeaderReader(std::string prefix) : prefix_(std::move(prefix)) {}
  Header take() { return std::move(header_); }

  // The names and types of these members are those of nlohmann's SAX interface.
  bool null() { unexpected("null"); }
  bool boolean(bool) { unexpected("a boolean"); }
  bool number_integer(int64_t value) { unexpected(std::to_string(value)); }
  bool number_float(double, const std::string& text) { unexpected(text); }
  bool binary(nlohmann::json::binary_t&) { unexpected("binary data"); }
  bool number_unsigned(uint64_t value) {
    if (place_ != Place::shape && place_ != Place::offsets) {
      unexpected(std::to_string(value));
    }
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      fail(where() + ": " + std::to_string(value) + " does not fit 63 bits");
    }
    std::vector<int64_t>& list = place_ == Place::shape ? entry_.shape : entry_.offsets;
    const size_t limit = place_ == Place::shape ? size_t{detail::kMaxDims} : size_t{2};
    if (list.size() == limit) {
      fail(where() + ": more than " + std::to_string(limit) + " numbers");
    }
    list.push_back(static_cast<int64_t>(value));
    return true;
  }
  bool string(std::string& value) {
    if (place_ == Place::metadata_value) {
      header_.metadata[key_] = std::move(value);
      place_ = Place::metadata;
    } else if (place_ == Place::dtype) {
      entry_.dtype_name = std::move(value);
      place_ = Place::tensor;
    } else {
      unexpected(detail::quoted(value));
    }
    return true;
  }
  bool start_object(size_t) {
    if (place_ == Place::start) {
      place_ = Place::names;
    } else if (place_ == Place::name_value) {
      place_ = key_ == "__metadata__" ? Place::metadata : Place::tensor;
    } else {
      unexpected("an object");
    }
    return true;
  }
  bool end_object() {
    if (place_ == Place::tensor) {
      finish_tensor();
    }
    place_ = place_ == Place::names ? Place::end : Place::names;
    return true;
  }
  bool start_array(size_t) {
    if (place_ == Place::shape_start) {
      place_ = Place::shape;
    } else if (place_ == Place::offsets_start) {
      place_ = Place::offsets;
    } else {
      unexpected("an array");
    }
    return true;
  }
  bool end_array() {
    place_ = Place::tensor;
    return true;
  }
  bool key(std::string& key) {
    if (place_ == Place::names) {
      start_name(key);
    } else if (place_ == Place::metadata) {
      start_metadata(key);
    } else {
      start_field(key);
    }
    return true;
  }
  // nlohmann counts the bytes that it has read, the flawed one included.
  bool parse_error(size_t num_read, const std::string&, const nlohmann::json::exception&) {
    fail("header is not valid JSON at its byte " + std::to_string(num_read - 1));
  }

 private:
  enum class Place {
    start,
    names,
    name_value,
    metadata,
    metadata_value,
    tensor,
    dtype,
    shape_start,
    shape,
    offsets_start,
    offsets,
    end,
  };

  [[noreturn]] void fail(const std::string& text) const { throw DataError(prefix_ + text); }

  // What the reader is at, for messages.
  std::string where() const {
    switch (place_) {
      case Place::start:
      case Place::names:
      case Place::end:
        return "header";
      case Place::metadata:
        return "__metadata__";
      case Place::metadata_value:
        return "__metadata__ entry " + detail::quoted(key_);
      case Place::name_value:
        return key_ == "__metadata__" ? key_ : "tensor " + detail::quoted(key_);
      case Place::tensor:
        return "tensor " + detail::quoted(entry_.name);
      case Place::dtype:
        return "tensor " + detail::quoted(entry_.name) + ": dtype";
      case Place::shape_start:
      case Place::shape:
        return "tensor " + detail::quoted(entry_.name) + ": shape";
      case Place::offsets_start:
      case Place::offsets:
        return "tensor " + detail::quoted(entry_.name) + ": data_offsets";
    }
    return "header";
  }

  [[noreturn]] void unexpected(const std::string& found) const {
    const bool is_list = place_ == Place::shape_start || place_ == Place::offsets_start;
    const bool is_item = place_ == Place::shape || place_ == Place::offsets;
    const bool is_text = place_ == Place::metadata_value || place_ == Place::dtype;
    fail(where() + ": found " + found + ", must be " +
         (is_list   ? "an array of integers >= 0"
          : is_item ? "an integer >= 0"
          : is_text ? "a string"
                    : "an object"));
  }

  void start_name(std::string& key) {
    if (key.size() > kMaxNameSize) {
      fail("tensor name " + detail::quoted(key) + " has " + std::to_string(key.size()) +
           " bytes, must have at most " + std::to_string(kMaxNameSize));
    }
    if (!names_.insert(key).second) {
      fail("header: duplicate key " + detail::quoted(key));
    }
    if (header_.entries.size() == kMaxTensors && key != "__metadata__") {
      fail("header: more than " + std::to_string(kMaxTensors) + " tensors");
    }
    entry_ = Entry{};
    entry_.name = key;
    key_ = std::move(key);
    place_ = Place::name_value;
  }

  void start_metadata(std::string& key) {
    if (key.size() > kMaxNameSize) {
      fail("__metadata__ key " + detail::quoted(key) + " has " + std::to_string(key.size()) +
           " bytes, must have at most " + std::to_string(kMaxNameSize));
    }
    if (header_.metadata.contains(key)) {
      fail("__metadata__: duplicate key " + detail::quoted(key));
    }
    if (header_.metadata.size() == kMaxMetadata) {
      fail("__metadata__: more than " + std::to_string(kMaxMetadata) + " entries");
    }
    key_ = std::move(key);
    place_ = Place::metadata_value;
  }

  void start_field(const std::string& key) {
    if ((key == "dtype" && !entry_.dtype_name.empty()) || (key == "shape" && entry_.has_shape) ||
        (key == "data_offsets" && entry_.has_offsets)) {
      fail(where() + ": duplicate key " + detail::quoted(key));
    }
    if (key == "dtype") {
      place_ = Place::dtype;
    } else if (key == "shape") {
      entry_.has_shape = true;
      place_ = Place::shape_start;
    } else if (key == "data_offsets") {
      entry_.has_offsets = true;
      place_ = Place::offsets_start;
    } else {
      fail(where() + ": unknown key " + detail::quoted(key) +
           ", must be dtype, shape or data_offsets");
    }
  }

  void finish_tensor() {
    const auto* known = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                     [&](const auto& d) { return entry_.dtype_name == d.name; });
    if (entry_.dtype_name.empty() || !entry_.has_shape || entry_.offsets.size() != 2) {
      fail(where() + ": must have dtype, shape and data_offsets [begin, end]");
    }
    if (known == std::end(kDtypes)) {
      fail(where() + ": dtype " + detail::quoted(entry_.dtype_name) +
           ", must be F64, F32, F16, BF16, I64, I32, I16, I8, U8 or BOOL");
    }
    entry_.dtype = known->dtype;
    header_.entries.push_back(std::move(entry_));
  }

  std::string prefix_;
  Header header_;
  std::set<std::string> names_;
  Entry entry_;
  std::string key_;
  Place place_ = Place::start;
};

// The header's length, checked against the file and the limit.
uint64_t header_size(std::string_view bytes, const std::string& prefix) {
  if (bytes.size() < kPrefixSize + 2) {
    throw DataError(prefix + "file of " + std::to_string(bytes.size()) +
                    " bytes, must have at least 10; it is truncated or not a safetensors file");
  }
  uint64_t size = 0;
  std::memcpy(&size, bytes.data(), kPrefixSize);
  if (size > bytes.size() - kPrefixSize) {
    // Only here can a foreign file be told: a valid length may begin with the same bytes.
    if (const std::string kind = detail::foreign_kind(bytes); !kind.empty()) {
      throw DataError(prefix + "is " + kind +
                      ", which motet never loads, because unpickling runs code from the file; "
                      "convert it with safetensors.torch.save_file");
    }
    throw DataError(prefix + "header length " + std::to_string(size) + " goes beyond the file of " +
                    std::to_string(bytes.size()) +
                    " bytes; it is truncated or not a safetensors file");
  }
  if (size > kMaxHeaderSize) {
    throw DataError(prefix + "header length " + std::to_string(size) + ", must be at most " +
                    std::to_string(kMaxHeaderSize));
  }
  return size;
}

Header parse_header(std::string_view text, const std::string& prefix) {
  if (!text.starts_with('{')) {
    throw DataError(prefix + "header begins with " + detail::quoted(text.substr(0, 1)) +
                    ", must begin with \"{\"; it is not a safetensors file");
  }
  if (const auto bad = detail::find_invalid_utf8(text)) {
    throw DataError(prefix + "header is not UTF-8 at its byte " + std::to_string(*bad));
  }
  // To nlohmann a NUL byte is the end of the input, which would hide what follows it.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    throw DataError(prefix + "header is not valid JSON at its byte " + std::to_string(nul));
  }
  HeaderReader reader(prefix);
  nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
  return reader.take();
}

// Each tensor's offsets against its shape and against its neighbours: data_size bytes, all covered
// once.
void check_layout(const Header& header, int64_t data_size, const std::string& prefix) {
  std::vector<const Entry*> in_order;
  for (const Entry& entry : header.entries) {
    const std::string where = prefix + "tensor " + detail::quoted(entry.name) + ": ";
    const std::string offsets = "data_offsets [" + std::to_string(entry.offsets[0]) + ", " +
                                std::to_string(entry.offsets[1]) + "]";
    if (entry.offsets[0] > entry.offsets[1]) {
      throw DataError(where + offsets + " end before they begin");
    }
    if (entry.offsets[1] > data_size) {
      throw DataError(where + offsets + " go beyond the data of " + std::to_string(data_size) +
                      " bytes; the file is truncated");
    }
    const auto expected = detail::checked_num_bytes(entry.shape, entry.item_size());
    if (!expected) {
      throw DataError(where + "shape " + detail::shape_text(entry.shape) +
                      " has more bytes than 63 bits can count");
    }
    if (*expected != entry.num_bytes()) {
      throw DataError(where + offsets + " are " + std::to_string(entry.num_bytes()) +
                      " bytes, but shape " + detail::shape_text(entry.shape) + " of " +
                      entry.dtype_name + " needs " + std::to_string(*expected));
    }
    in_order.push_back(&entry);
  }
  std::sort(in_order.begin(), in_order.end(),
            [](const Entry* a, const Entry* b) { return a->offsets < b->offsets; });
  int64_t covered = 0;
  for (const Entry* entry : in_order) {
    if (entry->offsets[0] != covered) {
      throw DataError(prefix + "tensor " + detail::quoted(entry->name) + ": data begin at " +
                      std::to_string(entry->offsets[0]) + ", must begin at " +
                      std::to_string(covered) + ", where the tensor before them ends: " +
                      (entry->offsets[0] < covered ? "tensors overlap" : "there is a hole"));
    }
    covered = entry->offsets[1];
  }
  if (covered != data_size) {
    throw DataError(prefix + std::to_string(data_size - covered) +
                    " bytes after the last tensor, must be 0");
  }
}

// A byte other than 0 and 1 in a C++ bool is undefined behaviour.
void check_bools(const Entry& entry, const char* data, const std::string& prefix) {
  const auto is_bool = [](char c) { return c == 0 || c == 1; };
  const char* end = data + entry.num_bytes();
  const char* bad = std::find_if_not(data, end, is_bool);
  if (entry.dtype == c10::ScalarType::Bool && bad != end) {
    throw DataError(prefix + "tensor " + detail::quoted(entry.name) +
                    ": a BOOL must be 0 or 1, but element " + std::to_string(bad - data) + " is " +
                    std::to_string(static_cast<int>(static_cast<unsigned char>(*bad))));
  }
}

Tensor copied(const Entry& entry, const char* data) {
  Tensor result = at::empty(entry.shape, entry.dtype);
  if (entry.num_bytes() > 0) {
    std::memcpy(result.mutable_data_ptr(), data, static_cast<size_t>(entry.num_bytes()));
  }
  return result;
}

// Tensors of a whole file in memory. With `owner`, the map that `bytes` is of, they point into it
// and keep it alive; those whose data are not aligned to their items, and all without an owner, are
// copies.
TensorFile parse(std::string_view bytes, const std::string& name,
                 const std::shared_ptr<detail::MappedFile>& owner) {
  const std::string prefix = "safetensors: " + name + ": ";
  const uint64_t size = header_size(bytes, prefix);
  Header header = parse_header(bytes.substr(kPrefixSize, size), prefix);
  const std::string_view data = bytes.substr(kPrefixSize + size);
  check_layout(header, static_cast<int64_t>(data.size()), prefix);
  TensorFile result;
  result.metadata = std::move(header.metadata);
  for (const Entry& entry : header.entries) {
    const char* begin = data.data() + entry.offsets[0];
    check_bools(entry, begin, prefix);
    const bool is_aligned =
        reinterpret_cast<uintptr_t>(begin) % static_cast<uintptr_t>(entry.item_size()) == 0;
    Tensor tensor;
    if (owner && is_aligned && entry.num_bytes() > 0) {
      char* mapped = owner->data() + (begin - bytes.data());
      tensor = at::from_blob(mapped, entry.shape, [owner](void*) {}, at::dtype(entry.dtype));
    } else {
      tensor = copied(entry, begin);
    }
    result.tensors.emplace(entry.name, std::move(tensor));
  }
  return result;
}

// What write_safetensors needs of one tensor.
struct Output {
  std::string name;
  Tensor tensor;  // contiguous, on the CPU
  const char* dtype_name = nullptr;
};

void check_text(std::string_view text, const std::string& what, const std::string& prefix) {
  if (const auto bad = detail::find_invalid_utf8(text)) {
    throw DataError(prefix + what + detail::quoted(text) + " is not UTF-8 at its byte " +
                    std::to_string(*bad));
  }
}

Output checked_output(const std::string& name, const Tensor& tensor, const std::string& prefix) {
  const std::string where = prefix + "tensor " + detail::quoted(name) + ": ";
  check_text(name, "tensor name ", prefix);
  if (name == "__metadata__" || name.size() > kMaxNameSize) {
    throw ShapeError(where + "name must have at most " + std::to_string(kMaxNameSize) +
                     " bytes and not be __metadata__");
  }
  if (!tensor.defined()) {
    throw ShapeError(where + "is undefined");
  }
  if (tensor.dim() > detail::kMaxDims) {
    throw ShapeError(where + "has " + std::to_string(tensor.dim()) +
                     " dimensions, must have at most " + std::to_string(detail::kMaxDims));
  }
  const auto* known = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                   [&](const auto& d) { return tensor.scalar_type() == d.dtype; });
  if (known == std::end(kDtypes)) {
    throw ShapeError(where + "dtype " + detail::dtype_text(tensor.scalar_type()) +
                     " has no safetensors type");
  }
  return {name, tensor.detach().to(at::kCPU).contiguous(), known->name};
}

// The header, padded with spaces so that the data begin at a multiple of 8.
std::string header_text(const std::vector<Output>& outputs,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) {
    header["__metadata__"] = metadata;
  }
  int64_t offset = 0;
  for (const Output& output : outputs) {
    const int64_t end = offset + static_cast<int64_t>(output.tensor.nbytes());
    header[output.name] = {{"dtype", output.dtype_name},
                           {"shape", output.tensor.sizes().vec()},
                           {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.append((kPrefixSize - text.size() % kPrefixSize) % kPrefixSize, ' ');
  return text;
}

}  // namespace

TensorFile read_safetensors(const std::string& path) {
  const auto file = std::make_shared<detail::MappedFile>(path, "safetensors");
  return parse(file->bytes(), path, file);
}

TensorFile parse_safetensors(std::string_view bytes, const std::string& name) {
  return parse(bytes, name, nullptr);
}

void write_safetensors(const std::string& path, const TensorFile& file) {
  const std::string prefix = "safetensors: " + path + ": ";
  detail::check_output_path(path);
  for (const auto& [key, value] : file.metadata) {
    check_text(key, "metadata key ", prefix);
    check_text(value, "metadata value ", prefix);
  }
  std::vector<Output> outputs;
  for (const auto& [name, tensor] : file.tensors) {
    outputs.push_back(checked_output(name, tensor, prefix));
  }
  // Falling item size keeps every tensor aligned, so that none needs a copy on reading.
  std::stable_sort(outputs.begin(), outputs.end(), [](const Output& a, const Output& b) {
    return a.tensor.itemsize() > b.tensor.itemsize();
  });
  const std::string text = header_text(outputs, file.metadata);
  if (text.size() > kMaxHeaderSize || outputs.size() > kMaxTensors ||
      file.metadata.size() > kMaxMetadata) {
    throw DataError(prefix + "too much for one file: at most " + std::to_string(kMaxTensors) +
                    " tensors, " + std::to_string(kMaxMetadata) + " metadata entries and " +
                    std::to_string(kMaxHeaderSize) + " bytes of header");
  }
  const uint64_t size = text.size();
  detail::AtomicFile out(path);
  out.append(&size, kPrefixSize);
  out.append(text);
  for (const Output& output : outputs) {
    out.append(output.tensor.const_data_ptr(), output.tensor.nbytes());
  }
  out.commit();
}

}  // namespace motet
