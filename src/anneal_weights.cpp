// Weights of chains that follow the reverse process of q_t ~ prod_i p_i^{a_i} with S = sum a_i s_i:
//   d log w = 1/2 (|eps_S|^2 - sum_i a_i |eps_i|^2) |d log v|,  v = (1 - abar) / abar,
// for the SDE and the ODE alike (docs/method.md, Weights). In x and s, with
// eps = -sigma s, the same in v: d log w = 1/2 abar (|S|^2 - sum a_i |s_i|^2) |dv|.
#include "anneal_weights.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <sstream>

#include "model_rows.hpp"
#include "motet/error.hpp"

namespace motet::detail {
namespace {

// One island's weights, normalised, those above max_share / size cut.
struct Island {
  std::vector<double> weights;
  double ess = 0.0;       // before the cut
  double log_mean = 0.0;  // of the weights, before the cut
};

// Calls visit(first, size) for each island: consecutive rows, the last island maybe shorter.
template <typename Visit>
void each_island(int64_t num_rows, int64_t island_size, const Visit& visit) {
  for (int64_t first = 0; first < num_rows; first += island_size) {
    visit(first, std::min(island_size, num_rows - first));
  }
}

void normalise(std::vector<double>& weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& weight : weights) {
    weight /= sum;
  }
}

Island read_island(const double* log_weights, int64_t size, double max_share) {
  Island island;
  double largest = -std::numeric_limits<double>::infinity();
  for (int64_t i = 0; i < size; ++i) {
    if (std::isfinite(log_weights[i])) {
      largest = std::max(largest, log_weights[i]);
    }
  }
  if (!std::isfinite(largest)) {
    throw NumericalError(
        "anneal: no chain of an island has a finite weight left; raise the number of "
        "levels or of MCMC steps, or look at the models' scores");
  }
  double sum = 0.0;
  double squares = 0.0;
  for (int64_t i = 0; i < size; ++i) {
    const double weight = std::isfinite(log_weights[i]) ? std::exp(log_weights[i] - largest) : 0.0;
    island.weights.push_back(weight);
    sum += weight;
    squares += weight * weight;
  }
  const auto count = static_cast<double>(size);
  island.ess = sum * sum / squares / count;
  island.log_mean = largest + std::log(sum / count);
  normalise(island.weights);
  if (max_share > 0.0) {
    for (double& weight : island.weights) {
      weight = std::min(weight, max_share / count);
    }
    normalise(island.weights);
  }
  return island;
}

// 1/2 |d log v| or 1/2 |dv|, from units of x.
double rate_scale(const NoiseLevel& level, WeightRule rule) {
  return 0.5 * (rule == WeightRule::log_v ? 1.0 - level.alpha_bar : level.alpha_bar);
}

struct Chord {
  Tensor slope;
  Tensor across;
};

// Row of the cumulated weights into which each ascending position falls.
template <typename Position>
void walk(const std::vector<double>& weights, int64_t count, const Position& position,
          int64_t first, int64_t* ancestors) {
  const auto last = static_cast<int64_t>(weights.size()) - 1;
  int64_t row = 0;
  double below = weights[0];
  for (int64_t i = 0; i < count; ++i) {
    while (row < last && position(i) >= below) {
      ++row;
      below += weights[static_cast<size_t>(row)];
    }
    ancestors[i] = first + row;
  }
}

void systematic(const std::vector<double>& weights, int64_t count, double uniform, int64_t first,
                int64_t* ancestors) {
  walk(
      weights, count,
      [&](int64_t i) { return (static_cast<double>(i) + uniform) / static_cast<double>(count); },
      first, ancestors);
}

void stratified(const std::vector<double>& weights, const double* uniforms, int64_t first,
                int64_t* ancestors) {
  const auto count = static_cast<int64_t>(weights.size());
  walk(
      weights, count,
      [&](int64_t i) {
        return (static_cast<double>(i) + uniforms[i]) / static_cast<double>(count);
      },
      first, ancestors);
}

// Whole copies first, then the fractions by systematic resampling (Liu and Chen 1998).
void residual(std::vector<double> weights, double uniform, int64_t first, int64_t* ancestors) {
  const auto count = static_cast<double>(weights.size());
  int64_t taken = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const double copies = std::floor(weights[i] * count);
    for (double k = 0.0; k < copies; k += 1.0) {
      ancestors[taken++] = first + static_cast<int64_t>(i);
    }
    weights[i] = weights[i] * count - copies;
  }
  const int64_t left = static_cast<int64_t>(weights.size()) - taken;
  if (left > 0) {
    normalise(weights);
    systematic(weights, left, uniform, first, ancestors + taken);
  }
}

