// Training by the simple loss of Ho et al. (2020, eq. 14): mean |eps - eps_hat(x_t, t)|^2 with
// x_t = sqrt(alpha_bar_t) x_0 + sigma_t eps, or of a classifier by the cross-entropy, mean
// -log p(label | x_t); Adam; a moving average of the weights.
// Every draw is a function of (seed, purpose, step, row), all sums have a fixed order: a training
// has the same bits however often it is interrupted and on any number of threads.
#include "motet/train.hpp"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <sstream>

#include "error_shape.hpp"
#include "motet/error.hpp"
#include "train_kernels.hpp"
#include "train_pass.hpp"

namespace motet {
namespace {

using detail::Batch;
using detail::GradientPass;
using detail::Parameter;

constexpr int64_t kChunk = 32768;  // numbers a thread updates at a time; fixes the order of sums

template <class Value>
void require(bool is_right, const char* name, Value value, const char* rule) {
  if (!is_right) {
    std::ostringstream text;
    text << "train: " << name << " = " << value << ", must be " << rule;
    throw ConfigError(text.str());
  }
}

void check_numbers(const TrainConfig& config) {
  const auto in_unit = [](double value) { return value >= 0.0 && value < 1.0; };
  const auto is_positive = [](double value) { return value > 0.0 && std::isfinite(value); };
  require(config.num_steps >= 0, "num_steps", config.num_steps, ">= 0");
  require(config.num_steps < (int64_t{1} << 32), "num_steps", config.num_steps, "< 2^32");
  require(config.batch_size >= 1, "batch_size", config.batch_size, ">= 1");
  require(is_positive(config.learning_rate), "learning_rate", config.learning_rate,
          "> 0 and finite");
  require(in_unit(config.beta1), "beta1", config.beta1, "in [0, 1)");
  require(in_unit(config.beta2), "beta2", config.beta2, "in [0, 1)");
  require(is_positive(config.adam_epsilon), "adam_epsilon", config.adam_epsilon, "> 0 and finite");
  require(in_unit(config.ema_decay), "ema_decay", config.ema_decay, "in [0, 1)");
  require(config.gradient_clip >= 0.0 && std::isfinite(config.gradient_clip), "gradient_clip",
          config.gradient_clip, ">= 0 and finite (0: off)");
  require(config.held_out_every >= 1, "held_out_every", config.held_out_every, ">= 1");
  require(config.held_out_size >= config.network.num_levels, "held_out_size", config.held_out_size,
          "at least network.num_levels");
}

bool is_classifier(const TrainConfig& config) {
  return config.network.parameterisation == Parameterisation::classifier;
}

void check(const TrainConfig& config) {
  expected_tensors(config.network);  // throws ConfigError for bad sizes
  check_numbers(config);
  if (config.network.num_levels != config.schedule.num_levels()) {
    throw ConfigError("train: network.num_levels = " + std::to_string(config.network.num_levels) +
                      ", but the schedule " + config.schedule.describe() + " has " +
                      std::to_string(config.schedule.num_levels()) + " levels; make them equal");
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

// Anyone can write a LabelledData: a label is used as an index.
void check_labels(const Tensor& labels, int64_t num_samples, int64_t num_classes,
                  const std::string& where) {
  const bool is_list = labels.defined() && labels.sizes() == at::IntArrayRef{num_samples} &&
                       labels.scalar_type() == at::kLong && labels.is_cpu();
  if (!is_list) {
    throw ShapeError(where + "labels that are not Long of shape (" + std::to_string(num_samples) +
                     ") on cpu");
  }
  const auto [lowest, highest] = at::aminmax(labels);
  if (lowest.item<int64_t>() < 0 || highest.item<int64_t>() >= num_classes) {
    throw ShapeError(where + "labels from " + std::to_string(lowest.item<int64_t>()) + " to " +
                     std::to_string(highest.item<int64_t>()) + ", must be in [0, " +
                     std::to_string(num_classes) + ")");
  }
}

/// All numbers of a training, one flat buffer of each kind.
struct Flats {
  explicit Flats(const std::vector<Parameter>& layout) {
    const int64_t count = layout.back().offset + layout.back().count;
    for (Tensor* flat : {&weight, &average, &moment1, &moment2, &gradient}) {
      *flat = at::zeros({count}, at::kFloat);
    }
  }
  std::map<std::string, Tensor> views(const std::vector<Parameter>& layout) const {
    std::map<std::string, Tensor> all = detail::named_views(layout, weight, "weight.");
    all.merge(detail::named_views(layout, average, "ema."));
    all.merge(detail::named_views(layout, moment1, "adam1."));
    all.merge(detail::named_views(layout, moment2, "adam2."));
    return all;
  }
  Tensor weight, average, moment1, moment2, gradient;
};

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

void check_resume(const TrainConfig& config, const TrainState& state,
                  const std::map<std::string, Tensor>& views) {
  if (state.step < 0 || state.step > config.num_steps) {
    throw ConfigError("train: the state to resume is at step " + std::to_string(state.step) +
                      ", but num_steps = " + std::to_string(config.num_steps) +
                      "; raise num_steps to train on");
  }
  for (const auto& [name, view] : views) {
    const auto found = state.tensors.find(name);
    if (found == state.tensors.end() || found->second.sizes() != view.sizes()) {
      std::ostringstream text;
      text << "train: the state to resume is not of this network: tensor \"" << name << "\" ";
      if (found == state.tensors.end()) {
        text << "is missing";
      } else {
        text << "has shape " << found->second.sizes();
      }
      text << ", expected shape " << view.sizes();
      throw DataError(text.str());
    }
  }
}

class Trainer {
 public:
  Trainer(const TrainConfig& config, const DataSet& data, const TrainState& start)
      : config_(config),
        data_(data),
        layout_(detail::parameter_layout(config.network)),
        flats_(layout_),
        state_(start),
        rng_(config.seed),
        pass_(make_pass(config)) {
    const std::map<std::string, Tensor> views = flats_.views(layout_);
    check_resume(config, start, views);
    for (const auto& [name, view] : views) {
      view.copy_(start.tensors.at(name));
    }
    state_.tensors = views;
    fill_schedule();
  }

  TrainState run(const TrainObserver& observer) {
    while (state_.step < config_.num_steps) {
      const double loss = step();
      record(loss);
      if (observer && !observer(state_, loss)) {
        throw Interrupted("train: stopped after step " + std::to_string(state_.step) + " of " +
                          std::to_string(config_.num_steps));
      }
    }
    return state_;
  }

 private:
  static std::unique_ptr<GradientPass> make_pass(const TrainConfig& config) {
    if (config.reference_path || is_classifier(config)) {
      return detail::reference_pass(config.network);
    }
    return detail::tiled_pass(config.network, config.mixed_precision ? detail::Arithmetic::bfloat16
                                                                     : detail::Arithmetic::float32);
  }

  void fill_schedule() {
    root_alpha_bar_ = at::empty({config_.network.num_levels, 1}, at::kDouble);
    sigma_ = at::empty_like(root_alpha_bar_);
    for (int64_t i = 0; i < config_.network.num_levels; ++i) {
      const NoiseLevel level = config_.schedule.level(i);
      root_alpha_bar_[i][0] = std::sqrt(level.alpha_bar);
      sigma_[i][0] = level.sigma();
    }
  }

  // The passes read the points as raw row-major memory; anyone can write a DataSet.
  LabelledData::Draw sample(int64_t num_samples, Rng rng) const {
    if (!is_classifier(config_)) {
      return {checked(data_.sample(num_samples, rng), num_samples), {}};
    }
    const auto& labelled = dynamic_cast<const LabelledData&>(data_);  // check() saw to it
    const LabelledData::Draw draw = labelled.sample_labelled(num_samples, rng);
    check_labels(draw.labels, num_samples, config_.network.num_classes,
                 "train: the data " + data_.describe() + " gave ");
    return {checked(draw.points, num_samples), draw.labels.detach()};
  }

  Tensor checked(const Tensor& points, int64_t num_samples) const {
    const std::string where = "train: the data " + data_.describe() + " gave points ";
    const std::vector<int64_t> shape = {num_samples, config_.network.event_dim};
    if (!points.defined() || points.sizes() != at::IntArrayRef(shape)) {
      throw ShapeError(where + "of shape " +
                       (points.defined() ? detail::shape_text(points.sizes()) : "(undefined)") +
                       ", must be " + detail::shape_text(shape));
    }
    const bool is_float = points.scalar_type() == at::kFloat || points.scalar_type() == at::kDouble;
    if (!is_float || !points.is_cpu()) {
      throw ShapeError(where + "of dtype " + c10::toString(points.scalar_type()) + " on " +
                       points.device().str() + ", must be Float or Double on cpu");
    }
    return points.detach().contiguous();
  }

  Batch noised(const LabelledData::Draw& draw, const Tensor& level, Rng rng) const {
    const Tensor noise = rng.normal_like(draw.points);
    const Tensor x = root_alpha_bar_.index_select(0, level) * draw.points +
                     sigma_.index_select(0, level) * noise;
    return {x.to(at::kFloat), noise.to(at::kFloat), level, draw.labels};
  }

  Batch draw() const {
    const auto at_step = [&](const char* purpose) {
      return rng_.split(purpose).at(0, state_.step);
    };
    Rng level = at_step("level");
    const LabelledData::Draw data = sample(config_.batch_size, at_step("data"));
    const Tensor u = level.uniform(config_.batch_size, data.points);
    const Tensor share = config_.level_law == LevelLaw::squared ? u.square() : u;
    const Tensor index = (share * config_.network.num_levels).floor().to(at::kLong);
    return noised(data, index, at_step("noise"));
  }

  double step() {
    const double loss = pass_->gradient(flats_.weight, draw(), flats_.gradient);
    const double norm = std::sqrt(sum_squares());
    if (!std::isfinite(loss) || !std::isfinite(norm)) {
      std::ostringstream text;
      text << "train: the " << (std::isfinite(loss) ? "gradient" : "loss")
           << " is not finite at step " << state_.step << " (loss " << loss << ", gradient norm "
           << norm << "); lower learning_rate or set gradient_clip";
      throw NumericalError(text.str());
    }
    const bool is_clipped = config_.gradient_clip > 0.0 && norm > config_.gradient_clip;
    update(is_clipped ? config_.gradient_clip / norm : 1.0);
    ++state_.step;
    return loss;
  }

  double sum_squares() const {
    const float* gradient = flats_.gradient.const_data_ptr<float>();
    const int64_t count = flats_.gradient.numel();
    std::vector<double> sums(static_cast<size_t>((count + kChunk - 1) / kChunk));
    at::parallel_for(0, static_cast<int64_t>(sums.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        sums[static_cast<size_t>(i)] = detail::kernels<float, float>().sum_squares(
            std::min(kChunk, count - i * kChunk), gradient + i * kChunk);
      }
    });
    double total = 0.0;
    for (const double sum : sums) {
      total += sum;
    }
    return total;
  }

  double learning_rate() const {
    if (config_.rate_schedule == RateSchedule::constant) {
      return config_.learning_rate;
    }
    const double done = static_cast<double>(state_.step) / static_cast<double>(config_.num_steps);
    return config_.learning_rate * 0.5 * (1.0 + std::cos(std::numbers::pi * done));
  }

  void update(double gradient_scale) {
    const double t = static_cast<double>(state_.step + 1);
    const detail::AdamStep adam{.learning_rate = learning_rate(),
                                .beta1 = config_.beta1,
                                .beta2 = config_.beta2,
                                .epsilon = config_.adam_epsilon,
                                .correction1 = 1.0 - std::pow(config_.beta1, t),
                                .correction2 = 1.0 - std::pow(config_.beta2, t),
                                .ema_decay = config_.ema_decay,
                                .gradient_scale = gradient_scale};
    const auto at = [](const Tensor& flat, int64_t i) { return flat.data_ptr<float>() + i; };
    at::parallel_for(0, flats_.weight.numel(), kChunk, [&](int64_t begin, int64_t end) {
      detail::kernels<float, float>().adam(end - begin, adam, at(flats_.gradient, begin),
                                           at(flats_.weight, begin), at(flats_.moment1, begin),
                                           at(flats_.moment2, begin), at(flats_.average, begin));
    });
  }

  void record(double loss) {
    state_.pending_loss += loss;
    if (state_.step % kLossEvery == 0) {
      state_.losses.push_back(state_.pending_loss / static_cast<double>(kLossEvery));
      state_.pending_loss = 0.0;
    }
    if (state_.step % config_.held_out_every == 0 || state_.step == config_.num_steps) {
      state_.held_out.push_back(held_out());
    }
  }

  HeldOut held_out() {
    const int64_t levels = config_.network.num_levels;
    if (!held_out_pass_) {
      held_out_pass_ = config_.reference_path || is_classifier(config_)
                           ? detail::reference_pass(config_.network)
                           : detail::tiled_pass(config_.network, detail::Arithmetic::float32);
      const LabelledData::Draw data = sample(config_.held_out_size, rng_.split("held-out data"));
      const Tensor level = at::arange(config_.held_out_size, at::kLong).remainder(levels);
      held_out_batch_ = noised(data, level, rng_.split("held-out noise"));
    }
    const Tensor losses = held_out_pass_->row_losses(flats_.average, held_out_batch_);
    HeldOut result{.step = state_.step, .mean = losses.mean().item<double>(), .per_level = {}};
    for (int64_t level = 0; level < levels; ++level) {
      result.per_level.push_back(
          losses.slice(0, level, c10::nullopt, levels).mean().item<double>());
    }
    return result;
  }

  const TrainConfig& config_;
  const DataSet& data_;
  std::vector<Parameter> layout_;
  Flats flats_;
  TrainState state_;
  Rng rng_;
  std::unique_ptr<GradientPass> pass_, held_out_pass_;
  Batch held_out_batch_;
  Tensor root_alpha_bar_, sigma_;  // (levels, 1) float64
};

}  // namespace

TrainState initial_state(const TrainConfig& config) {
  check(config);
  const std::vector<Parameter> layout = detail::parameter_layout(config.network);
  const Flats flats(layout);
  TrainState state;
  state.tensors = flats.views(layout);
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
  const at::NoGradGuard no_graph;
  Trainer trainer(config, data, resume == nullptr ? initial_state(config) : *resume);
  return trainer.run(observer);
}

Weights trained_weights(const TrainConfig& config, const TrainState& state, const DataSet& data) {
  Weights weights{
      .config = config.network, .schedule = config.schedule, .tensors = {}, .provenance = {}};
  for (const Parameter& parameter : detail::parameter_layout(config.network)) {
    weights.tensors[parameter.name] = state.tensors.at("ema." + parameter.name).clone();
  }
  const auto text = [](auto value) {
    std::ostringstream stream;
    stream << value;
    return stream.str();
  };
  weights.provenance = {
      {"data", data.describe()},
      {"seed", text(config.seed)},
      {"num_steps", text(state.step)},
      {"batch_size", text(config.batch_size)},
      {"learning_rate", text(config.learning_rate)},
      {"rate_schedule", to_string(config.rate_schedule)},
      {"level_law", to_string(config.level_law)},
      {"ema_decay", text(config.ema_decay)},
      {"gradient_clip", text(config.gradient_clip)},
      {"arithmetic", config.reference_path || is_classifier(config) ? "float32 reference"
                     : config.mixed_precision                       ? "bfloat16 products"
                                                                    : "float32"}};
  if (!state.held_out.empty()) {
    weights.provenance["held_out_loss"] = text(state.held_out.back().mean);
  }
  return weights;
}

}  // namespace motet
