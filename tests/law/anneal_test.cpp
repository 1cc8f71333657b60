// Laws of annealing: closed forms of Gaussians, trouble of single chains and of all, smallest
// sizes.
#include "motet/anneal.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "motet/compose.hpp"
#include "motet/error.hpp"
#include "support/models.hpp"
#include "support/throw_message.hpp"

namespace motet::testing {
namespace {

AnnealConfig plan(const NoiseSchedule& schedule, const std::vector<int64_t>& indices,
                  int64_t num_steps, double step_size) {
  AnnealConfig config;
  for (const int64_t index : indices) {
    config.levels.push_back(
        {.level = schedule.level(index), .num_steps = num_steps, .step_size = step_size});
  }
  return config;
}

Tensor standard_normal(const Rng& rng, int64_t num_chains, int64_t d) {
  Rng start = rng.split("init");
  return start.normal_like(at::empty({num_chains, d}, at::kDouble));
}

// |z| < 5 of mean and second moment of independent chains, coordinate by coordinate.
void expect_gaussian(const Tensor& x, const Tensor& mean, const Tensor& variance) {
  const double root_n = std::sqrt(static_cast<double>(x.size(0)));
  const Tensor square = (x - mean).square();
  const Tensor z_mean = (x.mean(0) - mean) * root_n / variance.sqrt();
  const Tensor z_variance = (square.mean(0) - variance) * root_n / (variance * std::sqrt(2.0));
  EXPECT_LT(z_mean.abs().max().item<double>(), 5.0) << z_mean;
  EXPECT_LT(z_variance.abs().max().item<double>(), 5.0) << z_variance;
}

struct GaussianLaw {
  Tensor mean;
  Tensor variance;
};

const std::vector<double> kFirstMean = {0.4, -1.0};
const std::vector<double> kFirstSd = {0.7, 0.5};
const std::vector<double> kSecondMean = {-0.6, 0.3};
const std::vector<double> kSecondSd = {0.5, 0.9};

GaussianLaw diffused(const std::vector<double>& mean, const std::vector<double>& sd,
                     const NoiseLevel& level) {
  return {std::sqrt(level.alpha_bar) * at::tensor(mean, at::kDouble),
          level.alpha_bar * at::tensor(sd, at::kDouble).square() + (1.0 - level.alpha_bar)};
}

// The product of the two Gaussians diffused to `level` each.
GaussianLaw product_law(const NoiseLevel& level) {
  const GaussianLaw a = diffused(kFirstMean, kFirstSd, level);
  const GaussianLaw b = diffused(kSecondMean, kSecondSd, level);
  const Tensor variance = (a.variance.reciprocal() + b.variance.reciprocal()).reciprocal();
  return {variance * (a.mean / a.variance + b.mean / b.variance), variance};
}

void expect_product_sampled(const KernelPtr& kernel, Placement placement, double step_size,
                            bool hide_densities) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(100);
  const ModelPtr exact =
      product({{gaussian(kFirstMean, kFirstSd)}, {gaussian(kSecondMean, kSecondSd)}});
  AnnealConfig config = plan(schedule, {99, 60, 30, 10, 0}, 5, step_size);
  config.placement = placement;
  config.levels.back().num_steps = 20;
  const Rng rng(21);
  const SampleResult result = anneal(hide_densities ? score_only(exact) : exact, schedule, kernel,
                                     config, standard_normal(rng, 10000, 2), rng);
  const GaussianLaw law = product_law(schedule.level(0));
  SCOPED_TRACE(kernel->describe() + ", " + to_string(placement));
  expect_gaussian(result.x, law.mean, law.variance);
  EXPECT_GT(result.levels.back().acceptance(), 0.6);
  EXPECT_LT(result.levels.back().acceptance(), 0.97);
}

TEST(AnnealLaw, ProductOfGaussiansReachesItsClosedForm) {
  const HmcConfig hmc{.num_leapfrog = 3, .damping = 0.5};
  expect_product_sampled(std::make_shared<Mala>(exact_ratio()), Placement::pure, 0.15, false);
  expect_product_sampled(std::make_shared<Mala>(line_ratio(2)), Placement::after_reverse, 0.15,
                         true);
  // On Gaussians scores are linear: the trapezoid is exact on the line and on the curve.
  expect_product_sampled(std::make_shared<Hmc>(hmc, curve_ratio()), Placement::after_reverse, 0.5,
                         true);
  expect_product_sampled(std::make_shared<Hmc>(hmc, line_ratio(2)), Placement::before_reverse, 0.5,
                         true);
}

// One Gaussian, no MCMC: mean and variance follow a linear recursion from the start N(0, I).
void expect_reverse_recursion(ReverseStep kind) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(100);
  AnnealConfig config = plan(schedule, {90, 60, 30, 10, 0}, 0, 0.0);
  config.placement = Placement::none;
  config.reverse_step = kind;
  Tensor mean = at::zeros({2}, at::kDouble);
  Tensor variance = at::ones({2}, at::kDouble);
  for (size_t i = 0; i + 1 < config.levels.size(); ++i) {
    const NoiseLevel& from = config.levels[i].level;
    const NoiseLevel& to = config.levels[i + 1].level;
    const GaussianLaw law = diffused(kFirstMean, kFirstSd, from);
    const double alpha = from.alpha_bar / to.alpha_bar;
    const double beta = 1.0 - alpha;
    // x' = (x + weight s) / sqrt(alpha) + noise, s = -(x - m) / v.
    double weight = beta;
    double noise = beta * to.sigma() * to.sigma() / (from.sigma() * from.sigma());
    if (kind == ReverseStep::ancestral_beta) {
      noise = beta;
    } else if (kind == ReverseStep::ddim) {
      weight = from.sigma() * (from.sigma() - std::sqrt(alpha) * to.sigma());
      noise = 0.0;
    }
    const Tensor slope = 1.0 - weight / law.variance;
    mean = (slope * mean + weight * law.mean / law.variance) / std::sqrt(alpha);
    variance = slope.square() * variance / alpha + noise;
  }
  const Rng rng(22);
  const SampleResult result = anneal(score_only(gaussian(kFirstMean, kFirstSd)), schedule, nullptr,
                                     config, standard_normal(rng, 40000, 2), rng);
  SCOPED_TRACE(to_string(kind));
  expect_gaussian(result.x, mean, variance);
}

