// Samples on disk against exact samples of a law.
#include "motet/evaluate.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "metrics_detail.hpp"
#include "motet/error.hpp"
#include "sample_run.hpp"

namespace motet {
namespace {

using detail::Json;
using detail::number_or_null;

constexpr int64_t kMinMeasured = 16;

void check(const Tensor& x, const std::string& name, const EvaluateConfig& config) {
  const auto& targets = evaluation_targets();
  if (std::find(targets.begin(), targets.end(), config.target) == targets.end()) {
    const std::string near = nearest(config.target, targets);
    throw ConfigError("eval: target \"" + config.target + "\", must be product, ring or bar" +
                      (near.empty() ? "" : "; did you mean \"" + near + "\"?"));
  }
  if (config.num_samples < kMinMeasured) {
    throw ConfigError("eval: num_samples = " + std::to_string(config.num_samples) +
                      ", must be >= " + std::to_string(kMinMeasured));
  }
  if (x.dim() != 2 || x.size(1) != 2 || x.size(0) < kMinMeasured) {
    std::ostringstream text;
    text << "eval: " << name << ": shape " << x.sizes()
         << ", must be (N, 2) with N >= " << kMinMeasured << " for target \"" << config.target
         << "\"";
    throw ShapeError(text.str());
  }
  if (!at::isfinite(x).all().item<bool>()) {
    throw DataError("eval: " + name + ": has coordinates that are not finite");
  }
}

Json law_metrics(const AnalyticModel& law, const std::string& target, const Tensor& x,
                 const Rng& rng) {
  Rng reference_rng = rng.split("reference");
  const Tensor reference = law.sample_data(x.size(0), reference_rng);
  const Tensor log_density = law.log_density_data(x);
  const Tensor inside = at::isfinite(log_density);
  const int64_t num_inside = inside.sum().item<int64_t>();
  const double ll =
      num_inside == 0 ? std::nan("") : log_density.masked_select(inside).mean().item<double>();
  const int64_t num_pairwise = std::min(x.size(0), kMaxPairwise);
  const Tensor some = detail::thinned(x, num_pairwise);
  const Tensor some_exact = detail::thinned(reference, num_pairwise);
  return {{"target", target},
          {"num_samples", x.size(0)},
          {"ll_true", number_or_null(ll)},
          {"num_outside_support", x.size(0) - num_inside},
          {"num_pairwise", num_pairwise},
          {"w2", w2_assignment(some, some_exact)},
          {"energy_distance", energy_distance(some, some_exact)},
          {"mmd_squared", mmd_squared(some, some_exact)}};
}

Json product_json(const Tensor& x, const Rng& rng) {
  Rng reference_rng = rng.split("reference");
  Rng metrics_rng = rng.split("metrics");
  const Tensor reference = sample_product_benchmark(x.size(0), reference_rng);
  return detail::metrics_json(product_metrics(x, reference, metrics_rng), x.size(0));
}

}  // namespace

const std::vector<std::string>& evaluation_targets() {
  static const std::vector<std::string> names = {"product", "ring", "bar"};
  return names;
}

std::string evaluate_samples(const Tensor& x, const std::string& name,
                             const EvaluateConfig& config) {
  check(x, name, config);
  const Tensor head = x.narrow(0, 0, std::min(x.size(0), config.num_samples)).to(at::kDouble);
  const Rng rng(config.seed);
  Json json;
  json["kind"] = "eval";
  json["samples"] = name;
  json["seed"] = config.seed;
  json.update(detail::environment_json("cpu"));
  json["num_chains"] = x.size(0);
  json["metrics"] =
      config.target == "product"
          ? product_json(head, rng)
          : law_metrics(config.target == "ring" ? *ring() : *bar(), config.target, head, rng);
  return detail::dump(json);
}

}  // namespace motet
