// The subcommands of `motet`, one file each: argv -> config -> library call. No mathematics.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "motet/run.hpp"

namespace motet::cli {

/// Each adds its subcommand to `app`. The subcommand runs while app.parse() does and throws what
/// the library throws; main turns that into a message and an exit code.
void add_sample(CLI::App& app);
void add_tapestry(CLI::App& app);
void add_train(CLI::App& app);
void add_scenes(CLI::App& app);
void add_tune(CLI::App& app);
void add_eval(CLI::App& app);
void add_info(CLI::App& app);
void add_cite(CLI::App& app);
void add_demo(CLI::App& app);
void add_reproduce(CLI::App& app);
void add_diagnose(CLI::App& app);

/// --set and --quiet, of every command that runs a config.
void add_config_options(CLI::App& command, std::vector<std::string>& overrides, bool& quiet);

/// The config argument and --target, of every command that samples: one of the two, or both.
struct SampleOptions {
  std::string config;
  std::vector<std::string> target;  ///< at most one expression
  std::vector<std::string> overrides;
};
void add_sample_config(CLI::App& command, SampleOptions& options);
/// The config, with `target` in place of its own; without a config, all else default. Throws
/// CLI::RequiredError when neither is given, and as load_config().
SampleConfig load_sample_config(const SampleOptions& options);

/// RunHooks of a command: progress on stderr (silent when stderr is not a terminal, or `quiet`),
/// and a stop at the first Ctrl-C or SIGTERM; the second ends the process at once.
RunHooks terminal_hooks(bool quiet);
/// One line on stderr when the networks of a run on `device` cannot use the arithmetic asked for.
void warn_of_compute(Compute asked, const std::string& device);
/// Ends the progress line, so that what follows starts on its own.
void end_progress();

/// `text` for a terminal: control bytes but newlines as \xNN. Files and arguments may hold any.
std::string printable(const std::string& text);
/// "0.0123", "-": a number for a table on the terminal, `digits` after the point.
std::string fixed(double value, int digits);

}  // namespace motet::cli
