// Every number of a sampling run as JSON. Keys are a promise to scripts: added to, never renamed.
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "sample_run.hpp"

namespace motet::detail {
namespace {

Json models_json(const SampleConfig& config, const std::map<std::string, WeightsSource>& sources) {
  Json list = Json::array();
  for (const TermConfig& term : config.terms) {
    Json model = {{"name", term.name}, {"exponent", term.exponent}};
    if (term.law) {
      model["law"] = term.law->describe();
    } else {
      const WeightsSource& source = sources.at(term.name);
      model["weights"] = term.weights;
      model["hash"] = source.hash;
      model["metadata"] = source.metadata;
    }
    list.push_back(std::move(model));
  }
  return list;
}

// The arithmetic that the networks really ran in; null where every factor is an analytic law.
Json compute_used_json(const SampleConfig& config) {
  const bool has_network = std::any_of(config.terms.begin(), config.terms.end(),
                                       [](const TermConfig& term) { return !term.law; });
  return has_network ? Json(to_string(compute_used(config.compute, config.device))) : Json(nullptr);
}

Json levels_json(const std::vector<LevelStats>& levels) {
  Json list = Json::array();
  for (const LevelStats& level : levels) {
    list.push_back({{"index", level.index},
                    {"acceptance", number_or_null(level.acceptance())},
                    {"step_size", level.step_size},
                    {"num_steps", level.num_steps},
                    {"num_invalid", level.num_invalid},
                    {"squared_jump", number_or_null(level.squared_jump)},
                    {"evaluations", level.evaluations}});
    if (std::isfinite(level.ess)) {  // weighted, and not the level that chains start at
      list.back()["ess"] = level.ess;
      list.back()["num_resampled"] = level.num_resampled;
    }
  }
  return list;
}

Json weights_json(const WeightConfig& weights) {
  return {{"rule", to_string(weights.rule)},        {"resampling", to_string(weights.resampling)},
          {"ess_threshold", weights.ess_threshold}, {"max_share", weights.max_share},
          {"island_size", weights.island_size},     {"matched", weights.matched}};
}

// Islands are independent, so their spread is the error of their mean.
Json islands_json(const Tensor& log_normalisers, int64_t island_size) {
  const int64_t count = log_normalisers.size(0);
  const double error =
      count < 2 ? std::nan("")
                : (log_normalisers.std() / std::sqrt(static_cast<double>(count))).item<double>();
  return {{"island_size", island_size},
          {"num_islands", count},
          {"log_normaliser_ratio", number_or_null(log_normalisers.mean().item<double>())},
          {"log_normaliser_ratio_mc_error", number_or_null(error)}};
}

Json tune_json(const TuneRecord& tune) {
  return {{"num_chains", tune.num_chains},
          {"evaluations_per_chain", tune.evaluations_per_chain},
          {"seconds", tune.seconds}};
}

Json sampler_json(const Sampler& sampler) {
  const AnnealConfig& anneal = sampler.anneal;
  return {{"name", sampler.name},
          {"preset", sampler.preset},
          {"kernel", sampler.kernel ? sampler.kernel->describe() : "none"},
          {"kernel_type", sampler.kernel_config.type},
          {"ratio", sampler.kernel_config.ratio},
          {"placement", to_string(anneal.placement)},
          {"reverse_step", to_string(anneal.reverse_step)},
          {"last_map", to_string(anneal.last_map)},
          {"curvature", anneal.curvature > 0.0 ? Json(anneal.curvature) : Json(nullptr)},
          {"start_sd", sampler.start_sd},
          {"weights", anneal.weights ? weights_json(*anneal.weights) : Json(nullptr)}};
}

}  // namespace

Json metrics_json(const ProductMetrics& metrics, int64_t num_samples) {
  const LogLikelihood& ll = metrics.log_likelihood;
  return {{"target", "product"},
          {"num_samples", num_samples},
          {"num_pairwise", metrics.num_pairwise},
          {"ll_true", number_or_null(ll.ll_true)},
          {"ll_paper", number_or_null(ll.ll_paper)},
          {"num_outside_support", ll.num_outside_support},
          {"w2", number_or_null(metrics.w2)},
          {"w2_paper", number_or_null(metrics.w2_paper)},
          {"w2_folded", number_or_null(metrics.w2_folded)},
          {"gmm", number_or_null(metrics.gmm)},
          {"gmm_paper", number_or_null(metrics.gmm_paper)},
          {"energy_distance", number_or_null(metrics.energy_distance)},
          {"mmd_squared", number_or_null(metrics.mmd_squared)},
          {"fraction_outside_modes", metrics.modes.fraction_outside_modes},
          {"mode_fractions", metrics.modes.mode_fractions},
          {"mode_sd", metrics.modes.mode_sd}};
}

Json sample_json(const SampleConfig& config, const Sampler& sampler, const SampleOutcome& outcome) {
  Json json;
  json["kind"] = "sample";
  json["config"] = config_to_json(config.toml);
  json["config_toml"] = config.toml;
  json["seed"] = config.seed;
  json.update(environment_json(config.device));
  json["dtype"] = "float32";
  json["compute"] = to_string(config.compute);
  json["compute_used"] = compute_used_json(config);
  json["num_chains"] = config.num_samples;
  json["target"] = outcome.target;
  json["schedule"] = outcome.schedule;
  json["models"] = models_json(config, outcome.sources);
  json["sampler"] = sampler_json(sampler);
  json["metrics"] =
      outcome.metrics ? metrics_json(*outcome.metrics, outcome.num_measured) : Json(nullptr);
  if (outcome.metrics) {
    json["metrics"]["num_not_finite"] = outcome.num_not_finite;
  }
  if (!outcome.metrics_note.empty()) {
    json["metrics_note"] = outcome.metrics_note;
  }
  int64_t evaluations = 0;
  for (const LevelStats& level : outcome.levels) {
    evaluations += level.evaluations;
  }
  json["evaluations_per_chain"] = evaluations;
  json["levels"] = levels_json(outcome.levels);
  if (outcome.log_normalisers.defined()) {
    json["islands"] = islands_json(outcome.log_normalisers, sampler.anneal.weights->island_size);
  }
  if (outcome.tune) {
    json["tune"] = tune_json(*outcome.tune);
  }
  json["seconds"] = {{"total", outcome.total_seconds}, {"network", outcome.network_seconds}};
  json["peak_rss_bytes"] = peak_rss_bytes();
  return json;
}

}  // namespace motet::detail
