// Data sets to train on. Every draw is a function of (seed, purpose, step, row), see rng.hpp.
#include <torch/types.h>

#include <array>
#include <cmath>
#include <numbers>
#include <sstream>

#include "data_detail.hpp"
#include "error_shape.hpp"
#include "motet/error.hpp"
#include "motet/train.hpp"

namespace motet {
namespace {

constexpr double kPi = std::numbers::pi;

class AnalyticData final : public DataSet {
 public:
  explicit AnalyticData(AnalyticPtr law) : law_(std::move(law)) {}
  Tensor sample(int64_t num_samples, Rng& rng) const override {
    return law_->sample_data(num_samples, rng);
  }
  int64_t event_dim() const override { return law_->event_shape().at(0); }
  std::string describe() const override { return law_->describe(); }

 private:
  AnalyticPtr law_;
};

class ArrayData final : public DataSet {
 public:
  ArrayData(Tensor rows, std::string name) : rows_(std::move(rows)), name_(std::move(name)) {}
  Tensor sample(int64_t num_samples, Rng& rng) const override {
    const Tensor u = rng.uniform(num_samples, rows_);
    return rows_.index_select(0, (u * rows_.size(0)).floor().to(at::kLong));
  }
  int64_t event_dim() const override { return rows_.size(1); }
  std::string describe() const override { return name_; }

 private:
  Tensor rows_;
  std::string name_;
};

/// Rows that each have a class.
class LabelledArray final : public LabelledData {
 public:
  LabelledArray(Tensor rows, Tensor labels, std::string name)
      : rows_(std::move(rows)), labels_(std::move(labels)), name_(std::move(name)) {}
  Draw sample_labelled(int64_t num_samples, Rng& rng) const override {
    const Tensor u = rng.uniform(num_samples, rows_);
    const Tensor index = (u * rows_.size(0)).floor().to(at::kLong);
    return {rows_.index_select(0, index), labels_.index_select(0, index)};
  }
  int64_t num_classes() const override { return labels_.max().item<int64_t>() + 1; }
  int64_t event_dim() const override { return rows_.size(1); }
  std::string describe() const override { return name_; }

 private:
  Tensor rows_, labels_;
  std::string name_;
};

/// A data set for each class. Every class is drawn for every row, each from a generator of its own,
/// so that a row does not depend on the classes of the others.
class ClassesData final : public LabelledData {
 public:
  ClassesData(std::vector<DataSetPtr> classes, const std::vector<double>& weights)
      : classes_(std::move(classes)) {
    const Tensor shares = at::tensor(weights, at::kDouble);
    cumulative_ = shares.cumsum(0) / shares.sum();
    cumulative_[-1] = 1.0;  // a uniform above a sum rounded down must still find a class
  }
  Draw sample_labelled(int64_t num_samples, Rng& rng) const override {
    const Tensor u = rng.uniform(num_samples, cumulative_);
    const Tensor labels = at::searchsorted(cumulative_, u, /*out_int32=*/false, /*right=*/true);
    Tensor points = at::zeros({num_samples, event_dim()}, at::kDouble);
    for (size_t k = 0; k < classes_.size(); ++k) {
      Rng own = rng.split("class " + std::to_string(k));
      const Tensor drawn = classes_[k]->sample(num_samples, own).to(at::kDouble);
      points = at::where(labels.eq(static_cast<int64_t>(k)).unsqueeze(1), drawn, points);
    }
    return {points, labels};
  }
  int64_t num_classes() const override { return static_cast<int64_t>(classes_.size()); }
  int64_t event_dim() const override { return classes_.front()->event_dim(); }
  std::string describe() const override {
    std::string text = "classes(";
    for (const DataSetPtr& data : classes_) {
      text += (data == classes_.front() ? "" : ", ") + data->describe();
    }
    return text + ")";
  }

 private:
  std::vector<DataSetPtr> classes_;
  Tensor cumulative_;  // (K), last entry 1
};

/// A formula that turns uniform and normal numbers into points of the plane.
class PlaneData final : public DataSet {
 public:
  using Formula = Tensor (*)(const Tensor& uniform, const Tensor& normal);
  PlaneData(std::string name, Formula formula) : name_(std::move(name)), formula_(formula) {}
  Tensor sample(int64_t num_samples, Rng& rng) const override {
    const Tensor like = at::empty({num_samples, 2}, at::kDouble);
    const Tensor uniform = rng.uniform_like(like);
    return formula_(uniform, rng.normal_like(like));
  }
  int64_t event_dim() const override { return 2; }
  std::string describe() const override { return name_; }