TEST(AnnealLaw, ReverseProcessOfAGaussianFollowsItsRecursion) {
  expect_reverse_recursion(ReverseStep::ancestral_beta_tilde);
  expect_reverse_recursion(ReverseStep::ancestral_beta);
  expect_reverse_recursion(ReverseStep::ddim);
}

// Samples of a Gaussian's last level, mapped to the data (method.md 5.5).
TEST(AnnealLaw, LastMapsOfAGaussianHaveTheirVariances) {
  const NoiseSchedule schedule = NoiseSchedule::from_alpha_bars({0.6});
  const NoiseLevel level = schedule.level(0);
  const double sd = 0.5;
  const AnalyticPtr law = gaussian({0.4, -0.2}, {sd, sd});
  const double level_variance = level.alpha_bar * sd * sd + 1.0 - level.alpha_bar;
  const double tweedie = level.alpha_bar * sd * sd / level_variance;  // shrinking of x - mean
  const std::vector<std::pair<LastMap, double>> cases = {
      {LastMap::rescale, level_variance / level.alpha_bar},
      {LastMap::tweedie, tweedie * tweedie * level_variance / level.alpha_bar},
      {LastMap::curvature, sd * sd}};
  for (const auto& [map, variance] : cases) {
    AnnealConfig config = plan(schedule, {0}, 0, 0.0);
    config.last_map = map;
    const Rng rng(23);
    Rng start = rng.split("start");
    const Tensor x = law->sample_level(40000, level, start);
    SCOPED_TRACE(to_string(map));
    expect_gaussian(anneal(law, schedule, nullptr, config, x, rng).x,
                    at::tensor({0.4, -0.2}, at::kDouble), at::full({2}, variance, at::kDouble));
  }
}

