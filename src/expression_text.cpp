// Trees and errors of the compact notation as text.
#include <algorithm>

#include "error_shape.hpp"
#include "expression_characters.hpp"
#include "motet/expression.hpp"

namespace motet {
namespace {

using detail::continues_name;
using detail::is_continuation;
using detail::is_control;
using detail::starts_name;

std::string in_brackets(const Expression& node) {
  const bool is_whole = node.kind == Expression::Kind::name || node.kind == Expression::Kind::call;
  return is_whole ? to_string(node) : "(" + to_string(node) + ")";
}

std::string product_text(const Expression& node) {
  std::string text;
  for (size_t i = 0; i < node.children.size(); ++i) {
    const bool divides = i > 0 && node.numbers[i] < 0.0;
    const double exponent = divides ? -node.numbers[i] : node.numbers[i];
    text += i == 0 ? "" : divides ? " / " : " * ";
    text += in_brackets(node.children[i]);
    text += exponent == 1.0 ? "" : "^" + detail::shortest_digits(exponent);
  }
  return text;
}

std::string mixture_text(const Expression& node) {
  const bool is_even = std::all_of(node.numbers.begin(), node.numbers.end(),
                                   [](double weight) { return weight == 1.0; });
  std::string text;
  for (size_t i = 0; i < node.children.size(); ++i) {
    const Expression& child = node.children[i];
    text += i == 0 ? "" : " + ";
    text += is_even ? "" : detail::shortest_digits(node.numbers[i]) + " ";
    text += child.kind == Expression::Kind::mixture ? in_brackets(child) : to_string(child);
  }
  return text;
}

std::string call_text(const Expression& node) {
  std::string text;
  for (const Expression& child : node.children) {
    text += (text.empty() ? "" : ", ") + to_string(child);
  }
  for (const double value : node.numbers) {
    text += ", " + detail::shortest_digits(value);
  }
  return node.text + "(" + text + ")";
}

void collect_names(const Expression& node, std::vector<Expression>& names) {
  const auto is_same = [&node](const Expression& other) {
    return other.text == node.text && other.is_quoted == node.is_quoted;
  };
  if (node.kind == Expression::Kind::name && std::none_of(names.begin(), names.end(), is_same)) {
    names.push_back(node);
  }
  for (const Expression& child : node.children) {
    collect_names(child, names);
  }
}

// The characters of `text`, one an entry, those that move a cursor as blanks.
std::vector<std::string> characters_of(std::string_view text) {
  std::vector<std::string> characters;
  for (const char c : text) {
    if (is_continuation(c) && !characters.empty()) {
      characters.back() += c;
    } else {
      characters.emplace_back(1, is_control(c) ? ' ' : c);
    }
  }
  return characters;
}

}  // namespace

std::string to_string(const Expression& expression) {
  switch (expression.kind) {
    case Expression::Kind::product:
      return product_text(expression);
    case Expression::Kind::mixture:
      return mixture_text(expression);
    case Expression::Kind::call:
      return call_text(expression);
    case Expression::Kind::name:
      break;
  }
  const char quote = expression.text.find('\'') == std::string::npos ? '\'' : '"';
  return expression.is_quoted ? quote + expression.text + quote : expression.text;
}

std::vector<Expression> names_in(const Expression& expression) {
  std::vector<Expression> names;
  collect_names(expression, names);
  return names;
}

bool is_expression_name(std::string_view text) {
  return !text.empty() && starts_name(text[0]) &&
         std::all_of(text.begin(), text.end(), continues_name);
}

std::string point_at(std::string_view text, size_t column, const std::string& why) {
  constexpr size_t kBefore = 50;  // of a long text, what stands around the column
  constexpr size_t kAfter = 25;
  const std::vector<std::string> characters = characters_of(text);
  const size_t index = std::min(column - 1, characters.size());
  const size_t first = index > kBefore ? index - kBefore : 0;
  const size_t last = std::min(characters.size(), index + kAfter);
  std::string excerpt = first > 0 ? "... " : "";
  const size_t indent = excerpt.size() + index - first;
  for (size_t i = first; i < last; ++i) {
    excerpt += characters[i];
  }
  excerpt += last < characters.size() ? " ..." : "";
  return "expression: column " + std::to_string(column) + ": " + why + "\n  " + excerpt + "\n  " +
         std::string(indent, ' ') + "^";
}

}  // namespace motet
