// The benchmark's laws and other laws of the plane, as mixtures of Gaussians or of boxes: known in
// closed form at every level.
//   checkerboard  the 8 dark squares of a 4 x 4 board on [-1, 1]^2, dark where row + column is even
//   moons         angles a_k = pi (k + 1/2) / 128 on each of two half circles,
//                 ((cos a, sin a) and (1 - cos a, 1/2 - sin a)) less (1/2, 1/4), over 1.5;
//                 the data set's uniform angle by the midpoint rule, its noise as their width
//   spirals       r_k = 0.9 sqrt((k + 1/2) / 100), angle 3 pi r_k / 0.9, on one arm and its mirror
//                 image through 0: neighbours are 0.043 to 0.062 apart, the width is 0.04
#include <torch/types.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "motet/error.hpp"
#include "motet/model.hpp"

namespace motet {
namespace {

constexpr double kPi = std::numbers::pi;

// Gaussians of one sd and equal weights at the rows of `means` (K, 2).
AnalyticPtr even_mixture(const Tensor& means, double sd, const char* name) {
  const int64_t num_components = means.size(0);
  return gaussian_mixture(at::ones({num_components}, at::kDouble), means,
                          at::full({num_components, 1}, sd, at::kDouble), name);
}

// (num_nodes): the midpoints of as many equal parts of (0, 1).
Tensor midpoints(int64_t num_nodes) {
  return (at::arange(num_nodes, at::kDouble) + 0.5) / static_cast<double>(num_nodes);
}

}  // namespace

AnalyticPtr ring(int64_t num_modes, double radius, double sd) {
  if (num_modes < 1) {
    throw ConfigError("ring: num_modes = " + std::to_string(num_modes) + ", must be >= 1");
  }
  const Tensor angles =
      at::arange(num_modes, at::kDouble) * (2.0 * kPi / static_cast<double>(num_modes));
  const Tensor means = radius * at::stack({angles.cos(), angles.sin()}, 1);
  return even_mixture(means, sd, "ring");
}

AnalyticPtr bar(double half_width, double half_height) {
  const Tensor high = at::tensor({half_width, half_height}, at::kDouble);
  return uniform_box(-high, high, "bar");
}

AnalyticPtr checkerboard() {
  constexpr int64_t kNumColumns = 4;
  constexpr double kWidth = 2.0 / static_cast<double>(kNumColumns);
  std::vector<double> corners;
  for (int64_t column = 0; column < kNumColumns; ++column) {
    for (int64_t row = column % 2; row < kNumColumns; row += 2) {
      corners.push_back(kWidth * static_cast<double>(column) - 1.0);
      corners.push_back(kWidth * static_cast<double>(row) - 1.0);
    }
  }
  const Tensor low = at::tensor(corners, at::kDouble).view({-1, 2});
  return box_mixture(at::ones({low.size(0)}, at::kDouble), low, low + kWidth, "checkerboard");
}

AnalyticPtr moons() {
  constexpr int64_t kNumNodes = 128;
  const Tensor angle = kPi * midpoints(kNumNodes);
  const Tensor first = at::stack({angle.cos(), angle.sin()}, 1);
  const Tensor second = at::stack({1.0 - angle.cos(), 0.5 - angle.sin()}, 1);
  const Tensor centre = at::tensor({0.5, 0.25}, at::kDouble);
  return even_mixture((at::cat({first, second}) - centre) / 1.5, 0.05 / 1.5, "moons");
}

AnalyticPtr spirals() {
  constexpr int64_t kNumNodes = 100;
  const Tensor share = midpoints(kNumNodes).sqrt();
  const Tensor angle = 3.0 * kPi * share;
  const Tensor arm = 0.9 * share.unsqueeze(1) * at::stack({angle.cos(), angle.sin()}, 1);
  return even_mixture(at::cat({arm, -arm}), 0.04, "spirals");
}

}  // namespace motet
