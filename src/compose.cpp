// Compositions. A product adds scores with the exponents as weights:
//   p proportional to prod_i p_i^{a_i}  =>  s = sum_i a_i s_i,  log p = sum_i a_i log p_i + const,
// at every level ([S23] eq. 10, 11, 15). What is known in closed form stays apart from what is not,
// so that a product of energy and score models uses differences for the first and line integrals
// for the second.
#include "motet/compose.hpp"

#include <torch/types.h>

#include <cmath>
#include <sstream>

#include "error_shape.hpp"
#include "model_rows.hpp"
#include "motet/error.hpp"

namespace motet {
namespace {

using detail::shape_text;

// sum += weight * term, where an undefined sum is 0.
void add_scaled(Tensor& sum, const Tensor& term, double weight) {
  if (!term.defined()) {
    return;
  }
  const Tensor scaled = weight == 1.0 ? term : term * weight;
  sum = sum.defined() ? sum + scaled : scaled;
}

// sum_i a_i |s_i|^2 of a factor that may itself be a product, (B) float64.
Tensor square_sum_of(const Eval& eval) {
  return eval.square_sum.defined() ? eval.square_sum : detail::square_norm(eval.score);
}

class ScoreOnly : public Model {
 public:
  explicit ScoreOnly(ModelPtr model) : model_(std::move(model)) {}
  Eval evaluate(const Tensor& x, const NoiseLevel& level) const override {
    Eval eval = model_->evaluate(x, level);
    return {eval.score, {}, eval.score, eval.square_sum};
  }
  bool is_exact() const override { return false; }
  std::vector<int64_t> event_shape() const override { return model_->event_shape(); }
  std::string describe() const override { return "score of " + model_->describe(); }
  std::optional<NoiseSchedule> schedule() const override { return model_->schedule(); }
  const ModelPtr& inner() const { return model_; }

 private:
  ModelPtr model_;
};

class Product : public Model {
 public:
  explicit Product(std::vector<Term> terms) : terms_(std::move(terms)) {
    for (const Term& term : terms_) {
      is_exact_ = is_exact_ && term.model->is_exact();
      if (!schedule_) {
        schedule_ = term.model->schedule();
      }
    }
  }

  Eval evaluate(const Tensor& x, const NoiseLevel& level) const override {
    Eval sum;
    bool all_remainder = true;
    for (const Term& term : terms_) {
      const Eval eval = term.model->evaluate(x, level);
      add_scaled(sum.score, eval.score, term.exponent);
      add_scaled(sum.log_density, eval.log_density, term.exponent);
      add_scaled(sum.remainder, eval.remainder, term.exponent);
      add_scaled(sum.square_sum, square_sum_of(eval), term.exponent);
      all_remainder = all_remainder && eval.remainder.is_same(eval.score);
    }
    // Nothing known in closed form: one tensor under both names, so that later selections are paid
    // once.
    if (all_remainder) {
      sum.remainder = sum.score;
    }
    return sum;
  }

  bool is_exact() const override { return is_exact_; }
  std::vector<int64_t> event_shape() const override { return terms_.front().model->event_shape(); }
  std::optional<NoiseSchedule> schedule() const override { return schedule_; }
  const std::vector<Term>& terms() const { return terms_; }

  std::string describe() const override {
    std::ostringstream text;
    text << "product(";
    for (size_t i = 0; i < terms_.size(); ++i) {
      text << (i == 0 ? "" : ", ") << terms_[i].model->describe();
      if (terms_[i].exponent != 1.0) {
        text << '^' << terms_[i].exponent;
      }
    }
    text << ')';
    return text.str();
  }

