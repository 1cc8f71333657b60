// Probes of a level: what the score's field makes of one proposal a particle.
//
// A difference of log densities is a line integral of the score that no path changes. For a field
// that is no gradient it depends on the path, by Stokes' theorem by about the curl times the area
// between the paths; that is measured between a proposal's chord and its trajectory. Integrals are
// Clenshaw-Curtis: smooth integrands converge about as fast as with Gauss's points, and every other
// point is again a rule, so that the error estimate costs nothing (Trefethen 2008).
#include <torch/types.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "anneal_last_map.hpp"
#include "diagnose_detail.hpp"
#include "model_rows.hpp"
#include "motet/error.hpp"

namespace motet {
namespace {

constexpr int64_t kLinePoints = 17;
constexpr int64_t kSegmentPoints = 9;
constexpr double kDifference = 0.02;  // of curl_ratio(), in local scales

Tensor event_dot(const Tensor& a, const Tensor& b) {
  return (a.to(at::kDouble) * b.to(at::kDouble)).flatten(1).sum(1);
}

// Weights on [0, 1] of the points (1 - cos(pi k / last)) / 2, k = 0 .. last (even).
std::vector<double> clenshaw_curtis(int64_t num_points) {
  const int64_t last = num_points - 1;
  const auto n = static_cast<double>(last);
  std::vector<double> weights;
  for (int64_t k = 0; k <= last; ++k) {
    double sum = 1.0;
    for (int64_t j = 1; j <= last / 2; ++j) {
      const auto frequency = 2.0 * static_cast<double>(j);
      const double factor = 2 * j == last ? 1.0 : 2.0;
      sum -= factor * std::cos(frequency * static_cast<double>(k) * std::numbers::pi / n) /
             (frequency * frequency - 1.0);
    }
    weights.push_back((k == 0 || k == last ? 0.5 : 1.0) * sum / n);
  }
  return weights;
}

// An integral and its difference from the rule on every other point.
struct Integral {
  Tensor value;
  Tensor error;
};

// int remainder(r(u)) . r'(u) du over [0, 1]; `at` gives the integrand at u.
template <typename Function>
Integral integrate(int64_t num_points, const Function& at) {
  const std::vector<double> fine = clenshaw_curtis(num_points);
  const std::vector<double> coarse = clenshaw_curtis((num_points + 1) / 2);
  Tensor value;
  Tensor rough;
  for (int64_t k = 0; k < num_points; ++k) {
    const double u = 0.5 * (1.0 - std::cos(std::numbers::pi * static_cast<double>(k) /
                                           static_cast<double>(num_points - 1)));
    const Tensor y = at(u, k);
    const auto i = static_cast<size_t>(k);
    value = value.defined() ? value.add(y, fine[i]) : y * fine[i];
    if (k % 2 == 0) {
      rough = rough.defined() ? rough.add(y, coarse[i / 2]) : y * coarse[i / 2];
    }
  }
  return {value, (value - rough).abs()};
}

// A piece of a proposal's curve between two points whose scores are known. Without tangents it is
// straight.
struct Segment {
  Tensor front, back;                  // positions
  Tensor front_tangent, back_tangent;  // dr/du at the ends
  Tensor front_remainder, back_remainder;
};

Integral integrate_segment(const Target& target, const Segment& segment, int64_t num_points) {
  const Tensor chord = segment.back - segment.front;
  const bool is_straight = !segment.front_tangent.defined();
  const int64_t last = num_points - 1;
  return integrate(num_points, [&](double u, int64_t k) {
    if (is_straight) {
      const Tensor remainder = k == 0      ? segment.front_remainder
                               : k == last ? segment.back_remainder
                                           : target.evaluate(segment.front.add(chord, u)).remainder;
      return event_dot(remainder, chord);
    }
    if (k == 0 || k == last) {
      return k == 0 ? event_dot(segment.front_remainder, segment.front_tangent)
                    : event_dot(segment.back_remainder, segment.back_tangent);
    }
    // Cubic Hermite polynomials and their derivatives.
    const double v = 1.0 - u;
    const Tensor x = segment.front.add(chord, u * u * (3.0 - 2.0 * u))
                         .add_(segment.front_tangent, u * v * v)
                         .add_(segment.back_tangent, -u * u * v);
    const Tensor velocity = (chord * (6.0 * u * v))
                                .add_(segment.front_tangent, v * (1.0 - 3.0 * u))
                                .add_(segment.back_tangent, u * (3.0 * u - 2.0));
    return event_dot(target.evaluate(x).remainder, velocity);
  });
}

// One proposal: what the kernel's rule sees of it, and its smooth curve.
struct Proposal {
  Path path;
  std::vector<Segment> curve;
  Tensor log_rest;  // of the acceptance ratio beside the log ratio, (B) float64
};

bool is_langevin(const KernelConfig& kernel) {
  return kernel.type == "ula" || kernel.type == "mala";
}

Proposal propose_langevin(const Target& target, double step_size, const Tensor& x, const Eval& eval,
                          Rng& rng) {
  const Tensor mean = x.add(eval.score, step_size);
  const Tensor y = mean.add(rng.normal_like(x), std::sqrt(2.0 * step_size));
  const Eval at_mean = target.evaluate(mean);
  const Eval at_end = target.evaluate(y);
  const Tensor ahead = y - mean;
  const Tensor back = x - y.add(at_end.score, step_size);
  return {{{x, y}, {eval, at_end}},
          {{x, mean, {}, {}, eval.remainder, at_mean.remainder},
           {mean, y, {}, {}, at_mean.remainder, at_end.remainder}},
          (event_dot(ahead, ahead) - event_dot(back, back)) / (4.0 * step_size)};
}

Tensor mass_of(const Target& target, const HmcConfig& hmc, const Tensor& x) {
  if (target.mass().defined()) {
    return target.mass().to(x.options());
  }
  return hmc.mass.empty() ? at::ones({1}, x.options())
                          : at::tensor(hmc.mass, x.options()).view(x.sizes().slice(1));
}

Proposal propose_trajectory(const Target& target, const HmcConfig& hmc, double step_size,
                            const Tensor& x, const Eval& eval, Rng& rng) {
  const Tensor mass = mass_of(target, hmc, x);
  Proposal proposal{{{x}, {eval}}, {}, {}};
  Tensor momentum = rng.normal_like(x) * mass.sqrt();
  const Tensor twice_kinetic = event_dot(momentum, momentum / mass);
  for (int64_t i = 0; i < hmc.num_leapfrog; ++i) {
    const Tensor front = proposal.path.points.back();
    const Eval before = proposal.path.evals.back();
    const Tensor middle = momentum.add(before.score, 0.5 * step_size);
    const Tensor back = front.add(middle / mass, step_size);
    const Eval after = target.evaluate(back);
    const Tensor end = middle.add(after.score, 0.5 * step_size);
    proposal.curve.push_back({front, back, momentum * step_size / mass, end * step_size / mass,
                              before.remainder, after.remainder});
    proposal.path.points.push_back(back);
    proposal.path.evals.push_back(after);
    momentum = end;
  }
  proposal.log_rest = 0.5 * (twice_kinetic - event_dot(momentum, momentum / mass));
  return proposal;
}

// The part of the log ratio that is known; 0 where nothing is.
Tensor exact_part(const Path& path) {
  const Eval& front = path.evals.front();
  return front.log_density.defined() ? path.evals.back().log_density - front.log_density
                                     : at::zeros({1}, at::kDouble).to(front.score.device());
}

[[noreturn]] void refuse_paths(const std::string& what) {
  throw ConfigError("diagnose: probe_paths() of " + what +
                    ": there is nothing to integrate; give a kernel type and a target with a "
                    "remainder");
}

Tensor nan_where_infinite(const Tensor& values) {
  return values.masked_fill(at::isfinite(values).logical_not(),
                            std::numeric_limits<double>::quiet_NaN());
}

}  // namespace

Tensor detail::decision_error(const Tensor& log_accept, const Tensor& truth, const Tensor& doubt) {
  const auto probability = [](const Tensor& values) { return values.clamp_max(0.0).exp(); };
  const Tensor taken = probability(log_accept);
  return at::maximum(taken - probability(truth + doubt), probability(truth - doubt) - taken)
      .clamp_min(0.0);
}

PathProbe probe_paths(const Target& target, const KernelConfig& kernel, double step_size,
                      const Tensor& x, Rng& rng) {
  if (kernel.type.empty()) {
    refuse_paths("no kernel");
  }
  const Eval eval = target.evaluate(x);
  if (!eval.remainder.defined()) {
    refuse_paths("\"" + target.model().describe() + "\", whose log densities are known");
  }
  const Proposal proposal = is_langevin(kernel)
                                ? propose_langevin(target, step_size, x, eval, rng)
                                : propose_trajectory(target, kernel.hmc, step_size, x, eval, rng);
  const Path& path = proposal.path;
  const Integral line = integrate_segment(
      target, {x, path.points.back(), {}, {}, eval.remainder, path.evals.back().remainder},
      kLinePoints);
  Integral curve{at::zeros_like(line.value), at::zeros_like(line.value)};
  for (const Segment& segment : proposal.curve) {
    const Integral part = integrate_segment(target, segment, kSegmentPoints);
    curve = {curve.value + part.value, curve.error + part.error};
  }
  PathProbe probe;
  probe.path_dependence = nan_where_infinite(line.value - curve.value);
  probe.reference_error = line.error + curve.error;
  if (!kernel.ratio.empty()) {
    const bool on_curve = kernel.ratio == "curve" && !is_langevin(kernel);
    const Integral& same = on_curve ? curve : line;
    const Tensor rest = exact_part(path) + proposal.log_rest;
    const Tensor found = make_ratio(kernel)->estimate(target, path);
    probe.quadrature_error = nan_where_infinite(found - exact_part(path) - same.value);
    // A refusal by a guard is no error: NaN, as in the line above.
    probe.acceptance_error =
        detail::decision_error(found + proposal.log_rest, same.value + rest, same.error) +
        0.0 * probe.quadrature_error;
  }
  return probe;
}

double local_scale(const Tensor& score) {
  return detail::finite_rows(score).any().item<bool>()
             ? 1.0 / std::sqrt(detail::inverse_square_scale(score))
             : std::numeric_limits<double>::quiet_NaN();
}

Estimate curl_ratio(const Target& target, const Tensor& x, int64_t num_probes, Rng& rng) {
  if (num_probes < 1) {
    throw ConfigError("diagnose: num_probes = " + std::to_string(num_probes) + ", must be >= 1");
  }
  const double length = kDifference * local_scale(target.evaluate(x).score);
  // The direction that was really taken: x + length v is rounded.
  struct Derivative {
    Tensor direction;
    Tensor along;
  };
  const auto differentiate = [&](const Tensor& direction) {
    const Tensor ahead = x.add(direction, length);
    const Tensor behind = x.add(direction, -length);
    const Tensor scores = target.evaluate(ahead).score.to(at::kDouble) -
                          target.evaluate(behind).score.to(at::kDouble);
    return Derivative{ahead.to(at::kDouble) - behind.to(at::kDouble), scores};
  };
  Tensor skew = at::zeros({x.size(0)}, x.options().dtype(at::kDouble));
  Tensor symmetric = skew.clone();
  for (int64_t i = 0; i < num_probes; ++i) {
    const Derivative u = differentiate(rng.normal_like(x));
    const Derivative v = differentiate(rng.normal_like(x));
    const Tensor uv = event_dot(u.direction, v.along);
    const Tensor vu = event_dot(v.direction, u.along);
    skew = skew + (uv - vu).square();
    symmetric = symmetric + (uv + vu).square();
  }
  const Tensor is_good = at::isfinite(skew + symmetric);
  skew = skew.masked_select(is_good);
  symmetric = symmetric.masked_select(is_good);
  const auto count = static_cast<double>(skew.size(0));
  const double mean = symmetric.mean().item<double>();
  const double square = skew.mean().item<double>() / mean;
  // Delta method for the square root of a ratio of means.
  const double error = (skew - symmetric * square).std().item<double>() / (mean * std::sqrt(count));
  return {std::sqrt(square), square > 0.0 ? 0.5 * error / std::sqrt(square) : 0.0};
}

Estimate balance_residual(const Tensor& log_accept, const Tensor& log_weights) {
  const Tensor steps = log_accept.to(at::kDouble).view({log_accept.size(0), -1});
  const Tensor counts = steps.gt(-std::numeric_limits<double>::infinity()).to(at::kDouble).sum(1);
  const Tensor sums = steps.exp().sum(1);
  const Tensor weights =
      log_weights.defined() ? (log_weights - log_weights.max()).exp() : at::ones_like(sums);
  const double total = (weights * counts).sum().item<double>();
  const double mean = (weights * sums).sum().item<double>() / total;
  const double error =
      (weights * (sums - mean * counts)).square().sum().sqrt().item<double>() / total;
  return {std::log(mean), error / mean};
}

}  // namespace motet
