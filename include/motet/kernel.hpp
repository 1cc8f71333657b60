// Markov kernels at a fixed noise level, and the only accept/reject step in the code.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "motet/ratio.hpp"
#include "motet/rng.hpp"

namespace motet {

namespace detail {
class DiagonalMass;
}  // namespace detail

/// All that a chain carries from step to step at one level. Row i is one chain.
struct ChainState {
  Tensor x;         ///< (B, *event)
  Eval eval;        ///< of the target at x; paid once, carried
  Tensor momentum;  ///< (B, *event); undefined before the first HMC step and for Langevin kernels
};

/// What one step did; only looked at, never carried.
struct StepInfo {
  /// (B) bool: the proposals taken. Unadjusted kernels take all but the invalid ones.
  Tensor accepted;
  /// (B) float64: log of the acceptance ratio, -inf where invalid; 0 for unadjusted kernels.
  Tensor log_accept;
  /// int64 scalar on the device: proposals whose log_accept was NaN, or whose point or score had a
  /// coordinate that is not finite. A chain keeps its place then.
  Tensor num_invalid;
  /// (B) float64: log_accept by the lower-order rule of LogRatio::estimate_pair, nothing refused;
  /// undefined for kernels and rules without one.
  Tensor log_accept_lower = {};
};

struct Step {
  ChainState state;
  StepInfo info;
  /// The proposal's points, taken or not, with the scores there. Only of HMC with unit mass, whose
  /// directions have no preference (WeightConfig::matched).
  Path path = {};
};

/// Accepts each chain's proposal with probability min(1, exp(log_accept)), one decision a chain
/// (selection by torch::where, so a NaN proposal leaves no trace). `now` and `proposed` hold B
/// chains (B, *event) with their Evals, log_accept is (B) float64; one draw of rng, no evaluation.
/// A proposal whose log_accept is NaN or whose point or score has a non-finite coordinate is
/// rejected and counted as invalid; one whose point is finite and log_accept -inf lies outside the
/// support and is rejected without being counted. On rejection the momentum of `now` is flipped, v
/// -> -v (Horowitz 1991), unless flip_momentum is false; `now.momentum` must then be the refreshed
/// momentum that the trajectory started from. Where `proposed` has no momentum, the result has
/// none.
Step metropolis(const ChainState& now, const ChainState& proposed, const Tensor& log_accept,
                Rng& rng, bool flip_momentum = true);

/// A Markov kernel: immutable, parameters only.
class Kernel {
 public:
  virtual ~Kernel() = default;
  /// One step of every chain. `now.eval` is the target's at now.x. `step_size` > 0 (unit of x for
  /// HMC; of x^2 for Langevin). Writes into none of its arguments but rng. Throws ConfigError for a
  /// step_size that is not positive and finite, ShapeError when a mass has not one entry a
  /// coordinate, else as Target::evaluate and LogRatio::estimate. Never for single chains:
  /// StepInfo counts those.
  virtual Step step(const Target& target, const ChainState& now, double step_size,
                    Rng& rng) const = 0;
  /// The step size whose single move (of one leapfrog, or of the noise) is about `length` > 0 long
  /// in every coordinate.
  virtual double step_size_for(double length) const { return length; }
  /// True when a Metropolis test corrects the step.
  virtual bool is_adjusted() const = 0;
  /// True when the step moves by Target::mass.
  virtual bool takes_mass() const { return false; }
  virtual std::string describe() const = 0;
};
using KernelPtr = std::shared_ptr<const Kernel>;

/// y = x + h s(x) + sqrt(2h) n ([S23] eq. 6 with h = delta^2/2). Biased at order h. 1 evaluation.
class Ula : public Kernel {
 public:
  Step step(const Target& target, const ChainState& now, double step_size, Rng& rng) const override;
  double step_size_for(double length) const override { return 0.5 * length * length; }
  bool is_adjusted() const override { return false; }
  std::string describe() const override;
};

/// Ula's proposal with a Metropolis test ([S23] eq. 7, 14; Roberts and Tweedie 1996). Exact when
/// the log ratio is. 1 evaluation + the estimator's.
class Mala : public Kernel {
 public:
  /// Throws ConfigError for a null ratio.
  explicit Mala(LogRatioPtr ratio);
  Step step(const Target& target, const ChainState& now, double step_size, Rng& rng) const override;
  double step_size_for(double length) const override { return 0.5 * length * length; }
  bool is_adjusted() const override { return true; }
  std::string describe() const override;

 private:
  LogRatioPtr ratio_;
};

/// Settings of the two Hamiltonian kernels; checked by their constructors (ConfigError).
struct HmcConfig {
  int64_t num_leapfrog = 3;  ///< >= 1
  /// gamma in [0, 1]: v' = gamma v + sqrt(1 - gamma^2) sqrt(M) n; 0 draws afresh
  double damping = 0.5;
  /// Diagonal of M, one entry for each coordinate of the event, > 0; empty: unit mass. The target's
  /// own mass, where it has one, takes its place.
  std::vector<double> mass = {};
};

/// Partial momentum refresh and num_leapfrog leapfrog steps without a test. Biased at order h^2.
/// num_leapfrog evaluations.
class Uhmc : public Kernel {
 public:
  /// Throws ConfigError for num_leapfrog < 1, damping outside [0, 1] or a mass that is not positive
  /// and finite.
  explicit Uhmc(HmcConfig config);
  Step step(const Target& target, const ChainState& now, double step_size, Rng& rng) const override;
  bool is_adjusted() const override { return false; }
  bool takes_mass() const override { return true; }
  std::string describe() const override;

 private:
  HmcConfig config_;
  std::shared_ptr<const detail::DiagonalMass> mass_;
};

/// What becomes of the momentum when a trajectory is rejected.
enum class OnRejection {
  /// v -> -v: leaves the target invariant (Horowitz 1991).
  flip,
  /// The reference code's: NOT invariant; only to reproduce the published table ("hmc-unflipped").
  keep_as_published,
};

/// Uhmc's trajectory with a Metropolis test on log ratio - change of kinetic energy. Exact when the
/// log ratio is and the momentum flips. num_leapfrog evaluations + the estimator's.
class Hmc : public Kernel {
 public:
  /// Throws ConfigError for a null ratio, and as Uhmc.
  Hmc(HmcConfig config, LogRatioPtr ratio, OnRejection on_rejection = OnRejection::flip);
  Step step(const Target& target, const ChainState& now, double step_size, Rng& rng) const override;
  bool is_adjusted() const override { return true; }
  bool takes_mass() const override { return true; }
  std::string describe() const override;

 private:
  HmcConfig config_;
  std::shared_ptr<const detail::DiagonalMass> mass_;
  LogRatioPtr ratio_;
  OnRejection on_rejection_;
};

}  // namespace motet