 private:
  std::vector<Term> terms_;
  bool is_exact_ = true;
  std::optional<NoiseSchedule> schedule_;
};

void check_term(const std::vector<Term>& terms, size_t index) {
  const std::string where = "compose: product() term " + std::to_string(index + 1) + " of " +
                            std::to_string(terms.size());
  const Term& term = terms[index];
  if (term.model == nullptr) {
    throw ConfigError(where + ": no model given (null), must be a model");
  }
  if (!std::isfinite(term.exponent)) {
    throw ConfigError(where + " (\"" + term.model->describe() +
                      "\"): exponent must be a finite number");
  }
  const Model& first = *terms.front().model;
  if (term.model->event_shape() != first.event_shape()) {
    throw ShapeError(where + " (\"" + term.model->describe() + "\") has event shape " +
                     shape_text(term.model->event_shape()) + ", but term 1 (\"" + first.describe() +
                     "\") has " + shape_text(first.event_shape()) +
                     "; factors must share one event shape");
  }
}

// Networks know only the levels they were trained on: all must be the same ones.
void check_schedules(const std::vector<Term>& terms) {
  const Term* known = nullptr;
  for (const Term& term : terms) {
    const auto schedule = term.model->schedule();
    if (!schedule) {
      continue;
    }
    if (known != nullptr && !schedule->same_levels(*known->model->schedule())) {
      throw ConfigError("compose: product(): \"" + term.model->describe() + "\" was trained for " +
                        schedule->describe() + ", but \"" + known->model->describe() + "\" for " +
                        known->model->schedule()->describe() +
                        "; factors must share one noise schedule: retrain one of them");
    }
    known = &term;
  }
}

}  // namespace

ModelPtr product(std::vector<Term> terms) {
  if (terms.empty()) {
    throw ConfigError("compose: product() of no terms; give at least one model");
  }
  for (size_t i = 0; i < terms.size(); ++i) {
    check_term(terms, i);
  }
  std::erase_if(terms, [](const Term& term) { return term.exponent == 0.0; });
  if (terms.empty()) {
    throw ConfigError("compose: product(): every exponent is 0; at least one must differ from 0");
  }
  check_schedules(terms);
  if (terms.size() == 1 && terms.front().exponent == 1.0) {
    return terms.front().model;
  }
  return std::make_shared<Product>(std::move(terms));
}

ModelPtr score_only(ModelPtr model) {
  if (model == nullptr) {
    throw ConfigError("compose: score_only(): no model given (null), must be a model");
  }
  return std::make_shared<ScoreOnly>(std::move(model));
}

std::vector<Term> factors(const ModelPtr& model) {
  if (const auto* bare = dynamic_cast<const ScoreOnly*>(model.get())) {
    std::vector<Term> inner = factors(bare->inner());
    for (Term& term : inner) {
      term.model = score_only(std::move(term.model));
    }
    return inner;
  }
  const auto* composed = dynamic_cast<const Product*>(model.get());
  if (composed == nullptr) {
    return {{model, 1.0}};
  }
  std::vector<Term> all;
  for (const Term& term : composed->terms()) {
    for (Term& inner : factors(term.model)) {
      all.push_back({std::move(inner.model), term.exponent * inner.exponent});
    }
  }
  return all;
}

double total_exponent(const Model& model) {
  if (const auto* bare = dynamic_cast<const ScoreOnly*>(&model)) {
    return total_exponent(*bare->inner());
  }
  const auto* composed = dynamic_cast<const Product*>(&model);
  if (composed == nullptr) {
    return 1.0;
  }
  double sum = 0.0;
  for (const Term& term : composed->terms()) {
    sum += term.exponent * total_exponent(*term.model);
  }
  return sum;
}

std::string first_invalid_term(const Model& model, const Tensor& x, const NoiseLevel& level) {
  const auto* composed = dynamic_cast<const Product*>(&model);
  if (composed != nullptr) {
    for (const Term& term : composed->terms()) {
      const std::string name = first_invalid_term(*term.model, x, level);
      if (!name.empty()) {
        return name;
      }
    }
    return "";
  }
  const at::NoGradGuard no_grad;
  const Eval eval = model.evaluate(x, level);
  bool is_good = at::isfinite(eval.score).all().item<bool>();
  if (eval.remainder.defined()) {
    is_good = is_good && at::isfinite(eval.remainder).all().item<bool>();
  }
  if (eval.log_density.defined()) {  // -inf is outside the support: no fault
    const Tensor bad = eval.log_density.isnan().logical_or_(eval.log_density.isposinf());
    is_good = is_good && !bad.any().item<bool>();
  }
  return is_good ? "" : model.describe();
}

}  // namespace motet
