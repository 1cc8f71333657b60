// Compositions: what they refuse, word for word; how exact and score-only parts are kept apart; what
// a composition says of itself.
#include "motet/compose.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <limits>

#include "motet/error.hpp"
#include "motet/ratio.hpp"
#include "support/models.hpp"
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
      "compose: product() term 2 of 2 (\"b\") has event shape (3), but the first (\"a\") has (2); "
      "all must share one event shape");
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

// --- refusals

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A trained model's stand-in: some law with a schedule.
class Scheduled : public testing::CountingModel {
 public:
  Scheduled(ModelPtr model, NoiseSchedule schedule)
      : CountingModel(std::move(model)), schedule_(std::move(schedule)) {}
  std::optional<NoiseSchedule> schedule() const override { return schedule_; }

 private:
  NoiseSchedule schedule_;
};

// p(y | x) = exp(-|x|^2 / 2), given at every level.
class SomeLikelihood : public Likelihood {
 public:
  explicit SomeLikelihood(int64_t dim = 2) : dim_(dim) {}
  explicit SomeLikelihood(const NoiseSchedule& schedule) : dim_(2), schedule_(schedule) {}
  Value evaluate(const Tensor& x, const NoiseLevel& /*level*/,
                 const Tensor& /*prior_score*/) const override {
    return {-0.5 * x.to(at::kDouble).square().sum(1), -x};
  }
  LikelihoodPath path() const override { return LikelihoodPath::given; }
  std::vector<int64_t> event_shape() const override { return {dim_}; }
  std::string describe() const override { return "y"; }
  std::optional<NoiseSchedule> schedule() const override { return schedule_; }

 private:
  int64_t dim_;
  std::optional<NoiseSchedule> schedule_;
};

ModelPtr scores(const std::string& name) { return standard_normal(false, 2, name); }
ModelPtr densities(const std::string& name) { return standard_normal(true, 2, name); }

TEST(Product, RefusesFactorsOfDifferentSchedules) {
  const auto a = std::make_shared<Scheduled>(scores("a"), NoiseSchedule::cosine(10));
  const auto b = std::make_shared<Scheduled>(scores("b"), NoiseSchedule::cosine(20));
  EXPECT_THROW_MSG(product({{a}, {scores("c")}, {b}}), ConfigError,
                   "compose: product(): \"b\" was trained for cosine(20, offset=0.008, "
                   "max_beta=0.999), but \"a\" for cosine(10, offset=0.008, max_beta=0.999); all "
                   "must share one noise schedule: retrain one of them");
  EXPECT_THROW_MSG(mixture({{a}, {b}}), ConfigError,
                   "compose: mixture(): \"b\" was trained for cosine(20, offset=0.008, "
                   "max_beta=0.999), but \"a\" for cosine(10, offset=0.008, max_beta=0.999); all "
                   "must share one noise schedule: retrain one of them");
}

TEST(Product, RefusesRampsThatDoNotFallInLogV) {
  for (const Ramp& bad : {Ramp{1.0, 1.0}, Ramp{-1.0, 1.0}, Ramp{kNan, 1.0}, Ramp{kInfinity, 1.0},
                          Ramp{1.0, -kInfinity}}) {
    EXPECT_THROW_MSG(product({{scores("a"), 1.0, bad}}), ConfigError,
                     "compose: product() term 1 of 1 (\"a\"): a ramp must begin at a larger log v "
                     "than it ends");
  }
}

TEST(Product, RefusesToRampAConditionedModel) {
  const ModelPtr posterior = condition(scores("a"), std::make_shared<SomeLikelihood>());
  EXPECT_THROW_MSG(
      product({{scores("b")}, {posterior, -1.0, Ramp{4.0, -4.0}}}), ConfigError,
      "compose: product() term 2 of 2 (\"condition(a, y)\"): a ramp needs a log "
      "density, which a conditioned model has only up to a constant of the level; ramp "
      "its prior");
}

TEST(Product, RefusesPowersThatAreNotFinite) {
  EXPECT_THROW_MSG(pow(scores("a"), kNan), ConfigError,
                   "compose: product() term 1 of 1 (\"a\"): exponent must be a finite number");
  EXPECT_THROW_MSG(guide(scores("a"), scores("b"), kInfinity), ConfigError,
                   "compose: product() term 1 of 2 (\"a\"): exponent must be a finite number");
}

TEST(Product, RefusesFactorsThatCancel) {
  const ModelPtr a = scores("a");
  EXPECT_THROW_MSG(a / a, ConfigError,
                   "compose: product(): every exponent is 0; at least one must differ from 0");
}

