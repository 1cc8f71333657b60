// Architectures with weights, and outputs as scores. With f the network's output, x_t = a x_0 + s n,
// a^2 = abar and s^2 = 1 - abar, and x_0 and n standing for their means given x_t:
//   epsilon       n = f               v_prediction  f = a n - s x_0, so n = a f + s x
//   sample        x_0 = f, so n = (x - a f) / s (Tweedie)
//   score = -n / s; energies: eps = grad E, log p = -E / s ([S23] eq. 16), or plainly log p = -E
// In variance-exploding coordinates the network sees x / a = x_0 + (s / a) n: x_0 and n are the same,
// a score there is a times the score here.
#include "nets/network.hpp"

#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <algorithm>
#include <utility>

#include "error_shape.hpp"
#include "motet/error.hpp"
#include "nets/layers.hpp"
#include "nets/pieces.hpp"
#include "nets/words.hpp"

namespace motet {
namespace {

using detail::Coordinates;
using detail::EnergyPass;
using detail::Inputs;
using detail::InputSpec;
using detail::Prediction;
using detail::quoted_text;
using detail::shape_text;
using detail::TensorMap;
using detail::with_rows;

int64_t numbers_of(const std::vector<int64_t>& shape) { return c10::multiply_integers(shape); }

[[noreturn]] void fail_input(const std::string& prefix, const std::string& name,
                             const std::string& why) {
  throw ConfigError(prefix + "input " + quoted_text(name) + " " + why);
}

// A number or a row of what is allowed, as (1, *shape).
at::Tensor checked_input(const InputSpec& spec, const at::Tensor& given,
                         const std::string& prefix) {
  const std::vector<int64_t> expected = with_rows(1, spec.shape);
  const at::Tensor row = given.dim() == static_cast<int64_t>(spec.shape.size())
                             ? given.detach().unsqueeze(0)
                             : given.detach();
  if (row.sizes() != at::IntArrayRef(expected)) {
    fail_input(prefix, spec.name,
               "has shape " + shape_text(given.sizes()) + ", must be " + shape_text(spec.shape));
  }
  if (spec.num_values == 0) {
    return row;
  }
  const double value = row.to(at::kDouble).item<double>();
  if (!(value >= 0.0 && value < static_cast<double>(spec.num_values) &&
        value == std::floor(value))) {
    fail_input(prefix, spec.name,
               "is not a class of this network; must be a whole number from 0 to " +
                   std::to_string(spec.num_values - 1));
  }
  return row.to(at::kLong);
}

class BoundNetwork : public detail::Network {
 public:
  BoundNetwork(detail::ArchitecturePtr architecture, const TensorMap& tensors, const Inputs& inputs,
               Compute compute, const at::Device& device)
      : architecture_(std::move(architecture)),
        device_(device),
        dtype_(compute == Compute::bfloat16 ? at::kBFloat16 : at::kFloat),
        is_channels_last_(compute != Compute::reference &&
                          architecture_->event_shape().size() == 3),
        rows_(detail::rows_at_once(architecture_->event_shape())) {
    for (const auto& [name, tensor] : tensors) {
      at::Tensor own = tensor.detach().to(device, dtype_);
      tensors_[name] = is_channels_last_ && own.dim() == 4
                           ? own.contiguous(at::MemoryFormat::ChannelsLast)
                           : own.contiguous();
    }
    for (const auto& [name, row] : inputs) {
      inputs_[name] = row.is_floating_point() ? row.to(device, dtype_) : row.to(device);
    }
  }

  std::vector<int64_t> event_shape() const override { return architecture_->event_shape(); }
  std::vector<int64_t> output_shape() const override { return architecture_->output_shape(); }
  at::Device device() const override { return device_; }

  at::Tensor forward(const at::Tensor& x, double time) const override {
    const at::NoGradGuard no_graph;
    at::Tensor f = at::empty(with_rows(x.size(0), output_shape()), x.options());
    detail::for_pieces(x, rows_, [&](int64_t first, int64_t rows, const at::Tensor& piece) {
      f.narrow(0, first, rows).copy_(pass(packed(), piece, time).narrow(0, 0, rows));
    });
    return f;
  }

  EnergyPass energy(const at::Tensor& x, double time, bool residual) const override {
    return differentiated(x, time, [residual](const at::Tensor& f, const at::Tensor& leaf) {
      return (residual ? f - leaf : f).to(at::kDouble).square().flatten(1).sum(1);
    });
  }

  EnergyPass energy_of_output(const at::Tensor& x, double time,
                              const detail::OutputFunction& g) const override {
    return differentiated(x, time,
                          [&g](const at::Tensor& f, const at::Tensor& /*leaf*/) { return g(f); });
  }

