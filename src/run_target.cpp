// A config's target: its terms are loaded once each, then composed, as a product or by the expression
// `target`. Where exponents sum to 0 or less, the factors that divide begin at high noise with
// exponent 0 (docs/expressions.md).
#include "run_target.hpp"

#include <ATen/Context.h>
#include <torch/types.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "config_classes.hpp"
#include "motet/error.hpp"
#include "run_detail.hpp"
#include "run_pretrained.hpp"

namespace motet {
namespace detail {
namespace {

using Kind = Expression::Kind;
using Parts = std::map<std::string, Named>;  // terms by name: paths end in .safetensors, others not

[[noreturn]] void fail(const SampleConfig& config, const std::string& why) {
  throw ConfigError("config: " + config.name + ": " + why);
}

Named load_term(const SampleConfig& config, const TermConfig& term) {
  if (term.conditions()) {
    return {.model = nullptr,
            .likelihood = term.likelihood
                              ? term.likelihood
                              : load_classifier(*term.classifier, term.name, config.device)};
  }
  ModelPtr model = term.law ? ModelPtr(term.law) : load_network(config, term);
  return {.model = term.score_only ? score_only(std::move(model)) : model, .likelihood = nullptr};
}

// Without a look at whether [schedule] agrees: choose_schedule() does that.
NoiseSchedule schedule_of(const SampleConfig& config, const std::optional<NoiseSchedule>& trained) {
  constexpr int64_t kDefaultLevels = 100;
  return trained           ? *trained
         : config.schedule ? *config.schedule
                           : NoiseSchedule::cosine(kDefaultLevels);
}

// Of the first part that has one; that others have the same, product() and condition() check.
std::optional<NoiseSchedule> trained_schedule(const Parts& parts) {
  for (const auto& [name, part] : parts) {
    const auto schedule = part.model ? part.model->schedule() : part.likelihood->schedule();
    if (schedule) {
      return schedule;
    }
  }
  return std::nullopt;
}

double exponent_at_noise(const Model& model, const NoiseSchedule& schedule) {
  return total_exponent(model, schedule.level(schedule.num_levels() - 1));
}

// Puts ramp() around the laws that divide; `sign` is of the powers above. True where there was any.
bool ramp_divisors(Expression& node, double sign) {
  bool is_changed = false;
  for (size_t i = 0; i < node.children.size() && node.kind == Kind::mixture; ++i) {
    is_changed = ramp_divisors(node.children[i], sign) || is_changed;
  }
  for (size_t i = 0; i < node.children.size() && node.kind == Kind::product; ++i) {
    Expression& child = node.children[i];
    const double power = sign * node.numbers[i];
    const bool is_ramped = child.kind == Kind::call && child.text == "ramp";
    if (child.kind == Kind::product || (child.kind == Kind::mixture && power > 0.0)) {
      is_changed = ramp_divisors(child, power) || is_changed;
    } else if (power < 0.0 && !is_ramped) {
      child = {.kind = Kind::call, .text = "ramp", .children = {Expression(child)}};
      is_changed = true;
    }
  }
  return is_changed;
}

[[noreturn]] void refuse_exponent(const SampleConfig& config, const Model& target,
                                  double exponent) {
  std::ostringstream sum;
  sum << exponent;
  const bool is_exact = config.sampler == "exact";
  fail(config, "the exponents of " + target.describe() + " sum to " + sum.str() +
                   " at high noise, must be > 0: it would be no law there; " +
                   (is_exact ? "" : "use sampler \"exact\", or ") +
                   "let the factors that divide begin with exponent 0, as in target = \"ring / "
                   "ramp(blob)\"");
}

// The product of all terms, conditioned by those that are likelihoods.
ModelPtr compose_terms(const SampleConfig& config, const Parts& parts,
                       const NoiseSchedule& schedule) {
  std::vector<Term> terms;
  for (const TermConfig& term : config.terms) {
    if (!term.conditions()) {
      terms.push_back({parts.at(term.name).model, term.exponent});
    }
  }
  ModelPtr model = product(terms);
  const double exponent = exponent_at_noise(*model, schedule);
  if (!(exponent > 0.0)) {
    if (config.sampler != "exact") {
      refuse_exponent(config, *model, exponent);
    }
    for (Term& term : terms) {
      term.ramp = term.exponent < 0.0 ? std::optional(ramp_over(schedule)) : std::nullopt;
    }
    model = product(std::move(terms));
  }
  for (const TermConfig& term : config.terms) {
    if (term.conditions()) {
      model = condition(std::move(model), parts.at(term.name).likelihood, term.exponent);
    }
  }
  return model;
}

ModelPtr compose_expression(const SampleConfig& config, std::string text, const Parts& parts,
                            const NoiseSchedule& schedule, const Normaliser& normaliser) {
  const auto resolver = [&parts](const Expression& name) { return parts.at(name.text); };
  const Ramp ramp = ramp_over(schedule);
  // Normalisers cost a pilot run and change no exponent: first without them.
  bool needs_normalisers = false;
  const Normaliser zero = [&](const ModelPtr&) {
    needs_normalisers = true;
    return LogNormalisers{{0.0}, {0.0}};
  };
  Expression tree = parse_expression(text);
  ModelPtr draft = build(tree, text, resolver, zero, ramp);
  const double before = exponent_at_noise(*draft, schedule);
  if (!(before > 0.0) && config.sampler == "exact" && ramp_divisors(tree, 1.0)) {
    text = to_string(tree);
    tree = parse_expression(text);
    draft = build(tree, text, resolver, zero, ramp);
  }
  const double exponent = exponent_at_noise(*draft, schedule);
  if (!(exponent > 0.0)) {
    refuse_exponent(config, *draft, exponent);
  }
  return needs_normalisers ? build(tree, text, resolver, normaliser, ramp) : draft;
}

}  // namespace

ModelPtr compose_target(const SampleConfig& config, const Normaliser& normaliser) {
  check_device(config);
  Parts parts;
  for (const TermConfig& term : config.terms) {
    parts[term.name] = load_term(config, term);
  }
  const NoiseSchedule schedule = schedule_of(config, trained_schedule(parts));
  const auto build_expression = [&](const std::string& text) {
    return compose_expression(config, text, parts, schedule, normaliser);
  };
  if (config.tapestry) {
    return compose_tapestry(config, build_expression);
  }
  return config.target.empty() ? compose_terms(config, parts, schedule)
                               : build_expression(config.target);
}

void check_device(const SampleConfig& config) {
  if (config.device != "cpu" && !at::hasCUDA()) {
    fail(config, "device = \"" + config.device +
                     "\", but this torch finds no CUDA device; use device = \"cpu\"");
  }
}

}  // namespace detail

NoiseSchedule choose_schedule(const SampleConfig& config, const Model& target) {
  const std::optional<NoiseSchedule> trained = target.schedule();
  if (trained && config.schedule && !trained->same_levels(*config.schedule)) {
    detail::fail(config, "[schedule] is " + config.schedule->describe() + ", but " +
                             target.describe() + " was trained for " + trained->describe() +
                             "; leave [schedule] out");
  }
  return detail::schedule_of(config, trained);
}

ModelPtr load_target(const SampleConfig& config) {
  const Rng rng = Rng(config.seed).split("normalisers");
  return detail::compose_target(config, [&](const ModelPtr& product) {
    return measure_normalisers(product, choose_schedule(config, *product), {}, rng, config.device);
  });
}

}  // namespace motet
