// Do islands agree? Each is a repeat of the run, so the statistics for chains apply with an island
// for a chain.
#include <torch/types.h>

#include <algorithm>
#include <sstream>

#include "diagnose_detail.hpp"
#include "motet/error.hpp"

namespace motet {
namespace {

constexpr int64_t kMinRows = 4;  // of rhat()

// (I, n): the rows of each group that is used, as indices.
Tensor island_rows(const SampleGroups& groups) {
  const Tensor sizes = groups.group.bincount({}, groups.num_groups);
  const int64_t largest = sizes.max().item<int64_t>();
  const Tensor used = (sizes * 2).ge(largest);
  const int64_t size = sizes.masked_select(used).min().item<int64_t>();
  const Tensor first = (sizes.cumsum(0) - sizes).masked_select(used);
  return first.unsqueeze(1) + at::arange(size, at::kLong);
}

}  // namespace

std::vector<CoordinateConvergence> convergence(const Tensor& x, const SampleGroups& groups,
                                               int64_t max_coordinates) {
  if (max_coordinates < 1) {
    throw ConfigError("convergence: max_coordinates = " + std::to_string(max_coordinates) +
                      ", must be >= 1");
  }
  if (!x.defined() || x.dim() < 1 || !groups.group.defined() || groups.group.dim() != 1 ||
      groups.group.size(0) != x.size(0)) {
    std::ostringstream text;
    text << "convergence: x has shape " << x.sizes() << " and groups.group " << groups.group.sizes()
         << ", must have an entry a row";
    throw ShapeError(text.str());
  }
  std::vector<CoordinateConvergence> result;
  if (x.size(0) == 0) {
    return result;
  }
  const Tensor rows = island_rows(groups);
  const Tensor flat = x.detach().reshape({x.size(0), -1});  // an image has more than are looked at
  const int64_t num_coordinates = flat.size(1);
  const int64_t count = std::min(num_coordinates, max_coordinates);
  if (rows.size(0) < 2 || rows.size(1) < kMinRows) {
    return result;
  }
  for (int64_t i = 0; i < count; ++i) {
    const int64_t coordinate = i * num_coordinates / count;
    const Tensor draws = flat.select(1, coordinate)
                             .to(at::kCPU, at::kDouble)
                             .index_select(0, rows.flatten())
                             .view(rows.sizes());
    result.push_back(
        {coordinate, rhat(draws), ess_bulk(draws), ess_tail(draws), over_islands(draws.mean(1))});
  }
  return result;
}

}  // namespace motet
