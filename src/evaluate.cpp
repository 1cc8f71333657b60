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

void check_weights(const Tensor& x, const std::string& name, const EvaluateConfig& config) {
  const Tensor& logs = config.log_weights;
  std::ostringstream text;
  if (config.target != "product") {
    throw ConfigError("eval: log weights are given, but target \"" + config.target +
                      "\" is measured of equally weighted samples; they belong to \"product\"");
  }
  if (logs.dim() != 1 || logs.size(0) != x.size(0)) {
    text << "eval: the log weights have shape " << logs.sizes() << ", must be [" << x.size(0)
         << "]: one for each row of " << name;
    throw ShapeError(text.str());
  }
  const int64_t num_rows = std::min(x.size(0), config.num_samples);
  if (!at::isfinite(logs.narrow(0, 0, num_rows)).any().item<bool>()) {
    throw DataError("eval: none of the first " + std::to_string(num_rows) +
                    " log weights is finite");
  }
}

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
  if (config.log_weights.defined()) {
    check_weights(x, name, config);
  }
  if (!at::isfinite(x).all().item<bool>()) {
    throw DataError("eval: " + name + ": has coordinates that are not finite");
  }
}

Json law_metrics(const AnalyticModel& law, const std::string& target, const Tensor& x,
                 SampleGroups groups, const Rng& rng) {
  Rng reference_rng = rng.split("reference");
  const Tensor reference = law.sample_data(x.size(0), reference_rng);
  const Tensor log_density = law.log_density_data(x);
  const Tensor inside = at::isfinite(log_density);
  const Tensor ones = at::ones({x.size(0)}, at::kDouble);
  const Estimate ll = detail::ratio_over_groups(at::where(inside, log_density, 0.0),
                                                inside.to(at::kDouble), groups);
  const Estimate stray =
      detail::ratio_over_groups(inside.logical_not().to(at::kDouble), ones, groups);
  const int64_t num_pairwise = std::min(x.size(0), kMaxPairwise);
  const Tensor some = detail::thinned(x, num_pairwise);
  const Tensor some_exact = detail::thinned(reference, num_pairwise);
  groups.group = detail::thinned(groups.group, num_pairwise);
  const detail::Transport transport = detail::transport(some, some_exact);
  const Estimate energy = detail::energy_distance_over(some, some_exact, groups);
  const Estimate mmd = detail::mmd_squared_over(some, some_exact, groups);
  const double w2_error = detail::root_error(
      detail::ratio_over_groups(transport.potentials, at::ones_like(transport.potentials), groups));
  const auto num_rows = static_cast<double>(x.size(0));
  Json json = {{"target", target},
               {"num_samples", x.size(0)},
               {"ll_true", number_or_null(ll.value)},
               {"num_outside_support", inside.logical_not().sum().item<int64_t>()},
               {"num_pairwise", num_pairwise},
               {"w2", transport.w2},
               {"energy_distance", energy.value},
               {"mmd_squared", mmd.value}};
  json["errors"] = detail::errors_json(
      {{"ll_true", {ll.standard_error, detail::kByGroups}},
       {"num_outside_support",
        {num_rows * detail::share_error(stray, num_rows), detail::kByGroupsOrBinomial}},
       {"w2", {w2_error, detail::kByPotentials}},
       {"energy_distance", {energy.standard_error, detail::kByJackknife}},
       {"mmd_squared", {mmd.standard_error, detail::kByJackknife}}});
  return json;
}

Json product_json(const Tensor& x, const SampleGroups& groups, const Rng& rng) {
  Rng reference_rng = rng.split("reference");
  Rng metrics_rng = rng.split("metrics");
  const Tensor reference = sample_product_benchmark(x.size(0), reference_rng);
  return detail::metrics_json(product_metrics(x, reference, metrics_rng, {}, kMaxPairwise, groups),
                              x.size(0));
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
  SampleGroups groups = consecutive_groups(head.size(0));
  if (config.log_weights.defined()) {
    groups.log_weights = config.log_weights.narrow(0, 0, head.size(0));
  }
  const Rng rng(config.seed);
  Json json;
  json["kind"] = "eval";
  json["samples"] = name;
  json["seed"] = config.seed;
  json.update(detail::environment_json("cpu"));
  json["num_chains"] = x.size(0);
  json["metrics"] = config.target == "product"
                        ? product_json(head, groups, rng)
                        : law_metrics(config.target == "ring" ? *ring() : *bar(), config.target,
                                      head, groups, rng);
  json["groups"] = detail::groups_json("rows", groups.num_groups);
  return detail::dump(json);
}

}  // namespace motet
