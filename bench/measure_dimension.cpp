// Errors of log alpha along the leapfrog points and on the straight line as the dimension grows. Run
// by tools/measure_ablations.py; prints one JSON object.
//
// usage: measure_dimension mixtures|separable D
//
// mixtures: the product of two mixtures of 8 Gaussians each, which at every level is a mixture of 64
// with known weights, so chains are exact draws. Between its modes, and where they merge, its scores
// bend; elsewhere it is a Gaussian. separable: D independent coordinates, each the skewed mixture of
// ratio_experiments.hpp: as far from a Gaussian in every direction, whatever D. The step size gives
// an acceptance of .8 with the exact ratio; every rule judges the same proposals.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <iostream>
#include <numbers>

#include "motet/anneal.hpp"
#include "motet/error.hpp"
#include "ratio_experiments.hpp"

namespace motet::experiments {
namespace {

constexpr uint64_t kSeed = 1;
constexpr int64_t kNumChains = 2000;
constexpr int64_t kNumTuning = 30;
constexpr int64_t kNumModes = 8;
constexpr int64_t kMaxPoints = 10;
constexpr std::array<double, 2> kWidths = {0.25, 0.35};
constexpr std::array<int64_t, 4> kLevels = {0, 15, 30, 50};
constexpr int64_t kNumLeapfrog = 2;  // the sampler's

struct Mixture {
  Tensor weights;  // (K)
  Tensor means;    // (K, d)
  double sd = 0.0;
};

// Same places but for a shift of their own.
std::vector<Mixture> draw_factors(int64_t d, Rng rng) {
  const Tensor like = at::empty({kNumModes, d}, at::kDouble);
  const Tensor places = rng.normal_like(like);
  std::vector<Mixture> factors;
  for (const double sd : kWidths) {
    const Tensor weights = rng.uniform(kNumModes, like) + 0.5;
    factors.push_back({weights / weights.sum(), places + 0.1 * rng.normal_like(like), sd});
  }
  return factors;
}

// Exact draws of the factors' product at a level: of one of the K^2 pairs of modes.
Tensor draw_product(const std::vector<Mixture>& factors, const NoiseLevel& level, Rng rng) {
  std::vector<Tensor> means;
  std::vector<double> variances;
  for (const Mixture& factor : factors) {
    means.push_back(std::sqrt(level.alpha_bar) * factor.means);
    variances.push_back(level.alpha_bar * factor.sd * factor.sd + 1.0 - level.alpha_bar);
  }
  const Tensor gap = means[0].unsqueeze(1) - means[1].unsqueeze(0);
  const Tensor log_weights = factors[0].weights.log().unsqueeze(1) +
                             factors[1].weights.log().unsqueeze(0) -
                             0.5 * gap.square().sum(2) / (variances[0] + variances[1]);
  const double variance = 1.0 / (1.0 / variances[0] + 1.0 / variances[1]);
  const Tensor centres = variance * (means[0] / variances[0]).unsqueeze(1) +
                         variance * (means[1] / variances[1]).unsqueeze(0);
  const Tensor mass = log_weights.flatten().softmax(0).cumsum(0);
  const Tensor picks = at::searchsorted(mass, rng.uniform(kNumChains, mass) * mass[-1]);
  const Tensor centre = centres.flatten(0, 1).index_select(0, picks.clamp_max(mass.numel() - 1));
  return centre + std::sqrt(variance) * rng.normal_like(centre);
}

ModelPtr mixture_product(const std::vector<Mixture>& factors) {
  std::vector<Term> terms;
  for (const Mixture& factor : factors) {
    const Tensor sds = at::full({kNumModes, 1}, factor.sd, at::kDouble);
    terms.push_back({gaussian_mixture(factor.weights, factor.means, sds, "mixture")});
  }
  return product(std::move(terms));
}

// d independent coordinates of one law on the line, at no noise level in particular.
ModelPtr separable(const LineLaw& law, int64_t d) {
  const auto evaluate = [model = law.model, d](const Tensor& x, const NoiseLevel& /*level*/) {
    const Eval each = model->evaluate(x.reshape({-1, 1}), {});
    return Eval{each.score.view({-1, d}), each.log_density.view({-1, d}).sum(1), {}};
  };
  return from_callable(evaluate, {d}, /*is_exact=*/true, law.name);
}

double tuned_step_size(const ModelPtr& model, const NoiseLevel& level, const KernelPtr& kernel,
                       const Tensor& x, const Rng& rng) {
  AnnealConfig plan;
  plan.levels = {{.level = level, .num_steps = kNumTuning}};
  // As the sampler "exact" has it: no trajectory beyond a quarter of a Gaussian's period.
  const double cap = 0.5 * std::numbers::pi / static_cast<double>(kNumLeapfrog);
  plan.adapt = AdaptConfig{.start = std::min(0.6, cap), .cap = cap};
  const auto schedule = NoiseSchedule::cosine(100);
  return tune(model, schedule, kernel, plan, x, rng).config.levels.front().step_size;
}

std::vector<Rule> make_rules() {
  std::vector<Rule> rules = {curve(CurveRule::trapezoid), curve(CurveRule::polynomial),
                             line(4, LineRule::trapezoid), line(10, LineRule::trapezoid)};
  for (int64_t num_points = 2; num_points <= kMaxPoints; ++num_points) {
    rules.push_back(line(num_points, LineRule::gauss_lobatto));
  }
  return rules;
}

json measure(const ModelPtr& model, const NoiseLevel& level, const Tensor& x, const Rng& rng) {
  const HmcConfig config{.num_leapfrog = kNumLeapfrog, .damping = 0.0};
  const auto kernel = std::make_shared<Hmc>(config, exact_ratio());
  const double step_size = tuned_step_size(model, level, kernel, x, rng.split("tune"));
  const Target densities(model, level);
  const Target scores(score_only(model), level);
  const Rng judged = rng.split("judged");
  const Tensor truth = log_accept(*kernel, densities, x, step_size, judged);
  json rules = json::array();
  for (const Rule& rule : make_rules()) {
    const Tensor estimate = log_accept(Hmc(config, rule.ratio), scores, x, step_size, judged);
    rules.push_back({{"rule", rule.family},
                     {"num_points", rule.num_points},
                     {"evaluations", rule.ratio->num_evaluations()},
                     {"error_quantiles", quantiles((estimate - truth).abs())}});
  }
  return {{"level", level.index},
          {"sigma", level.sigma()},
          {"step_size", step_size},
          {"acceptance", truth.exp().clamp_max(1.0).mean().item<double>()},
          {"rules", std::move(rules)}};
}

json measure_mixtures(int64_t d) {
  const Rng rng(kSeed);
  const std::vector<Mixture> factors = draw_factors(d, rng.split("factors"));
  const ModelPtr model = mixture_product(factors);
  json cases = json::array();
  for (const int64_t index : kLevels) {
    const NoiseLevel level = NoiseSchedule::cosine(100).level(index);
    const Tensor x = draw_product(factors, level, rng.split("draws").at(index, 0));
    cases.push_back(measure(model, level, x, rng));
  }
  return cases;
}

json measure_separable(int64_t d) {
  Rng rng(kSeed);
  const LineLaw law = skewed();
  const Tensor x = draw(tabulate(law), kNumChains * d, rng).view({kNumChains, d});
  const NoiseLevel any = NoiseSchedule::cosine(100).level(0);
  json found = measure(separable(law, d), any, x, rng);
  found.erase("level");
  found.erase("sigma");
  return json::array({std::move(found)});
}

}  // namespace
}  // namespace motet::experiments

int main(int argc, char** argv) {
  using namespace motet::experiments;
  const std::string family = argc > 1 ? argv[1] : "";
  const int64_t d = argc > 2 ? std::atoll(argv[2]) : 0;
  if (argc != 3 || d < 1 || (family != "mixtures" && family != "separable")) {
    std::cerr << "usage: measure_dimension mixtures|separable D\n";
    return 2;
  }
  try {
    json report = {{"family", family},
                   {"d", d},
                   {"seed", kSeed},
                   {"num_chains", kNumChains},
                   {"num_leapfrog", kNumLeapfrog}};
    report["cases"] = family == "mixtures" ? measure_mixtures(d) : measure_separable(d);
    std::cout << report.dump(1) << "\n";
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
