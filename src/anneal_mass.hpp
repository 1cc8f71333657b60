// A diagonal mass for each level, from the scores of a pilot run's chains.
#pragma once

#include "motet/anneal.hpp"

namespace motet::detail {

/// A diagonal mass that makes a law with such scores (B, *event) about as wide in every coordinate:
/// (d) float64 on the CPU, finite and > 0, of 4 significant digits. In the coordinates sqrt(M) x the
/// median of |s|^2 is what it is in x, so step sizes found by it keep their meaning. Memory: B
/// times 65,536 float64 at a time.
Tensor diagonal_mass(const Tensor& score);

/// The chains' momentum times mass^power, where target has a mass and they have a momentum.
void scale_momentum(const Target& target, double power, ChainState& chains);

/// Throws ConfigError where a mass of the plan, or one to be found, is of no use to the kernel or
/// has entries that are not > 0 and finite; ShapeError where it has not one entry a coordinate.
void check_masses(const AnnealConfig& config, const KernelPtr& kernel, const Model& model);

}  // namespace motet::detail
