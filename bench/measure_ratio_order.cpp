// How the error of log alpha over one HMC trajectory falls with the step size h, for each log ratio
// and, on the curve, each number of leapfrogs. Run by tools/measure_ratios.py, which fits the
// orders; prints one JSON object.
#include <iostream>

#include "ratio_experiments.hpp"

namespace motet::experiments {
namespace {

constexpr uint64_t kSeed = 1;
constexpr int64_t kNumChains = 4000;
constexpr double kLargest = 0.4;
constexpr int kNumStepSizes = 15;  // each 2^(-1/2) of the one before

struct Case {
  Rule rule;
  int64_t num_leapfrog;
  int64_t order;  // of the theory
};

// Mean |error| at every step size.
json measure(const Case& one, const LineLaw& law, const Tensor& x) {
  const HmcConfig config{.num_leapfrog = one.num_leapfrog, .damping = 0.0};
  const Target scores(score_only(law.model), {});
  const Target densities(law.model, {});
  json errors = json::array();
  for (int i = 0; i < kNumStepSizes; ++i) {
    const double step_size = kLargest * std::pow(2.0, -0.5 * i);
    const Rng rng = Rng(kSeed).at(0, 1);
    const Tensor difference = log_accept(Hmc(config, one.rule.ratio), scores, x, step_size, rng) -
                              log_accept(Hmc(config, exact_ratio()), densities, x, step_size, rng);
    errors.push_back({{"step_size", step_size}, {"error", difference.abs().mean().item<double>()}});
  }
  return {{"rule", one.rule.family},
          {"num_points", one.rule.num_points},
          {"num_leapfrog", one.num_leapfrog},
          {"order_of_theory", one.order},
          {"errors", std::move(errors)}};
}

std::vector<Case> cases() {
  std::vector<Case> list = {{curve(CurveRule::trapezoid), 3, 3}};
  for (const auto& [num_leapfrog, order] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 3}, {2, 5}, {3, 5}, {4, 7}, {5, 7}, {10, 7}}) {
    list.push_back({curve(CurveRule::polynomial), num_leapfrog, order});
  }
  for (const int64_t num_points : {3, 10}) {
    list.push_back({line(num_points, LineRule::trapezoid), 3, 3});
  }
  list.push_back({line(5, LineRule::simpson), 3, 5});
  for (const int64_t num_points : {3, 4, 5, 6}) {
    list.push_back({line(num_points, LineRule::gauss_lobatto), 3, 2 * num_points - 1});
  }
  return list;
}

}  // namespace
}  // namespace motet::experiments

int main() {
  using namespace motet::experiments;
  const LineLaw law = skewed();
  motet::Rng start = motet::Rng(kSeed).split("start");
  const at::Tensor x = draw(tabulate(law), kNumChains, start);
  json results = json::array();
  for (const Case& one : cases()) {
    results.push_back(measure(one, law, x));
  }
  const json report = {{"experiment", "ratio_order"}, {"seed", kSeed},
                       {"num_chains", kNumChains},    {"law", law.name},
                       {"density", law.formula},      {"cases", std::move(results)}};
  std::cout << report.dump(2) << "\n";
}
