// The driver of `motet reproduce table1`: checks the settings, makes the repeats one by one, sums
// up after each, so that a long run shows its table from the first repeat on.
#include "motet/reproduce.hpp"

#include <algorithm>
#include <filesystem>

#include "io_detail.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "reproduce_detail.hpp"

namespace motet {
namespace {

void check_within(const char* key, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) {
    throw ConfigError("reproduce: " + std::string(key) + " = " + std::to_string(value) +
                      ", must be in [" + std::to_string(low) + ", " + std::to_string(high) + "]");
  }
}

// Under kMinSamples points run() measures nothing; over kMaxSamples W2 would be measured on a part
// of them, which the published table's units do not allow.
constexpr int64_t kLastRepeat = 9999;
constexpr int64_t kMaxCount = 16'000'000;
constexpr int64_t kMinSamples = 16;
constexpr int64_t kMaxSamples = 4000;

void check(const ReproduceConfig& config) {
  check_within("first_repeat", config.first_repeat, 1, kLastRepeat);
  check_within("num_repeats", config.num_repeats, 1, kLastRepeat);
  if (config.first_repeat + config.num_repeats - 1 > kLastRepeat) {
    throw ConfigError("reproduce: repeats " + std::to_string(config.first_repeat) + " .. " +
                      std::to_string(config.first_repeat + config.num_repeats - 1) +
                      ", must end at " + std::to_string(kLastRepeat) + " or before");
  }
  check_within("train_steps", config.train_steps, 1, kMaxCount);
  check_within("batch_size", config.batch_size, 1, kMaxCount);
  check_within("num_samples", config.num_samples, kMinSamples, kMaxSamples);
  make_sampler("reverse", config.preset, NoiseSchedule::cosine(100));  // checks the preset's name
  detail::check_sampling(config);
}

// Where the table over the repeats goes.
struct TableFiles {
  std::string json;
  std::string markdown;
  std::string page;
};

TableFiles table_files(const std::string& folder) {
  const std::filesystem::path path(folder);
  return {(path / "table1.json").string(), (path / "table1.md").string(),
          (path / "report.html").string()};
}

void check_writable(const TableFiles& files) {
  for (const std::string& path : {files.json, files.markdown, files.page}) {
    detail::check_writable(path);
  }
}

}  // namespace

namespace detail {

std::string repeat_name(int64_t repeat) {
  const std::string digits = std::to_string(repeat);
  return "repeat-" + std::string(digits.size() < 2 ? 2 - digits.size() : 0, '0') + digits;
}

std::string samples_name(const std::string& row_name) {
  std::string name = row_name;
  std::replace(name.begin(), name.end(), '/', '-');
  return name + ".npy";
}

Json settings_json(const ReproduceConfig& config) {
  return {{"preset", config.preset},
          {"compute", to_string(config.compute)},
          {"train_precision", config.mixed_precision ? "mixed" : "float32"},
          {"train_steps", config.train_steps},
          {"batch_size", config.batch_size},
          {"num_samples", config.num_samples}};
}

std::string settings_difference(const Json& here, const Json& there) {
  for (const auto& [key, value] : here.items()) {
    const Json other = there.value(key, Json());
    if (other != value) {
      return key + " = " + value.dump() + " here, " + other.dump() + " there";
    }
  }
  return "";
}

}  // namespace detail

void reproduce_table1(const ReproduceConfig& config, const RunHooks& hooks) {
  check(config);
  const std::vector<TableRow> rows = select_table1_rows(config.rows);
  detail::make_folder(config.folder);
  const detail::LockFile lock(
      (std::filesystem::path(config.folder) / "reproduce.lock").string(),
      "reproduce: " + config.folder + " is in use by another motet reproduce",
      "wait for it, or give another --out");
  // What cannot go on or be written is found before hours of work.
  check_writable(table_files(config.folder));
  const int64_t last_repeat = config.first_repeat + config.num_repeats - 1;
  for (int64_t repeat = config.first_repeat; repeat <= last_repeat; ++repeat) {
    detail::check_repeat_files(config, rows, repeat);
  }
  for (int64_t repeat = config.first_repeat; repeat <= last_repeat; ++repeat) {
    detail::reproduce_repeat(config, rows, repeat, hooks);
    summarise_table1(config.folder);
  }
}

void summarise_table1(const std::string& folder) {
  const detail::Json summary = detail::summarise(detail::read_repeats(folder));
  const TableFiles files = table_files(folder);
  check_writable(files);
  write_file_atomic(files.json, detail::dump(summary));
  write_file_atomic(files.markdown, detail::table1_markdown(summary));
  write_file_atomic(files.page, detail::table1_page(summary, folder));
}

}  // namespace motet
