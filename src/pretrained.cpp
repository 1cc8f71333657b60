// Which loader a path is for, and what the loaders share. Nothing is opened before its name and its
// neighbours have told what it is.
#include "motet/pretrained.hpp"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "error_shape.hpp"
#include "json_object.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "pretrained_detail.hpp"
#include "pretrained_program_file.hpp"

namespace motet {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMotetJson = "motet.json";

// Whether there is such a file; a path that the system does not take is none.
bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

bool is_program_name(const fs::path& path) {
  return path.extension() == ".ts" || path.extension() == ".pt2";
}

[[noreturn]] void refuse(const std::string& path) {
  static const std::array<const char*, 5> kPickles = {".pt", ".pth", ".ckpt", ".bin", ".pkl"};
  const std::string extension = fs::path(path).extension().string();
  const std::string where = "pretrained: " + path + ": ";
  if (std::find(kPickles.begin(), kPickles.end(), extension) != kPickles.end()) {
    throw DataError(where +
                    "is a pickle by its name, which can run any code when it is opened, so "
                    "motet never does; the converters in tools/export/ make a folder of it "
                    "(docs/loading.md)");
  }
  if (is_folder(path)) {
    throw DataError(where + "the folder has neither a config.json of diffusers nor a motet.json");
  }
  if (!is_file(path)) {
    throw DataError(where + "does not exist");
  }
  throw DataError(where +
                  "is not a network that motet knows: a folder of diffusers or guided-diffusion, a "
                  "program (.ts, .pt2) with its motet.json, or a mixer (.eqx) (docs/loading.md)");
}

std::vector<std::string> files_inside(const std::string& folder) {
  std::vector<std::string> files;
  for (const std::string& name : detail::file_names(folder)) {
    files.push_back((fs::path(folder) / name).string());
  }
  return files;
}

std::string input_text(const detail::InputSpec& input) {
  std::string text = input.name + ": ";
  if (input.num_values > 0) {
    text += "a whole number from 0 to " + std::to_string(input.num_values - 1);
  } else {
    text += input.shape.empty() ? "a number" : "numbers " + detail::shape_text(input.shape);
  }
  return input.is_required ? text : text + " (may be left out)";
}

}  // namespace

PretrainedKind pretrained_kind(const std::string& path) {
  if (is_program_name(path)) {
    return PretrainedKind::exported_program;
  }
  if (fs::path(path).extension() == ".eqx") {
    return PretrainedKind::mixer;
  }
  if (!is_folder(path)) {
    return PretrainedKind::none;
  }
  if (is_file(fs::path(path) / kMotetJson)) {
    return PretrainedKind::guided_diffusion;
  }
  return detail::is_diffusers_folder(path) ? PretrainedKind::diffusers : PretrainedKind::none;
}

std::vector<std::string> pretrained_files(const std::string& path) {
  switch (pretrained_kind(path)) {
    case PretrainedKind::diffusers:
      return detail::diffusers_files(path);
    case PretrainedKind::guided_diffusion:
      return files_inside(path);
    case PretrainedKind::exported_program:
      return {path, detail::program_json_path(path), detail::program_pairs_path(path)};
    case PretrainedKind::mixer:
      return {path};
    default:
      return {};
  }
}

ModelPtr load_pretrained(const std::string& path, std::string name,
                         const PretrainedOptions& options) {
  const PretrainedKind kind = pretrained_kind(path);
  if (options.condition && kind != PretrainedKind::diffusers && kind != PretrainedKind::none) {
    throw ConfigError("pretrained: " + path +
                      ": condition is for folders of diffusers that motet train wrote; give the "
                      "inputs of other networks by their names");
  }
  switch (kind) {
    case PretrainedKind::diffusers:
      return load_diffusers(path, std::move(name), options);
    case PretrainedKind::guided_diffusion:
      return load_guided_diffusion(path, std::move(name), options);
    case PretrainedKind::exported_program:
      return load_program(path, std::move(name), options);
    case PretrainedKind::mixer:
      return load_mixer(path, std::move(name), options);
    default:
      refuse(path);
  }
}