 private:
  std::string name_;
  Formula formula_;
};

Tensor column(const Tensor& points, int64_t index) { return points.select(1, index); }

/// The first number picks column and place in it, the second one of the column's two dark squares.
Tensor checkerboard_points(const Tensor& uniform, const Tensor&) {
  const Tensor x = 4.0 * column(uniform, 0);
  const Tensor v = 2.0 * column(uniform, 1);
  const Tensor parity = x.floor().remainder(2.0);
  const Tensor y = 2.0 * v.floor() + parity + (v - v.floor());
  return at::stack({x, y}, 1) / 2.0 - 1.0;
}

Tensor moons_points(const Tensor& uniform, const Tensor& normal) {
  const Tensor angle = kPi * column(uniform, 0);
  const Tensor first = at::stack({angle.cos(), angle.sin()}, 1);
  const Tensor second = at::stack({1.0 - angle.cos(), 0.5 - angle.sin()}, 1);
  const Tensor is_first = (column(uniform, 1) < 0.5).unsqueeze(1);
  const Tensor centre = at::tensor({0.5, 0.25}, at::kDouble);
  return (at::where(is_first, first, second) + 0.05 * normal - centre) / 1.5;
}

Tensor swiss_roll_points(const Tensor& uniform, const Tensor& normal) {
  const Tensor angle = 1.5 * kPi * (1.0 + 2.0 * column(uniform, 0));
  const Tensor points = at::stack({angle * angle.cos(), angle * angle.sin()}, 1);
  return points / (4.5 * kPi) + 0.02 * normal;
}

}  // namespace

DataSetPtr builtin_data(const std::string& name) {
  if (name == "ring") {
    return analytic_data(ring());
  }
  if (name == "bar") {
    return analytic_data(bar());
  }
  if (name == "checkerboard") {
    return std::make_shared<PlaneData>(name, checkerboard_points);
  }
  if (name == "moons") {
    return std::make_shared<PlaneData>(name, moons_points);
  }
  if (name == "spirals") {
    return analytic_data(spirals());
  }
  if (name == "swiss_roll") {
    return std::make_shared<PlaneData>(name, swiss_roll_points);
  }
  if (name == "scenes") {
    return scene_data({});
  }
  static const std::array<std::string, 7> kNames = {
      "ring", "bar", "checkerboard", "moons", "spirals", "swiss_roll", "scenes"};
  const std::string near = nearest(name, kNames);
  throw ConfigError("data: unknown set \"" + name +
                    "\", must be ring, bar, checkerboard, moons, spirals, swiss_roll or scenes" +
                    (near.empty() ? "" : "; did you mean " + near + "?"));
}

DataSetPtr analytic_data(AnalyticPtr law) {
  if (law == nullptr) {
    throw ConfigError("data: analytic_data() was given no law");
  }
  return std::make_shared<AnalyticData>(std::move(law));
}

namespace {

// Rows (N, d), all finite, as float64; DataError for others.
Tensor checked_rows(const Tensor& rows, const std::string& name) {
  const std::string where = "data: \"" + name + "\"";
  if (!rows.defined() || rows.dim() != 2 || rows.size(0) < 1 || rows.size(1) < 1) {
    std::ostringstream shape;
    shape << (rows.defined() ? rows.sizes() : at::IntArrayRef{});
    throw DataError(where + " has shape " + shape.str() + ", must be (N, d) with N, d >= 1");
  }
  const Tensor copy = rows.detach().to(at::kCPU, at::kDouble, false, true).contiguous();
  const Tensor is_bad = copy.isfinite().all(1).logical_not();
  if (is_bad.any().item<bool>()) {
    const int64_t first = is_bad.nonzero()[0].item<int64_t>();
    throw DataError(where + ": row " + std::to_string(first) + " is not finite (" +
                    std::to_string(is_bad.sum().item<int64_t>()) + " such rows); remove them");
  }
  return copy;
}

void check_classes(const std::vector<DataSetPtr>& classes, const std::vector<double>& weights) {
  if (classes.size() < 2 || classes.size() != weights.size()) {
    throw ConfigError("data: labelled_data() was given " + std::to_string(classes.size()) +
                      " classes and " + std::to_string(weights.size()) +
                      " weights, must be as many of both, at least 2");
  }
  for (size_t k = 0; k < classes.size(); ++k) {
    const std::string where = "data: class " + std::to_string(k) + " ";
    if (classes[k] == nullptr) {
      throw ConfigError(where + "is null");
    }
    if (classes[k]->event_dim() != classes[0]->event_dim()) {
      throw ShapeError(where + "has " + std::to_string(classes[k]->event_dim()) +
                       " dimensions, but class 0 has " + std::to_string(classes[0]->event_dim()));
    }
    if (!(weights[k] > 0.0 && std::isfinite(weights[k]))) {
      std::ostringstream text;
      text << where << "has weight " << weights[k] << ", must be > 0 and finite";
      throw ConfigError(text.str());
    }
  }
}

}  // namespace

namespace detail {

Tensor checked_labels(const Tensor& labels, int64_t num_rows, const std::string& name) {
  const std::string where = "data: \"" + name + "\": labels ";
  if (!labels.defined() || labels.sizes() != at::IntArrayRef{num_rows}) {
    throw DataError(where + "have shape " +
                    (labels.defined() ? detail::shape_text(labels.sizes()) : "(undefined)") +
                    ", must be (" + std::to_string(num_rows) + "), one for each row");
  }
  const Tensor values = labels.detach().to(at::kCPU, at::kDouble);
  constexpr double kMostClasses = 65536.0;  // as many as a weights file takes
  const Tensor is_bad = values.eq(values.floor())
                            .logical_and(values.ge(0.0))
                            .logical_and(values.lt(kMostClasses))
                            .logical_not();
  if (is_bad.any().item<bool>()) {
    const int64_t first = is_bad.nonzero()[0].item<int64_t>();
    std::ostringstream text;
    text << where << "[" << first << "] = " << values[first].item<double>()
         << ", must be a whole number from 0 to 65535";
    throw DataError(text.str());
  }
  if (values.max().item<double>() < 1.0) {
    throw DataError(where + "are all 0, must be of two classes at least");
  }
  return values.to(at::kLong);
}

}  // namespace detail

DataSetPtr array_data(const Tensor& rows, std::string name) {
  const Tensor checked = checked_rows(rows, name);
  return std::make_shared<ArrayData>(checked, std::move(name));
}

DataSetPtr array_data(const Tensor& rows, const Tensor& labels, std::string name) {
  const Tensor checked = checked_rows(rows, name);
  const Tensor classes = detail::checked_labels(labels, checked.size(0), name);
  return std::make_shared<LabelledArray>(checked, classes, std::move(name));
}

DataSetPtr labelled_data(std::vector<DataSetPtr> classes, std::vector<double> weights) {
  check_classes(classes, weights);
  return std::make_shared<ClassesData>(std::move(classes), weights);
}

}  // namespace motet
