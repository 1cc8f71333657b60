// Simulation-based calibration of posterior samplers (Talts et al. 2018; its test quantities:
// Modrak et al. 2023). Run by tools/measure_sbc.py; prints one JSON object.
//
// usage: measure_sbc prior D
//        measure_sbc run D half|matrix SAMPLER DRAWS RANKS ISLAND [WEIGHTS.safetensors]
//
// theta is drawn from a mixture of Gaussians, y = A theta + noise, and RANKS samples of the
// posterior given y: if they have its law, the rank of a function of theta among them is uniform on
// 0 .. RANKS. The RANKS samples must be independent given y. Chains of one island are not, once
// they have resampled, so a weighted sampler has an island of ISLAND chains for each of them, from
// which one row is taken at random; elsewhere every chain is a sample. The step sizes are those of
// one pilot run over other draws of (theta, y). WEIGHTS: a network of the same mixture as prior.
//
// SAMPLER: exact; exact-unweighted, the same without weights; hmc-4-curve, u-la and reverse of the
// published table, without weights, all along the same guided scores.
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "motet/compose.hpp"
#include "motet/io.hpp"
#include "motet/likelihood.hpp"
#include "motet/preset.hpp"

namespace motet::experiments {
namespace {

using nlohmann::json;

constexpr uint64_t kSeed = 11;
constexpr int64_t kNumModes = 4;
constexpr double kNoiseSd = 0.5;
constexpr int64_t kNumPilot = 512;        // as many as the sampler's probe of the first level takes
constexpr int64_t kPilotIsland = 64;      // of one y
constexpr int64_t kTileNumbers = 400000;  // coordinates in memory at a time

struct Problem {
  int64_t d = 0;
  Tensor weights;  // (K)
  Tensor means;    // (K, d)
  Tensor sds;      // (K, d)
  Tensor matrix;   // (m, d)
  double prior_sd = 0.0;
  AnalyticPtr law;
};

// Modes as far apart, seen through the measurement, in any dimension: a y seldom tells for sure
// which one it came from.
Problem make_problem(int64_t d, const std::string& measurement) {
  Rng rng = Rng(kSeed).split("problem");
  const Tensor like = at::empty({kNumModes, d}, at::kDouble);
  Problem problem;
  problem.d = d;
  problem.means = rng.normal_like(like) * (1.5 * std::sqrt(2.0 / static_cast<double>(d)));
  problem.sds = 0.2 + 0.15 * rng.uniform_like(like);
  problem.weights = rng.uniform(kNumModes, like) + 0.5;
  problem.weights = problem.weights / problem.weights.sum();
  problem.law = gaussian_mixture(problem.weights, problem.means, problem.sds, "mixture");
  const Tensor share = problem.weights.unsqueeze(1);
  const Tensor mean = (share * problem.means).sum(0);
  const Tensor variance = (share * (problem.sds.square() + (problem.means - mean).square())).sum(0);
  problem.prior_sd = std::sqrt(variance.mean().item<double>());
  const Tensor identity = at::eye(d, at::kDouble);
  problem.matrix =
      measurement == "half" ? identity.narrow(0, 0, (d + 1) / 2) : rng.normal_like(identity);
  return problem;
}

// theta (N, d), and y (N, m) of each.
struct Draws {
  Tensor theta;
  Tensor y;
};

Draws draw(const Problem& problem, int64_t count, Rng rng) {
  Draws draws;
  draws.theta = problem.law->sample_data(count, rng);
  const Tensor clean = draws.theta.matmul(problem.matrix.t());
  draws.y = clean + kNoiseSd * rng.normal_like(clean);
  return draws;
}

// Given y (B, m), one row a chain.
ModelPtr posterior(const Problem& problem, const ModelPtr& prior, const Tensor& y) {
  return condition(prior, linear_gaussian(problem.matrix, y, at::tensor(kNoiseSd, at::kDouble),
                                          {.prior_sd = problem.prior_sd}));
}

struct Plan {
  Sampler sampler;
  AnnealConfig anneal;
  int64_t chains_per_sample = 1;
};

Tensor start(const Sampler& sampler, int64_t num_chains, int64_t d, Rng rng) {
  return sampler.start_sd * rng.normal_like(at::empty({num_chains, d}, at::kFloat));
}

Plan exact_plan(const Problem& problem, const ModelPtr& prior, const NoiseSchedule& schedule,
                int64_t island_size, bool is_weighted) {
  const Rng rng = Rng(kSeed).split("pilot");
  const Draws seen = draw(problem, kNumPilot / kPilotIsland, rng.split("draws"));
  const ModelPtr model =
      posterior(problem, prior, seen.y.repeat_interleave(kPilotIsland, 0).contiguous());
  Plan plan;
  plan.sampler = make_exact_sampler(model, schedule, {}, rng.split("probe"));
  AnnealConfig pilot = plan.sampler.anneal;
  pilot.weights->island_size = kPilotIsland;
  plan.anneal = tune(model, schedule, plan.sampler.kernel, pilot,
                     start(plan.sampler, kNumPilot, problem.d, rng.split("start")), rng)
                    .config;
  plan.anneal.weights->island_size = island_size;
  plan.chains_per_sample = island_size;
  if (!is_weighted) {
    plan.anneal.weights = std::nullopt;
    plan.chains_per_sample = 1;
  }
  return plan;
}

Plan make_plan(const Problem& problem, const ModelPtr& prior, const NoiseSchedule& schedule,
               const std::string& name, int64_t island_size) {
  if (name == "exact" || name == "exact-unweighted") {
    return exact_plan(problem, prior, schedule, island_size, name == "exact");
  }
  Plan plan;
  plan.sampler = make_sampler(name, "corrected", schedule);
  plan.anneal = plan.sampler.anneal;
  return plan;
}

// What is ranked of points (N, d), each with the y (N, m) that belongs to it: (Q, N).
std::vector<std::string> quantity_names() {
  return {"first coordinate, seen", "last coordinate", "log likelihood", "log prior"};
}

Tensor quantities(const Problem& problem, const Tensor& points, const Tensor& y) {
  const Tensor gap = (y - points.matmul(problem.matrix.t())) / kNoiseSd;
  return at::stack({points.select(1, 0), points.select(1, -1), -0.5 * gap.square().sum(1),
                    problem.law->log_density_data(points)});
}

struct Samples {
  Tensor points;  // (N, RANKS, d) float64
  int64_t evaluations = 0;
  double smallest_ess = 1.0;
  int64_t num_invalid = 0;
  int64_t num_proposals = 0;
};

// RANKS samples of each row of y.
Samples sample(const Problem& problem, const ModelPtr& prior, const NoiseSchedule& schedule,
               const Plan& plan, const Tensor& y, int64_t num_ranks) {
  const int64_t per_draw = num_ranks * plan.chains_per_sample;
  const int64_t per_tile = std::max<int64_t>(1, kTileNumbers / (per_draw * problem.d * kNumModes));
  const Rng rng = Rng(kSeed).split("chains");
  Samples all;
  std::vector<Tensor> parts;
  for (int64_t first = 0; first < y.size(0); first += per_tile) {
    const int64_t count = std::min(per_tile, y.size(0) - first);
    const Rng here = rng.for_chains(first * per_draw);
    const ModelPtr model =
        posterior(problem, prior, y.narrow(0, first, count).repeat_interleave(per_draw, 0));
    const SampleResult result =
        anneal(model, schedule, plan.sampler.kernel, plan.anneal,
               start(plan.sampler, count * per_draw, problem.d, here.split("start")), here);
    const Tensor islands =
        result.x.to(at::kDouble).view({count, num_ranks, plan.chains_per_sample, problem.d});
    const int64_t num_islands = count * num_ranks;
    const Tensor uniform =
        rng.split("pick").for_chains(first * num_ranks).uniform(num_islands, islands);
    const Tensor pick = (uniform * static_cast<double>(plan.chains_per_sample))
                            .to(at::kLong)
                            .view({count, num_ranks, 1, 1})
                            .expand({count, num_ranks, 1, problem.d});
    parts.push_back(islands.gather(2, pick).squeeze(2));
    all.evaluations = result.evaluations_per_chain;
    for (const LevelStats& level : result.levels) {
      all.num_invalid += level.num_invalid;
      all.num_proposals += level.num_proposals;
      if (!std::isnan(level.ess)) {
        all.smallest_ess = std::min(all.smallest_ess, level.ess);
      }
    }
  }
  all.points = at::cat(parts);
  return all;
}

// Of one quantity: theta's value (N) among the samples' (N, RANKS).
json rank_test(const std::string& name, const Tensor& truth, const Tensor& drawn) {
  const int64_t num_bins = drawn.size(1) + 1;
  const Tensor ranks = drawn.lt(truth.unsqueeze(1)).sum(1);
  const Tensor counts = at::bincount(ranks, {}, num_bins).to(at::kDouble);
  const double expected = static_cast<double>(truth.size(0)) / static_cast<double>(num_bins);
  const Tensor chi_square = (counts - expected).square().sum() / expected;
  const Tensor freedom = at::full({}, 0.5 * static_cast<double>(num_bins - 1), at::kDouble);
  const Tensor counted = counts.to(at::kLong).contiguous();
  return {{"quantity", name},
          {"counts", std::vector<int64_t>(counted.const_data_ptr<int64_t>(),
                                          counted.const_data_ptr<int64_t>() + num_bins)},
          {"chi_square", chi_square.item<double>()},
          {"p_value", at::special_gammaincc(freedom, 0.5 * chi_square).item<double>()}};
}

struct Arguments {
  int64_t d = 0;
  std::string measurement;
  std::string sampler;
  int64_t num_draws = 0;
  int64_t num_ranks = 0;
  int64_t island_size = 0;
  std::string weights;
};

json measure(const Arguments& given) {
  const Problem problem = make_problem(given.d, given.measurement);
  const ModelPtr prior = given.weights.empty()
                             ? ModelPtr(problem.law)
                             : network_model(load_weights(given.weights), "network");
  const NoiseSchedule schedule = prior->schedule().value_or(NoiseSchedule::cosine(100));
  const Draws truth = draw(problem, given.num_draws, Rng(kSeed).split("truth"));
  const Plan plan = make_plan(problem, prior, schedule, given.sampler, given.island_size);
  const Samples samples = sample(problem, prior, schedule, plan, truth.y, given.num_ranks);
  const Tensor of_truth = quantities(problem, truth.theta, truth.y);
  const Tensor of_samples = quantities(problem, samples.points.flatten(0, 1),
                                       truth.y.repeat_interleave(given.num_ranks, 0))
                                .view({-1, given.num_draws, given.num_ranks});
  json tests = json::array();
  const std::vector<std::string> names = quantity_names();
  for (size_t i = 0; i < names.size(); ++i) {
    const auto row = static_cast<int64_t>(i);
    tests.push_back(rank_test(names[i], of_truth[row], of_samples[row]));
  }
  const bool is_weighted = plan.anneal.weights.has_value();
  return {{"d", given.d},
          {"measurement", given.measurement},
          {"num_measurements", problem.matrix.size(0)},
          {"sampler", given.sampler},
          {"prior", given.weights.empty() ? "exact scores" : "network"},
          {"approximation", "tweedie"},
          {"prior_sd", problem.prior_sd},
          {"noise_sd", kNoiseSd},
          {"seed", kSeed},
          {"num_draws", given.num_draws},
          {"num_ranks", given.num_ranks},
          {"island_size", is_weighted ? json(given.island_size) : json(nullptr)},
          {"smallest_ess", is_weighted ? json(samples.smallest_ess) : json(nullptr)},
          {"evaluations_per_chain", samples.evaluations},
          {"num_proposals", samples.num_proposals},
          {"num_invalid", samples.num_invalid},
          {"tests", std::move(tests)}};
}

json rows_of(const Tensor& matrix) {
  json rows = json::array();
  for (int64_t i = 0; i < matrix.size(0); ++i) {
    const Tensor row = matrix[i].contiguous();
    rows.push_back(std::vector<double>(row.const_data_ptr<double>(),
                                       row.const_data_ptr<double>() + row.numel()));
  }
  return rows;
}

json describe_prior(int64_t d) {
  const Problem problem = make_problem(d, "half");
  return {{"weights", rows_of(problem.weights.unsqueeze(0))[0]},
          {"means", rows_of(problem.means)},
          {"sds", rows_of(problem.sds)}};
}

json answer(const std::vector<std::string>& words) {
  const auto number = [&words](size_t i) { return std::strtoll(words[i].c_str(), nullptr, 10); };
  if (words.size() == 2 && words[0] == "prior" && number(1) >= 1) {
    return describe_prior(number(1));
  }
  const bool is_run = (words.size() == 7 || words.size() == 8) && words[0] == "run" &&
                      (words[2] == "half" || words[2] == "matrix");
  if (!is_run || std::min({number(1), number(4), number(5)}) < 1 || number(6) < 2) {
    throw std::invalid_argument(
        "usage: measure_sbc prior D\n"
        "       measure_sbc run D half|matrix SAMPLER DRAWS RANKS ISLAND [WEIGHTS.safetensors]");
  }
  return measure({.d = number(1),
                  .measurement = words[2],
                  .sampler = words[3],
                  .num_draws = number(4),
                  .num_ranks = number(5),
                  .island_size = number(6),
                  .weights = words.size() == 8 ? words[7] : ""});
}

}  // namespace
}  // namespace motet::experiments

int main(int argc, char** argv) {
  try {
    const std::vector<std::string> words(argv + 1, argv + argc);
    std::cout << motet::experiments::answer(words).dump(1) << "\n";
  } catch (const std::invalid_argument& error) {
    std::cerr << error.what() << "\n";
    return 2;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
