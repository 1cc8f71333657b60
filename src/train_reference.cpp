// The training pass by plain torch operations and autograd: what the hand-written one must agree
// with. Energies differentiate twice: eps_hat = grad_x E keeps its graph.
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "nets/residual_mlp.hpp"
#include "train_pass.hpp"

namespace motet::detail {
namespace {

class ReferencePass final : public GradientPass {
 public:
  explicit ReferencePass(const NetworkConfig& config)
      : config_(config), layout_(parameter_layout(config)) {}

  double gradient(const Tensor& weights, const Batch& batch, const Tensor& gradient) override {
    const at::AutoGradMode with_graph(true);
    TensorMap tensors;
    std::vector<Tensor> leaves;
    for (const auto& [name, view] : named_views(layout_, weights)) {
      leaves.push_back(view.detach().clone().requires_grad_());
      tensors[name] = leaves.back();
    }
    const Tensor loss = is_classifier()
                            ? cross_entropy(tensors, batch).mean()
                            : (predict(tensors, batch, true) - batch.noise).square().mean();
    const auto gradients = torch::autograd::grad({loss}, leaves, {}, false, false, true);
    const Tensor flat = gradient.detach();
    flat.zero_();
    for (size_t i = 0; i < leaves.size(); ++i) {
      if (gradients[i].defined()) {
        flat.narrow(0, layout_[i].offset, layout_[i].count).copy_(gradients[i].flatten());
      }
    }
    return loss.item<double>();
  }

  Tensor row_losses(const Tensor& weights, const Batch& batch) override {
    if (is_classifier()) {
      const at::NoGradGuard no_graph;
      return cross_entropy(named_views(layout_, weights.detach()), batch).to(at::kDouble);
    }
    const at::AutoGradMode with_graph(true);
    const Tensor error =
        predict(named_views(layout_, weights.detach()), batch, false).detach() - batch.noise;
    return error.to(at::kDouble).square().mean(1);
  }

 private:
  bool is_classifier() const { return config_.parameterisation == Parameterisation::classifier; }

  Tensor cross_entropy(const TensorMap& tensors, const Batch& batch) const {
    const Tensor logits = reference_forward(tensors, config_, batch.x, batch.level);
    return -at::log_softmax(logits, 1).gather(1, batch.label.unsqueeze(1)).squeeze(1);
  }

  Tensor predict(const TensorMap& tensors, const Batch& batch, bool with_graph) const {
    if (config_.parameterisation == Parameterisation::score) {
      return reference_forward(tensors, config_, batch.x, batch.level);
    }
    const Tensor x = batch.x.detach().requires_grad_();
    const Tensor output = reference_forward(tensors, config_, x, batch.level);
    const Tensor residual =
        config_.parameterisation == Parameterisation::energy_residual ? output - x : output;
    return torch::autograd::grad({residual.square().sum()}, {x}, {}, with_graph, with_graph)[0];
  }

  NetworkConfig config_;
  std::vector<Parameter> layout_;
};

}  // namespace

std::vector<Parameter> parameter_layout(const NetworkConfig& config) {
  return parameter_layout(expected_tensors(config));
}

std::vector<Parameter> parameter_layout(const std::map<std::string, std::vector<int64_t>>& shapes) {
  std::vector<Parameter> layout;
  int64_t offset = 0;
  for (const auto& [name, shape] : shapes) {
    int64_t count = 1;
    for (const int64_t size : shape) {
      count *= size;
    }
    layout.push_back({name, shape, offset, count});
    offset += count;
  }
  return layout;
}

std::map<std::string, Tensor> named_views(const std::vector<Parameter>& layout, const Tensor& flat,
                                          const std::string& prefix) {
  std::map<std::string, Tensor> views;
  for (const Parameter& parameter : layout) {
    views[prefix + parameter.name] =
        flat.narrow(0, parameter.offset, parameter.count).view(parameter.shape);
  }
  return views;
}

std::unique_ptr<GradientPass> reference_pass(const NetworkConfig& config) {
  return std::make_unique<ReferencePass>(config);
}

}  // namespace motet::detail
