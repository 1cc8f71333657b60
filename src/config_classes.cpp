// Labels in a config. A gaussian_mixture whose components have labels is a law of points with
// classes: as data, what a classifier learns; as a factor, the classifier itself, by Bayes' rule.
#include "config_classes.hpp"

#include <torch/types.h>

#include <algorithm>
#include <filesystem>

#include "motet/io.hpp"
#include "motet/pretrained.hpp"

namespace motet::detail {
namespace {

using enum KeyType;
using Numbers = std::vector<double>;
using Integers = std::vector<int64_t>;
using Rows = std::vector<std::vector<double>>;

constexpr double kMostLabel = 65535.0;

Rows picked(const Rows& rows, const Integers& labels, int64_t label) {
  Rows found;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] == label) {
      found.push_back(rows[i]);
    }
  }
  return found;
}

Tensor matrix(const Rows& rows) {
  Numbers flat;
  for (const Numbers& row : rows) {
    flat.insert(flat.end(), row.begin(), row.end());
  }
  return at::tensor(flat, at::kDouble).reshape({static_cast<int64_t>(rows.size()), -1});
}

void check_labels(const Settings& settings, const std::string& key, const Integers& labels,
                  size_t num_components) {
  if (labels.size() != num_components) {
    settings.fail(key, "must have one entry for each of the " + std::to_string(num_components) +
                           " rows of means");
  }
  const int64_t last = *std::max_element(labels.begin(), labels.end());
  for (int64_t label = 0; label <= last; ++label) {
    if (std::find(labels.begin(), labels.end(), label) == labels.end()) {
      settings.fail(
          key, "must have every label from 0 to the largest, but has no " + std::to_string(label));
    }
  }
  if (last == 0) {
    settings.fail(key, "must have two different labels at least");
  }
}

void check_label(const Settings& settings, const std::string& prefix,
                 const ClassifierConfig& config) {
  const auto num = static_cast<int64_t>(config.classes.laws.size());
  if (num > 0 && config.label >= num) {
    settings.fail(prefix + "label",
                  "must be one of component_labels, 0 to " + std::to_string(num - 1));
  }
}

}  // namespace

Classes read_classes(const Settings& settings, const std::string& prefix, const std::string& name) {
  const std::string key = prefix + "component_labels";
  if (!settings.given(key)) {
    return {};
  }
  const auto labels = settings.get<Integers>(key);
  const auto means = settings.get<Rows>(prefix + "means");
  const auto sds = settings.get<Rows>(prefix + "sds");
  check_labels(settings, key, labels, means.size());
  Rows weights(means.size(), Numbers{1.0});
  if (settings.given(prefix + "component_weights")) {
    const auto given = settings.get<Numbers>(prefix + "component_weights");
    std::transform(given.begin(), given.end(), weights.begin(),
                   [](double weight) { return Numbers{weight}; });
  }
  Classes classes;
  const int64_t last = *std::max_element(labels.begin(), labels.end());
  for (int64_t label = 0; label <= last; ++label) {
    const Tensor own = matrix(picked(weights, labels, label)).flatten();
    classes.weights.push_back(own.sum().item<double>());
    classes.laws.push_back(gaussian_mixture(own, matrix(picked(means, labels, label)),
                                            matrix(picked(sds, labels, label)),
                                            name + "[" + std::to_string(label) + "]"));
  }
  return classes;
}

std::vector<Key> classifier_keys(const std::string& prefix) {
  return {
      {.name = prefix + ".classifier",
       .types = {text},
       .doc = "a trained classifier, relative to the config, a weights file or a folder of "
              "guided-diffusion: the factor log p(label | x), to the power of exponent"},
      {.name = prefix + ".label",
       .types = {integer},
       .range = {.low = 0.0, .high = kMostLabel},
       .doc = "the class that a classifier stands for; needs classifier, or a gaussian_mixture "
              "with component_labels, which is then the factor p(label | x) by Bayes' rule"},
  };
}

std::optional<ClassifierConfig> read_classifier(const Settings& settings, const std::string& prefix,
                                                const std::string& name,
                                                const std::string& directory) {
  const bool has_file = settings.given(prefix + "classifier");
  const bool has_labels = settings.given(prefix + "component_labels");
  if (!settings.given(prefix + "label")) {
    if (has_file || has_labels) {
      settings.fail(prefix + "label", "is missing; a classifier needs the class it stands for");
    }
    return std::nullopt;
  }
  if (has_file == has_labels) {
    settings.fail(prefix + "label", "needs exactly one of " + prefix + "classifier and " + prefix +
                                        "component_labels");
  }
  for (const char* other : {"weights", "law", "score_only"}) {
    if (settings.given(prefix + other) && !(has_labels && std::string(other) == "law")) {
      settings.fail(prefix + other, "but [model." + name + "] is a classifier; leave it out");
    }
  }
  ClassifierConfig config;
  config.label = settings.get<int64_t>(prefix + "label");
  config.classes = read_classes(settings, prefix, name);
  check_label(settings, prefix, config);
  if (has_file) {
    const std::filesystem::path given(settings.get<std::string>(prefix + "classifier"));
    config.weights = (std::filesystem::path(directory) / given).string();
  }
  return config;
}

LikelihoodPtr load_classifier(const ClassifierConfig& config, const std::string& name,
                              const std::string& device) {
  if (pretrained_kind(config.weights) == PretrainedKind::guided_diffusion) {
    return load_guided_diffusion_classifier(config.weights, config.label, name, {.device = device});
  }
  if (!config.weights.empty()) {
    return classifier_likelihood(load_weights(config.weights), config.label, name, device);
  }
  const std::vector<ModelPtr> laws(config.classes.laws.begin(), config.classes.laws.end());
  return bayes_classifier(laws, config.classes.weights, static_cast<size_t>(config.label), name);
}

void check_classes(const Settings& settings, const DataConfig& data, const NetworkConfig& network) {
  const bool is_classifier = network.parameterisation == Parameterisation::classifier;
  const bool has_classes = !data.labels.empty() || !data.classes.laws.empty();
  if (is_classifier && !has_classes) {
    settings.fail("network.parameterisation",
                  "but [data] has no classes; give data.component_labels, or data.file with "
                  "data.labels");
  }
  if (!is_classifier && has_classes) {
    settings.fail(data.labels.empty() ? "data.component_labels" : "data.labels",
                  "but network.parameterisation = \"" + to_string(network.parameterisation) +
                      "\" learns no classes; leave it out");
  }
}

}  // namespace motet::detail
