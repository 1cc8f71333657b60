// What a composition is: factors, exponents, traits, its tree as text.
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "compose_tree.hpp"
#include "model_rows.hpp"
#include "motet/compose.hpp"
#include "tapestry_detail.hpp"

namespace motet {
namespace {

using detail::Composition;
using detail::Node;
using detail::Tree;

const Tree* tree_in(const Model& model) {
  const auto* composed = dynamic_cast<const Composition*>(&model);
  return composed == nullptr ? nullptr : &composed->tree();
}

// A node on its own, as a model.
ModelPtr node_model(const Tree& tree, const Node& node) {
  if (node.kind == Node::Kind::leaf) {
    return tree.leaves[node.leaf];
  }
  Tree alone;
  alone.root = detail::graft({tree.leaves, node}, alone.leaves);
  return std::make_shared<Composition>(std::move(alone));
}

bool is_plain_product(const Model& model) {
  const Tree* tree = tree_in(model);
  if (tree == nullptr || tree->root.kind != Node::Kind::product) {
    return false;
  }
  const Traits found = traits(model);
  return !found.is_tracked && !found.is_conditioned && !found.has_slope;
}

// float64, () or (*event) where the coordinates differ.
Tensor exponents_of(const Tree& tree, const Node& node, const NoiseLevel* level) {
  Tensor sum = at::scalar_tensor(0.0, at::kDouble);
  switch (node.kind) {
    case Node::Kind::product:
      for (size_t i = 0; i < node.children.size(); ++i) {
        const double power =
            level == nullptr ? node.numbers[i] : detail::exponent_at(node, i, *level);
        sum = sum + power * exponents_of(tree, node.children[i], level);
      }
      return sum;
    case Node::Kind::mixture:
      sum = exponents_of(tree, node.children.front(), level);
      for (const Node& child : node.children) {
        sum = at::minimum(sum, exponents_of(tree, child, level));
      }
      return sum;
    case Node::Kind::condition:
    case Node::Kind::normalised:
      return exponents_of(tree, node.children.front(), level);
    case Node::Kind::leaf:
      break;
  }
  return detail::coordinate_exponents(*tree.leaves[node.leaf], level);
}

void collect(const Node& node, Traits& found) {
  found.divides = found.divides || (node.kind == Node::Kind::product &&
                                    std::any_of(node.numbers.begin(), node.numbers.end(),
                                                [](double exponent) { return exponent < 0.0; }));
  found.has_mixture = found.has_mixture || node.kind == Node::Kind::mixture;
  found.has_slope = found.has_slope || node.kind == Node::Kind::normalised ||
                    std::any_of(node.ramps.begin(), node.ramps.end(),
                                [](const std::optional<Ramp>& ramp) { return ramp.has_value(); });
  if (node.likelihood) {
    found.is_conditioned = true;
    found.has_twist = found.has_twist || node.likelihood->path() == LikelihoodPath::given;
    found.is_approximate = found.is_approximate || !node.likelihood->is_gradient();
  }
  for (const Node& child : node.children) {
    collect(child, found);
  }
}

std::string knowledge(const Composition& composed, size_t leaf) {
  const std::vector<size_t>& tracked = composed.tracked();
  if (std::find(tracked.begin(), tracked.end(), leaf) != tracked.end()) {
    return "log density tracked along each chain";
  }
  return composed.tree().leaves[leaf]->is_exact() ? "exact log density" : "scores only";
}

void write_node(const Composition& composed, const Node& node, const std::string& indent,
                const std::string& power, std::ostringstream& out) {
  out << indent;
  const auto below = [&](size_t i, const std::string& text) {
    write_node(composed, node.children[i], indent + "  ", text, out);
  };
  const auto plain = [](double value) {
    std::ostringstream text;
    text << value;
    return text.str();
  };
  switch (node.kind) {
    case Node::Kind::leaf:
      out << power << composed.tree().leaves[node.leaf]->describe() << "  ("
          << knowledge(composed, node.leaf) << ")\n";
      return;
    case Node::Kind::product:
      out << power << "product\n";
      for (size_t i = 0; i < node.children.size(); ++i) {
        below(i, "^ " + plain(node.numbers[i]) + (node.ramps[i] ? " ramped  " : "  "));
      }
      return;
    case Node::Kind::mixture:
      out << power << "mixture\n";
      for (size_t i = 0; i < node.children.size(); ++i) {
        below(i, plain(node.numbers[i]) + "  ");
      }
      return;
    case Node::Kind::condition:
      out << power << "conditioned on " << node.likelihood->describe();
      if (node.numbers[0] != 1.0) {
        out << " ^ " << plain(node.numbers[0]) << " (another target than the posterior)";
      }
      out << (node.likelihood->is_gradient() ? "" : "  (value exact, gradient approximate)")
          << "\n";
      below(0, "");
      return;
    case Node::Kind::normalised:
      out << power << "normalised\n";
      below(0, "");
      return;
  }
}

}  // namespace

void detail::merge(const Traits& part, Traits& found) {
  for (bool Traits::*has :
       {&Traits::has_mixture, &Traits::is_conditioned, &Traits::has_twist, &Traits::is_approximate,
        &Traits::has_slope, &Traits::is_tracked, &Traits::divides, &Traits::is_field}) {
    found.*has = found.*has || part.*has;
  }
}

std::vector<Term> factors(const ModelPtr& model) {
  if (const ModelPtr inner = detail::hidden_model(model)) {
    std::vector<Term> all = factors(inner);
    for (Term& term : all) {
      term.model = score_only(std::move(term.model));
    }
    return all;
  }
  if (!is_plain_product(*model)) {
    return {{model, 1.0}};
  }
  const Tree& tree = *tree_in(*model);
  std::vector<Term> all;
  for (size_t i = 0; i < tree.root.children.size(); ++i) {
    for (Term& inner : factors(node_model(tree, tree.root.children[i]))) {
      all.push_back({std::move(inner.model), tree.root.numbers[i] * inner.exponent});
    }
  }
  return all;
}

Tensor detail::coordinate_exponents(const Model& model, const NoiseLevel* level) {
  if (const Tapestry* tapestry = tapestry_in(model)) {
    return tapestry->exponents(level);
  }
  const Model* inner = hidden_model(model);
  const Tree* tree = tree_in(inner == nullptr ? model : *inner);
  return tree == nullptr ? at::scalar_tensor(1.0, at::kDouble)
                         : exponents_of(*tree, tree->root, level);
}

Tensor coordinate_exponents(const Model& model, const NoiseLevel& level) {
  return detail::coordinate_exponents(model, &level);
}

double total_exponent(const Model& model) {
  return detail::coordinate_exponents(model, nullptr).min().item<double>();
}

double total_exponent(const Model& model, const NoiseLevel& level) {
  return coordinate_exponents(model, level).min().item<double>();
}

Traits traits(const Model& model) {
  Traits found;
  const Model* inner = detail::hidden_model(model);
  const auto* composed = dynamic_cast<const Composition*>(inner == nullptr ? &model : inner);
  if (const detail::Tapestry* tapestry = detail::tapestry_in(model)) {
    return tapestry->traits();
  }
  if (composed != nullptr) {
    collect(composed->tree().root, found);
    found.is_tracked = !composed->tracked().empty();
    for (const ModelPtr& leaf : composed->tree().leaves) {
      if (const detail::Tapestry* tapestry = detail::tapestry_in(*leaf)) {
        detail::merge(tapestry->traits(), found);
      }
    }
  }
  return found;
}

std::vector<ModelPtr> leaves(const ModelPtr& model) { return detail::tree_of(model).leaves; }

std::string describe_tree(const ModelPtr& model) {
  const auto* composed = dynamic_cast<const Composition*>(model.get());
  std::ostringstream out;
  if (composed == nullptr) {
    out << model->describe() << "  (" << (model->is_exact() ? "exact log density" : "scores only")
        << ")\n";
  } else {
    write_node(*composed, composed->tree().root, "", "", out);
  }
  return out.str();
}

Tensor allowed(const Model& model, const Tensor& x_0) {
  const Tree* tree = tree_in(model);
  Tensor all;
  if (tree == nullptr) {
    return all;
  }
  const auto visit = [&](auto&& self, const Node& node) -> void {
    const Tensor here = node.likelihood ? node.likelihood->allows(x_0) : Tensor();
    if (here.defined()) {
      all = all.defined() ? all.logical_and(here) : here;
    }
    for (const Node& child : node.children) {
      self(self, child);
    }
  };
  visit(visit, tree->root);
  return all;
}

std::string first_invalid_term(const Model& model, const Tensor& x, const NoiseLevel& level) {
  if (const Tree* tree = tree_in(model)) {
    for (const ModelPtr& leaf : tree->leaves) {
      const std::string name = first_invalid_term(*leaf, x, level);
      if (!name.empty()) {
        return name;
      }
    }
    return "";
  }
  const at::NoGradGuard no_grad;
  const Eval eval = model.evaluate(x, level);
  bool is_good = at::isfinite(eval.score).all().item<bool>();
  if (eval.remainder.defined()) {
    is_good = is_good && at::isfinite(eval.remainder).all().item<bool>();
  }
  if (eval.log_density.defined()) {  // -inf is outside the support: no fault
    const Tensor bad = eval.log_density.isnan().logical_or_(eval.log_density.isposinf());
    is_good = is_good && !bad.any().item<bool>();
  }
  return is_good ? "" : model.describe();
}

}  // namespace motet
