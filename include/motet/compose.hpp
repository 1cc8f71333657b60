// Compositions of models: themselves models.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "motet/likelihood.hpp"
#include "motet/model.hpp"

namespace motet {

/// An exponent that grows linearly in log v, v = (1 - alpha_bar) / alpha_bar, from 0 at `first` (and
/// above) to its whole value at `last` (and below); first > last.
struct Ramp {
  double first = 0.0;
  double last = 0.0;
  bool operator==(const Ramp&) const = default;
};
/// alpha_bar below which every leaf counts as Gaussian of variance sigma^2 about its mean: where
/// ledgers and ramps begin.
inline constexpr double kHighNoise = 0.002;
/// From the lowest level with alpha_bar <= kHighNoise, or the highest there is, to level 0.
Ramp ramp_over(const NoiseSchedule& schedule);

/// One factor p^exponent of a product. Any real exponent but NaN or infinity; 0 drops the factor
/// unevaluated.
struct Term {
  ModelPtr model;
  double exponent = 1.0;
  std::optional<Ramp> ramp = std::nullopt;
};

/// p(x) proportional to prod_i p_i(x)^{a_i} at every level: scores add with weights a_i ([S23] eq.
/// 10, 11, 15). Exact and score-only factors mix: known log densities add into log_density, the
/// rest into remainder. Cost of one evaluation: one of each distinct leaf, however often it appears.
/// A ramped factor whose log density is not known and normalised is tracked along the chains. Throws
/// ConfigError for an empty product, a bad exponent or ramp, ShapeError when event shapes differ,
/// ConfigError when schedules differ.
ModelPtr product(std::vector<Term> terms);

/// One component of a mixture.
struct Component {
  ModelPtr model;
  double weight = 1.0;
};
/// p(x) = sum_k w_k p_k(x) at every level, weights normalised to sum 1. Exact where every component's
/// log density is known and normalised; else the log densities of the leaves that are not are
/// tracked along each chain, from high noise on, where every leaf is a Gaussian (docs/method.md,
/// Ledgers): annealing then needs reverse steps, and its error is in every report. A component that
/// is a product must be normalised(). Throws ConfigError for no components, a weight that is not
/// positive and finite, or one of several components whose integral is unknown: a product, or a
/// conditioned model; else as product().
ModelPtr mixture(std::vector<Component> components);

/// Log integrals of an unnormalised model over x / sqrt(alpha_bar), at rising values of
/// log v, v = (1 - alpha_bar) / alpha_bar; linear between them, constant beyond. Each law of the
/// model counts as a density in x / sqrt(alpha_bar) there.
struct LogNormalisers {
  std::vector<double> log_v;
  std::vector<double> value;
};
/// `model`, a product, divided by its integral at each level, as measured (measure_normalisers,
/// preset.hpp) or known. Costs nothing. Throws ConfigError for a null model and a table that is
/// empty, uneven, not finite or not rising in log v.
ModelPtr normalised(ModelPtr model, LogNormalisers log_normalisers);

/// p(x) p(y | x)^exponent: the posterior of `prior` given what `likelihood` says, at every level. Not
/// exact unless prior is; the likelihood's part is known in closed form. Cost: the prior's, and the
/// likelihood's own. Throws ConfigError for null or a bad exponent, ShapeError when event shapes
/// differ, ConfigError when schedules differ.
ModelPtr condition(ModelPtr prior, LikelihoodPtr likelihood, double exponent = 1.0);

/// Classifier guidance: p(x) p(y | x)^scale, as condition(). A scale other than 1 is another target
/// than p(x | y), not a better sampler of it.
ModelPtr guide(ModelPtr prior, LikelihoodPtr classifier, double scale);
/// Classifier-free guidance (Ho and Salimans 2022): conditional^(1 + scale) unconditional^-scale. A
/// scale other than 0 is another target than the conditional law.
ModelPtr guide(ModelPtr conditional, ModelPtr unconditional, double scale);

/// Expressions: 0.7 * ring + 0.3 * (bar * pow(moons, 0.5)) / blob. A lone sum of models has equal
/// weights.
ModelPtr operator*(const ModelPtr& a, const ModelPtr& b);
ModelPtr operator/(const ModelPtr& a, const ModelPtr& b);
ModelPtr pow(const ModelPtr& model, double exponent);
Component operator*(double weight, const ModelPtr& model);
/// A mixture being written down.
class Sum {
 public:
  explicit Sum(std::vector<Component> components) : components_(std::move(components)) {}
  operator ModelPtr() const { return mixture(components_); }  // NOLINT(google-explicit-constructor)
  Sum plus(Component component) const;

