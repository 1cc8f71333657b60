// The .npy format (numpy's NEP 1): "\x93NUMPY", version, header length, a Python dictionary with
// descr, fortran_order and shape, padding, then the raw array. Read strictly: the dictionary has
// its three keys once each in literal form, and the file ends where the shape says. Written byte
// for byte as numpy.save writes it.
#include <ATen/ops/empty.h>
#include <sys/stat.h>
#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>

#include "io_detail.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "npy_sequence.hpp"

namespace motet {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kVersionEnd = 8;          // magic, major, minor
constexpr size_t kMaxHeaderSize = 65'535;  // what version 1 can say; more needs structured types
constexpr size_t kMaxPrefixSize = 12 + kMaxHeaderSize;

struct NpyHeader {
  c10::ScalarType dtype = c10::ScalarType::Float;
  std::string descr;
  std::vector<int64_t> shape;
  int64_t data_begin = 0;
  int64_t num_bytes = 0;
};

// Parses {'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), } and nothing more general.
class DictParser {
 public:
  DictParser(std::string_view text, std::string prefix, bool takes_numbers)
      : text_(text), prefix_(std::move(prefix)), takes_numbers_(takes_numbers) {}

  NpyHeader parse() {
    NpyHeader header;
    expect('{');
    while (!accept('}')) {
      parse_item(header);
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_spaces();
    if (at_ != text_.size()) {
      fail("the end");
    }
    if (!has_descr_ || !has_order_ || !has_shape_) {
      throw DataError(prefix_ + "header must have the keys descr, fortran_order and shape");
    }
    return header;
  }

 private:
  void parse_item(NpyHeader& header) {
    const std::string key = parse_string();
    bool* seen = key == "descr"           ? &has_descr_
                 : key == "fortran_order" ? &has_order_
                 : key == "shape"         ? &has_shape_
                                          : nullptr;
    if (seen == nullptr || *seen) {
      throw DataError(prefix_ + "header has " + (seen == nullptr ? "an unknown" : "a duplicate") +
                      " key " + detail::quoted_text(key));
    }
    *seen = true;
    expect(':');
    if (key == "descr") {
      parse_descr(header);
    } else if (key == "fortran_order") {
      parse_order();
    } else {
      header.shape = parse_shape();
    }
  }

  void parse_descr(NpyHeader& header) {
    skip_spaces();
    if (peek() == '[') {
      throw DataError(prefix_ + "a structured array, must be float32 or float64; save one field");
    }
    header.descr = parse_string();
    const std::string& descr = header.descr;
    const std::string dtype = "dtype " + detail::quoted_text(descr);
    if (descr == "<f4" || descr == "<f8") {
      header.dtype = descr == "<f4" ? c10::ScalarType::Float : c10::ScalarType::Double;
    } else if (descr.find('O') != std::string::npos) {
      throw DataError(prefix_ + dtype +
                      " is an array of pickled objects, which motet never loads; save numbers with "
                      "numpy.save(f, a.astype('<f4'))");
    } else if (descr.starts_with('>')) {
      throw DataError(prefix_ + dtype +
                      " is big endian; save it with numpy.save(f, a.astype('<f4'))");
    } else {
      throw DataError(prefix_ + dtype +
                      ", must be \"<f4\" or \"<f8\"; save it with numpy.save(f, a.astype('<f4'))");
    }
  }

  void parse_order() {
    skip_spaces();
    if (text_.substr(at_).starts_with("True")) {
      throw DataError(prefix_ +
                      "array in Fortran order, must be in C order; save it with numpy.save(f, "
                      "numpy.ascontiguousarray(a))");
    }
    if (!text_.substr(at_).starts_with("False")) {
      fail("True or False");
    }
    at_ += 5;
  }

  // A tuple: (), (3,), (3, 2), (3, 2,); "(3)" would be a number.
  std::vector<int64_t> parse_shape() {
    std::vector<int64_t> shape;
    expect('(');
    while (!accept(')')) {
      shape.push_back(parse_integer());
      if (shape.size() > size_t{detail::kMaxDims}) {
        throw DataError(prefix_ + "shape has more than " + std::to_string(detail::kMaxDims) +
                        " dimensions");
      }
      if (shape.size() == 1) {
        expect(',');
      } else if (!accept(',')) {
        expect(')');
        break;
      }
    }
    if (shape.empty() && !takes_numbers_) {
      throw DataError(prefix_ + "shape () has 0 dimensions, must have 1 to " +
                      std::to_string(detail::kMaxDims));
    }
    return shape;
  }

  int64_t parse_integer() {
    skip_spaces();
    int64_t value = 0;
    const size_t begin = at_;
    for (; peek() >= '0' && peek() <= '9'; ++at_) {
      if (__builtin_mul_overflow(value, 10, &value) ||
          __builtin_add_overflow(value, peek() - '0', &value)) {
        throw DataError(prefix_ + "shape has a number that does not fit 63 bits");
      }
    }
    if (at_ == begin) {
      fail("an integer >= 0");
    }
    return value;
  }

  std::string parse_string() {
    skip_spaces();
    const char quote = peek();
    const size_t end = quote == '\'' || quote == '"' ? text_.find(quote, at_ + 1) : text_.npos;
    if (end == text_.npos) {
      fail("a quoted string");
    }
    const std::string_view result = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return std::string(result);
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void skip_spaces() {
    while (peek() == ' ' || peek() == '\n') {
      ++at_;
    }
  }
  bool accept(char c) {
    skip_spaces();
    const bool found = peek() == c;
    at_ += found ? 1 : 0;
    return found;
  }
  void expect(char c) {
    if (!accept(c)) {
      fail(std::string("\"") + c + "\"");
    }
  }
  [[noreturn]] void fail(const std::string& expected) const {
    throw DataError(prefix_ + "header is not a dictionary as numpy writes it: byte " +
                    std::to_string(at_) + " must be " + expected + "; it is damaged");
  }

  std::string_view text_;
  std::string prefix_;
  bool takes_numbers_;  // shape () is allowed
  size_t at_ = 0;
  bool has_descr_ = false;
  bool has_order_ = false;
  bool has_shape_ = false;
};

[[noreturn]] void fail_magic(std::string_view bytes, const std::string& prefix) {
  if (bytes.size() < kVersionEnd + 2) {
    throw DataError(prefix + "file of " + std::to_string(bytes.size()) +
                    " bytes, must have at least 10; it is truncated or not a .npy file");
  }
  if (const std::string kind = detail::foreign_kind(bytes); !kind.empty()) {
    throw DataError(prefix + "is " + kind +
                    ", which motet never loads; save one array of numbers with numpy.save");
  }
  throw DataError(prefix + "begins with " + detail::quoted_text(bytes.substr(0, kMagic.size())) +
                  ", not with numpy's magic; it is not a .npy file");
}

void check_size(const NpyHeader& header, int64_t file_size, const std::string& prefix) {
  const int64_t found = file_size - header.data_begin;
  if (found != header.num_bytes) {
    throw DataError(prefix + "shape " + detail::shape_text(header.shape) + " of " +
                    detail::quoted_text(header.descr) + " needs " +
                    std::to_string(header.num_bytes) + " bytes of data, but the file has " +
                    std::to_string(found) +
                    (found < header.num_bytes ? "; it is truncated" : "; it has trailing bytes"));
  }
}

// The header of a file of file_size bytes that begins with `bytes` (all of it or kMaxPrefixSize);
// what follows the header is not looked at.
NpyHeader parse_header_alone(std::string_view bytes, int64_t file_size, const std::string& prefix,
                             bool takes_numbers = false) {
  if (!bytes.starts_with(kMagic) || bytes.size() < kVersionEnd + 2) {
    fail_magic(bytes, prefix);
  }
  const int major = static_cast<unsigned char>(bytes[6]);
  const int minor = static_cast<unsigned char>(bytes[7]);
  if (major < 1 || major > 3 || minor != 0) {
    throw DataError(prefix + "format version " + std::to_string(major) + "." +
                    std::to_string(minor) + ", must be 1.0, 2.0 or 3.0");
  }
  const size_t length_size = major == 1 ? 2 : 4;
  if (bytes.size() < kVersionEnd + length_size) {
    throw DataError(prefix + "ends within its header length; it is truncated");
  }
  uint32_t length = 0;
  std::memcpy(&length, bytes.data() + kVersionEnd, length_size);
  const size_t begin = kVersionEnd + length_size;
  if (length > kMaxHeaderSize) {
    throw DataError(prefix + "header length " + std::to_string(length) + ", must be at most " +
                    std::to_string(kMaxHeaderSize));
  }
  if (length > bytes.size() - begin) {
    throw DataError(prefix + "header length " + std::to_string(length) +
                    " goes beyond the file of " + std::to_string(file_size) +
                    " bytes; it is truncated");
  }
  NpyHeader header = DictParser(bytes.substr(begin, length), prefix, takes_numbers).parse();
  const auto num_bytes =
      detail::checked_num_bytes(header.shape, static_cast<int64_t>(c10::elementSize(header.dtype)));
  if (!num_bytes) {
    throw DataError(prefix + "shape " + detail::shape_text(header.shape) +
                    " has more bytes than 63 bits can count");
  }
  header.num_bytes = *num_bytes;
  header.data_begin = static_cast<int64_t>(begin + length);
  return header;
}

NpyHeader parse_header(std::string_view bytes, int64_t file_size, const std::string& prefix) {
  NpyHeader header = parse_header_alone(bytes, file_size, prefix);
  check_size(header, file_size, prefix);
  return header;
}

// Magic, version 1.0 and dictionary for a C-order array, as numpy.save makes them.
std::string header_bytes(const std::string& descr, c10::IntArrayRef shape) {
  std::string tuple = detail::shape_text(shape);
  if (shape.size() == 1) {
    tuple.back() = ',';  // numpy's "(3,)"; g++ 12 warns falsely of an insert
    tuple += ')';
  }
  std::string text = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + tuple + ", }";
  // numpy leaves room for the first dimension to grow to 21 digits, then aligns the data to 64.
  constexpr size_t kMaxDigits = 21;
  text.append(kMaxDigits - std::to_string(shape[0]).size(), ' ');
  constexpr size_t kAlign = 64;
  const size_t unpadded = kVersionEnd + 2 + text.size() + 1;
  text.append((kAlign - unpadded % kAlign) % kAlign, ' ');
  text += '\n';
  std::string result(kMagic);
  result += '\x01';
  result += '\x00';
  result += static_cast<char>(text.size() & 0xff);
  result += static_cast<char>(text.size() >> 8);
  return result + text;
}

std::vector<int64_t> with_rows(int64_t num_rows, c10::IntArrayRef event_shape) {
  std::vector<int64_t> shape{num_rows};
  shape.insert(shape.end(), event_shape.begin(), event_shape.end());
  return shape;
}

int64_t checked_array_bytes(c10::IntArrayRef shape, int64_t item_size, const std::string& prefix) {
  const bool has_dims = !shape.empty() && shape.size() <= size_t{detail::kMaxDims};
  const auto num_bytes = detail::checked_num_bytes(shape, item_size);
  if (!has_dims || !num_bytes) {
    throw ShapeError(prefix + "shape " + detail::shape_text(shape) +
                     ", must have 1 to 8 dimensions >= 0 and fewer than 2^63 bytes");
  }
  return *num_bytes;
}

}  // namespace

Tensor parse_npy(std::string_view bytes, const std::string& name) {
  const NpyHeader header = parse_header(bytes.substr(0, kMaxPrefixSize),
                                        static_cast<int64_t>(bytes.size()), "npy: " + name + ": ");
  Tensor result = at::empty(header.shape, header.dtype);
  if (header.num_bytes > 0) {
    std::memcpy(result.mutable_data_ptr(), bytes.data() + header.data_begin,
                static_cast<size_t>(header.num_bytes));
  }
  return result;
}

std::vector<Tensor> detail::parse_npy_sequence(std::string_view bytes, const std::string& name,
                                               size_t max_arrays) {
  std::vector<Tensor> arrays;
  while (!bytes.empty()) {
    const std::string prefix =
        "npy: " + name + ": array " + std::to_string(arrays.size() + 1) + ": ";
    if (arrays.size() == max_arrays) {
      throw DataError(prefix + "more than " + std::to_string(max_arrays) + " arrays");
    }
    const auto left = static_cast<int64_t>(bytes.size());
    const NpyHeader header =
        parse_header_alone(bytes.substr(0, kMaxPrefixSize), left, prefix, true);
    if (header.num_bytes > left - header.data_begin) {
      check_size(header, left, prefix);  // too short
    }
    Tensor array = at::empty(header.shape, header.dtype);
    if (header.num_bytes > 0) {
      std::memcpy(array.mutable_data_ptr(), bytes.data() + header.data_begin,
                  static_cast<size_t>(header.num_bytes));
    }
    arrays.push_back(std::move(array));
    bytes.remove_prefix(static_cast<size_t>(header.data_begin + header.num_bytes));
  }
  return arrays;
}

// Not mapped: users' arrays come from numpy, which rewrites files in place, under a map's feet.
Tensor read_npy(const std::string& path) {
  const detail::InputFile file(path, "npy");
  std::string start(std::min(static_cast<size_t>(file.size()), kMaxPrefixSize), '\0');
  file.read(start.data(), static_cast<int64_t>(start.size()), 0);
  const NpyHeader header = parse_header(start, file.size(), "npy: " + path + ": ");
  Tensor result = at::empty(header.shape, header.dtype);
  file.read(result.mutable_data_ptr(), header.num_bytes, header.data_begin);
  return result;
}

void write_npy(const std::string& path, const Tensor& array) {
  const std::string prefix = "npy: " + path + ": ";
  const auto dtype = array.scalar_type();
  if (dtype != at::kFloat && dtype != at::kDouble) {
    throw ShapeError(prefix + "dtype " + detail::dtype_text(dtype) +
                     ", must be float32 or float64");
  }
  checked_array_bytes(array.sizes(), static_cast<int64_t>(array.itemsize()), prefix);
  const Tensor data = array.detach().to(at::kCPU).contiguous();
  detail::AtomicFile out(path);
  out.append(header_bytes(dtype == at::kFloat ? "<f4" : "<f8", data.sizes()));
  out.append(data.const_data_ptr(), data.nbytes());
  out.commit();
}

NpyRowWriter::NpyRowWriter(std::string path, int64_t num_rows, std::vector<int64_t> event_shape,
                           bool resume)
    : path_(std::move(path)), num_rows_(num_rows), event_shape_(std::move(event_shape)) {
  const std::vector<int64_t> shape = with_rows(num_rows_, event_shape_);
  const int64_t num_bytes = checked_array_bytes(shape, sizeof(float), "npy: " + path_ + ": ");
  const std::string header = header_bytes("<f4", shape);
  header_size_ = static_cast<int64_t>(header.size());
  row_bytes_ = num_rows_ > 0 ? num_bytes / num_rows_ : 0;
  detail::check_output_path(path_);
  detail::check_output_path(partial_path());
  const std::optional<int> locked = detail::open_locked(partial_path(), path_);
  if (!locked) {
    throw DataError("write: " + path_ + ": another process is writing " + partial_path());
  }
  detail::Descriptor opened(*locked);
  start(opened.get(), header, num_bytes, resume);
  file_ = opened.release();
}

// Takes over what a partial file holds, or starts an empty one of the full size (sparse).
void NpyRowWriter::start(int file, const std::string& header, int64_t num_bytes, bool resume) {
  const int64_t full_size = header_size_ + num_bytes;
  struct stat info {};
  if (::fstat(file, &info) != 0) {
    detail::throw_write_error(path_, errno);
  }
  if (resume && info.st_size > 0) {
    std::string found(header.size(), '\0');
    const ssize_t got = ::pread(file, found.data(), found.size(), 0);
    resumed_ = got == header_size_ && found == header && info.st_size == full_size;
    if (!resumed_) {
      throw DataError("write: " + partial_path() + ": holds other rows than float32 " +
                      detail::shape_text(with_rows(num_rows_, event_shape_)) +
                      ", so it cannot be resumed; remove it or start without resume");
    }
    return;
  }
  if (::ftruncate(file, 0) != 0 || ::ftruncate(file, full_size) != 0) {
    detail::throw_write_error(path_, errno);
  }
  if (const int error = detail::write_at(file, header.data(), header.size(), 0); error != 0) {
    detail::throw_write_error(path_, error);
  }
}

NpyRowWriter::~NpyRowWriter() {
  if (file_ >= 0) {
    ::close(file_);
  }
}

std::string NpyRowWriter::partial_path() const { return path_ + ".partial"; }

void NpyRowWriter::write(int64_t first_row, const Tensor& rows) {
  check_open();
  const std::string prefix = "npy: " + path_ + ": ";
  if (rows.dim() < 1 || rows.sizes().slice(1) != c10::IntArrayRef(event_shape_)) {
    throw ShapeError(prefix + "rows of shape " + detail::shape_text(rows.sizes()) +
                     ", must be (B, *event) with event shape " + detail::shape_text(event_shape_));
  }
  if (!rows.is_floating_point()) {
    throw ShapeError(prefix + "rows of dtype " + detail::dtype_text(rows.scalar_type()) +
                     ", must be floating point");
  }
  if (first_row < 0 || first_row > num_rows_ || rows.size(0) > num_rows_ - first_row) {
    throw ShapeError(prefix + std::to_string(rows.size(0)) + " rows from row " +
                     std::to_string(first_row) + " on, but the array has " +
                     std::to_string(num_rows_) + " rows");
  }
  const Tensor data = rows.detach().to(at::kCPU, at::kFloat).contiguous();
  const int error = detail::write_at(file_, data.const_data_ptr(), data.nbytes(),
                                     header_size_ + first_row * row_bytes_);
  if (error != 0) {
    detail::throw_write_error(path_, error);
  }
}

void NpyRowWriter::flush() {
  check_open();
  if (::fsync(file_) != 0) {
    detail::throw_write_error(path_, errno);
  }
}

void NpyRowWriter::finish() {
  flush();
  detail::rename_durably(partial_path(), path_);
  ::close(file_);
  file_ = -1;
}

void NpyRowWriter::check_open() const {
  if (file_ < 0) {
    throw std::logic_error("npy: " + path_ + ": written to after finish()");
  }
}

}  // namespace motet
