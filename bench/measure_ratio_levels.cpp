// Errors of log alpha on the benchmark ring x bar, level by level, against the evaluations that each
// log ratio costs. Exact scores, their log densities hidden. Run by tools/measure_ratios.py; prints
// one JSON object.
//
// Chains are draws of the product at the level: from its density on a grid, then steps of HMC with
// the exact ratio, which smooth the cells away and leave the law as it is. The step size is the
// recipe's, c / sqrt(Fisher information) with c tuned to an acceptance of .8. Every rule judges the
// same proposals.
#include <iostream>

#include "motet/ratio_adaptive.hpp"
#include "ratio_experiments.hpp"

namespace motet::experiments {
namespace {

constexpr uint64_t kSeed = 1;
constexpr int64_t kNumChains = 8000;
constexpr int64_t kNumTuning = 60;
constexpr double kAcceptance = 0.8;
constexpr LineTolerance kWanted{.tolerance = 0.01, .quantile = 0.99, .max_points = 24};
constexpr int64_t kNumPilot = 2000;

// Draws of a plane law: a cell by its mass, uniform within. (B, 2)
Tensor draw_plane(const Target& densities, double half_width, Rng& rng) {
  constexpr int64_t kCells = 600;
  const double cell = 2.0 * half_width / static_cast<double>(kCells);
  const Tensor centres = (at::arange(kCells, at::kDouble) + 0.5) * cell - half_width;
  const Tensor points = at::stack({centres.repeat_interleave(kCells), centres.repeat({kCells})}, 1);
  const Tensor log_density = densities.evaluate(points).log_density;
  const Tensor mass = (log_density - log_density.max()).exp().cumsum(0);
  const Tensor picks = rng.uniform(kNumChains, points) * mass[-1];
  const Tensor chosen = at::searchsorted(mass, picks).clamp_max(points.size(0) - 1);
  const Tensor centre = points.index_select(0, chosen);
  return centre + cell * (rng.uniform_like(centre) - 0.5);
}

// 1 / sqrt(Fisher information), as the sampler "exact" estimates it: medians withstand outliers.
double natural_length(const Tensor& score) {
  constexpr double kMedianOfChiSquare = 1.3862943611198906;  // 2 ln 2, two degrees of freedom
  const double square = score.square().sum(1).median().item<double>();
  return std::sqrt(kMedianOfChiSquare / square);
}

struct Tuned {
  ChainState state;
  double scale = 0.6;  // c
  double step_size = 0.0;
  double acceptance = 0.0;  // over the second half
};

Tuned tune(const Kernel& kernel, const Target& densities, const Tensor& x, const Rng& rng) {
  constexpr double kLargestScale = 1.5;
  Tuned tuned{.state = {x, densities.evaluate(x), {}}};
  const double length = natural_length(tuned.state.eval.score);
  for (int64_t i = 0; i < kNumTuning; ++i) {
    Rng step_rng = rng.at(0, i);
    tuned.step_size = kernel.step_size_for(tuned.scale * length);
    const Step step = kernel.step(densities, tuned.state, tuned.step_size, step_rng);
    tuned.state = step.state;
    const double acceptance = step.info.log_accept.exp().clamp_max(1.0).mean().item<double>();
    if (2 * i >= kNumTuning) {
      tuned.acceptance += acceptance / (0.5 * static_cast<double>(kNumTuning));
    }
    if (i + 1 < kNumTuning) {
      tuned.scale =
          std::min(kLargestScale, tuned.scale * std::exp(0.3 * (acceptance - kAcceptance)));
    }
  }
  return tuned;
}

// A kernel, with the ratio to be judged, and the kernel without a test that makes its proposals.
struct Sampler {
  std::string name;
  std::function<KernelPtr(LogRatioPtr)> with;
  KernelPtr unadjusted;
  std::vector<Rule> free;  // rules on the points that the trajectory gives
};

class Judge {
 public:
  Judge(const Sampler& sampler, const Target& scores, const Target& densities, const Tuned& tuned)
      : sampler_(sampler),
        scores_(scores),
        x_(tuned.state.x),
        step_size_(tuned.step_size),
        truth_(log_accept(*sampler.with(exact_ratio()), densities, x_, step_size_, rng_)) {}

  json operator()(const Rule& rule) const {
    const Tensor estimate = log_accept(*sampler_.with(rule.ratio), scores_, x_, step_size_, rng_);
    // Both -inf: the proposal is invalid, whatever the rule.
    const Tensor error =
        (estimate - truth_).abs().masked_fill(estimate.isinf().logical_and(truth_.isinf()), 0.0);
    const Tensor acceptance_error =
        (estimate.exp().clamp_max(1.0) - truth_.exp().clamp_max(1.0)).abs();
    return {{"rule", rule.family},
            {"num_points", rule.num_points},
            {"evaluations", rule.ratio->num_evaluations()},
            {"error_quantiles", quantiles(error)},
            {"mean_acceptance_error", acceptance_error.mean().item<double>()}};
  }

