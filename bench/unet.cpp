// How fast a U-Net's pass is: as a share of the best that convolutions and matrix products reach here
// and now, and against the same network by torch's operations one after the other. And how much memory
// it takes for batches of several sizes.
//
// usage: bench_unet [--batch N] [--size N] [--channels N] [--repeats N] [--threads N]
// [--clock wall|cpu]
//
// The network is UNet2DModel of three resolutions, `channels` at the first and twice as many below,
// with attention at the lowest: that of experiments/train-fashion.toml, without its classes. Its
// roofline is the faster of a 2048^3 product and its own largest convolution, each alone. Without
// --threads everything is timed on one thread and on all. Memory is the peak of a process of its own
// that makes the network and one pass of so many rows. Prints one JSON object.
#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <torch/types.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "motet/model.hpp"
#include "nets/engine.hpp"
#include "nets/layers.hpp"
#include "nets/network.hpp"
#include "nets/unet2d.hpp"
#include "timing.hpp"

namespace {

using bench::Task;
using motet::Compute;
using motet::detail::ArchitecturePtr;
using motet::detail::NetworkPtr;
using motet::detail::TensorMap;
using motet::detail::UNet2DBlock;

constexpr double kTime = 500.0;

ArchitecturePtr architecture_of(int64_t size, int64_t channels) {
  return motet::detail::unet2d(
      {.height = size,
       .width = size,
       .in_channels = 1,
       .out_channels = 1,
       .down_blocks = {UNet2DBlock::plain, UNet2DBlock::plain, UNet2DBlock::attention},
       .up_blocks = {UNet2DBlock::attention, UNet2DBlock::plain, UNet2DBlock::plain},
       .block_out_channels = {channels, 2 * channels, 2 * channels},
       .layers_per_block = 1,
       .attention_head_dim = 32,
       .norm_num_groups = 8});
}

TensorMap random_weights(const ArchitecturePtr& architecture) {
  at::manual_seed(1);
  TensorMap tensors;
  for (const auto& [name, shape] : architecture->expected_tensors()) {
    const double fan_in = static_cast<double>(c10::multiply_integers(shape) / shape.front());
    tensors[name] = at::randn(shape) / std::sqrt(fan_in);
  }
  return tensors;
}

// Counts the floating-point operations of convolutions and matrix products: twice the numbers of
// the output times the length of each sum.
class FlopCounter {
 public:
  FlopCounter() {
    total() = 0.0;
    handle_ = at::addThreadLocalCallback(at::RecordFunctionCallback(&start).needsInputs(true));
  }
  ~FlopCounter() { at::removeCallback(handle_); }
  static double& total() {
    static double value = 0.0;
    return value;
  }

 private:
  static std::unique_ptr<at::ObserverContext> start(const at::RecordFunction& function) {
    const std::string name = function.name();
    const auto tensor = [&](size_t i) { return function.inputs()[i].toTensor(); };
    if (name == "aten::conv2d") {
      const at::Tensor x = tensor(0);
      const at::Tensor weight = tensor(1);
      const auto stride = function.inputs()[3].toIntVector();
      const int64_t pixels = x.size(0) * x.size(2) * x.size(3) / (stride[0] * stride[0]);
      total() += 2.0 * static_cast<double>(pixels * weight.numel());
    } else if (name == "aten::linear") {
      const at::Tensor x = tensor(0);
      total() += 2.0 * static_cast<double>(x.numel() / x.size(-1) * tensor(1).numel());
    } else if (name == "aten::scaled_dot_product_attention") {
      const at::Tensor query = tensor(0);  // (B, heads, pixels, d)
      total() += 4.0 * static_cast<double>(query.numel() * query.size(2));
    }
    return nullptr;
  }

