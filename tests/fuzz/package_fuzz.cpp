// libFuzzer target of the look at an exported program before it is loaded: any bytes are told to be
// TorchScript or a package, or give a DataError. The file lies in memory, and nothing of it is run.
#include <sys/mman.h>
#include <torch/types.h>
#include <unistd.h>

#include "motet/error.hpp"
#include "pretrained_program_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int file = memfd_create("package", 0);
  if (ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) < 0) {
    __builtin_trap();
  }
  try {
    motet::detail::program_contents("/proc/self/fd/" + std::to_string(file), "fuzz: ");
  } catch (const motet::DataError&) {
    return 0;
  }
  return 0;
}
