// A law of d numbers and the same law seen as images: the same seed gives the same bits, whatever
// kernel, log ratio, weights, composition or pilot run looks at it. Images take no path of their own.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>

#include "motet/compose.hpp"
#include "motet/diagnose.hpp"
#include "motet/error.hpp"
#include "motet/likelihood.hpp"
#include "motet/preset.hpp"
#include "support/models.hpp"
#include "support/throw_message.hpp"

namespace motet::testing {
namespace {

using Shape = std::vector<int64_t>;
const Shape kFlat = {8};
const Shape kImage = {2, 2, 2};

Tensor as(const Tensor& x, const Shape& event) {
  Shape shape = event;
  shape.insert(shape.begin(), x.size(0));
  return x.reshape(shape);
}

ModelPtr seen_as(const ModelPtr& model, const Shape& event) {
  return event == kFlat ? model : reshaped(model, event);
}
LikelihoodPtr seen_as(const LikelihoodPtr& likelihood, const Shape& event) {
  return event == kFlat ? likelihood : reshaped(likelihood, event);
}

ModelPtr law(const Shape& event, int64_t num_modes) {
  return seen_as(uneven_mixture(8, num_modes), event);
}
ModelPtr scores(const Shape& event, int64_t num_modes) { return score_only(law(event, num_modes)); }

AnnealConfig plan_of(Placement placement, LastMap last_map) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(20);
  AnnealConfig config;
  config.placement = placement;
  config.last_map = last_map;
  for (const int64_t index : {19, 12, 6, 3, 0}) {
    config.levels.push_back({.level = schedule.level(index), .num_steps = 2, .step_size = 0.02});
  }
  return config;
}

Tensor start(const Shape& event, int64_t num_chains, double sd = 1.0) {
  Rng rng = Rng(11).split("init");
  Shape shape = event;
  shape.insert(shape.begin(), num_chains);
  return rng.normal_like(at::empty(shape, at::kFloat)) * sd;
}

using ModelOf = std::function<ModelPtr(const Shape&)>;

void expect_same_bits(const SampleResult& flat, const SampleResult& image,
                      const std::string& what) {
  EXPECT_EQ(image.x.sizes().slice(1), at::IntArrayRef(kImage)) << what;
  EXPECT_TRUE(at::equal(flat.x, image.x.flatten(1)))
      << what << ": off by up to " << (flat.x - image.x.flatten(1)).abs().max().item<double>();
  EXPECT_TRUE(flat.x.isfinite().all().item<bool>()) << what;
  for (const auto& [a, b] : {std::pair(flat.log_weights, image.log_weights),
                             std::pair(flat.log_normalisers, image.log_normalisers),
                             std::pair(flat.shares, image.shares)}) {
    ASSERT_EQ(a.defined(), b.defined()) << what;
    EXPECT_TRUE(!a.defined() || at::equal(a, b)) << what;
  }
  for (size_t i = 0; i < flat.levels.size(); ++i) {
    EXPECT_EQ(flat.levels[i].num_accepted, image.levels[i].num_accepted) << what;
  }
}

void expect_same_chains(const ModelOf& model, const KernelPtr& kernel, const AnnealConfig& config,
                        const std::string& what, double start_sd = 1.0) {
  const auto run = [&](const Shape& event) {
    return anneal(model(event), NoiseSchedule::cosine(20), kernel, config,
                  start(event, 24, start_sd), Rng(11));
  };
  expect_same_bits(run(kFlat), run(kImage), what);
}

HmcConfig hmc(std::vector<double> mass = {}) {
  return {.num_leapfrog = 3, .damping = 0.5, .mass = std::move(mass)};
}

TEST(EventShapeLaw, KernelsAndRatiosGiveTheSameBits) {
  const ModelOf exact = [](const Shape& e) { return product({{law(e, 3)}, {law(e, 2), 0.5}}); };
  const ModelOf hidden = [](const Shape& e) {
    return product({{scores(e, 3)}, {scores(e, 2), 0.5}});
  };
  const AnnealConfig pure = plan_of(Placement::pure, LastMap::curvature);
  const AnnealConfig after = plan_of(Placement::after_reverse, LastMap::curvature);
  AnnealConfig heavy = after;
  for (LevelPlan& level : heavy.levels) {
    level.mass = at::arange(1, 9).to(at::kDouble);
  }
  const std::vector<double> mass = {1, 2, 3, 4, 5, 6, 7, 8};
  expect_same_chains(hidden, nullptr, plan_of(Placement::none, LastMap::tweedie), "reverse");
  expect_same_chains(hidden, std::make_shared<Ula>(), pure, "ula");
  expect_same_chains(exact, std::make_shared<Mala>(exact_ratio()), after, "mala exact");
  expect_same_chains(hidden, std::make_shared<Mala>(line_ratio(4)), after, "mala line");
  expect_same_chains(hidden, std::make_shared<Uhmc>(hmc(mass)), pure, "uhmc, mass");
  for (const CurveRule rule : {CurveRule::trapezoid, CurveRule::polynomial}) {
    expect_same_chains(hidden, std::make_shared<Hmc>(hmc(mass), curve_ratio(rule)), after,
                       "hmc curve, mass, " + to_string(rule));
  }
  expect_same_chains(hidden, std::make_shared<Hmc>(hmc(), line_ratio(5, LineRule::gauss_lobatto)),
                     heavy, "hmc line, masses by level");
}

TEST(EventShapeLaw, CompositionsAndWeightsGiveTheSameBits) {
  const KernelPtr kernel = std::make_shared<Hmc>(hmc(), curve_ratio(CurveRule::polynomial));
  AnnealConfig config = plan_of(Placement::after_reverse, LastMap::curvature);
  config.weights = WeightConfig{.ess_threshold = 0.9, .island_size = 8};
  const NoiseSchedule schedule = NoiseSchedule::cosine(20);
  const std::vector<std::pair<std::string, ModelOf>> models = {
      {"product", [](const Shape& e) { return product({{scores(e, 3)}, {scores(e, 2), 0.5}}); }},
      {"ramp",
       [&](const Shape& e) {
         return product({{scores(e, 3), 2.0}, {law(e, 2), -0.5, ramp_over(schedule)}});
       }},
      {"ledger",
       [](const Shape& e) { return mixture({{scores(e, 3), 0.3}, {scores(e, 2), 0.7}}); }},
      {"ledger in a product", [](const Shape& e) {
         return product({{mixture({{scores(e, 3), 0.3}, {scores(e, 2), 0.7}})}, {law(e, 1)}});
       }}};
  for (const auto& [name, model] : models) {
    expect_same_chains(model, kernel, config, name);
    if (traits(*model(kImage)).is_tracked) {
      continue;  // matched steps are for models without a ledger
    }
    AnnealConfig matched = config;
    matched.weights->matched = true;
    matched.weights->resampling = Resampling::none;
    expect_same_chains(model, kernel, matched, name + ", matched");
  }
}

TEST(EventShapeLaw, ConditionsGiveTheSameBits) {
  const KernelPtr kernel = std::make_shared<Hmc>(hmc(), curve_ratio(CurveRule::polynomial));
  AnnealConfig config = plan_of(Placement::after_reverse, LastMap::none);
  config.weights = WeightConfig{.island_size = 8};
  const Tensor matrix = at::sin(at::arange(24).to(at::kDouble)).view({3, 8});
  const Tensor seen = at::tensor({0.1, -0.2, 0.3}, at::kDouble);
  const Tensor sd = at::tensor({0.4}, at::kDouble);
  const Tensor low = at::full({8}, -3.0, at::kDouble);
  using Maker = std::function<LikelihoodPtr(const Shape&)>;
  const std::vector<std::pair<std::string, Maker>> makers = {
      {"matrix", [&](const Shape& e) { return seen_as(linear_gaussian(matrix, seen, sd), e); }},
      {"mask", [&](const Shape& e) { return linear_gaussian({0, 3, 6}, e, seen, sd); }},
      {"box",
       [&](const Shape& e) {
         return seen_as(region_box(low, at::full({8}, 3.0, at::kDouble)), e);
       }},
      {"callable",
       [](const Shape& e) {
         const auto function = [](const Tensor& x_0) {
           return Likelihood::Value{-0.5 * x_0.square().flatten(1).sum(1), -x_0};
         };
         return likelihood_from_callable(function, e, "bowl");
       }},
      {"region",
       [](const Shape& e) {
         return region_from_callable(
             [](const Tensor& x_0) { return x_0.flatten(1).sum(1).lt(9.0); }, e, "half");
       }},
      {"bayes", [](const Shape& e) {
         return bayes_classifier({law(e, 2), law(e, 3)}, {0.4, 0.6}, 1, "bayes");
       }}};
  for (const auto& [name, make] : makers) {
    expect_same_chains([&make = make](const Shape& e) { return condition(scores(e, 2), make(e)); },
                       kernel, config, name);
  }
}

TEST(EventShapeLaw, ResumedChainsGiveTheSameBits) {
  const ModelPtr model = product({{scores(kImage, 3)}, {law(kImage, 2), 0.5}});
  const KernelPtr kernel = std::make_shared<Hmc>(hmc(), curve_ratio(CurveRule::polynomial));
  AnnealConfig config = plan_of(Placement::after_reverse, LastMap::curvature);
  config.weights = WeightConfig{.island_size = 8};
  const NoiseSchedule schedule = NoiseSchedule::cosine(20);
  std::optional<AnnealState> saved;
  const auto stop = [&](const AnnealState& state) {
    saved = state;
    return state.level_position < 2;
  };
  EXPECT_THROW(anneal(model, schedule, kernel, config, start(kImage, 24), Rng(11), stop),
               Interrupted);
  const SampleResult whole = anneal(model, schedule, kernel, config, start(kImage, 24), Rng(11));
  const SampleResult rest =
      anneal(model, schedule, kernel, config, start(kImage, 24), Rng(11), {}, &*saved);
  EXPECT_TRUE(at::equal(whole.x, rest.x));
}

// The whole sampler "exact": where it starts, its pilot run, masses, points of the line, the last map.
TEST(EventShapeLaw, ExactSamplerAndItsPilotGiveTheSameBits) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(50);
  const ModelOf model = [](const Shape& e) {
    return product({{scores(e, 1)}, {scores(e, 2), 0.5}});
  };
  const auto run = [&](const Shape& event) {
    const ModelPtr target = model(event);
    Sampler sampler =
        make_exact_sampler(target, schedule, {.evaluations = 60}, Rng(3).split("plan"));
    sampler.anneal.adapt->diagonal_mass = true;
    sampler.anneal.weights->island_size = 32;
    const TuneResult tuned = tune(target, schedule, sampler.kernel, sampler.anneal,
                                  start(event, 64, sampler.start_sd), Rng(5));
    return anneal(target, schedule, sampler.kernel, tuned.config,
                  start(event, 64, sampler.start_sd), Rng(7));
  };
  expect_same_bits(run(kFlat), run(kImage), "exact");
}

