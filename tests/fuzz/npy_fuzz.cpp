// libFuzzer target of the .npy reader: any bytes give a float tensor or a DataError.
#include <torch/types.h>

#include "motet/error.hpp"
#include "motet/io.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    const at::Tensor array = motet::parse_npy(bytes, "fuzz");
    if (array.nbytes() > size || array.dim() < 1 || array.dim() > 8) {
      __builtin_trap();
    }
  } catch (const motet::DataError&) {
    return 0;
  }
  return 0;
}
