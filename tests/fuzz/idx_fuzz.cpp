// libFuzzer target of the idx reader, plain or gzip: any bytes give bytes of a stated shape or a
// DataError.
#include <torch/types.h>

#include "motet/error.hpp"
#include "motet/io.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    const at::Tensor entries = motet::parse_idx(bytes, "fuzz");
    if (entries.scalar_type() != at::kByte || entries.dim() < 1 || entries.dim() > 4 ||
        entries.numel() < 1) {
      __builtin_trap();
    }
  } catch (const motet::DataError&) {
    return 0;
  }
  return 0;
}