  at::CallbackHandle handle_;
};

double flops_of(const NetworkPtr& reference, const at::Tensor& x) {
  const FlopCounter counter;
  reference->forward(x, kTime);
  return FlopCounter::total();
}

// The convolution at the first resolution that joins both ways, alone, by packed weights.
Task convolution(const std::string& name, at::ScalarType dtype, int64_t batch, int64_t size,
                 int64_t channels) {
  const TensorMap tensors = motet::detail::pack_convolutions(
      {{"conv.weight", at::randn({channels, 3 * channels, 3, 3}).to(dtype)},
       {"conv.bias", at::randn({channels}).to(dtype)}});
  const at::Tensor x = at::randn({batch, 3 * channels, size, size})
                           .to(dtype)
                           .contiguous(at::MemoryFormat::ChannelsLast);
  const double flops = 2.0 * static_cast<double>(x.numel() * 9 * channels);
  return {name, flops, [=] { motet::detail::conv2d(tensors, "conv", x, 1, 1); }};
}

std::vector<Task> make_tasks(int64_t batch, int64_t size, int64_t channels) {
  const ArchitecturePtr architecture = architecture_of(size, channels);
  const TensorMap weights = random_weights(architecture);
  const auto network = [&](Compute compute) {
    return motet::detail::bound_network(architecture, weights, {}, compute, "cpu", "bench: ");
  };
  const at::Tensor x = at::randn({batch, 1, size, size});
  const double flops = flops_of(network(Compute::reference), x);
  std::vector<Task> tasks;
  const auto add = [&](const std::string& name, Compute compute) {
    const NetworkPtr own = network(compute);
    tasks.push_back({name, flops, [own, x] { own->forward(x, kTime); }});
  };
  const int64_t rows = motet::detail::rows_at_once({1, size, size});
  for (const auto& [word, dtype, compute] :
       {std::tuple{"float32", at::kFloat, Compute::float32},
        std::tuple{"bfloat16", at::kBFloat16, Compute::bfloat16}}) {
    tasks.push_back(bench::gemm(std::string("gemm_") + word, dtype, 2048));
    tasks.push_back(convolution(std::string("convolution_") + word, dtype, rows, size, channels));
    add(std::string("forward_") + word, compute);
    TensorMap narrow;
    for (const auto& [name, tensor] : weights) {
      narrow[name] = tensor.to(dtype);
    }
    const at::Tensor input = x.to(dtype);
    tasks.push_back({std::string("eager_") + word, flops, [=] {
                       architecture->forward(narrow, input, at::full({1}, kTime, at::kFloat), {});
                     }});
  }
  return tasks;
}

// Tasks come in fours: product, convolution, pass, eager pass.
nlohmann::json report(const std::vector<Task>& tasks) {
  nlohmann::json json;
  for (size_t i = 0; i < tasks.size(); i += 4) {
    for (size_t k = i; k < i + 4; ++k) {
      const Task& task = tasks[k];
      const double of_gemm = bench::ratio(task, tasks[i]);
      const double of_convolution = bench::ratio(task, tasks[i + 1]);
      json[task.name] = {{"gflops", task.flops / bench::median(task.seconds) / 1e9},
                         {"milliseconds", bench::median(task.seconds) * 1e3},
                         {"share_of_gemm", of_gemm},
                         {"share_of_convolution", of_convolution},
                         {"share_of_best", std::min(of_gemm, of_convolution)},
                         {"times_eager", bench::ratio(task, tasks[i + 3])}};
    }
  }
  return json;
}

// --- memory --------------------------------------------------------------------------------------

constexpr int64_t kMostEagerRows = 512;  // its memory grows with them
constexpr std::array<int64_t, 4> kRows = {0, 64, 512, 4096};
constexpr std::array<const char*, 4> kPasses = {"forward_float32", "forward_bfloat16",
                                                "energy_float32", "eager_float32"};

// Makes the network and one pass of `rows` rows; of none, the network alone.
void make_pass(const std::string& pass, int64_t rows, int64_t size, int64_t channels) {
  const at::NoGradGuard no_graph;
  const ArchitecturePtr architecture = architecture_of(size, channels);
  const TensorMap weights = random_weights(architecture);
  const Compute compute = pass == "forward_bfloat16" ? Compute::bfloat16 : Compute::float32;
  const NetworkPtr network =
      motet::detail::bound_network(architecture, weights, {}, compute, "cpu", "bench: ");
  const at::Tensor x = at::randn({rows, 1, size, size});
  if (rows == 0) {
    return;
  }
  if (pass == "energy_float32") {
    network->energy(x, kTime, false);
  } else if (pass == "eager_float32") {
    architecture->forward(weights, x, at::full({1}, kTime), {});
  } else {
    network->forward(x, kTime);
  }
}

// The most memory that a process has which does just this. Forks: no thread may run yet.
int64_t peak_of_pass(const std::string& pass, int64_t rows, int64_t size, int64_t channels) {
  const pid_t child = fork();
  if (child == 0) {
    make_pass(pass, rows, size, channels);
    _exit(0);
  }
  int status = 0;
  rusage usage{};
  if (child < 0 || wait4(child, &status, 0, &usage) < 0 || status != 0) {
    throw std::runtime_error("bench_unet: the process for " + pass + " of " + std::to_string(rows) +
                             " rows failed");
  }
  return usage.ru_maxrss * 1024;
}

nlohmann::json memory(int64_t size, int64_t channels) {
  nlohmann::json json = {{"rows_at_once", motet::detail::rows_at_once({1, size, size})}};
  for (const char* pass : kPasses) {
    for (const int64_t rows : kRows) {
      if (pass != std::string("eager_float32") || rows <= kMostEagerRows) {
        json["peak_bytes"][pass][std::to_string(rows)] = peak_of_pass(pass, rows, size, channels);
      }
    }
  }
  return json;
}

}  // namespace

int main(int argc, char** argv) {
  const bench::Options options = bench::parse("bench_unet",
                                              {{"--batch", "64"},
                                               {"--size", "28"},
                                               {"--channels", "32"},
                                               {"--repeats", "15"},
                                               {"--threads", "0"},
                                               {"--clock", "wall"}},
                                              argc, argv);
  const int64_t batch = std::stoll(options.at("--batch"));
  const int64_t size = std::stoll(options.at("--size"));
  const int64_t channels = std::stoll(options.at("--channels"));
  const int repeats = std::stoi(options.at("--repeats"));
  nlohmann::json json = {{"bench", "unet"},
                         {"clock", options.at("--clock")},
                         {"batch", batch},
                         {"size", size},
                         {"channels", channels},
                         {"repeats", repeats},
                         {"memory", memory(size, channels)}};
  const at::NoGradGuard no_graph;
  std::vector<Task> tasks = make_tasks(batch, size, channels);
  const int asked = std::stoi(options.at("--threads"));
  const std::set<int> counts =
      asked > 0 ? std::set<int>{asked} : std::set<int>{1, at::get_num_threads()};
  for (const int threads : counts) {
    at::set_num_threads(threads);
    for (Task& task : tasks) {
      task.seconds.clear();
    }
    bench::time_all(tasks, repeats, options.at("--clock") == "cpu");
    json["results"][std::to_string(threads)] = report(tasks);
  }
  std::cout << json.dump(2) << "\n";
}
