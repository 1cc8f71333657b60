// From level a to level b, alpha = abar_a / abar_b, beta = 1 - alpha, v the step's variance:
//   ledger  log p_b(x') = log p_a(x) + log p(x' | x) - log q(x | x')   (Bayes' rule), with
//           q(x | x') = N(sqrt(alpha) x', beta I) and the reverse kernel of each leaf
//           p(x' | x) ~ N((x + beta s) / sqrt(alpha), beta~ I), exact as beta -> 0
//   twist   log w += l_b(x') - l_a(x) + log N(x'; m(s - grad l), v) - log N(x'; m(s), v),
//           m(s) = (x + beta s) / sqrt(alpha): the step was taken with the guided score, the
//           weights' rate is that of the score without it (Wu et al. 2023, eq. 7)
//   slope   log w += trapezoid of the slopes over log v
// (docs/method.md, Weights of the operators).
#include "anneal_crossing.hpp"

#include <torch/types.h>

#include <cmath>
#include <numbers>

#include "compose_tree.hpp"
#include "model_rows.hpp"
#include "motet/compose.hpp"
#include "motet/error.hpp"

namespace motet::detail {
namespace {

Tensor rows_of(const Tensor& rows, const Tensor& index) {
  return rows.defined() ? rows.index_select(0, index) : rows;
}

// log N(x; mean, variance I), (B) float64.
Tensor log_gaussian(const Tensor& x, const Tensor& mean, double variance) {
  const Tensor square = (x.to(at::kDouble) - mean).square_().flatten(1).sum(1);
  const double constant =
      0.5 * static_cast<double>(x[0].numel()) * std::log(2.0 * std::numbers::pi * variance);
  return square.mul_(-0.5 / variance).sub_(constant);
}

struct Step {
  double alpha = 1.0;
  double beta = 0.0;
};

Step step_between(const NoiseLevel& from, const NoiseLevel& to) {
  const double alpha = from.alpha_bar / to.alpha_bar;
  return {alpha, 1.0 - alpha};
}

Tensor mean_of(const Tensor& x, const Tensor& score, const Step& step) {
  return x.to(at::kDouble).add(score, step.beta).mul_(1.0 / std::sqrt(step.alpha));
}

Tensor next_ledger(const Target& target, const ChainState& chains, const Tensor& moved,
                   const NoiseLevel& next) {
  const NoiseLevel& here = target.level();
  const Step step = step_between(here, next);
  const double variance = reverse_variance(here, next, ReverseStep::ancestral_beta_tilde);
  const Tensor forward =
      log_gaussian(chains.x, moved.to(at::kDouble) * std::sqrt(step.alpha), step.beta);
  std::vector<Tensor> columns;
  for (size_t i = 0; i < target.tracked().size(); ++i) {
    const Tensor& score = chains.eval.parts[target.tracked()[i]].score;
    const Tensor backward = log_gaussian(moved, mean_of(chains.x, score, step), variance);
    columns.push_back(chains.eval.ledger.select(1, static_cast<int64_t>(i)) + backward - forward);
  }
  return at::stack(columns, 1);
}

Tensor twist_debt(const Target& target, const ChainState& chains, const Tensor& moved,
                  const NoiseLevel& next, ReverseStep kind) {
  const NoiseLevel& here = target.level();
  const Step step = step_between(here, next);
  const double variance = reverse_variance(here, next, kind);
  const Eval& eval = chains.eval;
  const Tensor bare = eval.score - eval.twist_score;
  return log_gaussian(moved, mean_of(chains.x, bare, step), variance) -
         log_gaussian(moved, mean_of(chains.x, eval.score, step), variance) - eval.twist;
}

}  // namespace

double reverse_variance(const NoiseLevel& from, const NoiseLevel& to, ReverseStep kind) {
  const double beta = step_between(from, to).beta;
  switch (kind) {
    case ReverseStep::ancestral_beta_tilde:
      return beta * (1.0 - to.alpha_bar) / (1.0 - from.alpha_bar);
    case ReverseStep::ancestral_beta:
      return beta;
    case ReverseStep::ddim:
      break;
  }
  return 0.0;
}

Eval take_rows(const Eval& eval, const Tensor& index) {
  Eval taken;
  taken.score = rows_of(eval.score, index);
  taken.log_density = rows_of(eval.log_density, index);
  taken.remainder =
      eval.remainder.is_same(eval.score) ? taken.score : rows_of(eval.remainder, index);
  taken.square_sum = rows_of(eval.square_sum, index);
  taken.slope = rows_of(eval.slope, index);
  taken.twist = rows_of(eval.twist, index);
  taken.twist_score = rows_of(eval.twist_score, index);
  taken.ledger = rows_of(eval.ledger, index);
  for (const Eval& part : eval.parts) {
    taken.parts.push_back(take_rows(part, index));
  }
  return taken;
}

Crossing cross(const Target& target, const ChainState& chains, const Tensor& moved,
               const NoiseLevel& next, ReverseStep kind) {
  Crossing crossing;
  if (!target.tracked().empty()) {
    crossing.ledger = next_ledger(target, chains, moved, next);
  }
  crossing.slope = chains.eval.slope;
  if (chains.eval.twist.defined()) {
    crossing.twist = twist_debt(target, chains, moved, next, kind);
  }
  return crossing;
}

Tensor crossing_gain(const Crossing& crossing, const Eval& eval, const NoiseLevel& before,
                     const NoiseLevel& here) {
  Tensor gain;
  const auto add = [&gain](const Tensor& term) { gain = gain.defined() ? gain + term : term; };
  if (crossing.slope.defined() && eval.slope.defined()) {
    add((crossing.slope + eval.slope) * (0.5 * (log_v(here) - log_v(before))));
  }
  if (crossing.twist.defined() && eval.twist.defined()) {
    add(crossing.twist + eval.twist);
  }
  return gain;
}

void check_crossings(const AnnealConfig& config, const Model& model) {
  const Traits found = traits(model);
  const std::string name = "anneal: \"" + model.describe() + "\" ";
  if (found.is_tracked && config.levels.size() > 1 && config.placement == Placement::pure) {
    throw ConfigError(name +
                      "tracks log densities along reverse steps, but placement = \"pure\" takes "
                      "none; use after_reverse or before_reverse");
  }
  const bool is_deterministic = config.reverse_step == ReverseStep::ddim;
  if (found.is_tracked && is_deterministic) {
    throw ConfigError(name +
                      "tracks log densities along reverse steps, which reverse_step = \"ddim\" "
                      "leaves without noise to tell them by; use ancestral_beta_tilde");
  }
  if (found.has_twist && config.weights && is_deterministic) {
    throw ConfigError(name +
                      "has a likelihood whose weights compare the laws of a reverse step, but "
                      "reverse_step = \"ddim\" is deterministic; use ancestral_beta_tilde, or no "
                      "weights");
  }
  if ((found.has_twist || found.is_tracked) && config.weights && config.weights->matched) {
    throw ConfigError(name +
                      (found.is_tracked ? "tracks log densities" : "has a given likelihood") +
                      ", which needs whole reverse steps; set weights.matched = false");
  }
}

}  // namespace motet::detail
