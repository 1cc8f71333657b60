// libFuzzer target of the metadata of weights files: any texts give Weights or a DataError. The
// input is split at zero bytes into the values of the keys below; the file lies in memory.
#include <sys/mman.h>
#include <torch/types.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "motet/error.hpp"
#include "motet/io.hpp"

namespace {

// A safetensors file without tensors that has these metadata.
std::string file_of(std::string_view text) {
  nlohmann::json metadata = {{"motet.format", "1"}, {"motet.architecture", "residual_mlp"}};
  for (const char* key : {"motet.config", "motet.parameterisation", "motet.schedule"}) {
    const size_t end = std::min(text.find('\0'), text.size());
    metadata[key] = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  const nlohmann::json header = {{"__metadata__", metadata}};
  const std::string json = header.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const uint64_t size = json.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof(size)) + json;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int file = memfd_create("weights", 0);
  const std::string bytes = file_of({reinterpret_cast<const char*>(data), size});
  if (ftruncate(file, 0) != 0 || pwrite(file, bytes.data(), bytes.size(), 0) < 0) {
    __builtin_trap();
  }
  try {
    motet::load_weights("/proc/self/fd/" + std::to_string(file));
  } catch (const motet::DataError&) {
    return 0;
  }
  return 0;
}
