// Errors that motet throws, and the exit code of each. Text: where, what was given, what is
// allowed, what to do. docs/errors.md lists the messages.
#pragma once

#include <exception>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

namespace motet {

/// A setting that cannot be right, found before any work. Exit code 2.
class ConfigError : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// Tensors whose shapes or dtypes do not fit together, found before any work. Exit code 2.
class ShapeError : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// A file that is missing, truncated, hostile or of another version. Exit code 3.
class DataError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A computation that broke down as a whole (every chain invalid, a loss that is not finite). Exit
/// code 4.
class NumericalError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Stopped on request: by Ctrl-C or SIGTERM, after the checkpoint was written if the run has one,
/// or by an observer that returned false. Exit code 130.
class Interrupted : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Exit code of the command line for `error`: 2, 3, 4 or 130 as above, 70 (a bug) for all others.
int exit_code(const std::exception& error);

/// The entry of `known` nearest to `given` in edit distance, or "" when none is near (more than a
/// third of the letters differ).
std::string nearest(std::string_view given, std::span<const std::string> known);

}  // namespace motet
