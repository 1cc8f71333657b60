// libFuzzer target of a folder of diffusers in shards: any texts for its index give a list of files
// inside the folder, or a DataError.
#include <stdlib.h>
#include <torch/types.h>

#include <filesystem>
#include <fstream>

#include "motet/error.hpp"
#include "motet/pretrained.hpp"

namespace {

namespace fs = std::filesystem;

/// A folder with what an index needs beside it; removed at the end.
class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "fuzz_folder_XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) {
      __builtin_trap();
    }
    path_ = name;
    write("config.json", "{}");
    write("scheduler_config.json", "{}");
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  void write(const std::string& name, std::string_view text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Folder folder;
  folder.write("diffusion_pytorch_model.safetensors.index.json",
               {reinterpret_cast<const char*>(data), size});
  try {
    for (const std::string& file : motet::pretrained_files(folder.path().string())) {
      if (fs::path(file).lexically_normal().parent_path() != folder.path()) {
        __builtin_trap();
      }
    }
  } catch (const motet::DataError&) {
    return 0;
  }
  return 0;
}
