// motet demo
#include "motet/demo.hpp"

#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/command.hpp"
#include "cli/summary.hpp"

namespace motet::cli {
namespace {

void print_row(const std::string& name, const std::vector<std::string>& cells) {
  constexpr int kWidths[] = {15, 11, 12, 10, 13, 9};
  std::cout << std::left << std::setw(14) << name << std::right;
  for (size_t i = 0; i < cells.size(); ++i) {
    std::cout << std::setw(kWidths[i]) << cells[i];
  }
  std::cout << "\n";
}

void print_table(const DemoResult& result) {
  const auto percent = [](double share) { return fixed(100.0 * share, 1) + " %"; };
  print_row("sampler",
            {"outside modes", "LL (nats)", "folded W2", "GMM", "evaluations", "seconds"});
  for (const DemoRow& row : result.rows) {
    const auto json = nlohmann::json::parse(row.json);
    const auto& metrics = json.at("metrics");
    print_row(row.sampler,
              {percent(number_at(metrics, "fraction_outside_modes")),
               fixed(number_at(metrics, "ll_true"), 3), fixed(number_at(metrics, "w2_folded"), 4),
               fixed(number_at(metrics, "gmm"), 5),
               std::to_string(json.at("evaluations_per_chain").get<int64_t>()),
               fixed(number_at(json.at("seconds"), "total"), 1)});
  }
  print_row("exact samples", {percent(result.exact.modes.fraction_outside_modes),
                              fixed(result.exact.log_likelihood.ll_true, 3),
                              fixed(result.exact.w2_folded, 4), fixed(result.exact.gmm, 5)});
  std::cout << "\nReport: " << result.report << "\n";
}

}  // namespace

void add_demo(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("demo", "Compose ring x bar, compare six samplers, write one report");
  auto config = std::make_shared<DemoConfig>();
  auto quiet = std::make_shared<bool>(false);
  command->add_option("--out", config->out, "folder of the report (out/demo)")->type_name("DIR");
  command->add_option("--models", config->models, "folder of the shipped networks (models)")
      ->type_name("DIR");
  command->add_option("--num-samples", config->num_samples, "chains of each sampler (2000)")
      ->type_name("N");
  command->add_option("--seed", config->seed, "of every random number (1)")->type_name("S");
  command->add_option("--preset", config->preset, "corrected or paper")->type_name("WORD");
  command
      ->add_option("--compute", config->compute,
                   "arithmetic of the networks: reference, float32 or bfloat16 (bfloat16)")
      ->type_name("WORD");
  command->add_flag("--quiet", *quiet, "no progress on stderr");
  command->callback([config, quiet] {
    const auto started = [&quiet](const std::string& sampler) {
      end_progress();
      if (!*quiet) {
        std::cerr << sampler << "\n";
      }
    };
    if (config->compute == to_string(Compute::bfloat16)) {
      warn_of_compute(Compute::bfloat16, "cpu");
    }
    const DemoResult result = demo(*config, terminal_hooks(*quiet), started);
    end_progress();
    print_table(result);
  });
}

}  // namespace motet::cli
