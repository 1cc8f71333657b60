// Analytic laws in a config. A parameter of another law than the one named is refused, never
// ignored.
#include "config_laws.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "config_keys.hpp"
#include "motet/compose.hpp"
#include "motet/run.hpp"

namespace motet::detail {
namespace {

using enum KeyType;
using Numbers = std::vector<double>;
using Rows = std::vector<std::vector<double>>;

// Which keys each law takes; any other key of the table is refused rather than ignored.
const std::map<std::string, std::vector<std::string>>& law_parameters() {
  static const std::map<std::string, std::vector<std::string>> table = {
      {"ring", {"num_modes", "radius", "sd"}},
      {"bar", {"half_width", "half_height"}},
      {"gaussian_mixture", {"component_weights", "means", "sds", "component_labels"}},
      {"uniform_box", {"low", "high"}}};
  return table;
}

void refuse_other_parameters(const Settings& settings, const std::string& prefix,
                             const std::string& law) {
  for (const auto& [owner, parameters] : law_parameters()) {
    for (const std::string& parameter : parameters) {
      if (owner != law && settings.given(prefix + parameter)) {
        settings.fail(
            prefix + parameter,
            law.empty() ? "but " + prefix + "law is not given; add law = \"" + owner + "\""
                        : "but it is a parameter of law \"" + owner + "\", not of \"" + law + "\"");
      }
    }
  }
}

Tensor to_matrix(const Settings& settings, const std::string& name) {
  if (!settings.given(name)) {
    settings.fail(name, "is missing; gaussian_mixture needs means and sds");
  }
  return rows_as_matrix(settings, name);
}

AnalyticPtr mixture_law(const Settings& settings, const std::string& prefix,
                        const std::string& name) {
  const Tensor means = to_matrix(settings, prefix + "means");
  const Tensor sds = to_matrix(settings, prefix + "sds");
  const std::string weights_key = prefix + "component_weights";
  if (sds.size(0) != means.size(0) || (sds.size(1) != means.size(1) && sds.size(1) != 1)) {
    settings.fail(prefix + "sds", "must have the shape of means, or (K, 1)");
  }
  Numbers weights(static_cast<size_t>(means.size(0)), 1.0 / static_cast<double>(means.size(0)));
  if (settings.given(weights_key)) {
    weights = settings.get<Numbers>(weights_key);
  }
  if (static_cast<int64_t>(weights.size()) != means.size(0)) {
    settings.fail(weights_key, "must have one entry for each of the " +
                                   std::to_string(means.size(0)) + " rows of means");
  }
  return gaussian_mixture(at::tensor(weights, at::kDouble), means, sds, name);
}

AnalyticPtr box_law(const Settings& settings, const std::string& prefix, const std::string& name) {
  for (const char* corner : {"low", "high"}) {
    if (!settings.given(prefix + corner)) {
      settings.fail(prefix + corner, "is missing; uniform_box needs low and high");
    }
  }
  const auto low = settings.get<Numbers>(prefix + "low");
  const auto high = settings.get<Numbers>(prefix + "high");
  const auto is_infinite = [](double bound) { return std::isinf(bound); };
  for (const auto& [corner, bounds] : {std::pair("low", &low), std::pair("high", &high)}) {
    if (std::any_of(bounds->begin(), bounds->end(), is_infinite)) {
      settings.fail(prefix + corner, "must be finite");
    }
  }
  if (low.size() != high.size()) {
    settings.fail(prefix + "high", "must have as many entries as low");
  }
  for (size_t i = 0; i < low.size(); ++i) {
    if (!(low[i] < high[i])) {
      settings.fail(prefix + "high", "must be above low in every coordinate");
    }
  }
  return uniform_box(at::tensor(low, at::kDouble), at::tensor(high, at::kDouble), name);
}

}  // namespace

Tensor rows_as_matrix(const Settings& settings, const std::string& name) {
  const Rows rows = settings.get<Rows>(name);
  Numbers flat;
  for (const Numbers& row : rows) {
    if (row.size() != rows[0].size()) {
      settings.fail(name, "must have rows of one length");
    }
    flat.insert(flat.end(), row.begin(), row.end());
  }
  if (flat.empty()) {
    settings.fail(name, "must have at least one entry");
  }
  return at::tensor(flat, at::kDouble).reshape({static_cast<int64_t>(rows.size()), -1});
}

std::vector<Key> law_keys(const std::string& prefix, const std::string& use) {
  const bool is_model = prefix == "model.*";
  const std::string also_of_a_region =
      is_model ? "; also of likelihood box, where inf and -inf leave a side open" : "";
  return {
      {.name = prefix + ".law",
       .types = {text},
       .choices = {"ring", "bar", "checkerboard", "moons", "spirals", "gaussian_mixture",
                   "uniform_box"},
       .doc = use},
      {.name = prefix + ".num_modes",
       .types = {integer},
       .range = counts(1, 10000),
       .doc = "ring: Gaussians on the circle (8)"},
      {.name = prefix + ".radius",
       .types = {number},
       .range = kPositive,
       .doc = "ring: of the circle (0.5)"},
      {.name = prefix + ".sd",
       .types = {number},
       .range = kPositive,
       .doc = "ring: standard deviation of each Gaussian (0.03)"},
      {.name = prefix + ".half_width",
       .types = {number},
       .range = kPositive,
       .doc = "bar: uniform on |x| < half_width (0.2)"},
      {.name = prefix + ".half_height",
       .types = {number},
       .range = kPositive,
       .doc = "bar: uniform on |y| < half_height (1.0)"},
      {.name = prefix + ".component_weights",
       .types = {numbers},
       .range = kPositive,
       .doc = "gaussian_mixture: weight of each component (K); default: equal"},
      {.name = prefix + ".means", .types = {rows}, .doc = "gaussian_mixture: means (K, d)"},
      {.name = prefix + ".sds",
       .types = {rows},
       .range = kPositive,
       .doc = "gaussian_mixture: standard deviations (K, d) or (K, 1)"},
      {.name = prefix + ".component_labels",
       .types = {integers},
       .range = counts(0, 65535),
       .doc = "gaussian_mixture: class of each component (K), counted from 0; for classifiers"},
      {.name = prefix + ".low",
       .types = {numbers},
       .doc = "uniform_box: lower corner (d)" + also_of_a_region,
       .may_be_infinite = is_model},
      {.name = prefix + ".high",
       .types = {numbers},
       .doc = "uniform_box: upper corner (d)" + also_of_a_region,
       .may_be_infinite = is_model},
  };
}

namespace {

AnalyticPtr read_flat_law(const Settings& settings, const std::string& prefix,
                          const std::string& name) {
  const bool has_law = settings.given(prefix + "law");
  const std::string law = has_law ? settings.get<std::string>(prefix + "law") : "";
  refuse_other_parameters(settings, prefix, law);
  const auto number = [&](const std::string& key, double fallback) {
    return settings.given(prefix + key) ? settings.get<double>(prefix + key) : fallback;
  };
  const ProductBenchmark benchmark;
  if (law == "ring") {
    const int64_t num_modes = settings.given(prefix + "num_modes")
                                  ? settings.get<int64_t>(prefix + "num_modes")
                                  : benchmark.num_modes;
    return ring(num_modes, number("radius", benchmark.radius), number("sd", benchmark.sd));
  }
  if (law == "bar") {
    return bar(number("half_width", benchmark.half_width),
               number("half_height", benchmark.half_height));
  }
  if (law == "checkerboard") {
    return checkerboard();
  }
  if (law == "moons") {
    return moons();
  }
  if (law == "spirals") {
    return spirals();
  }
  if (law == "gaussian_mixture") {
    return mixture_law(settings, prefix, name);
  }
  return law == "uniform_box" ? box_law(settings, prefix, name) : nullptr;
}

}  // namespace

std::optional<std::vector<int64_t>> read_event_shape(const Settings& settings,
                                                     const std::string& prefix,
                                                     int64_t num_coordinates) {
  const std::string key = prefix + "event_shape";
  if (!settings.given(key)) {
    return std::nullopt;
  }
  const auto shape = settings.get<std::vector<int64_t>>(key);
  if (shape.size() > 4 || c10::multiply_integers(shape) != num_coordinates) {
    settings.fail(key, "must be up to 4 sizes whose product is the number of coordinates, " +
                           std::to_string(num_coordinates));
  }
  return shape;
}

AnalyticPtr read_law(const Settings& settings, const std::string& prefix, const std::string& name) {
  AnalyticPtr law = read_flat_law(settings, prefix, name);
  if (law == nullptr) {
    return law;
  }
  const auto shape = read_event_shape(settings, prefix, c10::multiply_integers(law->event_shape()));
  return shape ? reshaped(std::move(law), *shape) : law;
}

}  // namespace motet::detail
