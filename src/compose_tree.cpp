// Operators on laws p_k with log densities Phi_k, scores s_k and
//   d/dv Phi = 1/2 (Laplacian Phi + G) + slope,   v = (1 - abar) / abar, at fixed x / sqrt(abar):
//   product    Phi = sum a_k Phi_k      G = sum a_k G_k
//   mixture    Phi = log sum w_k exp Phi_k, shares rho_k = w_k exp(Phi_k - Phi)
//              s = sum rho_k s_k,       G = |s|^2 + sum rho_k (G_k - |s_k|^2)
//   condition  Phi = Phi_1 + w l        G = G_1 + w (|grad l|^2 [+ 2 grad l . s_1 if joint])
// A law that diffuses has G = |s|^2 (docs/method.md, Weights of the operators). What is known in
// closed form stays apart from what is not, so that a product of energy and score models uses
// differences for the first and line integrals for the second. A mixture knows its density when it
// knows its components': from the ledger, where they are tracked.
#include "compose_tree.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "analytic_detail.hpp"
#include "error_shape.hpp"
#include "model_rows.hpp"
#include "motet/error.hpp"
#include "nets/network_batch.hpp"

namespace motet::detail {
namespace {

// sum += weight * term, where an undefined sum is 0.
void add_scaled(Tensor& sum, const Tensor& term, double weight) {
  if (!term.defined()) {
    return;
  }
  // 0 * inf would be NaN: a ramped factor that has not begun says nothing, whatever it is.
  const Tensor scaled = weight == 1.0 ? term : weight == 0.0 ? at::zeros_like(term) : term * weight;
  sum = sum.defined() ? sum + scaled : scaled;
}

// What combine() knows of the leaves.
struct Leaves {
  const std::vector<Eval>& evals;
  const std::vector<size_t>& tracked;
  const Tensor& ledger;
  const Tensor& x;
  const NoiseLevel& level;
};

// Of a node: its Eval, and where its density is asked for, the log of it. log p of x, normalised.
struct Part {
  Eval eval;
  Tensor value;
};

Tensor square_of(const Eval& eval) {
  return eval.square_sum.defined() ? eval.square_sum : square_norm(eval.score);
}

Tensor rows_times(const Tensor& share, const Tensor& rows) {
  return as_rows(share.to(rows.scalar_type()), rows) * rows;
}

Part part_of(const Node& node, const Leaves& leaves, bool needs_value);

Part leaf_part(const Node& node, const Leaves& leaves, bool needs_value) {
  Part part{leaves.evals[node.leaf], {}};
  if (!needs_value) {
    return part;
  }
  const auto found = std::find(leaves.tracked.begin(), leaves.tracked.end(), node.leaf);
  part.value = found == leaves.tracked.end()
                   ? part.eval.log_density
                   : leaves.ledger.select(1, found - leaves.tracked.begin());
  return part;
}

// Log v of levels that are the same one.
constexpr double kSameLogV = 1e-9;

// d/d(log v) of a ramped exponent. Weights integrate it by the trapezoid: at the first level the mean
// of the slopes on both sides, as runs may begin above it; at the last, where runs end, that above.
double ramp_slope(const Node& product, size_t term, const NoiseLevel& level) {
  const std::optional<Ramp>& ramp = product.ramps[term];
  const double here = log_v(level);
  if (!ramp || here > ramp->first + kSameLogV || here < ramp->last - kSameLogV) {
    return 0.0;
  }
  const double slope = -product.numbers[term] / (ramp->first - ramp->last);
  return here > ramp->first - kSameLogV ? 0.5 * slope : slope;
}

// log of a density in x as one in x / sqrt(alpha_bar), up to what `count` densities gain.
double unit_change(const Tensor& x, const NoiseLevel& level, double count) {
  return 0.5 * count * static_cast<double>(x[0].numel()) * std::log(level.alpha_bar);
}

Part product_part(const Node& node, const Leaves& leaves, bool needs_value) {
  Part sum;
  bool all_remainder = true;
  for (size_t i = 0; i < node.children.size(); ++i) {
    const bool is_ramped = node.ramps[i].has_value();
    const Part part = part_of(node.children[i], leaves, needs_value || is_ramped);
    const double exponent = exponent_at(node, i, leaves.level);
    add_scaled(sum.eval.score, part.eval.score, exponent);
    add_scaled(sum.eval.log_density, part.eval.log_density, exponent);
    add_scaled(sum.eval.remainder, part.eval.remainder, exponent);
    add_scaled(sum.eval.square_sum, square_of(part.eval), exponent);
    add_scaled(sum.eval.slope, part.eval.slope, exponent);
    add_scaled(sum.eval.twist, part.eval.twist, exponent);
    add_scaled(sum.eval.twist_score, part.eval.twist_score, exponent);
    add_scaled(sum.value, part.value, exponent);
    if (is_ramped) {
      const double gain =
          unit_change(leaves.x, leaves.level, density_count(node.children[i], leaves.level));
      add_scaled(sum.eval.slope, part.value + gain, ramp_slope(node, i, leaves.level));
    }
    all_remainder = all_remainder && part.eval.remainder.is_same(part.eval.score);
  }
  // Nothing known in closed form: one tensor under both names, so that later selections are paid
  // once.
  if (all_remainder) {
    sum.eval.remainder = sum.eval.score;
  }
  return sum;
}

// (B, K): log of weight times density of each component.
Tensor log_terms(const Node& node, const std::vector<Part>& parts) {
  std::vector<Tensor> terms;
  for (size_t k = 0; k < parts.size(); ++k) {
    terms.push_back(parts[k].value + std::log(node.numbers[k]));
  }
  return at::stack(terms, 1);
}

Part mixture_part(const Node& node, const Leaves& leaves) {
  std::vector<Part> parts;
  bool all_diffuse = true;
  for (const Node& child : node.children) {
    parts.push_back(part_of(child, leaves, true));
    all_diffuse = all_diffuse && !parts.back().eval.square_sum.defined();
  }
  const Tensor terms = log_terms(node, parts);
  const Tensor shares = component_shares(terms);
  Part sum;
  sum.value = at::logsumexp(terms, 1);
  sum.eval.log_density = sum.value;
  Tensor excess;  // sum of shares * (G_k - |s_k|^2)
  for (size_t k = 0; k < parts.size(); ++k) {
    const Tensor share = shares.select(1, static_cast<int64_t>(k));
    const Eval& eval = parts[k].eval;
    add_scaled(sum.eval.score, rows_times(share, eval.score), 1.0);
    if (eval.square_sum.defined()) {
      add_scaled(excess, share * (eval.square_sum - square_norm(eval.score)), 1.0);
    }
    if (eval.slope.defined()) {
      add_scaled(sum.eval.slope, share * eval.slope, 1.0);
    }
  }
  if (!all_diffuse) {
    sum.eval.square_sum = square_norm(sum.eval.score) + excess;
  }
  return sum;
}

// What a likelihood adds to G, per unit of its exponent.
Tensor likelihood_square(const Likelihood::Value& value, LikelihoodPath path, const Tensor& prior) {
  const Tensor own = square_norm(value.score);
  if (path != LikelihoodPath::joint) {
    return own;
  }
  const Tensor both = value.score.to(at::kDouble) * prior.to(at::kDouble);
  return own + 2.0 * both.flatten(1).sum(1);
}

Part condition_part(const Node& node, const Leaves& leaves) {
  const Part prior = part_of(node.children.front(), leaves, false);
  const double exponent = node.numbers.front();
  const Likelihood& likelihood = *node.likelihood;
  const auto value = likelihood.evaluate(leaves.x, leaves.level, prior.eval.score);
  Part sum = prior;
  sum.eval.score = prior.eval.score.add(value.score, exponent);
  add_scaled(sum.eval.log_density, value.log_likelihood, exponent);
  sum.eval.square_sum = square_of(prior.eval);
  if (likelihood.path() == LikelihoodPath::given) {
    add_scaled(sum.eval.twist, value.log_likelihood, exponent);
    add_scaled(sum.eval.twist_score, value.score, exponent);
  } else {
    sum.eval.square_sum = sum.eval.square_sum.add(
        likelihood_square(value, likelihood.path(), prior.eval.score), exponent);
  }
  return sum;
}

// The table and its slope at log v: linear between its points, constant beyond. At a point the mean
// of the slopes on both sides, for the weights' trapezoid; at the lowest, where runs end, that above.
std::pair<double, double> look_up(const LogNormalisers& table, double here) {
  const auto above = std::upper_bound(table.log_v.begin(), table.log_v.end(), here);
  const auto right = static_cast<size_t>(above - table.log_v.begin());
  const auto slope = [&table](size_t segment) {  // of the one that ends at point `segment`
    return segment == 0 || segment >= table.log_v.size()
               ? 0.0
               : (table.value[segment] - table.value[segment - 1]) /
                     (table.log_v[segment] - table.log_v[segment - 1]);
  };
  if (right == 0) {
    return {table.value.front(), 0.0};
  }
  const double gone = here - table.log_v[right - 1];
  const bool is_inner_point = gone <= kSameLogV && right > 1;
  const double rate = is_inner_point ? 0.5 * (slope(right - 1) + slope(right)) : slope(right);
  return {table.value[right - 1] + slope(right) * gone, rate};
}

Part normalised_part(const Node& node, const Leaves& leaves, bool needs_value) {
  Part part = part_of(node.children.front(), leaves, needs_value);
  const auto [log_integral, slope] = look_up(node.table, log_v(leaves.level));
  // The table is of densities in x / sqrt(alpha_bar); the result is one density in x.
  const double count = density_count(node.children.front(), leaves.level);
  const double shift = log_integral - unit_change(leaves.x, leaves.level, count - 1.0);
  if (part.value.defined()) {
    part.value = part.value - shift;
  }
  if (part.eval.log_density.defined()) {
    part.eval.log_density = part.eval.log_density - shift;
  }
  const Tensor rate = at::full({leaves.x.size(0)}, -slope, leaves.x.options().dtype(at::kDouble));
  add_scaled(part.eval.slope, rate, 1.0);
  return part;
}

Part part_of(const Node& node, const Leaves& leaves, bool needs_value) {
  switch (node.kind) {
    case Node::Kind::leaf:
      return leaf_part(node, leaves, needs_value);
    case Node::Kind::product:
      return product_part(node, leaves, needs_value);
    case Node::Kind::mixture:
      return mixture_part(node, leaves);
    case Node::Kind::condition:
      return condition_part(node, leaves);
    case Node::Kind::normalised:
      break;
  }
  return normalised_part(node, leaves, needs_value);
}

// Leaves whose normalised log density the node asks for and that do not know it.
void find_tracked(const Node& node, const std::vector<ModelPtr>& leaves, bool needs_value,
                  std::vector<size_t>& tracked) {
  if (node.kind == Node::Kind::leaf) {
    const Model& leaf = *leaves[node.leaf];
    const bool is_known = leaf.is_exact() && leaf.is_normalised();
    const bool is_new = std::find(tracked.begin(), tracked.end(), node.leaf) == tracked.end();
    if (needs_value && !is_known && is_new) {
      tracked.push_back(node.leaf);
    }
    return;
  }
  for (size_t i = 0; i < node.children.size(); ++i) {
    const bool is_ramped = node.kind == Node::Kind::product && node.ramps[i].has_value();
    const bool below = needs_value && node.kind != Node::Kind::condition;
    find_tracked(node.children[i], leaves, node.kind == Node::Kind::mixture || is_ramped || below,
                 tracked);
  }
}

// Mixtures of the tree in order, with the parts of each.
void collect_shares(const Node& node, const Leaves& leaves, std::vector<Tensor>& columns) {
  if (node.kind == Node::Kind::mixture) {
    std::vector<Part> parts;
    for (const Node& child : node.children) {
      parts.push_back(part_of(child, leaves, true));
    }
    columns.push_back(component_shares(log_terms(node, parts)));
  }
  for (const Node& child : node.children) {
    collect_shares(child, leaves, columns);
  }
}

// In the order of collect_shares().
template <class Visit>
void visit_mixtures(const Node& node, const Visit& visit) {
  if (node.kind == Node::Kind::mixture) {
    visit(node);
  }
  for (const Node& child : node.children) {
    visit_mixtures(child, visit);
  }
}

std::string join(const Node& node, const std::vector<ModelPtr>& leaves, const std::string& name) {
  std::string text = name + "(";
  for (size_t i = 0; i < node.children.size(); ++i) {
    text += i == 0 ? "" : ", ";
    const bool is_product = node.kind == Node::Kind::product;
    if (!is_product) {
      text += detail::six_digits(node.numbers[i]) + " ";
    }
    text += describe_node(node.children[i], leaves);
    if (is_product && (node.numbers[i] != 1.0 || node.ramps[i])) {
      text += "^" + detail::six_digits(node.numbers[i]) + (node.ramps[i] ? " ramped" : "");
    }
  }
  return text + ")";
}

}  // namespace

double log_v(const NoiseLevel& level) {
  return std::log((1.0 - level.alpha_bar) / level.alpha_bar);
}

int64_t noisy_level(const NoiseSchedule& schedule, double noise) {
  int64_t level = schedule.num_levels() - 1;
  while (level > 0 && schedule.level(level - 1).alpha_bar <= noise) {
    --level;
  }
  return level;
}

double exponent_at(const Node& product, size_t term, const NoiseLevel& level) {
  const std::optional<Ramp>& ramp = product.ramps[term];
  if (!ramp) {
    return product.numbers[term];
  }
  const double done = (ramp->first - log_v(level)) / (ramp->first - ramp->last);
  return product.numbers[term] * std::clamp(done, 0.0, 1.0);
}

double density_count(const Node& node, const NoiseLevel& level) {
  double sum = 0.0;
  switch (node.kind) {
    case Node::Kind::product:
      for (size_t i = 0; i < node.children.size(); ++i) {
        sum += exponent_at(node, i, level) * density_count(node.children[i], level);
      }
      return sum;
    case Node::Kind::condition:
      return density_count(node.children.front(), level);
    case Node::Kind::leaf:
    case Node::Kind::mixture:
    case Node::Kind::normalised:
      break;
  }
  return 1.0;
}

std::string describe_node(const Node& node, const std::vector<ModelPtr>& leaves) {
  switch (node.kind) {
    case Node::Kind::leaf:
      return leaves[node.leaf]->describe();
    case Node::Kind::product:
      return join(node, leaves, "product");
    case Node::Kind::mixture:
      return join(node, leaves, "mixture");
    case Node::Kind::condition: {
      const std::string power =
          node.numbers[0] == 1.0 ? "" : "^" + detail::six_digits(node.numbers[0]);
      return "condition(" + describe_node(node.children[0], leaves) + ", " +
             node.likelihood->describe() + power + ")";
    }
    case Node::Kind::normalised:
      break;
  }
  return "normalised(" + describe_node(node.children[0], leaves) + ")";
}

Tree tree_of(const ModelPtr& model) {
  const auto* composed = dynamic_cast<const Composition*>(model.get());
  return composed == nullptr ? Tree{{model}, {}} : composed->tree();
}

Node graft(const Tree& other, std::vector<ModelPtr>& leaves) {
  std::vector<size_t> places;
  for (const ModelPtr& leaf : other.leaves) {
    const auto found = std::find(leaves.begin(), leaves.end(), leaf);
    places.push_back(static_cast<size_t>(found - leaves.begin()));
    if (found == leaves.end()) {
      leaves.push_back(leaf);
    }
  }
  const auto renumber = [&places](auto&& self, Node node) -> Node {
    node.leaf = node.kind == Node::Kind::leaf ? places[node.leaf] : 0;
    for (Node& child : node.children) {
      child = self(self, std::move(child));
    }
    return node;
  };
  return renumber(renumber, other.root);
}

Composition::Composition(Tree tree) : tree_(std::move(tree)) {
  find_tracked(tree_.root, tree_.leaves, false, tracked_);
  is_exact_ = tracked_.empty();
  for (const ModelPtr& leaf : tree_.leaves) {
    is_exact_ = is_exact_ && leaf->is_exact();
    schedule_ = schedule_ ? schedule_ : leaf->schedule();
  }
  const auto visit = [this](auto&& self, const Node& node) -> void {
    if (node.likelihood && !schedule_) {
      schedule_ = node.likelihood->schedule();
    }
    for (const Node& child : node.children) {
      self(self, child);
    }
  };
  visit(visit, tree_.root);
}

bool Composition::is_normalised() const {
  return tree_.root.kind == Node::Kind::mixture || tree_.root.kind == Node::Kind::normalised;
}

std::string Composition::describe() const { return describe_node(tree_.root, tree_.leaves); }

Eval Composition::evaluate(const Tensor& x, const NoiseLevel& level) const {
  if (!tracked_.empty()) {
    throw ConfigError("compose: \"" + describe() +
                      "\" needs log densities that are tracked along each chain, which one point "
                      "does not tell; use anneal(), or Target with a ledger");
  }
  return combine(evaluate_parts(x, level), {}, x, level);
}

std::vector<Eval> Composition::evaluate_parts(const Tensor& x, const NoiseLevel& level) const {
  return evaluate_together(tree_.leaves, x, level);
}

Eval Composition::combine(std::vector<Eval> parts, const Tensor& ledger, const Tensor& x,
                          const NoiseLevel& level) const {
  Eval eval = part_of(tree_.root, {parts, tracked_, ledger, x, level}, false).eval;
  if (!tracked_.empty()) {
    eval.parts = std::move(parts);
    eval.ledger = ledger;
  }
  return eval;
}

std::vector<std::string> Composition::component_names() const {
  std::vector<std::string> names;
  visit_mixtures(tree_.root, [&](const Node& mixture) {
    for (const Node& child : mixture.children) {
      names.push_back(describe_node(child, tree_.leaves));
    }
  });
  return names;
}

std::vector<double> Composition::component_weights() const {
  std::vector<double> weights;
  visit_mixtures(tree_.root, [&](const Node& mixture) {
    weights.insert(weights.end(), mixture.numbers.begin(), mixture.numbers.end());
  });
  return weights;
}

Tensor Composition::shares(const Eval& eval, const Tensor& x, const NoiseLevel& level) const {
  std::vector<Tensor> columns;
  const std::vector<Eval> parts = tracked_.empty() ? evaluate_parts(x, level) : eval.parts;
  collect_shares(tree_.root, {parts, tracked_, eval.ledger, x, level}, columns);
  return columns.empty() ? at::zeros({x.size(0), 0}, x.options().dtype(at::kDouble))
                         : at::cat(columns, 1);
}

}  // namespace motet::detail
