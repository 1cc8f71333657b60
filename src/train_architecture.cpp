// Training of any architecture: what the network is to say of x_t = sqrt(abar) x_0 + sigma n (the
// noise n, x_0, or v = sqrt(abar) n - sigma x_0), or of which class x_0 is, by autograd. Energies
// differentiate twice: eps_hat = grad_x E keeps its graph.
#include "train_architecture.hpp"

#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "error_shape.hpp"
#include "motet/error.hpp"
#include "train_loop.hpp"

namespace motet {
namespace {

using detail::Architecture;
using detail::ArchitecturePtr;
using detail::Batch;
using detail::InputSpec;
using detail::Objective;
using detail::Prediction;
using detail::quoted_text;
using detail::shape_text;
using detail::TensorMap;

constexpr int64_t kHeldOutRows = 64;  // at once, so that memory does not grow with held_out_size

bool is_energy(const Objective& objective) {
  return objective.prediction && detail::is_energy(*objective.prediction);
}

Tensor channels_last(const Tensor& x) {
  return x.dim() == 4 ? x.contiguous(at::MemoryFormat::ChannelsLast) : x.contiguous();
}

Tensor rows_of(const Tensor& tensor, int64_t begin, int64_t end) {
  return tensor.defined() ? tensor.slice(0, begin, end) : tensor;
}

Batch rows_of(const Batch& batch, int64_t begin, int64_t end) {
  return {.x = rows_of(batch.x, begin, end),
          .noise = rows_of(batch.noise, begin, end),
          .level = rows_of(batch.level, begin, end),
          .start = rows_of(batch.start, begin, end),
          .label = rows_of(batch.label, begin, end),
          .condition = rows_of(batch.condition, begin, end),
          .is_dropped = rows_of(batch.is_dropped, begin, end)};
}

class ArchitecturePass final : public detail::GradientPass {
 public:
  ArchitecturePass(ArchitecturePtr architecture, Objective objective, const NoiseSchedule& schedule,
                   Compute compute)
      : architecture_(std::move(architecture)),
        objective_(std::move(objective)),
        dtype_(compute == Compute::bfloat16 ? at::kBFloat16 : at::kFloat),
        layout_(detail::parameter_layout(architecture_->expected_tensors())) {
    std::vector<int64_t> shape(1 + architecture_->event_shape().size(), 1);
    shape.front() = schedule.num_levels();
    root_alpha_bar_ = at::empty(shape, at::kFloat);
    sigma_ = at::empty(shape, at::kFloat);
    for (int64_t i = 0; i < shape.front(); ++i) {
      root_alpha_bar_[i].fill_(std::sqrt(schedule.level(i).alpha_bar));
      sigma_[i].fill_(schedule.level(i).sigma());
    }
    for (const InputSpec& input : architecture_->inputs()) {
      if (input.name == objective_.condition) {
        condition_ = input;
      }
    }
  }

  double gradient(const Tensor& weights, const Batch& batch, const Tensor& gradient) override {
    const at::AutoGradMode with_graph(true);
    TensorMap tensors;
    std::vector<Tensor> leaves;
    for (const auto& [name, view] : detail::named_views(layout_, weights)) {
      leaves.push_back(channels_last(view.detach().clone()).requires_grad_());
      tensors[name] = leaves.back().to(dtype_);
    }
    const Tensor loss =
        objective_.prediction
            ? (predict(tensors, batch, /*with_graph=*/true) - wanted(batch)).square().mean()
            : cross_entropy(tensors, batch).mean();
    const auto gradients = torch::autograd::grad({loss}, leaves, {}, false, false, true);
    const Tensor flat = gradient.detach();
    flat.zero_();
    for (size_t i = 0; i < leaves.size(); ++i) {
      if (gradients[i].defined()) {
        flat.narrow(0, layout_[i].offset, layout_[i].count)
            .view(layout_[i].shape)
            .copy_(gradients[i]);
      }
    }
    return loss.item<double>();
  }

  Tensor row_losses(const Tensor& weights, const Batch& batch) override {
    TensorMap tensors;
    for (const auto& [name, view] : detail::named_views(layout_, weights.detach())) {
      tensors[name] = channels_last(view).to(dtype_);
    }
    std::vector<Tensor> losses;
    for (int64_t begin = 0; begin < batch.x.size(0); begin += kHeldOutRows) {
      losses.push_back(losses_of(tensors, rows_of(batch, begin, begin + kHeldOutRows)));
    }
    return at::cat(losses);
  }

