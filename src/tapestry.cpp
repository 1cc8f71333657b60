// Windows on a canvas. With x_w what window w sees, s_w its score there, E_w the map that puts a
// window's numbers in their places on an empty canvas, and v = (1 - abar) / abar:
//   product  Phi = sum a_w Phi_w(x_w),  S = sum a_w E_w s_w,  G = sum a_w G_w,  slope likewise: the
//            Laplacian of Phi_w over the canvas is that over the window, so each window obeys its
//            own equation (docs/operators.md) and the sum is a product like any other.
//   cover    S = sum_w u_w E_w s_w with sum_w u_w = 1 at each place. dS_i/dx_j - dS_j/dx_i is
//            the sum of (u_w(i) - u_w(j)) d2Phi_w/dx_i dx_j: a gradient only where u_w is the same
//            wherever window w couples i and j. Then it is the product with exponents u_w; else no
//            density.
// Du et al. 2023 (arXiv 2302.11552, image tapestries), whose code divides the sum of tapered
// windows by the sum of tapers; Bar-Tal et al. 2023 (arXiv 2302.08113) average likewise.
#include "motet/tapestry.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>
#include <utility>

#include "compose_tree.hpp"
#include "error_shape.hpp"
#include "model_rows.hpp"
#include "motet/error.hpp"
#include "nets/words.hpp"
#include "tapestry_detail.hpp"

