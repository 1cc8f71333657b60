// A diagnosis from a config: the same models, schedule and sampler as run() would take.
#include "motet/run_diagnose.hpp"

#include <torch/types.h>

#include "motet/error.hpp"
#include "motet/io.hpp"
#include "run_detail.hpp"
#include "sample_run.hpp"

namespace motet {
namespace {

using detail::Json;
using detail::number_or_null;

Json estimate_json(const Estimate& estimate) {
  return {{"value", number_or_null(estimate.value)},
          {"standard_error", number_or_null(estimate.standard_error)}};
}

Json levels_json(const std::vector<LevelDiagnosis>& levels) {
  Json list = Json::array();
  for (const LevelDiagnosis& row : levels) {
    list.push_back({{"index", row.level.index},
                    {"sigma", row.level.sigma()},
                    {"step_size", number_or_null(row.step_size)},
                    {"num_steps", row.num_steps},
                    {"num_measured", row.num_measured},
                    {"num_proposals", row.num_proposals},
                    {"num_invalid", row.num_invalid},
                    {"ess", number_or_null(row.ess)},
                    {"acceptance", number_or_null(row.acceptance)},
                    {"squared_jump", number_or_null(row.squared_jump)},
                    {"scale", number_or_null(row.scale)},
                    {"lag", estimate_json(row.lag)},
                    {"balance", estimate_json(row.balance)},
                    {"path_dependence", number_or_null(row.path_dependence)},
                    {"path_dependence_99", number_or_null(row.path_dependence_99)},
                    {"quadrature_error", number_or_null(row.quadrature_error)},
                    {"acceptance_error", number_or_null(row.acceptance_error)},
                    {"reference_error", number_or_null(row.reference_error)},
                    {"curl", estimate_json(row.curl)}});
  }
  return list;
}

Json held_out_json(const HeldOutTest& held_out) {
  if (held_out.target.empty()) {
    return {{"skipped", held_out.skipped}};
  }
  return {{"target", held_out.target},
          {"num_chains", held_out.num_chains},
          {"num_islands", held_out.num_islands},
          {"max_abs_z_mean", number_or_null(held_out.max_abs_z_mean)},
          {"max_abs_z_covariance", number_or_null(held_out.max_abs_z_covariance)},
          {"max_mean_error", number_or_null(held_out.max_mean_error)},
          {"max_covariance_error", number_or_null(held_out.max_covariance_error)},
          {"p_value", held_out.p_value},
          {"balance", estimate_json(held_out.balance)},
          {"balance_level", held_out.balance_level},
          {"num_balance_levels", held_out.num_balance_levels}};
}

Json diagnosis_json(const Diagnosis& diagnosis) {
  Json checks = Json::array();
  for (const Check& check : diagnosis.checks) {
    checks.push_back(
        {{"name", check.name}, {"light", to_string(check.light)}, {"sentence", check.sentence}});
  }
  return {{"light", to_string(diagnosis.light)},
          {"checks", std::move(checks)},
          {"levels", levels_json(diagnosis.levels)},
          {"held_out", held_out_json(diagnosis.held_out)}};
}

Json report_json(const SampleConfig& config, const Model& target, const NoiseSchedule& schedule,
                 const Sampler& sampler, const DiagnoseConfig& settings, const Diagnosis& diagnosis,
                 double seconds) {
  Json json;
  json["kind"] = "diagnose";
  json["config"] = detail::config_to_json(config.toml);
  json["config_toml"] = config.toml;
  json["seed"] = config.seed;
  json.update(detail::environment_json(config.device));
  json["compute"] = to_string(config.compute);
  json["num_chains"] = settings.num_chains;
  json["target"] = target.describe();
  json["schedule"] = schedule.describe();
  json["sampler"] = {{"name", sampler.name},
                     {"preset", sampler.preset},
                     {"kernel", sampler.kernel ? sampler.kernel->describe() : "none"}};
  json["evaluations_per_chain"] = diagnosis.evaluations_per_chain;
  json["diagnosis"] = diagnosis_json(diagnosis);
  json["seconds"] = {{"total", seconds}};
  json["peak_rss_bytes"] = detail::peak_rss_bytes();
  return json;
}

// The share of the work as a run's progress.
class Reporter {
 public:
  explicit Reporter(const RunHooks& hooks) : hooks_(hooks) {}

  bool operator()(double fraction) {
    ++step_;
    if (hooks_.progress) {
      Progress progress;
      progress.phase = "diagnose";
      progress.fraction = fraction;
      progress.step = step_;
      progress.seconds = watch_.seconds();
      progress.steps_per_second = static_cast<double>(step_) / progress.seconds;
      progress.seconds_left = progress.seconds * (1.0 - fraction) / fraction;
      hooks_.progress(progress);
    }
    return !(hooks_.should_stop && hooks_.should_stop());
  }

 private:
  const RunHooks& hooks_;
  detail::Stopwatch watch_;
  int64_t step_ = 0;
};

// Finds what the sampler leaves open first, as run() would.
Diagnosis diagnose_target(const SampleConfig& config, const ModelPtr& target,
                          const NoiseSchedule& schedule, Sampler& sampler,
                          const DiagnoseConfig& settings, const RunHooks& hooks) {
  try {
    if (sampler.anneal.adapt) {
      detail::tune_sampler(config, target, schedule, hooks, sampler);
    }
    Reporter reporter(hooks);
    return diagnose(target, schedule, sampler, settings, Rng(config.seed),
                    [&](double fraction) { return reporter(fraction); });
  } catch (const Interrupted&) {
    throw Interrupted("diagnose: interrupted; it keeps nothing: run it again from the start");
  }
}

}  // namespace

DiagnoseReport run_diagnose(const SampleConfig& config, const DiagnoseConfig& settings,
                            const RunFiles& files, const RunHooks& hooks) {
  detail::check_writable(files, {});
  const detail::Stopwatch watch;
  const ModelPtr target = load_target(config);
  const NoiseSchedule schedule = choose_schedule(config, *target);
  Sampler sampler = resolve_sampler(config, target, schedule);
  detail::check_sampler(config, sampler, *target);
  DiagnoseConfig whole = settings;
  whole.device = config.device;
  whole.exponents.clear();
  for (const Term& factor : factors(target)) {
    whole.exponents.push_back(factor.exponent);
  }
  DiagnoseReport report;
  report.diagnosis = diagnose_target(config, target, schedule, sampler, whole, hooks);
  report.json = detail::dump(
      report_json(config, *target, schedule, sampler, whole, report.diagnosis, watch.seconds()));
  if (!files.json.empty()) {
    write_file_atomic(files.json, report.json);
  }
  if (!files.report.empty()) {
    write_file_atomic(files.report, diagnose_page(report));
  }
  return report;
}

}  // namespace motet