 private:
  Tensor losses_of(const TensorMap& tensors, const Batch& batch) const {
    if (!objective_.prediction) {
      const at::NoGradGuard no_graph;
      return cross_entropy(tensors, batch).to(at::kDouble);
    }
    const at::AutoGradMode with_graph(is_energy(objective_));
    const Tensor f = predict(tensors, batch, /*with_graph=*/false).detach();
    return (noise_of(f, batch) - batch.noise).to(at::kDouble).square().flatten(1).mean(1);
  }

  Tensor output(const TensorMap& tensors, const Tensor& x, const Batch& batch) const {
    return architecture_->forward(tensors, channels_last(x).to(dtype_), batch.level.to(at::kFloat),
                                  inputs_of(batch));
  }

  detail::Inputs inputs_of(const Batch& batch) const {
    if (objective_.condition.empty()) {
      return {};
    }
    if (condition_.num_values > 0) {
      const Tensor label =
          batch.is_dropped.defined()
              ? batch.label.masked_fill(batch.is_dropped, condition_.num_values - 1)
              : batch.label;
      return {{condition_.name, label}};
    }
    Tensor features = condition_features(batch.condition, condition_.shape.front());
    if (batch.is_dropped.defined()) {
      features = features.masked_fill(batch.is_dropped.unsqueeze(1), 0.0);
    }
    return {{condition_.name, features.to(dtype_)}};
  }

  // What the network says of x_t, float32; of energies grad_x E.
  Tensor predict(const TensorMap& tensors, const Batch& batch, bool with_graph) const {
    if (!is_energy(objective_)) {
      return output(tensors, batch.x, batch).to(at::kFloat);
    }
    const Tensor x = channels_last(batch.x.detach()).requires_grad_();
    const Tensor f = output(tensors, x, batch).to(at::kFloat);
    const Tensor root = objective_.prediction == Prediction::energy_residual ? f - x : f;
    return torch::autograd::grad({root.square().sum()}, {x}, {}, with_graph, with_graph)[0];
  }

  Tensor cross_entropy(const TensorMap& tensors, const Batch& batch) const {
    const Tensor logits = output(tensors, batch.x, batch).to(at::kFloat);
    return -at::log_softmax(logits, 1).gather(1, batch.label.unsqueeze(1)).squeeze(1);
  }

  Tensor wanted(const Batch& batch) const {
    const Tensor scale = root_alpha_bar_.index_select(0, batch.level);
    const Tensor sigma = sigma_.index_select(0, batch.level);
    switch (*objective_.prediction) {
      case Prediction::sample:
        return batch.start;
      case Prediction::v_prediction:
        return scale * batch.noise - sigma * batch.start;
      default:
        return batch.noise;
    }
  }

  // eps of what the network says.
  Tensor noise_of(const Tensor& f, const Batch& batch) const {
    const Tensor scale = root_alpha_bar_.index_select(0, batch.level);
    const Tensor sigma = sigma_.index_select(0, batch.level);
    switch (*objective_.prediction) {
      case Prediction::sample:
        return (batch.x - scale * f) / sigma;
      case Prediction::v_prediction:
        return scale * f + sigma * batch.x;
      default:
        return f;
    }
  }

