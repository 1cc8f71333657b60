// Recipes of the published table ([S23] Tables 1 and 2) as data, and the two readings of them.
//
// The paper's reference code counts its loop index i upward and evaluates level T - 1 - (i / 10),
// but stops the loops of the unadjusted samplers and of HMC after 10 (T - 1) steps, and starts
// HMC's index at 1. Hence u-la and u-hmc never see level 0, and hmc-* never sees level T - 1: the
// table compares laws of different levels (docs/reproduction.md). "paper" keeps that; "corrected"
// does not.
#include "motet/preset.hpp"

#include <torch/types.h>

#include <algorithm>

#include "motet/error.hpp"
#include "preset_start.hpp"

namespace motet {
namespace {

constexpr int64_t kStepsPerLevel = 10;
constexpr double kLangevinStepSize = 0.001;  // delta^2 / 2
constexpr double kLeapfrogStepSize = 0.03;
constexpr int64_t kNumLeapfrog = 3;
constexpr double kDamping = 0.5;

enum class Family { reverse, langevin, hamiltonian };
enum class Rule { unadjusted, energy, line, curve };

struct Recipe {
  std::string name;
  Family family;
  Rule rule;
  int64_t num_points = 0;  // of the line rule
};

const std::vector<Recipe>& recipes() {
  static const std::vector<Recipe> table = {
      {"reverse", Family::reverse, Rule::unadjusted},
      {"u-la", Family::langevin, Rule::unadjusted},
      {"la-energy", Family::langevin, Rule::energy},
      {"la-3-line", Family::langevin, Rule::line, 3},
      {"la-5-line", Family::langevin, Rule::line, 5},
      {"la-10-line", Family::langevin, Rule::line, 10},
      {"u-hmc", Family::hamiltonian, Rule::unadjusted},
      {"hmc-energy", Family::hamiltonian, Rule::energy},
      {"hmc-3-line", Family::hamiltonian, Rule::line, 3},
      {"hmc-4-curve", Family::hamiltonian, Rule::curve},
      {"hmc-5-line", Family::hamiltonian, Rule::line, 5},
      {"hmc-10-line", Family::hamiltonian, Rule::line, 10},
  };
  return table;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    text += (text.empty() ? "" : ", ") + word;
  }
  return text;
}

[[noreturn]] void throw_unknown(const std::string& what, const std::string& given,
                                const std::vector<std::string>& known) {
  const std::string near = nearest(given, known);
  throw ConfigError(what + ": unknown name \"" + given + "\"" +
                    (near.empty() ? "" : "; did you mean \"" + near + "\"?") +
                    (near.empty() ? "; known: " : " Known: ") + joined(known));
}

const Recipe& find_recipe(const std::string& name) {
  const auto found = std::find_if(recipes().begin(), recipes().end(),
                                  [&](const Recipe& recipe) { return recipe.name == name; });
  if (found == recipes().end()) {
    throw_unknown("sampler", name, table_sampler_names());
  }
  return *found;
}

KernelConfig kernel_config(const Recipe& recipe, bool as_published) {
  KernelConfig config;
  const bool adjusted = recipe.rule != Rule::unadjusted;
  if (recipe.family == Family::langevin) {
    config.type = adjusted ? "mala" : "ula";
  } else if (recipe.family == Family::hamiltonian) {
    config.type = !adjusted ? "uhmc" : as_published ? "hmc-unflipped" : "hmc";
    config.hmc = {.num_leapfrog = kNumLeapfrog, .damping = kDamping};
  }
  if (adjusted) {
    config.ratio = recipe.rule == Rule::energy ? "exact"
                   : recipe.rule == Rule::line ? "line"
                                               : "curve";
    config.num_points = recipe.num_points;
  }
  return config;
}

struct LevelRange {
  int64_t first;  // the noisier end
  int64_t last;
};

LevelRange level_range(const Recipe& recipe, bool as_published, int64_t num_levels) {
  LevelRange range{num_levels - 1, 0};
  if (as_published && recipe.family != Family::reverse) {
    if (recipe.rule == Rule::unadjusted) {
      range.last = 1;
    } else if (recipe.family == Family::hamiltonian) {
      range.first = num_levels - 2;
    }
  }
  return range;
}

AnnealConfig make_plan(const Recipe& recipe, bool as_published, const NoiseSchedule& schedule) {
  AnnealConfig plan;
  const bool is_reverse = recipe.family == Family::reverse;
  plan.placement = is_reverse ? Placement::none : Placement::pure;
  plan.reverse_step = ReverseStep::ancestral_beta_tilde;
  plan.last_map = is_reverse ? LastMap::tweedie : as_published ? LastMap::none : LastMap::curvature;
  const double step_size =
      recipe.family == Family::langevin ? kLangevinStepSize : kLeapfrogStepSize;
  const LevelRange range = level_range(recipe, as_published, schedule.num_levels());
  for (int64_t index = range.first; index >= range.last; --index) {
    plan.levels.push_back({.level = schedule.level(index),
                           .num_steps = is_reverse ? 0 : kStepsPerLevel,
                           .step_size = is_reverse ? 0.0 : step_size});
  }
  return plan;
}

int64_t count_evaluations(const Recipe& recipe, const AnnealConfig& plan) {
  const int64_t moves = recipe.family == Family::langevin ? 1 : kNumLeapfrog;
  const int64_t interior = recipe.rule == Rule::line ? recipe.num_points - 2 : 0;
  int64_t total = plan.last_map == LastMap::curvature ? 1 : 0;
  for (const LevelPlan& level : plan.levels) {
    total += 1 + level.num_steps * (moves + interior);
  }
  return total;
}

}  // namespace

