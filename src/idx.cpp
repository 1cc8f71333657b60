// idx files, the format of the MNIST data sets, plain or gzip: two zero bytes, a type (8: unsigned
// bytes), the number of dimensions, their sizes as big-endian 32-bit numbers, then the entries, the
// last dimension fastest.
#include <torch/types.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "error_shape.hpp"
#include "io_detail.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"

namespace motet {
namespace {

constexpr size_t kMaxIdxDims = 4;
constexpr int64_t kMaxIdxBytes = int64_t{1} << 32;
constexpr int64_t kMaxRatio = 1032;  // deflate packs no more bytes than this into one
constexpr size_t kChunk = size_t{1} << 24;

[[noreturn]] void refuse(const std::string& name, const std::string& why) {
  throw DataError("read: " + name + ": " + why);
}

/// Bytes that come one after the other: those of a file as they are, or what gzip packs in them.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Fills as much of [out, out + size) as there is; returns how much.
  virtual size_t read(char* out, size_t size) = 0;
  /// The most bytes that can be left.
  virtual int64_t most_left() const = 0;
};

class PlainBytes final : public ByteSource {
 public:
  explicit PlainBytes(std::string_view bytes) : bytes_(bytes) {}
  size_t read(char* out, size_t size) override {
    const size_t count = std::min(size, bytes_.size());
    std::copy_n(bytes_.data(), count, out);
    bytes_.remove_prefix(count);
    return count;
  }
  int64_t most_left() const override { return static_cast<int64_t>(bytes_.size()); }

 private:
  std::string_view bytes_;
};

class GzipBytes final : public ByteSource {
 public:
  GzipBytes(std::string_view bytes, std::string name) : bytes_(bytes), name_(std::move(name)) {
    constexpr int kGzipOnly = 16 + MAX_WBITS;
    if (inflateInit2(&stream_, kGzipOnly) != Z_OK) {
      refuse(name_, "gzip: zlib cannot start (no memory)");
    }
  }
  ~GzipBytes() override { inflateEnd(&stream_); }
  GzipBytes(const GzipBytes&) = delete;
  GzipBytes& operator=(const GzipBytes&) = delete;

  size_t read(char* out, size_t size) override {
    size_t done = 0;
    while (done < size && !is_over_) {
      const size_t room = std::min(size - done, kChunk);
      const size_t got = inflate_some(out + done, room);
      done += got;
      if (got == 0 && !is_over_ && bytes_.empty()) {
        refuse(name_, "gzip: the file is truncated");
      }
    }
    return done;
  }

  int64_t most_left() const override {
    return is_over_ ? 0 : kMaxRatio * (static_cast<int64_t>(bytes_.size()) + 64);
  }

 private:
  size_t inflate_some(char* out, size_t room) {
    const size_t given = std::min(bytes_.size(), kChunk);
    // zlib does not write to its input; its C interface has no const.
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes_.data()));
    stream_.avail_in = static_cast<uInt>(given);
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(room);
    const int code = inflate(&stream_, Z_NO_FLUSH);
    bytes_.remove_prefix(given - stream_.avail_in);
    if (code == Z_STREAM_END) {
      is_over_ = true;
      if (!bytes_.empty()) {
        refuse(name_, "gzip: " + std::to_string(bytes_.size()) + " bytes after the end");
      }
    } else if (code != Z_OK && code != Z_BUF_ERROR) {
      refuse(name_, std::string("gzip: ") +
                        (stream_.msg == nullptr ? "the data are damaged" : stream_.msg));
    }
    return room - stream_.avail_out;
  }

  std::string_view bytes_;
  std::string name_;
  z_stream stream_{};
  bool is_over_ = false;
};

void read_exactly(ByteSource& source, char* out, size_t size, const std::string& name,
                  const std::string& what) {
  const size_t got = source.read(out, size);
  if (got != size) {
    refuse(name, "idx: the file is truncated: " + what + " take " + std::to_string(size) +
                     " bytes, there are " + std::to_string(got));
  }
}

std::vector<int64_t> read_sizes(ByteSource& source, const std::string& name) {
  std::array<unsigned char, 4> magic{};
  read_exactly(source, reinterpret_cast<char*>(magic.data()), 4, name, "the first words");
  if (magic[0] != 0 || magic[1] != 0) {
    refuse(name, "is not an idx file: it does not begin with two zero bytes");
  }
  constexpr unsigned char kUnsignedBytes = 8;
  if (magic[2] != kUnsignedBytes) {
    refuse(name,
           "idx: entries of type " + std::to_string(magic[2]) + ", must be 8 (unsigned bytes)");
  }
  if (magic[3] < 1 || magic[3] > kMaxIdxDims) {
    refuse(name, "idx: " + std::to_string(magic[3]) + " dimensions, must be 1 to 4");
  }
  std::vector<int64_t> sizes;
  for (unsigned char i = 0; i < magic[3]; ++i) {
    std::array<unsigned char, 4> word{};
    read_exactly(source, reinterpret_cast<char*>(word.data()), 4, name, "the sizes");
    sizes.push_back((int64_t{word[0]} << 24) | (int64_t{word[1]} << 16) | (int64_t{word[2]} << 8) |
                    int64_t{word[3]});
  }
  return sizes;
}

Tensor read_entries(ByteSource& source, const std::string& name) {
  const std::vector<int64_t> sizes = read_sizes(source, name);
  const std::optional<int64_t> count = detail::checked_num_bytes(sizes, 1);
  const std::string shape = detail::shape_text(sizes);
  if (!count || *count < 1 || *count > kMaxIdxBytes) {
    refuse(name, "idx: shape " + shape + ", must have 1 to 2^32 entries");
  }
  if (*count > source.most_left()) {
    refuse(name, "idx: the file is truncated: shape " + shape + " takes " + std::to_string(*count) +
                     " bytes, there are at most " + std::to_string(source.most_left()));
  }
  Tensor entries = at::empty(sizes, at::kByte);
  read_exactly(source, reinterpret_cast<char*>(entries.data_ptr<uint8_t>()),
               static_cast<size_t>(*count), name, "the entries");
  char extra = 0;
  if (source.read(&extra, 1) != 0) {
    refuse(name, "idx: there are bytes after the entries of shape " + shape);
  }
  return entries;
}

}  // namespace

Tensor parse_idx(std::string_view bytes, const std::string& name) {
  constexpr std::string_view kGzip = "\x1f\x8b";
  if (bytes.substr(0, 2) == kGzip) {
    GzipBytes source(bytes, name);
    return read_entries(source, name);
  }
  PlainBytes source(bytes);
  return read_entries(source, name);
}

Tensor read_idx(const std::string& path) {
  const detail::MappedFile file(path, "read");
  return parse_idx(file.bytes(), path);
}

}  // namespace motet
