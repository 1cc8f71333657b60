// What compositions need done where chains cross from one level to the next.
#pragma once

#include "motet/anneal.hpp"

namespace motet::detail {

/// Rows `index` (int64) of everything in the Eval; undefined parts stay so.
Eval take_rows(const Eval& eval, const Tensor& index);

/// What the reverse step from chains.x at target's level to `moved` at `next`, of variance as
/// `kind`'s, leaves for that level: Crossing. No evaluation.
Crossing cross(const Target& target, const ChainState& chains, const Tensor& moved,
               const NoiseLevel& next, ReverseStep kind);

/// What a crossing adds to log w at its end, (B) float64, of the Eval there; undefined: nothing.
Tensor crossing_gain(const Crossing& crossing, const Eval& eval, const NoiseLevel& before,
                     const NoiseLevel& here);

/// Throws ConfigError where the plan cannot carry what the model needs: ledgers and given likelihoods
/// need the ancestral reverse step.
void check_crossings(const AnnealConfig& config, const Model& model);

/// Variance of the reverse step from one level to the next; 0 for the deterministic one.
double reverse_variance(const NoiseLevel& from, const NoiseLevel& to, ReverseStep kind);

}  // namespace motet::detail