LogRatioPtr make_ratio(const KernelConfig& config) {
  if (config.ratio == "exact") {
    return exact_ratio();
  }
  if (config.ratio == "line") {
    if (config.line_tolerance > 0.0) {
      return std::make_shared<PilotLineRatio>(LineTolerance{.tolerance = config.line_tolerance});
    }
    return config.line_points.empty() ? line_ratio(config.num_points, config.line_rule)
                                      : adaptive_line_ratio(config.line_points, config.line_rule);
  }
  if (config.ratio == "curve") {
    return curve_ratio(config.curve_rule, config.guard);
  }
  throw ConfigError("kernel: \"" + config.type + "\" with ratio \"" + config.ratio +
                    "\", must be exact, line or curve");
}

KernelPtr make_kernel(const KernelConfig& config) {
  const bool is_adjusted =
      config.type == "mala" || config.type == "hmc" || config.type == "hmc-unflipped";
  return make_kernel(config, is_adjusted ? make_ratio(config) : nullptr);
}

KernelPtr make_kernel(const KernelConfig& config, const LogRatioPtr& ratio) {
  const bool is_unadjusted = config.type.empty() || config.type == "ula" || config.type == "uhmc";
  if (is_unadjusted && !config.ratio.empty()) {
    throw ConfigError("kernel: \"" + config.type + "\" has no Metropolis test, but ratio \"" +
                      config.ratio + "\" is given; leave it out, or choose mala or hmc");
  }
  if (config.type.empty()) {
    return nullptr;
  }
  if (config.type == "ula") {
    return std::make_shared<Ula>();
  }
  if (config.type == "uhmc") {
    return std::make_shared<Uhmc>(config.hmc);
  }
  if (config.type == "mala") {
    return std::make_shared<Mala>(ratio);
  }
  if (config.type != "hmc" && config.type != "hmc-unflipped") {
    throw ConfigError("kernel: type = \"" + config.type +
                      "\", must be ula, mala, uhmc, hmc or hmc-unflipped");
  }
  return std::make_shared<Hmc>(
      config.hmc, ratio, config.type == "hmc" ? OnRejection::flip : OnRejection::keep_as_published);
}

const std::vector<std::string>& sampler_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list = table_sampler_names();
    list.insert(list.begin(), "exact");
    return list;
  }();
  return names;
}

const std::vector<std::string>& table_sampler_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Recipe& recipe : recipes()) {
      list.push_back(recipe.name);
    }
    return list;
  }();
  return names;
}

const std::vector<std::string>& preset_names() {
  static const std::vector<std::string> names = {"paper", "corrected"};
  return names;
}

Sampler make_sampler(const std::string& name, const std::string& preset,
                     const NoiseSchedule& schedule) {
  const Recipe& recipe = find_recipe(name);
  if (std::find(preset_names().begin(), preset_names().end(), preset) == preset_names().end()) {
    throw_unknown("preset", preset, preset_names());
  }
  if (schedule.num_levels() < 2) {
    throw ConfigError("preset: schedule " + schedule.describe() + " has " +
                      std::to_string(schedule.num_levels()) +
                      " level; the table's samplers need at least 2");
  }
  const bool as_published = preset == "paper";
  Sampler sampler;
  sampler.name = name;
  sampler.preset = preset;
  sampler.kernel_config = kernel_config(recipe, as_published);
  sampler.kernel = make_kernel(sampler.kernel_config);
  sampler.anneal = make_plan(recipe, as_published, schedule);
  sampler.needs_energy = recipe.rule == Rule::energy;
  sampler.evaluations_per_chain = count_evaluations(recipe, sampler.anneal);
  return sampler;
}

Tensor detail::starting_points(const Model& target, const Sampler& sampler, int64_t num_chains,
                               const std::string& device, const Rng& rng) {
  std::vector<int64_t> shape = target.event_shape();
  shape.insert(shape.begin(), num_chains);
  const auto options = at::TensorOptions().dtype(at::kFloat).device(at::Device(device));
  Tensor x = rng.split("init").normal_like(at::empty(shape, options)).mul_(sampler.start_sd);
  const std::vector<LevelPlan>& levels = sampler.anneal.levels;
  if (levels.empty() || sampler.start_sd != start_sd(target, levels.front().level)) {
    return x;
  }
  // start_sd is that of the coordinates under the smallest exponent; others are narrower.
  const Tensor relative = relative_start_sds(target, levels.front().level);
  return relative.dim() == 0 ? x : x.mul_(relative.to(options));
}

}  // namespace motet
