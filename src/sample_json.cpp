// Every number of a sampling run as JSON. Keys are a promise to scripts: added to, never renamed.
#include <algorithm>

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
                    {"evaluations", level.evaluations}});
  }
  return list;
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
          {"last_map", to_string(anneal.last_map)}};
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
  json["seconds"] = {{"total", outcome.total_seconds}, {"network", outcome.network_seconds}};
  json["peak_rss_bytes"] = peak_rss_bytes();
  return json;
}

}  // namespace motet::detail
