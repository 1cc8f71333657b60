// libFuzzer target of the safetensors reader: any bytes give a TensorFile or a DataError. What was
// read is also touched, so that a tensor which points outside its data is seen by the sanitizer.
#include <torch/types.h>

#include "motet/error.hpp"
#include "motet/io.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    const motet::TensorFile file = motet::parse_safetensors(bytes, "fuzz");
    for (const auto& [name, tensor] : file.tensors) {
      const auto* begin = static_cast<const uint8_t*>(tensor.const_data_ptr());
      volatile uint8_t last = tensor.nbytes() > 0 ? begin[tensor.nbytes() - 1] : uint8_t{0};
      (void)last;
    }
  } catch (const motet::DataError&) {
    return 0;
  }
  return 0;
}
