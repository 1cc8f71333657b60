// What conditioning promises: likelihoods that are what their formulas say at every level, and
// annealed samples of a posterior that have its moments. The oracle: a mixture of Gaussians of
// which some coordinates are seen has a posterior in closed form at every level.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <functional>
#include <iomanip>
#include <numbers>
#include <sstream>

#include "motet/compose.hpp"
#include "motet/likelihood.hpp"
#include "motet/preset.hpp"
#include "support/models.hpp"
#include "support/posteriors.hpp"
#include "support/tensors.hpp"

namespace motet {
namespace {

using testing::level_at;
using testing::MixturePrior;
using testing::Posterior;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNoiseSd = 0.3;

NoiseLevel level_of_v(double v) { return level_at(1.0 / (1.0 + v), 5); }

LikelihoodPtr measurement(const std::vector<int64_t>& observed, int64_t d, const Tensor& y,
                          LikelihoodApproximation approximation, double prior_sd = 1.0) {
  return linear_gaussian(observed, {d}, y, at::tensor(kNoiseSd, at::kDouble),
                         {.approximation = approximation, .prior_sd = prior_sd});
}

// --- Likelihoods at one level -------------------------------------------------------------------

TEST(LikelihoodLaw, TweedieIsExactForAGaussianPrior) {
  const MixturePrior prior{at::ones({1}, at::kDouble), rows({{0.4, -0.7, 0.1}}),
                           at::full({1, 3}, 0.6, at::kDouble)};
  const Tensor y = at::tensor({0.9, -0.2}, at::kDouble);
  const Posterior posterior = testing::posterior_of(prior, {0, 2}, y, kNoiseSd);
  const auto seen = measurement({0, 2}, 3, y, LikelihoodApproximation::tweedie, 0.6);
  Rng rng(3);
  for (const double abar : {0.999, 0.8, 0.3, 0.01}) {
    const NoiseLevel level = level_at(abar, 1);
    const Tensor x = 2.0 * rng.normal_like(at::empty({20, 3}, at::kDouble));
    const Eval before = prior.law()->evaluate(x, level);
    const Eval after = posterior.mixture.law()->evaluate(x, level);
    const auto value = seen->evaluate(x, level, before.score);
    const Tensor gap = before.log_density + value.log_likelihood - after.log_density;
    EXPECT_LT((gap - posterior.log_evidence).abs().max().item<double>(), 1e-9) << abar;
    EXPECT_LT((before.score + value.score - after.score).abs().max().item<double>(), 1e-9) << abar;
  }
}

TEST(LikelihoodLaw, ApproximationsMeetTheMeasurementAtTheData) {
  const MixturePrior prior{at::tensor({0.6, 0.4}, at::kDouble), rows({{-0.5, 0.2}, {0.7, -0.4}}),
                           rows({{0.3, 0.4}, {0.5, 0.2}})};
  const Tensor y = at::tensor({0.1}, at::kDouble);
  Rng rng(4);
  const Tensor x_0 = prior.law()->sample_data(50, rng);
  const Tensor gap = (y - x_0.select(1, 0)) / kNoiseSd;
  const Tensor truth = -0.5 * (gap.square() + std::log(2.0 * std::numbers::pi * 0.09));
  for (const auto approximation : {LikelihoodApproximation::flat, LikelihoodApproximation::dps,
                                   LikelihoodApproximation::tweedie}) {
    double before = kInf;
    for (const double v : {1e-3, 1e-5, 1e-7}) {
      const NoiseLevel level = level_of_v(v);
      const Tensor x = std::sqrt(level.alpha_bar) * x_0;
      const Tensor score = prior.law()->evaluate(x, level).score;
      const auto value =
          measurement({0}, 2, y, approximation)->evaluate(x, level, score).log_likelihood;
      const double error = (value - truth).abs().max().item<double>();
      EXPECT_LT(error, 0.02 * before) << to_string(approximation) << " at v = " << v;
      before = error;
    }
    EXPECT_LT(before, 1e-4) << to_string(approximation);
  }
}

// Largest error of d/dv l = 1/2 (Laplacian l + |grad l|^2) at fixed z = x / sqrt(abar).
double heat_error(const Likelihood& likelihood, const Tensor& z, double v) {
  constexpr double kStep = 1e-4;
  const auto value = [&](const Tensor& points, double at_v) {
    const NoiseLevel level = level_of_v(at_v);
    return likelihood.evaluate(points * std::sqrt(level.alpha_bar), level, {});
  };
  const double root = std::sqrt(level_of_v(v).alpha_bar);
  const Tensor gradient = value(z, v).score * root;
  Tensor laplacian = at::zeros({z.size(0)}, at::kDouble);
  for (int64_t i = 0; i < z.size(1); ++i) {
    Tensor shift = at::zeros_like(z);
    shift.select(1, i).fill_(kStep);
    const Tensor change = value(z + shift, v).score - value(z - shift, v).score;
    laplacian += change.select(1, i) * root / (2.0 * kStep);
  }
  const double dv = 1e-4 * v;
  const Tensor slope =
      (value(z, v + dv).log_likelihood - value(z, v - dv).log_likelihood) / (2.0 * dv);
  return (slope - 0.5 * (laplacian + gradient.square().sum(1))).abs().max().item<double>();
}

// Largest error of the score against central differences of the value.
double gradient_error(const Likelihood& likelihood, const Tensor& x, const NoiseLevel& level) {
  constexpr double kStep = 1e-5;
  double worst = 0.0;
  const Tensor score = likelihood.evaluate(x, level, {}).score;
  for (int64_t i = 0; i < x.size(1); ++i) {
    Tensor shift = at::zeros_like(x);
    shift.select(1, i).fill_(kStep);
    const Tensor change = likelihood.evaluate(x + shift, level, {}).log_likelihood -
                          likelihood.evaluate(x - shift, level, {}).log_likelihood;
    const Tensor error = change / (2.0 * kStep) - score.select(1, i);
    worst = std::max(worst, error.abs().max().item<double>());
  }
  return worst;
}

std::vector<LikelihoodPtr> blurred_likelihoods() {
  const Tensor matrix = rows({{1.0, -0.4}, {0.3, 0.8}, {0.5, 0.5}});
  const Tensor y = at::tensor({0.2, -0.5, 0.1}, at::kDouble);
  const Tensor noise = at::tensor({0.4, 0.3, 0.5}, at::kDouble);
  return {linear_gaussian(matrix, y, noise, {.approximation = LikelihoodApproximation::flat}),
          measurement({1}, 2, y.narrow(0, 0, 1), LikelihoodApproximation::flat),
          region_box(at::tensor({-0.4, 0.1}, at::kDouble), at::tensor({0.9, kInf}, at::kDouble),
                     {.approximation = LikelihoodApproximation::flat}),
          region_box(at::tensor({-kInf, -0.3}, at::kDouble), at::tensor({0.2, 0.3}, at::kDouble),
                     {.approximation = LikelihoodApproximation::flat})};
}

TEST(LikelihoodLaw, FlatMeasurementsAndBoxesDiffuse) {
  Rng rng(5);
  const Tensor z = rng.normal_like(at::empty({30, 2}, at::kDouble));
  for (const LikelihoodPtr& likelihood : blurred_likelihoods()) {
    for (const double v : {0.2, 1.0, 20.0}) {
      EXPECT_LT(heat_error(*likelihood, z, v), 2e-5) << likelihood->describe() << " at v = " << v;
    }
  }
}

TEST(LikelihoodLaw, PluggedInEstimatesDoNotDiffuse) {
  Rng rng(5);
  const Tensor z = rng.normal_like(at::empty({30, 2}, at::kDouble));
  const auto hard_to_blur = likelihood_from_callable(
      [](const Tensor& x_0) { return Likelihood::Value{-x_0.square().sum(1), -2.0 * x_0}; }, {2},
      "sharp");
  class Blind : public Likelihood {  // without a prior's score
   public:
    explicit Blind(LikelihoodPtr inner) : inner_(std::move(inner)) {}
    Value evaluate(const Tensor& x, const NoiseLevel& level, const Tensor&) const override {
      return inner_->evaluate(x, level, at::zeros_like(x));
    }
    LikelihoodPath path() const override { return inner_->path(); }
    std::vector<int64_t> event_shape() const override { return inner_->event_shape(); }
    std::string describe() const override { return inner_->describe(); }

   private:
    LikelihoodPtr inner_;
  };
  EXPECT_GT(heat_error(Blind(hard_to_blur), z, 1.0), 0.1);
}

TEST(LikelihoodLaw, ScoresAreGradientsWhereTheySaySo) {
  Rng rng(6);
  const Tensor x = 1.5 * rng.normal_like(at::empty({30, 2}, at::kDouble));
  for (const LikelihoodPtr& likelihood : blurred_likelihoods()) {
    ASSERT_TRUE(likelihood->is_gradient());
    for (const double v : {0.05, 1.0, 50.0}) {
      EXPECT_LT(gradient_error(*likelihood, x, level_of_v(v)), 1e-5)
          << likelihood->describe() << " at v = " << v;
    }
  }
}

// --- Annealed posteriors ------------------------------------------------------------------------

constexpr int64_t kIslandSize = 500;
constexpr int64_t kNumIslands = 12;

const MixturePrior kPrior{at::tensor({0.5, 0.3, 0.2}, at::kDouble),
                          rows({{-0.9, 0.5}, {0.7, -0.6}, {0.9, 1.0}}),
                          rows({{0.35, 0.3}, {0.3, 0.45}, {0.25, 0.3}})};
const Tensor kSeen = at::tensor({0.15}, at::kDouble);
using Change = std::function<void(AnnealConfig&)>;

// Samples of `model` by the sampler "exact", changed by `change` after its pilot.
Tensor anneal_exactly(
    const ModelPtr& model, const Change& change = [](AnnealConfig&) {},
    int64_t num_islands = kNumIslands) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(100);
  const Rng rng(7);
  Sampler sampler = make_exact_sampler(model, schedule, {}, rng.split("probe"));
  sampler.anneal.weights->island_size = kIslandSize;
  const auto start = [&](int64_t num_chains, const char* purpose) {
    Rng draws = rng.split(purpose);
    return sampler.start_sd * draws.normal_like(at::empty({num_chains, 2}, at::kDouble));
  };
  AnnealConfig plan =
      tune(model, schedule, sampler.kernel, sampler.anneal, start(512, "pilot"), rng.split("pilot"))
          .config;
  change(plan);
  return anneal(model, schedule, sampler.kernel, plan, start(kIslandSize * num_islands, "start"),
                rng)
      .x;
}

Tensor moments_of(const Tensor& points) {
  const Tensor x = points.select(1, 0);
  const Tensor y = points.select(1, 1);
  return at::stack(
      {x, y, x * x, y * y, x * y, x.gt(0.0).to(at::kDouble), y.gt(0.0).to(at::kDouble)});
}

struct Verdict {
  double max_abs_z = 0.0;
  std::string table;
};

// Moments of islands against those of exact draws, in standard errors over islands.
Verdict compare(const Tensor& samples, const Tensor& exact) {
  const Tensor islands = moments_of(samples).view({7, -1, kIslandSize}).mean(2);
  const Tensor truth = moments_of(exact);
  const auto num_exact = static_cast<double>(exact.size(0));
  const Tensor variance =
      islands.var(1) / static_cast<double>(islands.size(1)) + truth.var(1) / num_exact;
  const Tensor z = (islands.mean(1) - truth.mean(1)) / variance.sqrt();
  std::ostringstream text;
  for (int64_t i = 0; i < z.size(0); ++i) {
    text << std::setw(12) << truth.mean(1)[i].item<double>() << " ->" << std::setw(12)
         << islands.mean(1)[i].item<double>() << "  z " << z[i].item<double>() << '\n';
  }
  return {z.abs().max().item<double>(), text.str()};
}

Tensor exact_posterior() {
  Rng rng(8);
  return testing::posterior_of(kPrior, {0}, kSeen, kNoiseSd)
      .mixture.law()
      ->sample_data(200000, rng);
}

LikelihoodPtr seen_as(LikelihoodApproximation approximation) {
  return measurement({0}, 2, kSeen, approximation, 0.6);
}

class AnnealedPosterior : public ::testing::TestWithParam<LikelihoodApproximation> {};

TEST_P(AnnealedPosterior, HasTheExactMoments) {
  const auto verdict =
      compare(anneal_exactly(condition(kPrior.law(), seen_as(GetParam()))), exact_posterior());
  EXPECT_LT(verdict.max_abs_z, 5.0) << verdict.table;
}

INSTANTIATE_TEST_SUITE_P(All, AnnealedPosterior,
                         ::testing::Values(LikelihoodApproximation::flat,
                                           LikelihoodApproximation::dps,
                                           LikelihoodApproximation::tweedie),
                         [](const auto& test) { return to_string(test.param); });

TEST(ConditioningLaw, ScoresAloneSuffice) {
  const auto model = condition(score_only(kPrior.law()), seen_as(LikelihoodApproximation::tweedie));
  const auto verdict = compare(anneal_exactly(model), exact_posterior());
  EXPECT_LT(verdict.max_abs_z, 5.0) << verdict.table;
}

TEST(ConditioningLaw, CallableGivesTheSamePosterior) {
  const auto log_likelihood = [](const Tensor& x_0) {
    const Tensor gap = kSeen.to(x_0.device()) - x_0.narrow(1, 0, 1);
    Tensor gradient = at::zeros_like(x_0);
    gradient.narrow(1, 0, 1).copy_(gap / (kNoiseSd * kNoiseSd));
    return Likelihood::Value{-0.5 * gap.squeeze(1).square() / (kNoiseSd * kNoiseSd), gradient};
  };
  const auto model =
      condition(kPrior.law(), likelihood_from_callable(log_likelihood, {2}, "callable", 0.6));
  const auto verdict = compare(anneal_exactly(model), exact_posterior());
  EXPECT_LT(verdict.max_abs_z, 5.0) << verdict.table;
}

TEST(ConditioningLaw, CheckRejectsUnweightedChains) {
  const auto model = condition(kPrior.law(), seen_as(LikelihoodApproximation::flat));
  const auto verdict =
      compare(anneal_exactly(
                  model, [](AnnealConfig& plan) { plan.weights = std::nullopt; }, 4 * kNumIslands),
              exact_posterior());
  EXPECT_GT(verdict.max_abs_z, 8.0) << verdict.table;
}

TEST(ConditioningLaw, CheckRejectsTheGuidedReverseProcess) {
  const auto model = condition(kPrior.law(), seen_as(LikelihoodApproximation::tweedie));
  const auto reverse_only = [](AnnealConfig& plan) {
    plan.weights = std::nullopt;
    plan.placement = Placement::none;
    plan.last_map = LastMap::tweedie;
  };
  const auto verdict = compare(anneal_exactly(model, reverse_only), exact_posterior());
  EXPECT_GT(verdict.max_abs_z, 8.0) << verdict.table;
}

// A given likelihood that passes for one that diffuses: weights then compare no values.
class Untwisted : public Likelihood {
 public:
  explicit Untwisted(LikelihoodPtr inner) : inner_(std::move(inner)) {}
  Value evaluate(const Tensor& x, const NoiseLevel& level, const Tensor& score) const override {
    return inner_->evaluate(x, level, score);
  }
  LikelihoodPath path() const override { return LikelihoodPath::diffuses; }
  bool is_gradient() const override { return false; }
  std::vector<int64_t> event_shape() const override { return inner_->event_shape(); }
  std::string describe() const override { return "untwisted"; }