TEST(Mixture, RefusesNoComponents) {
  EXPECT_THROW_MSG(mixture({}), ConfigError,
                   "compose: mixture() of no components; give at least one model");
}

TEST(Mixture, RefusesANullModel) {
  EXPECT_THROW_MSG(mixture({{scores("a")}, {nullptr}}), ConfigError,
                   "compose: mixture() component 2 of 2: no model given (null), must be a model");
}

TEST(Mixture, RefusesWeightsThatAreNotPositiveAndFinite) {
  for (const auto& [bad, text] : {std::pair{0.0, "0"}, std::pair{-0.5, "-0.5"},
                                  std::pair{kNan, "nan"}, std::pair{kInfinity, "inf"}}) {
    EXPECT_THROW_MSG(mixture({{scores("a"), 1.0}, {scores("b"), bad}}), ConfigError,
                     std::string("compose: mixture() component 2 of 2 (\"b\"): weight = ") + text +
                         ", must be > 0 and finite");
  }
}

TEST(Mixture, RefusesComponentsOfDifferentShape) {
  EXPECT_THROW_MSG(
      mixture({{scores("a")}, {standard_normal(false, 3, "b")}}), ShapeError,
      "compose: mixture() component 2 of 2 (\"b\") has event shape (3), but the first (\"a\") has "
      "(2); all must share one event shape");
}

TEST(Mixture, RefusesComponentsOfUnknownIntegral) {
  EXPECT_THROW_MSG(
      mixture({{scores("a")}, {scores("b") * scores("c")}}), ConfigError,
      "compose: mixture() component 2 of 2 (\"product(b, c)\") is a product, whose integral is not "
      "known; give normalised(...), with the log integrals that measure_normalisers() finds");
  const ModelPtr posterior = condition(scores("b"), std::make_shared<SomeLikelihood>());
  EXPECT_THROW_MSG(mixture({{posterior}, {scores("a")}}), ConfigError,
                   "compose: mixture() component 1 of 2 (\"condition(b, y)\") is conditioned, and "
                   "its integral is not known; condition the mixture instead");
  const ModelPtr inside = normalised(posterior * scores("c"), {{0.0}, {0.0}});
  EXPECT_THROW_MSG(mixture({{scores("a")}, {inside}}), ConfigError,
                   "compose: mixture() component 2 of 2 (\"" + inside->describe() +
                       "\") is conditioned, and its integral is not known; condition the mixture "
                       "instead");
}

TEST(Mixture, RefusesAPowerAsItsComponent) {
  EXPECT_THROW_MSG(
      mixture({{pow(scores("a"), 0.5)}, {scores("b")}}), ConfigError,
      "compose: mixture() component 1 of 2 (\"product(a^0.5)\") is a product, whose integral is "
      "not "
      "known; give normalised(...), with the log integrals that measure_normalisers() finds");
}

TEST(Normalised, RefusesTablesThatAreNone) {
  const ModelPtr model = scores("a") * scores("b");
  const auto text = [](int at, int values) {
    return "compose: normalised(\"product(a, b)\"): " + std::to_string(at) +
           " values of log v and " + std::to_string(values) +
           " log integrals; give as many of both, at least 1, all finite, log v rising";
  };
  EXPECT_THROW_MSG(normalised(nullptr, {{0.0}, {0.0}}), ConfigError,
                   "compose: normalised(): no model given (null), must be a model");
  EXPECT_THROW_MSG(normalised(model, {}), ConfigError, text(0, 0));
  EXPECT_THROW_MSG(normalised(model, {{0.0, 1.0}, {0.0}}), ConfigError, text(2, 1));
  EXPECT_THROW_MSG(normalised(model, {{0.0, 0.0}, {0.0, 1.0}}), ConfigError, text(2, 2));
  EXPECT_THROW_MSG(normalised(model, {{1.0, 0.0}, {0.0, 1.0}}), ConfigError, text(2, 2));
  EXPECT_THROW_MSG(normalised(model, {{0.0}, {kNan}}), ConfigError, text(1, 1));
  EXPECT_THROW_MSG(normalised(model, {{kNan}, {0.0}}), ConfigError, text(1, 1));
}

