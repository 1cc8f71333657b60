// Tree to model. Names and functions become laws, products and mixtures; likelihoods condition the
// product in which they stand as a factor.
#include <algorithm>
#include <map>

#include "compose_tree.hpp"
#include "motet/error.hpp"
#include "motet/expression.hpp"

namespace motet {
namespace {

using Kind = Expression::Kind;

bool is_call(const Expression& node, const char* function) {
  return node.kind == Kind::call && node.text == function;
}

class Builder {
 public:
  Builder(std::string_view text, const Resolver& resolver, const Normaliser& normaliser,
          const Ramp& ramp)
      : text_(text), resolver_(resolver), normaliser_(normaliser), ramp_(ramp) {}

  // What a law must be; a likelihood is refused.
  ModelPtr law(const Expression& node) {
    Named named = resolve(node);
    if (named.likelihood) {
      fail(node, "\"" + node.text +
                     "\" is a likelihood, which conditions a law: it only stands as a factor of a "
                     "product, as in prior * " +
                     node.text + ", or second in condition() and guide()");
    }
    return named.model;
  }

 private:
  [[noreturn]] void fail(const Expression& node, const std::string& why) const {
    throw ConfigError(point_at(text_, node.column, why));
  }

  Named resolve(const Expression& node) {
    switch (node.kind) {
      case Kind::product:
        return {.model = product_of(node), .likelihood = {}};
      case Kind::mixture:
        return {.model = mixture_of(node), .likelihood = {}};
      case Kind::call:
        return {.model = call_of(node), .likelihood = {}};
      case Kind::name:
        break;
    }
    Named named = resolver_(node);
    if ((named.model == nullptr) == (named.likelihood == nullptr)) {
      fail(node, "\"" + node.text +
                     "\" stands for nothing: the resolver must give a model or a "
                     "likelihood");
    }
    return named;
  }

  ModelPtr product_of(const Expression& node) {
    struct Condition {
      LikelihoodPtr likelihood;
      double exponent;
    };
    std::vector<Term> terms;
    std::vector<Condition> conditions;
    const Expression* first = nullptr;  // likelihood
    for (size_t i = 0; i < node.children.size(); ++i) {
      const Expression& child = node.children[i];
      const double exponent = node.numbers[i];
      if (is_call(child, "ramp")) {
        terms.push_back({law(child.children.front()), exponent, ramp_});
        continue;
      }
      Named named = resolve(child);
      if (named.model) {
        terms.push_back({std::move(named.model), exponent});
        continue;
      }
      if (!(exponent > 0.0)) {
        fail(child, "\"" + child.text +
                        "\" is a likelihood, whose power must be > 0: what it says cannot be "
                        "taken back");
      }
      first = first == nullptr ? &child : first;
      conditions.push_back({std::move(named.likelihood), exponent});
    }
    if (terms.empty()) {
      fail(*first, "the likelihood \"" + first->text +
                       "\" has nothing to condition: no factor of this product is a law");
    }
    ModelPtr model = product(std::move(terms));
    for (Condition& each : conditions) {
      model = condition(std::move(model), std::move(each.likelihood), each.exponent);
    }
    return model;
  }

  ModelPtr mixture_of(const Expression& node) {
    std::vector<Component> components;
    for (size_t i = 0; i < node.children.size(); ++i) {
      components.push_back({component(node.children[i]), node.numbers[i]});
    }
    return mixture(std::move(components));
  }

  // A component's share hangs on its integral, which products do not know.
  ModelPtr component(const Expression& node) {
    ModelPtr model = law(node);
    using detail::Node;
    const Node::Kind kind = detail::tree_of(model).root.kind;
    if (kind != Node::Kind::product && kind != Node::Kind::condition) {
      return model;
    }
    if (traits(*model).is_conditioned) {
      fail(node,
           "this term of a sum is conditioned by a likelihood, so that its share is not known; "
           "condition the whole sum, (a + b) * y");
    }
    const std::string key = to_string(node);
    const auto known = normalised_.find(key);
    if (known != normalised_.end()) {
      return known->second;
    }
    if (!normaliser_) {
      fail(node,
           "this product stands in a sum, where its integral counts, but no normaliser is "
           "given that finds it");
    }
    return normalised_[key] = normalised(model, normaliser_(model));
  }

  ModelPtr call_of(const Expression& node) {
    const Expression& first = node.children.front();
    if (node.text == "ramp") {
      fail(node, "ramp() only stands as a factor of a product, as in ring / ramp(blob)");
    }
    if (node.text == "score") {
      return score_only(law(first));
    }
    const Expression& second = node.children.at(1);
    Named named = resolve(second);
    if (node.text == "guide") {
      const double scale = node.numbers.front();
      return named.likelihood ? guide(law(first), std::move(named.likelihood), scale)
                              : guide(law(first), std::move(named.model), scale);
    }
    if (!named.likelihood) {
      fail(second,
           "the second argument of condition() must be the name of a likelihood; a "
           "product of laws is a * b");
    }
    return condition(law(first), std::move(named.likelihood));
  }

  std::string_view text_;
  const Resolver& resolver_;
  const Normaliser& normaliser_;
  const Ramp& ramp_;
  std::map<std::string, ModelPtr> normalised_;  // by canonical text
};

}  // namespace

ModelPtr build(const Expression& expression, std::string_view text, const Resolver& resolver,
               const Normaliser& normaliser, const Ramp& ramp) {
  return Builder(text, resolver, normaliser, ramp).law(expression);
}

}  // namespace motet
