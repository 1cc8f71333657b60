// Laws of matched reverse steps: the divergence that HMC's own points tell, and the weights that no
// longer spread, each against its closed form and with a power test.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "anneal_weights.hpp"
#include "motet/anneal.hpp"
#include "motet/compose.hpp"
#include "support/models.hpp"

namespace motet::testing {
namespace {

constexpr int64_t kDimensions = 20;

// Points and scores of s = -diag(1 .. d) x along two steps of 0.1 in random directions.
Path straight_paths(int64_t count, double bend) {
  Rng rng(4);
  const Tensor n = rng.normal_like(at::empty({count, kDimensions}, at::kDouble));
  const Tensor slopes = 1.0 + bend * at::arange(kDimensions, at::kDouble);
  Path path;
  for (int i = 0; i < 3; ++i) {
    const Tensor x = 0.1 * i * n;
    path.points.push_back(x);
    path.evals.push_back({.score = -slopes * x, .log_density = {}, .remainder = {}});
  }
  return path;
}

TEST(DivergenceEstimate, IsExactForAnIsotropicScore) {
  const auto [value, error] =
      detail::divergence_estimate(straight_paths(10, 0.0), at::ones({10}, at::kBool));
  EXPECT_LT((value + kDimensions).abs().max().item<double>(), 1e-10);
  EXPECT_LT(error.max().item<double>(), 1e-5);
}

TEST(DivergenceEstimate, IsUnbiasedAndKnowsItsErrorForAnyOther) {
  constexpr int64_t kCount = 20000;
  const auto [value, error] =
      detail::divergence_estimate(straight_paths(kCount, 0.3), at::ones({kCount}, at::kBool));
  const double trace = -(kDimensions + 0.3 * kDimensions * (kDimensions - 1) / 2.0);
  const double variance = value.var().item<double>();
  EXPECT_NEAR(value.mean().item<double>(), trace, 4.0 * std::sqrt(variance / kCount));
  EXPECT_NEAR(error.square().mean().item<double>() / variance, 1.0, 0.05);
  EXPECT_GT(std::sqrt(variance), 0.1 * std::abs(trace));  // power: the error is not small
}

// Two Gaussians N(+-gap / 2, sd^2) of 20 dimensions; in y = x / sqrt(abar) their product has
// variance (sd^2 + v) / 2 and the integral N(gap; 2 (sd^2 + v)) in each coordinate.
struct Pair {
  double gap = 0.05;
  double sd = 0.3;

  ModelPtr model() const {
    const auto factor = [this](double mean) {
      return score_only(
          gaussian(std::vector<double>(kDimensions, mean), std::vector<double>(kDimensions, sd)));
    };
    return product({{factor(0.5 * gap)}, {factor(-0.5 * gap)}});
  }
  double log_normaliser(const NoiseLevel& level) const {
    const double c = sd * sd + (1.0 - level.alpha_bar) / level.alpha_bar;
    return kDimensions * (-0.5 * std::log(4.0 * M_PI * c) - 0.25 * gap * gap / c);
  }
  double sd_at(const NoiseLevel& level) const {  // of x
    return std::sqrt(0.5 * (level.alpha_bar * sd * sd + 1.0 - level.alpha_bar));
  }
};

SampleResult run(const Pair& pair, bool matched) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(100);
  AnnealConfig config;
  for (int64_t index = 60; index >= 0; --index) {
    const NoiseLevel level = schedule.level(index);
    config.levels.push_back({level, 1, 0.6 * pair.sd_at(level)});
  }
  config.placement = Placement::before_reverse;
  config.weights = WeightConfig{.resampling = Resampling::none, .matched = matched};
  const auto kernel = std::make_shared<Hmc>(HmcConfig{.num_leapfrog = 2, .damping = 0.0},
                                            curve_ratio(CurveRule::polynomial));
  Rng rng(6);
  const Tensor start = pair.sd_at(config.levels.front().level) *
                       rng.split("init").normal_like(at::empty({500, kDimensions}, at::kDouble));
  return anneal(pair.model(), schedule, kernel, config, start, rng);
}

TEST(MatchedWeights, HardlySpreadAndKeepTheNormaliser) {
  const Pair pair;
  const SampleResult result = run(pair, true);
  const NoiseSchedule schedule = NoiseSchedule::cosine(100);
  const double log_ratio =
      pair.log_normaliser(schedule.level(0)) - pair.log_normaliser(schedule.level(60));
  EXPECT_LT(result.log_weights.std().item<double>(), 0.3);
  EXPECT_NEAR(result.log_normalisers.item<double>(), log_ratio, 0.01 * std::abs(log_ratio));
  // Power: whole steps need weights that spread over many nats.
  EXPECT_GT(run(pair, false).log_weights.std().item<double>(), 1.5);
}

}  // namespace
}  // namespace motet::testing
