// A level's diagonal mass: its estimate from scores, how the driver hands it on, and what it
// refuses. What it is good for is in tests/law/mass_test.cpp.
#include "anneal_mass.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "motet/error.hpp"
#include "motet/rng.hpp"
#include "settings.hpp"
#include "support/models.hpp"
#include "support/tensors.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

using testing::gaussian;
using testing::score_only;

// Scores of a Gaussian with these standard deviations.
Tensor scores_of(const std::vector<double>& sds, int64_t num_chains = 4000) {
  Rng rng(3);
  const auto d = static_cast<int64_t>(sds.size());
  return rng.normal_like(at::empty({num_chains, d}, at::kDouble)) / at::tensor(sds, at::kDouble);
}

double entry(const Tensor& mass, int64_t i) { return mass[i].item<double>(); }

TEST(DiagonalMassOfScores, IsTheInverseVarianceUpToAFactor) {
  const Tensor mass = detail::diagonal_mass(scores_of({0.1, 3.0, 0.5}));
  EXPECT_EQ(mass.scalar_type(), at::kDouble);
  EXPECT_NEAR(entry(mass, 0) / entry(mass, 1), 900.0, 0.15 * 900.0);
  EXPECT_NEAR(entry(mass, 0) / entry(mass, 2), 25.0, 0.15 * 25.0);
}

// Step sizes are set by the median of |s|^2.
TEST(DiagonalMassOfScores, KeepsTheMedianOfTheSquaredScore) {
  const Tensor score = scores_of({0.1, 3.0, 0.5, 0.5});
  const Tensor mass = detail::diagonal_mass(score);
  const double plain = score.square().sum(1).median().item<double>();
  const double weighed = (score.square() / mass).sum(1).median().item<double>();
  EXPECT_NEAR(weighed / plain, 1.0, 1e-3);  // four digits are kept
}

TEST(DiagonalMassOfScores, IsAboutOneWhereAllCoordinatesAreAlike) {
  const Tensor mass = detail::diagonal_mass(scores_of({0.2, 0.2, 0.2}));
  EXPECT_LT((mass - 1.0).abs().max().item<double>(), 0.15);
}

// Two narrow modes far apart in x: the particles' spread is 20 times larger in x, the scale that a
// trajectory meets is not.
TEST(DiagonalMassOfScores, SeesTheWidthOfModesNotTheirDistance) {
  const auto law = gaussian_mixture(at::tensor({0.5, 0.5}, at::kDouble),
                                    rows({{-2.0, 0.0}, {2.0, 0.0}}), rows({{0.1}, {0.1}}), "pair");
  Rng rng(4);
  const NoiseLevel level = testing::level_at(0.9999);
  const Tensor x = law->sample_level(4000, level, rng);
  EXPECT_GT((x.std(0)[0] / x.std(0)[1]).item<double>(), 15.0);
  const Tensor mass = detail::diagonal_mass(law->evaluate(x, level).score);
  EXPECT_NEAR(entry(mass, 0) / entry(mass, 1), 1.0, 0.15);
}

TEST(DiagonalMassOfScores, StrayChainsHardlyMoveIt) {
  Tensor score = scores_of({0.1, 3.0});
  score.narrow(0, 0, 200).fill_(std::nan(""));
  score.narrow(0, 200, 200).mul_(1e6);
  const Tensor mass = detail::diagonal_mass(score);
  EXPECT_NEAR(entry(mass, 0) / entry(mass, 1), 900.0, 0.2 * 900.0);
  EXPECT_TRUE(mass.isfinite().all().item<bool>());
}

TEST(DiagonalMassOfScores, IsBoundedWhereACoordinateIsFlat) {
  Tensor score = scores_of({0.1, 1.0});
  score.select(1, 1).zero_();
  const Tensor mass = detail::diagonal_mass(score);
  EXPECT_NEAR(entry(mass, 0) / entry(mass, 1), 1e4, 15.0);  // of rounded entries
}

TEST(DiagonalMassOfScores, IsOneWhereNothingIsKnown) {
  const Tensor ones = at::ones({2}, at::kDouble);
  EXPECT_TRUE(at::equal(detail::diagonal_mass(at::zeros({50, 2})), ones));
  EXPECT_TRUE(at::equal(detail::diagonal_mass(at::full({50, 2}, std::nan(""))), ones));
  EXPECT_TRUE(at::equal(detail::diagonal_mass(at::zeros({0, 2})), ones));
}

TEST(DiagonalMassOfScores, HasFourDigitsAndOneEntryACoordinateOfAnyEvent) {
  const Tensor score = scores_of({0.1, 3.0, 0.5, 7.0, 0.01, 1.0});
  const Tensor flat = detail::diagonal_mass(score);
  EXPECT_TRUE(at::equal(detail::diagonal_mass(score.view({-1, 2, 3})), flat));
  for (int64_t i = 0; i < flat.numel(); ++i) {
    std::string digits = detail::number_text(entry(flat, i));
    digits = digits.substr(0, digits.find('e'));
    std::erase(digits, '.');
    digits.erase(0, digits.find_first_not_of('0'));
    digits.erase(digits.find_last_not_of('0') + 1);
    EXPECT_LE(digits.size(), 4U) << detail::number_text(entry(flat, i));
  }
}

