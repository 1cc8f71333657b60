// Kernels: what they refuse, and single steps against numbers done by hand. Their laws are in
// tests/law.
#include "motet/kernel.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <thread>

#include "kernel_mass.hpp"
#include "motet/error.hpp"
#include "support/tensors.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
const NoiseLevel kLevel{3, 0.9, 0.01};

ModelPtr standard_normal() {
  return from_callable(
      [](const Tensor& x, const NoiseLevel&) {
        return Eval{-x, -0.5 * x.to(at::kDouble).square().sum(1), {}};
      },
      {2}, true, "normal");
}

ChainState at_point(const Target& target, const Tensor& x) { return {x, target.evaluate(x), {}}; }

ChainState plain(const Tensor& x, const Tensor& momentum) { return {x, {-x, {}, {}}, momentum}; }

TEST(Metropolis, DecidesChainByChainAndFlipsTheMomentumOfTheRejected) {
  const Tensor x = at::zeros({3, 2}, at::kDouble);
  const Tensor v = at::ones({3, 2}, at::kDouble);
  Rng rng(1);
  const Step step = metropolis(plain(x, v), plain(x + 1.0, 5.0 * v),
                               at::tensor({kInfinity, -kInfinity, kInfinity}, at::kDouble), rng);
  EXPECT_TRUE(at::equal(step.state.x, rows({{1.0, 1.0}, {0.0, 0.0}, {1.0, 1.0}})));
  EXPECT_TRUE(at::equal(step.state.momentum, rows({{5.0, 5.0}, {-1.0, -1.0}, {5.0, 5.0}})));
  EXPECT_TRUE(at::equal(step.info.accepted, bools({true, false, true})));
  EXPECT_EQ(step.info.num_invalid.item<int64_t>(), 0);
}

TEST(Metropolis, KeepsTheMomentumOfTheRejectedOnlyWhenAskedTo) {
  const Tensor x = at::zeros({1, 2}, at::kDouble);
  Rng rng(1);
  const Step step = metropolis(plain(x, at::ones_like(x)), plain(x + 1.0, at::ones_like(x)),
                               at::tensor({-kInfinity}, at::kDouble), rng, false);
  EXPECT_TRUE(at::equal(step.state.momentum, at::ones_like(x)));
}

TEST(Metropolis, RejectsAndCountsInvalidProposalsAndLeavesNoTraceOfThem) {
  const Tensor x = at::zeros({4, 2}, at::kDouble);
  Tensor y = at::ones({4, 2}, at::kDouble);
  y[1][0] = kNaN;
  y[2][1] = kInfinity;
  Rng rng(1);
  const Step step =
      metropolis(plain(x, {}), plain(y, {}),
                 at::tensor({kNaN, kInfinity, -kInfinity, kInfinity}, at::kDouble), rng);
  EXPECT_TRUE(at::equal(step.info.accepted, bools({false, false, false, true})));
  EXPECT_EQ(step.info.num_invalid.item<int64_t>(), 3);
  EXPECT_TRUE(at::equal(step.state.x.slice(0, 0, 3), x.slice(0, 0, 3)));
  EXPECT_TRUE(at::equal(step.state.eval.score.slice(0, 0, 3), -x.slice(0, 0, 3)));
  EXPECT_EQ(step.info.log_accept[0].item<double>(), -kInfinity);
}

TEST(Metropolis, AcceptsWithProbabilityOfTheExponential) {
  const int64_t num_chains = 200000;
  const Tensor x = at::zeros({num_chains, 1}, at::kDouble);
  Rng rng(7);
  const Step step = metropolis(plain(x, {}), plain(x + 1.0, {}),
                               at::full({num_chains}, std::log(0.3), at::kDouble), rng);
  // 5 binomial standard deviations.
  EXPECT_NEAR(step.info.accepted.to(at::kDouble).mean().item<double>(), 0.3, 0.0052);
}

TEST(Kernels, RefuseStepSizesThatAreNotPositive) {
  const Target target(standard_normal(), kLevel);
  const ChainState now = at_point(target, at::ones({2, 2}));
  Rng rng(0);
  for (const double bad : {0.0, -0.5, kNaN, kInfinity}) {
    std::ostringstream shown;
    shown << bad;
    const std::string rest = " step_size = " + shown.str() + ", must be > 0 and finite";
    EXPECT_THROW_MSG(Ula().step(target, now, bad, rng), ConfigError, "kernel: ula" + rest);
    EXPECT_THROW_MSG(Mala(exact_ratio()).step(target, now, bad, rng), ConfigError,
                     "kernel: mala" + rest);
    EXPECT_THROW_MSG(Uhmc({}).step(target, now, bad, rng), ConfigError, "kernel: uhmc" + rest);
    EXPECT_THROW_MSG(Hmc({}, exact_ratio()).step(target, now, bad, rng), ConfigError,
                     "kernel: hmc" + rest);
  }
}