namespace motet {
namespace {

using detail::shape_text;

constexpr detail::Words<OverlapRule, 2> kRules = {
    {{OverlapRule::cover, "cover"}, {OverlapRule::product, "product"}}};

[[noreturn]] void fail(const std::string& why) { throw ConfigError("tapestry: " + why); }

std::string window_text(const std::vector<Window>& windows, size_t index) {
  const std::string place =
      "window " + std::to_string(index + 1) + " of " + std::to_string(windows.size());
  const ModelPtr& model = windows[index].model;
  return model == nullptr ? place : place + " (\"" + model->describe() + "\")";
}

// Rows and columns of an event: (1, w) where it has no rows.
std::pair<int64_t, int64_t> places_of(const std::vector<int64_t>& event) {
  return {event.size() < 2 ? 1 : event[event.size() - 2], event.back()};
}

std::string at_text(int64_t row, int64_t column) {
  return "row " + std::to_string(row) + ", column " + std::to_string(column);
}

void check_place(const std::vector<Window>& windows, size_t index, const Canvas& canvas) {
  const Window& window = windows[index];
  const auto [height, width] = places_of(window.model->event_shape());
  // Differences: sums of a config's integers might overflow.
  if (window.row < 0 || window.column < 0 || window.row > canvas.height - height ||
      window.column > canvas.width - width) {
    fail(window_text(windows, index) + " of " + std::to_string(height) + "x" +
         std::to_string(width) + " places at " + at_text(window.row, window.column) +
         " is not inside the canvas of " + std::to_string(canvas.height) + "x" +
         std::to_string(canvas.width) + "; move it, or enlarge the canvas");
  }
}

void check_shape(const std::vector<Window>& windows, size_t index) {
  const std::vector<int64_t> event = windows[index].model->event_shape();
  const std::vector<int64_t> first = windows.front().model->event_shape();
  if (event.empty() || event.size() > 3) {
    throw ShapeError("tapestry: " + window_text(windows, index) + " has event shape " +
                     shape_text(event) + ", must be (w), (h, w) or (C, h, w)");
  }
  if (event.size() != first.size() || (event.size() == 3 && event.front() != first.front())) {
    throw ShapeError("tapestry: " + window_text(windows, index) + " has event shape " +
                     shape_text(event) + ", but the first has " + shape_text(first) +
                     "; all must have as many dimensions, and the same channels");
  }
}

void check_window(const std::vector<Window>& windows, size_t index, const Canvas& canvas) {
  const Window& window = windows[index];
  if (window.model == nullptr) {
    fail(window_text(windows, index) + ": no model given (null), must be a model");
  }
  check_shape(windows, index);
  check_place(windows, index, canvas);
  if (traits(*window.model).is_tracked) {
    fail(window_text(windows, index) +
         " tracks log densities along the chains, which a window cannot; use energy models or "
         "analytic laws in its mixtures and ramps");
  }
  if (!std::isfinite(window.exponent)) {
    fail(window_text(windows, index) + ": exponent must be a finite number");
  }
  if (canvas.rule == OverlapRule::cover && window.exponent != 1.0) {
    fail(
        window_text(windows, index) +
        ": an exponent belongs to the rule \"product\"; leave it out, or use pow(model, exponent)");
  }
}

void check(const std::vector<Window>& windows, const Canvas& canvas) {
  if (windows.empty()) {
    fail("no windows; give at least one");
  }
  if (canvas.height < 1 || canvas.width < 1) {
    fail("the canvas has " + std::to_string(canvas.height) + "x" + std::to_string(canvas.width) +
         " places, both sizes must be >= 1");
  }
  if (!(canvas.taper >= 0.0) || !std::isfinite(canvas.taper)) {
    fail("taper must be a finite number >= 0");
  }
  if (canvas.rule == OverlapRule::product && canvas.taper != 0.0) {
    fail("a taper belongs to the rule \"cover\"; leave it out");
  }
  std::vector<detail::Scheduled> schedules;
  for (size_t i = 0; i < windows.size(); ++i) {
    check_window(windows, i, canvas);
    if (windows[i].model->event_shape().size() == 1 && canvas.height != 1) {
      fail("the windows are strips without rows, but the canvas has " +
           std::to_string(canvas.height) + " rows, must have 1");
    }
    schedules.push_back({windows[i].model->describe(), windows[i].model->schedule()});
  }
  detail::check_schedules("tapestry", schedules);
}

// The first place of `canvas` (H, W) or (W) where a condition holds.
std::string first_place(const Tensor& where) {
  const Tensor flat = where.flatten();
  const int64_t index = flat.to(at::kLong).argmax().item<int64_t>();
  return at_text(index / where.size(-1), index % where.size(-1));
}

// min(1, distance to the nearest edge / taper) along one side of a window, outermost 1/2 a place
// in.
Tensor ramp_along(int64_t size, double taper) {
  const Tensor inwards = at::arange(size, at::kDouble) + 0.5;
  return at::minimum(inwards, inwards.flip(0)).div(taper).clamp_max(1.0);
}

// Rows [first, first + count) of an Eval; what is the same tensor stays so.
Eval rows_of(const Eval& eval, int64_t first, int64_t count) {
  const auto rows = [&](const Tensor& tensor) {
    return tensor.defined() ? tensor.narrow(0, first, count) : tensor;
  };
  Eval part;
  part.score = rows(eval.score);
  part.log_density = rows(eval.log_density);
  part.remainder = eval.remainder.is_same(eval.score) ? part.score : rows(eval.remainder);
  part.square_sum = rows(eval.square_sum);
  part.slope = rows(eval.slope);
  part.twist = rows(eval.twist);
  part.twist_score = rows(eval.twist_score);
  return part;
}

void add_rows(Tensor& sum, const Tensor& term, double weight) {
  if (term.defined()) {
    sum = sum.defined() ? sum + weight * term : weight * term;
  }
}

}  // namespace

namespace detail {

Tapestry::Tapestry(std::vector<Window> windows, const Canvas& canvas)
    : windows_(std::move(windows)),
      canvas_(canvas),
      event_shape_(windows_.front().model->event_shape()) {
  event_shape_.back() = canvas.width;
  if (event_shape_.size() > 1) {
    event_shape_[event_shape_.size() - 2] = canvas.height;
  }
  for (const Window& window : windows_) {
    schedule_ = schedule_ ? schedule_ : window.model->schedule();
    is_exact_ = is_exact_ && window.model->is_exact();
  }
  find_leaves();
  choose_weights();
  is_exact_ = is_exact_ && is_law_;
}

void Tapestry::find_leaves() {
  std::map<const Model*, size_t> known;
  for (size_t w = 0; w < windows_.size(); ++w) {
    const Tree tree = tree_of(windows_[w].model);
    num_leaves_.push_back(tree.leaves.size());
    for (size_t place = 0; place < tree.leaves.size(); ++place) {
      const auto [entry, is_new] = known.try_emplace(tree.leaves[place].get(), leaves_.size());
      if (is_new) {
        leaves_.push_back({tree.leaves[place], {}});
      }
      leaves_[entry->second].uses.emplace_back(w, place);
    }
  }
}

Tensor Tapestry::crop(const Tensor& x, const Window& window) const {
  const auto [height, width] = places_of(window.model->event_shape());
  const Tensor columns = x.narrow(-1, window.column, width);
  return event_shape_.size() == 1 ? columns : columns.narrow(-2, window.row, height);
}

// What a window counts at each of its places before all are divided by their sum.
Tensor Tapestry::raw_weights(const Window& window) const {
  const auto [height, width] = places_of(window.model->event_shape());
  const bool has_rows = event_shape_.size() > 1;
  if (canvas_.taper == 0.0) {
    return has_rows ? at::ones({height, width}, at::kDouble) : at::ones({width}, at::kDouble);
  }
  const Tensor across = ramp_along(width, canvas_.taper);
  return has_rows ? at::minimum(ramp_along(height, canvas_.taper).unsqueeze(1), across) : across;
}

void Tapestry::choose_weights() {
  const bool has_rows = event_shape_.size() > 1;
  const bool is_cover = canvas_.rule == OverlapRule::cover;
  Tensor covered = has_rows ? at::zeros({canvas_.height, canvas_.width}, at::kDouble)
                            : at::zeros({canvas_.width}, at::kDouble);
  Tensor total = covered.clone();
  for (const Window& window : windows_) {
    crop(covered, window).add_(1.0);
    crop(total, window).add_(is_cover ? raw_weights(window) : at::scalar_tensor(window.exponent));
  }
  if (const Tensor empty = covered.eq(0.0); empty.any().item<bool>()) {
    fail("no window covers " + first_place(empty) + " of the canvas; cover every place");
  }
  if (const Tensor bad = total.le(0.0); bad.any().item<bool>()) {
    fail("the exponents of the windows at " + first_place(bad) +
         " sum to 0 or less, must be > 0: the canvas would be no law there at high noise");
  }
  constexpr double kRounding = 1e-12;
  for (const Window& window : windows_) {
    weights_.push_back(is_cover ? raw_weights(window) / crop(total, window)
                                : at::scalar_tensor(window.exponent, at::kDouble));
    const Tensor& weight = weights_.back();
    is_law_ = is_law_ && (weight.max() - weight.min()).item<double>() < kRounding;
  }
  if (is_law_) {  // one exponent a window, under either rule
    for (Tensor& weight : weights_) {
      weight = weight.mean();
    }
  }
}

std::vector<Eval> Tapestry::evaluate_windows(const Tensor& x, const NoiseLevel& level) const {
  const int64_t rows = x.size(0);
  std::vector<Tensor> seen;
  std::vector<std::vector<Eval>> parts;
  for (size_t w = 0; w < windows_.size(); ++w) {
    seen.push_back(crop(x, windows_[w]).contiguous());
    parts.emplace_back(num_leaves_[w]);
  }
  for (const Leaf& leaf : leaves_) {
    std::vector<Tensor> stack;
    for (const auto& [w, place] : leaf.uses) {
      stack.push_back(seen[w]);
    }
    const Eval all = leaf.model->evaluate(stack.size() == 1 ? stack[0] : at::cat(stack), level);
    for (size_t i = 0; i < leaf.uses.size(); ++i) {
      const auto [w, place] = leaf.uses[i];
      parts[w][place] = rows_of(all, static_cast<int64_t>(i) * rows, rows);
    }
  }
  std::vector<Eval> evals;
  for (size_t w = 0; w < windows_.size(); ++w) {
    const auto* composed = dynamic_cast<const Composition*>(windows_[w].model.get());
    evals.push_back(composed == nullptr
                        ? std::move(parts[w].front())
                        : composed->combine(std::move(parts[w]), {}, seen[w], level));
  }
  return evals;
}

Eval Tapestry::evaluate(const Tensor& x, const NoiseLevel& level) const {
  const at::NoGradGuard no_graph;
  check_points(x, event_shape_, describe());
  const std::vector<Eval> evals = evaluate_windows(x.detach(), level);
  const auto put = [&](Tensor& canvas, const Tensor& values, size_t w) {
    if (values.defined()) {
      canvas = canvas.defined() ? canvas : at::zeros_like(x, at::MemoryFormat::Contiguous);
      crop(canvas, windows_[w]).add_(values * weights_[w].to(values.options()));
    }
  };
  bool is_unexplained = !is_law_;
  if (is_law_) {
    is_unexplained = std::all_of(evals.begin(), evals.end(), [](const Eval& eval) {
      return eval.remainder.is_same(eval.score);
    });
  }
  Eval sum;
  for (size_t w = 0; w < windows_.size(); ++w) {
    const Eval& eval = evals[w];
    put(sum.score, eval.score, w);
    if (!is_law_) {
      continue;
    }
    const auto exponent = weights_[w].item<double>();
    add_rows(sum.log_density, eval.log_density, exponent);
    add_rows(sum.square_sum, eval.square_sum.defined() ? eval.square_sum : square_norm(eval.score),
             exponent);
    add_rows(sum.slope, eval.slope, exponent);
    add_rows(sum.twist, eval.twist, exponent);
    put(sum.twist_score, eval.twist_score, w);
    if (!is_unexplained) {
      put(sum.remainder, eval.remainder, w);
    }
  }
  if (is_unexplained) {  // one tensor under both names, so that selections pay for it once
    sum.remainder = sum.score;
  }
  return sum;
}

Traits Tapestry::traits() const {
  Traits found;
  for (const Window& window : windows_) {
    merge(motet::traits(*window.model), found);
    found.divides = found.divides || window.exponent < 0.0;
  }
  found.is_field = found.is_field || !is_law_;
  if (!is_law_) {  // of no use where there are no weights
    found.has_twist = false;
    found.has_slope = false;
  }
  return found;
}

Tensor Tapestry::exponents(const NoiseLevel* level) const {
  const Tensor sum = at::zeros(event_shape_, at::kDouble);
  for (size_t w = 0; w < windows_.size(); ++w) {
    crop(sum, windows_[w]).add_(weights_[w] * coordinate_exponents(*windows_[w].model, level));
  }
  return sum;
}

std::string Tapestry::describe() const {
  std::vector<std::pair<std::string, int64_t>> counts;
  for (const Window& window : windows_) {
    std::ostringstream name;
    name << window.model->describe();
    if (window.exponent != 1.0) {
      name << "^" << window.exponent;
    }
    const auto same = std::find_if(counts.begin(), counts.end(),
                                   [&](const auto& entry) { return entry.first == name.str(); });
    if (same == counts.end()) {
      counts.emplace_back(name.str(), 1);
    } else {
      ++same->second;
    }
  }
  std::string text = "tapestry(";
  for (size_t i = 0; i < event_shape_.size(); ++i) {
    text += (i == 0 ? "" : "x") + std::to_string(event_shape_[i]);
  }
  text += ", " + to_string(canvas_.rule) + ":";
  for (size_t i = 0; i < counts.size(); ++i) {
    const std::string often =
        counts[i].second == 1 ? "" : std::to_string(counts[i].second) + " of ";
    text += (i == 0 ? " " : ", ") + often + counts[i].first;
  }
  return text + ")";
}

const Tapestry* tapestry_in(const Model& model) {
  const Model* inner = hidden_model(model);
  return dynamic_cast<const Tapestry*>(inner == nullptr ? &model : inner);
}

}  // namespace detail

std::string to_string(OverlapRule rule) { return detail::word_of(kRules, rule); }

OverlapRule overlap_rule_from(const std::string& name) {
  return detail::value_of(kRules, "overlap rule", name);
}

std::vector<std::pair<int64_t, int64_t>> window_grid(int64_t num_rows, int64_t num_columns,
                                                     int64_t height, int64_t width,
                                                     int64_t overlap) {
  if (num_rows < 1 || num_columns < 1 || height < 1 || width < 1) {
    fail("a grid of " + std::to_string(num_rows) + "x" + std::to_string(num_columns) +
         " windows of " + std::to_string(height) + "x" + std::to_string(width) +
         " places; all must be >= 1");
  }
  const bool fits =
      overlap >= 0 && (num_rows == 1 || overlap < height) && (num_columns == 1 || overlap < width);
  if (!fits) {
    fail("overlap = " + std::to_string(overlap) + ", must be >= 0 and below the windows' size, " +
         std::to_string(height) + "x" + std::to_string(width));
  }
  std::vector<std::pair<int64_t, int64_t>> places;
  for (int64_t row = 0; row < num_rows; ++row) {
    for (int64_t column = 0; column < num_columns; ++column) {
      places.emplace_back(row * (height - overlap), column * (width - overlap));
    }
  }
  return places;
}

ModelPtr tapestry(std::vector<Window> windows, const Canvas& canvas) {
  check(windows, canvas);
  return std::make_shared<detail::Tapestry>(std::move(windows), canvas);
}

}  // namespace motet
