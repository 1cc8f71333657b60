// One repeat of the table: two networks for each parameterisation, then every row from them. What
// is done is on disk at once, so that a stopped repeat goes on where it was.
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <numeric>
#include <set>

#include "checkpoint.hpp"
#include "io_detail.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "reproduce_detail.hpp"
#include "sample_run.hpp"
#include "settings.hpp"

namespace motet::detail {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 2> kFactors{"ring", "bar"};

uint64_t sampling_seed(int64_t repeat) { return static_cast<uint64_t>(10 * repeat); }

uint64_t training_seed(int64_t repeat, const std::string& parameterisation, size_t factor) {
  return sampling_seed(repeat) + (parameterisation == "score" ? 1 : 3) + factor;
}

std::string weights_name(const std::string& parameterisation, const std::string& factor) {
  return factor + (parameterisation == "energy" ? "-energy" : "") + ".safetensors";
}

// The reference code's energy is ||f(x) - x||^2, not the paper's ||f(x)||^2.
TrainJob training_job(const ReproduceConfig& config, int64_t repeat,
                      const std::string& parameterisation, size_t factor) {
  const std::string network = parameterisation == "score" ? "score" : "energy_residual";
  const std::string toml =
      "seed = " + std::to_string(training_seed(repeat, parameterisation, factor)) +
      "\n[data]\nset = \"" + kFactors[factor] + "\"\n[network]\nparameterisation = \"" + network +
      "\"\n[train]\nnum_steps = " + std::to_string(config.train_steps) +
      "\nbatch_size = " + std::to_string(config.batch_size) +
      "\nmixed_precision = " + (config.mixed_precision ? "true" : "false") + "\n";
  return parse_train_config(toml, "reproduce");
}

SampleConfig sampling_config(const ReproduceConfig& config, const TableRow& row, int64_t repeat,
                             const std::string& folder) {
  std::string toml = "seed = " + std::to_string(sampling_seed(repeat)) +
                     "\nnum_samples = " + std::to_string(config.num_samples) + "\nsampler = \"" +
                     row.sampler + "\"\npreset = \"" + config.preset + "\"\ncompute = \"" +
                     to_string(config.compute) + "\"\ndevice = " + to_toml(Value(config.device)) +
                     "\n";
  for (const char* factor : kFactors) {
    toml += "[model." + std::string(factor) + "]\nweights = \"" +
            weights_name(row.parameterisation, factor) + "\"\n";
  }
  toml +=
      "[metrics]\ntarget = \"product\"\nnum_samples = " + std::to_string(config.num_samples) + "\n";
  return parse_config(toml, "reproduce", {}, folder);
}

// The same hooks, with `label` in front of the phase.
RunHooks labelled(const RunHooks& hooks, const std::string& label) {
  RunHooks result = hooks;
  if (hooks.progress) {
    result.progress = [progress = hooks.progress, label](const Progress& now) {
      Progress named = now;
      named.phase = label;
      progress(named);
    };
  }
  return result;
}

// Files of older versions may spell a config otherwise: both are compared as they resolve now.
bool is_same_config(const std::string& text, const TrainJob& job) {
  try {
    return parse_train_config(text, "reproduce").toml == job.toml;
  } catch (const ConfigError&) {
    return false;
  }
}

std::string report_path(fs::path weights) { return weights.replace_extension(".json").string(); }

// Trains one network, or takes the one that is there.
void train_network(const TrainJob& job, const std::string& path, bool resume,
                   const RunHooks& hooks) {
  const std::string checkpoint = path + ".checkpoint";
  if (path_exists(path)) {
    const std::map<std::string, std::string> provenance = load_weights(path).provenance;
    const auto found = provenance.find("config");
    if (found == provenance.end() || !is_same_config(found->second, job)) {
      throw ConfigError("reproduce: " + path +
                        " was not trained as this repeat asks (its config differs); remove it, or "
                        "choose another --out");
    }
    remove_checkpoint(checkpoint);  // there when the training was killed after its last write
    return;
  }
  TrainJob checkpointed = job;
  checkpointed.checkpoint.path = checkpoint;
  RunFiles files;
  files.weights = path;
  files.json = report_path(path);
  files.resume = resume && path_exists(checkpoint);
  run_train(checkpointed, files, hooks);
}

// Null where nothing was proposed, as in the reverse process.
Json mean_acceptance(const Json& levels) {
  double sum = 0.0;
  for (const Json& level : levels) {
    const Json& acceptance = level.at("acceptance");
    if (acceptance.is_null()) {
      return nullptr;
    }
    sum += acceptance.get<double>() / static_cast<double>(levels.size());
  }
  return sum;
}

int64_t total_invalid(const Json& levels) {
  return std::accumulate(
      levels.begin(), levels.end(), int64_t{0},
      [](int64_t total, const Json& level) { return total + int64_t(level.at("num_invalid")); });
}

// What a row keeps of its run's report.
Json row_json(const RunReport& report, const SampleConfig& config) {
  const Json run = Json::parse(report.json);
  const Json& levels = run.at("levels");
  Json row;
  row["metrics"] = run.at("metrics");
  row["evaluations_per_chain"] = run.at("evaluations_per_chain");
  row["acceptance"] = {{"mean", mean_acceptance(levels)},
                       {"last_level", levels.back().at("acceptance")}};
  row["num_invalid"] = total_invalid(levels);
  row["seconds"] = run.at("seconds");
  row["compute_used"] = run.at("compute_used");
  row["seed"] = config.seed;
  row.update(environment_json(config.device));
  return row;
}

// Metrics of independent exact samples: what a perfect sampler would score.
Json exact_json(const Tensor& reference, int64_t repeat) {
  Rng rng = Rng(sampling_seed(repeat)).split("exact");
  const Tensor exact = sample_product_benchmark(reference.size(0), rng);
  return metrics_json(product_metrics(exact, reference, rng), reference.size(0));
}

Json new_repeat(const ReproduceConfig& config, int64_t repeat) {
  Json json;
  json["format"] = "motet.table1.repeat.1";
  json["repeat"] = repeat;
  json["settings"] = settings_json(config);
  json["exact"] = nullptr;
  json["rows"] = Json::object();
  return json;
}

// The weights and the reports of the networks that a row needs, and the row's samples.
std::set<std::string> files_of(const TableRow& row, const fs::path& folder) {
  std::set<std::string> files = {(folder / samples_name(row.name())).string()};
  for (const char* factor : kFactors) {
    const fs::path weights = folder / weights_name(row.parameterisation, factor);
    files.insert(weights.string());
    files.insert(report_path(weights));
  }
  return files;
}

}  // namespace

