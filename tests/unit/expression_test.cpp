// The compact notation: what it means, that text and tree go into each other, and every refusal with
// its column.
#include "motet/expression.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <random>

#include "motet/error.hpp"
#include "support/models.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

using Kind = Expression::Kind;

std::string canonical(const std::string& text) { return to_string(parse_expression(text)); }

std::string many(int count, const std::string& text) {
  std::string all;
  for (int i = 0; i < count; ++i) {
    all += text;
  }
  return all;
}

bool is_same(const Expression& a, const Expression& b) {
  bool same = a.kind == b.kind && a.text == b.text && a.is_quoted == b.is_quoted &&
              a.numbers == b.numbers && a.children.size() == b.children.size();
  for (size_t i = 0; same && i < a.children.size(); ++i) {
    same = is_same(a.children[i], b.children[i]);
  }
  return same;
}

TEST(ExpressionText, HasOneCanonicalForm) {
  const std::pair<const char*, const char*> cases[] = {
      {"ring", "ring"},
      {" ( ( ring ) ) ", "ring"},
      {"ring*bar^0.5", "ring * bar^0.5"},
      {"ring^1", "ring"},
      {"ring^+.5", "ring^0.5"},
      {"ring ^ (-2)", "ring^-2"},
      {"ring/blob", "ring / blob"},
      {"ring / blob^-0.3 / (a+b)^(-2)", "ring * blob^0.3 * (a + b)^2"},
      {"ring * blob^-0.3", "ring / blob^0.3"},
      {"ring / blob^0", "ring * blob^0"},
      {"(ring * bar)^2 * moons", "(ring * bar)^2 * moons"},
      {"(ring^2)^3", "(ring^2)^3"},
      {"ring * (bar * moons)", "ring * (bar * moons)"},
      {"0.7*ring+0.3*(bar*moons)", "0.7 ring + 0.3 bar * moons"},
      {"1 ring + 1 bar", "ring + bar"},
      {"(a + b) + c", "(a + b) + c"},
      {"1e20 ring + 3e-5 bar^1e300", "1e+20 ring + 3e-05 bar^1e+300"},
      {"'a.safetensors' * \"b c.safetensors\"", "'a.safetensors' * 'b c.safetensors'"},
      {"\"it's\"", "\"it's\""},
      {"guide( a , b , -1.5 )", "guide(a, b, -1.5)"},
      {"score(a*b + c) * condition(a, y)", "score(a * b + c) * condition(a, y)"},
      {"ramp(blob)^-1", "ramp(blob)^-1"},
      {"ring\n/ ramp(blob)\t", "ring / ramp(blob)"},
      {"half-plane_2.x * _y", "half-plane_2.x * _y"},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_EQ(canonical(text), expected);
    EXPECT_TRUE(is_same(parse_expression(text), parse_expression(expected))) << text;
  }
}

TEST(ExpressionText, PowersBindTighterThanProductsAndTheseThanSums) {
  const Expression tree = parse_expression("0.2 a * b^2 / c + 0.8 d");
  ASSERT_EQ(tree.kind, Kind::mixture);
  EXPECT_EQ(tree.numbers, (std::vector<double>{0.2, 0.8}));
  const Expression& first = tree.children[0];
  ASSERT_EQ(first.kind, Kind::product);
  EXPECT_EQ(first.numbers, (std::vector<double>{1.0, 2.0, -1.0}));
  EXPECT_EQ(first.column, 5U);
  EXPECT_EQ(first.children[2].column, 15U);
}

TEST(ExpressionText, AHyphenIsPartOfAName) {
  EXPECT_EQ(parse_expression("ring-bar").kind, Kind::name);
  EXPECT_TRUE(is_expression_name("half-plane.2"));
  for (const char* text : {"", "2nd", "-a", "a b", "a+b", ".a"}) {
    EXPECT_FALSE(is_expression_name(text)) << text;
  }
}

TEST(ExpressionText, NamesAreListedOnceInOrder) {
  const auto names = names_in(parse_expression("guide(b, a, 2) * 'b' / (a + b^2)"));
  ASSERT_EQ(names.size(), 3U);
  EXPECT_EQ(names[0].text, "b");
  EXPECT_EQ(names[1].text, "a");
  EXPECT_TRUE(names[2].is_quoted);
}

