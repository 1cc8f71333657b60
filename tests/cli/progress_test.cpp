// The progress line: on a terminal, and there only.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "cli/process.hpp"

namespace motet {
namespace {

using test::Folder;

const std::string kSample = R"(num_samples = 20
sampler = "hmc-4-curve"
[model.ring]
law = "ring"
[schedule]
num_levels = 4
)";

// What `motet ARGS` writes to its stderr when that is a terminal; "none" where there are none.
std::string stderr_on_terminal(const Folder& folder, std::vector<std::string> args) {
  const int controller = posix_openpt(O_RDWR | O_NOCTTY);
  if (controller < 0 || grantpt(controller) != 0 || unlockpt(controller) != 0) {
    return "none";
  }
  const int terminal = open(ptsname(controller), O_RDWR | O_NOCTTY);
  const std::string binary = MOTET_BINARY_DIR "/bin/motet";
  args.insert(args.begin(), binary);
  std::vector<char*> argv;
  for (std::string& arg : args) {
    argv.push_back(arg.data());
  }
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    if (chdir(folder.path().c_str()) == 0) {
      setenv("OMP_NUM_THREADS", "1", 1);
      dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
      dup2(terminal, STDERR_FILENO);
      close(controller);
      execv(binary.c_str(), argv.data());
    }
    _exit(127);
  }
  close(terminal);
  std::string text;
  char buffer[4096];
  // The read fails when the last process with the terminal has ended.
  for (ssize_t size = 0; (size = read(controller, buffer, sizeof(buffer))) > 0;) {
    text.append(buffer, static_cast<size_t>(size));
  }
  close(controller);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << text;
  return text;
}

TEST(ProgressLine, IsShownOnATerminalAndNotWhenQuiet) {
  const Folder folder;
  test::write_text(folder / "s.toml", kSample);
  const std::string shown = stderr_on_terminal(folder, {"sample", "s.toml"});
  if (shown == "none") {
    GTEST_SKIP() << "no pseudo-terminals here";
  }
  EXPECT_EQ(shown.rfind("\r\033[Ksample  ", 0), 0U) << shown;
  EXPECT_NE(shown.find("sample  100 %  level 0  acceptance "), std::string::npos) << shown;
  EXPECT_NE(shown.find(" steps/s  0:00 left"), std::string::npos) << shown;
  EXPECT_EQ(shown.substr(shown.size() - 4), "\r\033[K") << shown;  // the line is wiped at the end
  EXPECT_EQ(stderr_on_terminal(folder, {"sample", "s.toml", "--quiet"}), "");
}

TEST(ProgressLine, IsNotWrittenToFilesAndPipes) {
  const Folder folder;
  test::write_text(folder / "s.toml", kSample);
  EXPECT_EQ(test::run_motet(folder, {"sample", "s.toml"}).err, "");
}

}  // namespace
}  // namespace motet