 private:
  std::vector<Component> components_;
};
Sum operator+(const Component& a, const Component& b);
Sum operator+(const Sum& a, const Component& b);

/// `model` without its log density, so that ratios integrate its score: what a score network would
/// know of the same law. To try a sampler on exact scores. Throws ConfigError for null, and for a
/// model that tracks log densities (hide those of its leaves).
ModelPtr score_only(ModelPtr model);

/// `model` as a law of events of another shape with as many numbers, in row-major order: a law of 784
/// numbers as images (1, 28, 28). Exactness, normalisation and schedule stay; no evaluation and no
/// arithmetic more, so chains have the same bits under either shape. Throws ConfigError for null, a
/// size < 1 and a composition (reshape its leaves), ShapeError for another number of numbers.
ModelPtr reshaped(ModelPtr model, std::vector<int64_t> event_shape);
/// The same, still with exact draws, (B, *event).
AnalyticPtr reshaped(AnalyticPtr law, std::vector<int64_t> event_shape);

/// The factors of a product, nested ones multiplied out: Eval::score is the sum of exponent * score.
/// {model, 1} for any other model, and for products that are ramped, conditioned or tracked.
std::vector<Term> factors(const ModelPtr& model);

/// Sum of the exponents of a product's factors, nested ones multiplied out and ramps at `level`;
/// 1 for a law, the prior's for a conditioned model; of a mixture, the smallest of its components.
/// At high noise a product is near N(0, sigma^2 / total_exponent I). Without a level: ramps at their
/// end.
/// Where coordinates differ, as in a tapestry, the smallest of theirs.
double total_exponent(const Model& model);
double total_exponent(const Model& model, const NoiseLevel& level);
/// The same for each coordinate: float64, () where all are alike, else (*event).
Tensor coordinate_exponents(const Model& model, const NoiseLevel& level);

/// What of a composition decides how it can be sampled.
struct Traits {
  bool has_mixture = false;     ///< its components have widths of their own
  bool is_conditioned = false;  ///< has a likelihood
  bool has_twist = false;       ///< has a LikelihoodPath::given (Eval::twist)
  bool is_approximate = false;  ///< a likelihood's gradient is approximate
  bool has_slope = false;       ///< changes with the level by itself (Eval::slope)
  bool is_tracked = false;      ///< has a ledger
  bool divides = false;         ///< has a negative exponent: it may be no law
  bool is_field = false;  ///< its score is no gradient (OverlapRule::cover): no density at all
};
Traits traits(const Model& model);

/// The distinct leaves of a composition, in the order of its parts; the model itself for a leaf.
std::vector<ModelPtr> leaves(const ModelPtr& model);

/// The tree, one node a line, indented: "product", "  ring (scores only)", "  bar ^ 0.5 (exact)".
std::string describe_tree(const ModelPtr& model);

/// (B) bool: where the data may lie by the model's regions; undefined: everywhere.
Tensor allowed(const Model& model, const Tensor& x_0);

/// Name of the first leaf that at x (B, *event) has a score or remainder that is not finite, or a
/// log density that is NaN or +infinity; "" when there is none. One evaluation; for error messages.
std::string first_invalid_term(const Model& model, const Tensor& x, const NoiseLevel& level);

}  // namespace motet