TEST(Condition, RefusesWhatItCannotJoin) {
  const auto likelihood = std::make_shared<SomeLikelihood>();
  EXPECT_THROW_MSG(condition(nullptr, likelihood), ConfigError,
                   "compose: condition() prior: no model given (null), must be a model");
  EXPECT_THROW_MSG(condition(scores("a"), nullptr), ConfigError,
                   "compose: condition(): no likelihood given (null), must be one");
  EXPECT_THROW_MSG(condition(scores("a"), likelihood, kNan), ConfigError,
                   "compose: condition(\"a\", \"y\"): exponent must be a finite number");
  EXPECT_THROW_MSG(guide(scores("a"), likelihood, kInfinity), ConfigError,
                   "compose: condition(\"a\", \"y\"): exponent must be a finite number");
  EXPECT_THROW_MSG(condition(scores("a"), std::make_shared<SomeLikelihood>(3)), ShapeError,
                   "compose: condition(\"a\", \"y\"): the likelihood is of event shape (3), but "
                   "the prior has (2); they must be equal");
  const auto a = std::make_shared<Scheduled>(scores("a"), NoiseSchedule::cosine(10));
  EXPECT_THROW_MSG(
      condition(a, std::make_shared<SomeLikelihood>(NoiseSchedule::cosine(20))), ConfigError,
      "compose: condition(): \"y\" was trained for cosine(20, offset=0.008, max_beta=0.999), but "
      "\"a\" for cosine(10, offset=0.008, max_beta=0.999); all must share one noise schedule: "
      "retrain one of them");
}

TEST(Mixture, OfScoresNeedsALedger) {
  const ModelPtr mixed = mixture({{scores("a"), 0.3}, {densities("b"), 0.7}});
  const std::string text =
      "compose: \"mixture(0.3 a, 0.7 b)\" needs log densities that are tracked along each chain, "
      "which one point does not tell; use anneal(), or Target with a ledger";
  EXPECT_THROW_MSG(mixed->evaluate(at::ones({3, 2}), kLevel), ConfigError, text);
  EXPECT_THROW_MSG(Target(mixed, kLevel).evaluate(at::ones({3, 2})), ConfigError, text);
  EXPECT_THROW_MSG(score_only(mixed), ConfigError,
                   "compose: score_only(\"mixture(0.3 a, 0.7 b)\"): its log densities are tracked "
                   "along the chains and cannot be hidden; hide those of its leaves");
}

// --- what a composition says of itself

AnalyticPtr law(const std::string& name) { return testing::gaussian({0.0, 0.0}, {1.0, 1.0}, name); }

// a^2 (.25 b + .75 normalised(b c^.5)) / b, b ramped; of leaves that know a density, a score, an
// energy.
ModelPtr nested() {
  const ModelPtr b = scores("b");
  const ModelPtr part = normalised(b * pow(densities("c"), 0.5), {{0.0}, {0.0}});
  return product({{law("a"), 2.0}, {mixture({{b, 1.0}, {part, 3.0}})}, {b, -1.0, Ramp{4.0, -4.0}}});
}

TEST(Composition, DescribesItselfOnOneLine) {
  EXPECT_EQ(nested()->describe(),
            "product(a^2, mixture(0.25 b, 0.75 normalised(product(b, c^0.5))), b^-1 ramped)");
  EXPECT_EQ(condition(scores("a"), std::make_shared<SomeLikelihood>(), 2.0)->describe(),
            "condition(a, y^2)");
  EXPECT_EQ(score_only(law("a"))->describe(), "score of a");
}

TEST(Composition, DescribesItselfAsATree) {
  EXPECT_EQ(describe_tree(nested()),
            "product\n"
            "  ^ 2  a  (exact log density)\n"
            "  ^ 1  mixture\n"
            "    0.25  b  (log density tracked along each chain)\n"
            "    0.75  normalised\n"
            "      product\n"
            "        ^ 1  b  (log density tracked along each chain)\n"
            "        ^ 0.5  c  (log density tracked along each chain)\n"
            "  ^ -1 ramped  b  (log density tracked along each chain)\n");
  EXPECT_EQ(describe_tree(law("a")), "a  (exact log density)\n");
  EXPECT_EQ(describe_tree(scores("a")), "a  (scores only)\n");
  EXPECT_EQ(describe_tree(condition(scores("a"), std::make_shared<SomeLikelihood>(), 2.0)),
            "conditioned on y ^ 2 (another target than the posterior)\n"
            "  a  (scores only)\n");
}

TEST(Composition, KnowsItsDistinctLeaves) {
  const ModelPtr a = scores("a");
  const ModelPtr b = law("b");
  const ModelPtr model = a * mixture({{b, 0.5}, {a, 0.5}}) * pow(b, 2.0);
  EXPECT_EQ(leaves(model), (std::vector<ModelPtr>{a, b}));
  EXPECT_EQ(leaves(a), std::vector<ModelPtr>{a});
}

