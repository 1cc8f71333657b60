// Exported programs: what a file is, told by its contents, then its motet.json, then the program,
// whose reference pairs are replayed. A program that two models of a process share is loaded once.
#include <caffe2/serialize/inline_container.h>
#include <sys/stat.h>
#include <torch/types.h>

#include <algorithm>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "error_shape.hpp"
#include "io_detail.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "motet/pretrained.hpp"
#include "nets/engine.hpp"
#include "pretrained_detail.hpp"
#include "pretrained_program_file.hpp"

namespace motet {
namespace detail {
namespace {

constexpr int64_t kMaxText = 8'000'000;
constexpr size_t kMaxMetadata = 65'536;

const char* const kPickle =
    "which motet never loads, because unpickling runs code from the file; convert it: "
    "tools/export/guided_diffusion.py for checkpoints of guided-diffusion, tools/export/module.py "
    "for all others";

bool ends_with(const std::vector<std::string>& names, const std::string& name) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& candidate) {
    return candidate == name || candidate.ends_with("/" + name);
  });
}

// The metadata of a package's code, strings by name: where it is not that, there are none.
std::map<std::string, std::string> package_metadata(caffe2::serialize::PyTorchStreamReader& reader,
                                                    const std::vector<std::string>& names) {
  std::map<std::string, std::string> metadata;
  for (const std::string& name : names) {
    const bool is_ours = name.find("data/aotinductor/") != std::string::npos &&
                         name.ends_with("wrapper_metadata.json");
    if (!is_ours || reader.getRecordSize(name) > kMaxMetadata) {
      continue;
    }
    const auto [data, size] = reader.getRecord(name);
    const std::string_view text(static_cast<const char*>(data.get()), size);
    const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    for (const auto& [key, value] : json.items()) {
      if (value.is_string()) {
        metadata[key] = value.get<std::string>();
      }
    }
  }
  return metadata;
}

ProgramContents contents_of_zip(const std::string& path, const std::string& prefix) {
  caffe2::serialize::PyTorchStreamReader reader(path);
  const std::vector<std::string> names = reader.getAllRecords();
  const auto in_folder = [&](const std::string& folder) {
    return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return name.starts_with(folder) || name.find("/" + folder) != std::string::npos;
    });
  };
  if (in_folder("data/aotinductor/")) {
    return {.kind = ProgramKind::aot_inductor, .metadata = package_metadata(reader, names)};
  }
  if (ends_with(names, "models/model.json")) {
    throw DataError(prefix +
                    "is an ExportedProgram of torch.export that is not compiled; compile it with "
                    "torch._inductor.aoti_compile_and_package, or export it again with "
                    "tools/export/module.py");
  }
  if (ends_with(names, "constants.pkl") && in_folder("code/")) {
    return {.kind = ProgramKind::torchscript, .metadata = {}};
  }
  if (ends_with(names, "data.pkl")) {
    throw DataError(prefix + "is a pickle (as torch.save makes), " + kPickle);
  }
  throw DataError(prefix +
                  "is a zip archive, but neither a TorchScript file nor an AOTInductor "
                  "package; tools/export/module.py makes both");
}

// CPU instructions by the words that torch writes into packages; a word that is not known is of a
// CPU that this torch does not know either.
bool has_instructions(const std::string& word) {
#if defined(__x86_64__)
  if (word == "AVX2") {
    return __builtin_cpu_supports("avx2") != 0;
  }
  if (word == "AVX512") {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
  }
  if (word == "AVX512_VNNI") {
    return __builtin_cpu_supports("avx512vnni") != 0;
  }
  if (word == "AMX_TILE") {
    return bfloat16_engine() != nullptr;
  }
  return word == "INVALID_VEC_ISA";  // compiled without vector instructions
#else
  return !word.empty();
#endif
}

// Programs that are loaded, by file (its path, size and time of change) and device, for as long as
// a model uses them.
ProgramPtr shared_program(const std::string& path, ProgramKind kind, const at::Device& device,
                          const std::string& prefix) {
  using Key = std::tuple<std::string, int64_t, int64_t, int64_t, std::string>;
  static std::mutex mutex;
  static std::map<Key, std::weak_ptr<const Program>> loaded;
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    throw DataError(prefix + "cannot be read");
  }
  const Key key = {std::filesystem::weakly_canonical(path).string(), info.st_size,
                   info.st_mtim.tv_sec, info.st_mtim.tv_nsec, device.str()};
  const std::lock_guard lock(mutex);
  std::erase_if(loaded, [](const auto& entry) { return entry.second.expired(); });
  if (ProgramPtr program = loaded[key].lock()) {
    return program;
  }
  ProgramPtr program = open_program(path, kind, device, prefix);
  loaded[key] = program;
  return program;
}

ProgramFile read_file_beside(const std::string& path, const std::string& prefix) {
  const std::string json = program_json_path(path);
  if (!path_exists(json)) {
    throw DataError(prefix + "the file beside it that says what it is, " + json +
                    ", is missing; tools/export/ writes both, docs/loading.md has its keys");
  }
  return parse_program_file(read_file(json, kMaxText), "program: " + json);
}

std::string input_text(const ProgramInput& input) {
  const std::string numbers =
      input.spec.shape.empty() ? "a number" : "numbers " + shape_text(input.spec.shape);
  return input.spec.num_values > 0
             ? "a whole number from 0 to " + std::to_string(input.spec.num_values - 1)
             : numbers + ", " + dtype_text(input.dtype);
}

