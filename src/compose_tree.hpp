// The tree behind every composition: operators over distinct leaves, each evaluated once a point.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "motet/compose.hpp"

namespace motet::detail {

struct Node {
  enum class Kind { leaf, product, mixture, condition, normalised };
  Kind kind = Kind::leaf;
  size_t leaf = 0;                         ///< of a leaf: its place in Tree::leaves
  std::vector<Node> children;              ///< condition, normalised: one
  std::vector<double> numbers;             ///< exponents, or weights that sum to 1
  std::vector<std::optional<Ramp>> ramps;  ///< of a product, as numbers
  LikelihoodPtr likelihood;                ///< of a condition; numbers holds its exponent
  LogNormalisers table;                    ///< of normalised
};

struct Tree {
  std::vector<ModelPtr> leaves;
  Node root;
};

/// The tree of a composition, or one leaf for any other model.
Tree tree_of(const ModelPtr& model);
/// `other`'s root with its leaves found or added in `leaves`.
Node graft(const Tree& other, std::vector<ModelPtr>& leaves);

/// A composition as a model.
class Composition : public TrackingModel {
 public:
  explicit Composition(Tree tree);
  Eval evaluate(const Tensor& x, const NoiseLevel& level) const override;
  bool is_exact() const override { return is_exact_; }
  bool is_normalised() const override;
  std::vector<int64_t> event_shape() const override { return tree_.leaves.front()->event_shape(); }
  std::string describe() const override;
  std::optional<NoiseSchedule> schedule() const override { return schedule_; }
  const std::vector<size_t>& tracked() const override { return tracked_; }
  std::vector<Eval> evaluate_parts(const Tensor& x, const NoiseLevel& level) const override;
  Eval combine(std::vector<Eval> parts, const Tensor& ledger, const Tensor& x,
               const NoiseLevel& level) const override;
  std::vector<std::string> component_names() const override;
  std::vector<double> component_weights() const override;
  Tensor shares(const Eval& eval, const Tensor& x, const NoiseLevel& level) const override;
  const Tree& tree() const { return tree_; }

 private:
  Tree tree_;
  bool is_exact_ = true;
  std::vector<size_t> tracked_;
  std::optional<NoiseSchedule> schedule_;
};

/// exponent of a product's term at a level, ramp included.
double exponent_at(const Node& product, size_t term, const NoiseLevel& level);
/// log((1 - alpha_bar) / alpha_bar).
double log_v(const NoiseLevel& level);
/// The lowest level with alpha_bar <= `noise`, or the highest there is.
int64_t noisy_level(const NoiseSchedule& schedule, double noise);
/// How many densities the node counts as at a level, ramps included: what its log gains with a change
/// of unit of x.
double density_count(const Node& node, const NoiseLevel& level);
/// What score_only() hides; null for any other model.
const Model* hidden_model(const Model& model);
ModelPtr hidden_model(const ModelPtr& model);
std::string describe_node(const Node& node, const std::vector<ModelPtr>& leaves);

/// A part of a composition, and what it was trained for.
struct Scheduled {
  std::string name;
  std::optional<NoiseSchedule> schedule;
};
/// Networks know only the levels they were trained on: throws ConfigError, naming the function,
/// unless all parts that have a schedule have the same levels.
void check_schedules(const std::string& function, const std::vector<Scheduled>& parts);

/// Adds what a part has.
void merge(const Traits& part, Traits& found);
/// As coordinate_exponents(); without a level: ramps at their end.
at::Tensor coordinate_exponents(const Model& model, const NoiseLevel* level);

}  // namespace motet::detail
