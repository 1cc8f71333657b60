// How far a score network is from the exact scores of the law it was trained on, level by level.
//
// usage: measure_score_error WEIGHTS.safetensors [NUM_SAMPLES]
//
// The law is read off the training config that the file carries. Of each level in kLevels:
// sqrt(mean |s_net - s|^2 / mean |s|^2) over exact draws of the law at that level, the same draws
// for every network of a law. Prints one JSON object.
#include <torch/types.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "motet/error.hpp"
#include "motet/io.hpp"
#include "motet/model.hpp"
#include "motet/run.hpp"

namespace {

constexpr std::array<int64_t, 8> kLevels = {0, 1, 2, 3, 5, 10, 20, 50};
constexpr int64_t kNumSamples = 100000;
constexpr uint64_t kSeed = 20;

motet::AnalyticPtr law_of(const std::map<std::string, std::string>& provenance) {
  const motet::DataConfig data =
      motet::parse_train_config(provenance.at("config"), "config of the weights").data;
  if (data.law) {
    return data.law;
  }
  static const std::map<std::string, motet::AnalyticPtr> laws = {
      {"ring", motet::ring()},
      {"bar", motet::bar()},
      {"checkerboard", motet::checkerboard()},
      {"moons", motet::moons()},
      {"spirals", motet::spirals()}};
  const auto place = laws.find(data.set);
  if (place == laws.end()) {
    throw motet::ConfigError("score_error: trained on " +
                             (data.set.empty() ? data.file : data.set) +
                             ", must be ring, bar, checkerboard, moons, spirals or a data.law: of "
                             "these the scores are known");
  }
  return place->second;
}

double mean_square(const at::Tensor& x) { return x.square().sum(1).mean().item<double>(); }

double relative_error(const motet::Model& network, const motet::AnalyticModel& law,
                      const motet::NoiseLevel& level, int64_t num_samples) {
  motet::Rng rng = motet::Rng(kSeed).split("score_error").at(level.index, 0);
  const at::Tensor x = law.sample_level(num_samples, level, rng).to(at::kFloat);
  const at::Tensor exact = law.evaluate(x.to(at::kDouble), level).score;
  const at::Tensor found = network.evaluate(x, level).score.to(at::kDouble);
  return std::sqrt(mean_square(found - exact) / mean_square(exact));
}

nlohmann::ordered_json measure(const std::string& path, int64_t num_samples) {
  motet::Weights weights = motet::load_weights(path);
  const motet::AnalyticPtr law = law_of(weights.provenance);
  const motet::NoiseSchedule schedule = weights.schedule;
  nlohmann::ordered_json json;
  json["law"] = law->describe();
  json["provenance"] = weights.provenance;
  json["num_samples"] = num_samples;
  json["levels"] = kLevels;
  const motet::ModelPtr network =
      motet::network_model(std::move(weights), path, motet::Compute::float32);
  for (const int64_t index : kLevels) {
    json["relative_error"].push_back(
        relative_error(*network, *law, schedule.level(index), num_samples));
  }
  return json;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: measure_score_error WEIGHTS.safetensors [NUM_SAMPLES]\n";
    return 2;
  }
  try {
    const int64_t num_samples = argc > 2 ? std::atoll(argv[2]) : kNumSamples;
    std::cout << measure(argv[1], num_samples).dump(1) << "\n";
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
