// A tapestry as a model, and what compositions ask of one.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <string>
#include <vector>

#include "motet/compose.hpp"
#include "motet/tapestry.hpp"

namespace motet::detail {

class Tapestry : public Model {
 public:
  Tapestry(std::vector<Window> windows, const Canvas& canvas);
  Eval evaluate(const Tensor& x, const NoiseLevel& level) const override;
  bool is_exact() const override { return is_exact_; }
  std::vector<int64_t> event_shape() const override { return event_shape_; }
  std::string describe() const override;
  std::optional<NoiseSchedule> schedule() const override { return schedule_; }

  const std::vector<Window>& windows() const { return windows_; }
  /// False: its score is the gradient of nothing.
  bool is_law() const { return is_law_; }
  /// What its windows' compositions have.
  Traits traits() const;
  /// (*event) float64: exponents of the laws that reach each coordinate, at a level; nullptr: ramps
  /// at their end.
  Tensor exponents(const NoiseLevel* level) const;

 private:
  // A leaf of the windows' compositions, and where it is one: window and place among its leaves.
  struct Leaf {
    ModelPtr model;
    std::vector<std::pair<size_t, size_t>> uses;
  };

  /// The part of x (B, *event), or of one event, that a window sees: a view.
  Tensor crop(const Tensor& x, const Window& window) const;
  void find_leaves();
  void choose_weights();
  Tensor raw_weights(const Window& window) const;
  std::vector<Eval> evaluate_windows(const Tensor& x, const NoiseLevel& level) const;

  std::vector<Window> windows_;
  Canvas canvas_;
  std::vector<int64_t> event_shape_;
  std::vector<Leaf> leaves_;
  std::vector<size_t> num_leaves_;  // of each window
  std::vector<Tensor> weights_;     // of each window: () float64, or its places
  bool is_law_ = true;
  bool is_exact_ = true;
  std::optional<NoiseSchedule> schedule_;
};

/// Null for any other model.
const Tapestry* tapestry_in(const Model& model);

}  // namespace motet::detail
