// Training by the simple loss of Ho et al. (2020, eq. 14): mean |eps - eps_hat(x_t, t)|^2 with
// x_t = sqrt(alpha_bar_t) x_0 + sigma_t eps, or of a classifier by the cross-entropy, mean
// -log p(label | x_t); Adam; a moving average of the weights.
// Every draw is a function of (seed, purpose, step, row), all sums have a fixed order: a training
// has the same bits however often it is interrupted and on any number of threads.
#include "motet/train.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <sstream>

#include "error_shape.hpp"
#include "motet/error.hpp"
#include "train_loop.hpp"
#include "train_pass.hpp"

namespace motet {
namespace {

using detail::Parameter;

bool is_classifier(const TrainConfig& config) {
  return config.network.parameterisation == Parameterisation::classifier;
}

void check(const TrainConfig& config) {
  expected_tensors(config.network);  // throws ConfigError for bad sizes
  detail::check_numbers(config);
  if (config.network.num_levels != config.schedule.num_levels()) {
    throw ConfigError("train: network.num_levels = " + std::to_string(config.network.num_levels) +
                      ", but the schedule " + config.schedule.describe() + " has " +
                      std::to_string(config.schedule.num_levels()) + " levels; make them equal");
  }
  if (config.drop_probability > 0.0) {
    throw ConfigError(
        "train: drop_probability is > 0, but a residual MLP sees neither label nor condition; set "
        "drop_probability = 0");
  }
  if (config.mixed_precision && config.reference_path) {
    throw ConfigError(
        "train: mixed_precision = true needs the hand-written passes; set reference_path = false");
  }
  if (config.mixed_precision && is_classifier(config)) {
    throw ConfigError(
        "train: mixed_precision = true needs the hand-written passes, which classifiers do not "
        "have; set mixed_precision = false");
  }
  if (config.mixed_precision && !detail::has_bfloat16_products()) {
    throw ConfigError(
        "train: mixed_precision = true needs a processor with AMX bfloat16 products, which this "
        "one lacks; set mixed_precision = false");
  }
}

void check(const TrainConfig& config, const DataSet& data) {
  check(config);
  if (config.network.event_dim != data.event_dim()) {
    throw ConfigError("train: network.event_dim = " + std::to_string(config.network.event_dim) +
                      ", but the data " + data.describe() + " have " +
                      std::to_string(data.event_dim()) +
                      " dimensions; set network.event_dim = " + std::to_string(data.event_dim()));
  }
  if (!is_classifier(config)) {
    return;
  }
  const auto* labelled = dynamic_cast<const LabelledData*>(&data);
  if (labelled == nullptr) {
    throw ConfigError("train: a classifier needs points with labels, but the data " +
                      data.describe() +
                      " have none; give labelled_data() or array_data() with labels");
  }
  if (config.network.num_classes != labelled->num_classes()) {
    throw ConfigError(
        "train: network.num_classes = " + std::to_string(config.network.num_classes) +
        ", but the data " + data.describe() + " have " + std::to_string(labelled->num_classes()) +
        " classes; set network.num_classes = " + std::to_string(labelled->num_classes()));
  }
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

/// Standard deviation of a tensor's initial weights before truncation; 0 for zeros.
double initial_sd(const Parameter& parameter, Parameterisation parameterisation) {
  const bool is_last = parameter.name == "output.weight";
  if (ends_with(parameter.name, ".bias") ||
      (ends_with(parameter.name, "output.weight") && !is_last)) {
    return 0.0;
  }
  if (is_last && parameterisation != Parameterisation::energy_norm) {
    return 0.0;
  }
  if (parameter.name == "embedding.weight") {
    return 1.0;
  }
  return 1.0 / std::sqrt(static_cast<double>(parameter.shape.at(1)));
}

/// Standard normal truncated at +-2, by inverting the distribution function.
Tensor truncated_normal(at::IntArrayRef shape, Rng rng) {
  const double low = 0.5 * std::erfc(std::sqrt(2.0));  // Phi(-2)
  const Tensor u = rng.uniform_like(at::empty(shape, at::kDouble));
  return std::sqrt(2.0) * at::erfinv(2.0 * (low + (1.0 - 2.0 * low) * u) - 1.0);
}

std::unique_ptr<detail::GradientPass> make_pass(const TrainConfig& config,
                                                detail::Arithmetic arithmetic) {
  return config.reference_path || is_classifier(config)
             ? detail::reference_pass(config.network)
             : detail::tiled_pass(config.network, arithmetic);
}

detail::Trainee trainee_of(const TrainConfig& config) {
  return {
      .layout = detail::parameter_layout(config.network),
      .event_shape = {config.network.event_dim},
      .pass = make_pass(config, config.mixed_precision ? detail::Arithmetic::bfloat16
                                                       : detail::Arithmetic::float32),
      .make_held_out_pass = [&config] { return make_pass(config, detail::Arithmetic::float32); },
      .num_classes = is_classifier(config) ? config.network.num_classes : 0,
      .held_out_bands = config.network.num_levels};
}

}  // namespace

TrainState initial_state(const TrainConfig& config) {
  check(config);
  const std::vector<Parameter> layout = detail::parameter_layout(config.network);
  TrainState state;
  state.tensors = detail::zero_tensors(layout);
  const Rng rng = Rng(config.seed).split("init");
  for (size_t i = 0; i < layout.size(); ++i) {
    const Parameter& parameter = layout[i];
    const Tensor& weight = state.tensors.at("weight." + parameter.name);
    const double sd = ends_with(parameter.name, "norm.weight")
                          ? 0.0
                          : initial_sd(parameter, config.network.parameterisation);
    if (ends_with(parameter.name, "norm.weight")) {
      weight.fill_(1.0);
    } else if (sd > 0.0) {
      weight.copy_(sd * truncated_normal(parameter.shape, rng.at(0, static_cast<int64_t>(i))));
    }
    state.tensors.at("ema." + parameter.name).copy_(weight);
  }
  return state;
}

TrainState train(const TrainConfig& config, const DataSet& data, const TrainObserver& observer,
                 const TrainState* resume) {
  check(config, data);
  return detail::train_loop(config, trainee_of(config), data,
                            resume == nullptr ? initial_state(config) : *resume, observer);
}

std::map<std::string, std::string> train_provenance(const TrainConfig& config,
                                                    const TrainState& state, const DataSet& data) {
  const auto text = [](auto value) {
    std::ostringstream stream;
    stream << value;
    return stream.str();
  };
  std::map<std::string, std::string> provenance = {
      {"data", data.describe()},
      {"seed", text(config.seed)},
      {"num_steps", text(state.step)},
      {"batch_size", text(config.batch_size)},
      {"learning_rate", text(config.learning_rate)},
      {"rate_schedule", to_string(config.rate_schedule)},
      {"level_law", to_string(config.level_law)},
      {"ema_decay", text(config.ema_decay)},
      {"gradient_clip", text(config.gradient_clip)},
      {"ema_warmup", config.ema_warmup ? "true" : "false"},
      {"warmup_steps", text(config.warmup_steps)},
      {"drop_probability", text(config.drop_probability)},
      {"arithmetic", config.mixed_precision ? "bfloat16" : "float32"}};
  if (!state.held_out.empty()) {
    provenance["held_out_loss"] = text(state.held_out.back().mean);
  }
  return provenance;
}

Weights trained_weights(const TrainConfig& config, const TrainState& state, const DataSet& data) {
  Weights weights{
      .config = config.network, .schedule = config.schedule, .tensors = {}, .provenance = {}};
  for (const Parameter& parameter : detail::parameter_layout(config.network)) {
    weights.tensors[parameter.name] = state.tensors.at("ema." + parameter.name).clone();
  }
  weights.provenance = train_provenance(config, state, data);
  weights.provenance["arithmetic"] = config.reference_path || is_classifier(config)
                                         ? "float32 reference"
                                     : config.mixed_precision ? "bfloat16 products"
                                                              : "float32";
  return weights;
}

}  // namespace motet
