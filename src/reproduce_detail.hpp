// Shared by the parts of reproduce: one repeat, the summary over repeats, the page.
#pragma once

#include <string>
#include <vector>

#include "motet/reproduce.hpp"
#include "run_detail.hpp"

namespace motet::detail {

/// "repeat-07".
std::string repeat_name(int64_t repeat);
/// "score-hmc-4-curve.npy": the samples of a row inside its repeat's folder.
std::string samples_name(const std::string& row_name);
/// The settings that two repeats must share to be averaged.
Json settings_json(const ReproduceConfig& config);
/// The first key on which two settings differ, as "preset = \"paper\" here, \"corrected\" there";
/// "" when they agree.
std::string settings_difference(const Json& here, const Json& there);

/// Throws ConfigError when the rows cannot be sampled as the config says, for want of a device.
void check_sampling(const ReproduceConfig& config);
/// Makes the folder and those above it where they are missing; throws DataError.
void make_folder(const std::string& path);
/// Throws DataError when a file that the missing `rows` of the repeat will make cannot be written.
void check_repeat_files(const ReproduceConfig& config, const std::vector<TableRow>& rows,
                        int64_t repeat);
/// The repeat's file so far; a new one when there is none. Throws ConfigError when it exists
/// without config.resume, or was made with other settings.
Json open_repeat(const ReproduceConfig& config, int64_t repeat);
/// Makes the missing `rows` of one repeat; see reproduce_table1.
void reproduce_repeat(const ReproduceConfig& config, const std::vector<TableRow>& rows,
                      int64_t repeat, const RunHooks& hooks);

/// The parsed repeat-NN.json files of a folder, by name. Throws DataError for a malformed one.
std::vector<Json> read_repeats(const std::string& folder);
/// table1.json of the given repeats (at least one).
Json summarise(const std::vector<Json>& repeats);
/// table1.md of a summary.
std::string table1_markdown(const Json& summary);
/// report.html of a summary; `folder` holds the samples for Figure 1, panels whose samples are not
/// there are left out.
std::string table1_page(const Json& summary, const std::string& folder);

}  // namespace motet::detail
