// Runs the built `motet` and keeps what it printed.
#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <string>
#include <vector>

#include "support/folder.hpp"

namespace motet::test {

struct Output {
  int code = -1;  ///< exit code, or 128 + signal
  std::string out;
  std::string err;
};

using Environment = std::map<std::string, std::string>;

/// Starts `motet ARGS` in `folder`; its stdout and stderr go to the files .out and .err there.
inline pid_t start_motet(const Folder& folder, const std::vector<std::string>& args,
                         const Environment& environment = {}) {
  const std::string binary = MOTET_BINARY_DIR "/bin/motet";
  std::vector<char*> argv = {const_cast<char*>(binary.c_str())};
  for (const std::string& arg : args) {
    argv.push_back(const_cast<char*>(arg.c_str()));
  }
  argv.push_back(nullptr);
  const std::string out = folder / ".out";
  const std::string err = folder / ".err";
  const pid_t child = fork();
  if (child == 0) {
    if (chdir(folder.path().c_str()) == 0) {
      setenv("OMP_NUM_THREADS", "1", 1);
      for (const auto& [name, value] : environment) {
        setenv(name.c_str(), value.c_str(), 1);
      }
      dup2(open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
      dup2(open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
      execv(binary.c_str(), argv.data());
    }
    _exit(127);
  }
  return child;
}

inline Output finish_motet(const Folder& folder, pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return {code, read_text(folder / ".out"), read_text(folder / ".err")};
}

inline Output run_motet(const Folder& folder, const std::vector<std::string>& args,
                        const Environment& environment = {}) {
  return finish_motet(folder, start_motet(folder, args, environment));
}

}  // namespace motet::test
