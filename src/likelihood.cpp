// Measurements y = A x_0 + n, n ~ N(0, R), and user's functions of x_0, seen at noisy x
// (docs/conditioning.md). With whitened A' = R^-1/2 A = U diag(s) V^T every approximation is a
// diagonal Gaussian in the measurement's own axes: q = U^T R^-1/2 y - diag(s) V^T u,
//   log p(y | x) = -1/2 sum_k [ q_k^2 / (1 + c s_k^2) + log(1 + c s_k^2) ] + const,
//   flat: u = x / sqrt(abar), c = v;  dps: u = x0, c = 0;  tweedie: u = x0, c = r^2.
// A mask is diagonal as it stands.
#include "motet/likelihood.hpp"

#include <torch/types.h>

#include <cmath>
#include <numbers>
#include <set>
#include <utility>

#include "error_shape.hpp"
#include "likelihood_checks.hpp"
#include "motet/error.hpp"

namespace motet {
namespace {

using detail::shape_text;

// A whitened measurement in its own axes: K of them, singular values > 0 or not.
struct Axes {
  Tensor rows;          // (K, D): diag(s) V^T; undefined for a mask
  Tensor indices;       // (K) int64 of a mask; else undefined
  Tensor scales;        // (K): s
  Tensor observation;   // (1 or B, K): U^T R^-1/2 y
  Tensor log_constant;  // (1 or B): what x does not change
};

// -1/2 (sum log(2 pi noise_sd^2) + |what no axis explains of R^-1/2 y|^2).
Tensor constant_of(const Tensor& noise_sd, const Tensor& unexplained) {
  const double m = static_cast<double>(noise_sd.numel());
  return -0.5 * unexplained.square().sum(1) - noise_sd.log().sum() -
         0.5 * m * std::log(2.0 * std::numbers::pi);
}

Axes axes_of_matrix(const Tensor& matrix, const Tensor& observation, const Tensor& noise_sd) {
  const auto [u, s, vh] = at::linalg_svd(matrix / noise_sd.unsqueeze(1), /*full_matrices=*/false);
  const Tensor white = observation / noise_sd;
  const Tensor inside = white.matmul(u);
  return {.rows = (s.unsqueeze(1) * vh).contiguous(),
          .indices = {},
          .scales = s,
          .observation = inside,
          .log_constant = constant_of(noise_sd, white - inside.matmul(u.t()))};
}

Axes axes_of_mask(const std::vector<int64_t>& observed, const Tensor& observation,
                  const Tensor& noise_sd) {
  return {.rows = {},
          .indices = at::tensor(observed, at::kLong),
          .scales = noise_sd.reciprocal(),
          .observation = observation / noise_sd,
          .log_constant = constant_of(noise_sd, at::zeros_like(observation))};
}

class LinearGaussian : public Likelihood {
 public:
  LinearGaussian(Axes axes, bool is_per_chain, std::vector<int64_t> event_shape,
                 const LikelihoodConfig& config, std::string name)
      : axes_(std::move(axes)),
        is_per_chain_(is_per_chain),
        event_shape_(std::move(event_shape)),
        config_(config),
        name_(std::move(name)) {}

  Value evaluate(const Tensor& x, const NoiseLevel& level,
                 const Tensor& prior_score) const override {
    detail::check_points_of("likelihood \"" + name_ + "\"", x, event_shape_);
    check_rows(x);
    const double root = std::sqrt(level.alpha_bar);
    if (config_.approximation == LikelihoodApproximation::flat) {
      const double v = (1.0 - level.alpha_bar) / level.alpha_bar;
      return value_at(x.detach().to(at::kDouble) / root, v, 1.0 / root, x);
    }
    const detail::CleanEstimate clean = detail::clean_estimate(level, config_.prior_sd);
    const bool is_point = config_.approximation == LikelihoodApproximation::dps;
    return value_at(detail::clean_mean(name_, x, level, prior_score),
                    is_point ? 0.0 : clean.variance, clean.jacobian, x);
  }

  LikelihoodPath path() const override {
    return is_flat() ? LikelihoodPath::diffuses : LikelihoodPath::given;
  }
  bool is_gradient() const override { return is_flat(); }
  std::vector<int64_t> event_shape() const override { return event_shape_; }
  std::string describe() const override {
    return name_ + " (" + to_string(config_.approximation) + ")";
  }

 private:
  bool is_flat() const { return config_.approximation == LikelihoodApproximation::flat; }

