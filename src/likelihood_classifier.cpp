// Classifiers of noisy points as likelihoods: log p(y | x_t) and its gradient in x_t.
//   a network f trained on (x_t, y):   log softmax(f(x_t, t))_y       (Dhariwal and Nichol 2021)
//   Bayes' rule over laws p_k:         log w_y p_y,t(x) - log sum_k w_k p_k,t(x)
// Both are p(y | x_t) of the law that they condition, not a likelihood of x_0 blurred by hand: with
// the prior they diffuse jointly (LikelihoodPath::joint).
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <cmath>
#include <limits>
#include <sstream>
#include <utility>

#include "error_shape.hpp"
#include "likelihood_checks.hpp"
#include "motet/error.hpp"
#include "motet/likelihood.hpp"
#include "nets/fast_network.hpp"
#include "nets/residual_mlp.hpp"

namespace motet {
namespace {

using detail::TensorMap;

class NetworkClassifier : public Likelihood {
 public:
  NetworkClassifier(const Weights& weights, int64_t label, std::string name,
                    const at::Device& device)
      : config_(weights.config),
        schedule_(weights.schedule),
        label_(label),
        name_(std::move(name)),
        device_(device) {
    for (const auto& [key, tensor] : weights.tensors) {
      tensors_[key] = tensor.detach().to(device).contiguous();
    }
    if (device.is_cpu()) {
      fast_ = std::make_unique<detail::FastNetwork>(tensors_, config_, detail::float32_engine(),
                                                    /*with_gradient=*/true);
    }
  }

  Value evaluate(const Tensor& x, const NoiseLevel& level,
                 const Tensor& /*prior_score*/) const override {
    detail::check_points(x, event_shape(), name_);
    detail::check_level(config_, level, name_);
    const Tensor input = x.detach().to(device_, at::kFloat).contiguous();
    const Value value = fast_ ? by_hand(input, level.index) : by_autograd(input, level.index);
    return {.log_likelihood = value.log_likelihood.to(x.device()),
            .score = value.score.to(x.options())};
  }

  LikelihoodPath path() const override { return LikelihoodPath::joint; }
  std::vector<int64_t> event_shape() const override { return {config_.event_dim}; }
  std::string describe() const override { return name_; }
  std::optional<NoiseSchedule> schedule() const override { return schedule_; }

 private:
  Value by_hand(const Tensor& x, int64_t level) const {
    Value value{.log_likelihood = at::empty({x.size(0)}, at::kDouble), .score = at::empty_like(x)};
    fast_->log_share(x.const_data_ptr<float>(), x.size(0), level, label_,
                     value.log_likelihood.mutable_data_ptr<double>(),
                     value.score.mutable_data_ptr<float>());
    return value;
  }

  Value by_autograd(const Tensor& x, int64_t level) const {
    const at::AutoGradMode with_graph(true);
    const Tensor leaf = x.detach().requires_grad_(true);
    const Tensor index = at::full({}, level, at::TensorOptions(device_).dtype(at::kLong));
    const Tensor logits = detail::reference_forward(tensors_, config_, leaf, index);
    const Tensor value = at::log_softmax(logits.to(at::kDouble), 1).select(1, label_);
    const Tensor gradient = torch::autograd::grad({value.sum()}, {leaf})[0];
    return {.log_likelihood = value.detach(), .score = gradient.detach()};
  }

  NetworkConfig config_;
  NoiseSchedule schedule_;
  int64_t label_;
  std::string name_;
  at::Device device_;
  TensorMap tensors_;
  std::unique_ptr<const detail::FastNetwork> fast_;  // null on other devices
};

class BayesClassifier : public Likelihood {
 public:
  BayesClassifier(std::vector<ModelPtr> classes, const std::vector<double>& weights, size_t label,
                  std::string name)
      : classes_(std::move(classes)),
        log_weights_(at::tensor(weights, at::kDouble).log()),
        label_(label),
        name_(std::move(name)) {}

