// What a step costs in evaluations, counted in the model itself; and that nothing writes into what
// it was given.
#include <gtest/gtest.h>
#include <torch/types.h>

#include "motet/anneal.hpp"
#include "motet/compose.hpp"
#include "support/models.hpp"

namespace motet::testing {
namespace {

constexpr int64_t kNumChains = 7;

// Evaluations of one step from a state whose score is known.
int64_t step_cost(const Kernel& kernel, const ModelPtr& model) {
  const auto counting = std::make_shared<CountingModel>(model);
  const Target target(counting, level_at(0.9));
  Rng rng(1);
  const Tensor x = rng.normal_like(at::empty({kNumChains, 2}, at::kDouble));
  const ChainState state{x, target.evaluate(x), rng.normal_like(x)};
  const int64_t before = counting->num_calls();
  kernel.step(target, state, 0.01, rng);
  EXPECT_EQ(counting->num_calls(), target.num_evaluations());
  EXPECT_EQ(counting->num_rows(), counting->num_calls() * kNumChains);
  return counting->num_calls() - before;
}

HmcConfig leapfrogs(int64_t num_leapfrog) { return {.num_leapfrog = num_leapfrog}; }

TEST(CostLaw, UnadjustedLangevinCostsOne) { EXPECT_EQ(step_cost(Ula(), score_only(ring())), 1); }

TEST(CostLaw, MalaWithALineOfNPointsCostsNMinusOne) {
  const ModelPtr scores = score_only(ring());
  for (const int64_t num_points : {2, 3, 5, 10}) {
    EXPECT_EQ(step_cost(Mala(line_ratio(num_points)), scores), num_points - 1);
    EXPECT_EQ(step_cost(Mala(line_ratio(num_points, LineRule::gauss_lobatto)), scores),
              num_points - 1);
  }
  EXPECT_EQ(step_cost(Mala(line_ratio(5, LineRule::simpson)), scores), 4);
  EXPECT_EQ(step_cost(Mala(curve_ratio()), scores), 1);
}

TEST(CostLaw, ExactTargetsPayNoInteriorPoints) {
  for (const LogRatioPtr& ratio : {exact_ratio(), line_ratio(10), curve_ratio()}) {
    EXPECT_EQ(step_cost(Mala(ratio), ring()), 1) << ratio->describe();
    EXPECT_EQ(step_cost(Hmc(leapfrogs(3), ratio), ring()), 3) << ratio->describe();
  }
}

TEST(CostLaw, TrajectoriesCostTheirLeapfrogsAndInteriorPoints) {
  const ModelPtr scores = score_only(ring());
  for (const int64_t num_leapfrog : {1, 3, 8}) {
    EXPECT_EQ(step_cost(Uhmc(leapfrogs(num_leapfrog)), scores), num_leapfrog);
    EXPECT_EQ(step_cost(Hmc(leapfrogs(num_leapfrog), curve_ratio()), scores), num_leapfrog);
    for (const int64_t num_points : {2, 3, 10}) {
      EXPECT_EQ(step_cost(Hmc(leapfrogs(num_leapfrog), line_ratio(num_points)), scores),
                num_leapfrog + num_points - 2);
    }
  }
}

TEST(CostLaw, RatiosTellTheirCost) {
  EXPECT_EQ(exact_ratio()->num_evaluations(), 0);
  EXPECT_EQ(curve_ratio()->num_evaluations(), 0);
  EXPECT_EQ(line_ratio(5)->num_evaluations(), 3);
}

AnnealConfig plan(const NoiseSchedule& schedule, Placement placement, LastMap last_map) {
  AnnealConfig config;
  for (const int64_t index : {8, 5, 2, 0}) {
    config.levels.push_back({.level = schedule.level(index), .num_steps = 2, .step_size = 0.01});
  }
  config.placement = placement;
  config.last_map = last_map;
  return config;
}

// Evaluations a chain at each of the four levels; the kernel costs 3 a step, 2 steps a level.
std::vector<int64_t> anneal_cost(Placement placement, LastMap last_map,
                                 const std::vector<double>& curvature = {}) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(10);
  const auto counting = std::make_shared<CountingModel>(score_only(ring()));
  Rng rng(2);
  const Tensor x = rng.normal_like(at::empty({kNumChains, 2}, at::kDouble));
  const auto kernel = std::make_shared<Hmc>(leapfrogs(3), curve_ratio());
  AnnealConfig config = plan(schedule, placement, last_map);
  config.curvature = curvature;
  const SampleResult result = anneal(counting, schedule, kernel, config, x, rng);
  EXPECT_EQ(result.evaluations_per_chain, counting->num_calls());
  EXPECT_EQ(counting->num_rows(), counting->num_calls() * kNumChains);
  std::vector<int64_t> evaluations;
  for (const LevelStats& level : result.levels) {
    evaluations.push_back(level.evaluations);
  }
  return evaluations;
}

TEST(CostLaw, AnnealingPaysOneEvaluationOnEntryAndTheReverseStepIsFree) {
  using Costs = std::vector<int64_t>;
  EXPECT_EQ(anneal_cost(Placement::pure, LastMap::none), (Costs{7, 7, 7, 7}));
  EXPECT_EQ(anneal_cost(Placement::before_reverse, LastMap::none), (Costs{7, 7, 7, 7}));
  EXPECT_EQ(anneal_cost(Placement::after_reverse, LastMap::none), (Costs{1, 7, 7, 7}));
  EXPECT_EQ(anneal_cost(Placement::none, LastMap::none), (Costs{1, 1, 1, 0}));
}

TEST(CostLaw, TheLastMapIsFreeAfterMcmcButForTheCurvature) {
  using Costs = std::vector<int64_t>;
  EXPECT_EQ(anneal_cost(Placement::none, LastMap::tweedie), (Costs{1, 1, 1, 1}));
  EXPECT_EQ(anneal_cost(Placement::pure, LastMap::tweedie), (Costs{7, 7, 7, 7}));
  EXPECT_EQ(anneal_cost(Placement::pure, LastMap::curvature), (Costs{7, 7, 7, 8}));
  EXPECT_EQ(anneal_cost(Placement::pure, LastMap::curvature, {3.0}), (Costs{7, 7, 7, 7}));
}

TEST(CostLaw, TheLastMapOfSeveralFactorsLooksAtEachOnceMore) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(10);
  const auto first = std::make_shared<CountingModel>(score_only(ring()));
  const auto second = std::make_shared<CountingModel>(score_only(bar()));
  AnnealConfig config = plan(schedule, Placement::before_reverse, LastMap::curvature);
  config.curvature = {600.0, 5.0};
  Rng rng(2);
  const SampleResult result = anneal(product({{first}, {second}}), schedule,
                                     std::make_shared<Hmc>(leapfrogs(3), curve_ratio()), config,
                                     rng.normal_like(at::empty({kNumChains, 2}, at::kDouble)), rng);
  EXPECT_EQ(result.evaluations_per_chain, 29);
  EXPECT_EQ(first->num_calls(), 29);
  EXPECT_EQ(second->num_calls(), 29);
}

