// libFuzzer target of the PNG reader: any bytes give pixels of a stated shape or a DataError.
#include <torch/types.h>

#include "motet/error.hpp"
#include "motet/image.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    const at::Tensor pixels = motet::parse_png(bytes, "fuzz");
    const bool has_shape = pixels.dim() == 3 && (pixels.size(0) == 1 || pixels.size(0) == 3);
    if (!has_shape || pixels.scalar_type() != at::kByte || pixels.size(1) > motet::kMaxImageSide ||
        pixels.size(2) > motet::kMaxImageSide) {
      __builtin_trap();
    }
  } catch (const motet::DataError&) {
    return 0;
  }
  return 0;
}