  Value evaluate(const Tensor& x, const NoiseLevel& level,
                 const Tensor& /*prior_score*/) const override {
    detail::check_points(x, event_shape(), name_);
    std::vector<Tensor> logs, scores;
    for (const ModelPtr& model : classes_) {
      const Eval eval = model->evaluate(x, level);
      // Where every density underflows to -inf all classes share alike: never inf - inf.
      logs.push_back(eval.log_density.clamp_min(std::numeric_limits<double>::lowest() / 2));
      scores.push_back(eval.score.to(at::kDouble));
    }
    const auto label = static_cast<int64_t>(label_);
    const Tensor log_shares =
        at::log_softmax(at::stack(logs, 1) + log_weights_.to(x.device()), 1);  // (B, K)
    const Tensor stacked = at::stack(scores, 1);                               // (B, K, *event)
    std::vector<int64_t> shape(static_cast<size_t>(stacked.dim()), 1);
    shape[0] = stacked.size(0);
    shape[1] = stacked.size(1);
    const Tensor mean = (log_shares.exp().view(shape) * stacked).sum(1);
    return {.log_likelihood = log_shares.select(1, label).contiguous(),
            .score = (stacked.select(1, label) - mean).to(x.scalar_type())};
  }

  LikelihoodPath path() const override { return LikelihoodPath::joint; }
  std::vector<int64_t> event_shape() const override { return classes_.front()->event_shape(); }
  std::string describe() const override { return name_; }
  std::optional<NoiseSchedule> schedule() const override {
    for (const ModelPtr& model : classes_) {
      if (auto schedule = model->schedule()) {
        return schedule;
      }
    }
    return std::nullopt;
  }

 private:
  std::vector<ModelPtr> classes_;
  Tensor log_weights_;  // (K)
  size_t label_;
  std::string name_;
};

std::string where_of(const std::string& name) { return "classifier: \"" + name + "\" "; }

void check_class(const std::vector<ModelPtr>& classes, const std::vector<double>& weights, size_t k,
                 const std::string& name) {
  const std::string where = where_of(name) + "class " + std::to_string(k);
  const ModelPtr& model = classes[k];
  if (model == nullptr) {
    throw ConfigError(where + " is null");
  }
  if (!model->is_exact() || !model->is_normalised()) {
    throw ConfigError(where + " (" + model->describe() +
                      ") has no normalised log density; take analytic laws, or train a classifier");
  }
  if (model->event_shape() != classes[0]->event_shape()) {
    throw ShapeError(where + " has event shape " + detail::shape_text(model->event_shape()) +
                     ", but class 0 has " + detail::shape_text(classes[0]->event_shape()));
  }
  if (!(weights[k] > 0.0 && std::isfinite(weights[k]))) {
    std::ostringstream text;
    text << where << " has weight " << weights[k] << ", must be > 0 and finite";
    throw ConfigError(text.str());
  }
}

}  // namespace

LikelihoodPtr classifier_likelihood(Weights weights, int64_t label, std::string name,
                                    const std::string& device) {
  const at::Device at_device = detail::device_from(device);
  if (weights.config.parameterisation != Parameterisation::classifier) {
    throw ConfigError(where_of(name) + "is a network of parameterisation \"" +
                      to_string(weights.config.parameterisation) +
                      "\", must be \"classifier\"; give its file as weights = \"FILE\", or load it "
                      "by network_model()");
  }
  detail::check_tensors(weights.config, weights.tensors, "network: \"" + name + "\": ");
  detail::check_label(label, weights.config.num_classes, name);
  return std::make_shared<NetworkClassifier>(weights, label, std::move(name), at_device);
}

LikelihoodPtr bayes_classifier(std::vector<ModelPtr> classes, std::vector<double> weights,
                               size_t label, std::string name) {
  if (classes.size() < 2 || classes.size() != weights.size()) {
    throw ConfigError(where_of(name) + "was given " + std::to_string(classes.size()) +
                      " classes and " + std::to_string(weights.size()) +
                      " weights, must be as many of both, at least 2");
  }
  detail::check_label(static_cast<int64_t>(label), static_cast<int64_t>(classes.size()), name);
  for (size_t k = 0; k < classes.size(); ++k) {
    check_class(classes, weights, k, name);
  }
  return std::make_shared<BayesClassifier>(std::move(classes), weights, label, std::move(name));
}

}  // namespace motet