// Every tensor of a state, copied; bitwise comparison by at::equal.
std::vector<Tensor> tensors_of(const ChainState& state) {
  std::vector<Tensor> tensors;
  for (const Tensor& tensor :
       {state.x, state.momentum, state.eval.score, state.eval.log_density, state.eval.remainder}) {
    if (tensor.defined()) {
      tensors.push_back(tensor);
    }
  }
  return tensors;
}

std::vector<Tensor> clones(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> copies;
  for (const Tensor& tensor : tensors) {
    copies.push_back(tensor.clone());
  }
  return copies;
}

void expect_equal(const std::vector<Tensor>& now, const std::vector<Tensor>& before,
                  const std::string& what) {
  ASSERT_EQ(now.size(), before.size());
  for (size_t i = 0; i < now.size(); ++i) {
    EXPECT_TRUE(at::equal(now[i], before[i])) << what << " wrote into tensor " << i;
  }
}

TEST(InputLaw, KernelsWriteIntoNothingTheyAreGiven) {
  const ModelPtr mixed = product({{ring()}, {score_only(bar())}});
  const HmcConfig heavy{.num_leapfrog = 2, .damping = 0.5, .mass = {2.0, 0.5}};
  const std::vector<KernelPtr> kernels = {
      std::make_shared<Ula>(), std::make_shared<Mala>(line_ratio(4)), std::make_shared<Uhmc>(heavy),
      std::make_shared<Hmc>(heavy, line_ratio(3)), std::make_shared<Hmc>(heavy, curve_ratio())};
  for (const KernelPtr& kernel : kernels) {
    const Target target(mixed, level_at(0.9));
    Rng rng(3);
    const Tensor x = rng.normal_like(at::empty({kNumChains, 2}, at::kDouble));
    const ChainState state{x, target.evaluate(x), rng.normal_like(x)};
    const auto before = clones(tensors_of(state));
    // Two steps from the same state: the second would see what the first had written.
    Rng again = rng;
    const Step first = kernel->step(target, state, 0.1, rng);
    const auto result = clones(tensors_of(first.state));
    const Step second = kernel->step(target, state, 0.1, again);
    expect_equal(tensors_of(state), before, kernel->describe());
    expect_equal(tensors_of(first.state), result, kernel->describe() + " (the second step)");
    expect_equal(tensors_of(second.state), result, kernel->describe() + " (repeated)");
  }
}

TEST(InputLaw, ModelsWriteIntoNothingTheyAreGiven) {
  for (const ModelPtr& model :
       {ModelPtr(ring()), ModelPtr(bar()), product({{ring(), 0.5}, {score_only(bar()), -1.0}})}) {
    Rng rng(4);
    const Tensor x = rng.normal_like(at::empty({kNumChains, 2}, at::kDouble));
    const Tensor copy = x.clone();
    model->evaluate(x, level_at(0.9));
    EXPECT_TRUE(at::equal(x, copy)) << model->describe();
  }
}

TEST(InputLaw, AnnealingWritesIntoNothingItIsGiven) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(10);
  const auto kernel = std::make_shared<Hmc>(leapfrogs(3), curve_ratio());
  for (const Placement placement :
       {Placement::none, Placement::pure, Placement::after_reverse, Placement::before_reverse}) {
    Rng rng(5);
    const Tensor x = rng.normal_like(at::empty({kNumChains, 2}, at::kDouble));
    const Tensor copy = x.clone();
    anneal(score_only(ring()), schedule, kernel, plan(schedule, placement, LastMap::tweedie), x,
           rng);
    EXPECT_TRUE(at::equal(x, copy)) << to_string(placement);
  }
}

}  // namespace
}  // namespace motet::testing
