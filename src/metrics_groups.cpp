// Error bars from groups of rows. A weighted mean over all rows is a ratio r = sum S_g / sum W_g of
// sums over independent groups; by linearisation (delta method)
//   var r = G / (G - 1) sum_g (S_g - r W_g)^2 / (sum W_g)^2.
// Inside one island it is the estimator of Chan and Lai (2013) for a particle filter, with blocks of
// rows for its families: resampling leaves the copies of a chain side by side.
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <sstream>

#include "metrics_detail.hpp"
#include "motet/error.hpp"
#include "motet/metrics.hpp"

namespace motet {
namespace {

constexpr int64_t kMinGroups = 4;
constexpr int64_t kMaxIslands = 50;      // more are merged: each costs a fit of the mixture
constexpr int64_t kMaxBlocks = 20;       // an error bar from 20 groups is right within 16 %
constexpr int64_t kMinRowsOfBlock = 16;  // fewer would cut most families

Tensor sums_by_group(const Tensor& values, const SampleGroups& groups) {
  return torch::zeros({groups.num_groups}, torch::kFloat64).index_add_(0, groups.group, values);
}

}  // namespace

SampleGroups consecutive_groups(int64_t num_rows, int64_t island_size) {
  if (num_rows < 1 || island_size < 0) {
    throw ConfigError("consecutive_groups: num_rows = " + std::to_string(num_rows) +
                      ", island_size = " + std::to_string(island_size) + ", must be >= 1 and >= 0");
  }
  const Tensor row = torch::arange(num_rows, torch::kInt64);
  SampleGroups groups;
  groups.are_islands = island_size > 0 && num_rows / island_size >= kMinGroups;
  if (groups.are_islands) {
    const int64_t num_islands = (num_rows + island_size - 1) / island_size;
    const int64_t together = (num_islands + kMaxIslands - 1) / kMaxIslands;
    groups.num_groups = (num_islands + together - 1) / together;
    groups.group = row.floor_divide(island_size * together);
  } else {
    groups.num_groups =
        std::min(std::clamp(num_rows / kMinRowsOfBlock, kMinGroups, kMaxBlocks), num_rows);
    groups.group = (row * groups.num_groups).floor_divide_(num_rows);
  }
  return groups;
}

void detail::require_groups(const std::string& where, const SampleGroups& groups,
                            int64_t num_rows) {
  const auto check = [&](const char* name, const Tensor& entries) {
    if (!entries.defined() || entries.dim() != 1 || entries.size(0) != num_rows) {
      throw ShapeError(where + ": " + name + " has shape " + shape_text(entries) + ", must be (" +
                       std::to_string(num_rows) + ",): an entry a row");
    }
  };
  check("groups.group", groups.group);
  if (groups.log_weights.defined()) {
    check("groups.log_weights", groups.log_weights);
  }
}

Tensor detail::weights_of(const SampleGroups& groups, int64_t num_rows) {
  if (!groups.log_weights.defined()) {
    return torch::ones({num_rows}, torch::kFloat64);
  }
  const Tensor logs = groups.log_weights.detach().to(torch::kCPU, torch::kFloat64);
  const Tensor finite =
      torch::where(logs.isfinite(), logs, -std::numeric_limits<double>::infinity());
  const double largest = finite.max().item<double>();
  if (!std::isfinite(largest)) {
    throw NumericalError("metrics: no row has a finite log weight, so nothing can be measured");
  }
  const Tensor weights = (finite - largest).exp();
  return weights / weights.mean();
}

Estimate detail::ratio_over_groups(const Tensor& numerators, const Tensor& denominators,
                                   const SampleGroups& groups) {
  const double total = denominators.sum().item<double>();
  Estimate result;
  if (total == 0.0) {
    return result;
  }
  result.value = numerators.sum().item<double>() / total;
  if (groups.num_groups >= 2) {
    const auto count = static_cast<double>(groups.num_groups);
    const Tensor residual =
        sums_by_group(numerators, groups) - result.value * sums_by_group(denominators, groups);
    result.standard_error =
        std::sqrt(count / (count - 1.0) * residual.square().sum().item<double>()) / total;
  }
  return result;
}

double detail::share_error(const Estimate& share, double num_effective) {
  const double smoothed = (share.value * num_effective + 0.5) / (num_effective + 1.0);
  return std::max(share.standard_error, std::sqrt(smoothed * (1.0 - smoothed) / num_effective));
}

double detail::root_error(const Estimate& square) {
  const double s = square.standard_error;
  return 0.5 * (std::sqrt(square.value + s) - std::sqrt(std::max(square.value - s, 0.0)));
}

double detail::jackknife_error(const std::vector<double>& replicates) {
  const auto count = static_cast<double>(replicates.size());
  if (replicates.size() < 2) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  const double mean = std::accumulate(replicates.begin(), replicates.end(), 0.0) / count;
  double squares = 0.0;
  for (const double replicate : replicates) {
    squares += (replicate - mean) * (replicate - mean);
  }
  return std::sqrt((count - 1.0) / count * squares);
}

std::vector<ModeOccupancy> mode_occupancy(const Tensor& x, const Tensor& centres, double radius,
                                          const SampleGroups& groups) {
  const auto num_modes = modes(x, centres, radius).mode_fractions.size();  // checks what is given
  detail::require_groups("mode_occupancy", groups, x.size(0));
  const Tensor labels =
      detail::mode_labels(x.detach().to(torch::kCPU, torch::kFloat64).contiguous(),
                          centres.detach().to(torch::kCPU, torch::kFloat64), radius);
  const Tensor weights = detail::weights_of(groups, x.size(0));
  const Tensor totals = sums_by_group(weights, groups);
  const double num_effective = (weights.sum().square() / weights.square().sum()).item<double>();
  std::vector<ModeOccupancy> result(num_modes);
  for (size_t k = 0; k < num_modes; ++k) {
    const Tensor inside = weights * labels.eq(static_cast<int64_t>(k));
    const Estimate share = detail::ratio_over_groups(inside, weights, groups);
    ModeOccupancy& mode = result[k];
    mode.fraction = share.value;
    mode.binomial_error = std::sqrt(share.value * (1.0 - share.value) / num_effective);
    mode.island_error = share.standard_error;
    const Tensor parts = sums_by_group(inside, groups) / totals;
    const double* part = parts.const_data_ptr<double>();
    mode.island_fractions.assign(part, part + parts.numel());
  }
  return result;
}

std::vector<ModeOccupancy> mode_occupancy(const Tensor& x, const Tensor& centres, double radius,
                                          int64_t num_islands) {
  if (num_islands < 1 || x.dim() < 1 || x.size(0) % num_islands != 0) {
    std::ostringstream text;
    text << "mode_occupancy: x has shape " << x.sizes() << " and num_islands = " << num_islands
         << ", must be >= 1 and divide the number of rows";
    throw ShapeError(text.str());
  }
  SampleGroups groups;
  groups.num_groups = num_islands;
  groups.group = torch::arange(x.size(0), torch::kInt64)
                     .floor_divide_(std::max<int64_t>(x.size(0) / num_islands, 1));
  return mode_occupancy(x, centres, radius, groups);
}

}  // namespace motet
