// Milliseconds of a training pass (loss and gradient) against a 2048^3 float32 matrix product on
// the same threads: all variants in turn in every round, medians of the ratios over the rounds, as
// JSON. Run: train_step [rounds].
#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "motet/train.hpp"
#include "timing.hpp"
#include "train_pass.hpp"

namespace {

using motet::NetworkConfig;
using motet::Parameterisation;
using motet::detail::Arithmetic;

constexpr int64_t kBatch = 2000;
constexpr double kGemmFlops = 2.0 * 2048 * 2048 * 2048;

/// Operations of the blocks' products in one pass: 3 products for scores (forward, backward,
/// weights), 6 for energies (twice each).
double flops(const NetworkConfig& network) {
  const int64_t inner = network.widen * network.width;
  const int64_t weights = network.num_blocks * (2 * network.width * inner + inner * inner);
  const double products = network.parameterisation == Parameterisation::score ? 3.0 : 6.0;
  return products * 2.0 * static_cast<double>(kBatch * weights);
}

struct Variant {
  std::string name;
  NetworkConfig network;
  std::shared_ptr<motet::detail::GradientPass> pass;
  at::Tensor weights, gradient;
  motet::detail::Batch batch;
};

Variant make_variant(
    const std::string& name, Parameterisation parameterisation,
    const std::function<std::unique_ptr<motet::detail::GradientPass>(const NetworkConfig&)>&
        make_pass) {
  Variant variant{
      .name = name, .network = {}, .pass = {}, .weights = {}, .gradient = {}, .batch = {}};
  variant.network.parameterisation = parameterisation;
  variant.pass = make_pass(variant.network);
  const auto layout = motet::detail::parameter_layout(variant.network);
  motet::Rng rng(1);
  const auto normal = [&rng](at::IntArrayRef shape) { return rng.normal_like(at::empty(shape)); };
  variant.weights = 0.1 * normal({layout.back().offset + layout.back().count, 1}).flatten();
  variant.gradient = at::zeros_like(variant.weights);
  const at::Tensor u = rng.uniform(kBatch, variant.weights);
  variant.batch = {normal({kBatch, 2}), normal({kBatch, 2}), (u * 100).floor().to(at::kLong)};
  return variant;
}

std::vector<Variant> make_variants() {
  std::vector<Variant> variants;
  const auto add = [&](const std::string& suffix, auto make_pass) {
    variants.push_back(make_variant("score_" + suffix, Parameterisation::score, make_pass));
    variants.push_back(
        make_variant("energy_" + suffix, Parameterisation::energy_residual, make_pass));
  };
  add("float32",
      [](const NetworkConfig& c) { return motet::detail::tiled_pass(c, Arithmetic::float32); });
  if (motet::detail::has_bfloat16_products()) {
    add("bfloat16",
        [](const NetworkConfig& c) { return motet::detail::tiled_pass(c, Arithmetic::bfloat16); });
  }
  add("autograd", motet::detail::reference_pass);
  return variants;
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 15;
  const at::NoGradGuard no_graph;
  std::vector<Variant> variants = make_variants();
  const at::Tensor a = at::randn({2048, 2048});
  const at::Tensor b = at::randn({2048, 2048});
  at::Tensor c = at::empty({2048, 2048});
  std::vector<double> gemm;
  std::map<std::string, std::vector<double>> times, ratios;
  for (int round = -2; round < rounds; ++round) {  // two rounds to warm up
    const double gemm_time = bench::seconds_of([&] { at::mm_out(c, a, b); }, false);
    for (Variant& v : variants) {
      const double time =
          bench::seconds_of([&] { v.pass->gradient(v.weights, v.batch, v.gradient); }, false);
      if (round >= 0) {
        times[v.name].push_back(time);
        ratios[v.name].push_back(flops(v.network) / time / (kGemmFlops / gemm_time));
      }
    }
    if (round >= 0) {
      gemm.push_back(gemm_time);
    }
  }
  nlohmann::json report = {{"bench", "train_step"},
                           {"threads", at::get_num_threads()},
                           {"batch", kBatch},
                           {"rounds", rounds},
                           {"gemm_gflops", kGemmFlops / bench::median(gemm) * 1e-9}};
  for (const Variant& v : variants) {
    const double time = bench::median(times[v.name]);
    report["passes"][v.name] = {
        {"milliseconds", 1e3 * time},
        {"fastest_milliseconds",
         1e3 * *std::min_element(times[v.name].begin(), times[v.name].end())},
        {"gflops", flops(v.network) / time * 1e-9},
        {"ratio_to_gemm", bench::median(ratios[v.name])}};
  }
  std::cout << report.dump(2) << "\n";
}
