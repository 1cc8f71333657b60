// Stationary bias of HMC (3 leapfrogs, fresh momenta) under each log ratio, on anharmonic laws on
// the line that are known by their scores alone. Run by tools/measure_ratios.py; prints one JSON
// object.
//
// Chains start from draws of the law itself and walk away from it to the rule's own stationary law.
// Moments are about the true mean, in units of the true standard deviation; standard errors are
// over chains, whose time averages are independent.
#include <iostream>

#include "ratio_experiments.hpp"

namespace motet::experiments {
namespace {

constexpr uint64_t kSeed = 1;
constexpr int64_t kNumChains = 6000;
constexpr int64_t kNumDiscarded = 200;
constexpr int64_t kNumKept = 400;
const HmcConfig kHmc{.num_leapfrog = 3, .damping = 0.0};

struct Moment {
  double bias;
  double error;
};

void to_json(json& out, const Moment& moment) {
  out = {{"bias", moment.bias}, {"standard_error", moment.error}};
}

Moment moment_of(const Tensor& sums, double truth) {
  const Tensor means = sums / static_cast<double>(kNumKept);
  return {means.mean().item<double>() - truth,
          means.std().item<double>() / std::sqrt(static_cast<double>(kNumChains))};
}

// Moments 1 to 3 of one chain of steps, and the acceptance.
json measure(const Kernel& kernel, const ModelPtr& model, const Tabulated& law, double step_size) {
  const Target target(model, {});
  Rng start = Rng(kSeed).split("start");
  ChainState state{draw(law, kNumChains, start), {}, {}};
  state.eval = target.evaluate(state.x);
  std::vector<Tensor> sums(3, at::zeros({kNumChains}, at::kDouble));
  Tensor accepted = at::zeros({}, at::kDouble);
  Tensor num_invalid = at::zeros({}, at::kLong);
  for (int64_t i = 0; i < kNumDiscarded + kNumKept; ++i) {
    Rng rng = Rng(kSeed).at(0, i);
    Step step = kernel.step(target, state, step_size, rng);
    state = step.state;
    accepted = accepted + step.info.accepted.to(at::kDouble).mean();
    num_invalid = num_invalid + step.info.num_invalid;
    if (i >= kNumDiscarded) {
      const Tensor gap = (state.x.squeeze(1) - law.mean) / law.sd;
      sums[0] = sums[0] + gap;
      sums[1] = sums[1] + gap.square();
      sums[2] = sums[2] + gap.pow(3);
    }
  }
  return {{"mean", moment_of(sums[0], 0.0)},
          {"variance", moment_of(sums[1], 1.0)},
          {"third_moment", moment_of(sums[2], law.skewness)},
          {"acceptance", accepted.item<double>() / static_cast<double>(kNumDiscarded + kNumKept)},
          {"num_invalid", num_invalid.item<int64_t>()}};
}

json measure_law(const LineLaw& law, const std::vector<double>& step_sizes) {
  const Tabulated table = tabulate(law);
  const ModelPtr scores = score_only(law.model);
  const std::vector<Rule> rules = {
      curve(CurveRule::trapezoid),      curve(CurveRule::polynomial),
      line(3, LineRule::trapezoid),     line(3, LineRule::gauss_lobatto),
      line(4, LineRule::gauss_lobatto), line(6, LineRule::gauss_lobatto)};
  json runs = json::array();
  const auto add = [&](const std::string& family, int64_t num_points, double step_size,
                       const Kernel& kernel, const ModelPtr& model) {
    json run = measure(kernel, model, table, step_size);
    run.update({{"rule", family}, {"num_points", num_points}, {"step_size", step_size}});
    runs.push_back(std::move(run));
  };
  for (const double step_size : step_sizes) {
    add("none", 0, step_size, Uhmc(kHmc), scores);
    for (const Rule& rule : rules) {
      add(rule.family, rule.num_points, step_size, Hmc(kHmc, rule.ratio), scores);
    }
    add("exact", 0, step_size, Hmc(kHmc, exact_ratio()), law.model);
  }
  return {{"name", law.name},
          {"density", law.formula},
          {"sd", table.sd},
          {"skewness", table.skewness},
          {"runs", std::move(runs)}};
}

}  // namespace
}  // namespace motet::experiments

int main() {
  using namespace motet::experiments;
  const json report = {{"experiment", "ratio_bias"},
                       {"seed", kSeed},
                       {"num_chains", kNumChains},
                       {"num_steps", kNumKept},
                       {"num_discarded", kNumDiscarded},
                       {"kernel", motet::Uhmc(kHmc).describe()},
                       {"laws",
                        {measure_law(double_well(), {0.1, 0.15, 0.2, 0.25}),
                         measure_law(quartic(), {0.1, 0.2, 0.3, 0.4}),
                         measure_law(skewed(), {0.1, 0.2, 0.3, 0.4})}}};
  std::cout << report.dump(2) << "\n";
}