 private:
  // Values of `function` of f and x, (rows), and their gradient in x; the graph of one piece at a
  // time.
  template <class Function>
  EnergyPass differentiated(const at::Tensor& x, double time, const Function& function) const {
    const at::AutoGradMode with_graph(true);
    EnergyPass result = {.energy = at::empty({x.size(0)}, x.options().dtype(at::kDouble)),
                         .gradient = at::empty_like(x)};
    detail::for_pieces(x, rows_, [&](int64_t first, int64_t rows, const at::Tensor& piece) {
      const at::Tensor leaf = piece.detach().requires_grad_(true);
      const at::Tensor energies = function(pass(tensors_, leaf, time), leaf);
      const at::Tensor gradient = torch::autograd::grad({energies.sum()}, {leaf})[0];
      const at::NoGradGuard no_graph;
      result.energy.narrow(0, first, rows).copy_(energies.detach().narrow(0, 0, rows));
      result.gradient.narrow(0, first, rows).copy_(gradient.narrow(0, 0, rows));
    });
    return result;
  }

  // The tensors of passes without a graph, made when first asked for: energies never ask.
  const TensorMap& packed() const {
    if (!is_channels_last_ || !device_.is_cpu() || !architecture_->packs_convolutions()) {
      return tensors_;
    }
    if (packed_.empty()) {
      packed_ = detail::pack_convolutions(tensors_);
    }
    return packed_;
  }

  // f of a piece, float32.
  at::Tensor pass(const TensorMap& tensors, const at::Tensor& piece, double time) const {
    at::Tensor x = piece.to(dtype_);
    x = is_channels_last_ ? x.contiguous(at::MemoryFormat::ChannelsLast) : x.contiguous();
    const at::Tensor times = at::full({1}, time, x.options().dtype(at::kFloat));
    return architecture_->forward(tensors, x, times, inputs_).to(at::kFloat);
  }

  detail::ArchitecturePtr architecture_;
  at::Device device_;
  at::ScalarType dtype_;
  bool is_channels_last_;
  int64_t rows_;
  TensorMap tensors_;
  mutable TensorMap packed_;
  Inputs inputs_;
};

class PredictionModel : public Model {
 public:
  PredictionModel(detail::NetworkPtr network, detail::OutputSpec spec, std::string name)
      : network_(std::move(network)), spec_(std::move(spec)), name_(std::move(name)) {}

  Eval evaluate(const Tensor& x, const NoiseLevel& level) const override {
    const at::NoGradGuard no_graph;
    detail::check_points(x, event_shape(), name_);
    detail::check_level(spec_.schedule.num_levels(), level, name_);
    const Tensor own = x.detach().to(network_->device(), at::kFloat);
    const Tensor seen = (is_exploding() ? own / std::sqrt(level.alpha_bar) : own).contiguous();
    const double time = spec_.times[static_cast<size_t>(level.index)];
    if (is_exact()) {
      return energy_eval(seen, time, x, level);
    }
    const Tensor output = network_->forward(seen.to(network_->dtype()), time).to(at::kFloat);
    const Tensor f = output.narrow(1, 0, event_shape().front());
    const Tensor score = score_of(f, own, level).to(x.options()).contiguous();
    return {.score = score, .log_density = {}, .remainder = score};
  }

  bool is_exact() const override { return detail::is_energy(spec_.prediction); }
  std::vector<int64_t> event_shape() const override { return network_->event_shape(); }
  std::string describe() const override { return name_; }
  std::optional<NoiseSchedule> schedule() const override { return spec_.schedule; }

 private:
  bool is_exploding() const { return spec_.coordinates == Coordinates::variance_exploding; }

  Tensor score_of(const Tensor& f, const Tensor& x, const NoiseLevel& level) const {
    const double scale = std::sqrt(level.alpha_bar);
    const double sigma = level.sigma();
    switch (spec_.prediction) {
      case Prediction::sample:
        return (scale * f - x) / (sigma * sigma);
      case Prediction::v_prediction:
        return (scale * f + sigma * x) / -sigma;
      case Prediction::score:
        return is_exploding() ? f / scale : f;
      default:
        return f / -sigma;
    }
  }

