// Several networks of the paper's size at the same points: one after the other, together in one
// parallel region, and as one stack of weights through batched products.
//
// usage: bench_batched [--seconds S] [--repeats N] [--largest B] [--threads N]
// [--clock wall|cpu]
//
// A number of networks and a batch size, up to `largest`, are repeated for `seconds`, `repeats` times
// at least, all ways in turn. Prints one JSON object. Fails where two ways disagree.
#include <ATen/Parallel.h>
#include <torch/types.h>

#include <cmath>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "motet/model.hpp"
#include "nets/engine.hpp"
#include "nets/network_batch.hpp"
#include "nets/residual_mlp.hpp"
#include "timing.hpp"

namespace {

using bench::Options;
using motet::Compute;
using motet::ModelPtr;
using motet::detail::TensorMap;

constexpr int64_t kLevel = 10;

motet::Weights random_weights() {
  motet::Weights weights;
  for (const auto& [name, shape] : motet::expected_tensors(weights.config)) {
    weights.tensors[name] = at::randn(shape) / std::sqrt(static_cast<double>(shape.back()));
  }
  return weights;
}

// The networks' weights stacked along a new first dimension, Linear weights (K, in, out), and the
// level's term already added to the hidden layers' biases: as little work a call as there can be.
class Stack {
 public:
  explicit Stack(const std::vector<motet::Weights>& networks)
      : config_(networks.front().config), sigma_(networks.front().schedule.level(kLevel).sigma()) {
    for (const auto& [name, first] : networks.front().tensors) {
      std::vector<at::Tensor> all;
      for (const motet::Weights& network : networks) {
        all.push_back(network.tensors.at(name));
      }
      const at::Tensor stacked = at::stack(all);
      const bool is_norm = name.find(".norm.") != std::string::npos;
      const bool is_vector = first.dim() == 1;
      tensors_[name] =
          is_vector || is_norm ? stacked.unsqueeze(1) : stacked.transpose(1, 2).contiguous();
    }
    for (int64_t i = 0; i < config_.num_blocks; ++i) {
      const std::string block = "blocks." + std::to_string(i);
      const at::Tensor embedded = at::stack(level_rows(networks)).unsqueeze(1);
      tensors_[block + ".hidden.bias"] =
          tensors_[block + ".hidden.bias"] + linear(block + ".level", embedded);
    }
  }

  /// Scores of all networks at x (B, d): (K, B, d).
  at::Tensor scores(const at::Tensor& x) const {
    const int64_t num_networks = tensors_.at("input.bias").size(0);
    at::Tensor h = linear("input", x.unsqueeze(0).expand({num_networks, -1, -1}));
    for (int64_t i = 0; i < config_.num_blocks; ++i) {
      const std::string block = "blocks." + std::to_string(i);
      at::Tensor u = at::layer_norm(h, {config_.width}, {}, {}, motet::detail::kLayerNormEpsilon);
      u.mul_(tensors_.at(block + ".norm.weight")).add_(tensors_.at(block + ".norm.bias"));
      u = linear(block + ".hidden", at::silu_(u));
      u = linear(block + ".middle", at::silu_(u));
      h.add_(linear(block + ".output", at::silu_(u)));
    }
    return linear("output", h).div_(-sigma_);
  }

 private:
  static std::vector<at::Tensor> level_rows(const std::vector<motet::Weights>& networks) {
    std::vector<at::Tensor> rows;
    for (const motet::Weights& network : networks) {
      rows.push_back(network.tensors.at("embedding.weight")[kLevel]);
    }
    return rows;
  }

  at::Tensor linear(const std::string& name, const at::Tensor& input) const {
    return at::baddbmm(tensors_.at(name + ".bias"), input, tensors_.at(name + ".weight"));
  }

