// How fast a network pass is, as a share of what a large matrix product reaches here and now.
//
// usage: bench_forward [--batch N] [--repeats N] [--threads N] [--clock wall|cpu] [--date D]
// [--commit C] [--device D]
//
// Every repetition times the 2048^3 products and all passes one after the other. Prints one JSON
// object.
#include <ATen/Parallel.h>
#include <torch/types.h>

#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "motet/model.hpp"
#include "nets/engine.hpp"
#include "nets/residual_mlp.hpp"
#include "timing.hpp"

namespace {

using bench::Task;
using motet::Compute;
using motet::NetworkConfig;
using motet::Parameterisation;

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

void add_model(std::vector<Task>& tasks, const std::string& name, Parameterisation parameterisation,
               Compute compute, const at::Tensor& x) {
  const motet::Weights weights = random_weights(parameterisation);
  const auto level = weights.schedule.level(10);
  const auto model = motet::network_model(weights, name, compute);
  // An energy pass counts as one forward and one backward pass in x.
  const double passes = parameterisation == Parameterisation::score ? 1.0 : 2.0;
  tasks.push_back({name, passes * flops_per_row(weights.config) * static_cast<double>(x.size(0)),
                   [=] { model->evaluate(x, level); }});
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
      {name, flops_per_row(weights.config) * static_cast<double>(x.size(0)),
       [=] { motet::detail::reference_forward(weights.tensors, weights.config, input, level); }});
}

std::vector<Task> make_tasks(int64_t batch) {
  const at::Tensor x = at::randn({batch, NetworkConfig{}.event_dim});
  std::vector<Task> tasks;
  tasks.push_back(bench::gemm("gemm_float32", at::kFloat, kGemmSize));
  add_model(tasks, "forward_float32", Parameterisation::score, Compute::float32, x);
  add_eager(tasks, "eager_float32", at::kFloat, x);
  add_model(tasks, "energy_float32", Parameterisation::energy_norm, Compute::float32, x);
  add_model(tasks, "energy_reference", Parameterisation::energy_norm, Compute::reference, x);
  tasks.push_back(bench::gemm("gemm_bfloat16", at::kBFloat16, kGemmSize));
  add_model(tasks, "forward_bfloat16", Parameterisation::score, Compute::bfloat16, x);
  add_eager(tasks, "eager_bfloat16", at::kBFloat16, x);
  add_model(tasks, "energy_bfloat16", Parameterisation::energy_norm, Compute::bfloat16, x);
  return tasks;
}

nlohmann::json report(const std::vector<Task>& tasks) {
  nlohmann::json json;
  const Task* gemm = nullptr;
  for (const Task& task : tasks) {
    if (task.name.starts_with("gemm")) {
      gemm = &task;
    }
    json[task.name] = {{"gflops", task.flops / bench::median(task.seconds) / 1e9},
                       {"milliseconds", bench::median(task.seconds) * 1e3},
                       {"share_of_gemm", bench::ratio(task, *gemm)}};
  }
  return json;
}

}  // namespace

int main(int argc, char** argv) {
  const bench::Options options = bench::parse("bench_forward",
                                              {{"--batch", "2000"},
                                               {"--repeats", "30"},
                                               {"--threads", "0"},
                                               {"--clock", "wall"},
                                               {"--date", ""},
                                               {"--commit", ""},
                                               {"--device", ""}},
                                              argc, argv);
  if (const int threads = std::stoi(options.at("--threads")); threads > 0) {
    at::set_num_threads(threads);
  }
  const at::NoGradGuard no_graph;
  const int64_t batch = std::stoll(options.at("--batch"));
  std::vector<Task> tasks = make_tasks(batch);
  const bool cpu_clock = options.at("--clock") == "cpu";
  const int repeats = std::stoi(options.at("--repeats"));
  bench::time_all(tasks, repeats, cpu_clock);
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
