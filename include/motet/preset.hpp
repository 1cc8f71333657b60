// The published table's samplers by name: a kernel, a plan of levels and a last map, ready for
// anneal().
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "motet/anneal.hpp"

namespace motet {

/// A kernel as plain data: what a config file can say about one.
struct KernelConfig {
  std::string type;   ///< "ula", "mala", "uhmc", "hmc", "hmc-unflipped"; "" for no kernel
  HmcConfig hmc;      ///< of the Hamiltonian kernels
  std::string ratio;  ///< "exact", "line", "curve"; "" for the unadjusted kernels
  LineRule line_rule = LineRule::trapezoid;  ///< of the line ratio
  int64_t num_points = 0;                    ///< of the line ratio
};
/// The kernel; null for type "". Throws ConfigError for an unknown word, a ratio given to an
/// unadjusted kernel or missing from an adjusted one, and as the kernels' constructors do.
KernelPtr make_kernel(const KernelConfig& config);

/// One sampler of [S23]'s Table 1 under one preset; its numbers are [S23]'s Table 2 (10 steps a
/// level; Langevin step size .001 = delta^2/2; 3 leapfrogs of .03, damping .5, unit mass).
struct Sampler {
  std::string name;
  std::string preset;
  KernelConfig kernel_config;  ///< what `kernel` was made from
  KernelPtr kernel;            ///< null for "reverse"
  AnnealConfig anneal;
  /// True: accepts by differences of log densities, so every factor must be exact.
  bool needs_energy = false;
  /// Evaluations of every factor that one chain costs on a target with a remainder. Each level
  /// costs 1 on entry and each of its steps 1 (Langevin) or num_leapfrog (Hamiltonian) plus
  /// num_points - 2 (line rule) or 0 (curve and energy rules); LastMap::curvature adds 1. On exact
  /// targets the line rule costs nothing either. 0 where a config changed the recipe: measured
  /// then.
  int64_t evaluations_per_chain = 0;
};

/// "reverse", "u-la", "la-energy", "la-3-line", "la-5-line", "la-10-line", "u-hmc", "hmc-energy",
/// "hmc-3-line", "hmc-4-curve", "hmc-5-line", "hmc-10-line": the table's order, Langevin first.
const std::vector<std::string>& sampler_names();

/// "paper" and "corrected".
const std::vector<std::string>& preset_names();

/// The sampler `name` on all of `schedule`'s levels (at least 2).
///
/// `preset` "paper" is the reference code to the letter, T = num_levels: u-la and u-hmc run levels
/// T-1 .. 1 and stop there, la-* runs T-1 .. 0, hmc-* runs T-2 .. 0; pure annealing, no map from
/// the last level to the data; a rejected HMC step keeps its momentum, so hmc-* is not exactly
/// invariant. "corrected" runs every sampler on T-1 .. 0, flips a rejected step's momentum
/// (Horowitz 1991) and ends MCMC with LastMap::curvature. "reverse" is the same under both:
/// ancestral with variance beta~, T-1 .. 0, then the mean of the last step, which is
/// LastMap::tweedie because level 0 has sigma^2 = beta. Every sampler starts from N(0, I).
/// Throws ConfigError for an unknown name (naming the nearest) or preset, or fewer than 2 levels.
Sampler make_sampler(const std::string& name, const std::string& preset,
                     const NoiseSchedule& schedule);

}  // namespace motet
