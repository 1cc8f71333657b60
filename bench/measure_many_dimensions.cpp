// What the theory of log ratios in the plane is worth in many dimensions: curl and path dependence
// of a field of scores, acceptance against step size, errors of the line's and the curve's rules on
// the same proposals, and what bfloat16 does to all that. Run by tools/measure_many_dimensions.py;
// prints one JSON object.
//
// usage: measure_many_dimensions SPEC.json
//
//   {"data": {"set": "scenes", "size": 32},      or {"set": "ring"}, {"file": "x.safetensors"}
//    "law": {"weights": "models/scenes"},        or {"num_means": 64, "sd": 0.1}, {"set": "ring"}
//    "inputs": {"class_labels": 10},             of a pretrained network; numbers or lists
//    "bfloat16": true,                           of a network: measure that arithmetic too
//    "sigmas": [0.05, 0.5], "num_chains": 64, "num_tuning": 30, "num_law_steps": 20, "seed": 1}
//
// Chains start as exact draws of an analytic law, of networks as data with the level's noise, and
// take num_tuning steps of the kernel of the sampler "exact", which finds its step size on them, and
// as many again that find the one of a given acceptance, before anything is measured. On analytic laws the truth of a log ratio is the difference of the log densities in
// float64; on networks, which have none, it is a line of 20 Gauss-Lobatto points.
#include <algorithm>
#include <array>
#include <cmath>
#include <iostream>
#include <numbers>

#include "motet/anneal.hpp"
#include "motet/diagnose.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "motet/preset.hpp"
#include "motet/pretrained.hpp"
#include "motet/train.hpp"
#include "ratio_experiments.hpp"