void choose_ancestors(const Island& island, Resampling scheme, const double* uniforms,
                      int64_t first, int64_t* ancestors) {
  switch (scheme) {
    case Resampling::none:
      break;
    case Resampling::systematic:
      systematic(island.weights, static_cast<int64_t>(island.weights.size()), uniforms[0], first,
                 ancestors);
      break;
    case Resampling::stratified:
      stratified(island.weights, uniforms, first, ancestors);
      break;
    case Resampling::residual:
      residual(island.weights, uniforms[0], first, ancestors);
      break;
  }
}

}  // namespace

void check_weights(const AnnealConfig& config, const Rng& rng) {
  if (!config.weights) {
    return;
  }
  const WeightConfig& weights = *config.weights;
  std::ostringstream text;
  if (config.placement == Placement::pure) {
    text << "placement = \"pure\" has no reverse steps to weight; use before_reverse";
  } else if (weights.island_size < 2) {
    text << "island_size = " << weights.island_size << ", must be >= 2";
  } else if (!(weights.ess_threshold >= 0.0 && weights.ess_threshold <= 1.0)) {
    text << "ess_threshold = " << weights.ess_threshold << ", must be in [0, 1]";
  } else if (!(weights.max_share == 0.0 || weights.max_share >= 1.0)) {
    text << "max_share = " << weights.max_share << ", must be 0 (never cut) or >= 1";
  } else if (weights.lowest_level < 0) {
    text << "lowest_level = " << weights.lowest_level << ", must be >= 0";
  } else if (rng.first_chain() % weights.island_size != 0) {
    text << "the first chain is " << rng.first_chain() << ", which begins no island of "
         << weights.island_size;
  } else {
    return;
  }
  throw ConfigError("anneal: weights: " + text.str());
}

Tensor weight_rate(const Eval& eval, const NoiseLevel& level, WeightRule rule) {
  const Tensor square =
      square_norm(eval.twist_score.defined() ? eval.score - eval.twist_score : eval.score);
  if (!eval.square_sum.defined()) {
    return at::zeros_like(square);
  }
  return (square - eval.square_sum).mul_(rate_scale(level, rule));
}

MatchedRate matched_rate(const Eval& eval, const NoiseLevel& level, WeightRule rule,
                         int64_t island_size, const Tensor& share, const Tensor& divergence,
                         const Tensor& divergence_error) {
  const Tensor square = square_norm(eval.score);
  const Tensor unit = island_medians(square, island_size);
  const Tensor left_out = (1.0 - share) * rate_scale(level, rule);
  return {-left_out * (square + divergence * unit), left_out * unit * divergence_error};
}

Tensor island_medians(const Tensor& values, int64_t island_size) {
  const Tensor wide = values.to(at::kDouble);
  Tensor medians = at::empty_like(wide);
  each_island(wide.size(0), island_size, [&](int64_t first, int64_t size) {
    medians.narrow(0, first, size).copy_(wide.narrow(0, first, size).nanmedian());
  });
  return medians;
}

Tensor drift_share(const Eval& eval, int64_t island_size) {
  const Tensor square = square_norm(eval.score);
  if (!eval.square_sum.defined()) {
    return at::ones_like(square);
  }
  const Tensor ratio =
      island_medians(eval.square_sum, island_size) / island_medians(square, island_size);
  return ratio.nan_to_num(1.0).clamp_(0.0, 1.0);
}

