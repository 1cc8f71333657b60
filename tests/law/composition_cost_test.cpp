// What compositions cost, counted in their leaves: each distinct one once a point, and nothing for
// the ledger.
#include <gtest/gtest.h>
#include <torch/types.h>

#include "motet/anneal.hpp"
#include "motet/compose.hpp"
#include "support/compositions.hpp"
#include "support/models.hpp"

namespace motet::testing {
namespace {

constexpr int64_t kNumChains = 7;
const NoiseLevel kLevel = level_at(0.9);

Tensor some_points() {
  Rng rng(1);
  return rng.normal_like(at::empty({kNumChains, 2}, at::kDouble));
}

// Two leaves that count, and what is composed of them.
struct Counted {
  std::shared_ptr<CountingModel> a, b;
  ModelPtr model;

  std::vector<int64_t> calls() const { return {a->num_calls(), b->num_calls()}; }
};

using Build = std::function<ModelPtr(const ModelPtr& a, const ModelPtr& b)>;

Counted counted(const Build& build, bool is_exact) {
  const AnalyticPtr b = gaussian({0.1, 0.4}, {0.5, 0.8}, "b");
  Counted all{std::make_shared<CountingModel>(is_exact ? ModelPtr(ring()) : hidden(ring())),
              std::make_shared<CountingModel>(is_exact ? ModelPtr(b) : hidden(b)), nullptr};
  all.model = build(all.a, all.b);
  return all;
}

// A in two places, in every operator.
std::vector<Build> sharing() {
  return {[](const ModelPtr& a, const ModelPtr& b) { return a * mixture({{a}, {b}}); },
          [](const ModelPtr& a, const ModelPtr& b) { return mixture({{a, 0.2}, {b}, {a, 0.3}}); },
          [](const ModelPtr& a, const ModelPtr& b) {
            return mixture({{normalised(a * b, {{0.0}, {0.0}})}, {a}});
          },
          [](const ModelPtr& a, const ModelPtr& b) {
            return product({{mixture({{a}, {b}}), 2.0}, {a, -0.5, Ramp{4.0, -4.0}}, {b, 0.5}});
          },
          [](const ModelPtr& a, const ModelPtr& b) {
            return mixture({{a}, {mixture({{b}, {a}})}}) / pow(mixture({{b}, {a}}), 0.5);
          }};
}

TEST(CompositionCost, EachLeafIsEvaluatedOnceAPoint) {
  for (const Build& build : sharing()) {
    const Counted exact = counted(build, true);
    SCOPED_TRACE(exact.model->describe());
    exact.model->evaluate(some_points(), kLevel);
    EXPECT_EQ(exact.calls(), (std::vector<int64_t>{1, 1}));
    const Counted tracked = counted(build, false);
    const Target target(tracked.model, kLevel);
    const Eval first = target.begin(some_points());
    EXPECT_EQ(tracked.calls(), (std::vector<int64_t>{1, 1}));
    const Eval second = target.evaluate_from(some_points() + 0.1, some_points(), first);
    target.evaluate(some_points(), second.ledger);
    EXPECT_EQ(tracked.calls(), (std::vector<int64_t>{3, 3}));
    target.with_ledger(second, first.ledger, some_points());
    EXPECT_EQ(target.num_evaluations(), 3);
    EXPECT_EQ(tracked.calls(), (std::vector<int64_t>{3, 3}));
  }
}

ModelPtr half_and_half(const ModelPtr& a, const ModelPtr& b) { return mixture({{a}, {b}}); }

int64_t step_cost(const Kernel& kernel) {
  const Counted all = counted(half_and_half, false);
  const Target target(all.model, kLevel);
  const Tensor x = some_points();
  Rng rng(2);
  kernel.step(target, {x, target.begin(x), {}}, 0.01, rng);
  EXPECT_EQ(all.calls(), (std::vector<int64_t>{target.num_evaluations(), all.b->num_calls()}));
  EXPECT_EQ(all.a->num_calls(), all.b->num_calls());
  return all.a->num_calls() - 1;
}

HmcConfig leapfrogs(int64_t num_leapfrog) { return {.num_leapfrog = num_leapfrog}; }

TEST(CompositionCost, LedgersCostKernelsNothing) {
  EXPECT_EQ(step_cost(Ula()), 1);
  EXPECT_EQ(step_cost(Uhmc(leapfrogs(3))), 3);
  for (const CurveRule rule : {CurveRule::trapezoid, CurveRule::polynomial}) {
    EXPECT_EQ(step_cost(Mala(curve_ratio(rule))), 1);
    EXPECT_EQ(step_cost(Hmc(leapfrogs(3), curve_ratio(rule))), 3);
  }
  for (const int64_t num_points : {2, 3, 5, 10}) {
    EXPECT_EQ(step_cost(Mala(line_ratio(num_points))), num_points - 1);
    EXPECT_EQ(step_cost(Hmc(leapfrogs(3), line_ratio(num_points))), num_points + 1);
  }
}

// Evaluations a chain at each of four levels, two steps each.
std::vector<int64_t> anneal_cost(const Build& build, const KernelPtr& kernel, Placement placement,
                                 bool is_weighted = false) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(10);
  const Counted all = counted(build, false);
  AnnealConfig config;
  for (const int64_t index : {9, 5, 2, 0}) {
    config.levels.push_back({.level = schedule.level(index), .num_steps = 2, .step_size = 0.01});
  }
  config.placement = placement;
  if (is_weighted) {
    config.weights = WeightConfig{};
  }
  const SampleResult result = anneal(all.model, schedule, kernel, config, some_points(), Rng(2));
  EXPECT_EQ(all.calls(), (std::vector<int64_t>(2, result.evaluations_per_chain)));
  std::vector<int64_t> evaluations;
  for (const LevelStats& level : result.levels) {
    evaluations.push_back(level.evaluations);
  }
  return evaluations;
}

TEST(CompositionCost, AnnealingATrackedMixtureCostsWhatAProductDoes) {
  const Build both = [](const ModelPtr& a, const ModelPtr& b) { return a * b; };
  for (const KernelPtr& kernel :
       {KernelPtr(std::make_shared<Hmc>(leapfrogs(3), curve_ratio(CurveRule::polynomial))),
        KernelPtr(std::make_shared<Mala>(line_ratio(5))), KernelPtr(std::make_shared<Ula>())}) {
    for (const Placement placement : {Placement::before_reverse, Placement::after_reverse}) {
      for (const bool is_weighted : {false, true}) {
        SCOPED_TRACE(kernel->describe() + ", " + to_string(placement));
        EXPECT_EQ(anneal_cost(half_and_half, kernel, placement, is_weighted),
                  anneal_cost(both, kernel, placement, is_weighted));
      }
    }
  }
}

// The shares that a tracked run reports are those at its last points.
TEST(CompositionCost, TheReverseProcessOfATrackedMixtureLooksAtItsLastPoints) {
  using Costs = std::vector<int64_t>;
  const Build both = [](const ModelPtr& a, const ModelPtr& b) { return a * b; };
  EXPECT_EQ(anneal_cost(both, nullptr, Placement::none), (Costs{1, 1, 1, 0}));
  EXPECT_EQ(anneal_cost(half_and_half, nullptr, Placement::none), (Costs{1, 1, 1, 1}));
}

}  // namespace
}  // namespace motet::testing
