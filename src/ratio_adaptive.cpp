// The straight line with as many Gauss-Lobatto points as a level needs. The error of N points falls
// as l^(2N-1) in the segment's length, so one point more is a good judge of N:
//   error of N  ~  |f_N - f_{N+1}|.
// N depends on the level alone, never on a proposal: f keeps changing its sign with the path.
#include "motet/ratio_adaptive.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

#include "motet/error.hpp"

namespace motet {
namespace {

class AdaptiveLineRatio : public LogRatio {
 public:
  AdaptiveLineRatio(const LinePoints& num_points, LineRule rule) : rule_(rule) {
    for (const auto& [level, count] : num_points) {
      lines_[level] = line_ratio(count, rule);
      fewest_ = std::min(fewest_, count);
      most_ = std::max(most_, count);
    }
  }

  Tensor estimate(const Target& target, const Path& path) const override {
    return estimate_pair(target, path).estimate;
  }
  RatioPair estimate_pair(const Target& target, const Path& path) const override {
    const auto found = lines_.find(target.level().index);
    if (found == lines_.end()) {
      fail_level(target.level().index);
    }
    return found->second->estimate_pair(target, path);
  }

  int64_t num_evaluations() const override { return most_ - 2; }

  std::string describe() const override {
    return std::to_string(fewest_) + " to " + std::to_string(most_) + "-point " + to_string(rule_) +
           " on the line, by level";
  }

 private:
  [[noreturn]] void fail_level(int64_t index) const {
    std::ostringstream text;
    text << "ratio: adaptive_line_ratio() has no number of points for level " << index
         << ", only for";
    for (const auto& [level, line] : lines_) {
      text << " " << level;
    }
    text << "; let choose_line_points() find it";
    throw ConfigError(text.str());
  }

  LineRule rule_;
  std::map<int64_t, LogRatioPtr> lines_;
  int64_t fewest_ = std::numeric_limits<int64_t>::max();
  int64_t most_ = 2;
};

template <typename Number>
[[noreturn]] void fail_setting(const char* name, Number value, const char* allowed) {
  std::ostringstream text;
  text << "ratio: choose_line_points(" << name << " = " << value << "): must be " << allowed;
  throw ConfigError(text.str());
}

void check_wanted(const LineTolerance& wanted) {
  if (!(wanted.tolerance > 0.0) || !std::isfinite(wanted.tolerance)) {
    fail_setting("tolerance", wanted.tolerance, "> 0 and finite");
  }
  if (!(wanted.quantile > 0.0 && wanted.quantile <= 1.0)) {
    fail_setting("quantile", wanted.quantile, "in (0, 1]");
  }
  if (wanted.max_points < 2 || wanted.max_points > 63) {
    fail_setting("max_points", wanted.max_points, "between 2 and 63");
  }
}

// The smallest entry that at least a share `quantile` of the entries do not exceed.
double quantile_of(const Tensor& sizes, double quantile) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const Tensor values = at::nan_to_num(sizes, kInfinity, kInfinity, kInfinity);
  const auto rank = static_cast<int64_t>(std::ceil(quantile * static_cast<double>(values.numel())));
  return std::get<0>(values.kthvalue(std::max<int64_t>(rank, 1))).item<double>();
}

}  // namespace

LogRatioPtr adaptive_line_ratio(const LinePoints& num_points, LineRule rule) {
  if (num_points.empty()) {
    throw ConfigError(
        "ratio: adaptive_line_ratio() without levels; give each level's number of points, as "
        "choose_line_points() finds it");
  }
  return std::make_shared<AdaptiveLineRatio>(num_points, rule);
}

LineChoice choose_line_points(const Target& target, const Path& pilot,
                              const LineTolerance& wanted) {
  check_wanted(wanted);
  const int64_t before = target.num_evaluations();
  LineChoice choice;
  Tensor coarse = line_ratio(2, LineRule::gauss_lobatto)->estimate(target, pilot);
  if (coarse.numel() == 0) {
    throw ConfigError("ratio: choose_line_points() with 0 proposals, must be 1 or more");
  }
  for (int64_t count = 2; count <= wanted.max_points; ++count) {
    const Tensor fine = line_ratio(count + 1, LineRule::gauss_lobatto)->estimate(target, pilot);
    choice.num_points = count;
    choice.error = quantile_of((fine - coarse).abs(), wanted.quantile);
    choice.is_within_tolerance = choice.error < wanted.tolerance;
    if (choice.is_within_tolerance) {
      break;
    }
    coarse = fine;
  }
  choice.num_evaluations = target.num_evaluations() - before;
  return choice;
}

PilotLineRatio::PilotLineRatio(const LineTolerance& wanted) : wanted_(wanted) {
  check_wanted(wanted);
}

Tensor PilotLineRatio::estimate(const Target& target, const Path& path) const {
  return estimate_pair(target, path).estimate;
}

RatioPair PilotLineRatio::estimate_pair(const Target& target, const Path& path) const {
  const LineChoice choice = choose_line_points(target, path, wanted_);
  num_points_[target.level().index] = choice.num_points;
  return line_ratio(choice.num_points, LineRule::gauss_lobatto)->estimate_pair(target, path);
}

int64_t PilotLineRatio::num_evaluations() const {
  const int64_t most = wanted_.max_points;
  return most * (most - 1) / 2 + most - 2;
}

std::string PilotLineRatio::describe() const {
  std::ostringstream text;
  text << "gauss_lobatto on the line, to " << wanted_.tolerance << " nat (pilot)";
  return text.str();
}

}  // namespace motet
