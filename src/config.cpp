// Settings -> SampleConfig and TrainJob. Everything that can be wrong without opening a file is
// found here.
#include <algorithm>
#include <filesystem>

#include "config_classes.hpp"
#include "config_images.hpp"
#include "config_keys.hpp"
#include "config_laws.hpp"
#include "config_target.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "motet/run.hpp"

namespace motet {
namespace {

using detail::read_law;
using detail::Settings;
using Numbers = std::vector<double>;
using Rows = std::vector<std::vector<double>>;

std::string beside(const std::string& directory, const std::string& path) {
  const std::filesystem::path given(path);
  return given.is_absolute() ? path : (std::filesystem::path(directory) / given).string();
}

void refuse_outside(const Settings& settings, const std::string& type,
                    const std::vector<std::string>& types, const std::string& key) {
  if (settings.given(key) && std::find(types.begin(), types.end(), type) == types.end()) {
    settings.fail(key, "but schedule.type is \"" + type + "\", which has no such parameter");
  }
}

NoiseSchedule read_schedule(const Settings& settings) {
  const auto type = settings.get<std::string>("schedule.type");
  refuse_outside(settings, type, {"cosine"}, "schedule.offset");
  refuse_outside(settings, type, {"cosine"}, "schedule.max_beta");
  refuse_outside(settings, type, {"linear", "scaled_linear"}, "schedule.beta_first");
  refuse_outside(settings, type, {"linear", "scaled_linear"}, "schedule.beta_last");
  refuse_outside(settings, type, {"alpha_bars"}, "schedule.alpha_bars");
  refuse_outside(settings, type, {"cosine", "linear", "scaled_linear"}, "schedule.num_levels");
  const auto num_levels = settings.get<int64_t>("schedule.num_levels");
  if (type == "cosine") {
    return NoiseSchedule::cosine(num_levels, settings.get<double>("schedule.offset"),
                                 settings.get<double>("schedule.max_beta"));
  }
  if (type == "alpha_bars") {
    if (!settings.given("schedule.alpha_bars")) {
      settings.fail("schedule.alpha_bars", "is missing; schedule.type = \"alpha_bars\" needs it");
    }
    return NoiseSchedule::from_alpha_bars(settings.get<Numbers>("schedule.alpha_bars"));
  }
  const bool first_given = settings.given("schedule.beta_first");
  if (first_given != settings.given("schedule.beta_last")) {
    settings.fail(first_given ? "schedule.beta_last" : "schedule.beta_first",
                  "is missing; give beta_first and beta_last, or neither");
  }
  const bool is_linear = type == "linear";
  if (!first_given) {
    return is_linear ? NoiseSchedule::linear(num_levels) : NoiseSchedule::scaled_linear(num_levels);
  }
  const auto first = settings.get<double>("schedule.beta_first");
  const auto last = settings.get<double>("schedule.beta_last");
  return is_linear ? NoiseSchedule::linear(num_levels, first, last)
                   : NoiseSchedule::scaled_linear(num_levels, first, last);
}

CheckpointConfig read_checkpoint(const Settings& settings, const std::string& directory) {
  CheckpointConfig config;
  config.every_seconds = settings.get<double>("checkpoint.every_seconds");
  config.every_steps = settings.get<int64_t>("checkpoint.every_steps");
  if (settings.given("checkpoint.path")) {
    config.path = beside(directory, settings.get<std::string>("checkpoint.path"));
  }
  return config;
}

PictureConfig read_pictures(const Settings& settings) {
  const auto range = settings.get<Numbers>("output.image_range");
  if (range.size() != 2 || !(range[0] < range[1])) {
    settings.fail("output.image_range", "must be two numbers, black and white, that rise");
  }
  return {.low = range[0],
          .high = range[1],
          .num_images = settings.get<int64_t>("output.num_images"),
          .num_columns = settings.get<int64_t>("output.num_columns")};
}

// One number or a list of them.
std::optional<Numbers> read_numbers(const Settings& settings, const std::string& name) {
  if (!settings.given(name)) {
    return std::nullopt;
  }
  return settings.holds<double>(name) ? Numbers{settings.get<double>(name)}
                                      : settings.get<Numbers>(name);
}

std::optional<StepSizeRule> read_step_size(const Settings& settings) {
  StepSizeRule rule;
  if (settings.given_under("kernel.step_size")) {
    for (const char* part : {"factor", "power"}) {
      const std::string name = std::string("kernel.step_size.") + part;
      if (!settings.given(name)) {
        settings.fail(name, "is missing; the power rule needs factor and power");
      }
    }
    rule.factor = settings.get<double>("kernel.step_size.factor");
    rule.power = settings.get<double>("kernel.step_size.power");
    return rule;
  }
  const auto values = read_numbers(settings, "kernel.step_size");
  if (!values) {
    return std::nullopt;
  }
  rule.values = *values;
  return rule;
}

template <class T>
std::optional<T> optional(const Settings& settings, const std::string& name) {
  return settings.given(name) ? std::optional<T>(settings.get<T>(name)) : std::nullopt;
}

template <class From>
auto optional_word(const Settings& settings, const std::string& name,
                   From from) -> std::optional<decltype(from(name))> {
  const auto word = optional<std::string>(settings, name);
  return word ? std::optional(from(*word)) : std::nullopt;
}

std::optional<std::vector<int64_t>> one_or_more(const Settings& settings, const std::string& name) {
  return settings.holds<int64_t>(name) ? std::vector<int64_t>{settings.get<int64_t>(name)}
                                       : optional<std::vector<int64_t>>(settings, name);
}

SamplerOverrides read_overrides(const Settings& settings) {
  SamplerOverrides overrides;
  overrides.kernel = optional<std::string>(settings, "kernel.type");
  overrides.num_leapfrog = optional<int64_t>(settings, "kernel.num_leapfrog");
  overrides.damping = optional<double>(settings, "kernel.damping");
  if (settings.holds<Numbers>("kernel.mass")) {
    overrides.mass = {settings.get<Numbers>("kernel.mass")};
  } else {
    overrides.mass = optional<Rows>(settings, "kernel.mass");
  }
  overrides.ratio = optional<std::string>(settings, "ratio.type");
  overrides.ratio_rule = optional<std::string>(settings, "ratio.rule");
  overrides.num_points = one_or_more(settings, "ratio.num_points");
  overrides.guard = optional<double>(settings, "ratio.guard");
  overrides.step_size = read_step_size(settings);
  overrides.levels = optional<std::vector<int64_t>>(settings, "anneal.levels");
  overrides.placement = optional_word(settings, "anneal.placement", placement_from);
  overrides.reverse_step = optional_word(settings, "anneal.reverse_step", reverse_step_from);
  overrides.last_map = optional_word(settings, "anneal.last_map", last_map_from);
  overrides.curvature = read_numbers(settings, "anneal.curvature");
  overrides.start = optional<std::string>(settings, "anneal.start");
  overrides.evaluations = optional<int64_t>(settings, "evaluations");
  overrides.weighted = optional<bool>(settings, "weights.enabled");
  overrides.weight_rule = optional_word(settings, "weights.rule", weight_rule_from);
  overrides.resampling = optional_word(settings, "weights.resampling", resampling_from);
  overrides.ess_threshold = optional<double>(settings, "weights.ess_threshold");
  overrides.max_share = optional<double>(settings, "weights.max_share");
  overrides.island_size = optional<int64_t>(settings, "weights.island_size");
  overrides.matched = optional<bool>(settings, "weights.matched");
  overrides.lowest_level = optional<int64_t>(settings, "weights.lowest_level");
  overrides.steps_per_level = one_or_more(settings, "anneal.steps_per_level");
  if (overrides.levels &&
      !std::is_sorted(overrides.levels->rbegin(), overrides.levels->rend(), std::less_equal<>())) {
    settings.fail("anneal.levels", "must fall strictly");
  }
  return overrides;
}

TuneConfig read_tune(const Settings& settings) {
  TuneConfig tune;
  tune.num_chains = optional<int64_t>(settings, "tune.num_chains").value_or(tune.num_chains);
  tune.target_acceptance = optional<double>(settings, "tune.target_acceptance");
  tune.rate = optional<double>(settings, "tune.rate");
  tune.start = optional<double>(settings, "tune.start");
  tune.cap = optional<double>(settings, "tune.cap");
  tune.tolerance = optional<double>(settings, "tune.tolerance");
  tune.diagonal_mass = optional<std::string>(settings, "tune.mass").value_or("none") == "diagonal";
  tune.max_disagreement = optional<double>(settings, "tune.max_disagreement");
  const bool is_tuned = settings.get<std::string>("sampler") == "exact" &&
                        !settings.given("kernel.step_size") &&
                        !settings.given_under("kernel.step_size");
  // A config that motet tune wrote keeps the [tune] that it was made by.
  if (settings.given_under("tune") && !is_tuned && !settings.given_under("tuned")) {
    settings.fail_whole(
        "[tune] is given, but there is nothing to tune: that takes sampler = \"exact\" without "
        "kernel.step_size; leave it out");
  }
  if (is_tuned && tune.tolerance && settings.given("ratio.num_points")) {
    settings.fail("tune.tolerance", "but ratio.num_points is given too; leave one out");
  }
  if (is_tuned && tune.diagonal_mass && settings.given("kernel.mass")) {
    settings.fail("tune.mass", "but kernel.mass is given too; leave one out");
  }
  return tune;
}

DataConfig read_data(const Settings& settings, const std::string& directory) {
  DataConfig data;
  data.law = read_law(settings, "data.", "data");
  if (settings.given("data.set")) {
    data.set = settings.get<std::string>("data.set");
  }
  if (settings.given("data.file")) {
    data.file = beside(directory, settings.get<std::string>("data.file"));
  }
  detail::read_image_data(settings, directory, data);
  const int num_given = (data.law ? 1 : 0) + (data.set.empty() ? 0 : 1) +
                        (data.file.empty() ? 0 : 1) + (data.images.empty() ? 0 : 1);
  data.classes = detail::read_classes(settings, "data.", "data");
  if (settings.given("data.labels")) {
    if (data.file.empty() && data.images.empty()) {
      settings.fail("data.labels",
                    "but neither data.file nor data.images is given; labels are of its rows");
    }
    data.labels = beside(directory, settings.get<std::string>("data.labels"));
  }
  if (num_given != 1) {
    settings.fail_whole("[data] must have exactly one of set, file, images and law");
  }
  return data;
}

NetworkConfig read_network(const Settings& settings) {
  NetworkConfig network;
  network.width = settings.get<int64_t>("network.width");
  network.num_blocks = settings.get<int64_t>("network.num_blocks");
  network.widen = settings.get<int64_t>("network.widen");
  network.embedding_dim = settings.get<int64_t>("network.embedding_dim");
  network.parameterisation =
      parameterisation_from(settings.get<std::string>("network.parameterisation"));
  network.frequencies = settings.get<Numbers>("network.frequencies");
  if (network.frequencies.size() > kMaxFrequencies) {
    settings.fail("network.frequencies",
                  "must have at most " + std::to_string(kMaxFrequencies) + " entries");
  }
  return network;
}

std::vector<ConfigKey> describe(const std::vector<detail::Key>& keys) {
  std::vector<ConfigKey> rows;
  for (const detail::Key& key : keys) {
    const std::string other = key.other_fallback.empty()
                                  ? ""
                                  : "; " + key.other_fallback + " with " + key.other_with.key +
                                        " = \"" + key.other_with.values.front() + "\"";
    rows.push_back({key.name, detail::describe_allowed(key), key.fallback, key.doc + other});
  }
  return rows;
}

constexpr int64_t kMaxConfigBytes = int64_t{1} << 20;

}  // namespace

SampleConfig parse_config(std::string_view toml, const std::string& name,
                          const std::vector<std::string>& overrides, const std::string& directory) {
  Settings settings = Settings::parse(toml, name, detail::sample_keys(), overrides);
  SampleConfig config;
  config.name = name;
  detail::TargetSettings target_settings = detail::read_target(settings, directory);
  config.target = std::move(target_settings.target);
  config.tapestry = std::move(target_settings.tapestry);
  config.terms = std::move(target_settings.terms);
  if (settings.given_under("schedule")) {
    config.schedule = read_schedule(settings);
  }
  config.sampler = settings.get<std::string>("sampler");
  config.preset = settings.get<std::string>("preset");
  config.overrides = read_overrides(settings);
  config.tune = read_tune(settings);
  config.num_samples = settings.get<int64_t>("num_samples");
  config.seed = static_cast<uint64_t>(settings.get<int64_t>("seed"));
  config.tile_size = settings.get<int64_t>("tile_size");
  config.compute = compute_from(settings.get<std::string>("compute"));
  config.device = settings.get<std::string>("device");
  const auto target = settings.get<std::string>("metrics.target");
  config.metrics_target = target == "none" ? "" : target;
  config.metrics_num_samples = settings.get<int64_t>("metrics.num_samples");
  config.checkpoint = read_checkpoint(settings, directory);
  config.pictures = read_pictures(settings);
  config.toml = settings.resolved_toml();
  config.identity = settings.identity();
  return config;
}

TrainJob parse_train_config(std::string_view toml, const std::string& name,
                            const std::vector<std::string>& overrides,
                            const std::string& directory) {
  const Settings settings = Settings::parse(toml, name, detail::train_keys(), overrides);
  TrainJob job;
  job.name = name;
  job.data = read_data(settings, directory);
  TrainConfig& train = job.train;
  job.image_network = detail::read_image_network(settings, job.data);
  if (!job.image_network) {
    train.network = read_network(settings);
    detail::check_classes(settings, job.data, train.network);
  }
  train.schedule = read_schedule(settings);
  train.network.num_levels = train.schedule.num_levels();
  train.num_steps = settings.get<int64_t>("train.num_steps");
  train.batch_size = settings.get<int64_t>("train.batch_size");
  train.level_law = level_law_from(settings.get<std::string>("train.level_law"));
  train.learning_rate = settings.get<double>("train.learning_rate");
  train.rate_schedule = rate_schedule_from(settings.get<std::string>("train.rate_schedule"));
  train.beta1 = settings.get<double>("train.beta1");
  train.beta2 = settings.get<double>("train.beta2");
  train.adam_epsilon = settings.get<double>("train.adam_epsilon");
  train.ema_decay = settings.get<double>("train.ema_decay");
  train.ema_warmup = settings.get<bool>("train.ema_warmup");
  train.warmup_steps = settings.get<int64_t>("train.warmup_steps");
  train.drop_probability = settings.get<double>("train.drop_probability");
  train.gradient_clip = settings.get<double>("train.gradient_clip");
  train.mixed_precision = settings.get<bool>("train.mixed_precision");
  train.reference_path = settings.get<bool>("train.reference_path");
  train.held_out_every = settings.get<int64_t>("train.held_out_every");
  train.held_out_size = settings.get<int64_t>("train.held_out_size");
  train.seed = static_cast<uint64_t>(settings.get<int64_t>("seed"));
  job.checkpoint = read_checkpoint(settings, directory);
  job.toml = settings.resolved_toml();
  job.identity = settings.identity();
  return job;
}

SampleConfig load_config(const std::string& path, const std::vector<std::string>& overrides) {
  const std::filesystem::path file(path);
  return parse_config(read_file(path, kMaxConfigBytes), file.filename().string(), overrides,
                      file.parent_path().string());
}

TrainJob load_train_config(const std::string& path, const std::vector<std::string>& overrides) {
  const std::filesystem::path file(path);
  return parse_train_config(read_file(path, kMaxConfigBytes), file.filename().string(), overrides,
                            file.parent_path().string());
}

std::vector<ConfigKey> sample_config_keys() { return describe(detail::sample_keys()); }
std::vector<ConfigKey> train_config_keys() { return describe(detail::train_keys()); }

}  // namespace motet
