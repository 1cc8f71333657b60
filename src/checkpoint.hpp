// Checkpoints of long runs: safetensors files that hold the state of a run, the settings that
// decide its result, and when they were last written.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <string_view>

#include "motet/io.hpp"
#include "motet/run.hpp"

namespace motet::detail {

using Identity = std::map<std::string, std::string>;

/// Decides when a checkpoint is due, by the clock and by the number of steps.
class CheckpointClock {
 public:
  explicit CheckpointClock(const CheckpointConfig& config);
  /// Counts one step; true when a checkpoint should be written now (the clock then restarts).
  bool tick();

 private:
  CheckpointConfig config_;
  int64_t steps_ = 0;
  std::chrono::steady_clock::time_point last_;
};

/// Where a run keeps its checkpoint: the configured path, or the first of `files` that is written +
/// ".checkpoint"; empty when the run writes no file.
std::string checkpoint_path(const CheckpointConfig& config, const RunFiles& files);

/// Stamps `file` as a checkpoint of `kind` ("sample" or "train") made under `identity`; writes it.
void write_checkpoint(const std::string& path, TensorFile file, const std::string& kind,
                      const Identity& identity);
/// Reads it back. Throws DataError when it is not such a checkpoint, ConfigError naming the first
/// key of `identity` that differs.
TensorFile read_checkpoint(const std::string& path, const std::string& kind,
                           const Identity& identity);

/// After the run's files are in place. A checkpoint that cannot be removed does no harm.
void remove_checkpoint(const std::string& path);

/// Throws DataError "checkpoint: PATH: WHY".
[[noreturn]] void refuse(const std::string& path, const std::string& why);
/// Entry of a checkpoint; DataError naming it when it is missing.
const Tensor& checkpoint_tensor(const TensorFile& file, const std::string& path,
                                const std::string& name);
double checkpoint_number(const TensorFile& file, const std::string& path, const std::string& name);
std::vector<double> checkpoint_numbers(const TensorFile& file, const std::string& path,
                                       const std::string& name);
/// The same for a whole number in [0, max]; DataError for others.
int64_t checkpoint_count(const TensorFile& file, const std::string& path, const std::string& name,
                         int64_t max);

void pack(const TrainState& state, TensorFile& file);
TrainState unpack_train(const TensorFile& file, const std::string& path);
void pack(const AnnealState& state, TensorFile& file);
AnnealState unpack_anneal(const TensorFile& file, const std::string& path,
                          const std::string& device);
/// Per-level statistics as tensors "PREFIX.counts" (n, 7) int64, "PREFIX.step_size", "PREFIX.ess",
/// "PREFIX.families" and "PREFIX.squared_jump" (n) and, where masses were found, "PREFIX.mass"
/// (n, d), 1 for levels without.
void pack_levels(const std::vector<LevelStats>& levels, const std::string& prefix,
                 TensorFile& file);
std::vector<LevelStats> unpack_levels(const TensorFile& file, const std::string& path,
                                      const std::string& prefix);

/// A line's number of points at each level as "PREFIX.num_points" (n) int64; nothing when empty.
void pack_points(const std::vector<int64_t>& num_points, const std::string& prefix,
                 TensorFile& file);
/// Throws DataError unless there are num_levels, each in [2, 64].
std::vector<int64_t> unpack_points(const TensorFile& file, const std::string& path,
                                   const std::string& prefix, size_t num_levels);

/// FNV-1a hash of a file's bytes, "fnv1a64:0123456789abcdef"; tells weights files apart.
std::string file_hash(const std::string& path);
/// The same of a text.
std::string text_hash(std::string_view text);

/// What an interrupted run tells its user.
std::string interrupted_text(const std::string& checkpoint);

}  // namespace motet::detail
