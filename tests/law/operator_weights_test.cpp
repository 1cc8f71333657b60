// Feynman-Kac weights of every operator: annealed chains of the line, weighted, against the law that
// the composition has, by quadrature; and the same check rejects Evals without what weights need.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "motet/anneal.hpp"
#include "motet/compose.hpp"
#include "support/compositions.hpp"
#include "support/models.hpp"

namespace motet::testing {
namespace {

const AnalyticPtr& law_a() {
  static const AnalyticPtr law = gaussian({-0.4}, {0.8}, "a");
  return law;
}
const AnalyticPtr& law_b() {
  static const AnalyticPtr law = gaussian({0.7}, {0.35}, "b");
  return law;
}
const AnalyticPtr& law_c() {
  static const AnalyticPtr law = gaussian_mixture(
      at::tensor({0.6, 0.4}, at::kDouble), at::tensor({-0.9, 0.5}, at::kDouble).view({2, 1}),
      at::tensor({0.25, 0.4}, at::kDouble).view({2, 1}), "c");
  return law;
}

// What the leaves of a composition show of these laws.
struct Leaves {
  ModelPtr a, b, c;
};
Leaves densities() { return {law_a(), law_b(), law_c()}; }
Leaves scores() { return {hidden(law_a()), hidden(law_b()), hidden(law_c())}; }

const NoiseSchedule& schedule() {
  static const NoiseSchedule value = NoiseSchedule::cosine(200);
  return value;
}

// A composition, and its law written down apart from it.
struct Case {
  std::string name;
  ModelPtr model;
  LogDensity law;
  std::function<double(const NoiseLevel&)> count;  // of densities
};

std::function<double(const NoiseLevel&)> always(double count) {
  return [count](const NoiseLevel& /*level*/) { return count; };
}

LogDensity mixture_law() {
  return log_mixture({{0.3, log_density_of(law_a())}, {0.7, log_density_of(law_b())}});
}

Case mixture_in_a_product(const Leaves& of) {
  return {"mixture in a product",
          product({{of.c, 0.5}, {mixture({{of.a, 0.3}, {of.b, 0.7}}), 0.8}}),
          log_product({{log_density_of(law_c()), 0.5}, {mixture_law(), 0.8}}), always(1.3)};
}

Case power_of_a_mixture(const Leaves& of) {
  return {"power of a mixture", pow(mixture({{of.a, 0.3}, {of.b, 0.7}}), 1.5),
          log_product({{mixture_law(), 1.5}}), always(1.5)};
}

Case product_in_a_mixture(const Leaves& of) {
  const LogDensity factors =
      log_product({{log_density_of(law_a()), 1.0}, {log_density_of(law_b()), 1.0}});
  const LogDensity law = [factors](const Tensor& x, const NoiseLevel& level) {
    const LogDensity normal = [&](const Tensor& at, const NoiseLevel& here) {
      return factors(at, here) - grid_law(factors, here).log_integral;
    };
    return log_mixture({{0.6, normal}, {0.4, log_density_of(law_c())}})(x, level);
  };
  return {"product in a mixture",
          mixture({{normalised(of.a * of.b, log_integrals(factors, schedule(), 2.0)), 0.6},
                   {of.c, 0.4}}),
          law, always(1.0)};
}

Case negation(const Leaves& of) {
  return {"negation", product({{of.c, 1.6}, {of.a, -0.6}}),
          log_product({{log_density_of(law_c()), 1.6}, {log_density_of(law_a()), -0.6}}),
          always(1.0)};
}

// p_b / p_a: the exponents sum to 0, and only a ramp lets it exist at high noise.
Case ramped_ratio(const Leaves& of) {
  const Ramp ramp = ramp_over(schedule());
  const auto ramped = [ramp](const NoiseLevel& level) {
    const double here = std::log((1.0 - level.alpha_bar) / level.alpha_bar);
    return std::clamp((ramp.first - here) / (ramp.first - ramp.last), 0.0, 1.0);
  };
  return {"ramped ratio", product({{of.b}, {of.a, -1.0, ramp}}),
          [ramped](const Tensor& x, const NoiseLevel& level) {
            return log_density_of(law_b())(x, level) -
                   ramped(level) * log_density_of(law_a())(x, level);
          },
          [ramped](const NoiseLevel& level) { return 1.0 - ramped(level); }};
}

std::vector<Case> cases(const Leaves& of) {
  return {mixture_in_a_product(of), power_of_a_mixture(of), product_in_a_mixture(of), negation(of),
          ramped_ratio(of)};
}

double log_integral_at(const Case& of, const NoiseLevel& level) {
  return log_integral(of.law, level, of.count(level));
}

struct Outcome {
  double log_ratio = 0.0;  // log(Z_last / Z_first), found less true
  double mean = 0.0;       // found less true, in standard deviations
  double sd = 0.0;         // found / true - 1
  double below = 0.0;      // share of the law below its mean, found less true
  double largest() const {
    return std::max({std::abs(log_ratio), std::abs(mean), std::abs(sd), std::abs(below)});
  }
  std::string text() const {
    return "log ratio " + std::to_string(log_ratio) + ", mean " + std::to_string(mean) + ", sd " +
           std::to_string(sd) + ", below " + std::to_string(below);
  }
};

Outcome compare(const Case& of, const SampleResult& result, const AnnealConfig& config) {
  const NoiseLevel& top = config.levels.front().level;
  const NoiseLevel& bottom = config.levels.back().level;
  const GridLaw truth = grid_law(of.law, bottom);
  const Tensor x = result.x.squeeze(1);
  const Tensor weights = result.log_weights.defined()
                             ? result.log_weights.softmax(0)
                             : at::full_like(x, 1.0 / static_cast<double>(x.size(0)));
  const double mean = (weights * x).sum().item<double>();
  const double variance = (weights * (x - mean).square()).sum().item<double>();
  const double below = (weights * x.lt(truth.mean())).sum().item<double>();
  return {result.log_normalisers.mean().item<double>() -
              (log_integral_at(of, bottom) - log_integral_at(of, top)),
          (mean - truth.mean()) / truth.sd(), std::sqrt(variance) / truth.sd() - 1.0,
          below - truth.share_below(truth.mean())};
}

Tensor draws_at(const Case& of, const NoiseLevel& level, int64_t num_chains) {
  Rng rng = Rng(5).split("start");
  return grid_law(of.law, level).draws(num_chains, rng);
}

// --- weights alone, chains from the exact law of a level where laws still differ

constexpr int64_t kFirst = 125;

Outcome weigh(const Case& of, const ModelPtr& model, WeightRule rule = WeightRule::log_v) {
  constexpr int64_t kNumChains = 4000;
  AnnealConfig config;
  for (int64_t index = kFirst; index >= 0; --index) {
    config.levels.push_back({schedule().level(index), 0, 0.0});
  }
  config.placement = Placement::none;
  config.weights =
      WeightConfig{.rule = rule, .resampling = Resampling::none, .island_size = kNumChains};
  const Tensor x = draws_at(of, schedule().level(kFirst), kNumChains);
  return compare(of, anneal(model, schedule(), nullptr, config, x, Rng(5)), config);
}

// The weights of 4000 chains have an effective size of 1000 or more: a standard error of .03.
constexpr double kRightBelow = 0.08;
constexpr double kWrongAbove = 0.12;

void expect_right(const Outcome& found) { EXPECT_LT(found.largest(), kRightBelow) << found.text(); }
void expect_wrong(const Outcome& found) { EXPECT_GT(found.largest(), kWrongAbove) << found.text(); }

TEST(OperatorWeightsLaw, GiveEveryOperatorItsLaw) {
  for (const Case& of : cases(densities())) {
    SCOPED_TRACE(of.name);
    expect_right(weigh(of, of.model));
  }
}

// `model`, its Evals changed: what a fault in the weights would be.
using Change = std::function<void(Eval& eval, const Tensor& x, const NoiseLevel& level)>;
ModelPtr changed(const ModelPtr& model, const Change& change) {
  return from_callable(
      [model, change](const Tensor& x, const NoiseLevel& level) {
        Eval eval = model->evaluate(x, level);
        change(eval, x, level);
        return eval;
      },
      model->event_shape(), model->is_exact(), "changed");
}

TEST(OperatorWeightsLaw, CheckRejectsALostSquareSum) {
  const Change lose = [](Eval& eval, const Tensor&, const NoiseLevel&) {
    eval.square_sum = Tensor();
  };
  for (const Case& of : {power_of_a_mixture(densities()), product_in_a_mixture(densities())}) {
    SCOPED_TRACE(of.name);
    expect_wrong(weigh(of, changed(of.model, lose)));
  }
}

TEST(OperatorWeightsLaw, CheckRejectsALostSlope) {
  const Change lose = [](Eval& eval, const Tensor&, const NoiseLevel&) { eval.slope = Tensor(); };
  for (const Case& of : {product_in_a_mixture(densities()), ramped_ratio(densities())}) {
    SCOPED_TRACE(of.name);
    expect_wrong(weigh(of, changed(of.model, lose)));
  }
}

// A mixture's G is |S|^2, not the mean of its components' |s|^2.
TEST(OperatorWeightsLaw, CheckRejectsTheMeanSquareOfAMixture) {
  const Case of = power_of_a_mixture(densities());
  const auto mixed = std::dynamic_pointer_cast<const TrackingModel>(of.model);
  const Change spread = [mixed](Eval& eval, const Tensor& x, const NoiseLevel& level) {
    const Tensor shares = mixed->shares(eval, x, level);
    const Tensor squares = at::stack({law_a()->evaluate(x, level).score.square().sum(1),
                                      law_b()->evaluate(x, level).score.square().sum(1)},
                                     1);
    eval.square_sum = 1.5 * (shares * squares).sum(1);
  };
  expect_wrong(weigh(of, changed(of.model, spread)));
}

// --- with MCMC and resampling, from high noise, on scores alone

Outcome sample(const Case& of) {
  constexpr int64_t kNumChains = 2000;
  AnnealConfig config;
  for (int64_t index = 190; index >= 0; index -= index > 20 ? 4 : 1) {
    const NoiseLevel level = schedule().level(index);
    // Below the width of the narrowest mode: the curve's rule is accurate there.
    const double step_size = 0.15 * grid_law(of.law, level).sd();
    config.levels.push_back({level, 1, step_size});
  }
  config.placement = Placement::before_reverse;
  config.weights = WeightConfig{.rule = WeightRule::log_v, .max_share = 0.0};
  const auto kernel = std::make_shared<Hmc>(HmcConfig{.num_leapfrog = 3, .damping = 0.0},
                                            curve_ratio(CurveRule::polynomial));
  const Tensor x = draws_at(of, config.levels.front().level, kNumChains);
  return compare(of, anneal(of.model, schedule(), kernel, config, x, Rng(7)), config);
}

TEST(OperatorWeightsLaw, SamplesEveryOperatorFromScoresAlone) {
  for (const Case& of : cases(scores())) {
    SCOPED_TRACE(of.name);
    const Outcome found = sample(of);
    expect_right(found);
  }
}

}  // namespace
}  // namespace motet::testing