  ArchitecturePtr architecture_;
  Objective objective_;
  at::ScalarType dtype_;
  std::vector<detail::Parameter> layout_;
  Tensor root_alpha_bar_, sigma_;  // (levels, 1, ...) float32
  InputSpec condition_;
};

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// The modules that end a residual block, an attention or the network, as diffusers and
// guided-diffusion name them.
bool ends_a_part(const std::string& module) {
  constexpr std::array<const char*, 5> kLast = {".conv2", ".to_out.0", ".out_layers.3", ".proj_out",
                                                "conv_out"};
  return std::any_of(kLast.begin(), kLast.end(),
                     [&module](const char* last) { return ends_with(module, last); });
}

bool is_zero(const std::string& name, const std::string& module, const Objective& objective) {
  if (!ends_with(name, ".weight") && !ends_with(name, ".bias")) {
    return false;
  }
  const bool is_output = module == "conv_out" || module == "out.2";
  return is_output ? objective.prediction != Prediction::energy_norm : ends_a_part(module);
}

Tensor uniform_within(double bound, at::IntArrayRef shape, Rng rng) {
  return bound * (2.0 * rng.uniform_like(at::empty(shape, at::kDouble)) - 1.0);
}

int64_t fan_in(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (size_t i = 1; i < shape.size(); ++i) {
    count *= shape[i];
  }
  return std::max<int64_t>(count, 1);
}

// The initial values of one tensor.
Tensor initial_values(const std::string& name, const detail::ShapeMap& shapes,
                      const Objective& objective, Rng rng) {
  const std::vector<int64_t>& shape = shapes.at(name);
  const size_t dot = name.rfind('.');
  const std::string module = dot == std::string::npos ? name : name.substr(0, dot);
  const auto weight = shapes.find(module + ".weight");
  if (is_zero(name, module, objective)) {
    return at::zeros(shape, at::kDouble);
  }
  if (ends_with(module, "embedding") && shape.size() == 2) {
    return rng.normal_like(at::empty(shape, at::kDouble));
  }
  if (weight == shapes.end()) {  // a tensor of its own: positions of an attention
    return rng.normal_like(at::empty(shape, at::kDouble)) /
           std::sqrt(static_cast<double>(shape.front()));
  }
  if (weight->second.size() == 1) {  // a norm
    return at::full(shape, ends_with(name, ".weight") ? 1.0 : 0.0, at::kDouble);
  }
  return uniform_within(1.0 / std::sqrt(static_cast<double>(fan_in(weight->second))), shape, rng);
}

[[noreturn]] void refuse(const std::string& why) { throw ConfigError("train: " + why); }

void check_shapes(const Architecture& architecture, const DataSet& data) {
  if (architecture.event_shape() != data.event_shape()) {
    refuse("the network " + architecture.describe() + " takes points of shape " +
           shape_text(architecture.event_shape()) + ", but the data " + data.describe() +
           " have the shape " + shape_text(data.event_shape()) +
           "; change the network's size and channels, or data.pad");
  }
}

int64_t classes_of(const DataSet& data, const std::string& who) {
  const auto* labelled = dynamic_cast<const LabelledData*>(&data);
  if (labelled == nullptr) {
    refuse(who + " needs points with labels, but the data " + data.describe() +
           " have none; give data.labels");
  }
  return labelled->num_classes();
}

// What the objective asks of the data: classes, or numbers of a condition.
struct Demand {
  int64_t num_classes = 0;
  int64_t condition_dim = 0;
};

Demand check_classifier(const Architecture& architecture, const TrainConfig& config,
                        const DataSet& data) {
  const int64_t classes = classes_of(data, "a classifier");
  if (architecture.output_shape() != std::vector<int64_t>{classes}) {
    refuse("the classifier " + architecture.describe() + " has an output of shape " +
           shape_text(architecture.output_shape()) + ", but the data " + data.describe() +
           " have " + std::to_string(classes) + " classes; make them equal");
  }
  if (config.drop_probability > 0.0) {
    refuse("drop_probability is > 0, but a classifier sees no label; set drop_probability = 0");
  }
  return {.num_classes = classes};
}

Demand check_labels_input(const InputSpec& input, const TrainConfig& config, const DataSet& data) {
  const int64_t classes = classes_of(data, "the input " + quoted_text(input.name));
  const int64_t values = classes + (config.drop_probability > 0.0 ? 1 : 0);
  if (input.num_values != values) {
    refuse("the input " + quoted_text(input.name) + " takes " + std::to_string(input.num_values) +
           " values, but the data " + data.describe() + " have " + std::to_string(classes) +
           " classes" + (values > classes ? ", and drop_probability > 0 takes one more" : "") +
           "; set num_class_embeds = " + std::to_string(values));
  }
  return {.num_classes = classes};
}

Demand check_condition(const Architecture& architecture, const Objective& objective,
                       const TrainConfig& config, const DataSet& data) {
  const std::vector<InputSpec> inputs = architecture.inputs();
  const auto found = std::find_if(inputs.begin(), inputs.end(), [&](const InputSpec& input) {
    return input.name == objective.condition;
  });
  if (found == inputs.end()) {
    refuse("the network " + architecture.describe() + " has no input " +
           quoted_text(objective.condition));
  }
  if (found->num_values > 0) {
    return check_labels_input(*found, config, data);
  }
  const auto* conditioned = dynamic_cast<const ConditionedData*>(&data);
  if (conditioned == nullptr || found->shape.size() != 1) {
    refuse("the input " + quoted_text(found->name) + " of shape " + shape_text(found->shape) +
           " needs points with a vector each, such as data.set = \"scenes\" gives, but the data " +
           data.describe() + " have none");
  }
  return {.condition_dim = conditioned->condition_dim()};
}

Demand check(const TrainConfig& config, const Architecture& architecture,
             const Objective& objective, const DataSet& data) {
  detail::check_numbers(config);
  check_shapes(architecture, data);
  if (!objective.prediction) {
    return check_classifier(architecture, config, data);
  }
  if (architecture.output_shape() != architecture.event_shape()) {
    refuse("the network " + architecture.describe() + " has an output of shape " +
           shape_text(architecture.output_shape()) + ", must be that of its points, " +
           shape_text(architecture.event_shape()));
  }
  if (config.mixed_precision && is_energy(objective)) {
    refuse(
        "mixed_precision = true is not for energies, whose gradients of gradients need float32; "
        "set mixed_precision = false");
  }
  if (!objective.condition.empty()) {
    return check_condition(architecture, objective, config, data);
  }
  if (config.drop_probability > 0.0) {
    refuse("drop_probability is > 0, but the network " + architecture.describe() +
           " sees neither label nor condition; set drop_probability = 0");
  }
  return {};
}

}  // namespace

Tensor condition_features(const Tensor& conditions, int64_t dim) {
  const int64_t num_values = conditions.dim() == 2 ? conditions.size(1) : 0;
  if (num_values < 1 || dim < 2 * num_values) {
    throw ShapeError("train: condition_features() was given conditions of shape " +
                     shape_text(conditions.sizes()) + " and dim = " + std::to_string(dim) +
                     ", must be (B, k) and at least 2 k");
  }
  const int64_t count = dim / (2 * num_values);
  const Tensor octave =
      at::arange(count, at::kDouble) * (4.0 / static_cast<double>(std::max<int64_t>(count - 1, 1)));
  const Tensor frequency = (0.5 * std::numbers::pi) * octave.exp2();
  const Tensor phase = conditions.to(at::kDouble).unsqueeze(2) * frequency.to(conditions.device());
  const Tensor features = at::cat({phase.sin(), phase.cos()}, 2).flatten(1);
  return at::constant_pad_nd(features, {0, dim - features.size(1)}).to(at::kFloat);
}

namespace detail {

std::unique_ptr<GradientPass> architecture_pass(ArchitecturePtr architecture, Objective objective,
                                                const NoiseSchedule& schedule, Compute compute) {
  return std::make_unique<ArchitecturePass>(std::move(architecture), std::move(objective), schedule,
                                            compute);
}

TrainState initial_architecture_state(const Architecture& architecture, const Objective& objective,
                                      uint64_t seed) {
  const ShapeMap shapes = architecture.expected_tensors();
  const std::vector<Parameter> layout = parameter_layout(shapes);
  TrainState state;
  state.tensors = zero_tensors(layout);
  const Rng rng = Rng(seed).split("init");
  for (size_t i = 0; i < layout.size(); ++i) {
    const Tensor values =
        initial_values(layout[i].name, shapes, objective, rng.at(0, static_cast<int64_t>(i)));
    state.tensors.at("weight." + layout[i].name).copy_(values);
    state.tensors.at("ema." + layout[i].name).copy_(values);
  }
  return state;
}

TrainState train_architecture(const TrainConfig& config, const ArchitecturePtr& architecture,
                              const Objective& objective, const DataSet& data,
                              const TrainObserver& observer, const TrainState* resume) {
  const Demand demand = check(config, *architecture, objective, data);
  const auto make_pass = [&](Compute compute) {
    return architecture_pass(architecture, objective, config.schedule, compute);
  };
  Trainee trainee{.layout = parameter_layout(architecture->expected_tensors()),
                  .event_shape = architecture->event_shape(),
                  .pass = make_pass(config.mixed_precision ? Compute::bfloat16 : Compute::float32),
                  .make_held_out_pass = [&make_pass] { return make_pass(Compute::float32); },
                  .num_classes = demand.num_classes,
                  .condition_dim = demand.condition_dim,
                  .held_out_bands = held_out_bands(config.schedule.num_levels())};
  return train_loop(config, std::move(trainee), data,
                    resume == nullptr
                        ? initial_architecture_state(*architecture, objective, config.seed)
                        : *resume,
                    observer);
}

TensorMap trained_tensors(const Architecture& architecture, const TrainState& state) {
  TensorMap tensors;
  for (const auto& [name, shape] : architecture.expected_tensors()) {
    tensors[name] = state.tensors.at("ema." + name).clone();
  }
  return tensors;
}

}  // namespace detail
}  // namespace motet
