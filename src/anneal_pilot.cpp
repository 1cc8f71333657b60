// Step sizes of a pilot run. Acceptance alone cannot tell a good step from one whose log ratios are
// wrong: a rule that errs upwards accepts more. A second rule on the same points, of order h^3 in
// the log ratio as against h^5, sees the step grow too long first. What it changes in the
// probability of acceptance is the larger of the two rules' errors while steps are short, so a
// bound on it bounds the error of the rule in use as well (docs/method.md has the measurement).
#include "anneal_pilot.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace motet::detail {
namespace {

constexpr double kOrder = 3.0;  // of the disagreement in the step size

Tensor probability(const Tensor& log_accept) { return log_accept.clamp_max(0.0).exp(); }

}  // namespace

double disagreement(const StepInfo& info) {
  if (!info.log_accept_lower.defined()) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  // log_accept is never NaN (-inf where invalid), the other rule's is there.
  return (probability(info.log_accept) - probability(info.log_accept_lower))
      .abs()
      .nanmean()
      .item<double>();
}

double adapt_factor(const AdaptConfig& config, const StepInfo& info) {
  const double acceptance = info.accepted.to(at::kDouble).mean().item<double>();
  const double factor = std::exp(config.rate * (acceptance - config.target_acceptance));
  const double found = disagreement(info);
  return found > 0.0 ? std::min(factor, std::pow(config.max_disagreement / found, 1.0 / kOrder))
                     : factor;
}

}  // namespace motet::detail
