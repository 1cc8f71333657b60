// Networks as models. With f(x, t) the network and sigma the level's:
//   score:           s = -f / sigma                              ([S23] eq. 9); no density
//   energy_norm:     E = ||f||^2,     log p = -E / sigma, s = -grad E / sigma   ([S23] eq. 16)
//   energy_residual: E = ||f - x||^2, the same                   (the reference code's choice)
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <array>
#include <memory>
#include <optional>
#include <utility>

#include "error_shape.hpp"
#include "motet/error.hpp"
#include "motet/model.hpp"
#include "nets/fast_network.hpp"
#include "nets/network.hpp"
#include "nets/network_batch.hpp"
#include "nets/residual_mlp.hpp"
#include "nets/words.hpp"

namespace motet {
namespace {

using detail::EnergyPass;
using detail::TensorMap;
using detail::value_of;
using detail::word_of;
using detail::Words;

constexpr Words<Parameterisation, 4> kParameterisations = {
    {{Parameterisation::score, "score"},
     {Parameterisation::energy_norm, "energy_norm"},
     {Parameterisation::energy_residual, "energy_residual"},
     {Parameterisation::classifier, "classifier"}}};
constexpr Words<Compute, 3> kComputes = {{{Compute::reference, "reference"},
                                          {Compute::float32, "float32"},
                                          {Compute::bfloat16, "bfloat16"}}};

// How f and its energy are computed; x is (B, d) float32, contiguous, on the pass's device.
class Pass {
 public:
  virtual ~Pass() = default;
  virtual at::Tensor forward(const at::Tensor& x, int64_t level) const = 0;
  virtual EnergyPass energy(const at::Tensor& x, int64_t level, bool residual) const = 0;
};

// torch operations on any device; `product_dtype` is that of the blocks' matrix products.
class TorchPass : public Pass {
 public:
  TorchPass(const TensorMap& tensors, const NetworkConfig& config, at::ScalarType product_dtype,
            const at::Device& device)
      : config_(config), product_dtype_(product_dtype), device_(device) {
    for (const auto& [name, tensor] : tensors) {
      tensors_[name] = tensor.detach().to(device);
    }
  }

  at::Tensor forward(const at::Tensor& x, int64_t level) const override {
    const at::Tensor index = at::full({}, level, at::TensorOptions(device_).dtype(at::kLong));
    return detail::reference_forward(tensors_, config_, x, index, product_dtype_);
  }

  EnergyPass energy(const at::Tensor& x, int64_t level, bool residual) const override {
    const at::AutoGradMode with_graph(true);
    const at::Tensor leaf = x.detach().requires_grad_(true);
    const at::Tensor f = forward(leaf, level);
    const at::Tensor energy = (residual ? f - leaf : f).to(at::kDouble).square().sum(1);
    const at::Tensor gradient = torch::autograd::grad({energy.sum()}, {leaf})[0];
    return {energy.detach(), gradient.detach()};
  }

 private:
  TensorMap tensors_;
  NetworkConfig config_;
  at::ScalarType product_dtype_;
  at::Device device_;
};

class FastPass : public Pass {
 public:
  FastPass(const TensorMap& tensors, const NetworkConfig& config, const detail::Engine& engine)
      : network_(tensors, config, engine, config.parameterisation != Parameterisation::score) {}

  const detail::FastNetwork& network() const { return network_; }

  at::Tensor forward(const at::Tensor& x, int64_t level) const override {
    at::Tensor f = at::empty_like(x);
    network_.forward(x.const_data_ptr<float>(), x.size(0), level, f.mutable_data_ptr<float>());
    return f;
  }

  EnergyPass energy(const at::Tensor& x, int64_t level, bool residual) const override {
    at::Tensor energy = at::empty({x.size(0)}, at::kDouble);
    at::Tensor gradient = at::empty_like(x);
    network_.energy(x.const_data_ptr<float>(), x.size(0), level, residual,
                    energy.mutable_data_ptr<double>(), gradient.mutable_data_ptr<float>());
    return {energy, gradient};
  }

