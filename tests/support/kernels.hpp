// Kernels with one known fault each: what the invariance check must catch.
#pragma once

#include "motet/kernel.hpp"

namespace motet::testing {

/// Mala that leaves the proposal density out of its test: accepts with min(1, p(y) / p(x)).
class MalaWithoutProposalDensity : public Kernel {
 public:
  explicit MalaWithoutProposalDensity(LogRatioPtr ratio) : ratio_(std::move(ratio)) {}
  Step step(const Target& target, const ChainState& now, double step_size, Rng& rng) const override;
  bool is_adjusted() const override { return true; }
  std::string describe() const override { return "mala without proposal density"; }

 private:
  LogRatioPtr ratio_;
};

/// Hmc, momenta drawn afresh, that loses the kinetic term of its test.
class HmcWithoutKineticTerm : public Kernel {
 public:
  HmcWithoutKineticTerm(int64_t num_leapfrog, LogRatioPtr ratio)
      : num_leapfrog_(num_leapfrog), ratio_(std::move(ratio)) {}
  Step step(const Target& target, const ChainState& now, double step_size, Rng& rng) const override;
  bool is_adjusted() const override { return true; }
  std::string describe() const override { return "hmc without kinetic term"; }

 private:
  int64_t num_leapfrog_;
  LogRatioPtr ratio_;
};

}  // namespace motet::testing
