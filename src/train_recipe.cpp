// Recipes and the words of their settings. What each change of "motet" is worth was measured
// against exact scores: docs/howto.md.
#include "motet/error.hpp"
#include "motet/train.hpp"

namespace motet {
namespace {

[[noreturn]] void refuse_word(const std::string& what, const std::string& name,
                              const std::string& allowed) {
  throw ConfigError(what + " = \"" + name + "\" is not known; allowed: " + allowed);
}

TrainConfig motet_recipe() {
  TrainConfig config;
  config.network.frequencies = {2.0, 4.0, 8.0, 16.0};
  config.level_law = LevelLaw::squared;
  config.learning_rate = 2e-3;
  config.rate_schedule = RateSchedule::cosine;
  return config;
}

}  // namespace

std::string to_string(LevelLaw law) { return law == LevelLaw::squared ? "squared" : "uniform"; }

LevelLaw level_law_from(const std::string& name) {
  for (const LevelLaw law : {LevelLaw::uniform, LevelLaw::squared}) {
    if (to_string(law) == name) {
      return law;
    }
  }
  refuse_word("level_law", name, "uniform, squared");
}

std::string to_string(RateSchedule schedule) {
  return schedule == RateSchedule::cosine ? "cosine" : "constant";
}

RateSchedule rate_schedule_from(const std::string& name) {
  for (const RateSchedule schedule : {RateSchedule::constant, RateSchedule::cosine}) {
    if (to_string(schedule) == name) {
      return schedule;
    }
  }
  refuse_word("rate_schedule", name, "constant, cosine");
}

std::vector<std::string> recipe_names() { return {"paper", "motet"}; }

TrainConfig train_recipe(const std::string& name) {
  if (name == "paper") {
    return {};
  }
  if (name == "motet") {
    return motet_recipe();
  }
  refuse_word("recipe", name, "paper, motet");
}

}  // namespace motet
