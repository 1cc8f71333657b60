// The algebra of compositions: what is written in two ways is one law; closed forms; and every
// operator's G and slope obey d/dv log p = 1/2 (Laplacian of log p + G) + slope / v.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <functional>

#include "model_rows.hpp"
#include "motet/compose.hpp"
#include "support/compositions.hpp"
#include "support/models.hpp"

namespace motet::testing {
namespace {

// Three laws of the plane, in the three ways in which a leaf may know itself.
enum class Knowledge { density, energy, score };

struct Laws {
  ModelPtr a, b, c;
};

Laws laws(Knowledge knowledge) {
  const AnalyticPtr a = skewed_mixture();
  const AnalyticPtr b = gaussian({0.1, 0.4}, {0.5, 0.8}, "b");
  const AnalyticPtr c = gaussian({-0.3, 0.2}, {0.7, 0.6}, "c");
  switch (knowledge) {
    case Knowledge::density:
      return {a, b, c};
    case Knowledge::energy:
      return {energy(a), energy(b), energy(c)};
    case Knowledge::score:
      break;
  }
  return {hidden(a), hidden(b), hidden(c)};
}

Tensor square_sum_of(const Eval& eval) {
  return eval.square_sum.defined() ? eval.square_sum : detail::square_norm(eval.score);
}

// Undefined counts as 0.
double largest_gap(const Tensor& a, const Tensor& b) {
  if (!a.defined() && !b.defined()) {
    return 0.0;
  }
  const Tensor gap = !a.defined() ? b : !b.defined() ? a : a - b;
  return gap.abs().max().item<double>();
}

Tensor some_points(int64_t d = 2) {
  Rng rng(3);
  return rng.normal_like(at::empty({40, d}, at::kDouble));
}

// The same law, in all that samplers look at. Log densities up to a constant where `up_to_constant`.
void expect_same(const ModelPtr& one, const ModelPtr& other, bool up_to_constant = false) {
  const Tensor x = some_points();
  for (const double alpha_bar : {0.999, 0.7, 0.05}) {
    SCOPED_TRACE(one->describe() + " and " + other->describe() + " at " +
                 std::to_string(alpha_bar));
    const NoiseLevel level = level_at(alpha_bar);
    const Eval a = exact_eval(one, x, level);
    const Eval b = exact_eval(other, x, level);
    const double scale = 1.0 + b.score.abs().max().item<double>();
    EXPECT_LT(largest_gap(a.score, b.score), 1e-12 * scale);
    EXPECT_LT(largest_gap(a.remainder, b.remainder), 1e-12 * scale);
    EXPECT_LT(largest_gap(square_sum_of(a), square_sum_of(b)), 1e-12 * scale * scale);
    EXPECT_LT(largest_gap(a.slope, b.slope), 1e-12 * scale);
    ASSERT_EQ(a.log_density.defined(), b.log_density.defined());
    if (a.log_density.defined()) {
      Tensor gap = a.log_density - b.log_density;
      gap = up_to_constant ? gap - gap.mean() : gap;
      EXPECT_LT(gap.abs().max().item<double>(), 1e-12 * scale);
    }
  }
}

class CompositionAlgebra : public ::testing::TestWithParam<Knowledge> {
 protected:
  ModelPtr a_ = laws(GetParam()).a;
  ModelPtr b_ = laws(GetParam()).b;
  ModelPtr c_ = laws(GetParam()).c;
};

TEST_P(CompositionAlgebra, ProductsCommuteAndAssociate) {
  expect_same(a_ * b_, b_ * a_);
  expect_same((a_ * b_) * c_, a_ * (b_ * c_));
  expect_same(pow(a_ * pow(b_, 2.0), 0.5) / c_, product({{c_, -1.0}, {b_, 1.0}, {a_, 0.5}}));
}

TEST_P(CompositionAlgebra, MixturesCommuteAndAssociate) {
  expect_same(mixture({{a_, 0.3}, {b_, 0.7}}), mixture({{b_, 0.7}, {a_, 0.3}}));
  expect_same(mixture({{mixture({{a_, 0.3}, {b_, 0.7}}), 0.4}, {c_, 0.6}}),
              mixture({{a_, 0.12}, {b_, 0.28}, {c_, 0.6}}));
}

TEST_P(CompositionAlgebra, WeightsCountUpToAFactor) {
  expect_same(mixture({{a_, 3.0}, {b_, 7.0}}), mixture({{a_, 0.3}, {b_, 0.7}}));
}

TEST_P(CompositionAlgebra, TheExponentsOneAndZeroDoNothing) {
  EXPECT_EQ(pow(a_, 1.0), a_);
  EXPECT_EQ(product({{a_, 1.0}, {b_, 0.0}}), a_);
  EXPECT_EQ(mixture({{a_, 0.7}}), a_);
  expect_same(pow(pow(a_, 0.4), 2.5), a_);
}

TEST_P(CompositionAlgebra, PowersOfMixturesMultiply) {
  const ModelPtr mixed = mixture({{a_, 0.3}, {b_, 0.7}});
  expect_same(mixed * mixed, pow(mixed, 2.0));
  expect_same(pow(pow(mixed, 2.0), 0.5), mixed);
}

TEST_P(CompositionAlgebra, DividingByAFactorTakesItAwayUnevaluated) {
  const auto counted = std::make_shared<CountingModel>(b_);
  const ModelPtr divided = a_ * counted / counted;
  EXPECT_EQ(divided, a_);
  const ModelPtr mixed = mixture({{a_, 0.3}, {c_, 0.7}});
  expect_same(mixed * counted / counted, mixed);
  EXPECT_EQ(counted->num_calls(), 0);
}

TEST_P(CompositionAlgebra, AMixtureOfEqualsIsTheModel) {
  const ModelPtr equals = mixture({{b_, 0.3}, {b_, 0.7}});
  const NoiseLevel level = level_at(0.7);
  const Eval eval = exact_eval(equals, some_points(), level);
  const Eval alone = b_->evaluate(some_points(), level);
  EXPECT_LT(largest_gap(eval.score, alone.score), 1e-13);
  EXPECT_LT(largest_gap(square_sum_of(eval), square_sum_of(alone)), 1e-12);
}

TEST_P(CompositionAlgebra, OperatorsAreTheFunctions) {
  const LogNormalisers table{{-9.0, 9.0}, {0.5, 0.25}};
  const ModelPtr both = normalised(b_ * c_, table);
  expect_same(0.7 * a_ + 0.3 * both,
              mixture({{a_, 0.7}, {normalised(product({{b_}, {c_}}), table), 0.3}}));
  expect_same(1.0 * a_ + 2.0 * b_ + 3.0 * c_, mixture({{a_, 1.0}, {b_, 2.0}, {c_, 3.0}}));
  expect_same(a_ * pow(b_, 0.5) / c_, product({{a_, 1.0}, {b_, 0.5}, {c_, -1.0}}));
}

TEST_P(CompositionAlgebra, ClassifierFreeGuidanceIsAProduct) {
  expect_same(guide(a_, b_, 2.0), product({{a_, 3.0}, {b_, -2.0}}));
  EXPECT_EQ(guide(a_, b_, 0.0), a_);
}

INSTANTIATE_TEST_SUITE_P(Of, CompositionAlgebra,
                         ::testing::Values(Knowledge::density, Knowledge::energy, Knowledge::score),
                         [](const ::testing::TestParamInfo<Knowledge>& of) {
                           return of.param == Knowledge::density  ? "Densities"
                                  : of.param == Knowledge::energy ? "Energies"
                                                                  : "Scores";
                         });

// A mixture of Gaussian mixtures is one, whatever its leaves know.
TEST(CompositionLaw, MixturesOfGaussianMixturesAreTheFlattenedOnes) {
  const AnalyticPtr flat = gaussian_mixture(
      at::tensor({0.4 * 0.55, 0.4 * 0.3, 0.4 * 0.15, 0.6}, at::kDouble),
      at::tensor({-0.5, 0.1, 0.6, -0.4, 0.2, 0.9, 0.1, 0.4}, at::kDouble).view({4, 2}),
      at::tensor({0.45, 0.3, 0.25, 0.5, 0.6, 0.25, 0.5, 0.8}, at::kDouble).view({4, 2}), "flat");
  const Tensor x = some_points();
  const NoiseLevel level = level_at(0.8);
  const Eval truth = flat->evaluate(x, level);
  for (const Knowledge knowledge : {Knowledge::density, Knowledge::energy, Knowledge::score}) {
    const Laws all = laws(knowledge);
    const Eval eval = exact_eval(mixture({{all.a, 0.4}, {all.b, 0.6}}), x, level);
    EXPECT_LT(largest_gap(eval.score, truth.score), 1e-12);
    EXPECT_LT(largest_gap(eval.log_density, truth.log_density), 1e-12);
    EXPECT_LT(largest_gap(square_sum_of(eval), detail::square_norm(truth.score)), 1e-11);
  }
}

TEST(CompositionLaw, ProductsOfGaussiansHaveTheirClosedForm) {
  const NoiseLevel level = level_at(0.6);
  const double variance_b = 0.6 * 0.25 + 0.4;
  const double variance_c = 0.6 * 0.49 + 0.4;
  const double precision = 1.5 / variance_b - 0.5 / variance_c;
  const double mean =
      std::sqrt(0.6) * (1.5 * 0.1 / variance_b + 0.5 * 0.3 / variance_c) / precision;
  const ModelPtr model = product({{gaussian({0.1}, {0.5}), 1.5}, {gaussian({-0.3}, {0.7}), -0.5}});
  const Tensor x = some_points(1);
  const Eval eval = model->evaluate(x, level);
  EXPECT_LT(largest_gap(eval.score, -precision * (x - mean)), 1e-12);
  const Tensor log_density = -0.5 * precision * (x - mean).square().sum(1);
  const Tensor gap = eval.log_density - log_density;
  EXPECT_LT(largest_gap(gap, gap.mean()), 1e-12);
}

// p_a (w p_b + (1 - w) p_c) is the mixture of the products, weighted by their integrals.
TEST(CompositionLaw, ProductsDistributeOverMixtures) {
  const AnalyticPtr a = gaussian({0.3}, {0.6});
  const AnalyticPtr b = gaussian({-0.7}, {0.3});
  const AnalyticPtr c = gaussian({0.8}, {0.4});
  const NoiseLevel level = level_at(0.9);
  const auto table = [&level](const ModelPtr& factors) {
    return LogNormalisers{{0.0}, {log_integral(log_density_of(factors), level, 2.0)}};
  };
  const LogNormalisers of_b = table(a * b);
  const LogNormalisers of_c = table(a * c);
  const ModelPtr spread = mixture({{normalised(a * b, of_b), 0.3 * std::exp(of_b.value[0])},
                                   {normalised(a * c, of_c), 0.7 * std::exp(of_c.value[0])}});
  const Tensor x = some_points(1);
  const Eval one = product({{a}, {mixture({{b, 0.3}, {c, 0.7}})}})->evaluate(x, level);
  const Eval other = spread->evaluate(x, level);
  EXPECT_LT(largest_gap(one.score, other.score), 1e-11);
  EXPECT_LT(largest_gap(square_sum_of(one), square_sum_of(other)), 1e-9);
  const Tensor gap = one.log_density - other.log_density;
  EXPECT_LT(largest_gap(gap, gap.mean()), 1e-11);
}

TEST(CompositionLaw, NormalisedMixturesAndTablesIntegrateToOne) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(20);
  const ModelPtr factors = gaussian({0.3}, {0.6}) * gaussian({-0.7}, {0.3});
  const LogNormalisers table = log_integrals(log_density_of(factors), schedule, 2.0);
  const ModelPtr mixed =
      mixture({{normalised(factors, table), 0.4}, {gaussian({1.0}, {0.2}), 0.6}});
  for (const int64_t index : {0, 7, 15}) {
    const NoiseLevel level = schedule.level(index);
    EXPECT_NEAR(grid_law(log_density_of(normalised(factors, table)), level).log_integral, 0.0,
                1e-10);
    EXPECT_NEAR(grid_law(log_density_of(mixed), level).log_integral, 0.0, 1e-10);
  }
  EXPECT_TRUE(normalised(factors, table)->is_normalised());
  EXPECT_TRUE(mixed->is_normalised());
  EXPECT_FALSE(factors->is_normalised());
}

// --- d/dv log p at fixed x / sqrt(alpha_bar)

NoiseLevel at_v(double v) { return level_at(1.0 / (1.0 + v)); }

// How many densities a composition counts as at v.
using Count = std::function<double(double v)>;

Tensor log_density_of_y(const ModelPtr& model, const Tensor& y, double v, const Count& count) {
  const NoiseLevel level = at_v(v);
  const Eval eval = model->evaluate(y * std::sqrt(level.alpha_bar), level);
  return eval.log_density +
         0.5 * count(v) * static_cast<double>(y.size(1)) * std::log(level.alpha_bar);
}

// Sum over coordinates of the score's own derivative in y, by central differences.
Tensor laplacian_in_y(const ModelPtr& model, const Tensor& y, const NoiseLevel& level) {
  const double scale = std::sqrt(level.alpha_bar);
  constexpr double kStep = 1e-5;
  Tensor sum = at::zeros({y.size(0)}, at::kDouble);
  for (int64_t i = 0; i < y.size(1); ++i) {
    const Tensor shift = at::zeros_like(y);
    shift.select(1, i).fill_(kStep);
    const Tensor right = model->evaluate((y + shift) * scale, level).score;
    const Tensor left = model->evaluate((y - shift) * scale, level).score;
    sum = sum + (right - left).select(1, i) * scale / (2.0 * kStep);
  }
  return sum;
}

// Largest gap between both sides of the law over points, in units of the left side's size.
double diffusion_gap(const ModelPtr& model, double v, const Count& count, bool with_slope = true,
                     bool with_square_sum = true) {
  const Tensor y = some_points(model->event_shape()[0]);
  const NoiseLevel level = at_v(v);
  const double step = 1e-5 * v;
  const Tensor change =
      (log_density_of_y(model, y, v + step, count) - log_density_of_y(model, y, v - step, count)) /
      (2.0 * step);
  const Eval eval = model->evaluate(y * std::sqrt(level.alpha_bar), level);
  const Tensor square = with_square_sum ? square_sum_of(eval) : detail::square_norm(eval.score);
  Tensor expected = 0.5 * (laplacian_in_y(model, y, level) + level.alpha_bar * square);
  if (with_slope && eval.slope.defined()) {
    expected = expected + eval.slope / v;
  }
  return largest_gap(change, expected) / (1.0 + change.abs().max().item<double>());
}

// A table whose slope does not jump at the levels looked at.
LogNormalisers steady_table(double at_zero, double slope) {
  return {{-20.0, 20.0}, {at_zero - 20.0 * slope, at_zero + 20.0 * slope}};
}

struct Composed {
  std::string name;
  ModelPtr model;
  Count count;
  bool needs_square_sum = true;
  bool needs_slope = false;
};

Count always(double count) {
  return [count](double /*v*/) { return count; };
}

std::vector<Composed> compositions() {
  const auto [a, b, c] = laws(Knowledge::density);
  const ModelPtr mixed = mixture({{a, 0.3}, {b, 0.7}});
  const ModelPtr part = normalised(product({{a, 0.5}, {b, 1.5}}), steady_table(-1.0, 0.8));
  const ModelPtr both = mixture({{part, 0.6}, {c, 0.4}});
  const Ramp ramp{4.0, -4.0};
  const ModelPtr ramped = product({{a}, {b, -1.0, ramp}});
  const auto ramped_to = [](double exponent) {
    return [exponent](double v) { return 1.0 + exponent * (4.0 - std::log(v)) / 8.0; };
  };
  return {{"mixture", mixed, always(1.0), false},
          {"product", product({{a, 1.5}, {b, -0.4}}), always(1.1)},
          {"mixture in a product", product({{mixed, 1.4}, {c, 0.7}}), always(2.1)},
          {"normalised product", part, always(1.0), true, true},
          {"product in a mixture", both, always(1.0), true, true},
          {"that in a product", product({{both, 1.2}, {a, -0.3}}), always(0.9), true, true},
          {"ramped", ramped, ramped_to(-1.0), true, true},
          {"ramped mixture", product({{c}, {mixed, -0.5, ramp}}), ramped_to(-0.5), true, true},
          {"ramped in a mixture",
           mixture({{normalised(ramped, steady_table(0.3, -0.2)), 0.5}, {c, 0.5}}), always(1.0),
           true, true},
          {"ramp in a ramp", product({{c}, {pow(ramped, 2.0), 0.5}, {ramped, -0.5, ramp}}),
           [](double v) {
             const double done = (4.0 - std::log(v)) / 8.0;
             return 1.0 + (1.0 - 0.5 * done) * (1.0 - done);
           },
           true, true},
          {"mixture of mixtures to a power", pow(mixture({{mixed, 0.4}, {both, 0.6}}), 0.5),
           always(0.5), true, true}};
}

TEST(CompositionLaw, SquareSumAndSlopeAreTheChangeWithTheLevel) {
  constexpr double kV = 0.7;
  for (const Composed& composed : compositions()) {
    SCOPED_TRACE(composed.name);
    EXPECT_LT(diffusion_gap(composed.model, kV, composed.count), 1e-6);
    // Power: without a field that the composition needs, the law fails.
    if (composed.needs_square_sum) {
      EXPECT_GT(diffusion_gap(composed.model, kV, composed.count, true, false), 1e-2);
    }
    if (composed.needs_slope) {
      EXPECT_GT(diffusion_gap(composed.model, kV, composed.count, false), 1e-2);
    }
  }
}

// With a ledger without error a composition of scores is the one of densities.
TEST(CompositionLaw, TrackedCompositionsAreThoseOfDensitiesGivenTheLedger) {
  const auto build = [](const Laws& of) {
    const ModelPtr part = normalised(of.a * of.b, steady_table(-1.0, 0.8));
    return product({{mixture({{part, 0.6}, {of.c, 0.4}}), 1.2}, {of.b, -0.4, Ramp{4.0, -4.0}}});
  };
  const Eval truth = build(laws(Knowledge::density))->evaluate(some_points(), level_at(0.7));
  for (const Knowledge knowledge : {Knowledge::energy, Knowledge::score}) {
    const Eval eval = exact_eval(build(laws(knowledge)), some_points(), level_at(0.7));
    EXPECT_LT(largest_gap(eval.score, truth.score), 1e-12);
    EXPECT_LT(largest_gap(eval.square_sum, truth.square_sum), 1e-11);
    EXPECT_LT(largest_gap(eval.slope, truth.slope), 1e-12);
  }
}

TEST(CompositionLaw, SharesAreThePosteriorProbabilities) {
  const auto [a, b, c] = laws(Knowledge::score);
  const ModelPtr model = mixture({{a, 0.3}, {b, 0.7}});
  const auto& tracking = dynamic_cast<const TrackingModel&>(*model);
  EXPECT_EQ(tracking.component_names(), (std::vector<std::string>{"skewed mixture", "b"}));
  Rng rng(4);
  const NoiseLevel level = level_at(0.9);
  const AnalyticPtr exact_b = gaussian({0.1, 0.4}, {0.5, 0.8});
  const Tensor x = at::cat(
      {skewed_mixture()->sample_level(3000, level, rng), exact_b->sample_level(7000, level, rng)});
  const Tensor shares = tracking.shares(exact_eval(model, x, level), x, level);
  EXPECT_LT(largest_gap(shares.sum(1), at::ones({10000}, at::kDouble)), 1e-12);
  // Their mean over exact draws is the weight; a share's standard deviation is at most 1/2.
  EXPECT_NEAR(shares.select(1, 0).mean().item<double>(), 0.3, 0.02);
}

}  // namespace
}  // namespace motet::testing