 private:
  const Sampler& sampler_;
  const Target& scores_;
  Rng rng_ = Rng(kSeed).split("judged").at(0, 0);
  Tensor x_;
  double step_size_;
  Tensor truth_;
};

// What a pilot of the unadjusted kernel's proposals chooses, and what the choice is worth on others.
json adaptive(const Sampler& sampler, const Target& scores, const Tuned& tuned,
              const Judge& judge) {
  const Tensor x = tuned.state.x.slice(0, 0, kNumPilot);
  const Eval eval = scores.evaluate(x);
  Rng rng = Rng(kSeed).split("pilot");
  const Step move = sampler.unadjusted->step(scores, {x, eval, {}}, tuned.step_size, rng);
  const Path pilot{{x, move.state.x}, {eval, move.state.eval}};
  const LineChoice choice = choose_line_points(scores, pilot, kWanted);
  json result =
      judge({"adaptive line", adaptive_line_ratio({{scores.level().index, choice.num_points}}),
             choice.num_points});
  result["estimated_error"] = choice.error;
  result["is_within_tolerance"] = choice.is_within_tolerance;
  result["pilot_evaluations"] = choice.num_evaluations;
  return result;
}

std::vector<Rule> line_rules() {
  std::vector<Rule> rules;
  for (int64_t num_points = 2; num_points <= 21; ++num_points) {
    rules.push_back(line(num_points, LineRule::trapezoid));
  }
  for (int64_t num_points = 3; num_points <= 21; num_points += 2) {
    rules.push_back(line(num_points, LineRule::simpson));
  }
  for (int64_t num_points = 2; num_points <= 9; ++num_points) {
    rules.push_back(line(num_points, LineRule::gauss_lobatto));
  }
  return rules;
}

json measure_level(const Sampler& sampler, const ModelPtr& product, const NoiseLevel& level) {
  const Target densities(product, level);
  const Target scores(score_only(product), level);
  const Rng rng = Rng(kSeed).at(level.index, 0);
  Rng start = rng.split("start");
  const double half_width = 1.3 * std::sqrt(level.alpha_bar) + 5.0 * level.sigma();
  const Tensor x = draw_plane(densities, half_width, start);
  const Tuned tuned = tune(*sampler.with(exact_ratio()), densities, x, rng.split("tune"));
  const Judge judge(sampler, scores, densities, tuned);
  json results = json::array();
  for (const Rule& rule : sampler.free) {
    results.push_back(judge(rule));
  }
  for (const Rule& rule : line_rules()) {
    results.push_back(judge(rule));
  }
  return {{"level", level.index},
          {"sigma", level.sigma()},
          {"scale", tuned.scale},
          {"step_size", tuned.step_size},
          {"acceptance", tuned.acceptance},
          {"rules", std::move(results)},
          {"adaptive", adaptive(sampler, scores, tuned, judge)}};
}

json measure(const Sampler& sampler) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(100);
  const ModelPtr target = product({{ring()}, {bar()}});
  json levels = json::array();
  for (const int64_t index : {0, 1, 2, 3, 5, 10, 20, 30, 60}) {
    std::cerr << sampler.name << ", level " << index << "\n";
    levels.push_back(measure_level(sampler, target, schedule.level(index)));
  }
  return {{"kernel", sampler.unadjusted->describe() + " with a test"}, {"levels", levels}};
}

Sampler mala() {
  return {"mala",
          [](LogRatioPtr ratio) { return std::make_shared<Mala>(std::move(ratio)); },
          std::make_shared<Ula>(),
          {}};
}

Sampler hmc(int64_t num_leapfrog) {
  const HmcConfig config{.num_leapfrog = num_leapfrog, .damping = 0.0};
  return {"hmc-" + std::to_string(num_leapfrog),
          [config](LogRatioPtr ratio) { return std::make_shared<Hmc>(config, std::move(ratio)); },
          std::make_shared<Uhmc>(config),
          {curve(CurveRule::trapezoid), curve(CurveRule::polynomial)}};
}

}  // namespace
}  // namespace motet::experiments

int main() {
  using namespace motet::experiments;
  json samplers;
  for (const Sampler& sampler : {mala(), hmc(2), hmc(3)}) {
    samplers[sampler.name] = measure(sampler);
  }
  const json report = {{"experiment", "ratio_levels"},   {"seed", kSeed},
                       {"num_chains", kNumChains},       {"tolerance", kWanted.tolerance},
                       {"quantile", kWanted.quantile},   {"num_pilot", kNumPilot},
                       {"samplers", std::move(samplers)}};
  std::cout << report.dump(2) << "\n";
}
