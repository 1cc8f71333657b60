// The compact notation of targets: "0.7 ring + 0.3 (bar * moons^0.5) / blob". Text to tree; what the
// names stand for is the caller's.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "motet/compose.hpp"

namespace motet {

/// One node of a parsed expression.
struct Expression {
  enum class Kind {
    name,     ///< text: an identifier, or the path of a weights file that stood in quotes
    product,  ///< children to the power of numbers
    mixture,  ///< children with the weights in numbers
    call,     ///< text (children..., numbers...): a function
  };
  Kind kind = Kind::name;
  std::string text;
  bool is_quoted = false;  ///< of a name: it stood in quotes
  std::vector<Expression> children;
  std::vector<double> numbers;  ///< exponents, weights, or a call's numbers
  size_t column = 1;            ///< where it begins, counted from 1
};

/// Parses `text`. Throws ConfigError that shows the text, points at the column and says what is
/// allowed there. At most 10,000 characters and 100 levels of brackets.
Expression parse_expression(std::string_view text);
/// The expression in canonical notation: parse_expression of it gives the same tree.
std::string to_string(const Expression& expression);
/// All names in it, each once, in order of appearance.
std::vector<std::string> names_in(const Expression& expression);

/// What a name in an expression stands for: a model, or a likelihood (which only multiplies).
struct Named {
  ModelPtr model;            ///< or null
  LikelihoodPtr likelihood;  ///< or null
};
/// Finds what a name node stands for; throws ConfigError naming the known ones.
using Resolver = std::function<Named(const Expression& name)>;
/// Finds the log normalisers of a product that stands in a mixture (see normalised()).
using Normaliser = std::function<LogNormalisers(const ModelPtr& product)>;

/// The target that the expression says. `ramp` is used for the function ramp(...). Throws
/// ConfigError, pointing at the column, for what cannot be built, and as product(), mixture(),
/// condition().
ModelPtr build(const Expression& expression, std::string_view text, const Resolver& resolver,
               const Normaliser& normaliser, const Ramp& ramp);

}  // namespace motet
