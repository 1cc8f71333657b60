// What the three programs measure_ratio_* share: the rules by name, laws on the line, draws of the
// benchmark's product.
#pragma once

#include <torch/types.h>

#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "motet/compose.hpp"
#include "motet/kernel.hpp"
#include "motet/ratio.hpp"
#include "motet/rng.hpp"

namespace motet::experiments {

using nlohmann::json;

/// A rule with the words that tables and plots know it by.
struct Rule {
  std::string family;  ///< "trapezoid on the line", ...
  LogRatioPtr ratio;
  int64_t num_points = 0;  ///< of a line; 0 on the curve
};

inline Rule line(int64_t num_points, LineRule rule) {
  return {to_string(rule) + " on the line", line_ratio(num_points, rule), num_points};
}

inline Rule curve(CurveRule rule) { return {to_string(rule) + " on the curve", curve_ratio(rule)}; }

/// A law on the line, known up to a constant: what exact draws and moments need, by quadrature.
struct LineLaw {
  std::string name;
  std::string formula;
  ModelPtr model;  ///< exact
  double low = 0.0;
  double high = 0.0;  ///< all mass but a part below 1e-12 lies between
};

/// A law's numbers, and its distribution function on a grid.
struct Tabulated {
  Tensor x;           ///< (G), the grid's points
  Tensor cumulative;  ///< (G - 1): the mass left of points 1 .. G - 1
  double mean = 0.0;
  double sd = 0.0;
  double skewness = 0.0;
};

inline Tabulated tabulate(const LineLaw& law) {
  constexpr int64_t kGrid = 40001;
  Tabulated table;
  table.x = at::linspace(law.low, law.high, kGrid, at::kDouble);
  const Tensor log_density = law.model->evaluate(table.x.unsqueeze(1), {}).log_density;
  const Tensor density = (log_density - log_density.max()).exp();
  const Tensor cells = 0.5 * (density.slice(0, 1) + density.slice(0, 0, kGrid - 1));
  table.cumulative = cells.cumsum(0) / cells.sum();
  // The densities vanish at both ends: the trapezoid is the plain sum.
  const Tensor share = density / density.sum();
  table.mean = (share * table.x).sum().item<double>();
  const Tensor gap = table.x - table.mean;
  table.sd = std::sqrt((share * gap.square()).sum().item<double>());
  table.skewness = (share * gap.pow(3)).sum().item<double>() / std::pow(table.sd, 3);
  return table;
}

/// (num_draws, 1) draws: a cell by its mass, uniform within.
inline Tensor draw(const Tabulated& table, int64_t num_draws, Rng& rng) {
  const Tensor cell = at::searchsorted(table.cumulative, rng.uniform(num_draws, table.x))
                          .clamp_max(table.cumulative.size(0) - 1);
  const Tensor left = table.x.index_select(0, cell);
  const Tensor width = table.x.index_select(0, cell + 1) - left;
  return (left + width * rng.uniform(num_draws, table.x)).unsqueeze(1);
}

/// A law by its log density and score, both functions of x (B, 1).
inline ModelPtr law_on_line(const std::function<Tensor(const Tensor&)>& log_density,
                            const std::function<Tensor(const Tensor&)>& score, std::string name) {
  return from_callable(
      [log_density, score](const Tensor& x, const NoiseLevel& /*level*/) {
        return Eval{score(x), log_density(x).squeeze(1), {}};
      },
      {1}, /*is_exact=*/true, std::move(name));
}

/// exp(-2 (x^2 - 1)^2): its score is a cubic, which Simpson's rule integrates exactly.
inline LineLaw double_well() {
  return {"double well", "exp(-2 (x² - 1)²)",
          law_on_line([](const Tensor& x) { return -2.0 * (x.square() - 1.0).square(); },
                      [](const Tensor& x) { return -8.0 * x * (x.square() - 1.0); }, "double well"),
          -3.0, 3.0};
}

inline LineLaw quartic() {
  return {"quartic", "exp(-x⁴)",
          law_on_line([](const Tensor& x) { return -x.pow(4); },
                      [](const Tensor& x) { return -4.0 * x.pow(3); }, "quartic"),
          -3.0, 3.0};
}

/// Two overlapping Gaussians of unlike weights and widths: skewed, and no polynomial.
inline LineLaw skewed() {
  const auto column = [](std::initializer_list<double> values) {
    return at::tensor(std::vector<double>(values), at::kDouble).unsqueeze(1);
  };
  return {"skewed mixture", ".75 N(-.4, .25²) + .25 N(.6, .5²)",
          gaussian_mixture(at::tensor({0.75, 0.25}, at::kDouble), column({-0.4, 0.6}),
                           column({0.25, 0.5}), "skewed mixture"),
          -4.0, 5.0};
}

/// The .5, .9 and .99 quantiles of errors' sizes (B).
inline json quantiles(const Tensor& sizes) {
  const Tensor sorted = std::get<0>(sizes.sort());
  const auto at_share = [&](double share) {
    const auto rank = static_cast<int64_t>(std::ceil(share * static_cast<double>(sizes.numel())));
    return sorted[rank - 1].item<double>();
  };
  return {{"0.5", at_share(0.5)}, {"0.9", at_share(0.9)}, {"0.99", at_share(0.99)}};
}

/// |log alpha| errors: one step of `kernel` with each ratio from the same state and random numbers.
inline Tensor log_accept(const Kernel& kernel, const Target& target, const Tensor& x,
                         double step_size, const Rng& rng) {
  Rng same = rng;
  return kernel.step(target, {x, target.evaluate(x), {}}, step_size, same).info.log_accept;
}

}  // namespace motet::experiments