std::vector<std::pair<std::string, std::string>> describe_pretrained(const std::string& path) {
  if (pretrained_kind(path) == PretrainedKind::diffusers) {
    return detail::describe_network(detail::read_diffusers(path));
  }
  if (pretrained_kind(path) == PretrainedKind::exported_program) {
    return detail::describe_program(path);
  }
  if (pretrained_kind(path) == PretrainedKind::guided_diffusion) {
    return detail::describe_network(detail::read_guided_diffusion(path));
  }
  const ModelPtr model = load_pretrained(path, path);
  std::vector<std::pair<std::string, std::string>> rows = {
      {"event shape", detail::shape_text(model->event_shape())},
      {"density", model->is_exact() ? "an energy" : "a score only"}};
  if (const auto schedule = model->schedule()) {
    rows.emplace_back("levels", std::to_string(schedule->num_levels()));
  }
  return rows;
}

namespace detail {

std::vector<std::string> file_names(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (is_file(entry->path())) {
      names.push_back(entry->path().filename().string());
    }
  }
  if (error) {
    throw DataError("pretrained: " + folder + ": cannot be listed: " + error.message());
  }
  std::sort(names.begin(), names.end());
  return names;
}

nlohmann::json read_json_file(const std::string& path, const std::string& where) {
  constexpr int64_t kMaxBytes = int64_t{1} << 24;
  return parse_json_object(read_file(path, kMaxBytes), where);
}

OutputSpec respaced(OutputSpec spec, int64_t num_levels, const std::string& prefix) {
  const int64_t total = spec.schedule.num_levels();
  if (num_levels == 0) {
    return spec;
  }
  if (num_levels < 2 || num_levels > total) {
    throw ConfigError(prefix + "num_levels = " + std::to_string(num_levels) +
                      ", must be from 2 to " + std::to_string(total) +
                      ", the levels that the network was trained on");
  }
  std::vector<double> alpha_bars;
  std::vector<double> times;
  const double stride = static_cast<double>(total - 1) / static_cast<double>(num_levels - 1);
  double place = 0.0;  // summed and rounded to even at halves, as the original does
  for (int64_t i = 0; i < num_levels; ++i, place += stride) {
    const auto index = static_cast<size_t>(std::nearbyint(place));
    alpha_bars.push_back(spec.schedule.alpha_bars()[index]);
    times.push_back(spec.times[index]);
  }
  spec.schedule = NoiseSchedule::from_alpha_bars(std::move(alpha_bars));
  spec.times = std::move(times);
  return spec;
}

std::vector<std::pair<std::string, std::string>> describe_network(
    const PretrainedNetwork& network) {
  int64_t num_weights = 0;
  const ShapeMap shapes = network.architecture->expected_tensors();
  for (const auto& [name, shape] : shapes) {
    num_weights += c10::multiply_integers(shape);
  }
  const NoiseSchedule& schedule = network.output.schedule;
  std::vector<std::pair<std::string, std::string>> rows = {
      {"architecture", network.architecture->describe()},
      {"numbers",
       std::to_string(num_weights) + " in " + std::to_string(shapes.size()) + " tensors"},
      {"event shape", shape_text(network.architecture->event_shape())},
      {"output shape", shape_text(network.architecture->output_shape())},
      {"prediction", to_string(network.output.prediction)},
      {"levels", std::to_string(schedule.num_levels()) + ", alpha_bar from " +
                     six_digits(schedule.alpha_bars().front()) + " to " +
                     six_digits(schedule.alpha_bars().back())},
      {"times", six_digits(network.output.times.front()) + " to " +
                    six_digits(network.output.times.back())}};
  for (const InputSpec& input : network.architecture->inputs()) {
    rows.emplace_back("input", input_text(input));
  }
  rows.insert(rows.end(), network.notes.begin(), network.notes.end());
  return rows;
}

std::string six_digits(double value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

void check_finite(const TensorMap& tensors, const std::string& prefix) {
  for (const auto& [name, tensor] : tensors) {
    if (tensor.is_floating_point() && !at::isfinite(tensor).all().item<bool>()) {
      throw DataError(prefix + "tensor " + quoted_text(name) + " has entries that are not finite");
    }
  }
}

}  // namespace detail
}  // namespace motet