// A random tree of at most `depth` levels.
class Maker {
 public:
  explicit Maker(uint32_t seed) : random_(seed) {}

  Expression tree(int depth) {
    const int kind = depth == 0 ? 0 : below(5);
    return kind < 2    ? name()
           : kind == 2 ? product(depth)
           : kind == 3 ? mixture(depth)
                       : call(depth);
  }

 private:
  int below(int count) { return static_cast<int>(random_() % static_cast<uint32_t>(count)); }
  double number() { return std::ldexp(static_cast<double>(random_()) + 1.0, below(40) - 60); }

  Expression name() {
    const bool is_quoted = below(4) == 0;
    const std::vector<std::string> names = {"ring", "_a-1", "b.c", "score", "é d", "x'y", "p/q"};
    return {.text = names[static_cast<size_t>(below(is_quoted ? 7 : 4))], .is_quoted = is_quoted};
  }
  Expression product(int depth) {
    Expression node{.kind = Kind::product};
    for (int i = 1 + below(3); i > 0; --i) {
      Expression child = tree(depth - 1);
      if (below(5) == 0) {
        child = {.kind = Kind::call, .text = "ramp", .children = {Expression(child)}};
      }
      node.children.push_back(std::move(child));
      node.numbers.push_back(below(3) == 0 ? 1.0 : below(2) == 0 ? number() : -number());
    }
    if (node.children.size() == 1 && node.numbers[0] == 1.0) {
      node.numbers[0] = 2.0;
    }
    return node;
  }
  Expression mixture(int depth) {
    Expression node{.kind = Kind::mixture};
    const bool is_even = below(2) == 0;
    for (int i = 2 + below(3); i > 0; --i) {
      node.children.push_back(tree(depth - 1));
      node.numbers.push_back(is_even ? 1.0 : number());
    }
    return node;
  }
  Expression call(int depth) {
    if (below(2) == 0) {
      return {.kind = Kind::call, .text = "score", .children = {tree(depth - 1)}};
    }
    Expression node{.kind = Kind::call, .text = below(2) == 0 ? "guide" : "condition"};
    node.children = {tree(depth - 1), tree(depth - 1)};
    if (node.text == "guide") {
      node.numbers = {-number()};
    }
    return node;
  }

  std::mt19937 random_;
};

TEST(ExpressionText, EveryTreeReadsBackFromItsText) {
  Maker maker(7);
  for (int i = 0; i < 2000; ++i) {
    const Expression tree = maker.tree(4);
    const std::string text = to_string(tree);
    EXPECT_TRUE(is_same(parse_expression(text), tree)) << text;
    EXPECT_EQ(canonical(text), text);
  }
}

struct Refusal {
  const char* name;
  std::string text;
  std::string message;
};

void PrintTo(const Refusal& refusal, std::ostream* out) { *out << refusal.name; }

std::string at(size_t column, const std::string& why, const std::string& text) {
  return "expression: column " + std::to_string(column) + ": " + why + "\n  " + text + "\n  " +
         std::string(column - 1, ' ') + "^";
}

class RefusedExpression : public ::testing::TestWithParam<Refusal> {};

TEST_P(RefusedExpression, PointsAtTheColumn) {
  EXPECT_THROW_MSG(parse_expression(GetParam().text), ConfigError, GetParam().message);
}

Refusal refused(const char* name, const std::string& text, size_t column, const std::string& why) {
  return {name, text, at(column, why, text)};
}

const std::string kAtom = ", must be a name, a file in quotes, a function or \"(\"";
const std::string kGuide =
    "guide() takes 3 arguments: guide(conditional, unconditional, scale) or guide(prior, "
    "classifier, scale)";