 private:
  detail::FastNetwork network_;
};

std::unique_ptr<const Pass> make_pass(const Weights& weights, Compute compute,
                                      const at::Device& device) {
  if (compute == Compute::reference || !device.is_cpu()) {
    const auto dtype = compute == Compute::bfloat16 ? at::kBFloat16 : at::kFloat;
    return std::make_unique<TorchPass>(weights.tensors, weights.config, dtype, device);
  }
  TensorMap tensors;
  for (const auto& [name, tensor] : weights.tensors) {
    tensors[name] = tensor.detach().to(at::kCPU).contiguous();
  }
  const bool is_narrow = compute_used(compute) == Compute::bfloat16;
  return std::make_unique<FastPass>(
      tensors, weights.config, is_narrow ? *detail::bfloat16_engine() : detail::float32_engine());
}

class NetworkModel : public Model {
 public:
  NetworkModel(Weights weights, std::string name, Compute compute, const at::Device& device)
      : config_(weights.config),
        schedule_(std::move(weights.schedule)),
        name_(std::move(name)),
        device_(device),
        pass_(make_pass(weights, compute, device)) {}

  Eval evaluate(const Tensor& x, const NoiseLevel& level) const override {
    const at::NoGradGuard no_graph;
    const Tensor points = input(x, level);
    if (config_.parameterisation == Parameterisation::score) {
      return score_eval(pass_->forward(points, level.index), x, level);
    }
    return energy_eval(pass_->energy(points, level.index, is_residual()), x, level);
  }

  /// What a fused pass runs, with its outputs, which `outputs` keeps; null where there is none.
  std::optional<detail::FastNetwork::Job> job(const Tensor& points, const NoiseLevel& level,
                                              EnergyPass& outputs) const {
    const auto* fast = dynamic_cast<const FastPass*>(pass_.get());
    if (fast == nullptr) {
      return std::nullopt;
    }
    outputs.gradient = at::empty_like(points);
    if (is_exact()) {
      outputs.energy = at::empty({points.size(0)}, at::kDouble);
    }
    return detail::FastNetwork::Job{
        .network = &fast->network(),
        .x = points.const_data_ptr<float>(),
        .level = level.index,
        .residual = is_residual(),
        .energy = is_exact() ? outputs.energy.mutable_data_ptr<double>() : nullptr,
        .out = outputs.gradient.mutable_data_ptr<float>()};
  }

  /// The Eval of what job() has written.
  Eval eval_of(const EnergyPass& outputs, const Tensor& x, const NoiseLevel& level) const {
    return is_exact() ? energy_eval(outputs, x, level) : score_eval(outputs.gradient, x, level);
  }

  /// x as passes take it. Throws as evaluate().
  Tensor input(const Tensor& x, const NoiseLevel& level) const {
    detail::check_points(x, event_shape(), name_);
    detail::check_level(config_, level, name_);
    return x.detach().to(device_, at::kFloat).contiguous();
  }

  bool is_exact() const override { return config_.parameterisation != Parameterisation::score; }
  std::vector<int64_t> event_shape() const override { return {config_.event_dim}; }
  std::string describe() const override { return name_; }
  std::optional<NoiseSchedule> schedule() const override { return schedule_; }

 private:
  bool is_residual() const { return config_.parameterisation == Parameterisation::energy_residual; }

  // Takes f over.
  static Eval score_eval(const Tensor& f, const Tensor& x, const NoiseLevel& level) {
    const Tensor score = f.div_(-level.sigma()).to(x.options());
    return {.score = score, .log_density = {}, .remainder = score};
  }

  static Eval energy_eval(const EnergyPass& pass, const Tensor& x, const NoiseLevel& level) {
    return {.score = pass.gradient.div(-level.sigma()).to(x.options()),
            .log_density = pass.energy.div(-level.sigma()).to(x.device()),
            .remainder = {}};
  }

