// Every number of a sampling run as JSON. Keys are a promise to scripts: added to, never renamed.
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "run_target.hpp"
#include "sample_run.hpp"

namespace motet::detail {
namespace {

Json models_json(const SampleConfig& config, const std::map<std::string, WeightsSource>& sources) {
  Json list = Json::array();
  for (const TermConfig& term : config.terms) {
    Json model = {{"name", term.name}, {"exponent", term.exponent}};
    if (term.law) {
      model["law"] = term.law->describe();
    }
    if (term.likelihood) {
      model["likelihood"] = term.likelihood->describe();
    }
    if (term.classifier) {
      model["label"] = term.classifier->label;
    }
    if (!term.file().empty()) {
      const WeightsSource& source = sources.at(term.name);
      model["weights"] = term.file();
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
                                       [](const TermConfig& term) { return !term.file().empty(); });
  return has_network ? Json(to_string(compute_used(config.compute, config.device))) : Json(nullptr);
}

Json levels_json(const std::vector<LevelStats>& levels, const Sampler& sampler) {
  Json list = Json::array();
  for (size_t i = 0; i < levels.size(); ++i) {
    const LevelStats& level = levels[i];
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
      list.back()["families"] = level.families;
    }
    const auto points = sampler.kernel_config.line_points.find(level.index);
    if (points != sampler.kernel_config.line_points.end()) {
      list.back()["num_points"] = points->second;
    }
    const Tensor& mass = sampler.anneal.levels[i].mass;
    if (mass.defined() && level.num_steps > 0) {
      list.back()["mass_ratio"] = (mass.max() / mass.min()).item<double>();
    }
  }
  return list;
}

Json weights_json(const WeightConfig& weights) {
  return {{"rule", to_string(weights.rule)},        {"resampling", to_string(weights.resampling)},
          {"ess_threshold", weights.ess_threshold}, {"max_share", weights.max_share},
          {"island_size", weights.island_size},     {"matched", weights.matched},
          {"lowest_level", weights.lowest_level}};
}

Json modes_json(const ProductMetrics& metrics) {
  const ModeSet set = product_modes();
  Json list = Json::array();
  for (size_t k = 0; k < metrics.occupancy.size(); ++k) {
    const ModeOccupancy& mode = metrics.occupancy[k];
    const double* centre = set.centres.const_data_ptr<double>() + 2 * k;
    Json parts = Json::array();
    for (const double share : mode.island_fractions) {
      parts.push_back(number_or_null(share));
    }
    list.push_back({{"centre", {centre[0], centre[1]}},
                    {"exact_share", set.shares[k]},
                    {"share", mode.fraction},
                    {"binomial_error", mode.binomial_error},
                    {"group_error", number_or_null(mode.island_error)},
                    {"group_shares", std::move(parts)}});
  }
  return list;
}

Json coordinate_json(const CoordinateConvergence& row) {
  return {{"coordinate", row.coordinate}, {"rhat", number_or_null(row.rhat)},
          {"ess_bulk", row.ess_bulk},     {"ess_tail", row.ess_tail},
          {"mean", row.mean.value},       {"mean_error", row.mean.standard_error}};
}

double median_of(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Extremes and medians over all coordinates that were looked at, and the worst few in full.
Json convergence_json(const SampleOutcome& outcome) {
  if (outcome.convergence.empty()) {
    return {{"note", outcome.convergence_note}};
  }
  std::vector<CoordinateConvergence> rows = outcome.convergence;
  std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) {
    return (std::isnan(a.rhat) ? 0.0 : a.rhat) > (std::isnan(b.rhat) ? 0.0 : b.rhat);
  });
  std::vector<double> rhats;
  std::vector<double> bulks;
  std::vector<double> tails;
  for (const CoordinateConvergence& row : rows) {
    if (!std::isnan(row.rhat)) {
      rhats.push_back(row.rhat);
    }
    bulks.push_back(row.ess_bulk);
    tails.push_back(row.ess_tail);
  }
  constexpr size_t kShown = 5;
  Json worst = Json::array();
  for (size_t i = 0; i < std::min(rows.size(), kShown); ++i) {
    worst.push_back(coordinate_json(rows[i]));
  }
  return {{"num_chains", outcome.num_measured},
          {"num_coordinates", outcome.num_coordinates},
          {"num_coordinates_measured", rows.size()},
          {"rhat", rhats.empty() ? Json(nullptr) : Json(rhats.front())},
          {"ess_bulk", *std::min_element(bulks.begin(), bulks.end())},
          {"ess_tail", *std::min_element(tails.begin(), tails.end())},
          {"median_rhat", rhats.empty() ? Json(nullptr) : Json(median_of(rhats))},
          {"median_ess_bulk", median_of(bulks)},
          {"median_ess_tail", median_of(tails)},
          {"worst", std::move(worst)}};
}

// Level -1 is the sample itself, after the last map.
Json trace_json(const Trace& trace, const std::vector<LevelStats>& levels) {
  Json places = Json::array();
  for (const LevelStats& level : levels) {
    places.push_back(level.index);
  }
  places.push_back(-1);
  Json chains = Json::array();
  for (int64_t chain = 0; chain < trace.num_chains(); ++chain) {
    Json path = Json::array();
    for (int64_t i = 0; i < trace.values.size(0); ++i) {
      path.push_back(number_or_null(trace.values[i][chain].item<double>()));
    }
    chains.push_back(std::move(path));
  }
  return {{"value", trace.value}, {"levels", std::move(places)}, {"chains", std::move(chains)}};
}

Json log_weights_json(const SampleOutcome& outcome) {
  const Tensor& logs = outcome.log_weights;
  const Tensor finite = logs.masked_select(at::isfinite(logs));
  double share = 0.0;
  if (finite.numel() > 0) {
    const Tensor weights = (finite - finite.max()).exp();
    share = (weights.sum().square() / weights.square().sum()).item<double>() /
            static_cast<double>(logs.numel());
  }
  return {
      {"file", outcome.log_weights_file.empty() ? Json(nullptr) : Json(outcome.log_weights_file)},
      {"num_chains", logs.numel()},
      {"effective_share", share}};
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
          {"curvature", anneal.curvature.empty() ? Json(nullptr) : Json(anneal.curvature)},
          {"start_sd", sampler.start_sd},
          {"weights", anneal.weights ? weights_json(*anneal.weights) : Json(nullptr)}};
}

