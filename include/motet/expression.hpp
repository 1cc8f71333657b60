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
  std::string text = {};
  bool is_quoted = false;  ///< of a name: it stood in quotes
  std::vector<Expression> children = {};
  std::vector<double> numbers = {};  ///< exponents, weights, or a call's numbers
  size_t column = 1;                 ///< where it begins, counted from 1
};

/// Parses `text` (docs/expressions.md has the grammar). Throws ConfigError that shows the text,
/// points at the column and says what is allowed there. At most 10,000 characters and 100 levels of
/// brackets.
Expression parse_expression(std::string_view text);
/// The expression in canonical notation: parse_expression of it gives the same tree, but for the
/// columns.
std::string to_string(const Expression& expression);
/// All names in it, each once, in order of appearance.
std::vector<Expression> names_in(const Expression& expression);
/// Whether `text` reads as one name: letters, digits, _, - and ., a letter or _ first.
bool is_expression_name(std::string_view text);
/// "expression: column 8: WHY", then the text and a caret under the column: how every error here
/// looks.
std::string point_at(std::string_view text, size_t column, const std::string& why);

/// What a name in an expression stands for: a model, or a likelihood (which only multiplies).
struct Named {
  ModelPtr model;            ///< or null
  LikelihoodPtr likelihood;  ///< or null
};
/// Finds what a name node stands for; throws ConfigError naming the known ones (point_at).
using Resolver = std::function<Named(const Expression& name)>;
/// Finds the log normalisers of a product that stands in a mixture (see normalised()).
using Normaliser = std::function<LogNormalisers(const ModelPtr& product)>;

/// The target that the expression says. `text` is what it was parsed from, for messages; `ramp` is
/// used for the function ramp(...). A likelihood conditions the product of all other factors of its
/// product. The resolver must give the same pointer for the same name: each distinct model then costs
/// one evaluation. Products in mixtures are normalised, each distinct one once. Throws ConfigError,
/// pointing at the column, for what cannot be built, and as product(), mixture(), condition().
ModelPtr build(const Expression& expression, std::string_view text, const Resolver& resolver,
               const Normaliser& normaliser, const Ramp& ramp);

}  // namespace motet
