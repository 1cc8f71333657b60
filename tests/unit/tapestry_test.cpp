// Windows on a canvas: where scores go, what is known of densities, what is evaluated how often.
#include "motet/tapestry.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "motet/compose.hpp"
#include "motet/error.hpp"
#include "motet/preset.hpp"
#include "preset_start.hpp"
#include "support/models.hpp"
#include "support/tensors.hpp"
#include "support/throw_message.hpp"

namespace motet::testing {
namespace {

const NoiseLevel kLevel = level_at(0.6);

// The score `value` everywhere, of no density.
ModelPtr constant(std::vector<int64_t> event, double value, const std::string& name = "constant") {
  return from_callable(
      [value](const Tensor& x, const NoiseLevel& /*level*/) {
        return Eval{.score = at::full_like(x, value), .log_density = {}, .remainder = {}};
      },
      std::move(event), /*is_exact=*/false, name);
}

// A law of h * w coordinates as one of events (1, h, w).
ModelPtr as_image(const ModelPtr& law, int64_t height, int64_t width) {
  return from_callable(
      [law](const Tensor& x, const NoiseLevel& level) {
        Eval eval = law->evaluate(x.flatten(1), level);
        eval.score = eval.score.view(x.sizes());
        return eval;
      },
      {1, height, width}, /*is_exact=*/true, law->describe());
}

Tensor covariance_of(int64_t d, double correlation) {
  return at::full({d, d}, correlation, at::kDouble).fill_diagonal_(1.0);
}

ModelPtr strip(int64_t d, double correlation, double mean = 0.3) {
  return correlated_gaussian(at::full({d}, mean, at::kDouble), covariance_of(d, correlation));
}

Tensor points(const std::vector<int64_t>& shape) {
  return Rng(5).normal_like(at::empty(shape, at::kDouble));
}

double gap(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

TEST(Tapestry, ProductAddsTheWindowsScoresWhereTheyLie) {
  const ModelPtr model = tapestry({{constant({2, 2, 3}, 1.0), 0, 0, 1.0},
                                   {constant({2, 2, 2}, 10.0), 1, 2, 0.5},
                                   {constant({2, 3, 1}, 100.0), 0, 3, 1.0},
                                   {constant({2, 1, 3}, 1000.0), 2, 0, 1.0}},
                                  {.height = 3, .width = 4, .rule = OverlapRule::product});
  EXPECT_EQ(model->event_shape(), (std::vector<int64_t>{2, 3, 4}));
  const Tensor expected = rows({{1, 1, 1, 100}, {1, 1, 6, 105}, {1000, 1000, 1005, 105}});
  const Eval eval = model->evaluate(points({5, 2, 3, 4}), kLevel);
  EXPECT_EQ(gap(eval.score, expected.expand({5, 2, 3, 4})), 0.0);
  EXPECT_TRUE(eval.remainder.is_same(eval.score));
  EXPECT_FALSE(eval.log_density.defined());
}

TEST(Tapestry, CoverIsTheMeanOfTheWindowsAtEachPlace) {
  const ModelPtr model =
      tapestry({{constant({3}, 1.0), 0, 0}, {constant({3}, 5.0), 0, 2}}, {.height = 1, .width = 5});
  const Eval eval = model->evaluate(points({2, 5}), kLevel);
  EXPECT_EQ(gap(eval.score, rows({{1, 1, 3, 5, 5}}).expand({2, 5})), 0.0);
  EXPECT_TRUE(eval.remainder.is_same(eval.score));
  EXPECT_FALSE(model->is_exact());
}

TEST(Tapestry, TaperGivesAWindowLessNearItsEdges) {
  const ModelPtr model = tapestry({{constant({4}, 0.0), 0, 0}, {constant({4}, 1.0), 0, 2}},
                                  {.height = 1, .width = 6, .taper = 2.0});
  // Weights of each window: 1/4, 3/4, 3/4, 1/4.
  const Eval eval = model->evaluate(points({1, 6}), kLevel);
  EXPECT_LT(gap(eval.score, rows({{0, 0, 0.25, 0.75, 1, 1}})), 1e-15);
}

TEST(Tapestry, EachPlaceCountsOnceUnderCover) {
  for (const double taper : {0.0, 1.5, 6.0}) {
    std::vector<Window> windows;
    for (const auto& [row, column] : window_grid(3, 2, 4, 5, 2)) {
      windows.push_back({constant({1, 4, 5}, 1.0), row, column});
    }
    const ModelPtr model = tapestry(windows, {.height = 8, .width = 8, .taper = taper});
    const Eval eval = model->evaluate(points({1, 1, 8, 8}), kLevel);
    EXPECT_LT(gap(eval.score, at::ones({1, 1, 8, 8}, at::kDouble)), 1e-14) << taper;
    EXPECT_LT(gap(coordinate_exponents(*model, kLevel), at::ones({1, 8, 8}, at::kDouble)), 1e-14);
  }
}

TEST(Tapestry, ProductsScoreIsTheGradientOfItsLogDensity) {
  const ModelPtr model = tapestry(
      {{strip(3, 0.6), 0, 0, 1.0}, {strip(4, -0.2), 0, 1, 0.7}, {strip(2, 0.5), 0, 3, 1.3}},
      {.height = 1, .width = 5, .rule = OverlapRule::product});
  EXPECT_TRUE(model->is_exact());
  const Tensor x = points({3, 5});
  const Eval eval = model->evaluate(x, kLevel);
  EXPECT_FALSE(eval.remainder.defined());
  for (int64_t i = 0; i < 5; ++i) {
    const Tensor step = at::zeros_like(x);
    step.select(1, i).fill_(1e-5);
    const Tensor slope = (model->evaluate(x + step, kLevel).log_density -
                          model->evaluate(x - step, kLevel).log_density) /
                         2e-5;
    EXPECT_LT(gap(slope, eval.score.select(1, i)), 1e-8);
  }
}

TEST(Tapestry, KnownAndUnknownPartsStayApart) {
  const ModelPtr model = tapestry({{strip(3, 0.6), 0, 0, 1.0}, {constant({3}, 2.0), 0, 1, 0.5}},
                                  {.height = 1, .width = 4, .rule = OverlapRule::product});
  const Tensor x = points({3, 4});
  const Eval eval = model->evaluate(x, kLevel);
  const Eval left = strip(3, 0.6)->evaluate(x.narrow(1, 0, 3), kLevel);
  EXPECT_FALSE(model->is_exact());
  EXPECT_LT(gap(eval.log_density, left.log_density), 1e-14);
  EXPECT_EQ(gap(eval.remainder, rows({{0, 1, 1, 1}}).expand({3, 4})), 0.0);
  EXPECT_LT(gap(eval.score.narrow(1, 0, 1), left.score.narrow(1, 0, 1)), 1e-14);
}

TEST(Tapestry, WindowsApartAreAnExactProductUnderEitherRule) {
  const Tensor x = points({4, 1, 2, 4});
  const ModelPtr left = as_image(strip(4, 0.5), 2, 2);
  const ModelPtr right = as_image(strip(4, -0.1), 2, 2);
  for (const OverlapRule rule : {OverlapRule::cover, OverlapRule::product}) {
    const ModelPtr model =
        tapestry({{left, 0, 0}, {right, 0, 2}}, {.height = 2, .width = 4, .rule = rule});
    EXPECT_TRUE(model->is_exact());
    EXPECT_FALSE(traits(*model).is_field);
    const Eval eval = model->evaluate(x, kLevel);
    const Eval a = left->evaluate(x.narrow(3, 0, 2), kLevel);
    const Eval b = right->evaluate(x.narrow(3, 2, 2), kLevel);
    EXPECT_LT(gap(eval.score, at::cat({a.score, b.score}, 3)), 1e-15);
    EXPECT_LT(gap(eval.log_density, a.log_density + b.log_density), 1e-14);
  }
}

// dS_i/dx_j - dS_j/dx_i = sum_w (u_w(i) - u_w(j)) H_w(i, j): 0 where windows count alike.
TEST(Tapestry, CoverIsNoGradientWhereAWindowsWeightVaries) {
  const ModelPtr model =
      tapestry({{strip(3, 0.6), 0, 0}, {strip(3, 0.6), 0, 1}}, {.height = 1, .width = 4});
  EXPECT_TRUE(traits(*model).is_field);
  const Eval at_zero = model->evaluate(at::zeros({1, 4}, at::kDouble), kLevel);
  const Eval at_units = model->evaluate(at::eye(4, at::kDouble), kLevel);
  const Tensor jacobian = (at_units.score - at_zero.score).t();  // (i, j): dS_i / dx_j
  const Tensor precision = at::linalg_inv(covariance_of(3, 0.6) * kLevel.alpha_bar +
                                          at::eye(3, at::kDouble) * (1.0 - kLevel.alpha_bar));
  const Tensor curl = jacobian - jacobian.t();
  // Places 0 and 1: the first window alone sees both, with weights 1 and 1/2.
  EXPECT_NEAR(curl[0][1].item<double>(), -0.5 * precision[0][1].item<double>(), 1e-12);
  EXPECT_NEAR(curl[1][2].item<double>(), 0.0, 1e-12);
  EXPECT_GT(std::abs(curl[0][1].item<double>()), 0.1);
}

TEST(Tapestry, AModelIsEvaluatedOnceForAllItsWindows) {
  const auto shared = std::make_shared<CountingModel>(strip(3, 0.4));
  const auto other = std::make_shared<CountingModel>(strip(3, 0.1));
  const ModelPtr model =
      tapestry({{shared, 0, 0}, {other, 0, 1}, {shared, 0, 2}}, {.height = 1, .width = 5});
  model->evaluate(points({7, 5}), kLevel);
  EXPECT_EQ(shared->num_calls(), 1);
  EXPECT_EQ(shared->num_rows(), 14);
  EXPECT_EQ(other->num_calls(), 1);
  EXPECT_EQ(other->num_rows(), 7);
}

TEST(Tapestry, LeavesThatWindowsShareAreEvaluatedOnceToo) {
  const auto any = std::make_shared<CountingModel>(strip(3, 0.4));
  const auto cat = std::make_shared<CountingModel>(strip(3, 0.1, 1.0));
  const auto dog = std::make_shared<CountingModel>(strip(3, 0.2, -1.0));
  const ModelPtr guided_cat = guide(ModelPtr(cat), ModelPtr(any), 2.0);
  const ModelPtr guided_dog = guide(ModelPtr(dog), ModelPtr(any), 2.0);
  const ModelPtr model = tapestry({{guided_cat, 0, 0}, {guided_dog, 0, 1}, {guided_cat, 0, 2}},
                                  {.height = 1, .width = 5, .rule = OverlapRule::product});
  const Tensor x = points({7, 5});
  const Eval eval = model->evaluate(x, kLevel);
  EXPECT_EQ(any->num_calls(), 1);
  EXPECT_EQ(any->num_rows(), 21);
  EXPECT_EQ(cat->num_rows(), 14);
  EXPECT_EQ(dog->num_rows(), 7);
  const Eval middle = guided_dog->evaluate(x.narrow(1, 1, 3), kLevel);
  const Eval first = guided_cat->evaluate(x.narrow(1, 0, 3), kLevel);
  const Eval last = guided_cat->evaluate(x.narrow(1, 2, 3), kLevel);
  EXPECT_LT(gap(eval.log_density, first.log_density + middle.log_density + last.log_density),
            1e-12);
  EXPECT_LT(gap(eval.square_sum, first.square_sum + middle.square_sum + last.square_sum), 1e-12);
}

TEST(Tapestry, RowsDoNotDependOnTheBatchAndInputsStayAsTheyWere) {
  const ModelPtr model =
      tapestry({{strip(3, 0.6), 0, 0}, {strip(3, 0.6), 0, 1}}, {.height = 1, .width = 4});
  const Tensor x = points({6, 4});
  const Tensor before = x.clone();
  const Eval all = model->evaluate(x, kLevel);
  const Eval some = model->evaluate(x.narrow(0, 2, 1), kLevel);
  EXPECT_LT(gap(all.score.narrow(0, 2, 1), some.score), 1e-14);
  EXPECT_TRUE(x.equal(before));
}

TEST(Tapestry, KnowsTheExponentsOfItsPlaces) {
  const ModelPtr model = tapestry({{strip(2, 0.6), 0, 0, 1.0}, {strip(2, 0.6), 0, 1, 0.5}},
                                  {.height = 1, .width = 3, .rule = OverlapRule::product});
  EXPECT_LT(gap(coordinate_exponents(*model, kLevel), at::tensor({1.0, 1.5, 0.5}, at::kDouble)),
            1e-15);
  EXPECT_EQ(total_exponent(*model), 0.5);
  const ModelPtr squared = pow(model, 2.0);
  EXPECT_EQ(total_exponent(*squared, kLevel), 1.0);
  EXPECT_EQ(coordinate_exponents(*strip(2, 0.1), kLevel).dim(), 0);
}

TEST(Tapestry, ChainsStartAsNarrowAsTheExponentsOfTheirPlaces) {
  const ModelPtr model = tapestry({{strip(2, 0.6), 0, 0, 1.0}, {strip(2, 0.6), 0, 1, 0.5}},
                                  {.height = 1, .width = 3, .rule = OverlapRule::product});
  const NoiseSchedule schedule = NoiseSchedule::cosine(50);
  Sampler sampler;
  sampler.anneal.levels.push_back({schedule.level(45), 0, 0.0});
  sampler.start_sd = start_sd(*model, schedule.level(45));
  const Tensor x = detail::starting_points(*model, sampler, 4000, "cpu", Rng(1));
  const Tensor expected =
      at::tensor({1.0, 1.5, 0.5}, at::kDouble).rsqrt() * schedule.level(45).sigma();
  EXPECT_LT((x.to(at::kDouble).std(0) / expected - 1.0).abs().max().item<double>(), 0.06);
  sampler.start_sd = 1.0;  // as asked for: the same for all
  const Tensor alike = detail::starting_points(*model, sampler, 4000, "cpu", Rng(1));
  EXPECT_LT((alike.to(at::kDouble).std(0) - 1.0).abs().max().item<double>(), 0.06);
  EXPECT_LT(start_discrepancy(model, schedule.level(48), 500, Rng(2), "cpu"), 0.02);
}

TEST(Tapestry, HasTheTraitsOfItsWindows) {
  const ModelPtr both = mixture(
      {{gaussian({0.0, 0.0}, {1.0, 1.0}, "a"), 1.0}, {gaussian({1.0, 1.0}, {0.5, 0.5}, "b"), 1.0}});
  const ModelPtr model =
      tapestry({{both, 0, 0, 1.0}, {strip(2, 0.1), 0, 1, 1.0}, {strip(2, 0.1), 0, 0, -0.5}},
               {.height = 1, .width = 3, .rule = OverlapRule::product});
  EXPECT_TRUE(traits(*model).has_mixture);
  EXPECT_TRUE(traits(*model).divides);
  EXPECT_FALSE(traits(*model).is_field);
  const ModelPtr field = tapestry({{both, 0, 0}, {both, 0, 1}}, {.height = 1, .width = 3});
  EXPECT_TRUE(traits(*pow(field, 0.5)).is_field);
}

TEST(Tapestry, DescribesItself) {
  const ModelPtr cat = constant({1, 2, 2}, 1.0, "cat");
  const ModelPtr dog = constant({1, 2, 2}, 1.0, "dog");
  EXPECT_EQ(
      tapestry({{cat, 0, 0}, {dog, 0, 1}, {cat, 0, 2}}, {.height = 2, .width = 4})->describe(),
      "tapestry(1x2x4, cover: 2 of cat, dog)");
  EXPECT_EQ(tapestry({{cat, 0, 0, 0.5}, {dog, 0, 1}},
                     {.height = 2, .width = 3, .rule = OverlapRule::product})
                ->describe(),
            "tapestry(1x2x3, product: cat^0.5, dog)");
  EXPECT_EQ(to_string(OverlapRule::cover), "cover");
  EXPECT_EQ(overlap_rule_from("product"), OverlapRule::product);
  EXPECT_THROW_MSG(overlap_rule_from("mean"), ConfigError,
                   "overlap rule = \"mean\" is not known; allowed: cover, product");
}

TEST(Tapestry, GridsOverlapTheirNeighbours) {
  using Places = std::vector<std::pair<int64_t, int64_t>>;
  EXPECT_EQ(window_grid(2, 3, 4, 5, 1), (Places{{0, 0}, {0, 4}, {0, 8}, {3, 0}, {3, 4}, {3, 8}}));
  EXPECT_EQ(window_grid(1, 2, 1, 5, 3), (Places{{0, 0}, {0, 2}}));
  EXPECT_THROW_MSG(window_grid(2, 2, 4, 5, 4), ConfigError,
                   "tapestry: overlap = 4, must be >= 0 and below the windows' size, 4x5");
  EXPECT_THROW_MSG(window_grid(0, 2, 4, 5, 1), ConfigError,
                   "tapestry: a grid of 0x2 windows of 4x5 places; all must be >= 1");
}

TEST(Tapestry, RefusesWindowsThatAreNone) {
  const ModelPtr cat = constant({1, 2, 2}, 1.0, "cat");
  const Canvas canvas{.height = 2, .width = 4};
  EXPECT_THROW_MSG(tapestry({}, canvas), ConfigError, "tapestry: no windows; give at least one");
  EXPECT_THROW_MSG(tapestry({{cat, 0, 0}, {nullptr, 0, 1}}, canvas), ConfigError,
                   "tapestry: window 2 of 2: no model given (null), must be a model");
  EXPECT_THROW_MSG(tapestry({{cat, 0, 0}, {cat, 0, 3}}, canvas), ConfigError,
                   "tapestry: window 2 of 2 (\"cat\") of 2x2 places at row 0, column 3 is not "
                   "inside the canvas of 2x4; move it, or enlarge the canvas");
  EXPECT_THROW_MSG(tapestry({{cat, -1, 0}}, canvas), ConfigError,
                   "tapestry: window 1 of 1 (\"cat\") of 2x2 places at row -1, column 0 is not "
                   "inside the canvas of 2x4; move it, or enlarge the canvas");
  EXPECT_THROW_MSG(tapestry({{cat, 0, 0}, {constant({3, 2, 2}, 1.0, "rgb"), 0, 2}}, canvas),
                   ShapeError,
                   "tapestry: window 2 of 2 (\"rgb\") has event shape (3, 2, 2), but the first has "
                   "(1, 2, 2); all must have as many dimensions, and the same channels");
  EXPECT_THROW_MSG(tapestry({{constant({1, 1, 2, 2}, 1.0, "four"), 0, 0}}, canvas), ShapeError,
                   "tapestry: window 1 of 1 (\"four\") has event shape (1, 1, 2, 2), must be (w), "
                   "(h, w) or (C, h, w)");
  EXPECT_THROW_MSG(tapestry({{cat, 0, 0}, {cat, 0, 1}}, canvas), ConfigError,
                   "tapestry: no window covers row 0, column 3 of the canvas; cover every place");
  EXPECT_THROW_MSG(tapestry({{constant({4}, 1.0), 0, 0}}, canvas), ConfigError,
                   "tapestry: the windows are strips without rows, but the canvas has 2 rows, must "
                   "have 1");
}

TEST(Tapestry, RefusesWeightsThatCannotBe) {
  const ModelPtr cat = constant({1, 2, 2}, 1.0, "cat");
  const Canvas cover{.height = 2, .width = 2};
  const Canvas law{.height = 2, .width = 2, .rule = OverlapRule::product};
  const double nan = std::nan("");
  EXPECT_THROW_MSG(tapestry({{cat, 0, 0, 2.0}}, cover), ConfigError,
                   "tapestry: window 1 of 1 (\"cat\"): an exponent belongs to the rule "
                   "\"product\"; leave it out, or use pow(model, exponent)");
  EXPECT_THROW_MSG(tapestry({{cat, 0, 0, nan}}, law), ConfigError,
                   "tapestry: window 1 of 1 (\"cat\"): exponent must be a finite number");
  EXPECT_THROW_MSG(tapestry({{cat, 0, 0, -1.0}}, law), ConfigError,
                   "tapestry: the exponents of the windows at row 0, column 0 sum to 0 or less, "
                   "must be > 0: the canvas would be no law there at high noise");
  EXPECT_THROW_MSG(tapestry({{cat, 0, 0}}, {.height = 2, .width = 2, .taper = -1.0}), ConfigError,
                   "tapestry: taper must be a finite number >= 0");
  EXPECT_THROW_MSG(tapestry({{cat, 0, 0}}, {.height = 2, .width = 0}), ConfigError,
                   "tapestry: the canvas has 2x0 places, both sizes must be >= 1");
  EXPECT_THROW_MSG(tapestry({{cat, 0, 0}},
                            {.height = 2, .width = 2, .rule = OverlapRule::product, .taper = 1.0}),
                   ConfigError, "tapestry: a taper belongs to the rule \"cover\"; leave it out");
}

TEST(Tapestry, IsNoComponentOfAMixtureAndHasNoRamp) {
  const ModelPtr canvas = tapestry({{strip(2, 0.1), 0, 0}}, {.height = 1, .width = 2});
  const ModelPtr law = gaussian({0.0, 0.0}, {1.0, 1.0}, "law");
  EXPECT_THROW_MSG(mixture({{law, 1.0}, {canvas, 1.0}}), ConfigError,
                   "compose: mixture() component 2 of 2 (\"tapestry(2, cover: correlated "
                   "gaussian)\") is a tapestry, whose integral is not known; make a tapestry of "
                   "mixtures instead");
  EXPECT_THROW_MSG(
      product({{law, 1.0}, {canvas, -1.0, Ramp{1.0, 0.0}}}), ConfigError,
      "compose: product() term 2 of 2 (\"tapestry(2, cover: correlated gaussian)\"): a "
      "ramp needs a normalised log density, which a tapestry has not; ramp factors of "
      "its windows");
}

TEST(Tapestry, RefusesWindowsThatTrack) {
  const ModelPtr a = score_only(gaussian({0.0, 0.0}, {1.0, 1.0}, "a"));
  const ModelPtr b = score_only(gaussian({1.0, 1.0}, {0.5, 0.5}, "b"));
  EXPECT_THROW_MSG(
      tapestry({{mixture({{a, 1.0}, {b, 1.0}}), 0, 0}}, {.height = 1, .width = 2}), ConfigError,
      "tapestry: window 1 of 1 (\"mixture(0.5 score of a, 0.5 score of b)\") tracks log densities "
      "along the chains, which a window cannot; use energy models or analytic laws in its mixtures "
      "and ramps");
}

}  // namespace
}  // namespace motet::testing
