// Seam score: with D the absolute differences of neighbouring places of an image and E those pairs
// of neighbours that a window's edge parts, mean of D over E divided by the mean of D over the
// rest.
#include <torch/types.h>

#include <string>

#include "error_shape.hpp"
#include "metrics_detail.hpp"
#include "motet/error.hpp"

namespace motet {
namespace {

// Where a window's edge lies between a place and the next one.
struct Edges {
  Tensor below;  // (H - 1, W) float64, 1: between rows i and i + 1
  Tensor right;  // (H, W - 1)
};

void check_window(const WindowPlace& window, int64_t height, int64_t width) {
  if (window.height < 1 || window.width < 1 || window.row < 0 || window.column < 0 ||
      window.row > height - window.height || window.column > width - window.width) {
    throw ConfigError("seam_score: a window of " + std::to_string(window.height) + "x" +
                      std::to_string(window.width) + " places at row " +
                      std::to_string(window.row) + ", column " + std::to_string(window.column) +
                      " is not inside the images of " + std::to_string(height) + "x" +
                      std::to_string(width));
  }
}

Edges edges_of(const std::vector<WindowPlace>& windows, int64_t height, int64_t width) {
  Edges edges{at::zeros({height - 1, width}, at::kDouble),
              at::zeros({height, width - 1}, at::kDouble)};
  for (const WindowPlace& window : windows) {
    check_window(window, height, width);
    for (const int64_t row : {window.row - 1, window.row + window.height - 1}) {
      if (row >= 0 && row < height - 1) {
        edges.below.select(0, row).narrow(0, window.column, window.width).fill_(1.0);
      }
    }
    for (const int64_t column : {window.column - 1, window.column + window.width - 1}) {
      if (column >= 0 && column < width - 1) {
        edges.right.select(1, column).narrow(0, window.row, window.height).fill_(1.0);
      }
    }
  }
  return edges;
}

// Mean of S / mean of R times a constant, over images: its error by the delta method.
Estimate ratio_of(const Tensor& seams, const Tensor& rest, double scale) {
  const double value = seams.mean().item<double>() / rest.mean().item<double>();
  Estimate ratio{.value = scale * value};
  const int64_t count = seams.size(0);
  if (count > 1) {
    const Tensor residual = seams - value * rest;
    ratio.standard_error = scale * residual.std().item<double>() /
                           (std::sqrt(static_cast<double>(count)) * rest.mean().item<double>());
  }
  return ratio;
}

void check_images(const Tensor& x) {
  if (x.dim() != 4 || x.numel() == 0 || !x.is_floating_point()) {
    throw ShapeError("seam_score: images are " + detail::dtype_text(x.scalar_type()) + " " +
                     detail::shape_text(x.sizes()) + ", must be floats (N, C, H, W)");
  }
  const int64_t num_bad = at::isfinite(x).flatten(1).all(1).logical_not().sum().item<int64_t>();
  if (num_bad > 0) {
    throw NumericalError("seam_score: " + std::to_string(num_bad) + " of " +
                         std::to_string(x.size(0)) + " images hold a NaN or infinity");
  }
}

}  // namespace

SeamScore seam_score(const Tensor& x, const std::vector<WindowPlace>& windows) {
  check_images(x);
  const Edges edges = edges_of(windows, x.size(2), x.size(3));
  const double num_pairs = static_cast<double>(edges.below.numel() + edges.right.numel());
  const double num_seams = (edges.below.sum() + edges.right.sum()).item<double>();
  if (num_seams == 0.0 || num_seams == num_pairs) {
    throw ConfigError("seam_score: edges of windows part " +
                      std::to_string(static_cast<int64_t>(num_seams)) + " of the " +
                      std::to_string(static_cast<int64_t>(num_pairs)) +
                      " pairs of neighbours, must be some but not all");
  }
  const Tensor images = x.detach().to(at::kCPU, at::kDouble);
  const Tensor below = images.diff(1, 2).abs();
  const Tensor right = images.diff(1, 3).abs();
  const auto sum = [&](const Tensor& where_below, const Tensor& where_right) {
    return (below * where_below).flatten(1).sum(1) + (right * where_right).flatten(1).sum(1);
  };
  const Tensor seams = sum(edges.below, edges.right);
  const Tensor rest = sum(1.0 - edges.below, 1.0 - edges.right);
  const double num_rest = num_pairs - num_seams;
  const double channels = static_cast<double>(x.size(1));
  SeamScore result;
  result.num_seams = static_cast<int64_t>(num_seams);
  result.at_seams = seams.mean().item<double>() / (num_seams * channels);
  result.elsewhere = rest.mean().item<double>() / (num_rest * channels);
  if (!(result.elsewhere > 0.0)) {
    throw NumericalError("seam_score: no neighbours differ away from the windows' edges");
  }
  result.score = ratio_of(seams, rest, num_rest / num_seams);
  return result;
}

}  // namespace motet
