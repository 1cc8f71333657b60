// libFuzzer target of the motet.json of exported programs: any text gives a specification whose
// times and levels agree, or a DataError. The programs themselves are torch's to load.
#include <torch/types.h>

#include "motet/error.hpp"
#include "pretrained_program_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const motet::detail::ProgramFile file = motet::detail::parse_program_file(text, "fuzz");
    if (static_cast<int64_t>(file.output.times.size()) != file.output.schedule.num_levels()) {
      __builtin_trap();
    }
  } catch (const motet::DataError&) {
    return 0;
  }
  return 0;
}
