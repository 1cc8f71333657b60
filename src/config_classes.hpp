// Classes in a config: labelled data, and classifiers as factors.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "motet/likelihood.hpp"
#include "motet/run.hpp"
#include "settings.hpp"

namespace motet::detail {

/// What component_labels makes of the gaussian_mixture under `prefix` ("model.y.", "data."): a
/// mixture for each class, with the sum of its components' weights. Empty without component_labels.
/// The mixture's other keys must have been read (read_law()). Throws ConfigError unless there is a
/// label for each component, and a component for each of two classes or more.
Classes read_classes(const Settings& settings, const std::string& prefix, const std::string& name);

/// The keys of a classifier under `prefix` ("model.*").
std::vector<Key> classifier_keys(const std::string& prefix);
/// The classifier that the table under `prefix` ("model.y.") is: a file, or the classes of a
/// gaussian_mixture, with the label; nothing for other tables. A file is taken from `directory`.
/// Throws ConfigError for a label without classes, or the reverse, a label that is none of
/// component_labels, and keys of other factors.
std::optional<ClassifierConfig> read_classifier(const Settings& settings, const std::string& prefix,
                                                const std::string& name,
                                                const std::string& directory);
/// Loads it, called `name`: a weights file, or a folder of guided-diffusion. Throws as load_weights(),
/// classifier_likelihood(), load_guided_diffusion_classifier().
LikelihoodPtr load_classifier(const ClassifierConfig& config, const std::string& name,
                              const std::string& device);

/// Throws ConfigError when the data have classes and the network is no classifier, or the reverse.
void check_classes(const Settings& settings, const DataConfig& data, const NetworkConfig& network);

}  // namespace motet::detail
