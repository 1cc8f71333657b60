// Text to tree and back. The grammar, in docs/expressions.md too:
//   sum      = term { "+" term }
//   term     = [ number [ "*" ] ] product
//   product  = power { ( "*" | "/" ) power }
//   power    = atom [ "^" exponent ]
//   exponent = signed | "(" signed ")"
//   atom     = NAME | quoted | "(" sum ")" | NAME "(" arguments ")"
// A recursive descent, one function a rule; 100 levels of brackets bound its depth.
#include "motet/expression.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <system_error>

#include "expression_characters.hpp"
#include "motet/error.hpp"

namespace motet {
namespace {

using detail::continues_name;
using detail::is_continuation;
using detail::is_control;
using detail::is_digit;
using detail::starts_name;

constexpr size_t kMaxCharacters = 10'000;
constexpr int kMaxLevels = 100;

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Columns count characters, as editors do.
size_t column_of(std::string_view text, size_t position) {
  const std::string_view before = text.substr(0, position);
  return 1 + static_cast<size_t>(std::count_if(before.begin(), before.end(),
                                               [](char c) { return !is_continuation(c); }));
}

struct Function {
  const char* name;
  size_t num_children;
  size_t num_numbers;
  const char* usage;
};
constexpr std::array<Function, 4> kFunctions = {{
    {"guide", 2, 1, "guide(conditional, unconditional, scale) or guide(prior, classifier, scale)"},
    {"condition", 2, 0, "condition(prior, likelihood)"},
    {"score", 1, 0, "score(law)"},
    {"ramp", 1, 0, "ramp(law)"},
}};

const Function* find_function(std::string_view name) {
  const auto found = std::find_if(kFunctions.begin(), kFunctions.end(),
                                  [name](const Function& f) { return name == f.name; });
  return found == kFunctions.end() ? nullptr : &*found;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Expression parse() {
    skip_blanks();
    if (at_end()) {
      throw ConfigError("expression: is empty; give a target like \"ring * bar^0.5\"");
    }
    Expression tree = sum();
    if (!at_end()) {
      unexpected("+, *, / or ^");
    }
    check_ramps(tree, false);
    return tree;
  }

 private:
  bool at_end() const { return position_ == text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[position_]; }
  bool is_next(char c) const { return !at_end() && text_[position_] == c; }
  size_t column() const { return column_of(text_, position_); }
  bool starts_number() const {
    return is_digit(peek()) ||
           (peek() == '.' && position_ + 1 < text_.size() && is_digit(text_[position_ + 1]));
  }

  void skip_blanks() {
    while (!at_end() && is_blank(text_[position_])) {
      ++position_;
    }
  }

  // Takes the character and the blanks after it, if it is next.
  bool take(char c) {
    if (!is_next(c)) {
      return false;
    }
    ++position_;
    skip_blanks();
    return true;
  }

  [[noreturn]] void fail(size_t at_column, const std::string& why) const {
    throw ConfigError(point_at(text_, at_column, why));
  }

  // What is next, for messages: "the end", a whole name or number, or one character.
  std::string found() const {
    if (at_end()) {
      return "the end";
    }
    size_t end = position_ + 1;
    while (end < text_.size() &&
           ((continues_name(text_[position_]) && continues_name(text_[end])) ||
            is_continuation(text_[end]))) {
      ++end;
    }
    const std::string word(text_.substr(position_, std::min<size_t>(end - position_, 40)));
    return word == "\"" ? "'\"'" : "\"" + word + "\"";
  }

  [[noreturn]] void unexpected(const std::string& allowed) const {
    if (is_next('-')) {
      fail(column(), "there is no subtraction; \"A but not B\" is a division, A / B^0.5");
    }
    if (is_next(')')) {
      fail(column(), "\")\" closes nothing");
    }
    fail(column(), "found " + found() + ", must be " + allowed);
  }

  void close(size_t opening, const std::string& allowed) {
    if (take(')')) {
      return;
    }
    if (at_end()) {
      fail(column(), "\")\" is missing; it closes \"(\" of column " + std::to_string(opening));
    }
    unexpected(allowed);
  }

  // The column of the "(" that is taken.
  size_t open() {
    const size_t opening = column();
    if (++level_ > kMaxLevels) {
      fail(opening, "more than " + std::to_string(kMaxLevels) + " levels of brackets");
    }
    take('(');
    return opening;
  }

  double number() {
    const size_t begin = position_;
    double value = 0.0;
    const char* first = text_.data() + begin;
    const auto [end, error] = std::from_chars(first, text_.data() + text_.size(), value);
    if (error == std::errc::result_out_of_range) {
      fail(column(), "the number is too large or too small for a double");
    }
    position_ += static_cast<size_t>(end - first);
    if (starts_name(peek()) || is_digit(peek()) || is_next('.')) {
      position_ = begin;
      fail(column(), found() +
                         " is neither a number nor a name; put a blank after a number, and "
                         "begin a name with a letter or _");
    }
    skip_blanks();
    return value;
  }

  double signed_number(const std::string& what) {
    const bool is_negative = is_next('-');
    if (is_negative || is_next('+')) {
      ++position_;
    }
    if (!starts_number()) {
      fail(column(), "found " + found() + ", must be " + what + ", a number");
    }
    const double value = number();
    return is_negative ? 0.0 - value : value;
  }

  Expression sum() {
    Expression node{.kind = Expression::Kind::mixture, .column = column()};
    std::vector<std::optional<double>> weights;
    std::vector<size_t> columns;
    do {
      columns.push_back(column());
      weights.push_back(starts_number() ? std::optional(weight()) : std::nullopt);
      node.children.push_back(product());
    } while (take('+'));
    check_weights(weights, columns);
    if (node.children.size() == 1) {
      Expression only = std::move(node.children.front());
      return only;
    }
    for (const std::optional<double>& value : weights) {
      node.numbers.push_back(value.value_or(1.0));
    }
    return node;
  }

  double weight() {
    const size_t begin = column();
    const double value = number();
    if (!(value > 0.0)) {
      fail(begin, "a weight must be > 0");
    }
    take('*');
    return value;
  }

  void check_weights(const std::vector<std::optional<double>>& weights,
                     const std::vector<size_t>& columns) const {
    if (weights.size() == 1 && weights[0]) {
      fail(columns[0],
           "a weight belongs to the terms of a sum, but there is no other term; leave it out, or "
           "write a power as ring^0.5");
    }
    for (size_t i = 1; i < weights.size(); ++i) {
      if (weights[i].has_value() != weights[0].has_value()) {
        fail(columns[i],
             "term " + std::to_string(i + 1) + " of the sum has " +
                 (weights[i] ? "a weight, but term 1 has none" : "no weight, but term 1 has one") +
                 "; give each term a weight, or none");
      }
    }
  }

  Expression product() {
    Expression node{.kind = Expression::Kind::product, .column = column()};
    double sign = 1.0;
    for (;;) {
      node.children.push_back(atom());
      node.numbers.push_back(0.0 + sign * (take('^') ? exponent() : 1.0));
      if (!is_next('*') && !is_next('/')) {
        break;
      }
      sign = is_next('/') ? -1.0 : 1.0;
      take(peek());
    }
    if (node.children.size() == 1 && node.numbers[0] == 1.0) {
      Expression only = std::move(node.children.front());
      return only;
    }
    return node;
  }

  double exponent() {
    const auto lone = [this](double value) {
      if (is_next('^')) {
        fail(column(), "one power only; write (ring^2)^3 as ring^6");
      }
      return value;
    };
    if (!is_next('(')) {
      return lone(signed_number("an exponent"));
    }
    const size_t opening = open();
    const double value = signed_number("an exponent");
    close(opening, "\")\"");
    --level_;
    return lone(value);
  }

  Expression atom() {
    if (starts_name(peek())) {
      return name_or_call();
    }
    if (is_next('\'') || is_next('"')) {
      return quoted();
    }
    if (is_next('(')) {
      const size_t opening = open();
      Expression inner = sum();
      close(opening, "+, *, /, ^ or \")\"");
      --level_;
      return inner;
    }
    if (starts_number()) {
      fail(column(),
           "a number is no law: weights stand first in each term of a sum, exponents after ^");
    }
    if (is_next('-')) {
      unexpected("");
    }
    fail(column(), "found " + found() + ", must be a name, a file in quotes, a function or \"(\"");
  }

  Expression quoted() {
    const size_t begin = column();
    const char quote = peek();
    const size_t first = position_ + 1;
    const size_t end = text_.find(quote, first);
    if (end == std::string_view::npos) {
      fail(begin, "the quote is not closed");
    }
    const std::string_view path = text_.substr(first, end - first);
    if (path.empty()) {
      fail(begin, "there is no file name between the quotes");
    }
    if (std::any_of(path.begin(), path.end(), is_control)) {
      fail(begin, "the file name has a control character");
    }
    position_ = end + 1;
    skip_blanks();
    return {.text = std::string(path), .is_quoted = true, .column = begin};
  }

  Expression name_or_call() {
    const size_t begin = column();
    const size_t first = position_;
    while (!at_end() && continues_name(text_[position_])) {
      ++position_;
    }
    const std::string name(text_.substr(first, position_ - first));
    skip_blanks();
    return is_next('(') ? call(name, begin) : Expression{.text = name, .column = begin};
  }

  Expression call(const std::string& name, size_t begin) {
    const Function* function = find_function(name);
    if (function == nullptr) {
      std::vector<std::string> known;
      for (const Function& each : kFunctions) {
        known.emplace_back(each.name);
      }
      const std::string near = nearest(name, known);
      fail(begin, "\"" + name + "\" is not a function; known: guide, condition, score, ramp" +
                      (near.empty() ? "; to multiply, write *" : "; did you mean " + near + "?"));
    }
    Expression node{.kind = Expression::Kind::call, .text = name, .column = begin};
    const size_t opening = open();
    const size_t count = function->num_children + function->num_numbers;
    for (size_t i = 0; i < count; ++i) {
      const bool is_last = i + 1 == count;
      if (i < function->num_children) {
        node.children.push_back(sum());
      } else {
        node.numbers.push_back(signed_number("the scale"));
      }
      if ((is_next(')') && !is_last) || (is_next(',') && is_last)) {
        fail(column(), name + "() takes " + std::to_string(count) +
                           (count == 1 ? " argument: " : " arguments: ") + function->usage);
      }
      if (!is_last && !take(',')) {
        close(opening, "+, *, /, ^ or \",\"");
      }
    }
    close(opening, "+, *, /, ^ or \")\"");
    --level_;
    return node;
  }

  void check_ramps(const Expression& node, bool is_factor) const {
    if (node.kind == Expression::Kind::call && node.text == "ramp" && !is_factor) {
      fail(node.column, "ramp() only stands as a factor of a product, as in ring / ramp(blob)");
    }
    for (const Expression& child : node.children) {
      check_ramps(child, node.kind == Expression::Kind::product);
    }
  }

  std::string_view text_;
  size_t position_ = 0;
  int level_ = 0;
};

}  // namespace

Expression parse_expression(std::string_view text) {
  if (text.size() > kMaxCharacters) {
    throw ConfigError("expression: " + std::to_string(text.size()) +
                      " characters, must be at most " + std::to_string(kMaxCharacters));
  }
  return Parser(text).parse();
}

}  // namespace motet
