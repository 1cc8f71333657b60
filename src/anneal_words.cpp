// The words of annealing configs.
#include <array>
#include <span>
#include <string>
#include <string_view>

#include "motet/anneal.hpp"
#include "motet/error.hpp"

namespace motet {
namespace {

constexpr std::array<std::string_view, 4> kPlacements{"none", "pure", "after_reverse",
                                                      "before_reverse"};
constexpr std::array<std::string_view, 3> kReverseSteps{"ancestral_beta_tilde", "ancestral_beta",
                                                        "ddim"};
constexpr std::array<std::string_view, 2> kWeightRules{"log_v", "v"};
constexpr std::array<std::string_view, 4> kResamplings{"none", "systematic", "stratified",
                                                       "residual"};
constexpr std::array<std::string_view, 4> kLastMaps{"none", "rescale", "tweedie", "curvature"};

template <typename Enum>
Enum enum_from(const char* key, const std::string& name, std::span<const std::string_view> names) {
  std::string allowed;
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == name) {
      return static_cast<Enum>(i);
    }
    allowed += (i == 0 ? "" : i + 1 == names.size() ? " or " : ", ") + std::string(names[i]);
  }
  throw ConfigError(std::string("anneal: ") + key + " = \"" + name + "\", must be " + allowed);
}

}  // namespace

std::string to_string(Placement value) {
  return std::string(kPlacements.at(static_cast<size_t>(value)));
}
std::string to_string(ReverseStep value) {
  return std::string(kReverseSteps.at(static_cast<size_t>(value)));
}
std::string to_string(WeightRule value) {
  return std::string(kWeightRules.at(static_cast<size_t>(value)));
}
std::string to_string(Resampling value) {
  return std::string(kResamplings.at(static_cast<size_t>(value)));
}
std::string to_string(LastMap value) {
  return std::string(kLastMaps.at(static_cast<size_t>(value)));
}

Placement placement_from(const std::string& name) {
  return enum_from<Placement>("placement", name, kPlacements);
}
ReverseStep reverse_step_from(const std::string& name) {
  return enum_from<ReverseStep>("reverse_step", name, kReverseSteps);
}
LastMap last_map_from(const std::string& name) {
  return enum_from<LastMap>("last_map", name, kLastMaps);
}

WeightRule weight_rule_from(const std::string& name) {
  return enum_from<WeightRule>("weights.rule", name, kWeightRules);
}
Resampling resampling_from(const std::string& name) {
  return enum_from<Resampling>("weights.resampling", name, kResamplings);
}

}  // namespace motet
