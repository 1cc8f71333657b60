// From the last level to the data, and the scale of a law that its scores tell.
#pragma once

#include <vector>

#include "motet/anneal.hpp"

namespace motet::detail {

/// Of a Gaussian law N(m, I / F): F = median |s|^2 / median of chi^2 with d degrees of freedom.
/// Medians, since a few stray chains have scores as large as they like.
double inverse_square_scale(const Tensor& score);

/// Throws ConfigError unless AnnealConfig::curvature fits the factors of `model`.
void check_curvature(const AnnealConfig& config, const ModelPtr& model);

struct Mapped {
  Tensor x;                 ///< (B, *event)
  int64_t evaluations = 0;  ///< spent on other models than the target
  double seconds = 0.0;     ///< inside those
};
/// The data x_0 of chains at the last level, by `kind`. `curvatures` as AnnealConfig::curvature:
/// empty, one for the whole target, or one a factor. Evaluates as told at LastMap.
Mapped last_map(const ModelPtr& model, const Target& target, const ChainState& chains, LastMap kind,
                const std::vector<double>& curvatures);

/// The curvature of -log p_i along its own score, for each of factors(model): medians over the
/// points x of `target`'s level. 2 evaluations of each factor.
std::vector<double> factor_curvatures(const ModelPtr& model, const Target& target, const Tensor& x);

}  // namespace motet::detail