  NetworkConfig config_;
  NoiseSchedule schedule_;
  std::string name_;
  at::Device device_;
  std::unique_ptr<const Pass> pass_;
};

// A network whose pass is yet to run.
struct Waiting {
  const NetworkModel* model = nullptr;
  size_t place = 0;  // among the leaves
  Tensor points = {};
  EnergyPass outputs = {};
  detail::FastNetwork::Job job = {};
};

bool is_alike(const Waiting& a, const Waiting& b) {
  const bool is_same_pass = (a.job.energy == nullptr) == (b.job.energy == nullptr);
  return is_same_pass && a.job.network->costs_as(*b.job.network);
}

// Those that cost the same run in one region: with others beside them, some threads would wait.
void run_alike(const std::vector<Waiting>& all) {
  std::vector<bool> is_done(all.size(), false);
  for (size_t i = 0; i < all.size(); ++i) {
    std::vector<detail::FastNetwork::Job> jobs;
    for (size_t k = i; k < all.size(); ++k) {
      if (!is_done[k] && is_alike(all[i], all[k])) {
        jobs.push_back(all[k].job);
        is_done[k] = true;
      }
    }
    detail::FastNetwork::run_together(jobs, all[i].points.size(0));
  }
}

// A classifier has no law of x of its own to be a model of.
void refuse_classifier(const NetworkConfig& config, const std::string& name) {
  if (config.parameterisation == Parameterisation::classifier) {
    throw ConfigError("network: \"" + name +
                      "\" is a classifier, which has no score; give its file as classifier = "
                      "\"FILE\" with a label, or load it by classifier_likelihood()");
  }
}

}  // namespace

std::vector<Eval> detail::evaluate_together(const std::vector<ModelPtr>& leaves, const Tensor& x,
                                            const NoiseLevel& level) {
  const at::NoGradGuard no_graph;
  std::vector<Eval> evals(leaves.size());
  std::vector<Waiting> waiting;
  for (size_t i = 0; i < leaves.size(); ++i) {
    Waiting next{.model = dynamic_cast<const NetworkModel*>(leaves[i].get()), .place = i};
    std::optional<FastNetwork::Job> job;
    if (next.model != nullptr) {
      next.points = next.model->input(x, level);
      job = next.model->job(next.points, level, next.outputs);
    }
    if (job) {
      next.job = *job;
      waiting.push_back(std::move(next));
    } else {
      evals[i] = leaves[i]->evaluate(x, level);
    }
  }
  run_alike(waiting);
  for (const Waiting& one : waiting) {
    evals[one.place] = one.model->eval_of(one.outputs, x, level);
  }
  return evals;
}

std::string to_string(Parameterisation parameterisation) {
  return word_of(kParameterisations, parameterisation);
}

Parameterisation parameterisation_from(const std::string& name) {
  return value_of(kParameterisations, "parameterisation", name);
}

std::string to_string(Compute compute) { return word_of(kComputes, compute); }

Compute compute_from(const std::string& name) { return value_of(kComputes, "compute", name); }

// Emulated bfloat16 products are slower than float32's and no nearer to the definition.
Compute compute_used(Compute compute, const std::string& device) {
  const bool is_missing = device == "cpu" && detail::bfloat16_engine() == nullptr;
  return compute == Compute::bfloat16 && is_missing ? Compute::float32 : compute;
}

ModelPtr network_model(Weights weights, std::string name, Compute compute,
                       const std::string& device) {
  const at::Device at_device = detail::device_from(device);
  refuse_classifier(weights.config, name);
  detail::check_tensors(weights.config, weights.tensors, "network: \"" + name + "\": ");
  return std::make_shared<NetworkModel>(std::move(weights), std::move(name), compute, at_device);
}

}  // namespace motet
