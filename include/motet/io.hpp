// Files: safetensors, npy, weights, atomic writes. Everything read here may come from a stranger:
// parsed strictly, with limits; every flaw is a DataError that names the file and what is wrong
// with it. Nothing is ever unpickled.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "motet/model.hpp"

namespace motet {

/// Contents of a safetensors file: named tensors and the string metadata of its header.
struct TensorFile {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

/// Reads a safetensors file through a private memory map: O(header) work, pages load on first use
/// (those of BOOL tensors at once: every byte must be 0 or 1). The tensors keep the map alive;
/// writing into them does not change the file. Read: F64, F32, F16, BF16, I64, I32, I16, I8, U8,
/// BOOL. Limits: 100 MB of header, 100,000 tensors, 10,000 metadata
/// entries, 8 dimensions, names of 1024 bytes. Throws DataError for all that breaks the format.
TensorFile read_safetensors(const std::string& path);
/// The same from bytes in memory (`name` is for messages); tensors are copies. For fuzzing and
/// tests.
TensorFile parse_safetensors(std::string_view bytes, const std::string& name);
/// Writes atomically. The bytes depend only on the contents, and are those of PyPI safetensors:
/// tensors by dtype (falling item size), then name. Throws ShapeError for what the format cannot
/// hold, DataError when it cannot be written.
void write_safetensors(const std::string& path, const TensorFile& file);

/// Reads an idx file of unsigned bytes, the format of the MNIST data sets, plain or gzip: uint8 of
/// 1 to 4 dimensions and at most 2^32 entries. Throws DataError for all else, and before it takes
/// memory for more than the file can hold.
Tensor read_idx(const std::string& path);
/// The same from bytes in memory; `name` is for messages.
Tensor parse_idx(std::string_view bytes, const std::string& name);

/// Reads a .npy file (versions 1-3; float32, float64, C order, 1 to 8 dimensions, little endian)
/// into memory. Throws DataError for all else.
Tensor read_npy(const std::string& path);
/// The same from bytes in memory; `name` is for messages.
Tensor parse_npy(std::string_view bytes, const std::string& name);
/// Writes float32 or float64, C order, atomically. Throws ShapeError for another dtype or more than
/// 8 dimensions, DataError when it cannot be written.
void write_npy(const std::string& path, const Tensor& array);

/// A .npy file of float32 rows (num_rows, *event) that is filled in tiles in bounded memory, then
/// renamed into place. Without finish() the partial file stays, for a later resume.
class NpyRowWriter {
 public:
  /// Opens `path`.partial and locks it against other processes. With `resume` the rows of an
  /// existing partial file are kept; DataError if it is of another shape.
  NpyRowWriter(std::string path, int64_t num_rows, std::vector<int64_t> event_shape,
               bool resume = false);
  ~NpyRowWriter();
  NpyRowWriter(const NpyRowWriter&) = delete;
  NpyRowWriter& operator=(const NpyRowWriter&) = delete;
  /// Whether rows of an earlier writer were kept. False after resume = true when there was no
  /// partial file: all rows are then still to be written.
  bool resumed() const { return resumed_; }
  /// Rows first_row .. first_row + B - 1: (B, *event), any float dtype, stored as float32. Throws
  /// ShapeError, DataError.
  void write(int64_t first_row, const Tensor& rows);
  /// Flushes to disk what was written so far (before a checkpoint that counts on it).
  void flush();
  /// Flushes and renames into place. Rows never written are 0. Nothing can be written afterwards.
  void finish();

 private:
  void start(int file, const std::string& header, int64_t num_bytes, bool resume);
  void check_open() const;
  std::string partial_path() const;

  std::string path_;
  int64_t num_rows_;
  std::vector<int64_t> event_shape_;
  int64_t header_size_ = 0;
  int64_t row_bytes_ = 0;
  bool resumed_ = false;
  int file_ = -1;
};

/// Reads a weights file: config, schedule (exact doubles) and provenance from the safetensors
/// metadata (keys "motet.*"), tensors checked against expected_tensors(config): none missing, none
/// extra, float32, finite. Throws DataError naming the key, what was found and what is expected;
/// pickles (.pt, .pth, .ckpt) are refused unread.
Weights load_weights(const std::string& path);
/// Writes what load_weights reads, atomically, after the same checks. Throws DataError.
void save_weights(const std::string& path, const Weights& weights);

/// Writes `bytes` to a temporary name beside `path`, syncs, renames. DataError when the folder is
/// not writable.
void write_file_atomic(const std::string& path, std::string_view bytes);
/// Whole file, at most `max_bytes`. DataError when missing or larger.
std::string read_file(const std::string& path, int64_t max_bytes = int64_t{1} << 30);

}  // namespace motet
