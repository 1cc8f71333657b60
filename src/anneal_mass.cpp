// M_i ~ F_i, the Fisher information E s_i^2 of each coordinate: of a Gaussian the inverse variance,
// of several separate modes the inverse variance within them, which is the scale that a trajectory
// meets; the particles' own spread would be the distance between modes.
//   F_i = upper quartile of s_i^2 over the chains / that of chi^2 with 1 degree of freedom.
// Not a mean: a few stray chains have scores as large as they like. Not the median: on a flat law
// with steep walls that sees none of the walls.
#include "anneal_mass.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "motet/error.hpp"

namespace motet::detail {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kQuantile = 0.75;
constexpr double kChiSquared = 1.3233036969314664;  // of chi^2_1 at kQuantile
constexpr double kSmallest = 1e-4;                  // of the largest entry: widths up to 100 apart
constexpr int64_t kColumns = 65536;                 // at a time: bounds memory

Tensor quantile_of_rows(const Tensor& values, double quantile) {
  const auto rank = static_cast<int64_t>(std::ceil(quantile * static_cast<double>(values.size(0))));
  return std::get<0>(values.kthvalue(std::max<int64_t>(rank, 1), 0));
}

// s_i^2, with what is not finite at the upper end.
Tensor squares(const Tensor& columns) {
  return at::nan_to_num(columns.to(at::kDouble).square(), kInfinity, kInfinity, kInfinity);
}

// F_i up to rounding, (d) on the CPU; entries that say nothing take the nearest that does.
Tensor information(const Tensor& flat) {
  const int64_t d = flat.size(1);
  std::vector<Tensor> parts;
  for (int64_t first = 0; first < d; first += kColumns) {
    const Tensor columns = flat.narrow(1, first, std::min(kColumns, d - first));
    parts.push_back(quantile_of_rows(squares(columns), kQuantile).to(at::kCPU));
  }
  const Tensor all = at::cat(parts) / kChiSquared;
  const Tensor finite = all.masked_select(at::isfinite(all));
  const double largest = finite.numel() > 0 ? finite.max().item<double>() : 0.0;
  return largest > 0.0 ? all.clamp(kSmallest * largest, largest) : at::ones_like(all);
}

// Medians over the chains of s^T M^-1 s and of |s|^2, as a ratio.
double ratio_of_medians(const Tensor& flat, const Tensor& mass) {
  const Tensor inverse = mass.reciprocal().to(flat.device());
  Tensor weighed = at::zeros({flat.size(0)}, flat.options().dtype(at::kDouble));
  Tensor plain = weighed.clone();
  for (int64_t first = 0; first < flat.size(1); first += kColumns) {
    const int64_t count = std::min(kColumns, flat.size(1) - first);
    const Tensor square = squares(flat.narrow(1, first, count));
    weighed = weighed + (square * inverse.narrow(0, first, count)).sum(1);
    plain = plain + square.sum(1);
  }
  return (weighed.median() / plain.median()).item<double>();
}

// Four digits: more than a pilot can tell, and short in a config.
double rounded(double value) {
  const double digits = 3.0 - std::floor(std::log10(value));
  const double unit = std::pow(10.0, std::abs(digits));
  return digits >= 0.0 ? std::round(value * unit) / unit : std::round(value / unit) * unit;
}

std::string of_level(const LevelPlan& plan) {
  return "anneal: level " + std::to_string(plan.level.index) + ": ";
}

void check_entries(const LevelPlan& plan, const Model& model) {
  const int64_t num_coordinates = c10::multiply_integers(model.event_shape());
  if (plan.mass.numel() != num_coordinates) {
    throw ShapeError(of_level(plan) + "mass has " + std::to_string(plan.mass.numel()) +
                     " entries, must have one for each of the " + std::to_string(num_coordinates) +
                     " coordinates of \"" + model.describe() + "\"");
  }
  const Tensor is_good = at::isfinite(plan.mass).logical_and(plan.mass > 0.0);
  if (!is_good.all().item<bool>()) {
    throw ConfigError(of_level(plan) + std::to_string(is_good.logical_not().sum().item<int64_t>()) +
                      " entries of mass are not numbers > 0, must be finite and > 0");
  }
}

}  // namespace

Tensor diagonal_mass(const Tensor& score) {
  const Tensor flat = score.flatten(1);
  if (flat.numel() == 0) {
    return at::ones({flat.size(1)}, at::kDouble);
  }
  Tensor mass = information(flat);
  const double ratio = ratio_of_medians(flat, mass);
  if (!(ratio > 0.0) || !std::isfinite(ratio)) {
    return at::ones_like(mass);  // no chain has a score to speak of
  }
  mass = (mass * ratio).contiguous();
  double* entries = mass.data_ptr<double>();
  std::transform(entries, entries + mass.numel(), entries, rounded);
  return mass;
}

void scale_momentum(const Target& target, double power, ChainState& chains) {
  if (target.mass().defined() && chains.momentum.defined()) {
    chains.momentum = chains.momentum * target.mass().pow(power);
  }
}

void check_masses(const AnnealConfig& config, const KernelPtr& kernel, const Model& model) {
  if (kernel == nullptr) {
    return;
  }
  const bool is_sought = config.adapt && config.adapt->diagonal_mass;
  for (const LevelPlan& plan : config.levels) {
    if (!plan.mass.defined() && !is_sought) {
      continue;
    }
    if (!kernel->takes_mass()) {
      throw ConfigError(of_level(plan) + "a mass is " + (is_sought ? "to be found" : "given") +
                        ", but " + kernel->describe() + " takes none; use uhmc or hmc");
    }
    if (plan.mass.defined()) {
      check_entries(plan, model);
    }
  }
}

}  // namespace motet::detail
