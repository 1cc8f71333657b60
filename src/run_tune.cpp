// The pilot run of a sampling run: a few hundred chains go through the plan once, finding the step
// sizes and the curvature that it leaves open. The run that follows is then a fixed kernel, so its
// chains are independent of each other (of other islands) and of their number.
#include <torch/types.h>

#include <cmath>
#include <filesystem>
#include <sstream>

#include "config_target.hpp"
#include "motet/error.hpp"
#include "preset_start.hpp"
#include "run_target.hpp"
#include "sample_run.hpp"
#include "settings.hpp"

namespace motet {
namespace detail {
namespace {

// A step that leaves fewer effective chains than this share is one that the trapezoid does not
// resolve, or across which networks err: its weights are noise. Where weights were right, in up to
// 784 dimensions, no step left less than .1 of the chains while MCMC could still part the copies
// (docs/many-dimensions.md).
constexpr double kSmallestStep = 0.1;
// Weights that leave an island fewer families than this, or than this share of its chains, have
// little left to say of the modes' masses, and less of the modes' insides.
constexpr double kFewestFamilies = 8.0;
constexpr double kFewestShare = 0.25;

// The share of effective chains that the step to a level left.
double step_share(const LevelStats& before, const LevelStats& here) {
  const bool began_even = before.num_resampled > 0 || std::isnan(before.ess);
  return began_even ? here.ess : here.ess / before.ess;
}

// Reports the pilot's progress; false to stop.
Observer pilot_observer(const AnnealConfig& plan, const RunHooks& hooks) {
  Progress progress;
  progress.phase = "tune";
  for (size_t i = 0; i < plan.levels.size(); ++i) {
    progress.num_steps += steps_of(plan, i);
  }
  return [progress, watch = Stopwatch(), &hooks, &plan](const AnnealState& state) mutable {
    progress.step = std::min(progress.step + 1, progress.num_steps);
    if (hooks.progress) {
      progress.fraction =
          static_cast<double>(progress.step) / static_cast<double>(progress.num_steps);
      progress.seconds = watch.seconds();
      progress.steps_per_second = static_cast<double>(progress.step) / progress.seconds;
      progress.seconds_left =
          static_cast<double>(progress.num_steps - progress.step) / progress.steps_per_second;
      const auto last = static_cast<int64_t>(plan.levels.size()) - 1;
      progress.level =
          plan.levels[static_cast<size_t>(std::min(state.level_position, last))].level.index;
      hooks.progress(progress);
    }
    return !(hooks.should_stop && hooks.should_stop());
  };
}

// The ratio that the pilot runs with; null where the sampler's own will do.
std::shared_ptr<const PilotLineRatio> pilot_line(const KernelConfig& config) {
  return config.ratio == "line" && config.line_tolerance > 0.0
             ? std::make_shared<PilotLineRatio>(LineTolerance{.tolerance = config.line_tolerance})
             : nullptr;
}

// A level without proposals needs no point between the ends.
std::vector<int64_t> points_by_position(const LinePoints& found,
                                        const std::vector<LevelPlan>& levels) {
  std::vector<int64_t> points;
  for (const LevelPlan& plan : levels) {
    const auto entry = found.find(plan.level.index);
    points.push_back(entry == found.end() ? 2 : entry->second);
  }
  return points;
}

}  // namespace

void fix_points(const std::vector<int64_t>& num_points, Sampler& sampler) {
  KernelConfig& config = sampler.kernel_config;
  config.line_tolerance = 0.0;
  for (size_t i = 0; i < num_points.size(); ++i) {
    config.line_points[sampler.anneal.levels[i].level.index] = num_points[i];
  }
  sampler.kernel = make_kernel(config);
}

void end_weights(const SampleConfig& config, const std::vector<LevelStats>& pilot,
                 AnnealConfig& anneal) {
  if (!anneal.weights || config.overrides.lowest_level) {
    return;
  }
  WeightConfig& weights = *anneal.weights;
  const auto island = static_cast<double>(std::min(weights.island_size, config.num_samples));
  const double fewest = std::min(kFewestFamilies, kFewestShare * island);
  const auto num_chains = static_cast<double>(config.tune.num_chains);
  for (size_t i = 1; i < pilot.size(); ++i) {
    const double left = pilot[i].families * std::min(1.0, island / num_chains);
    if (left < fewest || step_share(pilot[i - 1], pilot[i]) < kSmallestStep) {  // not where NaN
      weights.lowest_level = pilot[i - 1].index;
      return;
    }
  }
}

TuneRecord tune_sampler(const SampleConfig& config, const ModelPtr& target,
                        const NoiseSchedule& schedule, const RunHooks& hooks, Sampler& sampler) {
  const Stopwatch watch;
  const int64_t num_chains = config.tune.num_chains;
  const Rng rng = Rng(config.seed).split("tune");
  const Tensor x_init = starting_points(*target, sampler, num_chains, config.device, rng);
  AnnealConfig plan = sampler.anneal;
  if (plan.weights) {
    plan.weights->island_size = num_chains;
  }
  const std::shared_ptr<const PilotLineRatio> line = pilot_line(sampler.kernel_config);
  const KernelPtr kernel = line ? make_kernel(sampler.kernel_config, line) : sampler.kernel;
  try {
    TuneResult result =
        tune(target, schedule, kernel, plan, x_init, rng, pilot_observer(plan, hooks));
    result.config.weights = sampler.anneal.weights;
    sampler.anneal = std::move(result.config);
    end_weights(config, result.pilot.levels, sampler.anneal);
    TuneRecord record{num_chains,
                      result.pilot.evaluations_per_chain,
                      watch.seconds(),
                      result.pilot.network_seconds,
                      std::move(result.pilot.levels),
                      {}};
    if (line) {
      record.num_points = points_by_position(line->num_points(), sampler.anneal.levels);
      fix_points(record.num_points, sampler);
    }
    return record;
  } catch (const Interrupted&) {
    throw Interrupted("sample: interrupted while tuning, before the first sample; start it again");
  }
}

}  // namespace detail

namespace {

// The masses of all levels, a row each; where one has no steps, ones.
std::string mass_text(const std::vector<LevelPlan>& levels, int64_t num_coordinates) {
  std::vector<std::vector<double>> rows;
  for (const LevelPlan& plan : levels) {
    const Tensor mass = plan.mass.defined() ? plan.mass.to(at::kCPU, at::kDouble).contiguous()
                                            : at::ones({num_coordinates}, at::kDouble);
    rows.emplace_back(mass.const_data_ptr<double>(), mass.const_data_ptr<double>() + mass.numel());
  }
  return detail::to_toml(rows);
}

// A config with a mass for each level must still be one that can be read.
void check_size(const SampleConfig& config, const Sampler& sampler, const Model& target) {
  constexpr int64_t kMostMasses = 50000;  // of at most 11 bytes
  const int64_t num_coordinates = c10::multiply_integers(target.event_shape());
  const auto num_levels = static_cast<int64_t>(sampler.anneal.levels.size());
  if (sampler.anneal.adapt->diagonal_mass && num_coordinates > kMostMasses / num_levels) {
    throw ConfigError("config: " + config.name + ": tune.mass = \"diagonal\" has " +
                      std::to_string(num_coordinates) + " numbers for each of " +
                      std::to_string(num_levels) + " levels, but a config holds at most " +
                      std::to_string(kMostMasses) +
                      "; leave it out, or let motet sample find them by its own pilot run");
  }
}

std::string list_text(const std::vector<std::string>& numbers) {
  std::string text;
  for (const std::string& number : numbers) {
    text += (text.empty() ? "" : ", ") + number;
  }
  return "[" + text + "]";
}

// What the pilot found, as settings.
std::vector<std::string> found_settings(const SampleConfig& config, const Sampler& sampler,
                                        const detail::TuneRecord& record) {
  std::vector<std::string> step_sizes;
  std::vector<std::string> levels;
  std::vector<std::string> steps;
  std::vector<std::string> acceptance;
  double some_step = 1.0;  // of levels that take none, as the first one of after_reverse
  for (const LevelPlan& level : sampler.anneal.levels) {
    some_step = level.step_size > 0.0 ? level.step_size : some_step;
  }
  for (size_t i = 0; i < sampler.anneal.levels.size(); ++i) {
    const LevelPlan& level = sampler.anneal.levels[i];
    levels.push_back(std::to_string(level.level.index));
    steps.push_back(std::to_string(level.num_steps));
    step_sizes.push_back(detail::number_text(level.step_size > 0.0 ? level.step_size : some_step));
    if (record.levels[i].num_proposals > 0) {
      acceptance.push_back(detail::number_text(record.levels[i].acceptance()));
    }
  }
  std::vector<std::string> settings = {
      "kernel.step_size=" + list_text(step_sizes),
      "anneal.levels=" + list_text(levels),
      "anneal.steps_per_level=" + list_text(steps),
      "tuned.by=\"motet " + version() + ", commit " + commit() + "\"",
      "tuned.seed=" + std::to_string(config.seed),
      "tuned.num_chains=" + std::to_string(record.num_chains),
      "tuned.acceptance=" + list_text(acceptance)};
  if (!sampler.anneal.curvature.empty()) {
    std::vector<std::string> curvature;
    for (const double k : sampler.anneal.curvature) {
      curvature.push_back(detail::number_text(k));
    }
    settings.push_back("anneal.curvature=" + list_text(curvature));
  }
  if (sampler.anneal.weights && sampler.anneal.weights->lowest_level > 0) {
    settings.push_back("weights.lowest_level=" +
                       std::to_string(sampler.anneal.weights->lowest_level));
  }
  if (!record.num_points.empty()) {
    settings.push_back("ratio.num_points=" + detail::to_toml(record.num_points));
    settings.push_back("ratio.rule=" + detail::to_toml(to_string(LineRule::gauss_lobatto)));
  }
  if (config.tune.diagonal_mass) {
    const Tensor& mass = sampler.anneal.levels.back().mass;
    settings.push_back("kernel.mass=" + mass_text(sampler.anneal.levels, mass.numel()));
  }
  return settings;
}

std::string relative_to(const std::string& directory, const std::string& file) {
  const auto path = std::filesystem::absolute(file);
  return path.lexically_relative(std::filesystem::absolute(directory)).string();
}

// Weights files by the terms' names, relative to the folder.
std::map<std::string, std::string> files_from(const SampleConfig& config,
                                              const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const TermConfig& term : config.terms) {
    if (!term.file().empty()) {
      files[term.name] = relative_to(directory, term.file());
    }
  }
  return files;
}

}  // namespace

