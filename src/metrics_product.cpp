// The benchmark's numbers together, each with its error bar. Means: from the spread over groups. W2:
// its square is the mean of the dual potentials of the optimal assignment, which are its derivatives
// with respect to the points' masses, so their spread over groups is its error (del Barrio and
// Loubes 2019) at no second assignment. Energy distance, MMD and mixture fits: each group left out
// of samples and exact samples in turn (jackknife).
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "metrics_detail.hpp"
#include "motet/error.hpp"
#include "motet/metrics.hpp"

namespace motet {
namespace {

const char* const kNeedsEqual = "not measured: it needs equally weighted points";

// Log likelihood and shares: weighted means, so they take weighted rows too.
void measure_means(const Tensor& points, const ProductBenchmark& benchmark,
                   const SampleGroups& groups, ProductMetrics& metrics) {
  const Tensor weights = detail::weights_of(groups, points.size(0));
  const double num_effective = (weights.sum().square() / weights.square().sum()).item<double>();
  const Tensor log_density = log_density_product_benchmark(points, benchmark);
  const Tensor inside = log_density.isfinite();
  const Tensor counted = weights * inside;
  const Estimate ll =
      detail::ratio_over_groups(weights * torch::where(inside, log_density, 0.0), counted, groups);
  const Estimate stray = detail::ratio_over_groups(weights - counted, weights, groups);
  const ModeSet set = product_modes(benchmark);
  const Tensor no_mode =
      detail::mode_labels(points, set.centres, set.radius).lt(0).to(torch::kFloat64);
  const Estimate outside = detail::ratio_over_groups(weights * no_mode, weights, groups);
  metrics.errors["ll_true"] = {ll.standard_error, detail::kByGroups};
  metrics.errors["ll_paper"] = metrics.errors["ll_true"];  // it differs by a constant
  metrics.errors["num_outside_support"] = {
      static_cast<double>(points.size(0)) * detail::share_error(stray, num_effective),
      detail::kByGroupsOrBinomial};
  metrics.errors["fraction_outside_modes"] = {detail::share_error(outside, num_effective),
                                              detail::kByGroupsOrBinomial};
  metrics.occupancy = mode_occupancy(points, set.centres, set.radius, groups);
  if (!groups.log_weights.defined()) {
    return;
  }
  LogLikelihood& value = metrics.log_likelihood;
  const bool any_inside = counted.sum().item<double>() > 0.0;
  value.ll_paper += any_inside ? ll.value - value.ll_true : 0.0;
  value.ll_true = any_inside ? ll.value : -std::numeric_limits<double>::infinity();
  metrics.modes.fraction_outside_modes = outside.value;
  for (size_t k = 0; k < metrics.occupancy.size(); ++k) {
    metrics.modes.mode_fractions[k] = metrics.occupancy[k].fraction;
    std::fill(metrics.modes.mode_sd[k].begin(), metrics.modes.mode_sd[k].end(),
              std::numeric_limits<double>::quiet_NaN());
  }
}

// The fits of samples and of exact samples.
struct Fits {
  GmmFit best, best_exact;      // of four starts
  GmmFit single, single_exact;  // of one, as the reference code
};

void measure_mixtures(const Tensor& points, const Tensor& exact, const SampleGroups& groups,
                      Rng& rng, ProductMetrics& metrics) {
  Fits fits;  // they take draws of rng: one by one, so that no compiler chooses their order
  fits.best = fit_gmm(points, 2, rng);
  fits.best_exact = fit_gmm(exact, 2, rng);
  fits.single = fit_gmm(points, 2, rng, 1);
  fits.single_exact = fit_gmm(exact, 2, rng, 1);
  metrics.gmm = gmm_distance(fits.best_exact, fits.best);
  metrics.gmm_paper = gmm_distance_unmatched(fits.single_exact, fits.single);
  std::vector<double> matched;
  std::vector<double> unmatched;
  for (int64_t g = 0; g < groups.num_groups; ++g) {
    const Tensor rows = groups.group.ne(g).nonzero().squeeze(1);
    const Tensor some = points.index_select(0, rows);
    const Tensor some_exact = exact.index_select(0, rows);
    const auto again = [](const Tensor& x, const GmmFit& fit) { return detail::refit_gmm(x, fit); };
    matched.push_back(gmm_distance(again(some_exact, fits.best_exact), again(some, fits.best)));
    unmatched.push_back(
        gmm_distance_unmatched(again(some_exact, fits.single_exact), again(some, fits.single)));
  }
  if (groups.num_groups > 0) {
    metrics.errors["gmm"] = {detail::jackknife_error(matched), detail::kByJackknife};
    metrics.errors["gmm_paper"] = {detail::jackknife_error(unmatched), detail::kByJackknife};
  }
}

// Metrics on pairs, of at most num_pairwise rows.
void measure_pairs(const Tensor& points, const Tensor& exact, const SampleGroups& groups,
                   ProductMetrics& metrics) {
  const Tensor some = detail::thinned(points, metrics.num_pairwise);
  const Tensor some_exact = detail::thinned(exact, metrics.num_pairwise);
  const detail::Transport plain = detail::transport(some, some_exact);
  const detail::Transport folded = detail::folded_transport(some, some_exact);
  metrics.w2 = plain.w2;
  // The reference code divides the summed cost by len((rows, columns)) = 2 where it means N.
  const double paper_unit = std::sqrt(static_cast<double>(metrics.num_pairwise) / 2.0);
  metrics.w2_paper = metrics.w2 * paper_unit;
  metrics.w2_folded = folded.w2;
  SampleGroups thinned = groups;
  if (groups.group.defined()) {
    thinned.group = detail::thinned(groups.group, metrics.num_pairwise);
  }
  const Estimate energy = detail::energy_distance_over(some, some_exact, thinned);
  const Estimate mmd = detail::mmd_squared_over(some, some_exact, thinned);
  metrics.energy_distance = energy.value;
  metrics.mmd_squared = mmd.value;
  if (!groups.group.defined()) {
    return;
  }
  const Tensor ones = torch::ones_like(plain.potentials);
  const double error =
      detail::root_error(detail::ratio_over_groups(plain.potentials, ones, thinned));
  metrics.errors["w2"] = {error, detail::kByPotentials};
  metrics.errors["w2_paper"] = {error * paper_unit, detail::kByPotentials};
  metrics.errors["w2_folded"] = {
      detail::root_error(detail::ratio_over_groups(folded.potentials, ones, thinned)),
      detail::kByPotentials};
  metrics.errors["energy_distance"] = {energy.standard_error, detail::kByJackknife};
  metrics.errors["mmd_squared"] = {mmd.standard_error, detail::kByJackknife};
}

void refuse_unequal(ProductMetrics& metrics) {
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  metrics.w2 = metrics.w2_paper = metrics.w2_folded = metrics.gmm = metrics.gmm_paper = kNaN;
  metrics.energy_distance = metrics.mmd_squared = kNaN;
  metrics.num_pairwise = 0;
  for (const char* key : {"w2", "w2_paper", "w2_folded", "gmm", "gmm_paper", "energy_distance",
                          "mmd_squared", "mode_sd"}) {
    metrics.errors[key] = {kNaN, kNeedsEqual};
  }
}

}  // namespace

ProductMetrics product_metrics(const Tensor& x, const Tensor& reference, Rng& rng,
                               const ProductBenchmark& benchmark, int64_t max_pairwise,
                               const SampleGroups& groups) {
  const std::string where = "product_metrics";
  const Tensor points = detail::benchmark_points(where, "x", x);
  const Tensor exact = detail::benchmark_points(where, "reference", reference);
  if (points.size(0) != exact.size(0) || points.size(0) < 2 || max_pairwise < 2) {
    throw ShapeError(where + ": x is " + detail::shape_text(x) + ", reference is " +
                     detail::shape_text(reference) +
                     ", max_pairwise = " + std::to_string(max_pairwise) +
                     ", must be equally many points, >= 2, and max_pairwise >= 2");
  }
  ProductMetrics metrics;
  metrics.log_likelihood = log_likelihood(points, benchmark);
  const ModeSet set = product_modes(benchmark);
  metrics.modes = modes(points, set.centres, set.radius);
  if (groups.num_groups > 0) {
    detail::require_groups(where, groups, points.size(0));
    measure_means(points, benchmark, groups, metrics);
  }
  if (groups.log_weights.defined()) {
    refuse_unequal(metrics);
    return metrics;
  }
  measure_mixtures(points, exact, groups, rng, metrics);
  metrics.num_pairwise = std::min(points.size(0), max_pairwise);
  measure_pairs(points, exact, groups, metrics);
  return metrics;
}

}  // namespace motet