INSTANTIATE_TEST_SUITE_P(
    Expression, RefusedExpression,
    ::testing::Values(
        Refusal{"Empty", " ", "expression: is empty; give a target like \"ring * bar^0.5\""},
        Refusal{"TooLong", many(5001, "a "), "expression: 10002 characters, must be at most 10000"},
        refused("MissingBracket", "(ring * (bar", 13,
                "\")\" is missing; it closes \"(\" of column 9"),
        refused("BracketThatClosesNothing", "ring)", 5, "\")\" closes nothing"),
        refused("MissingOperator", "ring bar", 6, "found \"bar\", must be +, *, / or ^"),
        refused("MissingFactor", "ring *", 7, "found the end" + kAtom),
        refused("TwoOperators", "ring * / bar", 8, "found \"/\"" + kAtom),
        refused("EmptyBrackets", "()", 2, "found \")\"" + kAtom),
        refused("UnknownCharacter", "ring % bar", 6, "found \"%\", must be +, *, / or ^"),
        refused("CharacterOfTwoBytes", "'é' * é", 7, "found \"é\"" + kAtom),
        refused("LoneQuote", "ring * \"", 8, "the quote is not closed"),
        refused("OpenQuote", "'ring", 1, "the quote is not closed"),
        refused("EmptyQuote", "''", 1, "there is no file name between the quotes"),
        Refusal{"ControlCharacterInQuotes", "'a\x01'",
                at(1, "the file name has a control character", "'a '")},
        refused("Subtraction", "ring - bar", 6,
                "there is no subtraction; \"A but not B\" is a division, A / B^0.5"),
        refused("LeadingMinus", "-ring", 1,
                "there is no subtraction; \"A but not B\" is a division, A / B^0.5"),
        refused("LoneWeight", "2 ring", 1,
                "a weight belongs to the terms of a sum, but there is no other term; leave it out, "
                "or write a power as ring^0.5"),
        refused("LoneWeightInBrackets", "a + (0.5 b)", 6,
                "a weight belongs to the terms of a sum, but there is no other term; leave it out, "
                "or write a power as ring^0.5"),
        refused("MissingWeight", "0.7 ring + bar", 12,
                "term 2 of the sum has no weight, but term 1 has one; give each term a weight, or "
                "none"),
        refused("OneWeight", "ring + bar + 0.7 moons", 14,
                "term 3 of the sum has a weight, but term 1 has none; give each term a weight, or "
                "none"),
        refused("ZeroWeight", "0 ring + 1 bar", 1, "a weight must be > 0"),
        refused("NumberAsFactor", "ring * 2", 8,
                "a number is no law: weights stand first in each term of a sum, exponents after "
                "^"),
        refused("NumberOverLaw", "1/ring", 2, "found \"/\"" + kAtom),
        refused("NumberGluedToName", "0.7ring + 0.3 bar", 1,
                "\"0.7ring\" is neither a number nor a name; put a blank after a number, and begin "
                "a name with a letter or _"),
        refused("NumberWithTwoPoints", "1.2.3 ring + bar", 1,
                "\"1.2.3\" is neither a number nor a name; put a blank after a number, and begin a "
                "name with a letter or _"),
        refused("HugeNumber", "ring^1e999", 6, "the number is too large or too small for a double"),
        refused("TinyNumber", "ring^1e-999", 6,
                "the number is too large or too small for a double"),
        refused("ExponentThatIsNoNumber", "ring^x", 6,
                "found \"x\", must be an exponent, a number"),
        refused("InfiniteExponent", "ring^inf", 6, "found \"inf\", must be an exponent, a number"),
        refused("TwoSigns", "ring^--2", 7, "found \"-2\", must be an exponent, a number"),
        refused("OpenExponent", "ring^(2", 8, "\")\" is missing; it closes \"(\" of column 6"),
        refused("TermAsExponent", "ring^(2*3)", 8, "found \"*\", must be \")\""),
        refused("TwoPowers", "ring^2^3", 7, "one power only; write (ring^2)^3 as ring^6"),
        refused("TwoPowersInBrackets", "ring^(2)^3", 9,
                "one power only; write (ring^2)^3 as ring^6"),
        refused("NameAsFunction", "ring (bar)", 1,
                "\"ring\" is not a function; known: guide, condition, score, ramp; to multiply, "
                "write *"),
        refused("MisspeltFunction", "rampp(bar)", 1,
                "\"rampp\" is not a function; known: guide, condition, score, ramp; did you mean "
                "ramp?"),
        refused("TooFewArguments", "guide(ring, bar)", 16, kGuide),
        refused("TooManyArguments", "guide(ring, bar, 1, 2)", 19, kGuide),
        refused("ArgumentOfScore", "score(a, b)", 8, "score() takes 1 argument: score(law)"),
        refused("NoArguments", "condition()", 11, "found \")\"" + kAtom),
        refused("OpenFunction", "guide(ring", 11, "\")\" is missing; it closes \"(\" of column 6"),
        refused("MissingComma", "condition(a b)", 13, "found \"b\", must be +, *, /, ^ or \",\""),
        refused("ScaleThatIsNoNumber", "guide(a, b, c)", 13,
                "found \"c\", must be the scale, a number"),
        refused("RampAlone", "ramp(a)", 1,
                "ramp() only stands as a factor of a product, as in ring / ramp(blob)"),
        refused("RampInASum", "a + ramp(b)", 5,
                "ramp() only stands as a factor of a product, as in ring / ramp(blob)"),
        Refusal{"TooDeep", many(101, "(") + "a" + many(101, ")"),
                "expression: column 101: more than 100 levels of brackets\n  ... " + many(51, "(") +
                    "a" + many(23, ")") + " ...\n  " + many(54, " ") + "^"}),
    [](const auto& test) { return test.param.name; });

