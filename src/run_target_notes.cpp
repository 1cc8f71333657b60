// Which factors of a target are guidance, and that its scale makes another target of it: the power
// of p(y | x) is 1 in the conditional law alone (docs/guidance.md).
#include <algorithm>
#include <sstream>

#include "run_target.hpp"

namespace motet::detail {
namespace {

using Kind = Expression::Kind;

std::string power_note(const std::string& name, double power) {
  std::ostringstream text;
  text << name << "^" << power << " is another target than the law given " << name
       << ", which has power 1";
  return text.str();
}

bool conditions(const SampleConfig& config, const Expression& node) {
  return node.kind == Kind::name &&
         std::any_of(config.terms.begin(), config.terms.end(), [&](const TermConfig& term) {
           return term.name == node.text && term.conditions();
         });
}

// Of a call of guide(); "" where the scale is that of the conditional law.
std::string scale_note(const SampleConfig& config, const Expression& guide) {
  const bool has_classifier = conditions(config, guide.children[1]);
  const double plain = has_classifier ? 1.0 : 0.0;
  if (guide.numbers[0] == plain) {
    return "";
  }
  std::ostringstream text;
  text << to_string(guide) << " is another target than "
       << (has_classifier ? to_string(guide.children[0]) + " given " + guide.children[1].text
                          : to_string(guide.children[0]))
       << ", which has scale " << plain;
  return text.str();
}

void collect(const SampleConfig& config, const Expression& node, std::vector<std::string>& notes) {
  const auto add = [&notes](const std::string& note) {
    if (!note.empty() && std::find(notes.begin(), notes.end(), note) == notes.end()) {
      notes.push_back(note);
    }
  };
  if (node.kind == Kind::call && node.text == "guide") {
    add(scale_note(config, node));
  }
  for (size_t i = 0; i < node.children.size() && node.kind == Kind::product; ++i) {
    if (conditions(config, node.children[i]) && node.numbers[i] != 1.0) {
      add(power_note(node.children[i].text, node.numbers[i]));
    }
  }
  for (const Expression& child : node.children) {
    collect(config, child, notes);
  }
}

}  // namespace

std::vector<std::string> guidance_notes(const SampleConfig& config) {
  std::vector<std::string> notes;
  if (config.tapestry) {
    for (const WindowConfig& window : config.tapestry->windows) {
      collect(config, parse_expression(window.model), notes);
    }
    if (config.tapestry->rule == OverlapRule::cover) {
      notes.push_back(
          "where windows overlap, rule \"cover\" averages their scores, which is the score of no "
          "law: corrected chains follow that field, and weights stay 1 (docs/tapestry.md)");
    }
    return notes;
  }
  if (!config.target.empty()) {
    collect(config, parse_expression(config.target), notes);
    return notes;
  }
  for (const TermConfig& term : config.terms) {
    if (term.conditions() && term.exponent != 1.0) {
      notes.push_back(power_note(term.name, term.exponent));
    }
  }
  return notes;
}

}  // namespace motet::detail
