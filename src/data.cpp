// Data sets to train on. Every draw is a function of (seed, purpose, step, row), see rng.hpp.
#include <torch/types.h>

#include <array>
#include <cmath>
#include <numbers>
#include <sstream>

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
  static const std::array<std::string, 6> kNames = {"ring",  "bar",     "checkerboard",
                                                    "moons", "spirals", "swiss_roll"};
  const std::string near = nearest(name, kNames);
  throw ConfigError("data: unknown set \"" + name +
                    "\", must be ring, bar, checkerboard, moons, spirals or swiss_roll" +
                    (near.empty() ? "" : "; did you mean " + near + "?"));
}

DataSetPtr analytic_data(AnalyticPtr law) {
  if (law == nullptr) {
    throw ConfigError("data: analytic_data() was given no law");
  }
  return std::make_shared<AnalyticData>(std::move(law));
}

DataSetPtr array_data(const Tensor& rows, std::string name) {
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
  return std::make_shared<ArrayData>(copy, std::move(name));
}

}  // namespace motet
