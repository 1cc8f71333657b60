// How a pilot run corrects its step sizes.
#pragma once

#include "motet/anneal.hpp"

namespace motet::detail {

/// Mean over the chains of |min(1, exp(log_accept)) - min(1, exp(log_accept_lower))|: how much the
/// two rules of LogRatio::estimate_pair disagree about acceptance. A proposal that a guard refused
/// counts with the probability that the other rule gives it. NaN without a second rule, and where
/// that rule is nowhere finite.
double disagreement(const StepInfo& info);

/// What a pilot multiplies its factor c by after a step: AdaptConfig.
double adapt_factor(const AdaptConfig& config, const StepInfo& info);

}  // namespace motet::detail
