// Networks that see the same points.
#pragma once

#include <vector>

#include "motet/model.hpp"

namespace motet::detail {

/// evaluate(x, level) of every leaf, in order. Networks that run fused on the CPU share the threads:
/// those of one shape and arithmetic in one parallel region, so that a batch too small to be cut
/// into a piece for every thread still keeps them all busy. The bits are those of one call after the
/// other, whatever the batch. Others are evaluated in turn. Cost: one evaluation of each leaf.
/// Throws what the first leaf to throw would.
std::vector<Eval> evaluate_together(const std::vector<ModelPtr>& leaves, const Tensor& x,
                                    const NoiseLevel& level);

}  // namespace motet::detail
