// How a pilot corrects its step sizes after a step.
#include "anneal_pilot.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <limits>

namespace motet {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Half of the proposals accepted.
StepInfo step_of(const std::vector<double>& log_accept, const std::vector<double>& lower) {
  StepInfo info;
  info.accepted = at::tensor({1.0, 0.0}).to(at::kBool);
  info.log_accept = at::tensor(log_accept, at::kDouble);
  info.num_invalid = at::zeros({}, at::kLong);
  if (!lower.empty()) {
    info.log_accept_lower = at::tensor(lower, at::kDouble);
  }
  return info;
}

TEST(Pilot, DisagreementIsTheMeanChangeOfTheProbabilityOfAcceptance) {
  const double log_half = std::log(0.5);
  // Above 0 all proposals are taken, whatever the log ratio.
  EXPECT_DOUBLE_EQ(detail::disagreement(step_of({2.0, 0.0}, {0.0, log_half})), 0.25);
  EXPECT_DOUBLE_EQ(detail::disagreement(step_of({-0.3, 1.0}, {-0.3, 5.0})), 0.0);
  // A proposal that a guard refused counts as the other rule would take it.
  EXPECT_DOUBLE_EQ(detail::disagreement(step_of({-kInfinity, 0.0}, {3.0, 0.0})), 0.5);
  // An invalid one says nothing.
  EXPECT_DOUBLE_EQ(detail::disagreement(step_of({-kInfinity, 0.0}, {kNaN, log_half})), 0.5);
  EXPECT_TRUE(std::isnan(detail::disagreement(step_of({0.0, 0.0}, {}))));
}

TEST(Pilot, AcceptanceAloneRulesWhereTheRulesAgreeOrThereIsOne) {
  const AdaptConfig config{.target_acceptance = 0.8, .rate = 0.3};
  const double expected = std::exp(0.3 * (0.5 - 0.8));
  EXPECT_DOUBLE_EQ(detail::adapt_factor(config, step_of({0.0, -1.0}, {})), expected);
  EXPECT_DOUBLE_EQ(detail::adapt_factor(config, step_of({0.0, -1.0}, {0.0, -1.0})), expected);
  EXPECT_DOUBLE_EQ(detail::adapt_factor(config, step_of({-kInfinity, -kInfinity}, {kNaN, kNaN})),
                   expected);
}

TEST(Pilot, TheStepIsShortenedByTheThirdRootOfTheDisagreement) {
  const StepInfo info = step_of({0.0, 0.0}, {std::log(0.5), 0.0});  // D = .25
  EXPECT_DOUBLE_EQ(detail::adapt_factor({.rate = 0.3, .max_disagreement = 0.25 / 8.0}, info), 0.5);
  // Never lengthened by it: the smaller one of the two factors.
  const double by_acceptance = std::exp(0.3 * (0.5 - 0.8));
  EXPECT_DOUBLE_EQ(detail::adapt_factor({.rate = 0.3, .max_disagreement = 1.0}, info),
                   by_acceptance);
}

}  // namespace
}  // namespace motet
