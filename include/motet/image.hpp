// Images: PNG files in and out, and many images as one.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "motet/model.hpp"

namespace motet {

/// Largest width and height of a PNG that is read.
inline constexpr int64_t kMaxImageSide = 8192;

/// Whether events of this shape can be drawn: (1, H, W) or (3, H, W), H and W from 2 to
/// kMaxImageSide.
bool is_image(const std::vector<int64_t>& event_shape);

/// Reads a PNG of 8 bits or less a channel, grey, RGB or palette: (1, H, W) or (3, H, W) uint8.
/// Values are those of the file (sRGB; another gamma that the file states is converted). Throws
/// DataError for files over 64 MiB or kMaxImageSide, 16 bits a channel, transparency, truncated or
/// damaged files and all that libpng warns of.
Tensor read_png(const std::string& path);
/// The same from bytes in memory; `name` is for messages. For fuzzing and tests.
Tensor parse_png(std::string_view bytes, const std::string& name);
/// The bytes of a PNG of pixels (1, H, W) or (3, H, W) uint8. Throws ShapeError for all else.
std::string png_bytes(const Tensor& pixels);
/// Writes them atomically. Throws also DataError when it cannot be written.
void write_png(const std::string& path, const Tensor& pixels);

/// uint8 of values: `low` and below 0, `high` and above 255, linear and rounded between; NaN 0. Throws
/// ConfigError unless low < high, both finite.
Tensor pixels_of(const Tensor& values, double low = -1.0, double high = 1.0);
/// float64 low + (high - low) p / 255: what pixels stand for.
Tensor values_of(const Tensor& pixels, double low = -1.0, double high = 1.0);
/// Pixels (N, C, H, W) uint8 as one image (C, rows, columns) with num_columns images a row, a frame of
/// 1 pixel around each and the last row filled up in mid grey. Throws ShapeError for other pixels or
/// none, ConfigError for num_columns < 1.
Tensor image_grid(const Tensor& pixels, int64_t num_columns);
/// Every pixel of an image (C, H, W) as a square of `factor` pixels, so that small ones can be seen.
/// Throws ConfigError for factor < 1, ShapeError for other shapes.
Tensor enlarged(const Tensor& pixels, int64_t factor);

/// Power of the images' spatial frequencies: mean over images and channels of |F|^2 / (H W), F the
/// 2-D Fourier transform after the image's mean is taken off, over rings of |k|, rounded to whole
/// cycles along the shorter side, 1 .. min(H, W) / 2. images (N, C, H, W), any float dtype; float64 (min(H, W) / 2).
/// White noise of variance v has v everywhere. Throws ShapeError for other shapes.
Tensor power_spectrum(const Tensor& images);

}  // namespace motet