 private:
  LikelihoodPtr inner_;
};

// No gradient at all: what the weights of a twist have to do alone.
LikelihoodPtr blind() {
  const auto log_likelihood = [](const Tensor& x_0) {
    const Tensor gap = (kSeen.item<double>() - x_0.select(1, 0)) / kNoiseSd;
    return Likelihood::Value{-0.5 * gap.square(), at::zeros_like(x_0)};
  };
  return likelihood_from_callable(log_likelihood, {2}, "blind");
}

TEST(ConditioningLaw, WeightsDoWithoutAGradient) {
  const auto verdict = compare(anneal_exactly(condition(kPrior.law(), blind())), exact_posterior());
  EXPECT_LT(verdict.max_abs_z, 5.0) << verdict.table;
}

TEST(ConditioningLaw, CheckRejectsAMissingTwist) {
  const auto untwisted = std::make_shared<Untwisted>(blind());
  const auto verdict =
      compare(anneal_exactly(condition(kPrior.law(), untwisted)), exact_posterior());
  EXPECT_GT(verdict.max_abs_z, 8.0) << verdict.table;
}

// --- Regions ------------------------------------------------------------------------------------

Tensor accepted_draws(const std::function<Tensor(const Tensor&)>& inside) {
  Rng rng(9);
  const Tensor draws = kPrior.law()->sample_data(400000, rng);
  return draws.index_select(0, inside(draws).nonzero().flatten());
}

void expect_law_inside(const LikelihoodPtr& region) {
  const auto inside = [&region](const Tensor& x_0) { return region->allows(x_0); };
  const Tensor samples = anneal_exactly(condition(kPrior.law(), region));
  EXPECT_TRUE(samples.isfinite().all().item<bool>());
  EXPECT_TRUE(inside(samples).all().item<bool>())
      << inside(samples).logical_not().sum().item<int64_t>() << " outside";
  const auto verdict = compare(samples, accepted_draws(inside));
  EXPECT_LT(verdict.max_abs_z, 5.0) << verdict.table;
}

TEST(RegionLaw, BoxHasTheTruncatedLaw) {
  expect_law_inside(
      region_box(at::tensor({-0.7, -0.2}, at::kDouble), at::tensor({0.8, 1.3}, at::kDouble)));
}

TEST(RegionLaw, FlatBoxHasTheTruncatedLaw) {
  expect_law_inside(region_box(at::tensor({-0.7, -0.2}, at::kDouble),
                               at::tensor({0.8, 1.3}, at::kDouble),
                               {.approximation = LikelihoodApproximation::flat}));
}

TEST(RegionLaw, HalfSpaceHasTheTruncatedLaw) {
  expect_law_inside(
      region_box(at::tensor({-0.2, -kInf}, at::kDouble), at::tensor({kInf, kInf}, at::kDouble)));
}

TEST(RegionLaw, CallableHasTheTruncatedLaw) {
  expect_law_inside(region_from_callable(
      [](const Tensor& x_0) { return x_0.square().sum(1).le(0.8); }, {2}, "ball"));
}

TEST(RegionLaw, TruncatedGaussianHasItsClosedFormMean) {
  const auto prior = testing::gaussian({0.0, 0.0}, {1.0, 1.0});
  const auto above =
      region_box(at::tensor({0.5, -kInf}, at::kDouble), at::tensor({kInf, kInf}, at::kDouble));
  const Tensor x = anneal_exactly(condition(prior, above)).select(1, 0);
  // E[x | x > a] = phi(a) / (1 - Phi(a)), and E[x^2 | x > a] = 1 + a E[x | x > a].
  const double mean = std::exp(-0.125) / std::sqrt(2.0 * std::numbers::pi) /
                      (0.5 * std::erfc(0.5 / std::numbers::sqrt2));
  EXPECT_TRUE(x.ge(0.5).all().item<bool>());
  EXPECT_NEAR(x.mean().item<double>(), mean, 0.05);
  EXPECT_NEAR(x.square().mean().item<double>(), 1.0 + 0.5 * mean, 0.12);
}

}  // namespace
}  // namespace motet