TEST(Kernels, RefuseBadHamiltonianSettings) {
  EXPECT_THROW_MSG(Uhmc({.num_leapfrog = 0}), ConfigError,
                   "kernel: num_leapfrog = 0, must be >= 1");
  EXPECT_THROW_MSG(Hmc({.damping = 1.5}, exact_ratio()), ConfigError,
                   "kernel: damping = 1.500000, must be in [0, 1]");
  EXPECT_THROW_MSG(Uhmc({.mass = {1.0, 0.0}}), ConfigError,
                   "kernel: mass entry 0.000000, must be > 0 and finite");
  EXPECT_THROW_MSG(
      Hmc({}, nullptr), ConfigError,
      "kernel: hmc without a log ratio (null); give one, or use the unadjusted kernel");
  const Target target(standard_normal(), kLevel);
  Rng rng(0);
  EXPECT_THROW_MSG(
      Uhmc({.mass = {1.0, 2.0, 3.0}}).step(target, at_point(target, at::ones({2, 2})), 0.1, rng),
      ShapeError,
      "kernel: mass has 3 entries, but one sample has 2 coordinates; give one entry a "
      "coordinate, or none for unit mass");
}

TEST(Kernels, OneLeapfrogIsTheFormula) {
  const Target target(standard_normal(), kLevel);
  ChainState now = at_point(target, rows({{1.0, -2.0}}));
  now.momentum = rows({{0.5, 0.25}});
  const double h = 0.1;
  Rng rng(0);
  // damping 1 keeps the momentum as it is: the step is deterministic.
  const Step step =
      Uhmc({.num_leapfrog = 1, .damping = 1.0, .mass = {2.0, 4.0}}).step(target, now, h, rng);
  const Tensor mass = rows({{2.0, 4.0}});
  const Tensor half = now.momentum - 0.5 * h * now.x;
  const Tensor x = now.x + h * half / mass;
  EXPECT_TRUE(at::allclose(step.state.x, x, 1e-14, 0.0));
  EXPECT_TRUE(at::allclose(step.state.momentum, half - 0.5 * h * x, 1e-14, 0.0));
}

TEST(DiagonalMass, IsMadeOnceForEachDtypeAndBroadcastsOverChains) {
  const detail::DiagonalMass mass({1.0, 2.0, 3.0, 4.0});
  const Tensor narrow = mass.like(at::zeros({5, 2, 2}));
  EXPECT_TRUE(at::equal(narrow, at::tensor({1.0, 2.0, 3.0, 4.0}, at::kFloat).view({1, 2, 2})));
  const Tensor wide = mass.like(at::zeros({7, 4}, at::kDouble));
  EXPECT_TRUE(at::equal(wide, rows({{1.0, 2.0, 3.0, 4.0}})));
  EXPECT_EQ(mass.like(at::zeros({3, 4})).data_ptr(), narrow.data_ptr());
  EXPECT_EQ(mass.like(at::zeros({3, 4}, at::kDouble)).data_ptr(), wide.data_ptr());
  EXPECT_FALSE(detail::DiagonalMass({}).like(at::zeros({3, 4})).defined());
}

TEST(DiagonalMass, IsOneTensorForAllThreads) {
  const detail::DiagonalMass mass({1.0, 2.0});
  const Tensor x = at::zeros({3, 2});
  std::array<const void*, 8> seen{};
  std::vector<std::thread> threads;
  for (const void*& data : seen) {
    threads.emplace_back([&mass, &x, &data] { data = mass.like(x).const_data_ptr(); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(std::set<const void*>(seen.begin(), seen.end()).size(), 1U);
}

TEST(Kernels, DescribeThemselvesForReports) {
  EXPECT_EQ(Ula().describe(), "ula");
  EXPECT_EQ(Mala(line_ratio(3)).describe(), "mala(3-point trapezoid on the line)");
  EXPECT_EQ(Uhmc({}).describe(), "uhmc(num_leapfrog=3, damping=0.5)");
  EXPECT_EQ(Hmc({}, curve_ratio()).describe(),
            "hmc(num_leapfrog=3, damping=0.5, trapezoid on the curve)");
  EXPECT_EQ(Hmc({}, curve_ratio(), OnRejection::keep_as_published).describe(),
            "hmc-unflipped(num_leapfrog=3, damping=0.5, trapezoid on the curve)");
}

TEST(Kernels, UnadjustedOnesKeepAChainWhoseProposalIsInvalidAndCountIt) {
  const auto model = from_callable(
      [](const Tensor& x, const NoiseLevel&) {
        const Tensor score = at::where(x > 100.0, kNaN, -x);
        return Eval{score, {}, score};
      },
      {1}, false, "cliff");
  const Target target(model, kLevel);
  ChainState now = at_point(target, rows({{1.0}, {2.0}}));
  now.momentum = rows({{0.1}, {1e6}});
  Rng rng(0);
  const Step step = Uhmc({.num_leapfrog = 1, .damping = 1.0}).step(target, now, 0.1, rng);
  EXPECT_EQ(step.info.num_invalid.item<int64_t>(), 1);
  EXPECT_EQ(step.state.x[1].item<double>(), 2.0);
  EXPECT_NE(step.state.x[0].item<double>(), 1.0);
}

}  // namespace
}  // namespace motet
