// Kernels that leave (or nearly leave) p at one level invariant. With h = step_size, n ~ N(0, I),
// mass M = diag and log ratio f ([S23] eq. 6 with h = delta^2 / 2; eq. 7 and 14 for the test):
//   Langevin     y = x + h s(x) + sqrt(2h) n
//   Hamiltonian  v' = gamma v + sqrt(1 - gamma^2) sqrt(M) n, then num_leapfrog times
//                v += h/2 s(x);  x += h v / M;  v += h/2 s(x)
//   Metropolis   accept with min(1, exp(f + log k(x|y) - log k(y|x))) after a Langevin proposal,
//                min(1, exp(f - change of v^T M^-1 v / 2)) after a trajectory
// The score at x is carried, so a Langevin step costs 1 evaluation and a trajectory num_leapfrog.
#include "motet/kernel.hpp"

#include <torch/types.h>

#include <cmath>
#include <limits>
#include <sstream>

#include "kernel_mass.hpp"
#include "model_rows.hpp"
#include "motet/error.hpp"

namespace motet {
namespace {

// -|x - mean|^2 / (2 variance) over the event, (B) float64; the constant cancels in every use.
Tensor log_normal(const Tensor& x, const Tensor& mean, double variance) {
  const Tensor difference = (x - mean).to(at::kDouble);
  return difference.square_().flatten(1).sum(1).mul_(-0.5 / variance);
}

Tensor select(const Tensor& mask, const Tensor& yes, const Tensor& no) {
  return yes.defined() ? at::where(detail::as_rows(mask, yes), yes, no) : Tensor();
}

Eval select(const Tensor& mask, const Eval& yes, const Eval& no) {
  Eval result{select(mask, yes.score, no.score),
              select(mask, yes.log_density, no.log_density),
              {},
              select(mask, yes.square_sum, no.square_sum)};
  const bool shared = yes.remainder.is_same(yes.score) && no.remainder.is_same(no.score);
  result.remainder = shared ? result.score : select(mask, yes.remainder, no.remainder);
  result.slope = select(mask, yes.slope, no.slope);
  result.twist = select(mask, yes.twist, no.twist);
  result.twist_score = select(mask, yes.twist_score, no.twist_score);
  result.ledger = select(mask, yes.ledger, no.ledger);
  for (size_t i = 0; i < yes.parts.size(); ++i) {
    result.parts.push_back(select(mask, yes.parts[i], no.parts[i]));
  }
  return result;
}

// (B) bool: every coordinate of the point and of its score is finite. A sum is finite only when all
// its terms are (float64 cannot overflow on float32 terms), and is cheaper than isfinite().all().
Tensor is_finite_state(const ChainState& state) {
  return at::isfinite((state.x.to(at::kDouble) + state.eval.score).flatten(1).sum(1));
}

void check_step_size(const char* kernel, double step_size) {
  if (!(step_size > 0.0) || !std::isfinite(step_size)) {
    std::ostringstream text;
    text << "kernel: " << kernel << " step_size = " << step_size << ", must be > 0 and finite";
    throw ConfigError(text.str());
  }
}

// Unadjusted kernels: every finite proposal is taken; the others leave the chain where it was and
// are counted.
Step take_valid(const ChainState& now, const ChainState& proposed) {
  const Tensor valid = is_finite_state(proposed);
  return {{select(valid, proposed.x, now.x), select(valid, proposed.eval, now.eval),
           select(valid, proposed.momentum, now.momentum)},
          {valid, at::zeros_like(valid, at::kDouble), valid.logical_not().sum()}};
}

// The proposal's Eval with its ledger as the log ratio found it.
void settle(const RatioPair& ratio, ChainState& proposed) {
  if (ratio.back.score.defined()) {
    proposed.eval = ratio.back;
  }
}

struct LangevinProposal {
  ChainState state;
  Tensor mean;  // of the proposal's law
};

LangevinProposal propose(const Target& target, const ChainState& now, double step_size, Rng& rng) {
  const Tensor mean = now.x.add(now.eval.score, step_size);
  const Tensor y = mean.add(rng.normal_like(now.x), std::sqrt(2.0 * step_size));
  return {{y, target.evaluate_from(y, now.x, now.eval), {}}, mean};
}

void check_hmc(const HmcConfig& config) {
  if (config.num_leapfrog < 1) {
    throw ConfigError("kernel: num_leapfrog = " + std::to_string(config.num_leapfrog) +
                      ", must be >= 1");
  }
  if (!(config.damping >= 0.0 && config.damping <= 1.0)) {
    throw ConfigError("kernel: damping = " + std::to_string(config.damping) +
                      ", must be in [0, 1]");
  }
  for (const double mass : config.mass) {
    if (!(mass > 0.0) || !std::isfinite(mass)) {
      throw ConfigError("kernel: mass entry " + std::to_string(mass) + ", must be > 0 and finite");
    }
  }
}

// (1, *event) like x; undefined for unit mass.
Tensor mass_at(const Target& target, const detail::DiagonalMass& own, const Tensor& x) {
  return target.mass().defined() ? target.mass().to(x.options()) : own.like(x);
}

Tensor refresh_momentum(const ChainState& now, double damping, const Tensor& mass, Rng& rng) {
  Tensor fresh = rng.normal_like(now.x);
  if (mass.defined()) {
    fresh = fresh * mass.sqrt();
  }
  if (!now.momentum.defined()) {
    return fresh;  // no past: a draw from its law N(0, M)
  }
  return (now.momentum * damping).add_(fresh, std::sqrt(1.0 - damping * damping));
}

// v^T M^-1 v / 2, (B) float64.
Tensor kinetic_energy(const Tensor& momentum, const Tensor& mass) {
  Tensor square = momentum.to(at::kDouble).square();
  if (mass.defined()) {
    square = square / mass;
  }
  return square.flatten(1).sum(1).mul_(0.5);
}

struct Trajectory {
  ChainState start;  // with the refreshed momentum
  ChainState end;
  Path path;
};

// The two half steps of momentum between inner points are joined.
Trajectory integrate(const Target& target, const ChainState& now, double step_size,
                     const HmcConfig& config, const Tensor& mass, Rng& rng) {
  Trajectory result;
  result.start = {now.x, now.eval, refresh_momentum(now, config.damping, mass, rng)};
  result.path = {{now.x}, {now.eval}};
  Tensor momentum = result.start.momentum.add(now.eval.score, 0.5 * step_size);
  for (int64_t i = 1; i <= config.num_leapfrog; ++i) {
    const Tensor velocity = mass.defined() ? momentum / mass : momentum;
    const Tensor x = result.path.points.back().add(velocity, step_size);
    const Eval eval = target.evaluate_from(x, result.path.points.back(), result.path.evals.back());
    momentum = momentum.add(eval.score, i == config.num_leapfrog ? 0.5 * step_size : step_size);
    result.path.points.push_back(x);
    result.path.evals.push_back(eval);
  }
  result.end = {result.path.points.back(), result.path.evals.back(), momentum};
  return result;
}

std::string describe_hmc(const HmcConfig& config) {
  std::ostringstream text;
  text << "num_leapfrog=" << config.num_leapfrog << ", damping=" << config.damping
       << (config.mass.empty() ? "" : ", diagonal mass");
  return text.str();
}

LogRatioPtr checked(LogRatioPtr ratio, const char* kernel) {
  if (ratio == nullptr) {
    throw ConfigError(std::string("kernel: ") + kernel +
                      " without a log ratio (null); give one, or use the unadjusted kernel");
  }
  return ratio;
}

}  // namespace

Step metropolis(const ChainState& now, const ChainState& proposed, const Tensor& log_accept,
                Rng& rng, bool flip_momentum) {
  // A log_accept of -inf at a finite point is a clean rejection (outside the support, where a score
  // need not exist); anything else that is not finite is trouble.
  const Tensor outside = at::isfinite(proposed.x)
                             .flatten(1)
                             .all(1)
                             .logical_and_(log_accept == -std::numeric_limits<double>::infinity());
  const Tensor valid = is_finite_state(proposed).logical_and_(log_accept.isnan().logical_not_());
  const Tensor log_uniform = rng.uniform(now.x.size(0), now.x).log_();
  const Tensor accepted = (log_uniform < log_accept).logical_and_(valid);
  Step step;
  step.state = {select(accepted, proposed.x, now.x), select(accepted, proposed.eval, now.eval), {}};
  if (proposed.momentum.defined()) {
    step.state.momentum =
        select(accepted, proposed.momentum, flip_momentum ? now.momentum.neg() : now.momentum);
  }
  const Tensor minus_infinity = at::full_like(log_accept, -std::numeric_limits<double>::infinity());
  step.info = {accepted, at::where(valid, log_accept, minus_infinity),
               valid.logical_or(outside).logical_not_().sum()};
  return step;
}

Step Ula::step(const Target& target, const ChainState& now, double step_size, Rng& rng) const {
  check_step_size("ula", step_size);
  return take_valid(now, propose(target, now, step_size, rng).state);
}

std::string Ula::describe() const { return "ula"; }

Mala::Mala(LogRatioPtr ratio) : ratio_(checked(std::move(ratio), "mala")) {}

Step Mala::step(const Target& target, const ChainState& now, double step_size, Rng& rng) const {
  check_step_size("mala", step_size);
  const double variance = 2.0 * step_size;
  auto [proposed, mean] = propose(target, now, step_size, rng);
  const RatioPair ratio =
      ratio_->estimate_pair(target, {{now.x, proposed.x}, {now.eval, proposed.eval}});
  settle(ratio, proposed);
  const Tensor mean_back = proposed.x.add(proposed.eval.score, step_size);
  const Tensor log_accept = ratio.estimate + log_normal(now.x, mean_back, variance) -
                            log_normal(proposed.x, mean, variance);
  return metropolis(now, proposed, log_accept, rng);
}

std::string Mala::describe() const { return "mala(" + ratio_->describe() + ")"; }

Uhmc::Uhmc(HmcConfig config)
    : config_(std::move(config)), mass_(std::make_shared<detail::DiagonalMass>(config_.mass)) {
  check_hmc(config_);
}

Step Uhmc::step(const Target& target, const ChainState& now, double step_size, Rng& rng) const {
  check_step_size("uhmc", step_size);
  const Tensor mass = mass_at(target, *mass_, now.x);
  const Trajectory trajectory = integrate(target, now, step_size, config_, mass, rng);
  return take_valid(trajectory.start, trajectory.end);
}

std::string Uhmc::describe() const { return "uhmc(" + describe_hmc(config_) + ")"; }

Hmc::Hmc(HmcConfig config, LogRatioPtr ratio, OnRejection on_rejection)
    : config_(std::move(config)),
      mass_(std::make_shared<detail::DiagonalMass>(config_.mass)),
      ratio_(checked(std::move(ratio), "hmc")),
      on_rejection_(on_rejection) {
  check_hmc(config_);
}

Step Hmc::step(const Target& target, const ChainState& now, double step_size, Rng& rng) const {
  check_step_size("hmc", step_size);
  const Tensor mass = mass_at(target, *mass_, now.x);
  Trajectory trajectory = integrate(target, now, step_size, config_, mass, rng);
  const Tensor kinetic_before = kinetic_energy(trajectory.start.momentum, mass);
  const Tensor kinetic_after = kinetic_energy(trajectory.end.momentum, mass);
  const RatioPair ratio = ratio_->estimate_pair(target, trajectory.path);
  settle(ratio, trajectory.end);
  Step step =
      metropolis(trajectory.start, trajectory.end, ratio.estimate + kinetic_before - kinetic_after,
                 rng, on_rejection_ == OnRejection::flip);
  if (ratio.lower_order.defined()) {
    step.info.log_accept_lower = ratio.lower_order + kinetic_before - kinetic_after;
  }
  if (!mass.defined()) {
    step.path = std::move(trajectory.path);
  }
  return step;
}

std::string Hmc::describe() const {
  return std::string(on_rejection_ == OnRejection::flip ? "hmc(" : "hmc-unflipped(") +
         describe_hmc(config_) + ", " + ratio_->describe() + ")";
}

}  // namespace motet
