// The check that a kernel leaves a law invariant.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "motet/kernel.hpp"

namespace motet::testing {

struct LawSettings {
  NoiseLevel level;
  double step_size = 0.0;
  int64_t num_steps = 0;
  int64_t num_chains = 20000;
  uint64_t seed = 1;
  Tensor mass = {};  ///< of the target; undefined: none
  /// The Eval at the start; empty: target.evaluate(x).
  std::function<Eval(const Target& target, const Tensor& x)> start = {};
};

/// One moment: its mean over chains before and after the steps, and the difference in standard
/// errors.
struct MomentRow {
  std::string name;
  double before = 0.0;
  double after = 0.0;
  double z = 0.0;
};

struct LawReport {
  std::vector<MomentRow> moments;
  double max_abs_z = 0.0;
  double acceptance = 0.0;
  int64_t num_invalid = 0;
  /// One line a moment, for failure messages.
  std::string table() const;
};

/// Draws num_chains starts exactly from `law` at the level, runs num_steps of the kernel on `model`
/// (which must be the same law, or a part of what is known of it), and compares seven moments: x,
/// y, x^2, y^2, xy, x^3 and the share of x < 0 (the last coordinate for y; powers for xy when d =
/// 1). Under invariance g(x_k) - g(x_0) has mean 0 over chains whatever g, and chains are
/// independent, so each z is standard normal.
LawReport check_invariance(const Kernel& kernel, const ModelPtr& model, const AnalyticModel& law,
                           const LawSettings& settings);

}  // namespace motet::testing
