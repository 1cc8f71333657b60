// log softmax(f(x_t, t))_y and its gradient, for a network f of any architecture with an output a
// class. Of the joint law of x_t and y: with the prior it diffuses jointly (LikelihoodPath::joint).
#include "likelihood_network.hpp"

#include <torch/types.h>

#include <utility>

#include "error_shape.hpp"
#include "likelihood_checks.hpp"
#include "motet/error.hpp"

namespace motet {
namespace {

class OutputClassifier : public Likelihood {
 public:
  OutputClassifier(detail::NetworkPtr network, detail::ClassifierSpec spec, std::string name)
      : network_(std::move(network)), spec_(std::move(spec)), name_(std::move(name)) {}

  Value evaluate(const Tensor& x, const NoiseLevel& level,
                 const Tensor& /*prior_score*/) const override {
    detail::check_points(x, event_shape(), name_);
    detail::check_level(spec_.schedule.num_levels(), level, name_);
    const Tensor input = x.detach().to(network_->device(), at::kFloat).contiguous();
    const auto pass = network_->energy_of_output(
        input, spec_.times[static_cast<size_t>(level.index)], [this](const Tensor& f) {
          return at::log_softmax(f.to(at::kDouble), 1).select(1, spec_.label);
        });
    return {.log_likelihood = pass.energy.to(x.device()), .score = pass.gradient.to(x.options())};
  }

  LikelihoodPath path() const override { return LikelihoodPath::joint; }
  std::vector<int64_t> event_shape() const override { return network_->event_shape(); }
  std::string describe() const override { return name_; }
  std::optional<NoiseSchedule> schedule() const override { return spec_.schedule; }

 private:
  detail::NetworkPtr network_;
  detail::ClassifierSpec spec_;
  std::string name_;
};

}  // namespace

namespace detail {

LikelihoodPtr network_classifier(NetworkPtr network, ClassifierSpec spec, std::string name) {
  const std::string prefix = "classifier: " + quoted_text(name) + " ";
  const std::vector<int64_t> output = network->output_shape();
  if (output.size() != 1 || output.front() < 2) {
    throw ConfigError(prefix + "has outputs of shape " + shape_text(output) +
                      ", must be (K), one number for each of K >= 2 classes");
  }
  check_label(spec.label, output.front(), name);
  check_times(spec.times, spec.schedule, prefix + "has ");
  return std::make_shared<OutputClassifier>(std::move(network), std::move(spec), std::move(name));
}

LikelihoodPtr architecture_classifier(ArchitecturePtr architecture, const TensorMap& tensors,
                                      ClassifierSpec spec, std::string name, Compute compute,
                                      const std::string& device) {
  const std::string prefix = "network: " + quoted_text(name) + ": ";
  NetworkPtr network = bound_network(std::move(architecture), tensors, {}, compute, device, prefix);
  return network_classifier(std::move(network), std::move(spec), std::move(name));
}

}  // namespace detail
}  // namespace motet
