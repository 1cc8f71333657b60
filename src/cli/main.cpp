// `motet`: parses argv, runs one subcommand, turns every error into one message and an exit code.
#include <c10/util/Exception.h>

#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <string_view>

#include "cli/command.hpp"
#include "motet/error.hpp"

namespace {

constexpr int kUsageError = 2;
constexpr int kOutOfMemory = 4;
constexpr int kBug = 70;

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// On the CPU torch tells of missing memory by the text alone.
bool is_out_of_memory(const std::exception& error) {
  return dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
         dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
         std::string_view(error.what()).find("can't allocate memory") != std::string_view::npos;
}

int report(const std::exception& error) {
  motet::cli::end_progress();
  if (is_out_of_memory(error)) {
    std::cerr << "motet: out of memory; lower tile_size (sampling), train.batch_size and "
                 "train.held_out_size (training), or the sizes of the networks\n";
    return kOutOfMemory;
  }
  const int code = motet::exit_code(error);
  if (code != kBug) {
    std::cerr << "motet: " << motet::cli::printable(error.what()) << "\n";
    return code;
  }
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  const std::string text =
      torch_error != nullptr ? torch_error->what_without_backtrace() : error.what();
  std::cerr << "motet: internal error: " << motet::cli::printable(first_line(text))
            << "\nmotet: this is a bug; please report it with the command you ran\n";
  return kBug;
}

void describe(CLI::App& app) {
  app.description(
      "motet samples from compositions of diffusion models with Metropolis-corrected MCMC.");
  app.footer(
      "Start here:\n"
      "  motet demo                          compose ring x bar, compare six samplers, one "
      "report\n"
      "  motet sample experiments/product.toml --report out/product.html\n"
      "  motet train experiments/train-ring.toml --out ring.safetensors\n"
      "\n"
      "Exit codes: 0 done, 2 wrong usage or config, 3 a file, 4 numbers broke down or no memory,\n"
      "130 stopped (a long run has written its checkpoint; --resume continues), 70 a bug.");
  app.set_version_flag("--version", "motet " + motet::version() + " (commit " + motet::commit() +
                                        ", torch " + motet::torch_version() + ")");
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app;
  app.name("motet");
  describe(app);
  motet::cli::add_sample(app);
  motet::cli::add_tapestry(app);
  motet::cli::add_tune(app);
  motet::cli::add_train(app);
  motet::cli::add_scenes(app);
  motet::cli::add_demo(app);
  motet::cli::add_reproduce(app);
  motet::cli::add_eval(app);
  motet::cli::add_diagnose(app);
  motet::cli::add_info(app);
  motet::cli::add_cite(app);
  try {
    app.parse(argc, argv);
    motet::cli::end_progress();
    return 0;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsageError;
  } catch (const std::exception& error) {
    return report(error);
  }
}
