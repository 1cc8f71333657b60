// libFuzzer target of the motet.json of guided-diffusion folders: any text gives flags that read
// back as they were written, from which a network and its schedule are built, or a DataError or
// ConfigError.
#include <torch/types.h>

#include "motet/error.hpp"
#include "pretrained_guided.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const motet::detail::GuidedFile file = motet::detail::parse_guided_file(text, "fuzz");
    const std::string again = motet::detail::guided_file_text(file);
    const motet::detail::GuidedFile twin = motet::detail::parse_guided_file(again, "fuzz");
    if (motet::detail::guided_file_text(twin) != again) {
      __builtin_trap();
    }
    motet::detail::guided_times(file.diffusion);
    const auto network = file.is_classifier ? motet::detail::adm_classifier(file.network)
                                            : motet::detail::adm_unet(file.network);
    network->expected_tensors();
  } catch (const motet::DataError&) {
    return 0;
  } catch (const motet::ConfigError&) {
    return 0;
  }
  return 0;
}