// Exact draws of a product's law at the last level, carried to the data's law: mean and variance of
// sum_i a_i log N(m_i, v_i), factors of unlike widths and places, one negated.
void expect_product_map(const std::vector<double>& curvatures, bool is_right) {
  const NoiseSchedule schedule = NoiseSchedule::from_alpha_bars({0.9});
  const NoiseLevel level = schedule.level(0);
  const double noise = 1.0 - level.alpha_bar;
  struct Factor {
    double mean, sd, exponent;
  };
  const std::vector<Factor> factors = {{0.3, 0.3, 1.3}, {-0.2, 0.5, 0.8}, {0.5, 1.5, -0.4}};
  std::vector<Term> terms;
  double precision = 0.0, pull = 0.0, data_precision = 0.0, data_pull = 0.0;
  for (const Factor& factor : factors) {
    terms.push_back(
        {gaussian({factor.mean, factor.mean}, {factor.sd, factor.sd}), factor.exponent});
    const double variance = level.alpha_bar * factor.sd * factor.sd + noise;
    precision += factor.exponent / variance;
    pull += factor.exponent * std::sqrt(level.alpha_bar) * factor.mean / variance;
    data_precision += factor.exponent / (factor.sd * factor.sd);
    data_pull += factor.exponent * factor.mean / (factor.sd * factor.sd);
  }
  AnnealConfig config = plan(schedule, {0}, 0, 0.0);
  config.last_map = LastMap::curvature;
  config.curvature = curvatures;
  const Rng rng(31);
  const Tensor x = pull / precision + standard_normal(rng, 40000, 2) / std::sqrt(precision);
  const Tensor mapped = anneal(product(terms), schedule, nullptr, config, x, rng).x;
  const double z_mean = (mapped.mean().item<double>() - data_pull / data_precision) *
                        std::sqrt(80000.0 * data_precision);
  const double z_variance =
      (mapped.var().item<double>() * data_precision - 1.0) * std::sqrt(80000.0 / 2.0);
  if (is_right) {
    EXPECT_LT(std::abs(z_mean), 4.0);
    EXPECT_LT(std::abs(z_variance), 4.0);
  } else {
    EXPECT_GT(std::abs(z_mean) + std::abs(z_variance), 8.0);
  }
}

TEST(AnnealLaw, TheLastMapTakesEachFactorsNoiseOff) {
  std::vector<double> curvatures;
  for (const double sd : {0.3, 0.5, 1.5}) {
    curvatures.push_back(1.0 / (0.9 * sd * sd + 0.1));
  }
  expect_product_map(curvatures, true);
  expect_product_map({}, false);  // as if the product were one law
  expect_product_map({curvatures[1], curvatures[0], curvatures[2]}, false);
}

// Chains that never meet the NaN have the bits they would have without it.
void expect_isolated(const KernelPtr& kernel, double step_size) {
  constexpr double kBound = 1.6;
  constexpr int64_t kNumChains = 60;
  const NoiseSchedule schedule = NoiseSchedule::cosine(20);
  const AnnealConfig config = plan(schedule, {5, 2}, 6, step_size);
  const Rng rng(24);
  const Tensor x = standard_normal(rng, kNumChains, 2).clamp(-1.0, 1.0);
  x.index_put_({at::tensor({17, 40})}, at::tensor({1.5, 0.0}, at::kDouble));
  x.index_put_({at::tensor({3})}, at::tensor({2.5, 0.0}, at::kDouble));  // NaN from the start
  const ModelPtr healthy = skewed_mixture();
  const auto broken = anneal(nan_above(healthy, kBound), schedule, kernel, config, x, rng);
  const auto whole = anneal(healthy, schedule, kernel, config, x, rng);
  const Tensor same = broken.x.eq(whole.x).all(1);
  SCOPED_TRACE(kernel->describe());
  EXPECT_TRUE(broken.x.isfinite().all().item<bool>());
  EXPECT_GE(same.sum().item<int64_t>(), kNumChains - 12);
  EXPECT_LT(same.sum().item<int64_t>(), kNumChains);
  EXPECT_TRUE(at::equal(broken.x[3], x[3])) << "a chain without a score stays";
  EXPECT_LE(
      broken.x.select(1, 0).masked_fill(at::arange(kNumChains).eq(3), 0.0).max().item<double>(),
      kBound);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_GE(broken.levels[i].num_invalid, broken.levels[i].num_steps);
    EXPECT_EQ(whole.levels[i].num_invalid, 0);
  }
}