TEST(Composition, KnowsItsTraits) {
  const Traits found = traits(*nested());
  EXPECT_TRUE(found.has_mixture && found.has_slope && found.is_tracked);
  EXPECT_FALSE(found.is_conditioned || found.has_twist || found.is_approximate);
  const Traits posterior = traits(*condition(scores("a"), std::make_shared<SomeLikelihood>()));
  EXPECT_TRUE(posterior.is_conditioned && posterior.has_twist);
  EXPECT_FALSE(posterior.has_mixture || posterior.has_slope || posterior.is_tracked);
  const Traits plain = traits(*(scores("a") * scores("b")));
  EXPECT_FALSE(plain.has_mixture || plain.is_conditioned || plain.has_slope || plain.is_tracked);
  EXPECT_FALSE(traits(*mixture({{law("a")}, {law("b")}})).is_tracked);
}

TEST(Composition, SumsItsExponents) {
  EXPECT_EQ(total_exponent(*law("a")), 1.0);
  EXPECT_EQ(total_exponent(*product({{law("a"), 2.0}, {scores("b"), -0.5}})), 1.5);
  EXPECT_EQ(total_exponent(*score_only(product({{law("a"), 2.0}, {law("b"), -0.5}}))), 1.5);
  const ModelPtr narrow = normalised(law("a") * law("b"), {{0.0}, {0.0}});
  EXPECT_EQ(total_exponent(*mixture({{narrow}, {law("c")}})), 1.0);
  EXPECT_EQ(total_exponent(*condition(narrow, std::make_shared<SomeLikelihood>())), 2.0);
  const ModelPtr ratio = product({{law("a")}, {law("b"), -1.0, Ramp{4.0, -4.0}}});
  const auto at_log_v = [](double log_v) {
    return testing::level_at(1.0 / (1.0 + std::exp(log_v)));
  };
  EXPECT_EQ(total_exponent(*ratio), 0.0);
  EXPECT_EQ(total_exponent(*ratio, at_log_v(5.0)), 1.0);
  EXPECT_NEAR(total_exponent(*ratio, at_log_v(2.0)), 0.75, 1e-12);
  EXPECT_EQ(total_exponent(*ratio, at_log_v(-5.0)), 0.0);
}

TEST(Composition, HasFactorsOnlyAsAPlainProduct) {
  const ModelPtr mixed = mixture({{law("a")}, {law("b")}});
  const std::vector<Term> found = factors(pow(mixed, 2.0) * law("c"));
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].model->describe(), "mixture(0.5 a, 0.5 b)");
  EXPECT_EQ(found[0].exponent, 2.0);
  for (const ModelPtr& whole :
       {nested(), mixed, condition(law("a") * law("b"), std::make_shared<SomeLikelihood>())}) {
    const std::vector<Term> one = factors(whole);
    ASSERT_EQ(one.size(), 1U);
    EXPECT_EQ(one[0].model, whole);
    EXPECT_EQ(one[0].exponent, 1.0);
  }
}

TEST(Composition, RampsBeginWhereAllIsNoise) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(100);
  const Ramp ramp = ramp_over(schedule);
  const double begin = 1.0 / (1.0 + std::exp(ramp.first));
  EXPECT_LE(begin, kHighNoise);
  int64_t index = 0;
  while (schedule.level(index).alpha_bar > kHighNoise) {
    ++index;
  }
  EXPECT_NEAR(begin, schedule.level(index).alpha_bar, 1e-12);
  EXPECT_NEAR(1.0 / (1.0 + std::exp(ramp.last)), schedule.level(0).alpha_bar, 1e-12);
  // A schedule that ends before there: its highest level.
  const NoiseSchedule low = NoiseSchedule::from_alpha_bars({0.9, 0.5, 0.2});
  EXPECT_NEAR(1.0 / (1.0 + std::exp(ramp_over(low).first)), 0.2, 1e-12);
}

TEST(Composition, NamesTheBrokenLeafOfAMixture) {
  const auto broken = from_callable(
      [](const Tensor& x, const NoiseLevel&) {
        const Tensor score = x / 0.0;
        return Eval{score, {}, score};
      },
      {2}, false, "broken");
  const ModelPtr model = scores("a") * mixture({{scores("b")}, {broken}});
  EXPECT_EQ(first_invalid_term(*model, at::ones({3, 2}), kLevel), "broken");
}

}  // namespace
}  // namespace motet
