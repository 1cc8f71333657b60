// Networks that are evaluated together give what each gives alone.
#include "nets/network_batch.hpp"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <string>
#include <vector>

#include "motet/error.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

ModelPtr network(const std::string& name, const NetworkConfig& config,
                 Compute compute = Compute::float32) {
  Weights weights;
  weights.config = config;
  weights.schedule = NoiseSchedule::cosine(config.num_levels);
  for (const auto& [key, shape] : expected_tensors(config)) {
    weights.tensors[key] = torch::randn(shape) / std::sqrt(static_cast<double>(shape.back()));
  }
  return network_model(weights, name, compute);
}

// Two shapes, scores and energies, each arithmetic, and what is no network between them.
std::vector<ModelPtr> all_kinds() {
  const NetworkConfig small{.width = 20, .num_blocks = 2, .embedding_dim = 5, .num_levels = 10};
  NetworkConfig wide = small;
  wide.width = 40;
  NetworkConfig norm = small;
  norm.parameterisation = Parameterisation::energy_norm;
  NetworkConfig residual = small;
  residual.parameterisation = Parameterisation::energy_residual;
  torch::manual_seed(3);
  return {network("a", small),
          network("norm", norm),
          ring(),
          network("b", small),
          network("wide", wide),
          network("eager", small, Compute::reference),
          network("narrow", small, Compute::bfloat16),
          network("residual", residual),
          network("c", small)};
}

NoiseLevel level_three() { return NoiseSchedule::cosine(10).level(3); }

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.defined() == b.defined() &&
         (!a.defined() || (a.scalar_type() == b.scalar_type() && torch::equal(a, b)));
}

TEST(EvaluateTogether, GivesTheBitsOfEveryLeafAloneForAnyBatchAndThreads) {
  const std::vector<ModelPtr> leaves = all_kinds();
  const int threads = at::get_num_threads();
  for (const int num_threads : {1, 2, 3}) {
    at::set_num_threads(num_threads);
    for (const int64_t batch : {0, 1, 33, 100}) {
      const Tensor x = torch::randn({batch, 2});
      const std::vector<Eval> evals = detail::evaluate_together(leaves, x, level_three());
      ASSERT_EQ(evals.size(), leaves.size());
      for (size_t i = 0; i < leaves.size(); ++i) {
        const Eval alone = leaves[i]->evaluate(x, level_three());
        const std::string what = leaves[i]->describe() + ", batch " + std::to_string(batch);
        EXPECT_TRUE(same_bits(evals[i].score, alone.score)) << what;
        EXPECT_TRUE(same_bits(evals[i].log_density, alone.log_density)) << what;
        EXPECT_TRUE(same_bits(evals[i].remainder, alone.remainder)) << what;
      }
    }
  }
  at::set_num_threads(threads);
}

TEST(EvaluateTogether, TakesDoublesAndNoLeaves) {
  const std::vector<ModelPtr> leaves = all_kinds();
  const Tensor x = torch::randn({5, 2}, torch::kDouble);
  const std::vector<Eval> evals = detail::evaluate_together(leaves, x, level_three());
  EXPECT_EQ(evals[0].score.scalar_type(), torch::kDouble);
  EXPECT_TRUE(same_bits(evals[0].score, leaves[0]->evaluate(x, level_three()).score));
  EXPECT_TRUE(detail::evaluate_together({}, x, level_three()).empty());
}

TEST(EvaluateTogether, NamesTheFirstLeafThatWasNotTrainedOnTheLevel) {
  const NoiseLevel beyond = NoiseSchedule::cosine(20).level(10);
  EXPECT_THROW_MSG(detail::evaluate_together(all_kinds(), torch::randn({5, 2}), beyond),
                   ConfigError,
                   "network: \"a\" was trained on levels 0 to 9, but is asked for level 10; sample "
                   "on the model's own schedule");
}

}  // namespace
}  // namespace motet