TEST(ExpressionText, AHundredLevelsAreAllowed) {
  EXPECT_EQ(canonical(many(100, "(") + "a" + many(100, ")")), "a");
}

// ---- What is built

ModelPtr normal(const std::string& name) { return testing::gaussian({0.0, 0.0}, {1.0, 1.0}, name); }

// p(y | x) = N(0; x, 1) at every level.
class Pull : public Likelihood {
 public:
  explicit Pull(LikelihoodPath path) : path_(path) {}
  Value evaluate(const Tensor& x, const NoiseLevel&, const Tensor&) const override {
    return {-0.5 * x.to(at::kDouble).square().sum(1), -x};
  }
  LikelihoodPath path() const override { return path_; }
  std::vector<int64_t> event_shape() const override { return {2}; }
  std::string describe() const override { return "y"; }

 private:
  LikelihoodPath path_;
};

// a, b, c: Gaussians; s: a score; y, z: likelihoods.
struct Names {
  ModelPtr a = normal("a");
  ModelPtr b = testing::gaussian({0.5, 0.0}, {0.5, 2.0}, "b");
  ModelPtr s = score_only(normal("s"));
  LikelihoodPtr y = std::make_shared<Pull>(LikelihoodPath::given);
  LikelihoodPtr z = std::make_shared<Pull>(LikelihoodPath::joint);
  int num_normalised = 0;

  ModelPtr build(const std::string& text, bool has_normaliser = true) {
    const Resolver resolver = [this](const Expression& name) -> Named {
      if (name.text == "y" || name.text == "z") {
        return {nullptr, name.text == "y" ? y : z};
      }
      return {name.text == "a"   ? a
              : name.text == "b" ? b
              : name.text == "s" ? s
                                 : nullptr,
              nullptr};
    };
    const Normaliser normaliser = [this](const ModelPtr&) {
      ++num_normalised;
      return LogNormalisers{{0.0}, {1.5}};
    };
    return motet::build(parse_expression(text), text, resolver,
                        has_normaliser ? normaliser : Normaliser(), Ramp{3.0, -3.0});
  }
};

const NoiseLevel kLevel{3, 0.7, 0.01};

void expect_same_law(const ModelPtr& found, const ModelPtr& expected) {
  const Tensor x = at::tensor({0.3, -0.2, 1.5, 0.4, -1.0, 2.0}, at::kDouble).reshape({3, 2});
  const Eval a = found->evaluate(x, kLevel);
  const Eval b = expected->evaluate(x, kLevel);
  EXPECT_TRUE(at::allclose(a.score, b.score, 1e-12, 1e-12));
  ASSERT_EQ(a.log_density.defined(), b.log_density.defined());
  if (a.log_density.defined()) {
    EXPECT_TRUE(at::allclose(a.log_density, b.log_density, 1e-12, 1e-12));
  }
  EXPECT_EQ(found->describe(), expected->describe());
}

