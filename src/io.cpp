// Reading and writing whole files.
//
// Output is atomic: bytes go to a temporary file in the same folder (rename(2) is atomic only
// within one file system), are flushed, and then take the final name, so that a reader sees the old
// file or the new one and never a part. The folder is flushed too: without that the rename itself
// may be lost in a power cut.
#include "motet/io.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "io_detail.hpp"
#include "motet/error.hpp"

namespace motet {
namespace detail {
namespace {

std::string system_text(int error) { return std::generic_category().message(error); }

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

// O_NONBLOCK: opening a named pipe must not wait for a writer.
int open_for_reading(const std::string& path, const std::string& prefix) {
  const int number = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (number < 0) {
    throw DataError(prefix +
                    (errno == ENOENT ? "no such file" : "cannot be opened: " + system_text(errno)));
  }
  return number;
}

constexpr std::string_view kTemporary = ".tmp-";

// Locks an open file, or says that another process has. File systems without locks never say so.
bool is_taken(int number) {
  return ::flock(number, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

// Locks a file made a moment ago. False when remove_leftovers() of another process was faster and
// took it for a leftover. File systems without locks have no leftovers removed either.
bool keep_from_removal(int number) {
  struct stat info {};
  return !is_taken(number) && (::fstat(number, &info) != 0 || info.st_nlink > 0);
}

std::string checked_output_path(std::string path) {
  check_output_path(path);
  return path;
}

// " (process 1234)"; "" when the holder has not written its number yet.
std::string holder_text(const std::string& path) {
  std::ifstream file(path);
  int64_t process = 0;
  return file >> process ? " (process " + std::to_string(process) + ")" : "";
}

int open_or_refuse(const std::string& path, const std::string& in_use, const std::string& advice) {
  const std::optional<int> number = open_locked(path, path);
  if (!number) {
    throw DataError(in_use + holder_text(path) + "; " + advice);
  }
  return *number;
}

// Not mkstemp: it makes files that only the owner may read, whatever the umask says.
int open_temporary(const std::string& path, std::string& temporary) {
  static std::atomic<uint64_t> counter{0};
  for (int attempt = 0; attempt < 100; ++attempt) {
    temporary = path + std::string(kTemporary) + std::to_string(::getpid()) + "-" +
                std::to_string(counter++);
    const int number =
        ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (number < 0 && errno != EEXIST) {
      break;
    }
    if (number >= 0 && keep_from_removal(number)) {
      return number;
    }
    if (number >= 0) {
      ::close(number);
    }
  }
  throw_write_error(path, errno);
}

}  // namespace

std::optional<size_t> find_invalid_utf8(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  for (size_t i = 0; i < text.size();) {
    const unsigned char lead = byte(i);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    // Overlong forms start c0, c1, e0 80-9f, f0 80-8f; surrogates ed a0-bf; beyond U+10FFFF f4 90-.
    if (lead < 0xc2 || lead > 0xf4 || i + length > text.size()) {
      return i;
    }
    const unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    const unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (byte(i + 1) < low || byte(i + 1) > high) {
      return i;
    }
    for (size_t k = 2; k < length; ++k) {
      if ((byte(i + k) & 0xc0) != 0x80) {
        return i;
      }
    }
    i += length;
  }
  return std::nullopt;
}

std::optional<int64_t> checked_num_bytes(c10::IntArrayRef shape, int64_t item_size) {
  int64_t bound = item_size;
  bool is_empty = false;
  for (const int64_t dim : shape) {
    is_empty = is_empty || dim == 0;
    if (dim < 0 || __builtin_mul_overflow(bound, std::max<int64_t>(dim, 1), &bound)) {
      return std::nullopt;
    }
  }
  return is_empty ? 0 : bound;
}

std::string foreign_kind(std::string_view bytes) {
  if (bytes.starts_with("PK\x03\x04")) {
    return "a zip archive (as torch.save and numpy.savez make)";
  }
  if (bytes.size() >= 2 && bytes[0] == '\x80' && bytes[1] >= 2 && bytes[1] <= 5) {
    return "a pickle (as old versions of torch.save make)";
  }
  return "";
}

Descriptor::~Descriptor() { close(); }

void Descriptor::close() {
  if (number_ >= 0) {
    ::close(number_);
    number_ = -1;
  }
}

int Descriptor::release() { return std::exchange(number_, -1); }

InputFile::InputFile(const std::string& path, const std::string& where)
    : prefix_(where + ": " + path + ": "), descriptor_(open_for_reading(path, prefix_)) {
  struct stat info {};
  if (::fstat(descriptor_.get(), &info) != 0) {
    throw DataError(prefix_ + "cannot be read: " + system_text(errno));
  }
  if (S_ISDIR(info.st_mode)) {
    throw DataError(prefix_ + "is a folder, must be a file");
  }
  if (!S_ISREG(info.st_mode)) {
    throw DataError(prefix_ + "is a device or pipe, must be a regular file");
  }
  size_ = info.st_size;
}

void InputFile::read(void* data, int64_t size, int64_t offset) const {
  auto* target = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t got = ::pread(descriptor_.get(), target, static_cast<size_t>(size), offset);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      throw DataError(prefix_ + "cannot be read: " + system_text(errno));
    }
    if (got == 0) {
      throw DataError(prefix_ +
                      "became shorter while it was read; try again when its writer is done");
    }
    target += got;
    size -= got;
    offset += got;
  }
}

MappedFile::MappedFile(const std::string& path, const std::string& where) {
  const InputFile file(path, where);
  size_ = static_cast<size_t>(file.size());
  if (size_ == 0) {  // mmap refuses length 0
    return;
  }
  void* address = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
                         file.descriptor(), 0);
  if (address == MAP_FAILED) {
    throw DataError(where + ": " + path + ": cannot be mapped into memory: " + system_text(errno));
  }
  data_ = static_cast<char*>(address);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) {
    ::munmap(data_, size_);
  }
}

