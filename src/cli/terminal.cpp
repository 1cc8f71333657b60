// The options that commands share, the progress line and the two signals.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <iomanip>
#include <iostream>
#include <sstream>

#include "cli/command.hpp"
#include "motet/expression.hpp"
#include "settings.hpp"

namespace motet::cli {
namespace {

std::atomic<bool> stop_requested{false};
bool line_is_open = false;

extern "C" void on_signal(int signal) {
  stop_requested.store(true);
  std::signal(signal, SIG_DFL);  // the second one ends the process
}

// For tests of resuming: MOTET_TEST_SIGNAL="9:37" sends this process signal 9 after its 37th step,
// so that a kill falls on the same step on every machine.
std::function<bool()> stop_asked() {
  const char* text = std::getenv("MOTET_TEST_SIGNAL");
  int signal = 0;
  int64_t at_step = 0;
  if (text != nullptr) {
    std::istringstream stream(text);
    char colon = 0;
    stream >> signal >> colon >> at_step;
  }
  return [signal, at_step, step = int64_t{0}]() mutable {
    if (++step == at_step) {
      std::raise(signal);
    }
    return stop_requested.load();
  };
}

std::string clock_text(double seconds) {
  if (!std::isfinite(seconds)) {
    return "?";
  }
  const auto whole = static_cast<int64_t>(std::lround(seconds));
  std::ostringstream out;
  if (whole >= 3600) {
    out << whole / 3600 << ":" << std::setw(2) << std::setfill('0');
  }
  out << (whole / 60) % 60 << ":" << std::setw(2) << std::setfill('0') << whole % 60;
  return out.str();
}

void print(const Progress& progress) {
  std::ostringstream line;
  line << "\r\033[K" << progress.phase << "  " << std::setw(3)
       << static_cast<int>(100.0 * progress.fraction) << " %";
  if (progress.level >= 0) {
    line << "  level " << progress.level;
  }
  // By what is known, not by the phase: reproduce gives its phases names of its own.
  if (std::isfinite(progress.loss)) {
    line << "  loss " << fixed(progress.loss, 4);
  }
  if (std::isfinite(progress.acceptance)) {
    line << "  acceptance " << fixed(progress.acceptance, 3);
  }
  line << "  " << fixed(progress.steps_per_second, 1) << " steps/s  "
       << clock_text(progress.seconds_left) << " left";
  std::cerr << line.str() << std::flush;
  line_is_open = true;
}

}  // namespace

void add_config_options(CLI::App& command, std::vector<std::string>& overrides, bool& quiet) {
  command.add_option("--set", overrides, "override a key of the config, value as TOML")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command.add_flag("--quiet", quiet, "no progress on stderr");
}

void add_sample_config(CLI::App& command, SampleOptions& options) {
  command.add_option("config", options.config, "TOML file (docs/config.md)")
      ->type_name("CONFIG.toml");
  command
      .add_option("--target", options.target,
                  "what to sample, as \"ring * bar^0.5\" (docs/expressions.md); needs no config")
      ->type_name("EXPR")
      ->expected(1);
}

SampleConfig load_sample_config(const SampleOptions& options) {
  if (options.config.empty() && options.target.empty()) {
    throw CLI::RequiredError("config");
  }
  std::vector<std::string> overrides = options.overrides;
  for (const std::string& text : options.target) {
    parse_expression(text);  // before TOML could take quotes at its ends for its own
    overrides.push_back("target=" + detail::to_toml(text));
  }
  return options.config.empty() ? parse_config("", "--target", overrides)
                                : load_config(options.config, overrides);
}

RunHooks terminal_hooks(bool quiet) {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  RunHooks hooks;
  hooks.should_stop = stop_asked();
  if (!quiet && isatty(STDERR_FILENO) == 1) {
    constexpr double kSecondsBetween = 0.2;
    hooks.progress = [last = -kSecondsBetween](const Progress& progress) mutable {
      if (progress.seconds - last >= kSecondsBetween || progress.fraction == 1.0 ||
          progress.seconds < last) {
        last = progress.seconds;
        print(progress);
      }
    };
  }
  return hooks;
}

void warn_of_compute(Compute asked, const std::string& device) {
  const Compute used = compute_used(asked, device);
  if (used != asked) {
    std::cerr << "motet: warning: compute = \"" << to_string(asked)
              << "\" needs a CPU with AMX tiles, which this one lacks; the networks run in "
              << to_string(used) << "\n";
  }
}

void end_progress() {
  if (line_is_open) {
    std::cerr << "\r\033[K" << std::flush;
    line_is_open = false;
  }
}

std::string printable(const std::string& text) {
  static const char* const kDigits = "0123456789abcdef";
  const auto byte = [&text](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    // U+0080 to U+009F are control characters too: in UTF-8 c2 80 to c2 9f.
    const bool is_pair = byte(i) == 0xc2 && byte(i + 1) >= 0x80 && byte(i + 1) < 0xa0;
    const bool is_control = (byte(i) < 0x20 && text[i] != '\n') || byte(i) == 0x7f;
    if (!is_pair && !is_control) {
      out += text[i];
      continue;
    }
    for (const size_t end = i + (is_pair ? 1 : 0);; ++i) {
      out += {'\\', 'x', kDigits[byte(i) >> 4], kDigits[byte(i) & 15]};
      if (i == end) {
        break;
      }
    }
  }
  return out;
}

std::string fixed(double value, int digits) {
  if (!std::isfinite(value)) {
    return "-";
  }
  std::ostringstream out;
  out << std::fixed << std::setprecision(digits) << value;
  return out.str();
}

}  // namespace motet::cli
