// The training loop: every draw is a function of (seed, purpose, step, row) and all sums have a fixed
// order, so that a training has the same bits however often it is interrupted and, as far as its
// passes do, on any number of threads.
#include "train_loop.hpp"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <sstream>

#include "error_shape.hpp"
#include "motet/error.hpp"
#include "train_kernels.hpp"

namespace motet {
namespace {

using detail::Batch;
using detail::GradientPass;
using detail::Parameter;
using detail::Trainee;

constexpr int64_t kChunk = 32768;  // numbers a thread updates at a time; fixes the order of sums
constexpr int64_t kMaxBands = 100;

struct Draw {
  Tensor points, labels, conditions;
};

template <class Value>
void require(bool is_right, const char* name, Value value, const char* rule) {
  if (!is_right) {
    std::ostringstream text;
    text << "train: " << name << " = " << value << ", must be " << rule;
    throw ConfigError(text.str());
  }
}

void check_rates(const TrainConfig& config) {
  const auto in_unit = [](double value) { return value >= 0.0 && value < 1.0; };
  const auto is_positive = [](double value) { return value > 0.0 && std::isfinite(value); };
  require(is_positive(config.learning_rate), "learning_rate", config.learning_rate,
          "> 0 and finite");
  require(in_unit(config.beta1), "beta1", config.beta1, "in [0, 1)");
  require(in_unit(config.beta2), "beta2", config.beta2, "in [0, 1)");
  require(is_positive(config.adam_epsilon), "adam_epsilon", config.adam_epsilon, "> 0 and finite");
  require(in_unit(config.ema_decay), "ema_decay", config.ema_decay, "in [0, 1)");
  require(config.gradient_clip >= 0.0 && std::isfinite(config.gradient_clip), "gradient_clip",
          config.gradient_clip, ">= 0 and finite (0: off)");
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

void check_conditions(const Tensor& conditions, int64_t num_samples, int64_t dim,
                      const std::string& where) {
  const std::vector<int64_t> shape = {num_samples, dim};
  if (!conditions.defined() || conditions.sizes() != at::IntArrayRef(shape) ||
      !conditions.is_floating_point() || !conditions.is_cpu()) {
    throw ShapeError(where + "conditions that are not floats of shape " +
                     detail::shape_text(shape) + " on cpu");
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
  Trainer(const TrainConfig& config, Trainee trainee, const DataSet& data, const TrainState& start)
      : config_(config),
        trainee_(std::move(trainee)),
        data_(data),
        flats_(trainee_.layout),
        state_(start),
        rng_(config.seed) {
    const std::map<std::string, Tensor> views = flats_.views(trainee_.layout);
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
  void fill_schedule() {
    std::vector<int64_t> shape(1 + trainee_.event_shape.size(), 1);
    shape.front() = config_.schedule.num_levels();
    root_alpha_bar_ = at::empty(shape, at::kDouble);
    sigma_ = at::empty(shape, at::kDouble);
    for (int64_t i = 0; i < shape.front(); ++i) {
      const NoiseLevel level = config_.schedule.level(i);
      root_alpha_bar_[i].fill_(std::sqrt(level.alpha_bar));
      sigma_[i].fill_(level.sigma());
    }
  }

  // The passes read the points as raw row-major memory; anyone can write a DataSet.
  Draw sample(int64_t num_samples, Rng rng) const {
    const std::string where = "train: the data " + data_.describe() + " gave ";
    if (trainee_.num_classes > 0) {
      const auto& labelled = dynamic_cast<const LabelledData&>(data_);  // the caller saw to it
      const LabelledData::Draw draw = labelled.sample_labelled(num_samples, rng);
      check_labels(draw.labels, num_samples, trainee_.num_classes, where);
      return {checked(draw.points, num_samples), draw.labels.detach(), {}};
    }
    if (trainee_.condition_dim > 0) {
      const auto& conditioned = dynamic_cast<const ConditionedData&>(data_);
      const ConditionedData::Draw draw = conditioned.sample_conditioned(num_samples, rng);
      check_conditions(draw.conditions, num_samples, trainee_.condition_dim, where);
      return {checked(draw.points, num_samples), {}, draw.conditions.detach().to(at::kFloat)};
    }
    return {checked(data_.sample(num_samples, rng), num_samples), {}, {}};
  }

  Tensor checked(const Tensor& points, int64_t num_samples) const {
    const std::string where = "train: the data " + data_.describe() + " gave points ";
    std::vector<int64_t> shape = trainee_.event_shape;
    shape.insert(shape.begin(), num_samples);
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

  Batch noised(const Draw& draw, const Tensor& level, Rng rng) const {
    const Tensor noise = rng.normal_like(draw.points);
    const Tensor x = root_alpha_bar_.index_select(0, level) * draw.points +
                     sigma_.index_select(0, level) * noise;
    return {.x = x.to(at::kFloat),
            .noise = noise.to(at::kFloat),
            .level = level,
            .start = draw.points.to(at::kFloat),
            .label = draw.labels,
            .condition = draw.conditions};
  }

  Batch draw() const {
    const auto at_step = [&](const char* purpose) {
      return rng_.split(purpose).at(0, state_.step);
    };
    Rng level = at_step("level");
    const Draw data = sample(config_.batch_size, at_step("data"));
    const Tensor u = level.uniform(config_.batch_size, data.points);
    const Tensor share = config_.level_law == LevelLaw::squared ? u.square() : u;
    const Tensor index = (share * config_.schedule.num_levels()).floor().to(at::kLong);
    Batch batch = noised(data, index, at_step("noise"));
    if (config_.drop_probability > 0.0) {
      batch.is_dropped =
          at_step("drop").uniform(config_.batch_size, u).lt(config_.drop_probability);
    }
    return batch;
  }

  double step() {
    const double loss = trainee_.pass->gradient(flats_.weight, draw(), flats_.gradient);
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
    const auto step = static_cast<double>(state_.step);
    double rate = config_.learning_rate;
    if (state_.step < config_.warmup_steps) {
      rate *= (step + 1.0) / static_cast<double>(config_.warmup_steps);
    }
    if (config_.rate_schedule == RateSchedule::constant) {
      return rate;
    }
    const double done = step / static_cast<double>(config_.num_steps);
    return rate * 0.5 * (1.0 + std::cos(std::numbers::pi * done));
  }

  // With a warm-up the average of k steps forgets the initial weights as 1/k^9: of a run shorter
  // than 1 / (1 - ema_decay) they would else be a large part.
  double ema_decay() const {
    const auto step = static_cast<double>(state_.step);
    const double young = (1.0 + step) / (10.0 + step);
    return config_.ema_warmup ? std::min(config_.ema_decay, young) : config_.ema_decay;
  }

  void update(double gradient_scale) {
    const double t = static_cast<double>(state_.step + 1);
    const detail::AdamStep adam{.learning_rate = learning_rate(),
                                .beta1 = config_.beta1,
                                .beta2 = config_.beta2,
                                .epsilon = config_.adam_epsilon,
                                .correction1 = 1.0 - std::pow(config_.beta1, t),
                                .correction2 = 1.0 - std::pow(config_.beta2, t),
                                .ema_decay = ema_decay(),
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

  // Points as the levels, one after the other; where the levels are many, spread over all.
  Tensor held_out_levels() const {
    const int64_t levels = config_.schedule.num_levels();
    const Tensor row = at::arange(config_.held_out_size, at::kLong);
    if (trainee_.held_out_bands == levels) {
      return row.remainder(levels);
    }
    const double spacing = static_cast<double>(levels) / static_cast<double>(config_.held_out_size);
    return ((row.to(at::kDouble) + 0.5) * spacing).floor().to(at::kLong);
  }

  HeldOut held_out() {
    const int64_t levels = config_.schedule.num_levels();
    if (!held_out_pass_) {
      held_out_pass_ = trainee_.make_held_out_pass();
      const Draw data = sample(config_.held_out_size, rng_.split("held-out data"));
      held_out_batch_ = noised(data, held_out_levels(), rng_.split("held-out noise"));
    }
    const Tensor losses = held_out_pass_->row_losses(flats_.average, held_out_batch_);
    HeldOut result{.step = state_.step, .mean = losses.mean().item<double>(), .per_level = {}};
    const Tensor band = (held_out_batch_.level * trainee_.held_out_bands).floor_divide(levels);
    for (int64_t i = 0; i < trainee_.held_out_bands; ++i) {
      result.per_level.push_back(losses.masked_select(band.eq(i)).mean().item<double>());
    }
    return result;
  }

  const TrainConfig& config_;
  Trainee trainee_;
  const DataSet& data_;
  Flats flats_;
  TrainState state_;
  Rng rng_;
  std::unique_ptr<GradientPass> held_out_pass_;
  Batch held_out_batch_;
  Tensor root_alpha_bar_, sigma_;  // (levels, 1, ...) float64
};

}  // namespace

namespace detail {

std::map<std::string, Tensor> zero_tensors(const std::vector<Parameter>& layout) {
  return Flats(layout).views(layout);
}

int64_t held_out_bands(int64_t num_levels) { return num_levels > kMaxBands ? 10 : num_levels; }

void check_numbers(const TrainConfig& config) {
  check_rates(config);
  require(config.num_steps >= 0, "num_steps", config.num_steps, ">= 0");
  require(config.num_steps < (int64_t{1} << 32), "num_steps", config.num_steps, "< 2^32");
  require(config.batch_size >= 1, "batch_size", config.batch_size, ">= 1");
  require(config.warmup_steps >= 0, "warmup_steps", config.warmup_steps, ">= 0");
  require(config.drop_probability >= 0.0 && config.drop_probability < 1.0, "drop_probability",
          config.drop_probability, "in [0, 1)");
  require(config.held_out_every >= 1, "held_out_every", config.held_out_every, ">= 1");
  const int64_t bands = held_out_bands(config.schedule.num_levels());
  require(config.held_out_size >= bands, "held_out_size", config.held_out_size,
          bands == config.schedule.num_levels() ? "at least network.num_levels"
                                                : "at least 10, one for each tenth of the levels");
}

TrainState train_loop(const TrainConfig& config, Trainee trainee, const DataSet& data,
                      const TrainState& start, const TrainObserver& observer) {
  const at::NoGradGuard no_graph;
  return Trainer(config, std::move(trainee), data, start).run(observer);
}

}  // namespace detail
}  // namespace motet
