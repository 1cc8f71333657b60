// What is said of an exported program beside it: PATH.motet.json, and the reference pairs in
// PATH.pairs.safetensors. The keys: docs/loading.md, Exported programs.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nets/network.hpp"
#include "nets/program.hpp"

namespace motet::detail {

/// How many reference pairs a program has.
inline constexpr int64_t kNumPairs = 3;

/// A program's motet.json.
struct ProgramFile {
  ProgramSpec spec;   ///< how it is called
  OutputSpec output;  ///< how what it returns is read
  /// What the numbers of a point are: "RGB intensities", and the range that the data fill.
  std::string data_units;
  std::optional<std::array<double, 2>> data_range;
  std::map<std::string, std::string> provenance;
};

/// Reads the text of a motet.json. Throws DataError "WHERE: ..." for text that is not JSON, for
/// keys that are unknown, missing or twice there, values that cannot be, and sizes beyond the
/// limits: 100,000 levels, 2^28 numbers a point, 32 inputs of 2^26 numbers.
ProgramFile parse_program_file(std::string_view text, const std::string& where);

/// The rows of describe_pretrained(), from motet.json alone: the program is not loaded.
std::vector<std::pair<std::string, std::string>> describe_program(const std::string& path);

/// The names of the files beside a program.
std::string program_json_path(const std::string& path);
std::string program_pairs_path(const std::string& path);

/// A program's reference inputs and what its maker's torch returned for them, kNumPairs rows each.
struct ProgramPairs {
  at::Tensor x, time;              ///< float32
  std::vector<at::Tensor> inputs;  ///< in the spec's order and dtypes
  at::Tensor output;               ///< of returns = "output"; else undefined
  at::Tensor energy, gradient;     ///< of the others; else undefined
};

/// Reads PATH.pairs.safetensors. Throws DataError, opened by `prefix`, for tensors that are
/// missing, unknown, of another shape or dtype, not finite, and for times that are of no level.
ProgramPairs read_program_pairs(const std::string& path, const ProgramFile& file,
                                const std::string& prefix);

/// Runs the program on the pairs and throws DataError, opened by `prefix`, where an output differs
/// by more than pair_tolerance() of the largest number of all three.
void replay_pairs(const Program& program, const ProgramFile& file, const ProgramPairs& pairs,
                  const std::string& prefix);
/// 1e-6 for float64 (pairs are float32), 1e-4 for float32 (5e-3 on CUDA, whose convolutions round
/// to 10 bits), 1e-2 for float16, 5e-2 for bfloat16.
double pair_tolerance(at::ScalarType dtype, const at::Device& device);

/// What a file holds, told by its contents, which are looked at but not run.
struct ProgramContents {
  ProgramKind kind = ProgramKind::torchscript;
  /// Of a package: what torch wrote of the machine that compiled it ("AOTI_CPU_ISA": "AVX512").
  std::map<std::string, std::string> metadata;
};

/// Throws DataError, opened by `prefix`, for a pickle, an ExportedProgram that is not compiled, and
/// all that is neither kind.
ProgramContents program_contents(const std::string& path, const std::string& prefix);

/// Throws ConfigError, opened by `prefix`, for a package that was compiled for another device than
/// `device`, DataError for one of another system or of a CPU with instructions that this one lacks.
void check_machine(const ProgramContents& contents, const at::Device& device,
                   const std::string& prefix);

}  // namespace motet::detail