  void check_rows(const Tensor& x) const {
    if (is_per_chain_ && x.size(0) != axes_.observation.size(0)) {
      const std::string rows = std::to_string(axes_.observation.size(0));
      throw ShapeError("likelihood \"" + name_ + "\": x has " + std::to_string(x.size(0)) +
                       " chains, but observation has " + rows + " rows, one for each chain; give " +
                       rows + " chains, or one observation (m)");
    }
  }

  // At the clean points u (B, *event), float64, with `spread` the variance of x_0 about them.
  Value value_at(const Tensor& clean, double spread, double jacobian, const Tensor& x) const {
    const auto device = x.device();
    const Tensor u = clean.flatten(1);
    const Tensor scales = axes_.scales.to(device);
    const Tensor seen = axes_.indices.defined()
                            ? u.index_select(1, axes_.indices.to(device)) * scales
                            : u.matmul(axes_.rows.to(device).t());
    const Tensor gap = axes_.observation.to(device) - seen;
    const Tensor variances = 1.0 + spread * scales.square();
    const Tensor pull = gap / variances;
    const Tensor log_likelihood =
        axes_.log_constant.to(device) - 0.5 * ((gap * pull).sum(1) + variances.log().sum());
    return {.log_likelihood = log_likelihood,
            .score = (gradient_of(pull, scales, u) * jacobian).view(x.sizes()).to(x.scalar_type())};
  }

  // The transpose of what u was seen through.
  Tensor gradient_of(const Tensor& pull, const Tensor& scales, const Tensor& u) const {
    if (!axes_.indices.defined()) {
      return pull.matmul(axes_.rows.to(u.device()));
    }
    return at::zeros_like(u).index_copy(1, axes_.indices.to(u.device()), pull * scales);
  }

  Axes axes_;
  bool is_per_chain_;
  std::vector<int64_t> event_shape_;
  LikelihoodConfig config_;
  std::string name_;
};

class CallableLikelihood : public Likelihood {
 public:
  CallableLikelihood(LogLikelihoodFunction function, std::vector<int64_t> event_shape,
                     std::string name, double prior_sd)
      : function_(std::move(function)),
        event_shape_(std::move(event_shape)),
        name_(std::move(name)),
        prior_sd_(prior_sd) {}

  Value evaluate(const Tensor& x, const NoiseLevel& level,
                 const Tensor& prior_score) const override {
    detail::check_points_of("likelihood \"" + name_ + "\"", x, event_shape_);
    const Tensor clean = detail::clean_mean(name_, x, level, prior_score).to(x.scalar_type());
    const Value value = function_(clean);
    detail::check_same_as_x(name_, "the gradient", value.score, x);
    if (!value.log_likelihood.defined() || value.log_likelihood.dim() != 1 ||
        value.log_likelihood.size(0) != x.size(0)) {
      throw ShapeError("likelihood \"" + name_ + "\": log_likelihood " +
                       (value.log_likelihood.defined()
                            ? "has shape " + shape_text(value.log_likelihood.sizes())
                            : std::string("is undefined")) +
                       ", must be (B) = (" + std::to_string(x.size(0)) + ")");
    }
    const double jacobian = detail::clean_estimate(level, prior_sd_).jacobian;
    return {.log_likelihood = value.log_likelihood.detach().to(at::kDouble),
            .score = value.score.detach() * jacobian};
  }

  LikelihoodPath path() const override { return LikelihoodPath::given; }
  bool is_gradient() const override { return false; }
  std::vector<int64_t> event_shape() const override { return event_shape_; }
  std::string describe() const override { return name_; }

