// product(): what it refuses, word for word, and how it keeps exact and score-only parts apart.
#include "motet/compose.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <limits>

#include "motet/error.hpp"
#include "support/tensors.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

// N(0, I) at every level, with or without its log density.
ModelPtr standard_normal(bool is_exact, int64_t dim, const std::string& name) {
  return from_callable(
      [is_exact](const Tensor& x, const NoiseLevel&) {
        const Tensor score = -x;
        const Tensor log_density = -0.5 * x.to(at::kDouble).square().sum(1);
        return is_exact ? Eval{score, log_density, {}} : Eval{score, {}, score};
      },
      {dim}, is_exact, name);
}

const NoiseLevel kLevel{3, 0.9, 0.01};

TEST(Product, RefusesNoTerms) {
  EXPECT_THROW_MSG(product({}), ConfigError,
                   "compose: product() of no terms; give at least one model");
}

TEST(Product, RefusesANullModel) {
  EXPECT_THROW_MSG(product({{standard_normal(true, 2, "a"), 1.0}, {nullptr, 1.0}}), ConfigError,
                   "compose: product() term 2 of 2: no model given (null), must be a model");
}

TEST(Product, RefusesExponentsThatAreNotFinite) {
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
        -std::numeric_limits<double>::infinity()}) {
    EXPECT_THROW_MSG(product({{standard_normal(true, 2, "a"), bad}}), ConfigError,
                     "compose: product() term 1 of 1 (\"a\"): exponent must be a finite number");
  }
}

TEST(Product, RefusesExponentsThatAreAllZero) {
  EXPECT_THROW_MSG(product({{standard_normal(true, 2, "a"), 0.0}}), ConfigError,
                   "compose: product(): every exponent is 0; at least one must differ from 0");
}

TEST(Product, RefusesFactorsOfDifferentShape) {
  EXPECT_THROW_MSG(
      product({{standard_normal(true, 2, "a"), 1.0}, {standard_normal(true, 3, "b"), 1.0}}),
      ShapeError,
      "compose: product() term 2 of 2 (\"b\") has event shape (3), but term 1 (\"a\") has (2); "
      "factors "
      "must share one event shape");
}

TEST(Product, WeighsScoresAndLogDensitiesWithTheExponents) {
  const auto model =
      product({{standard_normal(true, 2, "a"), 1.5}, {standard_normal(true, 2, "b"), -0.25}});
  const Tensor x = rows({{1.0, -2.0}, {0.5, 3.0}});
  const Eval eval = model->evaluate(x, kLevel);
  EXPECT_TRUE(at::allclose(eval.score, -1.25 * x, 0.0, 1e-15));
  EXPECT_TRUE(at::allclose(eval.log_density, -0.625 * x.square().sum(1), 0.0, 1e-15));
  EXPECT_FALSE(eval.remainder.defined());
  EXPECT_TRUE(model->is_exact());
}

TEST(Product, KeepsTheUnexplainedScoreInTheRemainder) {
  const auto model =
      product({{standard_normal(true, 2, "a"), 1.0}, {standard_normal(false, 2, "b"), 2.0}});
  const Tensor x = rows({{1.0, -2.0}});
  const Eval eval = model->evaluate(x, kLevel);
  EXPECT_TRUE(at::allclose(eval.score, -3.0 * x, 0.0, 1e-15));
  EXPECT_TRUE(at::allclose(eval.remainder, -2.0 * x, 0.0, 1e-15));
  EXPECT_TRUE(at::allclose(eval.log_density, at::tensor({-2.5}, at::kDouble), 0.0, 1e-15));
  EXPECT_FALSE(model->is_exact());
}

TEST(Product, OfScoresOnlySharesOneTensorForScoreAndRemainder) {
  const auto model =
      product({{standard_normal(false, 2, "a"), 1.0}, {standard_normal(false, 2, "b"), 1.0}});
  const Eval eval = model->evaluate(at::ones({1, 2}), kLevel);
  EXPECT_TRUE(eval.remainder.is_same(eval.score));
}

TEST(Product, GivesItsFactorsMultipliedOut) {
  const ModelPtr a = standard_normal(true, 2, "a");
  const ModelPtr b = standard_normal(false, 2, "b");
  const ModelPtr nested = product({{score_only(product({{a, 2.0}, {b, 0.5}})), -3.0}, {a, 1.0}});
  const std::vector<Term> found = factors(nested);
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0].exponent, -6.0);
  EXPECT_EQ(found[1].exponent, -1.5);
  EXPECT_EQ(found[2].exponent, 1.0);
  EXPECT_EQ(found[0].model->describe(), "score of a");
  EXPECT_FALSE(found[0].model->is_exact());
  EXPECT_EQ(found[2].model, a);
  EXPECT_EQ(factors(a).front().model, a);
}

TEST(Product, DescribesItsFactorsAndExponents) {
  const auto a = standard_normal(true, 2, "a");
  EXPECT_EQ(product({{a, 1.0}, {standard_normal(true, 2, "b"), 0.5}})->describe(),
            "product(a, b^0.5)");
  EXPECT_EQ(product({{a, 1.0}})->describe(), "a");
}

TEST(Product, NamesTheFactorWhoseScoreIsNotFinite) {
  const auto broken = from_callable(
      [](const Tensor& x, const NoiseLevel&) {
        const Tensor score = x / 0.0;
        return Eval{score, {}, score};
      },
      {2}, false, "broken");
  const auto inner = product({{standard_normal(true, 2, "a"), 1.0}, {broken, 0.5}});
  const auto model = product({{standard_normal(true, 2, "b"), 1.0}, {inner, 2.0}});
  EXPECT_EQ(first_invalid_term(*model, at::ones({3, 2}), kLevel), "broken");
  EXPECT_EQ(first_invalid_term(*standard_normal(true, 2, "a"), at::ones({3, 2}), kLevel), "");
}

}  // namespace
}  // namespace motet
