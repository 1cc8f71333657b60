// What the benches share: options of the command line, a clock, and tasks that are timed in turn.
//
// Machines differ and are shared, so nothing absolute is compared: every repetition times all tasks one
// after the other, and the medians over repetitions of the ratios within each are what counts.
#pragma once

#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace bench {

using Options = std::map<std::string, std::string>;

/// `defaults` with what the command line says; ends the program at an option that is not among them.
inline Options parse(const std::string& program, Options defaults, int argc, char** argv) {
  std::string allowed;
  for (const auto& [name, value] : defaults) {
    allowed += " " + name;
  }
  for (int i = 1; i < argc; i += 2) {
    if (!defaults.contains(argv[i]) || i + 1 == argc) {
      std::cerr << program << ": " << argv[i] << ": unknown or without a value; allowed:" << allowed
                << "\n";
      std::exit(2);
    }
    defaults[argv[i]] = argv[i + 1];
  }
  return defaults;
}

/// Seconds. The CPU clock sums over threads, so it is for --threads 1; on a machine that others use
/// too it is the steadier of the two.
inline double now(bool cpu_clock) {
  if (cpu_clock) {
    return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now().time_since_epoch();
  return seconds.count();
}

inline double seconds_of(const std::function<void()>& work, bool cpu_clock) {
  const double start = now(cpu_clock);
  work();
  return now(cpu_clock) - start;
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Task {
  std::string name;
  double flops = 0.0;
  std::function<void()> work = {};
  std::vector<double> seconds = {};
};

/// Every task once a repetition; two more before them warm up.
inline void time_all(std::vector<Task>& tasks, int repeats, bool cpu_clock) {
  for (int i = -2; i < repeats; ++i) {
    for (Task& task : tasks) {
      const double seconds = seconds_of(task.work, cpu_clock);
      if (i >= 0) {
        task.seconds.push_back(seconds);
      }
    }
  }
}

/// Median over repetitions of (rate of `task` / rate of `base`).
inline double ratio(const Task& task, const Task& base) {
  std::vector<double> ratios;
  for (size_t i = 0; i < task.seconds.size(); ++i) {
    ratios.push_back(task.flops / task.seconds[i] / (base.flops / base.seconds[i]));
  }
  return median(ratios);
}

/// The product of two size x size matrices.
inline Task gemm(const std::string& name, at::ScalarType dtype, int64_t size) {
  const at::Tensor a = at::randn({size, size}).to(dtype);
  const at::Tensor b = at::randn({size, size}).to(dtype);
  return {name, 2.0 * static_cast<double>(size * size * size), [a, b] { at::mm(a, b); }};
}

}  // namespace bench
