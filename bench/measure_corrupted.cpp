// What score errors do to the sampler "exact" under each Metropolis test: the benchmark ring x bar
// on exact scores to which a smooth random field is added. Run by tools/measure_ablations.py; prints
// one JSON object.
//
// usage: measure_corrupted conservative|rotated RMS SEED
//
// The field of a factor is the gradient of a random trigonometric potential
//   U(x) = A sum_m cos(k_m . x + phi_m),  k_m ~ N(0, I / l^2),  l = kLength,
// the same at every level, of root mean square RMS for each coordinate. "conservative" adds it to
// eps, so the score is that of p exp(-U / sigma); "rotated" turns it by a right angle: the same size
// and smoothness, no divergence, all curl. Both factors have fields of their own. The plan (levels,
// step sizes, last map) is tuned once on the clean scores, so that every test judges the same
// proposals.
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numbers>
#include <string>
#include <vector>

#include "motet/compose.hpp"
#include "motet/error.hpp"
#include "motet/metrics.hpp"
#include "motet/preset.hpp"
#include "preset_start.hpp"

namespace motet {
namespace {

using nlohmann::json;

constexpr int64_t kNumChains = 2000;
constexpr int64_t kNumTransported = 500;
constexpr int64_t kNumPilot = 512;
constexpr int64_t kNumWaves = 64;
constexpr double kLength = 0.2;

struct Corruption {
  std::string kind;  // "conservative", "rotated"
  double rms = 0.0;
};

struct Field {
  Tensor waves;   // (M, 2) float64
  Tensor phases;  // (M)
  double amplitude = 0.0;
};

Field draw_field(double rms, Rng rng) {
  Field field;
  field.waves = rng.normal_like(at::empty({kNumWaves, 2}, at::kDouble)) / kLength;
  field.phases = 2.0 * std::numbers::pi * rng.uniform(kNumWaves, field.waves);
  // The mean of |grad U|^2 over phases is A^2 / 2 sum |k|^2, over two coordinates.
  field.amplitude = rms * std::sqrt(4.0 / field.waves.square().sum().item<double>());
  return field;
}

// (B, 2), of the potential or turned by a right angle.
Tensor value(const Field& field, const Tensor& angles, bool is_rotated) {
  const Tensor gradient = angles.sin().matmul(field.waves).mul(-field.amplitude);
  return is_rotated ? at::stack({-gradient.select(1, 1), gradient.select(1, 0)}, 1) : gradient;
}

// `law` with the field added to its eps. It knows its log density where there is one.
ModelPtr corrupt(const ModelPtr& law, const Field& field, const Corruption& corruption) {
  const bool is_rotated = corruption.kind == "rotated";
  const auto evaluate = [law, field, is_rotated](const Tensor& x, const NoiseLevel& level) {
    const Eval clean = law->evaluate(x, level);
    const Tensor angles = x.to(at::kDouble).matmul(field.waves.t()) + field.phases;
    const Tensor added = value(field, angles, is_rotated).div(level.sigma()).to(x.scalar_type());
    if (is_rotated) {
      return Eval{.score = clean.score - added, .log_density = {}, .remainder = {}};
    }
    const Tensor potential = angles.cos().sum(1).mul(field.amplitude / level.sigma());
    return Eval{clean.score - added, clean.log_density - potential, {}};
  };
  return from_callable(evaluate, {2}, /*is_exact=*/!is_rotated, law->describe() + ", corrupted");
}

// A Metropolis test on the plan of the sampler "exact".
struct Test {
  std::string name;
  KernelConfig kernel;
};

std::vector<Test> make_tests(const KernelConfig& base, bool has_density) {
  KernelConfig none = base;
  none.type = "uhmc";
  none.ratio = "";
  KernelConfig unguarded = base;
  unguarded.guard = 0.0;
  KernelConfig trapezoid = unguarded;
  trapezoid.curve_rule = CurveRule::trapezoid;
  KernelConfig line = unguarded;
  line.ratio = "line";
  line.line_rule = LineRule::gauss_lobatto;
  line.num_points = 5;
  std::vector<Test> tests = {{"guarded", base},
                             {"polynomial", unguarded},
                             {"trapezoid", trapezoid},
                             {"line", line},
                             {"none", none}};
  if (has_density) {
    KernelConfig exact = unguarded;
    exact.ratio = "exact";
    tests.push_back({"density", exact});
  }
  return tests;
}

// Mean acceptance over the proposals of all levels, and at the last; of kernels without a test the
// shares of finite proposals.
void add_levels(const SampleResult& result, json& row) {
  int64_t proposals = 0;
  int64_t accepted = 0;
  double ess = 1.0;
  for (const LevelStats& level : result.levels) {
    proposals += level.num_proposals;
    accepted += level.num_accepted;
    ess = std::isnan(level.ess) ? ess : std::min(ess, level.ess);
  }
  if (proposals > 0) {
    row["acceptance"] = static_cast<double>(accepted) / static_cast<double>(proposals);
    row["acceptance_last"] = result.levels.back().acceptance();
    row["smallest_ess"] = ess;
  }
  row["evaluations_per_chain"] = result.evaluations_per_chain;
}

// Against exact draws; the transport distance on few points, for its cost grows with their cube.
json metrics_of(const Tensor& x, const Rng& rng) {
  const ProductBenchmark benchmark;
  const Tensor centres =
      at::tensor({0.0, benchmark.radius, 0.0, -benchmark.radius}, at::kDouble).view({2, 2});
  const double half_gap =
      benchmark.radius * std::sin(std::numbers::pi / static_cast<double>(benchmark.num_modes));
  const LogLikelihood likelihood = log_likelihood(x);
  Rng draws = rng.split("reference");
  const Tensor reference = sample_product_benchmark(kNumTransported, draws);
  const Tensor some = x.slice(0, 0, kNumChains, kNumChains / kNumTransported);
  return {{"ll_true", likelihood.ll_true},
          {"num_outside_support", likelihood.num_outside_support},
          {"fraction_outside_modes", modes(x, centres, half_gap).fraction_outside_modes},
          {"w2_folded", w2_folded(some, reference)}};
}

json measure(const ModelPtr& target, const NoiseSchedule& schedule, const Sampler& sampler,
             const Rng& rng) {
  const Tensor start = detail::starting_points(*target, sampler, kNumChains, "cpu", rng);
  const SampleResult result =
      anneal(target, schedule, sampler.kernel, sampler.anneal, start, rng.split("sample"));
  json row = metrics_of(result.x.to(at::kDouble), rng);
  add_levels(result, row);
  return row;
}

// The sampler "exact" with step sizes and last map from a pilot on the clean scores.
Sampler tuned_sampler(const NoiseSchedule& schedule, const Rng& rng) {
  const ModelPtr clean = product({{score_only(ring())}, {score_only(bar())}});
  Sampler sampler = make_exact_sampler(clean, schedule, {}, rng.split("start"));
  AnnealConfig plan = sampler.anneal;
  plan.weights->island_size = kNumPilot;
  const Rng pilot = rng.split("tune");
  const Tensor start = detail::starting_points(*clean, sampler, kNumPilot, "cpu", pilot);
  const auto weights = sampler.anneal.weights;
  sampler.anneal = tune(clean, schedule, sampler.kernel, plan, start, pilot).config;
  sampler.anneal.weights = weights;
  return sampler;
}

json measure_all(const Corruption& corruption, uint64_t seed) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(100);
  const Rng rng(seed);
  const auto factor = [&](const ModelPtr& law, const char* name) {
    return corrupt(law, draw_field(corruption.rms, rng.split(name)), corruption);
  };
  const ModelPtr ring_factor = factor(ring(), "field of ring");
  const ModelPtr bar_factor = factor(bar(), "field of bar");
  const ModelPtr known = product({{ring_factor}, {bar_factor}});
  const ModelPtr scores = product({{score_only(ring_factor)}, {score_only(bar_factor)}});
  Sampler sampler = tuned_sampler(schedule, rng);
  json rows;
  for (const Test& test : make_tests(sampler.kernel_config, known->is_exact())) {
    sampler.kernel = make_kernel(test.kernel);
    rows[test.name] = measure(test.name == "density" ? known : scores, schedule, sampler, rng);
  }
  rows["reverse"] = measure(scores, schedule, make_sampler("reverse", "corrected", schedule), rng);
  Rng draws = rng.split("exact samples");
  rows["exact samples"] = metrics_of(sample_product_benchmark(kNumChains, draws), rng);
  return {{"kind", corruption.kind},
          {"rms", corruption.rms},
          {"length", kLength},
          {"num_waves", kNumWaves},
          {"seed", seed},
          {"num_chains", kNumChains},
          {"num_transported", kNumTransported},
          {"rows", std::move(rows)}};
}

}  // namespace
}  // namespace motet

int main(int argc, char** argv) {
  const std::string kind = argc > 1 ? argv[1] : "";
  if (argc != 4 || (kind != "conservative" && kind != "rotated")) {
    std::cerr << "usage: measure_corrupted conservative|rotated RMS SEED\n";
    return 2;
  }
  try {
    const motet::Corruption corruption{kind, std::atof(argv[2])};
    const auto seed = static_cast<uint64_t>(std::atoll(argv[3]));
    std::cout << motet::measure_all(corruption, seed).dump(1) << "\n";
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