TEST(EventShapeLaw, DiagnosesAreTheSame) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(50);
  const auto result_of = [&](const Shape& event) {
    const ModelPtr target = product({{scores(event, 1)}, {scores(event, 2), 0.5}});
    Sampler sampler =
        make_exact_sampler(target, schedule, {.evaluations = 40}, Rng(3).split("plan"));
    const TuneResult tuned = tune(target, schedule, sampler.kernel, sampler.anneal,
                                  start(event, 64, sampler.start_sd), Rng(5));
    sampler.anneal = tuned.config;
    DiagnoseConfig config;
    config.num_chains = 64;
    config.num_levels = 3;
    config.num_probes = 2;
    config.num_settle = 2;
    config.num_held_out = 256;
    config.exponents = {1.0, 0.5};
    return diagnose(target, schedule, sampler, config, Rng(9));
  };
  const Diagnosis flat = result_of(kFlat);
  const Diagnosis image = result_of(kImage);
  EXPECT_TRUE(flat.held_out.skipped.empty()) << flat.held_out.skipped;
  EXPECT_EQ(flat.held_out.max_abs_z_mean, image.held_out.max_abs_z_mean);
  EXPECT_EQ(flat.held_out.max_abs_z_covariance, image.held_out.max_abs_z_covariance);
  EXPECT_EQ(flat.held_out.balance.value, image.held_out.balance.value);
  ASSERT_EQ(flat.levels.size(), image.levels.size());
}

