// How fast a network pass is, as a share of what a large matrix product reaches here and now.
//
// usage: bench_forward [--batch N] [--repeats N] [--threads N] [--clock wall|cpu] [--date D]
// [--commit C] [--device D]
//
// Machines differ and are shared, so nothing absolute is compared: every repetition times the
// 2048^3 products and all passes one after the other, and the medians over repetitions of the
// ratios within each are what counts. Prints one JSON object.
#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "motet/model.hpp"
#include "nets/engine.hpp"
#include "nets/residual_mlp.hpp"

namespace {

using motet::Compute;
using motet::NetworkConfig;
using motet::Parameterisation;
using Options = std::map<std::string, std::string>;

constexpr int64_t kGemmSize = 2048;

motet::Weights random_weights(Parameterisation parameterisation) {
  motet::Weights weights;
  weights.config.parameterisation = parameterisation;
  at::manual_seed(1);
  for (const auto& [name, shape] : motet::expected_tensors(weights.config)) {
    const double fan_in = static_cast<double>(shape.back());
    weights.tensors[name] = at::randn(shape) / std::sqrt(fan_in);
  }
  return weights;
}

// Floating-point operations of one row's matrix products; the level term is one row for all.
double flops_per_row(const NetworkConfig& config) {
  const int64_t inner = config.widen * config.width;
  const int64_t block = inner * (2 * config.width + inner);
  return 2.0 * static_cast<double>(2 * config.event_dim * config.width + config.num_blocks * block);
}

struct Task {
  std::string name;
  double flops;
  std::function<void()> work;
  std::vector<double> seconds;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void add_gemm(std::vector<Task>& tasks, const std::string& name, at::ScalarType dtype) {
  const at::Tensor a = at::randn({kGemmSize, kGemmSize}).to(dtype);
  const at::Tensor b = at::randn({kGemmSize, kGemmSize}).to(dtype);
  const double flops = 2.0 * static_cast<double>(kGemmSize * kGemmSize * kGemmSize);
  tasks.push_back({name, flops, [a, b] { at::mm(a, b); }, {}});
}

void add_model(std::vector<Task>& tasks, const std::string& name, Parameterisation parameterisation,
               Compute compute, const at::Tensor& x) {
  const motet::Weights weights = random_weights(parameterisation);
  const auto level = weights.schedule.level(10);
  const auto model = motet::network_model(weights, name, compute);
  // An energy pass counts as one forward and one backward pass in x.
  const double passes = parameterisation == Parameterisation::score ? 1.0 : 2.0;
  tasks.push_back({name,
                   passes * flops_per_row(weights.config) * static_cast<double>(x.size(0)),
                   [=] { model->evaluate(x, level); },
                   {}});
}

void add_eager(std::vector<Task>& tasks, const std::string& name, at::ScalarType dtype,
               const at::Tensor& x) {
  motet::Weights weights = random_weights(Parameterisation::score);
  for (auto& [key, tensor] : weights.tensors) {
    tensor = tensor.to(dtype);
  }
  const at::Tensor input = x.to(dtype);
  const at::Tensor level = at::full({}, 10, at::kLong);
  tasks.push_back(
      {name,
       flops_per_row(weights.config) * static_cast<double>(x.size(0)),
       [=] { motet::detail::reference_forward(weights.tensors, weights.config, input, level); },
       {}});
}

std::vector<Task> make_tasks(int64_t batch) {
  const at::Tensor x = at::randn({batch, NetworkConfig{}.event_dim});
  std::vector<Task> tasks;
  add_gemm(tasks, "gemm_float32", at::kFloat);
  add_model(tasks, "forward_float32", Parameterisation::score, Compute::float32, x);
  add_eager(tasks, "eager_float32", at::kFloat, x);
  add_model(tasks, "energy_float32", Parameterisation::energy_norm, Compute::float32, x);
  add_model(tasks, "energy_reference", Parameterisation::energy_norm, Compute::reference, x);
  add_gemm(tasks, "gemm_bfloat16", at::kBFloat16);
  add_model(tasks, "forward_bfloat16", Parameterisation::score, Compute::bfloat16, x);
  add_eager(tasks, "eager_bfloat16", at::kBFloat16, x);
  add_model(tasks, "energy_bfloat16", Parameterisation::energy_norm, Compute::bfloat16, x);
  return tasks;
}

// The CPU clock sums over threads, so it is for --threads 1; on a machine that others use too it is
// the steadier of the two.
double now(bool cpu_clock) {
  if (cpu_clock) {
    return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now().time_since_epoch();
  return seconds.count();
}

void time_once(Task& task, bool cpu_clock, bool keep) {
  const double start = now(cpu_clock);
  task.work();
  const double seconds = now(cpu_clock) - start;
  if (keep) {
    task.seconds.push_back(seconds);
  }
}

// Median over repetitions of (rate of `task` / rate of `base`).
double ratio(const Task& task, const Task& base) {
  std::vector<double> ratios;
  for (size_t i = 0; i < task.seconds.size(); ++i) {
    ratios.push_back(task.flops / task.seconds[i] / (base.flops / base.seconds[i]));
  }
  return median(ratios);
}

nlohmann::json report(const std::vector<Task>& tasks) {
  nlohmann::json json;
  const Task* gemm = nullptr;
  for (const Task& task : tasks) {
    if (task.name.starts_with("gemm")) {
      gemm = &task;
    }
    json[task.name] = {{"gflops", task.flops / median(task.seconds) / 1e9},
                       {"milliseconds", median(task.seconds) * 1e3},
                       {"share_of_gemm", ratio(task, *gemm)}};
  }
  return json;
}

Options parse(int argc, char** argv) {
  Options options = {{"--batch", "2000"}, {"--repeats", "30"}, {"--threads", "0"},
                     {"--clock", "wall"}, {"--date", ""},      {"--commit", ""},
                     {"--device", ""}};
  for (int i = 1; i < argc; i += 2) {
    if (!options.contains(argv[i]) || i + 1 == argc) {
      std::cerr
          << "bench_forward: " << argv[i]
          << ": unknown or without a value; allowed: --batch --repeats --threads --clock --date "
             "--commit --device\n";
      std::exit(2);
    }
    options[argv[i]] = argv[i + 1];
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  if (const int threads = std::stoi(options.at("--threads")); threads > 0) {
    at::set_num_threads(threads);
  }
  const at::NoGradGuard no_graph;
  const int64_t batch = std::stoll(options.at("--batch"));
  std::vector<Task> tasks = make_tasks(batch);
  const bool cpu_clock = options.at("--clock") == "cpu";
  const int repeats = std::stoi(options.at("--repeats"));
  for (int i = -2; i < repeats; ++i) {  // two rounds warm up
    for (Task& task : tasks) {
      time_once(task, cpu_clock, i >= 0);
    }
  }
  const motet::detail::Engine* narrow = motet::detail::bfloat16_engine();
  nlohmann::json json = {{"bench", "forward"},
                         {"date", options.at("--date")},
                         {"commit", options.at("--commit")},
                         {"device", options.at("--device")},
                         {"threads", at::get_num_threads()},
                         {"clock", cpu_clock ? "cpu" : "wall"},
                         {"batch", batch},
                         {"repeats", repeats},
                         {"gemm_size", kGemmSize},
                         {"engine_float32", motet::detail::float32_engine().name},
                         {"engine_bfloat16", narrow != nullptr ? narrow->name : "none"},
                         {"results", report(tasks)}};
  std::cout << json.dump(2) << "\n";
}