TEST(ExpressionBuild, SaysWhatTheFunctionsOfComposeSay) {
  Names names;
  const ModelPtr a = names.a;
  const ModelPtr b = names.b;
  expect_same_law(names.build("a"), a);
  expect_same_law(names.build("a * b^0.5"), product({{a}, {b, 0.5}}));
  expect_same_law(names.build("a^2 / b^0.3"), product({{a, 2.0}, {b, -0.3}}));
  expect_same_law(names.build("0.7 a + 0.3 b"), mixture({{a, 0.7}, {b, 0.3}}));
  expect_same_law(names.build("(a + b)^2 * a"), product({{mixture({{a}, {b}}), 2.0}, {a}}));
  expect_same_law(names.build("a / ramp(b)^0.5"), product({{a}, {b, -0.5, Ramp{3.0, -3.0}}}));
  expect_same_law(names.build("guide(a, b, 1.5)"), guide(a, b, 1.5));
  expect_same_law(names.build("guide(a, z, 1.5)"), guide(a, names.z, 1.5));
  expect_same_law(names.build("score(a) * b"), product({{score_only(a)}, {b}}));
}

TEST(ExpressionBuild, ALikelihoodConditionsAllOtherFactors) {
  Names names;
  const ModelPtr prior = product({{names.a}, {names.b}});
  const ModelPtr expected = condition(prior, names.y, 2.0);
  expect_same_law(names.build("a * y^2 * b"), expected);
  expect_same_law(names.build("y^2 * a * b"), expected);
  expect_same_law(names.build("condition(a, y)"), condition(names.a, names.y));
  expect_same_law(names.build("(a * y) * b"), product({{condition(names.a, names.y)}, {names.b}}));
}

TEST(ExpressionBuild, OneNameIsOneLeaf) {
  Names names;
  EXPECT_EQ(leaves(names.build("0.5 a + 0.5 b")).size(), 2U);
  EXPECT_EQ(leaves(names.build("(a + b) * a^0.5 / (a + b)^0.1")).size(), 2U);
}

TEST(ExpressionBuild, EachProductInASumIsNormalisedOnce) {
  Names names;
  const ModelPtr found = names.build("0.7 a + 0.3 b * s");
  EXPECT_EQ(names.num_normalised, 1);
  expect_same_law(names.build("0.7 a + 0.3 b^2"),
                  mixture({{names.a, 0.7}, {normalised(pow(names.b, 2.0), {{0.0}, {1.5}}), 0.3}}));
  names.num_normalised = 0;
  names.build("(a * b + a) * (0.2 a*b + 0.8 b)");
  EXPECT_EQ(names.num_normalised, 1);
  names.num_normalised = 0;
  names.build("(a + b) + s");
  EXPECT_EQ(names.num_normalised, 0);
}

TEST(ExpressionBuild, PointsAtWhatCannotBeBuilt) {
  const std::string likelihood =
      "\"y\" is a likelihood, which conditions a law: it only stands as a factor of a product, as "
      "in prior * y, or second in condition() and guide()";
  const auto refused = [](const std::string& text, size_t column, const std::string& why) {
    Names names;
    EXPECT_THROW_MSG(names.build(text), ConfigError, at(column, why, text));
  };
  refused("y", 1, likelihood);
  refused("a + y", 5, likelihood);
  refused("score(y) * a", 7, likelihood);
  refused("a / ramp(y)", 10, likelihood);
  refused("guide(y, a, 2)", 7, likelihood);
  refused("condition(y, z)", 11, likelihood);
  const std::string power =
      "\"y\" is a likelihood, whose power must be > 0: what it says cannot be taken back";
  refused("a / y", 5, power);
  refused("a * y^0", 5, power);
  refused("(y * z)^2 * a", 2,
          "the likelihood \"y\" has nothing to condition: no factor of this product is a law");
  refused("condition(a, b)", 14,
          "the second argument of condition() must be the name of a likelihood; a product of laws "
          "is a * b");
  const std::string share =
      "this term of a sum is conditioned by a likelihood, so that its share is not known; "
      "condition "
      "the whole sum, (a + b) * y";
  refused("a + b * y", 5, share);
  refused("a + (b * z) * a", 5, share);
  refused("a * q", 5, "\"q\" stands for nothing: the resolver must give a model or a likelihood");
  Names names;
  EXPECT_THROW_MSG(names.build("a + a * b", false), ConfigError,
                   at(5,
                      "this product stands in a sum, where its integral counts, but no normaliser "
                      "is given that finds it",
                      "a + a * b"));
}

}  // namespace
}  // namespace motet
