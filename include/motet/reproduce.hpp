// The published Table 1, end to end: train, sample, measure, compare, show.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "motet/run.hpp"

namespace motet {

/// Mean and standard deviation over runs.
struct Spread {
  double mean = 0.0;
  double sd = 0.0;
};

/// One row of [S23]'s Table 1 with its published numbers (10 runs, each with its own training; in
/// the reference code's units, docs/reproduction.md).
struct TableRow {
  std::string parameterisation;  ///< "energy" or "score"
  std::string sampler;           ///< a name of sampler_names()
  Spread ll;
  Spread w2;
  Spread gmm;
  /// "score/hmc-4-curve".
  std::string name() const { return parameterisation + "/" + sampler; }
};

/// The 15 rows in the published order.
const std::vector<TableRow>& table1_rows();

/// Rows picked by `selection`: any mix of row names ("score/u-la"), sampler names ("u-la": both
/// parameterisations) and "score" or "energy" (all rows of one). Empty: all 15. In the table's
/// order, each once. Throws ConfigError naming the nearest known word.
std::vector<TableRow> select_table1_rows(const std::vector<std::string>& selection);

struct ReproduceConfig {
  std::string folder = "out/table1";
  std::string preset = "paper";   ///< a name of preset_names()
  int64_t first_repeat = 1;       ///< in [1, 9999]
  int64_t num_repeats = 10;       ///< at least 1; the last repeat is 9999 or before
  std::vector<std::string> rows;  ///< as select_table1_rows takes them
  bool resume = false;            ///< add the missing rows to the repeats already in `folder`
  Compute compute = Compute::float32;
  bool mixed_precision = false;  ///< training in bfloat16 with float32 master weights
  std::string device = "cpu";
  int64_t train_steps = 15000;
  int64_t batch_size = 2000;
  /// In [16, 4000]: chains a row, and exact samples they are measured against.
  int64_t num_samples = 2000;
};

/// Makes the table's rows, repeat by repeat, into `folder`:
///   repeat-NN.json                  settings, training and every row's numbers; rewritten
///                                   atomically as each row finishes
///   repeat-NN/{ring,bar}[-energy].safetensors   the repeat's networks; found ones are used again
///                                   when they were trained as this repeat asks, else ConfigError
///   repeat-NN/SAMPLES.npy           samples of each row, for the figure
///   table1.json, table1.md, report.html         see summarise_table1
/// A repeat is independent of the others and of the machine: repeat k trains with seeds 10k + 1
/// .. 10k + 4 (ring, bar, ring-energy, bar-energy) and samples every row with seed 10k, hence from
/// the same starts and against the same exact samples. Throws ConfigError for bad settings, for a
/// repeat-NN.json that exists without `resume` or was made with other settings; DataError, before
/// any work, for files that cannot be written and while another process works in `folder` (it holds
/// a lock on reproduce.lock there, which ends with it, at a kill too); otherwise as run() and
/// run_train() do. After Interrupted, the same call with `resume` goes on.
void reproduce_table1(const ReproduceConfig& config, const RunHooks& hooks = {});

/// Writes table1.json (mean and standard deviation, n - 1 in the denominator, over the repeats
/// present; deviations from the published means in published standard deviations), table1.md and
/// report.html (the table and Figure 1) from every repeat-NN.json in `folder`. Throws DataError
/// when there is none or one is malformed, ConfigError when they were made with different settings.
void summarise_table1(const std::string& folder);

}  // namespace motet
