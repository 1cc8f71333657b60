// libFuzzer target of .eqx files: any bytes give a model or a DataError. The file lies in memory.
#include <sys/mman.h>
#include <torch/types.h>
#include <unistd.h>

#include "motet/error.hpp"
#include "motet/pretrained.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int file = memfd_create("mixer", 0);
  if (ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) < 0) {
    __builtin_trap();
  }
  try {
    motet::load_mixer("/proc/self/fd/" + std::to_string(file), "fuzz");
  } catch (const motet::DataError&) {
    return 0;
  }
  return 0;
}