// Of a lone mixture, share and weight agree within errors when the ledger is right. Chains count as
// independent.
Json components_json(const SampleOutcome& outcome) {
  Json rows = Json::array();
  const auto count = static_cast<double>(outcome.shares.num_chains);
  for (size_t i = 0; i < outcome.component_names.size(); ++i) {
    const Tensor column = outcome.shares.sums.select(1, static_cast<int64_t>(i));
    const double mean = column[0].item<double>() / count;
    const double variance = std::max(column[1].item<double>() / count - mean * mean, 0.0);
    rows.push_back({{"component", outcome.component_names[i]},
                    {"weight", outcome.component_weights[i]},
                    {"share", number_or_null(mean)},
                    {"standard_error", number_or_null(std::sqrt(variance / count))}});
  }
  return rows;
}

// What the chains themselves say.
void add_chains(const SampleOutcome& outcome, Json& json) {
  json["groups"] =
      outcome.num_groups > 0 ? groups_json(outcome.groups_of, outcome.num_groups) : Json(nullptr);
  json["convergence"] = convergence_json(outcome);
  json["trace"] = trace_json(outcome.trace, outcome.levels);
  if (outcome.shares.num_chains > 0) {
    json["components"] = components_json(outcome);
  }
  if (outcome.log_weights.defined()) {
    json["log_weights"] = log_weights_json(outcome);
  }
}

}  // namespace

Json groups_json(const std::string& of, int64_t num_groups) {
  return {{"of", of}, {"num_groups", num_groups}};
}

Json errors_json(const std::map<std::string, MetricError>& errors) {
  Json json = Json::object();
  for (const auto& [key, error] : errors) {
    json[key] = {{"standard_error", number_or_null(error.standard_error)},
                 {"method", error.method}};
  }
  return json;
}

Json metrics_json(const ProductMetrics& metrics, int64_t num_samples) {
  const LogLikelihood& ll = metrics.log_likelihood;
  Json json = {{"target", "product"},
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
  if (!metrics.errors.empty()) {
    json["errors"] = errors_json(metrics.errors);
    json["modes"] = modes_json(metrics);
  }
  return json;
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
  json["target_notes"] = guidance_notes(config);
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
  json["levels"] = levels_json(outcome.levels, sampler);
  if (outcome.log_normalisers.defined()) {
    json["islands"] = islands_json(outcome.log_normalisers, sampler.anneal.weights->island_size);
  }
  add_chains(outcome, json);
  if (!outcome.images.is_null()) {
    json["images"] = outcome.images;
  }
  if (!outcome.seams.is_null()) {
    json["seams"] = outcome.seams;
  }
  if (outcome.tune) {
    json["tune"] = tune_json(*outcome.tune);
  }
  json["seconds"] = {{"total", outcome.total_seconds}, {"network", outcome.network_seconds}};
  json["peak_rss_bytes"] = peak_rss_bytes();
  return json;
}

}  // namespace motet::detail
