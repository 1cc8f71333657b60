// Six samplers of the same product of two shipped networks, side by side.
#include "motet/demo.hpp"

#include <filesystem>

#include "motet/error.hpp"
#include "motet/io.hpp"
#include "motet/report.hpp"
#include "run_detail.hpp"
#include "settings.hpp"

namespace motet {
namespace {

std::string product_toml(const DemoConfig& config, const std::string& sampler) {
  const std::filesystem::path folder(config.models);
  const auto text = [](const std::string& value) { return detail::to_toml(detail::Value(value)); };
  // Presets are two readings of the published table.
  const std::string preset = sampler == "exact" ? "" : "\npreset = " + text(config.preset);
  return "sampler = " + text(sampler) + preset + "\ncompute = " + text(config.compute) +
         "\nseed = " + std::to_string(config.seed) +
         "\nnum_samples = " + std::to_string(config.num_samples) +
         "\n[model.ring]\nweights = " + text((folder / "ring.safetensors").string()) +
         "\n[model.bar]\nweights = " + text((folder / "bar.safetensors").string()) +
         "\n[metrics]\ntarget = \"product\"\n";
}

// Without files, so without a checkpoint: the whole demonstration takes a minute or two.
RunReport run_one(const DemoConfig& config, const std::string& sampler, const RunHooks& hooks) {
  try {
    return run(parse_config(product_toml(config, sampler), "demo"), {}, hooks);
  } catch (const Interrupted&) {
    throw Interrupted("demo: interrupted; it keeps no checkpoint: run it again from the start");
  }
}

// The product beside what the first and the last two samplers make of it.
std::string picture(const std::vector<NamedRun>& runs) {
  const Tensor& exact = runs.front().report.reference;
  std::vector<ScatterPanel> panels{{"product", "exact samples", {{exact, "reference", 1.2, 0.5}}}};
  std::vector<Tensor> points{exact};
  for (size_t i = 0; i < runs.size(); ++i) {
    if (i == 0 || i + 2 >= runs.size()) {
      panels.push_back({runs[i].name, "", {{runs[i].report.samples, "samples", 1.1, 0.55}}});
      points.push_back(runs[i].report.samples);
    }
  }
  return scatter_svg(panels, view_of(points), static_cast<int>(panels.size()));
}

}  // namespace

DemoResult demo(const DemoConfig& config, const RunHooks& hooks,
                const std::function<void(const std::string&)>& started) {
  constexpr int64_t kMinSamples = 16;  // as run() needs to measure
  if (config.samplers.empty() || config.num_samples < kMinSamples) {
    throw ConfigError("demo: num_samples = " + std::to_string(config.num_samples) + " and " +
                      std::to_string(config.samplers.size()) + " samplers, must be at least " +
                      std::to_string(kMinSamples) + " and 1");
  }
  std::error_code problem;
  std::filesystem::create_directories(config.out, problem);
  if (problem) {
    throw DataError("demo: " + config.out + ": cannot be made (" + problem.message() +
                    "); choose another folder with --out");
  }
  const std::filesystem::path out(config.out);
  DemoResult result;
  result.report = (out / "report.html").string();
  detail::check_writable(result.report);
  std::vector<NamedRun> runs;
  for (const std::string& sampler : config.samplers) {
    if (started) {
      started(sampler);
    }
    RunReport report = run_one(config, sampler, hooks);
    write_file_atomic((out / (sampler + ".json")).string(), report.json);
    result.rows.push_back({sampler, report.json});
    runs.push_back({sampler, std::move(report)});
  }
  Rng exact_rng = Rng(config.seed).split("exact");
  Rng metrics_rng = Rng(config.seed).split("metrics");
  const Tensor& reference = runs.front().report.reference;
  result.exact =
      product_metrics(sample_product_benchmark(reference.size(0), exact_rng), reference,
                      metrics_rng, {}, kMaxPairwise, consecutive_groups(reference.size(0)));
  write_file_atomic(result.report, sample_report(runs, result.exact));
  write_file_atomic((out / "product.svg").string(), picture(runs));
  return result;
}

}  // namespace motet
