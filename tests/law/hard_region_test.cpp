// Log densities of -infinity: no NaN comes of them, no kernel enters where they are, every kernel
// leaves, and the law inside is left invariant.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <limits>

#include "motet/compose.hpp"
#include "motet/kernel.hpp"
#include "support/compositions.hpp"
#include "support/models.hpp"

namespace motet::testing {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();
const NoiseLevel kLevel = level_at(0.98);

Tensor is_inside(const Tensor& x) { return x.abs().amax(1).lt(1.0); }

// Uniform on |x_i| < 1 at every level.
class HardBox : public Likelihood {
 public:
  Value evaluate(const Tensor& x, const NoiseLevel& /*level*/,
                 const Tensor& /*prior_score*/) const override {
    return {
        at::zeros({x.size(0)}, at::kDouble).masked_fill(is_inside(x).logical_not(), kMinusInfinity),
        at::zeros_like(x)};
  }
  LikelihoodPath path() const override { return LikelihoodPath::given; }
  std::vector<int64_t> event_shape() const override { return {2}; }
  std::string describe() const override { return "box"; }
};
LikelihoodPtr box() { return std::make_shared<HardBox>(); }

// A leaf that is flat on the box shifted by `shift`, and knows it.
ModelPtr flat(double shift) {
  return from_callable(
      [shift](const Tensor& x, const NoiseLevel& /*level*/) {
        const Tensor outside = is_inside(x - shift).logical_not();
        return Eval{
            .score = at::zeros_like(x),
            .log_density = at::zeros({x.size(0)}, at::kDouble).masked_fill(outside, kMinusInfinity),
            .remainder = {}};
      },
      {2}, /*is_exact=*/true, "flat");
}

AnalyticPtr prior() { return gaussian({0.2, -0.3}, {0.8, 0.6}, "prior"); }

// Inside both boxes, inside one, inside none.
Tensor points() { return at::tensor({0.7, 0.6, -0.5, 0.2, 5.0, 5.0}, at::kDouble).view({3, 2}); }

void expect_no_nan(const Eval& eval) {
  EXPECT_TRUE(eval.score.isfinite().all().item<bool>());
  EXPECT_FALSE(eval.log_density.isnan().any().item<bool>());
  if (eval.square_sum.defined()) {
    EXPECT_TRUE(eval.square_sum.isfinite().all().item<bool>());
  }
}

TEST(HardRegions, LeaveNoNaNInAnyOperator) {
  const ModelPtr posterior = condition(prior(), box());
  for (const ModelPtr& model : {posterior, posterior * ModelPtr(prior()), pow(posterior, 0.5),
                                flat(0.0) * ModelPtr(prior())}) {
    SCOPED_TRACE(model->describe());
    const Eval eval = model->evaluate(points(), kLevel);
    expect_no_nan(eval);
    EXPECT_TRUE(at::equal(eval.log_density.isneginf(), is_inside(points()).logical_not()));
  }
}

// Leaves whose density is not normalised are tracked: -infinity stands in the ledger too.
TEST(HardRegions, LeaveNoNaNInMixtures) {
  const ModelPtr model = mixture({{flat(0.0)}, {flat(1.0)}});
  const Target target(model, kLevel);
  const Tensor ledger = at::stack({flat(0.0)->evaluate(points(), kLevel).log_density,
                                   flat(1.0)->evaluate(points(), kLevel).log_density},
                                  1);
  const Eval eval = target.evaluate(points(), ledger);
  expect_no_nan(eval);
  EXPECT_EQ(eval.log_density[0].item<double>(), 0.0);
  EXPECT_NEAR(eval.log_density[1].item<double>(), std::log(0.5), 1e-12);
  EXPECT_EQ(eval.log_density[2].item<double>(), kMinusInfinity);
}

std::vector<KernelPtr> kernels() {
  const HmcConfig hmc{.num_leapfrog = 3, .damping = 0.5};
  return {std::make_shared<Mala>(line_ratio(4)),
          std::make_shared<Hmc>(hmc, curve_ratio(CurveRule::polynomial)),
          std::make_shared<Hmc>(hmc, line_ratio(4))};
}

ChainState run(const Kernel& kernel, const Target& target, const Tensor& x, int64_t num_steps) {
  ChainState state{x, target.evaluate(x), {}};
  for (int64_t i = 0; i < num_steps; ++i) {
    Rng rng = Rng(3).at(0, i);
    const Step step = kernel.step(target, state, 0.2, rng);
    EXPECT_FALSE(step.info.log_accept.isnan().any().item<bool>());
    EXPECT_EQ(step.info.num_invalid.item<int64_t>(), 0);
    // Who is inside stays.
    EXPECT_FALSE(
        is_inside(state.x).logical_and(is_inside(step.state.x).logical_not()).any().item<bool>());
    state = step.state;
  }
  return state;
}

TEST(HardRegions, KernelsLeaveThemAndDoNotEnter) {
  const Target target(condition(score_only(prior()), box()), kLevel);
  Rng rng(2);
  const Tensor x = 1.5 * rng.normal_like(at::empty({200, 2}, at::kDouble));
  EXPECT_TRUE(is_inside(x).logical_not().any().item<bool>());
  for (const KernelPtr& kernel : kernels()) {
    SCOPED_TRACE(kernel->describe());
    const ChainState end = run(*kernel, target, x, 60);
    EXPECT_GT(is_inside(end.x).to(at::kDouble).mean().item<double>(), 0.95);
  }
}

TEST(HardRegions, KernelsLeaveTheLawInsideInvariant) {
  Rng rng(4);
  const Tensor all = prior()->sample_level(20000, kLevel, rng);
  const Tensor x = all.index_select(0, is_inside(all).nonzero().squeeze(1));
  for (const ModelPtr& model : {condition(prior(), box()), condition(score_only(prior()), box())}) {
    const Target target(model, kLevel);
    for (const KernelPtr& kernel : kernels()) {
      SCOPED_TRACE(kernel->describe());
      const Tensor end = run(*kernel, target, x, 4).x;
      for (const Tensor& change : {end - x, end.square() - x.square()}) {
        const Tensor z = change.mean(0) / change.std(0) * std::sqrt(static_cast<double>(x.size(0)));
        EXPECT_LT(z.abs().max().item<double>(), 5.0);
      }
    }
  }
}

}  // namespace
}  // namespace motet::testing
