// What a sampling run costs beside its network: time outside the network, time and memory of a
// million chains against a tenth of them, and the exact W2 of 2000 points.
//
// usage: bench_sample [MODELS]   (folder of ring.safetensors and bar.safetensors; default models)
//
// Shares and ratios are taken within one run, in turn, so that a machine that others use too shifts
// both sides alike; the median over the rounds counts. Prints one JSON object.
#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "motet/metrics.hpp"
#include "motet/model.hpp"
#include "motet/run.hpp"
#include "run_detail.hpp"

namespace {

using nlohmann::json;

constexpr int kRounds = 5;
constexpr int64_t kFewChains = 100'000;
constexpr int64_t kManyChains = 1'000'000;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// A run of ring x bar on the networks of `folder`, without files and without metrics.
motet::SampleConfig config(const std::string& folder, const std::string& sampler,
                           const std::string& compute, int64_t num_samples,
                           const std::string& levels) {
  std::string toml = "num_samples = " + std::to_string(num_samples);
  toml += "\nsampler = \"" + sampler + "\"\ncompute = \"" + compute + "\"\n";
  toml += levels.empty() ? "" : "[anneal]\nlevels = " + levels + "\n";
  for (const char* name : {"ring", "bar"}) {
    toml += "[model." + std::string(name) + "]\nweights = \"" + folder + "/" + name +
            ".safetensors\"\n";
  }
  return motet::parse_config(toml, "bench_sample");
}

json seconds_of(const motet::SampleConfig& run_config) {
  return json::parse(motet::run(run_config).json).at("seconds");
}

// Share of a run's time that is not spent in the networks; of "exact" the whole run, pilot included.
json outside_network(const std::string& folder) {
  json result;
  for (const std::string sampler : {"u-la", "la-3-line", "hmc-4-curve", "exact"}) {
    const std::string levels = sampler == "exact" ? "" : "[80, 60, 40, 20, 5, 0]";
    for (const std::string compute : {"float32", "bfloat16"}) {
      std::vector<double> shares;
      std::vector<double> totals;
      for (int round = -1; round < kRounds; ++round) {  // one to warm up
        const json seconds = seconds_of(config(folder, sampler, compute, 2000, levels));
        const double total = seconds.at("total");
        if (round >= 0) {
          totals.push_back(total);
          shares.push_back(1.0 - seconds.at("network").get<double>() / total);
        }
      }
      result[sampler][compute] = {{"seconds", median(totals)}, {"share", median(shares)}};
    }
  }
  return result;
}

// Seconds a chain and peak memory. Few chains before and after many: what else the machine does
// shifts both sides alike, and the first peak is that of few (a process's peak never falls).
json many_chains(const std::string& folder) {
  json result;
  std::map<int64_t, std::vector<double>> per_chain;
  for (const int64_t num_chains : {kFewChains, kFewChains, kManyChains, kFewChains, kFewChains}) {
    const json seconds =
        seconds_of(config(folder, "reverse", "float32", num_chains, "[60, 20, 0]"));
    per_chain[num_chains].push_back(seconds.at("total").get<double>() /
                                    static_cast<double>(num_chains));
    json& entry = result[std::to_string(num_chains)];
    if (entry.is_null()) {
      entry["peak_rss_bytes"] = motet::detail::peak_rss_bytes();
    }
  }
  for (const auto& [num_chains, seconds] : per_chain) {
    result[std::to_string(num_chains)]["microseconds_a_chain"] = 1e6 * median(seconds);
  }
  result["ratio_of_time_a_chain"] = median(per_chain[kManyChains]) / median(per_chain[kFewChains]);
  return result;
}

// Exact W2 of 2000 points: two exact sets, and one set moved far away.
json w2_seconds() {
  motet::Rng rng(1);
  const at::Tensor x = motet::sample_product_benchmark(2000, rng);
  const at::Tensor y = motet::sample_product_benchmark(2000, rng);
  json result;
  for (const auto& [name, shift] :
       {std::pair{"two_exact_sets", 0.0}, std::pair{"far_apart", 5.0}}) {
    std::vector<double> seconds;
    for (int round = 0; round < kRounds; ++round) {
      const motet::detail::Stopwatch watch;
      motet::w2_assignment(x, y + shift);
      seconds.push_back(watch.seconds());
    }
    result[name] = median(seconds);
  }
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string folder = argc > 1 ? argv[1] : "models";
  // First: memory is a high-water mark.
  const json chains = many_chains(folder);
  const json report = {{"bench", "sample"},
                       {"threads", at::get_num_threads()},
                       {"chains", chains},
                       {"outside_network", outside_network(folder)},
                       {"w2_seconds_2000_points", w2_seconds()}};
  std::cout << report.dump(2) << "\n";
}