  motet::NetworkConfig config_;
  double sigma_;
  TensorMap tensors_;
};

struct Way {
  std::string name;
  std::function<std::vector<at::Tensor>()> scores;
  std::vector<double> seconds = {};
};

std::vector<at::Tensor> in_turn(const std::vector<ModelPtr>& models, const at::Tensor& x,
                                const motet::NoiseLevel& level) {
  std::vector<at::Tensor> scores;
  for (const ModelPtr& model : models) {
    scores.push_back(model->evaluate(x, level).score);
  }
  return scores;
}

std::vector<Way> make_ways(int64_t num_networks, const at::Tensor& x) {
  std::vector<motet::Weights> networks;
  std::vector<ModelPtr> fast;
  std::vector<ModelPtr> narrow;
  std::vector<ModelPtr> eager;
  for (int64_t i = 0; i < num_networks; ++i) {
    networks.push_back(random_weights());
    fast.push_back(motet::network_model(networks.back(), "fast", Compute::float32));
    narrow.push_back(motet::network_model(networks.back(), "narrow", Compute::bfloat16));
    eager.push_back(motet::network_model(networks.back(), "eager", Compute::reference));
  }
  const motet::NoiseLevel level = networks.front().schedule.level(kLevel);
  const auto together = [x, level](const std::vector<ModelPtr>& models) {
    std::vector<at::Tensor> scores;
    for (const motet::Eval& eval : motet::detail::evaluate_together(models, x, level)) {
      scores.push_back(eval.score);
    }
    return scores;
  };
  const Stack stack(networks);
  return {{"float32_in_turn", [=] { return in_turn(fast, x, level); }},
          {"float32_together", [=] { return together(fast); }},
          {"bfloat16_in_turn", [=] { return in_turn(narrow, x, level); }},
          {"bfloat16_together", [=] { return together(narrow); }},
          {"eager_in_turn", [=] { return in_turn(eager, x, level); }},
          {"eager_stacked", [=] { return stack.scores(x).unbind(0); }}};
}

void fail(const std::string& what) {
  std::cerr << "bench_batched: " << what << "\n";
  std::exit(1);
}

// Together: the same bits as in turn. Stacked: those of eager to rounding.
void check(const std::vector<Way>& ways) {
  for (const size_t first : {size_t{0}, size_t{2}, size_t{4}}) {
    const auto one = ways[first].scores();
    const auto other = ways[first + 1].scores();
    for (size_t i = 0; i < one.size(); ++i) {
      const bool agrees =
          first < 4 ? at::equal(one[i], other[i]) : at::allclose(one[i], other[i], 1e-3, 1e-4);
      if (!agrees) {
        fail(ways[first + 1].name + " disagrees with " + ways[first].name);
      }
    }
  }
}

// How many times as fast as `base`.
double speed_up(const Way& way, const Way& base) {
  std::vector<double> ratios;
  for (size_t i = 0; i < way.seconds.size(); ++i) {
    ratios.push_back(base.seconds[i] / way.seconds[i]);
  }
  return bench::median(ratios);
}

nlohmann::json measure(int64_t num_networks, int64_t batch, const Options& options) {
  const double budget = std::stod(options.at("--seconds"));
  const size_t repeats = std::stoul(options.at("--repeats"));
  at::manual_seed(1);
  const at::Tensor x = at::randn({batch, motet::NetworkConfig{}.event_dim});
  std::vector<Way> ways = make_ways(num_networks, x);
  check(ways);
  double spent = 0.0;
  while (spent < budget || ways.front().seconds.size() < repeats) {
    for (Way& way : ways) {
      way.seconds.push_back(
          bench::seconds_of([&way] { way.scores(); }, options.at("--clock") == "cpu"));
      spent += way.seconds.back();
    }
  }
  nlohmann::json json = {{"networks", num_networks}, {"batch", batch}};
  json["repeats"] = ways.front().seconds.size();
  for (const Way& way : ways) {
    json["milliseconds"][way.name] = bench::median(way.seconds) * 1e3;
  }
  json["speed_up"] = {{"float32_together", speed_up(ways[1], ways[0])},
                      {"bfloat16_together", speed_up(ways[3], ways[2])},
                      {"eager_stacked_of_eager", speed_up(ways[5], ways[4])},
                      {"eager_stacked_of_float32", speed_up(ways[5], ways[0])}};
  return json;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = bench::parse("bench_batched",
                                       {{"--seconds", "0.4"},
                                        {"--repeats", "7"},
                                        {"--largest", "8192"},
                                        {"--threads", "0"},
                                        {"--clock", "wall"}},
                                       argc, argv);
  if (const int threads = std::stoi(options.at("--threads")); threads > 0) {
    at::set_num_threads(threads);
  }
  const at::NoGradGuard no_graph;
  const motet::detail::Engine* narrow = motet::detail::bfloat16_engine();
  nlohmann::json json = {{"bench", "batched"},
                         {"threads", at::get_num_threads()},
                         {"clock", options.at("--clock")},
                         {"engine_float32", motet::detail::float32_engine().name},
                         {"row_block_float32", motet::detail::float32_engine().row_block},
                         {"engine_bfloat16", narrow != nullptr ? narrow->name : "none"},
                         {"row_block_bfloat16", narrow != nullptr ? narrow->row_block : 0}};
  for (const int64_t num_networks : {2, 4}) {
    for (const int64_t batch : {1, 8, 32, 128, 512, 2048, 8192}) {
      if (batch <= std::stoll(options.at("--largest"))) {
        json["results"].push_back(measure(num_networks, batch, options));
      }
    }
  }
  std::cout << json.dump(2) << "\n";
}
