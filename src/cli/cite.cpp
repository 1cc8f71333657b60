// motet cite RUN.json
#include <iostream>

#include "cli/command.hpp"
#include "motet/io.hpp"
#include "motet/report.hpp"

namespace motet::cli {

void add_cite(CLI::App& app) {
  CLI::App* command = app.add_subcommand("cite", "BibTeX of the papers that a run rests on");
  auto path = std::make_shared<std::string>();
  command->add_option("run", *path, "JSON file of a run (motet sample --json)")
      ->required()
      ->type_name("RUN.json");
  command->callback([path] {
    constexpr int64_t kMaxBytes = int64_t{1} << 28;
    std::cout << citations(read_file(*path, kMaxBytes), *path);
  });
}

}  // namespace motet::cli
