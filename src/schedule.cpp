// Variance-preserving noise schedules: beta_t -> alpha_bar_t = prod_{s <= t} (1 - beta_s). Only the
// alpha_bars are kept; a level's beta is recomputed from two of them, so that a schedule given by
// alpha_bars is the same thing as one given by betas.
#include "motet/schedule.hpp"

#include <algorithm>
#include <numbers>
#include <utility>

#include "error_shape.hpp"
#include "motet/error.hpp"

namespace motet {
namespace {

// Of alpha_bars: a thousand factors multiplied in float32, as diffusers has them, are off by up to
// 6.4e-7 for its usual schedules (cosine).
constexpr double kRounding = 7e-7;

[[noreturn]] void fail(const std::string& what, const std::string& given,
                       const std::string& allowed) {
  throw ConfigError("schedule: " + what + " = " + given + ", must be " + allowed);
}

void check_num_levels(int64_t num_levels) {
  if (num_levels < 1) {
    fail("num_levels", std::to_string(num_levels), ">= 1");
  }
}

// Negated comparisons, here and below, so that NaN fails too.
void check_betas(double beta_first, double beta_last) {
  if (!(beta_first > 0.0 && beta_first < 1.0)) {
    fail("beta_first", detail::shortest_digits(beta_first), "in (0, 1)");
  }
  if (!(beta_last >= beta_first && beta_last < 1.0)) {
    fail("beta_last", detail::shortest_digits(beta_last),
         "in [beta_first, 1) = [" + detail::shortest_digits(beta_first) + ", 1)");
  }
}

// `first` to `last` in num_levels equal steps, both ends included.
std::vector<double> linspace(double first, double last, int64_t num_levels) {
  std::vector<double> values(static_cast<size_t>(num_levels), first);
  for (size_t t = 1; t < values.size(); ++t) {
    const double share = static_cast<double>(t) / static_cast<double>(num_levels - 1);
    values[t] = first + share * (last - first);
  }
  return values;
}

std::vector<double> cumulate(const std::vector<double>& betas) {
  std::vector<double> alpha_bars;
  alpha_bars.reserve(betas.size());
  double alpha_bar = 1.0;
  for (const double beta : betas) {
    alpha_bar *= 1.0 - beta;
    alpha_bars.push_back(alpha_bar);
  }
  return alpha_bars;
}

std::string describe_betas(const char* name, int64_t num_levels, double first, double last) {
  return std::string(name) + "(" + std::to_string(num_levels) +
         ", beta_first=" + detail::shortest_digits(first) +
         ", beta_last=" + detail::shortest_digits(last) + ")";
}

}  // namespace

NoiseSchedule::NoiseSchedule(std::vector<double> alpha_bars, std::string description)
    : alpha_bars_(std::move(alpha_bars)), description_(std::move(description)) {
  if (alpha_bars_.empty()) {
    throw ConfigError("schedule: alpha_bars is empty, must have at least 1 entry");
  }
  double above = 1.0;
  for (size_t t = 0; t < alpha_bars_.size(); ++t) {
    const double alpha_bar = alpha_bars_[t];
    if (!(alpha_bar > 0.0 && alpha_bar < above)) {
      const std::string bound = t == 0 ? "1" : "alpha_bars[" + std::to_string(t - 1) + "]";
      fail("alpha_bars[" + std::to_string(t) + "]", detail::shortest_digits(alpha_bar),
           "in (0, " + bound + ") = (0, " + detail::shortest_digits(above) +
               "): alpha_bars fall strictly");
    }
    above = alpha_bar;
  }
}

NoiseSchedule NoiseSchedule::cosine(int64_t num_levels, double offset, double max_beta) {
  check_num_levels(num_levels);
  if (!(offset >= 0.0 && std::isfinite(offset))) {
    fail("offset", detail::shortest_digits(offset), "finite and >= 0");
  }
  if (!(max_beta > 0.0 && max_beta < 1.0)) {
    fail("max_beta", detail::shortest_digits(max_beta), "in (0, 1)");
  }
  const auto alpha_bar = [&](int64_t t) {
    const double u = static_cast<double>(t) / static_cast<double>(num_levels);
    const double cosine = std::cos((u + offset) / (1.0 + offset) * std::numbers::pi / 2.0);
    return cosine * cosine;  // the constant alpha_bar(0) cancels in the ratio below
  };
  std::vector<double> betas;
  betas.reserve(static_cast<size_t>(num_levels));
  for (int64_t t = 0; t < num_levels; ++t) {
    betas.push_back(std::min(1.0 - alpha_bar(t + 1) / alpha_bar(t), max_beta));
  }
  return {cumulate(betas), "cosine(" + std::to_string(num_levels) +
                               ", offset=" + detail::shortest_digits(offset) +
                               ", max_beta=" + detail::shortest_digits(max_beta) + ")"};
}

NoiseSchedule NoiseSchedule::linear(int64_t num_levels, double beta_first, double beta_last) {
  check_num_levels(num_levels);
  check_betas(beta_first, beta_last);
  return {cumulate(linspace(beta_first, beta_last, num_levels)),
          describe_betas("linear", num_levels, beta_first, beta_last)};
}

NoiseSchedule NoiseSchedule::scaled_linear(int64_t num_levels, double beta_first,
                                           double beta_last) {
  check_num_levels(num_levels);
  check_betas(beta_first, beta_last);
  std::vector<double> betas = linspace(std::sqrt(beta_first), std::sqrt(beta_last), num_levels);
  for (double& beta : betas) {
    beta *= beta;
  }
  return {cumulate(betas), describe_betas("scaled_linear", num_levels, beta_first, beta_last)};
}

NoiseSchedule NoiseSchedule::from_alpha_bars(std::vector<double> alpha_bars) {
  const std::string description = "from_alpha_bars(" + std::to_string(alpha_bars.size()) + ")";
  return {std::move(alpha_bars), description};
}

NoiseLevel NoiseSchedule::level(int64_t index) const {
  if (index < 0 || index >= num_levels()) {
    fail("level index", std::to_string(index), "in 0 .. " + std::to_string(num_levels() - 1));
  }
  const auto t = static_cast<size_t>(index);
  const double below = t == 0 ? 1.0 : alpha_bars_[t - 1];
  return {.index = index, .alpha_bar = alpha_bars_[t], .beta = 1.0 - alpha_bars_[t] / below};
}

bool NoiseSchedule::same_levels(const NoiseSchedule& other) const {
  if (num_levels() != other.num_levels()) {
    return false;
  }
  for (size_t t = 0; t < alpha_bars_.size(); ++t) {
    if (std::abs(alpha_bars_[t] - other.alpha_bars_[t]) > kRounding) {
      return false;
    }
  }
  return true;
}

}  // namespace motet