 private:
  LogLikelihoodFunction function_;
  std::vector<int64_t> event_shape_;
  std::string name_;
  double prior_sd_;
};

// Observation and noise_sd as float64, (1 or B, m) and (m).
struct Seen {
  Tensor observation;
  Tensor noise_sd;
  bool is_per_chain = false;
};

Seen check_seen(const std::string& where, const Tensor& observation, const Tensor& noise_sd,
                int64_t m, const std::string& because) {
  if (!observation.defined() || observation.dim() < 1 || observation.dim() > 2 ||
      observation.size(-1) != m || observation.size(0) == 0) {
    throw ShapeError(where + ": observation has shape " +
                     (observation.defined() ? shape_text(observation.sizes()) : "()") +
                     ", must be (m) or (B, m) with m = " + std::to_string(m) + " as " + because);
  }
  if (!noise_sd.defined() || noise_sd.dim() > 1 ||
      (noise_sd.dim() == 1 && noise_sd.size(0) != m && noise_sd.size(0) != 1)) {
    throw ShapeError(where + ": noise_sd has shape " +
                     (noise_sd.defined() ? shape_text(noise_sd.sizes()) : "()") +
                     ", must be one number, or (m) = (" + std::to_string(m) + ") as " + because);
  }
  const Tensor own_observation = detail::own(observation);
  const Tensor own_noise_sd = detail::own(noise_sd).reshape({-1}).expand({m}).contiguous();
  detail::check_entries(where, "observation", own_observation, own_observation.isfinite(),
                        "finite");
  detail::check_entries(where, "noise_sd", own_noise_sd,
                        own_noise_sd.gt(0.0).logical_and_(own_noise_sd.isfinite()),
                        "finite and > 0");
  const bool is_per_chain = observation.dim() == 2;
  return {is_per_chain ? own_observation : own_observation.unsqueeze(0), own_noise_sd,
          is_per_chain};
}

void check_observed(const std::string& where, const std::vector<int64_t>& observed, int64_t size) {
  if (observed.empty()) {
    throw ConfigError(where + ": observed is empty, must name at least one coordinate");
  }
  std::set<int64_t> known;
  for (size_t i = 0; i < observed.size(); ++i) {
    const std::string entry =
        where + ": entry " + std::to_string(i) + " of observed = " + std::to_string(observed[i]);
    if (observed[i] < 0 || observed[i] >= size) {
      throw ConfigError(entry + ", must be in 0 .. " + std::to_string(size - 1));
    }
    if (!known.insert(observed[i]).second) {
      throw ConfigError(entry + " is there twice; name each coordinate once");
    }
  }
}

}  // namespace

std::string to_string(LikelihoodApproximation value) {
  switch (value) {
    case LikelihoodApproximation::flat:
      return "flat";
    case LikelihoodApproximation::dps:
      return "dps";
    case LikelihoodApproximation::tweedie:
      break;
  }
  return "tweedie";
}

LikelihoodApproximation likelihood_approximation_from(const std::string& name) {
  for (const auto value : {LikelihoodApproximation::flat, LikelihoodApproximation::dps,
                           LikelihoodApproximation::tweedie}) {
    if (name == to_string(value)) {
      return value;
    }
  }
  throw ConfigError("approximation = " + detail::quoted_text(name) +
                    " is not known; allowed: flat, dps, tweedie");
}

LikelihoodPtr linear_gaussian(const Tensor& matrix, const Tensor& observation,
                              const Tensor& noise_sd, const LikelihoodConfig& config,
                              std::string name) {
  const std::string where = "linear_gaussian \"" + name + "\"";
  if (!matrix.defined() || matrix.dim() != 2 || matrix.numel() == 0) {
    throw ShapeError(where + ": matrix has shape " +
                     (matrix.defined() ? shape_text(matrix.sizes()) : "()") +
                     ", must be (m, d) with m, d >= 1");
  }
  const Tensor own_matrix = detail::own(matrix);
  detail::check_entries(where, "matrix", own_matrix, own_matrix.isfinite(), "finite");
  const Seen seen = check_seen(where, observation, noise_sd, matrix.size(0),
                               "matrix has shape " + shape_text(matrix.sizes()));
  detail::check_prior_sd(where, config.prior_sd);
  return std::make_shared<LinearGaussian>(
      axes_of_matrix(own_matrix, seen.observation, seen.noise_sd), seen.is_per_chain,
      std::vector<int64_t>{matrix.size(1)}, config, std::move(name));
}

LikelihoodPtr linear_gaussian(const std::vector<int64_t>& observed,
                              std::vector<int64_t> event_shape, const Tensor& observation,
                              const Tensor& noise_sd, const LikelihoodConfig& config,
                              std::string name) {
  const std::string where = "linear_gaussian \"" + name + "\"";
  detail::check_event_shape(where, event_shape);
  check_observed(where, observed, c10::multiply_integers(event_shape));
  const auto m = static_cast<int64_t>(observed.size());
  const Seen seen =
      check_seen(where, observation, noise_sd, m, "observed has " + std::to_string(m) + " entries");
  detail::check_prior_sd(where, config.prior_sd);
  return std::make_shared<LinearGaussian>(axes_of_mask(observed, seen.observation, seen.noise_sd),
                                          seen.is_per_chain, std::move(event_shape), config,
                                          std::move(name));
}

LikelihoodPtr likelihood_from_callable(LogLikelihoodFunction function,
                                       std::vector<int64_t> event_shape, std::string name,
                                       double prior_sd) {
  const std::string where = "likelihood_from_callable \"" + name + "\"";
  if (!function) {
    throw ConfigError(where + ": function is empty, must be callable");
  }
  detail::check_event_shape(where, event_shape);
  detail::check_prior_sd(where, prior_sd);
  return std::make_shared<CallableLikelihood>(std::move(function), std::move(event_shape),
                                              std::move(name), prior_sd);
}

}  // namespace motet
