// Private to the readers and writers of files: descriptors, maps, atomic files.
#pragma once

#include <c10/util/ArrayRef.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "error_shape.hpp"

namespace motet::detail {

/// Shapes with more dimensions than this are refused on reading and writing.
inline constexpr int64_t kMaxDims = 8;

/// Offset of the first byte that is not UTF-8; empty when all are.
std::optional<size_t> find_invalid_utf8(std::string_view text);
/// Bytes of a contiguous tensor, or empty when the count overflows int64. Dimensions of size 0
/// count as 1 for the overflow, because strides would overflow just the same.
std::optional<int64_t> checked_num_bytes(c10::IntArrayRef shape, int64_t item_size);
/// What the first bytes say about a file that must not be loaded: "a zip archive", "a pickle"; ""
/// for all others.
std::string foreign_kind(std::string_view bytes);

/// An open descriptor, closed at the end of its life.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return number_; }
  /// Closes now; the number is -1 afterwards.
  void close();
  /// Gives the number away: the caller closes it.
  int release();

 private:
  int number_;
};

/// A regular file opened for reading. Every DataError starts "`where`: `path`: ".
class InputFile {
 public:
  InputFile(const std::string& path, const std::string& where);
  int64_t size() const { return size_; }
  int descriptor() const { return descriptor_.get(); }
  /// Fills `size` bytes at `data` from `offset` on; DataError when the file is shorter.
  void read(void* data, int64_t size, int64_t offset) const;

 private:
  std::string prefix_;
  Descriptor descriptor_;
  int64_t size_ = 0;
};

/// A whole file mapped into memory, private: writing into it changes no file. Like every map it
/// faults if another program truncates the file in place meanwhile; motet itself only replaces
/// files by renaming, which leaves maps alone.
class MappedFile {
 public:
  MappedFile(const std::string& path, const std::string& where);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  char* data() const { return data_; }
  std::string_view bytes() const { return {data_, size_}; }

 private:
  char* data_ = nullptr;
  size_t size_ = 0;
};

/// Opens `path` for reading and writing, makes it when it is missing, and locks it against other
/// processes; the kernel drops the lock with the descriptor, at a kill too. Empty while another
/// process holds it. DataError, naming `shown`, for all else that the system refuses; file systems
/// without locks give the descriptor without one.
std::optional<int> open_locked(const std::string& path, const std::string& shown);

/// A lock file, held for the life of this object and removed at its end. What a kill leaves is
/// unlocked, and taken over by the next holder.
class LockFile {
 public:
  /// Throws DataError "`in_use` (process NUMBER); `advice`" while another process holds it.
  LockFile(std::string path, const std::string& in_use, const std::string& advice);
  ~LockFile();
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

 private:
  std::string path_;
  Descriptor descriptor_;
};

/// Removes temporary files of `path` that a killed process left. Those of a process that still
/// writes stay: it holds a lock on them.
void remove_leftovers(const std::string& path);

/// A new file under a temporary name beside `path` that takes the name `path` on commit(). Without
/// commit() the temporary file is removed; what a kill leaves goes with the next file of that name.
/// DataError for all that the system refuses.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void append(const void* data, size_t size);
  void append(std::string_view bytes) { append(bytes.data(), bytes.size()); }
  /// Flushes to disk, renames, flushes the folder.
  void commit();

 private:
  std::string path_;
  std::string temporary_;
  Descriptor descriptor_;
  int64_t size_ = 0;
};

/// Throws DataError when `path` cannot be the name of an output: its folder is missing, or it is a
/// folder or a device (renaming onto /dev/null would replace the device).
void check_output_path(const std::string& path);
/// Whether something has the name `path`. Throws DataError when the system does not tell: a name too
/// long, a folder that may not be entered.
bool path_exists(const std::string& path);
/// Writes all bytes at `offset`; returns 0 or the system's error number.
int write_at(int descriptor, const void* data, size_t size, int64_t offset);
/// Throws DataError "write: `path`: cannot be written: ..." for a system error number.
[[noreturn]] void throw_write_error(const std::string& path, int error);
/// Renames and flushes the folder, so that the new name survives a power cut.
void rename_durably(const std::string& from, const std::string& to);

}  // namespace motet::detail
