// Building compositions and asking what they are. The mathematics is in compose_tree.cpp.
#include "motet/compose.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <sstream>

#include "compose_tree.hpp"
#include "error_shape.hpp"
#include "motet/error.hpp"
#include "tapestry_detail.hpp"

namespace motet {
namespace {

using detail::check_schedules;
using detail::Composition;
using detail::Node;
using detail::Scheduled;
using detail::shape_text;
using detail::Tree;

class ScoreOnly : public Model {
 public:
  explicit ScoreOnly(ModelPtr model) : model_(std::move(model)) {}
  Eval evaluate(const Tensor& x, const NoiseLevel& level) const override {
    Eval eval = model_->evaluate(x, level);
    eval.log_density = Tensor();
    eval.remainder = eval.score;
    return eval;
  }
  bool is_exact() const override { return false; }
  std::vector<int64_t> event_shape() const override { return model_->event_shape(); }
  std::string describe() const override { return "score of " + model_->describe(); }
  std::optional<NoiseSchedule> schedule() const override { return model_->schedule(); }
  const ModelPtr& inner() const { return model_; }

 private:
  ModelPtr model_;
};

std::string numbered(const std::string& function, const char* part, size_t index, size_t count) {
  return "compose: " + function + "() " + part + " " + std::to_string(index + 1) + " of " +
         std::to_string(count);
}

void check_given(const ModelPtr& model, const std::string& where) {
  if (model == nullptr) {
    throw ConfigError(where + ": no model given (null), must be a model");
  }
}

// Parts of a composition share one event shape.
void check_shape(const Model& model, const Model& first, const std::string& where) {
  if (model.event_shape() != first.event_shape()) {
    throw ShapeError(where + " (\"" + model.describe() + "\") has event shape " +
                     shape_text(model.event_shape()) + ", but the first (\"" + first.describe() +
                     "\") has " + shape_text(first.event_shape()) +
                     "; all must share one event shape");
  }
}

// Of a canvas no density is known that a ledger could begin with.
bool has_canvas(const ModelPtr& model) {
  const std::vector<ModelPtr> parts = leaves(model);
  return std::any_of(parts.begin(), parts.end(),
                     [](const ModelPtr& part) { return detail::tapestry_in(*part) != nullptr; });
}

void check_term(const std::vector<Term>& terms, size_t index) {
  const Term& term = terms[index];
  const std::string where = numbered("product", "term", index, terms.size());
  check_given(term.model, where);
  const std::string named = where + " (\"" + term.model->describe() + "\")";
  if (!std::isfinite(term.exponent)) {
    throw ConfigError(named + ": exponent must be a finite number");
  }
  if (term.ramp && !(std::isfinite(term.ramp->first) && std::isfinite(term.ramp->last) &&
                     term.ramp->first > term.ramp->last)) {
    throw ConfigError(named + ": a ramp must begin at a larger log v than it ends");
  }
  if (term.ramp && traits(*term.model).is_conditioned) {
    throw ConfigError(named +
                      ": a ramp needs a log density, which a conditioned model has only up to a "
                      "constant of the level; ramp its prior");
  }
  if (term.ramp && has_canvas(term.model)) {
    throw ConfigError(named +
                      ": a ramp needs a normalised log density, which a tapestry has not; ramp "
                      "factors of its windows");
  }
  check_shape(*term.model, *terms.front().model, where);
}

// A term of a product; nested products are multiplied out.
struct Factor {
  Tree tree;
  double exponent = 1.0;
  std::optional<Ramp> ramp;
};

void add_factors(const Term& term, std::vector<Factor>& factors) {
  Tree tree = detail::tree_of(term.model);
  const bool is_plain =
      tree.root.kind == Node::Kind::product && !term.ramp &&
      std::none_of(tree.root.ramps.begin(), tree.root.ramps.end(),
                   [](const std::optional<Ramp>& ramp) { return ramp.has_value(); });
  if (!is_plain) {
    factors.push_back({std::move(tree), term.exponent, term.ramp});
    return;
  }
  for (size_t i = 0; i < tree.root.children.size(); ++i) {
    factors.push_back(
        {{tree.leaves, tree.root.children[i]}, term.exponent * tree.root.numbers[i], {}});
  }
}

bool is_leaf(const Factor& factor) {
  return factor.tree.root.kind == Node::Kind::leaf && !factor.ramp;
}

const ModelPtr& leaf_of(const Factor& factor) { return factor.tree.leaves[factor.tree.root.leaf]; }

// A leaf that is there twice becomes one with the sum of both exponents.
std::vector<Factor> merged(const std::vector<Factor>& factors) {
  constexpr double kRounding = 1e-12;
  std::vector<Factor> result;
  for (const Factor& factor : factors) {
    const auto same = std::find_if(result.begin(), result.end(), [&factor](const Factor& other) {
      return is_leaf(factor) && is_leaf(other) && leaf_of(factor) == leaf_of(other);
    });
    if (same == result.end()) {
      result.push_back(factor);
    } else {
      same->exponent += factor.exponent;
    }
  }
  std::erase_if(result, [](const Factor& f) { return std::abs(f.exponent) < kRounding; });
  return result;
}

// The leaves that the node names, alone.
Tree pruned(const Tree& tree) {
  std::vector<bool> is_used(tree.leaves.size(), false);
  const auto mark = [&is_used](auto&& self, const Node& node) -> void {
    if (node.kind == Node::Kind::leaf) {
      is_used[node.leaf] = true;
    }
    for (const Node& child : node.children) {
      self(self, child);
    }
  };
  mark(mark, tree.root);
  Tree result;
  std::vector<size_t> places(tree.leaves.size(), 0);
  for (size_t i = 0; i < tree.leaves.size(); ++i) {
    places[i] = result.leaves.size();
    if (is_used[i]) {
      result.leaves.push_back(tree.leaves[i]);
    }
  }
  const auto renumber = [&places](auto&& self, Node node) -> Node {
    node.leaf = node.kind == Node::Kind::leaf ? places[node.leaf] : 0;
    for (Node& child : node.children) {
      child = self(self, std::move(child));
    }
    return node;
  };
  result.root = renumber(renumber, tree.root);
  return result;
}

ModelPtr model_of(Tree tree) {
  if (tree.root.kind == Node::Kind::leaf) {
    return tree.leaves[tree.root.leaf];
  }
  return std::make_shared<Composition>(std::move(tree));
}

// What leaves a component's integral unknown; "" when it is known.
std::string unknown_integral(const ModelPtr& component) {
  if (traits(*component).is_conditioned) {
    return "conditioned, and its integral is not known; condition the mixture instead";
  }
  if (has_canvas(component)) {
    return "a tapestry, whose integral is not known; make a tapestry of mixtures instead";
  }
  if (detail::tree_of(component).root.kind == Node::Kind::product) {
    return "a product, whose integral is not known; give normalised(...), with the log integrals "
           "that measure_normalisers() finds";
  }
  return "";
}

void check_component(const std::vector<Component>& components, size_t index) {
  const std::string where = numbered("mixture", "component", index, components.size());
  const Component& component = components[index];
  check_given(component.model, where);
  const std::string named = where + " (\"" + component.model->describe() + "\")";
  if (!(component.weight > 0.0) || !std::isfinite(component.weight)) {
    std::ostringstream text;
    text << named << ": weight = " << component.weight << ", must be > 0 and finite";
    throw ConfigError(text.str());
  }
  check_shape(*component.model, *components.front().model, where);
  const std::string problem = unknown_integral(component.model);
  if (!problem.empty()) {
    throw ConfigError(named + " is " + problem);
  }
}

}  // namespace

const Model* detail::hidden_model(const Model& model) {
  const auto* bare = dynamic_cast<const ScoreOnly*>(&model);
  return bare == nullptr ? nullptr : bare->inner().get();
}

ModelPtr detail::hidden_model(const ModelPtr& model) {
  const auto* bare = dynamic_cast<const ScoreOnly*>(model.get());
  return bare == nullptr ? nullptr : bare->inner();
}

void detail::check_schedules(const std::string& function, const std::vector<Scheduled>& parts) {
  const Scheduled* known = nullptr;
  for (const Scheduled& part : parts) {
    if (!part.schedule) {
      continue;
    }
    if (known != nullptr && !part.schedule->same_levels(*known->schedule)) {
      throw ConfigError("compose: " + function + "(): \"" + part.name + "\" was trained for " +
                        part.schedule->describe() + ", but \"" + known->name + "\" for " +
                        known->schedule->describe() +
                        "; all must share one noise schedule: retrain one of them");
    }
    known = &part;
  }
}

Ramp ramp_over(const NoiseSchedule& schedule) {
  const int64_t first = std::max<int64_t>(detail::noisy_level(schedule, kHighNoise), 1);
  return {detail::log_v(schedule.level(first)), detail::log_v(schedule.level(0))};
}

ModelPtr product(std::vector<Term> terms) {
  if (terms.empty()) {
    throw ConfigError("compose: product() of no terms; give at least one model");
  }
  std::vector<Factor> all;
  for (size_t i = 0; i < terms.size(); ++i) {
    check_term(terms, i);
    add_factors(terms[i], all);
  }
  const std::vector<Factor> kept = merged(all);
  if (kept.empty()) {
    throw ConfigError("compose: product(): every exponent is 0; at least one must differ from 0");
  }
  Tree tree;
  tree.root.kind = Node::Kind::product;
  for (const Factor& factor : kept) {
    tree.root.children.push_back(detail::graft(pruned(factor.tree), tree.leaves));
    tree.root.numbers.push_back(factor.exponent);
    tree.root.ramps.push_back(factor.ramp);
  }
  std::vector<Scheduled> parts;
  for (const ModelPtr& leaf : tree.leaves) {
    parts.push_back({leaf->describe(), leaf->schedule()});
  }
  check_schedules("product", parts);
  const bool is_single =
      kept.size() == 1 && kept.front().exponent == 1.0 && !kept.front().ramp.has_value();
  return model_of(is_single ? pruned(kept.front().tree) : std::move(tree));
}

ModelPtr mixture(std::vector<Component> components) {
  if (components.empty()) {
    throw ConfigError("compose: mixture() of no components; give at least one model");
  }
  if (components.size() == 1) {  // its weight is 1, whatever its integral
    check_given(components.front().model, numbered("mixture", "component", 0, 1));
    return components.front().model;
  }
  Tree tree;
  tree.root.kind = Node::Kind::mixture;
  double total = 0.0;
  std::vector<Scheduled> parts;
  for (size_t i = 0; i < components.size(); ++i) {
    check_component(components, i);
    const Component& component = components[i];
    total += component.weight;
    parts.push_back({component.model->describe(), component.model->schedule()});
    tree.root.children.push_back(detail::graft(detail::tree_of(component.model), tree.leaves));
    tree.root.numbers.push_back(component.weight);
  }
  check_schedules("mixture", parts);
  for (double& weight : tree.root.numbers) {
    weight /= total;
  }
  return model_of(std::move(tree));
}

ModelPtr normalised(ModelPtr model, LogNormalisers log_normalisers) {
  check_given(model, "compose: normalised()");
  const std::vector<double>& at = log_normalisers.log_v;
  const std::vector<double>& value = log_normalisers.value;
  const auto is_finite = [](double number) { return std::isfinite(number); };
  if (at.empty() || at.size() != value.size() || !std::all_of(at.begin(), at.end(), is_finite) ||
      !std::all_of(value.begin(), value.end(), is_finite) ||
      std::adjacent_find(at.begin(), at.end(), std::greater_equal<>()) != at.end()) {
    throw ConfigError("compose: normalised(\"" + model->describe() +
                      "\"): " + std::to_string(at.size()) + " values of log v and " +
                      std::to_string(value.size()) +
                      " log integrals; give as many of both, at least 1, all finite, log v rising");
  }
  const Tree inner = detail::tree_of(model);
  Tree tree;
  tree.root.kind = Node::Kind::normalised;
  tree.root.children = {detail::graft(inner, tree.leaves)};
  tree.root.table = std::move(log_normalisers);
  return model_of(std::move(tree));
}

ModelPtr condition(ModelPtr prior, LikelihoodPtr likelihood, double exponent) {
  check_given(prior, "compose: condition() prior");
  if (likelihood == nullptr) {
    throw ConfigError("compose: condition(): no likelihood given (null), must be one");
  }
  const std::string named =
      "compose: condition(\"" + prior->describe() + "\", \"" + likelihood->describe() + "\")";
  if (!std::isfinite(exponent)) {
    throw ConfigError(named + ": exponent must be a finite number");
  }
  if (likelihood->event_shape() != prior->event_shape()) {
    throw ShapeError(named + ": the likelihood is of event shape " +
                     shape_text(likelihood->event_shape()) + ", but the prior has " +
                     shape_text(prior->event_shape()) + "; they must be equal");
  }
  check_schedules("condition", {{prior->describe(), prior->schedule()},
                                {likelihood->describe(), likelihood->schedule()}});
  Tree tree;
  tree.root.kind = Node::Kind::condition;
  tree.root.children = {detail::graft(detail::tree_of(prior), tree.leaves)};
  tree.root.numbers = {exponent};
  tree.root.likelihood = std::move(likelihood);
  return model_of(std::move(tree));
}

ModelPtr guide(ModelPtr prior, LikelihoodPtr classifier, double scale) {
  return condition(std::move(prior), std::move(classifier), scale);
}

ModelPtr guide(ModelPtr conditional, ModelPtr unconditional, double scale) {
  return product({{std::move(conditional), 1.0 + scale}, {std::move(unconditional), -scale}});
}

ModelPtr operator*(const ModelPtr& a, const ModelPtr& b) { return product({{a}, {b}}); }
ModelPtr operator/(const ModelPtr& a, const ModelPtr& b) { return product({{a}, {b, -1.0}}); }
ModelPtr pow(const ModelPtr& model, double exponent) { return product({{model, exponent}}); }
Component operator*(double weight, const ModelPtr& model) { return {model, weight}; }

Sum Sum::plus(Component component) const {
  std::vector<Component> all = components_;
  all.push_back(std::move(component));
  return Sum(std::move(all));
}
Sum operator+(const Component& a, const Component& b) { return Sum({a, b}); }
Sum operator+(const Sum& a, const Component& b) { return a.plus(b); }

ModelPtr score_only(ModelPtr model) {
  check_given(model, "compose: score_only()");
  if (traits(*model).is_tracked) {
    throw ConfigError("compose: score_only(\"" + model->describe() +
                      "\"): its log densities are tracked along the chains and cannot be hidden; "
                      "hide those of its leaves");
  }
  return std::make_shared<ScoreOnly>(std::move(model));
}

}  // namespace motet
