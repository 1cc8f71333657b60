// The same seed gives the same bits, for any split of the chains into batches and any number of
// threads, through the whole of anneal().
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "motet/anneal.hpp"
#include "motet/compose.hpp"
#include "support/models.hpp"

namespace motet::testing {
namespace {

constexpr int64_t kNumChains = 70;

struct Recipe {
  std::string name;
  ModelPtr model;
  KernelPtr kernel;
  Placement placement = Placement::pure;
  ReverseStep reverse_step = ReverseStep::ancestral_beta_tilde;
  LastMap last_map = LastMap::none;
};

std::vector<Recipe> recipes(int64_t d) {
  const ModelPtr exact = d == 2 ? product({{ring()}, {bar()}})
                                : product({{uneven_mixture(d, 3)}, {uneven_mixture(d, 2), 0.5}});
  const ModelPtr scores = score_only(exact);
  const ModelPtr mixed = product({{exact, 0.5}, {scores, 0.5}});
  const HmcConfig hmc{.num_leapfrog = 3, .damping = 0.5};
  return {{.name = "reverse",
           .model = scores,
           .kernel = nullptr,
           .placement = Placement::none,
           .last_map = LastMap::tweedie},
          {.name = "ddim",
           .model = scores,
           .kernel = nullptr,
           .placement = Placement::none,
           .reverse_step = ReverseStep::ddim,
           .last_map = LastMap::rescale},
          {.name = "ula", .model = scores, .kernel = std::make_shared<Ula>()},
          {.name = "mala line",
           .model = scores,
           .kernel = std::make_shared<Mala>(line_ratio(4)),
           .placement = Placement::after_reverse},
          {.name = "mala exact",
           .model = exact,
           .kernel = std::make_shared<Mala>(exact_ratio()),
           .placement = Placement::before_reverse,
           .reverse_step = ReverseStep::ancestral_beta},
          {.name = "uhmc", .model = exact, .kernel = std::make_shared<Uhmc>(hmc)},
          {.name = "hmc curve",
           .model = scores,
           .kernel = std::make_shared<Hmc>(hmc, curve_ratio()),
           .last_map = LastMap::curvature},
          {.name = "hmc mixed",
           .model = mixed,
           .kernel = std::make_shared<Hmc>(hmc, line_ratio(5, LineRule::gauss_lobatto)),
           .placement = Placement::after_reverse}};
}

Tensor sample(const Recipe& recipe, int64_t d, at::ScalarType dtype, int64_t first, int64_t count,
              const std::vector<int64_t>& levels = {19, 12, 6, 3, 0}, int64_t num_steps = 3,
              uint64_t seed = 11) {
  const NoiseSchedule schedule = NoiseSchedule::cosine(20);
  AnnealConfig config;
  config.placement = recipe.placement;
  config.reverse_step = recipe.reverse_step;
  config.last_map = recipe.last_map;
  for (const int64_t index : levels) {
    config.levels.push_back(
        {.level = schedule.level(index), .num_steps = num_steps, .step_size = 0.02});
  }
  const Rng rng(seed, first);
  Rng start = rng.split("init");
  const Tensor x = start.normal_like(at::empty({count, d}, dtype));
  return anneal(recipe.model, schedule, recipe.kernel, config, x, rng).x;
}

void expect_same_bits(const Tensor& a, const Tensor& b, const std::string& what) {
  EXPECT_TRUE(at::equal(a, b)) << what << ": " << a.ne(b).any(1).sum().item<int64_t>()
                               << " chains differ, by up to " << (a - b).abs().max().item<double>();
}

TEST(ReproducibilityLaw, SameBitsForAnyBatchSplit) {
  for (const int64_t d : {1, 2, 50}) {
    for (const auto dtype : {at::kDouble, at::kFloat}) {
      for (const Recipe& recipe : recipes(d)) {
        const Tensor whole = sample(recipe, d, dtype, 0, kNumChains);
        const Tensor parts =
            at::cat({sample(recipe, d, dtype, 0, 1), sample(recipe, d, dtype, 1, 2),
                     sample(recipe, d, dtype, 3, kNumChains - 3)});
        EXPECT_TRUE(whole.isfinite().all().item<bool>());
        expect_same_bits(whole, parts, recipe.name + ", d = " + std::to_string(d));
      }
    }
  }
}

// Rows of 50 coordinates, so that the tensors are large enough for torch to share out among
// threads.
TEST(ReproducibilityLaw, SameBitsForAnyThreadCount) {
  const int threads = at::get_num_threads();
  for (const Recipe& recipe : recipes(50)) {
    if (recipe.name != "mala exact" && recipe.name != "hmc curve") {
      continue;
    }
    at::set_num_threads(1);
    const Tensor one = sample(recipe, 50, at::kFloat, 0, 1000, {3, 0}, /*num_steps=*/1);
    at::set_num_threads(2);
    const Tensor two = sample(recipe, 50, at::kFloat, 0, 1000, {3, 0}, /*num_steps=*/1);
    at::set_num_threads(threads);
    expect_same_bits(one, two, recipe.name);
  }
}

TEST(ReproducibilityLaw, SeedsAndChainsDiffer) {
  for (const Recipe& recipe : recipes(2)) {
    SCOPED_TRACE(recipe.name);
    const auto draw = [&recipe](uint64_t seed, int64_t first) {
      return sample(recipe, 2, at::kDouble, first, 5, {6, 0}, /*num_steps=*/3, seed);
    };
    const Tensor x = draw(11, 0);
    EXPECT_TRUE(at::equal(x, draw(11, 0)));
    // No coordinate of any chain is shared.
    EXPECT_FALSE(x.eq(draw(12, 0)).any().item<bool>());
    EXPECT_FALSE(x.eq(draw(11 + (uint64_t{1} << 32), 0)).any().item<bool>());
    EXPECT_FALSE(x.eq(draw(11, 1000)).any().item<bool>());
  }
}

}  // namespace
}  // namespace motet::testing