TEST(Reshaped, PassesOnWhatTheModelIs) {
  const ModelPtr inner = uneven_mixture(8, 2);
  const ModelPtr image = reshaped(inner, kImage);
  EXPECT_TRUE(image->is_exact());
  EXPECT_TRUE(image->is_normalised());
  EXPECT_EQ(image->event_shape(), kImage);
  EXPECT_EQ(image->describe(), inner->describe() + " as (2, 2, 2)");
  const Tensor x = start(kFlat, 5);
  const Eval flat = inner->evaluate(x, level_at(0.4));
  const Eval own = image->evaluate(as(x, kImage), level_at(0.4));
  EXPECT_TRUE(at::equal(as(flat.score, kImage), own.score));
  EXPECT_TRUE(at::equal(flat.log_density, own.log_density));
  EXPECT_FALSE(own.remainder.defined());
  const Eval hidden = reshaped(score_only(inner), kImage)->evaluate(as(x, kImage), level_at(0.4));
  EXPECT_TRUE(hidden.remainder.is_same(hidden.score));
}

TEST(Reshaped, RefusesWhatDoesNotFit) {
  const ModelPtr inner = gaussian({0, 0}, {1, 1}, "g");
  EXPECT_THROW_MSG(reshaped(ModelPtr(), kImage), ConfigError,
                   "compose: reshaped(): no model given (null), must be a model");
  EXPECT_THROW_MSG(reshaped(inner, kImage), ShapeError,
                   "compose: reshaped(\"g\"): event_shape (2, 2, 2) has 8 numbers, but (2) has 2; "
                   "both must have as many");
  EXPECT_THROW_MSG(reshaped(product({{inner}, {gaussian({1, 0}, {1, 1}, "h")}}), {1, 2}),
                   ConfigError,
                   "compose: reshaped(\"product(g, h)\"): is a composition, whose exponents and "
                   "ledgers a view would hide; reshape its leaves");
  EXPECT_THROW_MSG(reshaped(LikelihoodPtr(), kImage), ConfigError,
                   "likelihood: reshaped(): null given, must be a likelihood");
  EXPECT_THROW_MSG(
      reshaped(region_box(at::zeros({3}), at::ones({3})), {1, 2}), ShapeError,
      "likelihood \"box\": reshaped(): event_shape (1, 2) has 2 numbers, but (3) has 3; both must "
      "have as many");
}

}  // namespace
}  // namespace motet::testing