void throw_write_error(const std::string& path, int error) {
  throw DataError("write: " + path + ": cannot be written: " + system_text(error));
}

void check_output_path(const std::string& path) {
  if (path.empty()) {
    throw DataError("write: the name of the output file is empty");
  }
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) {
      throw DataError("write: " + path + ": is a folder, must be a file name");
    }
    if (!S_ISREG(info.st_mode)) {
      throw DataError("write: " + path + ": is a device or pipe, must be a regular file");
    }
  }
  const std::string folder = folder_of(path);
  if (::stat(folder.c_str(), &info) != 0 && errno == ENOENT) {
    throw DataError("write: " + path + ": folder " + folder + " does not exist; create it first");
  }
}

bool path_exists(const std::string& path) {
  std::error_code error;
  const bool exists = std::filesystem::exists(path, error);
  if (error) {
    throw DataError("read: " + path + ": cannot be opened: " + error.message());
  }
  return exists;
}

int write_at(int descriptor, const void* data, size_t size, int64_t offset) {
  const auto* source = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t done = ::pwrite(descriptor, source, size, offset);
    if (done < 0 && errno == EINTR) {
      continue;
    }
    if (done < 0) {
      return errno;
    }
    source += done;
    size -= static_cast<size_t>(done);
    offset += done;
  }
  return 0;
}

void rename_durably(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) {
    throw_write_error(to, errno);
  }
  const Descriptor folder(::open(folder_of(to).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() >= 0) {
    ::fsync(folder.get());  // some file systems cannot; the rename is done either way
  }
}

// Between opening and locking, the holder may finish and rename or remove its file: what is locked
// then is no longer the file of that name.
std::optional<int> open_locked(const std::string& path, const std::string& shown) {
  while (true) {
    Descriptor opened(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    if (opened.get() < 0) {
      throw_write_error(shown, errno);
    }
    if (is_taken(opened.get())) {
      return std::nullopt;
    }
    struct stat locked {};
    struct stat named {};
    if (::fstat(opened.get(), &locked) != 0) {
      throw_write_error(shown, errno);
    }
    if (::stat(path.c_str(), &named) == 0 && locked.st_dev == named.st_dev &&
        locked.st_ino == named.st_ino) {
      return opened.release();
    }
  }
}

LockFile::LockFile(std::string path, const std::string& in_use, const std::string& advice)
    : path_(checked_output_path(std::move(path))),
      descriptor_(open_or_refuse(path_, in_use, advice)) {
  const std::string process = std::to_string(::getpid()) + "\n";
  const int error = ::ftruncate(descriptor_.get(), 0) != 0
                        ? errno
                        : write_at(descriptor_.get(), process.data(), process.size(), 0);
  if (error != 0) {
    throw_write_error(path_, error);
  }
}

// Removed while it is still locked: who opened it meanwhile sees that it lost its name.
LockFile::~LockFile() { ::unlink(path_.c_str()); }

void remove_leftovers(const std::string& path) {
  const std::string start =
      std::filesystem::path(path).filename().string() + std::string(kTemporary);
  std::error_code error;
  std::filesystem::directory_iterator entry(folder_of(path), error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const bool is_ours = name.starts_with(start) &&
                         name.find_first_not_of("0123456789-", start.size()) == std::string::npos;
    if (!is_ours) {
      continue;
    }
    const Descriptor file(
        ::open(entry->path().c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (file.get() >= 0 && ::flock(file.get(), LOCK_EX | LOCK_NB) == 0) {
      ::unlink(entry->path().c_str());
    }
  }
}

AtomicFile::AtomicFile(std::string path)
    : path_(checked_output_path(std::move(path))), descriptor_(open_temporary(path_, temporary_)) {
  remove_leftovers(path_);
}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) {
    ::unlink(temporary_.c_str());
  }
}

void AtomicFile::append(const void* data, size_t size) {
  if (const int error = write_at(descriptor_.get(), data, size, size_); error != 0) {
    throw_write_error(path_, error);
  }
  size_ += static_cast<int64_t>(size);
}

void AtomicFile::commit() {
  if (::fsync(descriptor_.get()) != 0) {
    throw_write_error(path_, errno);
  }
  descriptor_.close();
  rename_durably(temporary_, path_);
  temporary_.clear();
}

}  // namespace detail

void write_file_atomic(const std::string& path, std::string_view bytes) {
  detail::AtomicFile file(path);
  file.append(bytes);
  file.commit();
}

std::string read_file(const std::string& path, int64_t max_bytes) {
  const detail::InputFile file(path, "read");
  if (file.size() > max_bytes) {
    throw DataError("read: " + path + ": file of " + std::to_string(file.size()) +
                    " bytes, must have at most " + std::to_string(max_bytes));
  }
  std::string bytes(static_cast<size_t>(file.size()), '\0');
  file.read(bytes.data(), file.size(), 0);
  return bytes;
}

}  // namespace motet
