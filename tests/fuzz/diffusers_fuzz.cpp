// libFuzzer target of the JSON files of a diffusers folder: any object gives an architecture, or a
// schedule, or a DataError or ConfigError. What was read is built and written again.
#include <torch/types.h>

#include <nlohmann/json.hpp>

#include "json_object.hpp"
#include "motet/error.hpp"
#include "nets/unet2d.hpp"
#include "pretrained_detail.hpp"

namespace {

template <typename Read>
void try_read(Read read) {
  try {
    read();
  } catch (const motet::DataError&) {
    return;
  } catch (const motet::ConfigError&) {
    return;
  }
}

void read_config(const nlohmann::json& json) {
  const motet::detail::UNet2DConfig config = motet::detail::unet2d_config(json, "fuzz");
  if (motet::detail::unet2d_config(motet::detail::to_json(config), "fuzz") != config) {
    __builtin_trap();
  }
  motet::detail::unet2d(config, "fuzz")->expected_tensors();
}

void read_scheduler(const nlohmann::json& json) {
  const motet::detail::OutputSpec output = motet::detail::scheduler_config(json, "fuzz").output;
  if (static_cast<int64_t>(output.times.size()) != output.schedule.num_levels()) {
    __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try_read([&] {
    const nlohmann::json json = motet::detail::parse_json_object(text, "fuzz");
    try_read([&] { read_config(json); });
    try_read([&] { read_scheduler(json); });
  });
  return 0;
}