// A kernel that keeps the momenta it was given and hands on a draw of N(0, M) that it made up.
class MomentumWatch : public Kernel {
 public:
  Step step(const Target& target, const ChainState& now, double /*step_size*/,
            Rng& /*rng*/) const override {
    seen.push_back(now.momentum);
    const Tensor taken = at::ones({now.x.size(0)}, at::kBool);
    const Tensor momentum = target.mass().sqrt().expand_as(now.x);
    return {{now.x, now.eval, momentum},
            {taken, at::zeros_like(taken, at::kDouble), at::zeros({}, at::kLong)}};
  }
  bool is_adjusted() const override { return false; }
  bool takes_mass() const override { return true; }
  std::string describe() const override { return "watch"; }
  mutable std::vector<Tensor> seen;
};

const NoiseSchedule& schedule() {
  static const NoiseSchedule value = NoiseSchedule::cosine(10);
  return value;
}

AnnealConfig two_levels() {
  AnnealConfig config;
  config.levels = {{schedule().level(5), 2, 0.1, at::tensor({4.0, 9.0}, at::kDouble)},
                   {schedule().level(2), 1, 0.1, at::tensor({1.0, 16.0}, at::kDouble)}};
  return config;
}

TEST(LevelMass, MomentaFollowTheLawOfTheLevelTheyEnter) {
  const auto watch = std::make_shared<MomentumWatch>();
  const ModelPtr model = score_only(gaussian({0.0, 0.0}, {1.0, 1.0}));
  anneal(model, schedule(), watch, two_levels(), at::zeros({3, 2}), Rng(1));
  ASSERT_EQ(watch->seen.size(), 3U);
  EXPECT_FALSE(watch->seen[0].defined());
  EXPECT_TRUE(at::equal(watch->seen[1], at::tensor({2.0F, 3.0F}).expand({3, 2})));
  EXPECT_TRUE(at::allclose(watch->seen[2], at::tensor({1.0F, 4.0F}).expand({3, 2})));
}

TEST(LevelMass, RefusesWhatDoesNotFit) {
  const ModelPtr model = score_only(gaussian({0.0, 0.0}, {1.0, 1.0}));
  const KernelPtr hmc = std::make_shared<Hmc>(HmcConfig{}, curve_ratio());
  const KernelPtr mala = std::make_shared<Mala>(line_ratio(3));
  const auto run = [&](const AnnealConfig& config, const KernelPtr& kernel) {
    anneal(model, schedule(), kernel, config, at::zeros({3, 2}), Rng(1));
  };
  EXPECT_THROW_MSG(run(two_levels(), mala), ConfigError,
                   "anneal: level 5: a mass is given, but mala(3-point trapezoid on the line) "
                   "takes none; use uhmc or hmc");
  AnnealConfig sought = two_levels();
  sought.levels[0].mass = sought.levels[1].mass = Tensor();
  sought.adapt = AdaptConfig{.diagonal_mass = true};
  EXPECT_THROW_MSG(run(sought, mala), ConfigError,
                   "anneal: level 5: a mass is to be found, but mala(3-point trapezoid on the "
                   "line) takes none; use uhmc or hmc");
  AnnealConfig longer = two_levels();
  longer.levels[1].mass = at::ones({3});
  EXPECT_THROW_MSG(run(longer, hmc), ShapeError,
                   "anneal: level 2: mass has 3 entries, must have one for each of the 2 "
                   "coordinates of \"" +
                       model->describe() + "\"");
  for (const double bad : {0.0, -1.0, std::nan(""), HUGE_VAL}) {
    AnnealConfig config = two_levels();
    config.levels[0].mass = at::tensor({1.0, bad}, at::kDouble);
    EXPECT_THROW_MSG(run(config, hmc), ConfigError,
                     "anneal: level 5: 1 entries of mass are not numbers > 0, must be finite and "
                     "> 0");
  }
}

TEST(LevelMass, OfATargetHasOneEntryACoordinate) {
  Target target(score_only(gaussian({0.0, 0.0}, {1.0, 1.0})), schedule().level(2));
  EXPECT_FALSE(target.mass().defined());
  target.set_mass(at::tensor({2.0, 3.0}, at::kDouble));
  EXPECT_TRUE(at::equal(target.mass(), rows({{2.0, 3.0}})));
  EXPECT_THROW_MSG(target.set_mass(at::ones({3})), ShapeError,
                   "target: mass has 3 entries, but one sample of \"" + target.model().describe() +
                       "\" has 2 coordinates; give one entry a coordinate");
  target.set_mass(Tensor());
  EXPECT_FALSE(target.mass().defined());
}

}  // namespace
}  // namespace motet