namespace motet::experiments {
namespace {

constexpr int64_t kNumLeapfrog = 2;  // the sampler's
constexpr int64_t kReferencePoints = 20;
constexpr int64_t kMalaPoints = 4;
constexpr int64_t kCurlProbes = 8;
constexpr double kFixedAcceptance = 0.8;

// Steps in units of d^(-1/6) local scales, which is what both MALA's noise and trajectories of a
// fixed number of leapfrogs scale by; and leapfrogs of trajectories of a fixed length.
constexpr std::array<double, 7> kSteps = {0.5, 0.7, 0.9, 1.1, 1.3, 1.6, 2.0};
constexpr std::array<int64_t, 6> kLeapfrogs = {1, 2, 3, 4, 6, 9};

struct Study {
  ModelPtr model;   // all that is known of the law
  ModelPtr scores;  // the same without its log density
  ModelPtr rough;   // in bfloat16; or null
  AnalyticPtr law;  // null for networks
  DataSetPtr data;
  NoiseSchedule schedule = NoiseSchedule::cosine(100);
  int64_t num_chains = 64;
  int64_t num_tuning = 30;
  int64_t num_law_steps = 20;
  Rng rng = Rng(1);
};

// --- what is measured on -------------------------------------------------------------------------

DataSetPtr read_data(const json& spec) {
  if (spec.contains("set")) {
    return spec["set"] == "scenes" ? scene_data({.size = spec.value("size", 32)})
                                   : builtin_data(spec["set"]);
  }
  const std::string path = spec.at("file");
  const bool is_safetensors = path.ends_with(".safetensors");
  const Tensor images =
      is_safetensors ? read_safetensors(path).tensors.at("images") : read_idx(path);
  return image_data(images, {}, {}, path);
}

ModelPtr read_network(const std::string& path, const json& spec, Compute compute) {
  if (pretrained_kind(path) == PretrainedKind::none) {
    return network_model(load_weights(path), "network", compute);
  }
  PretrainedOptions options{.compute = compute};
  const json inputs = spec.value("inputs", json::object());
  for (const auto& [name, value] : inputs.items()) {
    options.inputs[name] = value.is_array() ? at::tensor(value.get<std::vector<float>>())
                                            : at::scalar_tensor(value.get<double>());
  }
  return load_pretrained(path, "network", options);
}

AnalyticPtr read_law(const json& spec, const DataSet& data, const Rng& rng) {
  if (spec.contains("set")) {
    if (spec["set"] != "ring") {
      throw ConfigError("law.set must be \"ring\"");
    }
    return ring();
  }
  Rng draws = rng.split("means");
  const int64_t num_means = spec.at("num_means");
  const Tensor means = data.sample(num_means, draws).to(at::kDouble).flatten(1);
  const Tensor sds = at::full({num_means, 1}, spec.at("sd").get<double>(), at::kDouble);
  return reshaped(gaussian_mixture(at::ones({num_means}, at::kDouble), means, sds, "images"),
                  data.event_shape());
}

Study read_study(const json& spec) {
  Study study;
  study.data = read_data(spec.at("data"));
  study.num_chains = spec.at("num_chains");
  study.num_tuning = spec.at("num_tuning");
  study.num_law_steps = spec.value("num_law_steps", study.num_law_steps);
  study.rng = Rng(spec.at("seed").get<uint64_t>());
  const json& law = spec.at("law");
  if (law.contains("weights")) {
    study.model = read_network(law["weights"], spec, Compute::float32);
    const bool is_rough =
        spec.value("bfloat16", false) && compute_used(Compute::bfloat16) == Compute::bfloat16;
    study.rough = is_rough ? read_network(law["weights"], spec, Compute::bfloat16) : nullptr;
    study.schedule = study.model->schedule().value();
  } else {
    study.law = read_law(law, *study.data, study.rng);
    study.model = study.law;
    study.schedule = NoiseSchedule::linear(1000);
  }
  study.scores = study.model->is_exact() ? score_only(study.model) : study.model;
  if (study.rough && study.rough->is_exact()) {
    study.rough = score_only(study.rough);
  }
  return study;
}

NoiseLevel nearest_level(const NoiseSchedule& schedule, double sigma) {
  NoiseLevel found = schedule.level(0);
  for (int64_t i = 1; i < schedule.num_levels(); ++i) {
    const NoiseLevel level = schedule.level(i);
    if (std::abs(level.sigma() - sigma) < std::abs(found.sigma() - sigma)) {
      found = level;
    }
  }
  return found;
}

Tensor start(const Study& study, const NoiseLevel& level) {
  Rng draws = study.rng.split("start").at(level.index, 0);
  if (study.law) {
    return study.law->sample_level(study.num_chains, level, draws);
  }
  const Tensor x = study.data->sample(study.num_chains, draws).to(at::kFloat);
  return std::sqrt(level.alpha_bar) * x + level.sigma() * draws.normal_like(x);
}

// --- summaries -----------------------------------------------------------------------------------

Tensor finite(const Tensor& values) { return values.masked_select(at::isfinite(values)); }

Tensor probability(const Tensor& log_accept) { return log_accept.clamp_max(0.0).exp(); }

json mean_error(const Tensor& values) {
  return {values.mean().item<double>(),
          values.std().item<double>() / std::sqrt(static_cast<double>(values.numel()))};
}

json spread(const Tensor& all) {
  const Tensor values = finite(all);
  return {{"sd", values.std().item<double>()},
          {"mean", values.mean().item<double>()},
          {"quantiles", quantiles(values.abs())},
          {"count", values.numel()}};
}

double event_dim(const Tensor& x) { return static_cast<double>(x[0].numel()); }

// --- step sizes ----------------------------------------------------------------------------------

struct Tuned {
  double step_size = 0.0;
  double acceptance = 0.0;
  Tensor x;
};

// As the sampler "exact" does it; max_disagreement = 1: by the acceptance alone.
// Each call needs random numbers of its own: chains that meet the same momenta twice drift.
Tuned tune_steps(const Study& study, const NoiseLevel& level, const Tensor& x,
                 double max_disagreement, const Rng& rng) {
  const double cap = 0.5 * std::numbers::pi / static_cast<double>(kNumLeapfrog);
  AnnealConfig plan;
  plan.levels = {{.level = level, .num_steps = study.num_tuning}};
  plan.adapt = AdaptConfig{.target_acceptance = kFixedAcceptance,
                           .start = std::min(0.6, cap),
                           .cap = cap,
                           .max_disagreement = max_disagreement};
  const auto kernel = std::make_shared<Hmc>(HmcConfig{.num_leapfrog = kNumLeapfrog, .damping = 0.0},
                                            curve_ratio(CurveRule::polynomial));
  const TuneResult tuned = tune(study.scores, study.schedule, kernel, plan, x, rng);
  const LevelStats& stats = tuned.pilot.levels.front();
  return {tuned.config.levels.front().step_size,
          static_cast<double>(stats.num_accepted) / static_cast<double>(stats.num_proposals),
          tuned.pilot.x};
}

// --- path dependence -----------------------------------------------------------------------------

json measure_paths(const ModelPtr& scores, const NoiseLevel& level, const Tensor& x,
                   double step_size, const Rng& rng) {
  const Target target(scores, level);
  KernelConfig kernel{.type = "hmc",
                      .hmc = {.num_leapfrog = kNumLeapfrog, .damping = 0.0},
                      .ratio = "curve",
                      .curve_rule = CurveRule::polynomial};
  json steps = json::array();
  for (const double factor : {0.5, 1.0}) {
    Rng draws = rng.split("paths");
    const PathProbe probe = probe_paths(target, kernel, factor * step_size, x, draws);
    steps.push_back({{"factor", factor},
                     {"step_size", factor * step_size},
                     {"path_dependence", spread(probe.path_dependence)},
                     {"quadrature_error", spread(probe.quadrature_error)},
                     {"reference_error", spread(probe.reference_error)}});
  }
  Rng draws = rng.split("curl");
  const Estimate curl = curl_ratio(target, x, kCurlProbes, draws);
  return {{"curl", {curl.value, curl.standard_error}}, {"steps", std::move(steps)}};
}

// --- acceptance ----------------------------------------------------------------------------------

json accepted(const Study& study, const NoiseLevel& level, const Tensor& x, const Kernel& kernel,
              double step_size) {
  const Target target(study.model, level);
  const Tensor found = log_accept(kernel, target, x, step_size, study.rng.split("accept"));
  const Estimate balance = balance_residual(found);
  return {{"step_size", step_size},
          {"acceptance", mean_error(probability(found))},
          {"log_accept", spread(found)},
          {"balance", {balance.value, balance.standard_error}}};
}

json measure_steps(const Study& study, const NoiseLevel& level, const Tensor& x, double scale) {
  const bool is_exact = study.model->is_exact();
  const LogRatioPtr ratio = is_exact ? exact_ratio() : curve_ratio(CurveRule::polynomial);
  const Mala mala(is_exact ? exact_ratio() : line_ratio(kMalaPoints, LineRule::gauss_lobatto));
  const double unit = scale * std::pow(event_dim(x), -1.0 / 6.0);
  json found = {
      {"hmc", json::array()}, {"hmc, fixed length", json::array()}, {"mala", json::array()}};
  for (const double step : kSteps) {
    const Hmc hmc({.num_leapfrog = kNumLeapfrog, .damping = 0.0}, ratio);
    found["hmc"].push_back(accepted(study, level, x, hmc, step * unit));
    found["mala"].push_back(accepted(study, level, x, mala, mala.step_size_for(step * unit)));
  }
  const double length = 0.5 * std::numbers::pi * scale;
  for (const int64_t num_leapfrog : kLeapfrogs) {
    const Hmc hmc({.num_leapfrog = num_leapfrog, .damping = 0.0}, ratio);
    json row = accepted(study, level, x, hmc, length / static_cast<double>(num_leapfrog));
    row["num_leapfrog"] = num_leapfrog;
    found["hmc, fixed length"].push_back(std::move(row));
  }
  return found;
}

// --- rules ---------------------------------------------------------------------------------------

std::vector<Rule> all_rules() {
  std::vector<Rule> rules = {curve(CurveRule::trapezoid), curve(CurveRule::polynomial)};
  for (const int64_t num_points : {2, 3, 5, 10}) {
    rules.push_back(line(num_points, LineRule::trapezoid));
  }
  rules.push_back(line(3, LineRule::simpson));
  rules.push_back(line(5, LineRule::simpson));
  for (const int64_t num_points : {3, 4, 5, 10}) {
    rules.push_back(line(num_points, LineRule::gauss_lobatto));
  }
  return rules;
}

// log p(back) - log p(front) by what is known best.
Tensor true_ratio(const Study& study, const NoiseLevel& level, const Path& path) {
  if (study.model->is_exact()) {
    const Target known(study.model, level);
    return known.evaluate(path.points.back()).log_density -
           known.evaluate(path.points.front()).log_density;
  }
  return line_ratio(kReferencePoints, LineRule::gauss_lobatto)
      ->estimate(Target(study.scores, level), path);
}

// Rules on the proposals of one trajectory of every chain.
json judge(const Study& study, const NoiseLevel& level, const Tensor& x, int64_t num_leapfrog,
           double step_size, const std::vector<Rule>& rules) {
  const Target target(study.scores, level);
  const LogRatioPtr trapezoid = curve_ratio(CurveRule::trapezoid);
  const Hmc hmc({.num_leapfrog = num_leapfrog, .damping = 0.0}, trapezoid);
  Rng draws = study.rng.split("judged");
  const Step step = hmc.step(target, {x, target.evaluate(x), {}}, step_size, draws);
  const Tensor rest = step.info.log_accept - trapezoid->estimate(target, step.path);
  const Tensor truth = true_ratio(study, level, step.path);
  const Tensor chance = probability(truth + rest);
  json found = json::array();
  for (const Rule& rule : rules) {
    const Tensor estimate = rule.ratio->estimate(target, step.path);
    const Tensor change = finite(probability(estimate + rest) - chance);
    found.push_back({{"rule", rule.family},
                     {"num_points", rule.num_points},
                     {"evaluations", rule.ratio->num_evaluations()},
                     {"error", spread(estimate - truth)},
                     {"decision_error", mean_error(change.abs())},
                     {"acceptance_change", mean_error(change)}});
  }
  return {{"num_leapfrog", num_leapfrog},
          {"step_size", step_size},
          {"acceptance", mean_error(finite(chance))},
          {"log_accept", spread(truth + rest)},
          {"rules", std::move(found)}};
}

// Four evaluations a proposal of one length, spent on leapfrogs or on points of the line.
json measure_costs(const Study& study, const NoiseLevel& level, const Tensor& x, double length) {
  const std::vector<std::pair<int64_t, std::vector<Rule>>> ways = {
      {4,
       {curve(CurveRule::trapezoid), curve(CurveRule::polynomial), line(2, LineRule::trapezoid)}},
      {3, {line(3, LineRule::trapezoid), line(3, LineRule::simpson)}},
      {2, {line(4, LineRule::trapezoid), line(4, LineRule::gauss_lobatto)}}};
  json found = json::array();
  for (const auto& [num_leapfrog, rules] : ways) {
    const double step_size = length / static_cast<double>(num_leapfrog);
    found.push_back(judge(study, level, x, num_leapfrog, step_size, rules));
  }
  return found;
}

// --- bfloat16 ------------------------------------------------------------------------------------

struct Chains {
  Tensor x;
  Tensor log_accept;  // (B, num_steps)
};

Chains run_chains(const ModelPtr& scores, const NoiseLevel& level, const Tensor& x,
                  double step_size, int64_t num_steps, const Rng& rng) {
  const Target target(scores, level);
  const Hmc hmc({.num_leapfrog = kNumLeapfrog, .damping = 0.0}, curve_ratio(CurveRule::polynomial));
  ChainState state{x, target.evaluate(x), {}};
  std::vector<Tensor> all;
  for (int64_t i = 0; i < num_steps; ++i) {
    Rng draws = rng.at(level.index, i);
    Step step = hmc.step(target, state, step_size, draws);
    state = step.state;
    all.push_back(step.info.log_accept);
  }
  return {state.x, at::stack(all, 1)};
}

// What the two laws are compared by, all by scores in float32: (B) each.
std::vector<std::pair<std::string, Tensor>> statistics(const ModelPtr& scores,
                                                       const NoiseLevel& level, const Tensor& x) {
  const Tensor score = Target(scores, level).evaluate(x).score.to(at::kDouble).flatten(1);
  const Tensor y = x.to(at::kDouble).flatten(1);
  return {{"|x|^2 / d", y.square().mean(1)},
          {"sigma^2 |score|^2 / d", level.sigma() * level.sigma() * score.square().mean(1)},
          {"mean of x", y.mean(1)}};
}

// Chains from the same starts by the same random numbers in both arithmetics.
json compare_chains(const Study& study, const NoiseLevel& level, const Tensor& x,
                    double step_size) {
  const Rng rng = study.rng.split("law");
  const Chains fine = run_chains(study.scores, level, x, step_size, study.num_law_steps, rng);
  const Chains rough = run_chains(study.rough, level, x, step_size, study.num_law_steps, rng);
  json laws = json::array();
  const auto of_fine = statistics(study.scores, level, fine.x);
  const auto of_rough = statistics(study.scores, level, rough.x);
  for (size_t i = 0; i < of_fine.size(); ++i) {
    laws.push_back({{"statistic", of_fine[i].first},
                    {"float32", mean_error(of_fine[i].second)},
                    {"difference", mean_error(of_rough[i].second - of_fine[i].second)}});
  }
  const auto chance = [](const Chains& chains) {
    return mean_error(probability(chains.log_accept).mean(1));
  };
  const Estimate balance = balance_residual(fine.log_accept);
  const Estimate rough_balance = balance_residual(rough.log_accept);
  return {{"num_steps", study.num_law_steps},
          {"acceptance", chance(fine)},
          {"acceptance_bfloat16", chance(rough)},
          {"balance", {balance.value, balance.standard_error}},
          {"balance_bfloat16", {rough_balance.value, rough_balance.standard_error}},
          {"laws", std::move(laws)}};
}

json measure_rough(const Study& study, const NoiseLevel& level, const Tensor& x, double step_size) {
  const Target target(study.scores, level);
  const Target rough(study.rough, level);
  const LogRatioPtr ratio = curve_ratio(CurveRule::polynomial);
  const Hmc hmc({.num_leapfrog = kNumLeapfrog, .damping = 0.0}, ratio);
  Rng draws = study.rng.split("judged");
  const Step step = hmc.step(target, {x, target.evaluate(x), {}}, step_size, draws);
  Path path = step.path;
  for (size_t i = 0; i < path.points.size(); ++i) {
    path.evals[i] = rough.evaluate(path.points[i]);
  }
  const Tensor noise = ratio->estimate(rough, path) - ratio->estimate(target, step.path);
  const Tensor change =
      probability(step.info.log_accept + noise) - probability(step.info.log_accept);
  const Tensor gap = path.evals.front().score - step.path.evals.front().score;
  json found = measure_paths(study.rough, level, x, step_size, study.rng);
  found["score_error"] =
      gap.norm().item<double>() / step.path.evals.front().score.norm().item<double>();
  found["noise"] = spread(noise);
  found["decision_error"] = mean_error(change.abs());
  found["acceptance_change"] = mean_error(change);
  found["chains"] = compare_chains(study, level, x, step_size);
  return found;
}

// --- a level -------------------------------------------------------------------------------------

json measure_level(const Study& study, double sigma) {
  const NoiseLevel level = nearest_level(study.schedule, sigma);
  const Tuned sampler =
      tune_steps(study, level, start(study, level), 0.01, study.rng.split("tune"));
  const Tuned fixed = tune_steps(study, level, sampler.x, 1.0, study.rng.split("tune again"));
  const Tensor& x = fixed.x;
  const double scale = local_scale(Target(study.scores, level).evaluate(x).score);
  json found = {{"level", level.index},
                {"sigma", level.sigma()},
                {"scale", scale},
                {"step_size", sampler.step_size},
                {"acceptance", sampler.acceptance},
                {"step_size_fixed", fixed.step_size}};
  found["paths"] = measure_paths(study.scores, level, x, sampler.step_size, study.rng);
  found["steps"] = measure_steps(study, level, x, scale);
  found["rules"] = judge(study, level, x, kNumLeapfrog, fixed.step_size, all_rules());
  const double length = static_cast<double>(kNumLeapfrog) * fixed.step_size;
  found["costs"] = measure_costs(study, level, x, length);
  if (study.rough) {
    found["bfloat16"] = measure_rough(study, level, x, sampler.step_size);
  }
  return found;
}

json measure(const json& spec) {
  const Study study = read_study(spec);
  json levels = json::array();
  for (const double sigma : spec.at("sigmas")) {
    levels.push_back(measure_level(study, sigma));
  }
  int64_t d = 1;
  for (const int64_t size : study.model->event_shape()) {
    d *= size;
  }
  return {{"model", study.model->describe()},
          {"schedule", study.schedule.describe()},
          {"d", d},
          {"has_bfloat16", study.rough != nullptr},
          {"levels", std::move(levels)}};
}

}  // namespace
}  // namespace motet::experiments

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: measure_many_dimensions SPEC.json\n";
    return 2;
  }
  try {
    const auto spec = nlohmann::json::parse(motet::read_file(argv[1]));
    std::cout << motet::experiments::measure(spec).dump(1) << "\n";
  } catch (const std::exception& error) {
    std::cerr << "measure_many_dimensions: " << error.what() << "\n";
    return 1;
  }
}