SampleConfig tuned_config(const SampleConfig& config, const std::string& directory,
                          const RunHooks& hooks) {
  const ModelPtr target = load_target(config);
  const NoiseSchedule schedule = choose_schedule(config, *target);
  Sampler sampler = resolve_sampler(config, target, schedule);
  if (!sampler.anneal.adapt) {
    throw ConfigError("config: " + config.name +
                      ": there is nothing to tune; that takes sampler = \"exact\" without "
                      "kernel.step_size");
  }
  check_size(config, sampler, *target);
  detail::check_exists(config, target, schedule, sampler.anneal);
  const detail::TuneRecord record = detail::tune_sampler(config, target, schedule, hooks, sampler);
  std::vector<std::string> settings = found_settings(config, sampler, record);
  const std::map<std::string, std::string> files = files_from(config, directory);
  for (const TermConfig& term : config.terms) {
    if (!term.file().empty() && !term.is_quoted) {
      settings.push_back("model." + term.name + (term.classifier ? ".classifier=" : ".weights=") +
                         detail::to_toml(files.at(term.name)));
    }
    for (const auto& [name, input] : term.pretrained.inputs) {
      if (!input.file.empty()) {
        settings.push_back("model." + term.name + ".inputs." + name + "=" +
                           detail::to_toml(relative_to(directory, input.file)));
      }
    }
  }
  const std::vector<std::string> renamed =
      detail::renamed_files(config, [&files](const std::string& name) { return files.at(name); });
  settings.insert(settings.end(), renamed.begin(), renamed.end());
  return parse_config(config.toml, config.name, settings, directory);
}

}  // namespace motet