void check_kind(const ProgramFile& file, ProgramKind kind, const std::string& prefix) {
  const bool is_gradient_known = file.spec.returns == ProgramReturns::energy_and_gradient;
  if (kind == ProgramKind::aot_inductor && is_energy(file.output.prediction) &&
      !is_gradient_known) {
    throw DataError(prefix +
                    "is an AOTInductor package, through which no gradient passes, but its energy "
                    "needs one; export it as TorchScript, or so that it returns (E, grad E)");
  }
}

void check_arguments(const Program& program, const ProgramSpec& spec, const std::string& prefix) {
  const auto expected = static_cast<int64_t>(spec.inputs.size()) + 2;
  if (program.num_arguments() != expected) {
    throw DataError(prefix + "takes " + std::to_string(program.num_arguments()) +
                    " arguments, but motet.json has " + std::to_string(expected) +
                    ": x, the time and " + std::to_string(expected - 2) + " inputs");
  }
}

}  // namespace

std::vector<std::pair<std::string, std::string>> describe_program(const std::string& path) {
  const std::string prefix = "program: " + path + ": ";
  const ProgramKind kind = program_contents(path, prefix).kind;
  const ProgramFile file = read_file_beside(path, prefix);
  const ProgramSpec& spec = file.spec;
  std::vector<std::pair<std::string, std::string>> rows = {
      {"program", kind == ProgramKind::torchscript ? "TorchScript" : "AOTInductor package"},
      {"event shape", shape_text(spec.event_shape)},
      {"data", file.data_units + (file.data_range ? ", " + six_digits((*file.data_range)[0]) +
                                                        " to " + six_digits((*file.data_range)[1])
                                                  : "")},
      {"prediction", to_string(file.output.prediction)},
      {"density", is_energy(file.output.prediction) ? "an energy" : "a score only"},
      {"levels", std::to_string(file.output.schedule.num_levels())},
      {"dtype", dtype_text(spec.dtype)},
      {"rows at once", spec.batch_size == 0 ? "any" : std::to_string(spec.batch_size)}};
  for (const ProgramInput& input : spec.inputs) {
    rows.emplace_back("input " + quoted_text(input.spec.name), input_text(input));
  }
  rows.insert(rows.end(), file.provenance.begin(), file.provenance.end());
  return rows;
}

ProgramContents program_contents(const std::string& path, const std::string& prefix) {
  char first[4] = {};
  {
    const InputFile file(path, "program");
    if (file.size() < static_cast<int64_t>(sizeof(first))) {
      throw DataError(prefix + "file of " + std::to_string(file.size()) +
                      " bytes; it is truncated or no program");
    }
    file.read(first, sizeof(first), 0);
  }
  const std::string_view bytes(first, sizeof(first));
  if (bytes.starts_with("PK\x03\x04")) {
    try {
      return contents_of_zip(path, prefix);
    } catch (const c10::Error&) {
      throw DataError(prefix +
                      "cannot be read as a zip archive of torch; it is truncated or broken");
    }
  }
  const bool is_pickle = !foreign_kind(bytes).empty();
  throw DataError(prefix +
                  (is_pickle
                       ? std::string("is a pickle (as old versions of torch.save make), ") + kPickle
                       : "is neither a TorchScript file nor an AOTInductor package; "
                         "tools/export/module.py makes both"));
}

void check_machine(const ProgramContents& contents, const at::Device& device,
                   const std::string& prefix) {
  const auto of = [&](const std::string& key) {
    const auto found = contents.metadata.find(key);
    return found == contents.metadata.end() ? std::string() : found->second;
  };
  const std::string made_for = of("AOTI_DEVICE_KEY");
  const std::string asked = device.is_cuda() ? "cuda" : "cpu";
  if (!made_for.empty() && made_for != asked) {
    throw ConfigError(prefix + "was compiled for device " + quoted_text(made_for) +
                      ", but device = \"" + asked +
                      "\"; export it for that device, or as TorchScript");
  }
#if defined(__x86_64__)
  const std::string machine = of("AOTI_MACHINE");
  if (!machine.empty() && machine != "x86_64") {
    throw DataError(prefix + "was compiled for " + quoted_text(machine) +
                    ", but this machine is x86_64; compile it here, or export it as TorchScript");
  }
#endif
  std::istringstream words(of("AOTI_CPU_ISA"));
  for (std::string word; words >> word;) {
    if (!has_instructions(word)) {
      throw DataError(prefix + "was compiled for a CPU with " + quoted_text(word) +
                      ", which this one lacks; compile it here, or export it as TorchScript");
    }
  }
}

}  // namespace detail

ModelPtr load_program(const std::string& path, std::string name, const PretrainedOptions& options) {
  const std::string prefix = "program: " + path + ": ";
  const at::Device device = detail::device_from(options.device);
  const detail::ProgramContents contents = detail::program_contents(path, prefix);
  detail::ProgramFile file = detail::read_file_beside(path, prefix);
  detail::check_kind(file, contents.kind, prefix);
  detail::check_machine(contents, device, prefix);
  const detail::Inputs given(options.inputs.begin(), options.inputs.end());
  std::vector<Tensor> inputs = detail::program_inputs(file.spec, given, prefix);
  const detail::ProgramPairs pairs =
      detail::read_program_pairs(detail::program_pairs_path(path), file, prefix);
  file.output = detail::respaced(std::move(file.output), options.num_levels, prefix);
  const detail::ProgramPtr program = detail::shared_program(path, contents.kind, device, prefix);
  detail::check_arguments(*program, file.spec, prefix);
  detail::replay_pairs(*program, file, pairs, prefix);
  return detail::prediction_model(
      detail::program_network(program, file.spec, std::move(inputs), prefix),
      std::move(file.output), std::move(name));
}

}  // namespace motet