void make_folder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) {
    throw DataError("reproduce: folder " + path + " cannot be made: " + error.message());
  }
}

void check_repeat_files(const ReproduceConfig& config, const std::vector<TableRow>& rows,
                        int64_t repeat) {
  const fs::path folder = fs::path(config.folder) / repeat_name(repeat);
  const Json json = open_repeat(config, repeat);
  std::set<std::string> files;
  for (const TableRow& row : rows) {
    if (!json.at("rows").contains(row.name())) {
      files.merge(files_of(row, folder));
    }
  }
  if (!path_exists(folder.string())) {
    return;  // made later, in a folder that can be written
  }
  for (const std::string& file : files) {
    check_writable(file);
  }
}

void check_sampling(const ReproduceConfig& config) {
  check_device(sampling_config(config, table1_rows().front(), config.first_repeat, config.folder));
}

Json open_repeat(const ReproduceConfig& config, int64_t repeat) {
  const std::string path = (fs::path(config.folder) / (repeat_name(repeat) + ".json")).string();
  if (!path_exists(path)) {
    return new_repeat(config, repeat);
  }
  if (!config.resume) {
    throw ConfigError("reproduce: " + path +
                      " exists; --resume adds the rows it lacks, or choose another --out");
  }
  const std::vector<Json> all = read_repeats(config.folder);
  const auto found = std::find_if(all.begin(), all.end(),
                                  [&](const Json& json) { return json.at("repeat") == repeat; });
  if (found == all.end()) {
    throw DataError("reproduce: " + path + ": holds another repeat's numbers; remove it");
  }
  const std::string difference = settings_difference(settings_json(config), found->at("settings"));
  if (!difference.empty()) {
    throw ConfigError("reproduce: " + path + " was made with other settings: " + difference +
                      "; give the same, or choose another --out");
  }
  return *found;
}

void reproduce_repeat(const ReproduceConfig& config, const std::vector<TableRow>& rows,
                      int64_t repeat, const RunHooks& hooks) {
  const std::string name = repeat_name(repeat);
  const fs::path folder = fs::path(config.folder) / name;
  const std::string file = folder.string() + ".json";
  Json json = open_repeat(config, repeat);
  for (const TableRow& row : rows) {
    if (json.at("rows").contains(row.name())) {
      continue;
    }
    make_folder(folder.string());
    for (size_t factor = 0; factor < kFactors.size(); ++factor) {
      const std::string weights = weights_name(row.parameterisation, kFactors[factor]);
      train_network(training_job(config, repeat, row.parameterisation, factor),
                    (folder / weights).string(), config.resume,
                    labelled(hooks, name + " " + weights));
    }
    const SampleConfig sampling = sampling_config(config, row, repeat, folder.string());
    RunFiles files;
    files.samples = (folder / samples_name(row.name())).string();
    files.resume = config.resume && path_exists(files.samples + ".checkpoint");
    const RunReport report = run(sampling, files, labelled(hooks, name + " " + row.name()));
    if (json.at("exact").is_null()) {
      json["exact"] = exact_json(report.reference, repeat);
    }
    json["rows"][row.name()] = row_json(report, sampling);
    write_file_atomic(file, dump(json));
  }
}

}  // namespace motet::detail
