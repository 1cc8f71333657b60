// A state machine over the events of nlohmann's SAX parser. Each place in the header allows a few
// kinds of event; all others end the reading with a sentence.
#include "safetensors_header.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "io_detail.hpp"
#include "motet/error.hpp"

namespace motet::detail {
namespace {

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
    const size_t limit = place_ == Place::shape ? size_t{kMaxDims} : size_t{2};
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
      unexpected(quoted_text(value));
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
        return "__metadata__ entry " + quoted_text(key_);
      case Place::name_value:
        return key_ == "__metadata__" ? key_ : "tensor " + quoted_text(key_);
      case Place::tensor:
        return "tensor " + quoted_text(entry_.name);
      case Place::dtype:
        return "tensor " + quoted_text(entry_.name) + ": dtype";
      case Place::shape_start:
      case Place::shape:
        return "tensor " + quoted_text(entry_.name) + ": shape";
      case Place::offsets_start:
      case Place::offsets:
        return "tensor " + quoted_text(entry_.name) + ": data_offsets";
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
      fail("tensor name " + quoted_text(key) + " has " + std::to_string(key.size()) +
           " bytes, must have at most " + std::to_string(kMaxNameSize));
    }
    if (!names_.insert(key).second) {
      fail("header: duplicate key " + quoted_text(key));
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
      fail("__metadata__ key " + quoted_text(key) + " has " + std::to_string(key.size()) +
           " bytes, must have at most " + std::to_string(kMaxNameSize));
    }
    if (header_.metadata.contains(key)) {
      fail("__metadata__: duplicate key " + quoted_text(key));
    }
    if (header_.metadata.size() == kMaxMetadata) {
      fail("__metadata__: more than " + std::to_string(kMaxMetadata) + " entries");
    }
    key_ = std::move(key);
    place_ = Place::metadata_value;
  }

  void start_field(const std::string& key) {
    if ((key == "dtype" && entry_.has_dtype) || (key == "shape" && entry_.has_shape) ||
        (key == "data_offsets" && entry_.has_offsets)) {
      fail(where() + ": duplicate key " + quoted_text(key));
    }
    if (key == "dtype") {
      entry_.has_dtype = true;
      place_ = Place::dtype;
    } else if (key == "shape") {
      entry_.has_shape = true;
      place_ = Place::shape_start;
    } else if (key == "data_offsets") {
      entry_.has_offsets = true;
      place_ = Place::offsets_start;
    } else {
      fail(where() + ": unknown key " + quoted_text(key) +
           ", must be dtype, shape or data_offsets");
    }
  }

  void finish_tensor() {
    const auto* known = std::find_if(std::begin(kDtypes), std::end(kDtypes),
                                     [&](const auto& d) { return entry_.dtype_name == d.name; });
    if (!entry_.has_dtype || !entry_.has_shape || entry_.offsets.size() != 2) {
      fail(where() + ": must have dtype, shape and data_offsets [begin, end]");
    }
    if (known == std::end(kDtypes)) {
      fail(where() + ": dtype " + quoted_text(entry_.dtype_name) +
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

}  // namespace

Header parse_header(std::string_view text, const std::string& prefix) {
  if (!text.starts_with('{')) {
    throw DataError(prefix + "header begins with " + quoted_text(text.substr(0, 1)) +
                    ", must begin with \"{\"; it is not a safetensors file");
  }
  if (const auto bad = find_invalid_utf8(text)) {
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

}  // namespace motet::detail
