#include "support/kernels.hpp"

#include <torch/types.h>

#include <cmath>

namespace motet::testing {

Step MalaWithoutProposalDensity::step(const Target& target, const ChainState& now, double step_size,
                                      Rng& rng) const {
  const Tensor noise = rng.normal_like(now.x);
  const Tensor y = now.x + step_size * now.eval.score + std::sqrt(2.0 * step_size) * noise;
  const ChainState proposed{y, target.evaluate(y), {}};
  return metropolis(now, proposed,
                    ratio_->estimate(target, {{now.x, y}, {now.eval, proposed.eval}}), rng);
}

Step HmcWithoutKineticTerm::step(const Target& target, const ChainState& now, double step_size,
                                 Rng& rng) const {
  ChainState start{now.x, now.eval, rng.normal_like(now.x)};
  ChainState end = start;
  Path path{{now.x}, {now.eval}};
  for (int64_t i = 0; i < num_leapfrog_; ++i) {
    end.momentum = end.momentum + 0.5 * step_size * end.eval.score;
    end.x = end.x + step_size * end.momentum;
    end.eval = target.evaluate(end.x);
    end.momentum = end.momentum + 0.5 * step_size * end.eval.score;
    path.points.push_back(end.x);
    path.evals.push_back(end.eval);
  }
  return metropolis(start, end, ratio_->estimate(target, path), rng);
}

}  // namespace motet::testing