TEST(AnnealLaw, ANanOfOneChainLeavesTheOthersBitsAlone) {
  const HmcConfig hmc{.num_leapfrog = 2, .damping = 0.5};
  expect_isolated(std::make_shared<Ula>(), 0.05);
  expect_isolated(std::make_shared<Mala>(exact_ratio()), 0.05);
  expect_isolated(std::make_shared<Uhmc>(hmc), 0.2);
  expect_isolated(std::make_shared<Hmc>(hmc, exact_ratio()), 0.2);
}

TEST(AnnealLaw, AllChainsInvalidIsAnErrorThatNamesLevelStepAndTerm) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(20);
  const ModelPtr model = product({{ring()}, {nan_above(bar(), -1e9), 0.5}});
  const KernelPtr kernel = std::make_shared<Mala>(exact_ratio());
  const AnnealConfig config = plan(schedule, {5, 2}, 3, 0.25);
  const Rng rng(25);
  EXPECT_THROW_MSG(
      anneal(model, schedule, kernel, config, standard_normal(rng, 10, 2), rng), NumericalError,
      "anneal: level 5, step_size 0.25: every proposal was invalid (NaN or infinite); first bad "
      "term: \"nan above\": check its weights and inputs");
}

TEST(AnnealLaw, AStepSizeThatThrowsEveryChainOutIsNamed) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(20);
  const KernelPtr kernel = std::make_shared<Mala>(exact_ratio());
  const AnnealConfig config = plan(schedule, {5}, 3, 1e306);
  const Rng rng(26);
  EXPECT_THROW_MSG(
      anneal(ring(), schedule, kernel, config, standard_normal(rng, 10, 2) * 1e3, rng),
      NumericalError,
      "anneal: level 5, step_size 1e+306: every proposal was invalid (NaN or infinite); the scores "
      "at the chains are finite, so the step size is too large: lower it");
}

TEST(AnnealLaw, NoStepsAndNoReverseLeaveTheChainsWhereTheyAre) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(20);
  const Rng rng(27);
  const Tensor x = standard_normal(rng, 10, 2);
  const KernelPtr kernel = std::make_shared<Mala>(exact_ratio());
  const SampleResult result =
      anneal(ring(), schedule, kernel, plan(schedule, {5, 2, 0}, 0, 0.0), x, rng);
  EXPECT_TRUE(at::equal(result.x, x));
  EXPECT_EQ(result.evaluations_per_chain, 0);
  EXPECT_TRUE(std::isnan(result.levels[0].acceptance()));
}

TEST(AnnealLaw, OneChainAndNoChainRunInEveryDimension) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(20);
  const HmcConfig hmc{.num_leapfrog = 2, .damping = 0.5};
  std::vector<KernelPtr> kernels = {std::make_shared<Ula>(), std::make_shared<Mala>(line_ratio(3)),
                                    std::make_shared<Uhmc>(hmc),
                                    std::make_shared<Hmc>(hmc, curve_ratio()), nullptr};
  for (const int64_t d : {1, 50}) {
    HmcConfig heavy = hmc;
    heavy.mass.assign(static_cast<size_t>(d), 2.0);
    kernels.back() = std::make_shared<Hmc>(heavy, curve_ratio());
    for (const int64_t num_chains : {0, 1}) {
      for (const KernelPtr& kernel : kernels) {
        AnnealConfig config = plan(schedule, {12, 5, 0}, 2, 0.02);
        config.placement = Placement::after_reverse;
        config.last_map = LastMap::curvature;
        const Rng rng(28);
        const Tensor x = standard_normal(rng, num_chains, d);
        const SampleResult result =
            anneal(score_only(uneven_mixture(d, 3)), schedule, kernel, config, x, rng);
        EXPECT_EQ(result.x.sizes(), x.sizes()) << kernel->describe();
        EXPECT_TRUE(result.x.isfinite().all().item<bool>()) << kernel->describe();
      }
    }
  }
}

}  // namespace
}  // namespace motet::testing