Divergence divergence_estimate(const Path& path, const Tensor& accepted) {
  // Along the chord between two points: the score's slope, and the square of its change across.
  const auto chord = [&path](size_t from, size_t to) {
    const Tensor move = (path.points[to] - path.points[from]).to(at::kDouble).flatten(1);
    const Tensor gain = (path.evals[to].score - path.evals[from].score).to(at::kDouble).flatten(1);
    const Tensor length = move.square().sum(1);
    const Tensor slope = (gain * move).sum(1) / length;
    return Chord{slope, (gain.square().sum(1) / length - slope.square()).clamp_min(0.0)};
  };
  const size_t end = path.points.size() - 1;
  const auto pick = [&accepted](const Chord& last, const Chord& first) {
    return Chord{at::where(accepted, last.slope, first.slope),
                 at::where(accepted, last.across, first.across)};
  };
  const auto d = static_cast<double>(path.points[0][0].numel());
  const Chord near = pick(chord(end - 1, end), chord(0, 1));
  const Tensor error = (2.0 * d * near.across).sqrt();
  if (end < 2) {
    return {d * near.slope, error};
  }
  const Chord far = pick(chord(end - 2, end), chord(0, 2));
  return {d * (4.0 * near.slope - far.slope) / 3.0, error};
}

double smallest_families(const Tensor& family, int64_t island_size) {
  const Tensor rows = family.to(at::kCPU);
  const Tensor counts = at::bincount(rows, {}, rows.size(0)).to(at::kDouble);
  double smallest = std::numeric_limits<double>::infinity();
  each_island(rows.size(0), island_size, [&](int64_t first, int64_t size) {
    const auto squares = counts.narrow(0, first, size).square().sum().item<double>();
    smallest = std::min(smallest, static_cast<double>(size * size) / squares);
  });
  return smallest;
}

double weight_interval(const NoiseLevel& from, const NoiseLevel& to, WeightRule rule) {
  const double v_from = (1.0 - from.alpha_bar) / from.alpha_bar;
  const double v_to = (1.0 - to.alpha_bar) / to.alpha_bar;
  return rule == WeightRule::log_v ? std::log(v_from / v_to) : v_from - v_to;
}

Tensor log_means(const Tensor& log_weights, int64_t island_size) {
  std::vector<Tensor> means;
  each_island(log_weights.size(0), island_size, [&](int64_t first, int64_t size) {
    means.push_back(log_weights.narrow(0, first, size).logsumexp(0) -
                    std::log(static_cast<double>(size)));
  });
  return means.empty() ? at::zeros({0}, at::kDouble) : at::stack(means).to(at::kCPU);
}

ResampleResult resample(const Tensor& log_weights, const WeightConfig& config,
                        const Tensor& uniforms, bool force) {
  const int64_t num_chains = log_weights.size(0);
  const int64_t num_islands = (num_chains + config.island_size - 1) / config.island_size;
  ResampleResult result;
  result.ancestors = at::arange(num_chains, at::kLong);
  result.log_weights = log_weights.to(at::kCPU, at::kDouble, false, /*copy=*/true).contiguous();
  result.log_normalisers = at::zeros({num_islands}, at::kDouble);
  const Tensor draws = uniforms.to(at::kCPU, at::kDouble).contiguous();
  double* weights = result.log_weights.mutable_data_ptr<double>();
  int64_t* ancestors = result.ancestors.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < num_islands; ++i) {
    const int64_t first = i * config.island_size;
    const int64_t size = std::min(config.island_size, num_chains - first);
    const Island island = read_island(weights + first, size, config.max_share);
    result.smallest_ess = std::min(result.smallest_ess, island.ess);
    if (config.resampling == Resampling::none || !(force || island.ess < config.ess_threshold)) {
      continue;
    }
    choose_ancestors(island, config.resampling, draws.const_data_ptr<double>() + first, first,
                     ancestors + first);
    std::fill(weights + first, weights + first + size, 0.0);
    result.log_normalisers.mutable_data_ptr<double>()[i] = island.log_mean;
    ++result.num_resampled;
  }
  return result;
}

}  // namespace motet::detail
