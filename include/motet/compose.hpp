// Compositions of models: themselves models.
#pragma once

#include <vector>

#include "motet/model.hpp"

namespace motet {

/// One factor p^exponent of a product. Any real exponent but NaN or infinity; 0 drops the factor
/// unevaluated.
struct Term {
  ModelPtr model;
  double exponent = 1.0;
};

/// p(x) proportional to prod_i p_i(x)^{a_i} at every level: scores add with weights a_i ([S23] eq.
/// 10, 11, 15). Exact and score-only factors mix: known log densities add into log_density, the
/// rest into remainder. Cost of one evaluation: one of each factor with exponent != 0. Throws
/// ConfigError for an empty product or a bad exponent, ShapeError when event shapes differ,
/// ConfigError when schedules differ.
ModelPtr product(std::vector<Term> terms);

/// `model` without its log density, so that ratios integrate its score: what a score network would
/// know of the same law. To try a sampler on exact scores. Throws ConfigError for null.
ModelPtr score_only(ModelPtr model);

/// The factors of a product, nested ones multiplied out: Eval::score is the sum of exponent * score.
/// {model, 1} for any other model.
std::vector<Term> factors(const ModelPtr& model);

/// Sum of the exponents of a product's factors, nested ones multiplied out; 1 for any other model.
/// At high noise the product is near N(0, sigma^2 / total_exponent I).
double total_exponent(const Model& model);

/// Name of the first factor (descending into products) that at x (B, *event) has a score or
/// remainder that is not finite, or a log density that is NaN or +infinity; "" when there is none.
/// One evaluation; for error messages.
std::string first_invalid_term(const Model& model, const Tensor& x, const NoiseLevel& level);

}  // namespace motet
