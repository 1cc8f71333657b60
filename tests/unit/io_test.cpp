// Whole files: written all or not at all, under the final name or not at all.
#include "motet/io.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "io_detail.hpp"
#include "unit/io_fixture.hpp"

namespace motet {
namespace {

namespace fs = std::filesystem;

using FileTest = IoTest;

TEST_F(FileTest, AtomicWriteReplacesTheFileAndLeavesNothingElse) {
  write_file_atomic(path("a"), "first");
  write_file_atomic(path("a"), std::string_view("sec\0nd", 6));
  EXPECT_EQ(read_file(path("a")), std::string("sec\0nd", 6));
  EXPECT_EQ(names(), std::set<std::string>{"a"});
}

TEST_F(FileTest, AtomicWriteRemovesWhatAKilledOneLeftAndNothingElse) {
  file("a.tmp-17-3", "half of a fi");
  file("a.tmp-notes", "the user's");
  file("b.tmp-17-3", "of another file");
  const int writer = ::open(file("a.tmp-18-0", "in progress").c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_EQ(::flock(writer, LOCK_EX | LOCK_NB), 0);
  write_file_atomic(path("a"), "x");
  ::close(writer);
  EXPECT_EQ(names(), (std::set<std::string>{"a", "a.tmp-18-0", "a.tmp-notes", "b.tmp-17-3"}));
}

TEST_F(FileTest, LockFileKeepsOthersOutWhileItLives) {
  const auto lock = [this] {
    const detail::LockFile held(path("lock"), "folder is in use", "wait");
    EXPECT_EQ(read_file(path("lock")), std::to_string(::getpid()) + "\n");
    EXPECT_THROW_MSG(detail::LockFile(path("lock"), "folder is in use", "wait"), DataError,
                     "folder is in use (process " + std::to_string(::getpid()) + "); wait");
  };
  lock();
  EXPECT_TRUE(names().empty());
  file("lock", "1234567 left by a kill");
  lock();
  EXPECT_TRUE(names().empty());
}

// As between the opening and the writing of a holder.
TEST_F(FileTest, LockFileWithoutItsNumberKeepsOthersOutToo) {
  const int holder = ::open(file("lock", "").c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(::flock(holder, LOCK_EX | LOCK_NB), 0);
  EXPECT_THROW_MSG(detail::LockFile(path("lock"), "folder is in use", "wait"), DataError,
                   "folder is in use; wait");
  ::close(holder);
  EXPECT_EQ(names(), std::set<std::string>{"lock"});
}

TEST_F(FileTest, AtomicWriteHonoursTheUmask) {
  const mode_t old = ::umask(022);
  write_file_atomic(path("a"), "x");
  ::umask(old);
  EXPECT_EQ(fs::status(path("a")).permissions(), fs::perms{0644});
}

TEST_F(FileTest, WritingRefusesMissingFoldersFoldersAndDevices) {
  EXPECT_THROW_MSG(
      write_file_atomic(path("none/a"), "x"), DataError,
      "write: " + path("none/a") + ": folder " + path("none") + " does not exist; create it first");
  EXPECT_THROW_MSG(write_file_atomic(folder_.path(), "x"), DataError,
                   "write: " + folder_.path() + ": is a folder, must be a file name");
  EXPECT_THROW_MSG(write_file_atomic("/dev/null", "x"), DataError,
                   "write: /dev/null: is a device or pipe, must be a regular file");
  file("plain", "x");
  EXPECT_THROW_MSG(write_file_atomic(path("plain/a"), "x"), DataError,
                   "write: " + path("plain/a") + ": cannot be written: Not a directory");
  EXPECT_THROW_MSG(write_file_atomic("", "x"), DataError,
                   "write: the name of the output file is empty");
}

// A limit on file sizes stands in for a full disk: both make write(2) fail part of the way.
class SizeLimit {
 public:
  explicit SizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    old_handler_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~SizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, old_handler_);
  }
  SizeLimit(const SizeLimit&) = delete;
  SizeLimit& operator=(const SizeLimit&) = delete;

 private:
  rlimit old_{};
  void (*old_handler_)(int) = nullptr;
};

TEST_F(FileTest, FailedWriteKeepsTheOldFileAndRemovesTheTemporaryOne) {
  write_file_atomic(path("a"), "old");
  {
    const SizeLimit limit(1000);
    EXPECT_THROW_MSG(write_file_atomic(path("a"), std::string(5000, 'x')), DataError,
                     "write: " + path("a") + ": cannot be written: File too large");
  }
  EXPECT_EQ(read_file(path("a")), "old");
  EXPECT_EQ(names(), std::set<std::string>{"a"});
}

TEST_F(FileTest, ReadingRefusesMissingLargeAndIrregularFiles) {
  EXPECT_THROW_MSG(read_file(path("a")), DataError, "read: " + path("a") + ": no such file");
  EXPECT_THROW_MSG(read_file(folder_.path()), DataError,
                   "read: " + folder_.path() + ": is a folder, must be a file");
  EXPECT_THROW_MSG(read_file("/dev/zero"), DataError,
                   "read: /dev/zero: is a device or pipe, must be a regular file");
  ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_THROW_MSG(read_file(path("pipe")), DataError,
                   "read: " + path("pipe") + ": is a device or pipe, must be a regular file");
  EXPECT_THROW_MSG(read_file(file("b", "12345"), 4), DataError,
                   "read: " + path("b") + ": file of 5 bytes, must have at most 4");
  EXPECT_EQ(read_file(path("b"), 5), "12345");
}

}  // namespace
}  // namespace motet
