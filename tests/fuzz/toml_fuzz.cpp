// libFuzzer target of the TOML configs: any text gives a checked config or a ConfigError, for
// sampling and for training. ShapeError is what an analytic law says of parameters that do not fit
// together.
#include <torch/types.h>

#include "motet/error.hpp"
#include "motet/run.hpp"

namespace {

template <typename Parse>
void try_parse(Parse parse) {
  try {
    parse();
  } catch (const motet::ConfigError&) {
    return;
  } catch (const motet::ShapeError&) {
    return;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try_parse([&] { motet::parse_config(text, "fuzz.toml"); });
  try_parse([&] { motet::parse_train_config(text, "fuzz.toml"); });
  return 0;
}
