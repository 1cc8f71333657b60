// A named sampler with a config's overrides. The named one is a recipe (preset.hpp); every override
// that would have no effect on it is refused, so that no setting is silently ignored.
#include <torch/types.h>

#include <cmath>

#include "motet/error.hpp"
#include "motet/run.hpp"
#include "settings.hpp"

namespace motet {
namespace {

bool is_hamiltonian(const std::string& type) {
  return type == "uhmc" || type == "hmc" || type == "hmc-unflipped";
}

bool is_adjusted(const std::string& type) { return type == "mala" || type.rfind("hmc", 0) == 0; }

[[noreturn]] void fail(const SampleConfig& config, const std::string& why) {
  throw ConfigError("config: " + config.name + ": " + why);
}

std::string in_quotes(const std::string& word) { return "\"" + word + "\""; }

void set_type(const SampleConfig& config, KernelConfig& kernel, bool is_tuned) {
  const SamplerOverrides& overrides = config.overrides;
  if (!overrides.kernel) {
    return;
  }
  const std::string type = *overrides.kernel;
  const bool changes_unit =
      kernel.type.empty() || is_hamiltonian(type) != is_hamiltonian(kernel.type);
  if (changes_unit && !overrides.step_size && !is_tuned) {
    fail(config, "kernel.type = " + in_quotes(type) +
                     " changes the unit of the step size of sampler " + in_quotes(config.sampler) +
                     "; give kernel.step_size too");
  }
  if (is_adjusted(type) && kernel.ratio.empty() && !overrides.ratio) {
    fail(config, "kernel.type = " + in_quotes(type) + " needs a log ratio, but sampler " +
                     in_quotes(config.sampler) + " has none; give ratio.type");
  }
  if (!is_adjusted(type)) {
    kernel.ratio.clear();
  }
  kernel.type = type;
}

void set_hmc(const SampleConfig& config, KernelConfig& kernel) {
  const SamplerOverrides& overrides = config.overrides;
  const auto need = [&](bool given, const char* key) {
    if (given && !is_hamiltonian(kernel.type)) {
      fail(config, std::string(key) + " is given, but the kernel is " +
                       in_quotes(kernel.type.empty() ? "none" : kernel.type) +
                       "; it belongs to uhmc and hmc");
    }
  };
  need(overrides.num_leapfrog.has_value(), "kernel.num_leapfrog");
  need(overrides.damping.has_value(), "kernel.damping");
  need(overrides.mass.has_value(), "kernel.mass");
  kernel.hmc.num_leapfrog = overrides.num_leapfrog.value_or(kernel.hmc.num_leapfrog);
  kernel.hmc.damping = overrides.damping.value_or(kernel.hmc.damping);
  if (config.tune.diagonal_mass && !is_hamiltonian(kernel.type)) {
    fail(config, "tune.mass = \"diagonal\", but the kernel is " + in_quotes(kernel.type) +
                     "; it belongs to uhmc and hmc");
  }
  if (overrides.mass && overrides.mass->size() == 1) {
    kernel.hmc.mass = overrides.mass->front();
  }
}

void set_rule(const SampleConfig& config, KernelConfig& kernel) {
  const SamplerOverrides& overrides = config.overrides;
  if (overrides.ratio_rule) {
    const std::string rule = *overrides.ratio_rule;
    const bool fits = kernel.ratio == "line"    ? rule != "polynomial"
                      : kernel.ratio == "curve" ? rule == "trapezoid" || rule == "polynomial"
                                                : false;
    if (!fits) {
      fail(config, "ratio.rule = " + in_quotes(rule) + ", but ratio.type is " +
                       in_quotes(kernel.ratio) +
                       "; line takes trapezoid, simpson or gauss_lobatto, curve trapezoid or "
                       "polynomial, exact none");
    }
    if (kernel.ratio == "line") {
      kernel.line_rule = line_rule_from(rule);
    } else {
      kernel.curve_rule = curve_rule_from(rule);
    }
  }
  const bool can_guard = kernel.ratio == "curve" && kernel.curve_rule == CurveRule::polynomial;
  if (overrides.guard.value_or(0.0) > 0.0 && !can_guard) {
    fail(config, "ratio.guard belongs to ratio.type = \"curve\" with ratio.rule = \"polynomial\"");
  }
  kernel.guard = can_guard ? overrides.guard.value_or(kernel.guard) : 0.0;
}

void check_length(const SampleConfig& config, const char* key, size_t given, size_t levels) {
  if (given != 1 && given != levels) {
    fail(config, std::string(key) + " has " + std::to_string(given) +
                     " entries, must have 1, or one for each of the " + std::to_string(levels) +
                     " levels of the plan");
  }
}

// The number of points of a line: one, one a level, or left to the pilot run.
void set_points(const SampleConfig& config, const AnnealConfig& anneal, KernelConfig& kernel) {
  const SamplerOverrides& overrides = config.overrides;
  if (overrides.num_points) {
    const std::vector<int64_t>& points = *overrides.num_points;
    check_length(config, "ratio.num_points", points.size(), anneal.levels.size());
    kernel.num_points = points.size() == 1 ? points[0] : 0;
    for (size_t i = 0; i < anneal.levels.size() && points.size() > 1; ++i) {
      kernel.line_points[anneal.levels[i].level.index] = points[i];
    }
  }
  if (kernel.num_points > 0 || !kernel.line_points.empty()) {
    return;
  }
  if (!anneal.adapt) {
    fail(config, "ratio.num_points is missing; ratio.type = \"line\" needs it");
  }
  if (config.overrides.ratio_rule && kernel.line_rule != LineRule::gauss_lobatto) {
    fail(config,
         "ratio.num_points is missing; the pilot run finds it for ratio.rule = "
         "\"gauss_lobatto\" only");
  }
  kernel.line_rule = LineRule::gauss_lobatto;
  kernel.line_tolerance = config.tune.tolerance.value_or(LineTolerance{}.tolerance);
}

void set_ratio(const SampleConfig& config, const AnnealConfig& anneal, KernelConfig& kernel) {
  const SamplerOverrides& overrides = config.overrides;
  const bool given =
      overrides.ratio || overrides.ratio_rule || overrides.num_points || overrides.guard;
  if (given && !is_adjusted(kernel.type)) {
    fail(config, "[ratio] is given, but the kernel is " +
                     in_quotes(kernel.type.empty() ? "none" : kernel.type) +
                     ", which has no Metropolis test; leave it out, or choose mala or hmc");
  }
  kernel.ratio = overrides.ratio.value_or(kernel.ratio);
  if (overrides.num_points && kernel.ratio != "line") {
    fail(config,
         "ratio.num_points belongs to ratio.type = \"line\", but it is " + in_quotes(kernel.ratio));
  }
  if (config.tune.tolerance && kernel.ratio != "line") {
    fail(config,
         "tune.tolerance belongs to ratio.type = \"line\", but it is " + in_quotes(kernel.ratio));
  }
  set_rule(config, kernel);
  if (kernel.ratio == "line") {
    set_points(config, anneal, kernel);
  }
}

std::vector<LevelPlan> plan_levels(const SampleConfig& config, const NoiseSchedule& schedule,
                                   const std::vector<LevelPlan>& recipe) {
  const SamplerOverrides& overrides = config.overrides;
  std::vector<LevelPlan> plan = recipe;
  if (overrides.levels && config.sampler != "exact") {  // whose plan was made on them
    plan.clear();
    for (const int64_t index : *overrides.levels) {
      if (index >= schedule.num_levels()) {
        fail(config, "anneal.levels: " + std::to_string(index) + ", must be below " +
                         std::to_string(schedule.num_levels()) + " (" + schedule.describe() + ")");
      }
      // A recipe's levels all have the same work.
      plan.push_back({schedule.level(index), recipe.front().num_steps, recipe.front().step_size});
    }
  }
  if (overrides.steps_per_level) {
    const std::vector<int64_t>& steps = *overrides.steps_per_level;
    check_length(config, "anneal.steps_per_level", steps.size(), plan.size());
    for (size_t i = 0; i < plan.size(); ++i) {
      plan[i].num_steps = steps.size() == 1 ? steps[0] : steps[i];
    }
  }
  if (overrides.step_size) {
    const StepSizeRule& rule = *overrides.step_size;
    if (rule.factor == 0.0) {
      check_length(config, "kernel.step_size", rule.values.size(), plan.size());
    }
    for (size_t i = 0; i < plan.size(); ++i) {
      plan[i].step_size = rule.factor > 0.0
                              ? power_step_size(rule.factor, rule.power, plan[i].level)
                          : rule.values.size() == 1 ? rule.values[0]
                                                    : rule.values[i];
    }
  }
  if (overrides.mass && overrides.mass->size() > 1) {
    check_length(config, "kernel.mass", overrides.mass->size(), plan.size());
    for (size_t i = 0; i < plan.size(); ++i) {
      plan[i].mass = at::tensor((*overrides.mass)[i], at::kDouble);
    }
  }
  return plan;
}

void check_plan(const SampleConfig& config, const Sampler& sampler) {
  const SamplerOverrides& overrides = config.overrides;
  const bool moves = sampler.anneal.placement != Placement::none;
  if (moves && sampler.kernel == nullptr) {
    fail(config, "anneal.placement = " + in_quotes(to_string(sampler.anneal.placement)) +
                     " needs a kernel, but sampler " + in_quotes(config.sampler) +
                     " has none; give kernel.type and kernel.step_size");
  }
  if (!moves && (overrides.kernel || overrides.step_size || overrides.steps_per_level)) {
    fail(config, "[kernel] or anneal.steps_per_level is given, but sampler " +
                     in_quotes(config.sampler) + " takes no MCMC steps; give anneal.placement too");
  }
  if (moves && sampler.anneal.levels.front().num_steps == 0 && !overrides.steps_per_level) {
    fail(config, "anneal.steps_per_level is missing; sampler " + in_quotes(config.sampler) +
                     " has no MCMC steps of its own");
  }
  if (overrides.reverse_step && sampler.anneal.placement == Placement::pure) {
    fail(config,
         "anneal.reverse_step is given, but anneal.placement = \"pure\" takes no reverse steps");
  }
}

void set_weights(const SampleConfig& config, AnnealConfig& anneal) {
  const SamplerOverrides& overrides = config.overrides;
  const bool given = overrides.weight_rule || overrides.resampling || overrides.ess_threshold ||
                     overrides.max_share || overrides.island_size || overrides.matched ||
                     overrides.lowest_level;
  if (overrides.weighted && !*overrides.weighted) {
    if (given) {
      fail(config,
           "weights.enabled = false, but other keys of [weights] are given; leave them out");
    }
    anneal.weights.reset();
    return;
  }
  if (!anneal.weights && (given || overrides.weighted)) {
    anneal.weights = WeightConfig{};
  }
  if (!anneal.weights) {
    return;
  }
  WeightConfig& weights = *anneal.weights;
  weights.rule = overrides.weight_rule.value_or(weights.rule);
  weights.resampling = overrides.resampling.value_or(weights.resampling);
  weights.ess_threshold = overrides.ess_threshold.value_or(weights.ess_threshold);
  weights.max_share = overrides.max_share.value_or(weights.max_share);
  weights.island_size = overrides.island_size.value_or(weights.island_size);
  weights.matched = overrides.matched.value_or(weights.matched);
  weights.lowest_level = overrides.lowest_level.value_or(weights.lowest_level);
  if (anneal.placement == Placement::pure) {
    fail(config,
         "[weights] is given, but anneal.placement = \"pure\" takes no reverse steps to "
         "weight; give anneal.placement = \"before_reverse\"");
  }
}

// A matched step learns the score's divergence from leapfrogs in directions without preference, which
// a mass gives them.
void set_matched(const SampleConfig& config, Sampler& sampler) {
  AnnealConfig& anneal = sampler.anneal;
  const bool has_mass = config.overrides.mass || config.tune.diagonal_mass;
  if (!anneal.weights || !has_mass) {
    return;
  }
  if (config.overrides.matched.value_or(false)) {
    fail(config, "weights.matched = true needs unit masses, but " +
                     std::string(config.overrides.mass ? "kernel.mass" : "tune.mass") +
                     " is given; leave one of them out");
  }
  anneal.weights->matched = false;
}

void set_curvature(const SampleConfig& config, const ModelPtr& target, AnnealConfig& anneal) {
  if (!config.overrides.curvature) {
    return;
  }
  if (anneal.last_map != LastMap::curvature) {
    fail(config, "anneal.curvature is given, but anneal.last_map is " +
                     in_quotes(to_string(anneal.last_map)));
  }
  anneal.curvature = *config.overrides.curvature;
  const size_t num_factors = factors(target).size();
  if (anneal.curvature.size() != 1 && anneal.curvature.size() != num_factors) {
    fail(config, "anneal.curvature has " + std::to_string(anneal.curvature.size()) +
                     " entries, must have 1, or one for each of the " +
                     std::to_string(num_factors) + " factors of " + target->describe());
  }
}

double chosen_start(const SampleConfig& config, const Model& target, const Sampler& sampler) {
  if (!config.overrides.start) {
    return sampler.start_sd;
  }
  if (*config.overrides.start == "standard") {
    return 1.0;
  }
  const NoiseLevel& first = sampler.anneal.levels.front().level;
  const double exponent = total_exponent(target, first);
  if (!(exponent > 0.0)) {
    fail(config, "anneal.start = \"composition\", but the exponents of " + target.describe() +
                     " sum to " + std::to_string(exponent) + ", must be > 0");
  }
  return start_sd(target, first);
}

Sampler named_sampler(const SampleConfig& config, const ModelPtr& target,
                      const NoiseSchedule& schedule) {
  const SamplerOverrides& overrides = config.overrides;
  if (config.sampler != "exact") {
    if (overrides.evaluations) {
      fail(config, "evaluations is given, but sampler " + in_quotes(config.sampler) +
                       " has a fixed plan; it belongs to sampler \"exact\"");
    }
    return make_sampler(config.sampler, config.preset, schedule);
  }
  if (config.preset != "corrected") {
    fail(config, "preset = " + in_quotes(config.preset) +
                     " is of the published table's samplers; leave it out for sampler \"exact\"");
  }
  ExactConfig exact;
  exact.evaluations = overrides.evaluations.value_or(exact.evaluations);
  exact.num_leapfrog = overrides.num_leapfrog.value_or(0);
  exact.levels = overrides.levels.value_or(std::vector<int64_t>{});
  Sampler sampler =
      make_exact_sampler(target, schedule, exact, Rng(config.seed).split("start"), config.device);
  sampler.preset = config.preset;
  AdaptConfig& adapt = *sampler.anneal.adapt;
  adapt.target_acceptance = config.tune.target_acceptance.value_or(adapt.target_acceptance);
  adapt.rate = config.tune.rate.value_or(adapt.rate);
  adapt.start = config.tune.start.value_or(adapt.start);
  adapt.cap = config.tune.cap.value_or(adapt.cap);
  adapt.diagonal_mass = config.tune.diagonal_mass;
  adapt.max_disagreement = config.tune.max_disagreement.value_or(adapt.max_disagreement);
  return sampler;
}

}  // namespace

Sampler resolve_sampler(const SampleConfig& config, const ModelPtr& target,
                        const NoiseSchedule& schedule) {
  Sampler sampler = named_sampler(config, target, schedule);
  const SamplerOverrides& overrides = config.overrides;
  if (overrides.step_size) {
    sampler.anneal.adapt.reset();
  }
  AnnealConfig& anneal = sampler.anneal;
  anneal.levels = plan_levels(config, schedule, anneal.levels);
  set_type(config, sampler.kernel_config, anneal.adapt.has_value());
  set_hmc(config, sampler.kernel_config);
  set_ratio(config, anneal, sampler.kernel_config);
  sampler.kernel = make_kernel(sampler.kernel_config);
  sampler.needs_energy = sampler.kernel_config.ratio == "exact";
  anneal.placement = overrides.placement.value_or(anneal.placement);
  anneal.reverse_step = overrides.reverse_step.value_or(anneal.reverse_step);
  anneal.last_map = overrides.last_map.value_or(anneal.last_map);
  set_curvature(config, target, anneal);
  set_weights(config, anneal);
  set_matched(config, sampler);
  sampler.start_sd = chosen_start(config, *target, sampler);
  check_plan(config, sampler);
  sampler.evaluations_per_chain = 0;
  return sampler;
}

}  // namespace motet
