// What every JSON file of motet has in common.
#include <ATen/Parallel.h>
#include <sys/resource.h>
#include <toml++/toml.h>
#include <torch/types.h>
#include <torch/version.h>

#include <cerrno>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "io_detail.hpp"
#include "run_detail.hpp"
#include "version.hpp"

namespace motet {

std::string version() { return detail::kVersion; }
std::string commit() { return detail::kCommit; }
std::string torch_version() { return TORCH_VERSION; }

namespace detail {
namespace {

Json to_json(const toml::node& node) {
  if (const toml::table* table = node.as_table()) {
    Json object = Json::object();
    for (const auto& [key, value] : *table) {
      object[std::string(key.str())] = to_json(value);
    }
    return object;
  }
  if (const toml::array* array = node.as_array()) {
    Json list = Json::array();
    for (const toml::node& entry : *array) {
      list.push_back(to_json(entry));
    }
    return list;
  }
  if (node.is_boolean()) {
    return *node.value<bool>();
  }
  if (node.is_integer()) {
    return *node.value<int64_t>();
  }
  if (!node.is_number()) {
    return *node.value<std::string>();
  }
  const auto number = *node.value<double>();  // JSON has no infinity: TOML's word for it
  return std::isinf(number) ? Json(number > 0.0 ? "inf" : "-inf") : Json(number);
}

}  // namespace

int64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  constexpr int64_t kKibibyte = 1024;  // ru_maxrss counts these on Linux
  return static_cast<int64_t>(usage.ru_maxrss) * kKibibyte;
}

Json number_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json config_to_json(const std::string& toml) { return to_json(toml::parse(toml)); }

Json environment_json(const std::string& device) {
  Json json;
  json["commit"] = commit();
  json["versions"] = {{"motet", version()}, {"torch", torch_version()}};
  json["device"] = device;
  json["num_threads"] = at::get_num_threads();
  return json;
}

std::string dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

void check_writable(const std::string& path) {
  if (path.empty()) {
    return;
  }
  check_output_path(path);
  const std::string probe = path + ".probe.partial";
  errno = 0;
  if (!std::ofstream(probe).good()) {
    throw_write_error(path, errno);
  }
  std::error_code ignored;
  std::filesystem::remove(probe, ignored);
}

void check_writable(const RunFiles& files, const CheckpointConfig& checkpoint) {
  for (const std::string& path :
       {files.samples, files.json, files.report, files.weights, files.picture, checkpoint.path}) {
    check_writable(path);
  }
}

}  // namespace detail
}  // namespace motet