  Eval energy_eval(const Tensor& seen, double time, const Tensor& x,
                   const NoiseLevel& level) const {
    const bool residual = spec_.prediction == Prediction::energy_residual;
    const EnergyPass pass = network_->energy(seen, time, residual);
    const double divisor = spec_.prediction == Prediction::energy ? 1.0 : level.sigma();
    const double outer = is_exploding() ? divisor * std::sqrt(level.alpha_bar) : divisor;
    return {.score = pass.gradient.div(-outer).to(x.options()).contiguous(),
            .log_density = pass.energy.to(at::kDouble).div(-divisor).to(x.device()),
            .remainder = {}};
  }

  detail::NetworkPtr network_;
  detail::OutputSpec spec_;
  std::string name_;
};

}  // namespace

namespace detail {

Inputs checked_inputs(const std::vector<InputSpec>& specs, const Inputs& given,
                      const std::string& prefix) {
  Inputs checked;
  std::vector<std::string> names;
  for (const InputSpec& spec : specs) {
    names.push_back(spec.name);
    const auto found = given.find(spec.name);
    if (found != given.end()) {
      checked[spec.name] = checked_input(spec, found->second, prefix);
    } else if (spec.is_required) {
      fail_input(
          prefix, spec.name,
          "is missing; the network needs one of shape " + shape_text(spec.shape) +
              (spec.num_values > 0 ? ", a class from 0 to " + std::to_string(spec.num_values - 1)
                                   : ""));
    }
  }
  for (const auto& [name, tensor] : given) {
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      const std::string near = nearest(name, names);
      fail_input(prefix, name,
                 names.empty()  ? "is not taken: this network has no inputs beside x and the time"
                 : near.empty() ? "is not known; the network has " + quoted_text(names.front())
                                : "is not known; did you mean " + quoted_text(near) + "?");
    }
  }
  return checked;
}

int64_t rows_at_once(const std::vector<int64_t>& event_shape) {
  constexpr int64_t kNumbers = int64_t{1} << 18;
  constexpr int64_t kMost = 64;
  return std::clamp<int64_t>(kNumbers / std::max<int64_t>(numbers_of(event_shape), 1), 1, kMost);
}

NetworkPtr bound_network(ArchitecturePtr architecture, const TensorMap& tensors, Inputs inputs,
                         Compute compute, const std::string& device, const std::string& prefix) {
  const at::Device at_device = device_from(device);
  check_tensors(architecture->expected_tensors(), tensors, prefix, TensorDtype::any_float);
  inputs = checked_inputs(architecture->inputs(), inputs, prefix);
  return std::make_shared<BoundNetwork>(std::move(architecture), tensors, inputs, compute,
                                        at_device);
}

EnergyPass Network::energy_of_output(const at::Tensor& /*x*/, double /*time*/,
                                     const OutputFunction& /*g*/) const {
  throw ConfigError(
      "network: no gradients pass through this network; export it as TorchScript, which keeps "
      "them");
}

void check_level(int64_t num_levels, const NoiseLevel& level, const std::string& name) {
  if (level.index < 0 || level.index >= num_levels) {
    throw ConfigError("network: \"" + name + "\" was trained on levels 0 to " +
                      std::to_string(num_levels - 1) + ", but is asked for level " +
                      std::to_string(level.index) + "; sample on the model's own schedule");
  }
}

void check_times(const std::vector<double>& times, const NoiseSchedule& schedule,
                 const std::string& prefix) {
  if (static_cast<int64_t>(times.size()) != schedule.num_levels()) {
    throw ConfigError(prefix + std::to_string(times.size()) + " times for " +
                      std::to_string(schedule.num_levels()) + " levels, must be one each");
  }
}

bool is_energy(Prediction prediction) {
  return prediction == Prediction::energy_norm || prediction == Prediction::energy_residual ||
         prediction == Prediction::energy;
}

std::string to_string(Prediction prediction) { return word_of(kPredictions, prediction); }

Prediction prediction_from(const std::string& name) {
  return value_of(kPredictions, "prediction", name);
}

ModelPtr prediction_model(NetworkPtr network, OutputSpec spec, std::string name) {
  const std::string prefix = "network: " + quoted_text(name) + ": ";
  const std::vector<int64_t> event = network->event_shape();
  const std::vector<int64_t> output = network->output_shape();
  std::vector<int64_t> with_variance = event;
  with_variance.front() *= 2;
  if (output != event && (output != with_variance || is_energy(spec.prediction))) {
    throw ConfigError(
        prefix + "its output of shape " + shape_text(output) + " is no score of points of shape " +
        shape_text(event) +
        "; must be as the points, or of twice the channels where a variance is learned");
  }
  check_times(spec.times, spec.schedule, prefix);
  return std::make_shared<PredictionModel>(std::move(network), std::move(spec), std::move(name));
}

}  // namespace detail
}  // namespace motet
