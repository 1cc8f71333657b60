// The law of every model and composition, score == grad(log_density) + remainder, by central
// differences; and the algebra of products.
#include "motet/model.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "motet/compose.hpp"
#include "motet/rng.hpp"
#include "motet/schedule.hpp"
#include "support/models.hpp"

namespace motet::testing {
namespace {

// Points around the data, and far out: |x| up to 10.
Tensor probe_points(int64_t d) {
  Rng rng(41);
  const Tensor near = 0.5 * rng.normal_like(at::empty({40, d}, at::kDouble));
  const Tensor far = 20.0 * rng.uniform_like(at::empty({20, d}, at::kDouble)) - 10.0;
  return at::cat({near, far});
}

// Central differences of log_density in every coordinate, (B, d); zeros where there is none.
Tensor gradient(const Model& model, const Tensor& x, const NoiseLevel& level) {
  const double step = 1e-4 * level.sigma();
  std::vector<Tensor> columns;
  for (int64_t i = 0; i < x.size(1); ++i) {
    const Tensor moved = at::zeros_like(x[0]);
    moved[i] = step;
    const Tensor up = model.evaluate(x + moved, level).log_density;
    const Tensor down = model.evaluate(x - moved, level).log_density;
    if (!up.defined()) {
      return at::zeros_like(x);
    }
    columns.push_back((up - down) / (2.0 * step));
  }
  return at::stack(columns, 1);
}

// The score's own scale is 1 / sigma: errors are measured against it and against the score.
void expect_law(const Model& model, const Tensor& x, const NoiseLevel& level) {
  const Eval eval = model.evaluate(x, level);
  Tensor expected = gradient(model, x, level);
  if (eval.remainder.defined()) {
    EXPECT_FALSE(model.is_exact()) << model.describe();
    expected = expected + eval.remainder;
  } else {
    EXPECT_TRUE(eval.log_density.defined()) << model.describe();
  }
  const Tensor scale = eval.score.abs() + 1.0 / level.sigma();
  const double error = ((eval.score - expected).abs() / scale).max().item<double>();
  EXPECT_LT(error, 2e-6) << model.describe() << " at alpha_bar " << level.alpha_bar;
}

void expect_law_at_all_levels(const ModelPtr& model) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(100);
  const Tensor x = probe_points(model->event_shape()[0]);
  for (const int64_t index : {0, 1, 10, 50, 98, 99}) {
    expect_law(*model, x, schedule.level(index));
  }
}

TEST(ModelLaw, ScoresOfAnalyticModelsAreGradients) {
  const Tensor low = at::linspace(-1.0, 0.0, 50, at::kDouble);
  const Tensor high = at::linspace(0.1, 3.0, 50, at::kDouble);
  const std::vector<ModelPtr> models = {
      ring(),
      bar(),
      checkerboard(),
      moons(),
      spirals(),
      skewed_mixture(),
      uneven_mixture(1, 3),
      uneven_mixture(50, 3),
      uniform_box(low.narrow(0, 0, 1), high.narrow(0, 0, 1), "box 1"),
      uniform_box(low, high, "box 50"),
      power_score(3, 3, /*is_exact=*/true)};
  for (const ModelPtr& model : models) {
    expect_law_at_all_levels(model);
  }
}

TEST(ModelLaw, ScoresOfCompositionsAreGradientsPlusRemainders) {
  const ModelPtr inner = product({{ring()}, {bar(), -0.4}});
  const std::vector<ModelPtr> models = {
      product({{ring()}, {bar()}}),
      product({{skewed_mixture(), 0.3}, {inner, 2.0}}),
      product({{skewed_mixture(), 0.7}, {score_only(bar())}}),
      product({{score_only(ring()), -0.5}, {score_only(bar()), 1.5}}),
      product({{inner}, {rotating_gaussian(2, 2.0), 0.2}}),
      score_only(inner),
      rotating_gaussian(2, 3.0)};
  for (const ModelPtr& model : models) {
    expect_law_at_all_levels(model);
  }
}

TEST(ModelLaw, CompositionsKnowWhetherTheyAreExact) {
  EXPECT_TRUE(product({{ring()}, {bar(), -1.0}})->is_exact());
  EXPECT_FALSE(product({{ring()}, {score_only(bar())}})->is_exact());
  EXPECT_TRUE(product({{ring()}, {score_only(bar()), 0.0}})->is_exact());
}

// Largest difference of two models' scores, and of their log densities up to a constant.
double distance(const ModelPtr& a, const ModelPtr& b) {
  const Tensor x = probe_points(a->event_shape()[0]).narrow(0, 0, 40);
  const NoiseLevel level = level_at(0.7);
  const Eval first = a->evaluate(x, level);
  const Eval second = b->evaluate(x, level);
  double largest = (first.score - second.score).abs().max().item<double>();
  EXPECT_EQ(first.log_density.defined(), second.log_density.defined());
  if (first.log_density.defined()) {
    const Tensor shift = first.log_density - second.log_density;
    largest = std::max(largest, (shift - shift[0]).abs().max().item<double>());
  }
  return largest;
}

TEST(ProductLaw, Commutes) {
  const Term a{skewed_mixture(), 0.7};
  const Term b{bar(), -1.3};
  const Term c{score_only(ring()), 2.0};
  EXPECT_LT(distance(product({a, b, c}), product({c, a, b})), 1e-12);
}

TEST(ProductLaw, Associates) {
  const Term a{skewed_mixture(), 0.7};
  const Term b{bar(), -1.3};
  const Term c{score_only(ring()), 2.0};
  EXPECT_LT(distance(product({{product({a, b})}, c}), product({a, {product({b, c})}})), 1e-12);
}

TEST(ProductLaw, ExponentsMultiplyThroughNesting) {
  const ModelPtr nested = product({{product({{ring(), 2.0}, {bar(), -0.5}}), 0.3}});
  EXPECT_LT(distance(nested, product({{ring(), 0.6}, {bar(), -0.15}})), 1e-12);
}

TEST(ProductLaw, ExponentOneAloneIsTheModelItself) {
  const ModelPtr model = ring();
  EXPECT_EQ(product({{model}}), model);
}

TEST(ProductLaw, ExponentZeroIsNeverEvaluated) {
  const auto counting = std::make_shared<CountingModel>(bar());
  const ModelPtr model = product({{ring()}, {counting, 0.0}});
  EXPECT_EQ(distance(model, ring()), 0.0);
  EXPECT_EQ(counting->num_calls(), 0);
}

TEST(ProductLaw, OppositeExponentsCancel) {
  const ModelPtr model = product({{ring()}, {bar(), 1.5}, {bar(), -1.5}});
  EXPECT_LT(distance(model, ring()), 1e-12);
}

// N(m_i, v_i)^{a_i}: precisions and precision-weighted means add with weights a_i.
TEST(ProductLaw, ProductOfGaussiansIsItsClosedForm) {
  const NoiseLevel level = level_at(0.7);
  const std::vector<double> exponents = {0.8, 1.7, -0.3};
  const Tensor means = at::tensor({0.3, -1.0, 0.9, 0.2, -0.4, 0.5}, at::kDouble).view({3, 2});
  const Tensor sds = at::tensor({0.5, 0.9, 0.7, 0.3, 1.5, 1.1}, at::kDouble).view({3, 2});
  std::vector<Term> terms;
  Tensor precision = at::zeros({2}, at::kDouble);
  Tensor pull = at::zeros({2}, at::kDouble);
  for (int64_t i = 0; i < 3; ++i) {
    const double exponent = exponents[static_cast<size_t>(i)];
    terms.push_back({gaussian_mixture(at::ones({1}), means.narrow(0, i, 1), sds.narrow(0, i, 1),
                                      "g" + std::to_string(i)),
                     exponent});
    const Tensor variance = level.alpha_bar * sds[i].square() + (1.0 - level.alpha_bar);
    precision = precision + exponent / variance;
    pull = pull + exponent * std::sqrt(level.alpha_bar) * means[i] / variance;
  }
  const Tensor x = probe_points(2);
  const Eval eval = product(terms)->evaluate(x, level);
  const Tensor offset = x - pull / precision;
  EXPECT_LT((eval.score + offset * precision).abs().max().item<double>(), 1e-12);
  const Tensor shift = eval.log_density + 0.5 * (offset.square() * precision).sum(1);
  EXPECT_LT((shift - shift[0]).abs().max().item<double>(), 1e-11);
}

}  // namespace
}  // namespace motet::testing
