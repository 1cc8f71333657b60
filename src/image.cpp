// Many images as one, values as pixels, and the power of spatial frequencies. Plain tensor work; PNG is
// libpng's (png.cpp).
#include "motet/image.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "error_shape.hpp"
#include "motet/error.hpp"

namespace motet {
namespace {

constexpr int64_t kFrame = 1;      // pixels between images
constexpr uint8_t kMidGrey = 128;  // of the frame

void check_range(double low, double high) {
  if (!(low < high) || !std::isfinite(low) || !std::isfinite(high)) {
    std::ostringstream text;
    text << "image: range (" << low << ", " << high << "), must be finite and rising";
    throw ConfigError(text.str());
  }
}

[[noreturn]] void refuse_shape(const std::string& where, const Tensor& given,
                               const std::string& allowed) {
  throw ShapeError(where +
                   (given.defined() ? "is " + detail::dtype_text(given.scalar_type()) +
                                          " of shape " + detail::shape_text(given.sizes())
                                    : std::string("is undefined")) +
                   ", must be " + allowed);
}

}  // namespace

bool is_image(const std::vector<int64_t>& event_shape) {
  const auto is_side = [](int64_t size) { return size >= 2 && size <= kMaxImageSide; };
  return event_shape.size() == 3 && (event_shape[0] == 1 || event_shape[0] == 3) &&
         is_side(event_shape[1]) && is_side(event_shape[2]);
}

Tensor pixels_of(const Tensor& values, double low, double high) {
  check_range(low, high);
  const Tensor share = (values.detach().to(at::kCPU, at::kDouble) - low) / (high - low);
  // NaN before the cast, whose result it would leave undefined.
  return at::nan_to_num(share, 0.0, 1.0, 0.0).clamp(0.0, 1.0).mul(255.0).round().to(at::kByte);
}

Tensor values_of(const Tensor& pixels, double low, double high) {
  check_range(low, high);
  return pixels.to(at::kDouble).mul((high - low) / 255.0).add(low);
}

Tensor image_grid(const Tensor& pixels, int64_t num_columns) {
  if (!pixels.defined() || pixels.scalar_type() != at::kByte || pixels.dim() != 4 ||
      pixels.numel() == 0) {
    refuse_shape("image_grid: pixels ", pixels, "uint8 (N, C, H, W), N >= 1");
  }
  if (num_columns < 1) {
    throw ConfigError("image_grid: num_columns = " + std::to_string(num_columns) +
                      ", must be >= 1");
  }
  const int64_t columns = std::min(num_columns, pixels.size(0));
  const int64_t rows = (pixels.size(0) + columns - 1) / columns;
  const int64_t height = pixels.size(2) + kFrame;
  const int64_t width = pixels.size(3) + kFrame;
  const Tensor grid = at::full({pixels.size(1), rows * height + kFrame, columns * width + kFrame},
                               kMidGrey, at::kByte);
  for (int64_t i = 0; i < pixels.size(0); ++i) {
    grid.narrow(1, i / columns * height + kFrame, pixels.size(2))
        .narrow(2, i % columns * width + kFrame, pixels.size(3))
        .copy_(pixels[i]);
  }
  return grid;
}

Tensor enlarged(const Tensor& pixels, int64_t factor) {
  if (factor < 1) {
    throw ConfigError("image: factor = " + std::to_string(factor) + ", must be >= 1");
  }
  if (!pixels.defined() || pixels.dim() != 3) {
    refuse_shape("enlarged: pixels ", pixels, "(C, H, W)");
  }
  return pixels.repeat_interleave(factor, 1).repeat_interleave(factor, 2);
}

Tensor power_spectrum(const Tensor& images) {
  if (!images.defined() || images.dim() != 4 || !images.is_floating_point() ||
      images.numel() == 0 || images.size(2) < 2 || images.size(3) < 2) {
    refuse_shape("power_spectrum: images ", images, "floats (N, C, H, W) with H, W >= 2");
  }
  const int64_t height = images.size(2);
  const int64_t width = images.size(3);
  const Tensor x = images.detach().to(at::kCPU, at::kDouble);
  const Tensor transformed = at::fft_fft2(x - x.mean({2, 3}, /*keepdim=*/true));
  const Tensor power = at::view_as_real(transformed).square().sum(-1).mean(at::IntArrayRef{0, 1}) /
                       static_cast<double>(height * width);
  const auto options = at::TensorOptions().dtype(at::kDouble);
  const Tensor down = at::fft_fftfreq(height, 1.0, options).mul(static_cast<double>(height));
  const Tensor along = at::fft_fftfreq(width, 1.0, options).mul(static_cast<double>(width));
  // Cycles along the shorter side, so that a long image's rings are round.
  const auto shorter = static_cast<double>(std::min(height, width));
  const Tensor radius = (down.div(static_cast<double>(height)).square().unsqueeze(1) +
                         along.div(static_cast<double>(width)).square())
                            .sqrt()
                            .mul(shorter)
                            .round()
                            .to(at::kLong)
                            .flatten();
  const int64_t num_rings = std::min(height, width) / 2;
  const Tensor sums = radius.bincount(power.flatten(), num_rings + 1);
  const Tensor counts = radius.bincount({}, num_rings + 1);
  return (sums / counts).narrow(0, 1, num_rings).contiguous();
}

}  // namespace motet
