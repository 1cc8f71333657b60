// PNG by libpng's simplified interface, which reports errors as text instead of jumping. A file's size
// is known from its header before memory is taken for its pixels.
#include <png.h>
#include <torch/types.h>

#include <sstream>

#include "error_shape.hpp"
#include "motet/error.hpp"
#include "motet/image.hpp"
#include "motet/io.hpp"

namespace motet {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{64} << 20;

// Frees what libpng holds, whatever happens in between.
struct Png {
  Png() { image.version = PNG_IMAGE_VERSION; }
  ~Png() { png_image_free(&image); }
  Png(const Png&) = delete;
  Png& operator=(const Png&) = delete;
  // libpng's own words; it also goes on after flaws that it warns of, which is not strict.
  bool has_trouble() const { return image.warning_or_error != 0; }
  png_image image{};
};

[[noreturn]] void refuse(const std::string& name, const std::string& why) {
  throw DataError("png: " + name + ": " + why);
}

void check_format(const Png& png, const std::string& name) {
  if (png.has_trouble()) {
    refuse(name, std::string("libpng says: ") + png.image.message);
  }
  if (png.image.width > kMaxImageSide || png.image.height > kMaxImageSide) {
    refuse(name, std::to_string(png.image.width) + " x " + std::to_string(png.image.height) +
                     " pixels, must be at most " + std::to_string(kMaxImageSide) + " a side");
  }
  if ((png.image.format & PNG_FORMAT_FLAG_LINEAR) != 0) {
    refuse(name, "16 bits a channel, must be 8 or less; convert it, or use a .npy file");
  }
  if ((png.image.format & PNG_FORMAT_FLAG_ALPHA) != 0) {
    refuse(name, "has transparency, which no model knows; flatten it");
  }
}

void check_pixels(const Tensor& pixels, const std::string& where) {
  if (!pixels.defined() || pixels.scalar_type() != at::kByte || pixels.dim() != 3 ||
      (pixels.size(0) != 1 && pixels.size(0) != 3) || pixels.numel() == 0) {
    std::ostringstream text;
    text << where << ": pixels ";
    if (pixels.defined()) {
      text << "are " << detail::dtype_text(pixels.scalar_type()) << " of shape "
           << detail::shape_text(pixels.sizes());
    } else {
      text << "are undefined";
    }
    throw ShapeError(text.str() + ", must be uint8 (1, H, W) or (3, H, W)");
  }
}

}  // namespace

Tensor parse_png(std::string_view bytes, const std::string& name) {
  Png png;
  if (png_image_begin_read_from_memory(&png.image, bytes.data(), bytes.size()) == 0) {
    refuse(name, std::string("is no PNG that can be read; libpng says: ") + png.image.message);
  }
  check_format(png, name);
  const bool is_grey = (png.image.format & PNG_FORMAT_FLAG_COLOR) == 0;
  png.image.format = is_grey ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  const auto height = static_cast<int64_t>(png.image.height);
  const auto width = static_cast<int64_t>(png.image.width);
  const Tensor pixels = at::zeros({height, width, is_grey ? 1 : 3}, at::kByte);
  const bool is_read = png_image_finish_read(&png.image, nullptr,
                                             pixels.mutable_data_ptr<uint8_t>(), 0, nullptr) != 0;
  if (!is_read || png.has_trouble()) {
    refuse(name, std::string("is damaged or cut short; libpng says: ") + png.image.message);
  }
  return pixels.permute({2, 0, 1}).contiguous();
}

Tensor read_png(const std::string& path) { return parse_png(read_file(path, kMaxFileBytes), path); }

std::string png_bytes(const Tensor& pixels) {
  check_pixels(pixels, "png");
  const Tensor rows = pixels.to(at::kCPU).permute({1, 2, 0}).contiguous();
  Png png;
  png.image.width = static_cast<png_uint_32>(rows.size(1));
  png.image.height = static_cast<png_uint_32>(rows.size(0));
  png.image.format = rows.size(2) == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(png.image);
  std::string bytes(size, '\0');
  if (png_image_write_to_memory(&png.image, bytes.data(), &size, 0, rows.const_data_ptr<uint8_t>(),
                                0, nullptr) == 0) {
    throw DataError(std::string("png: cannot be encoded; libpng says: ") + png.image.message);
  }
  bytes.resize(size);
  return bytes;
}

void write_png(const std::string& path, const Tensor& pixels) {
  write_file_atomic(path, png_bytes(pixels));
}

}  // namespace motet
