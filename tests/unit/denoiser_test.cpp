// Denoisers as models: Tweedie's formula against a Gaussian, whose denoiser is known.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "motet/error.hpp"
#include "motet/model.hpp"
#include "support/models.hpp"
#include "support/throw_message.hpp"

namespace motet::testing {
namespace {

const NoiseSchedule kSchedule = NoiseSchedule::cosine(20);

// E[x_0 | y] of x_0 ~ N(.4, .7^2), y = x_0 + v n.
Tensor denoise(const Tensor& y, double v) {
  const double variance = 0.7 * 0.7;
  return (0.4 * v * v + y * variance) / (variance + v * v);
}

TEST(Denoiser, GivesTheGaussiansScoreAtEveryLevel) {
  const ModelPtr model = from_denoiser(denoise, {2, 3}, kSchedule, "denoiser");
  const AnalyticPtr law = gaussian({0.4}, {0.7});
  const Tensor x = Rng(4).normal_like(at::empty({5, 2, 3}, at::kDouble));
  for (const int64_t index : {0, 7, 19}) {
    const NoiseLevel level = kSchedule.level(index);
    const Eval eval = model->evaluate(x, level);
    const Tensor exact = law->evaluate(x.view({30, 1}), level).score.view({5, 2, 3});
    EXPECT_LT((eval.score - exact).abs().max().item<double>(), 1e-10);
    EXPECT_TRUE(eval.remainder.is_same(eval.score));
    EXPECT_FALSE(eval.log_density.defined());
  }
  EXPECT_FALSE(model->is_exact());
  EXPECT_EQ(model->event_shape(), (std::vector<int64_t>{2, 3}));
  EXPECT_TRUE(model->schedule()->same_levels(kSchedule));
}

TEST(Denoiser, RefusesWhatItCannotUse) {
  EXPECT_THROW_MSG(from_denoiser({}, {2}, kSchedule, "d"), ConfigError,
                   "from_denoiser \"d\": function is empty, must be callable");
  EXPECT_THROW_MSG(from_denoiser(denoise, {2, 0}, kSchedule, "d"), ConfigError,
                   "from_denoiser \"d\": event_shape is (2, 0), every size must be >= 1");
  const ModelPtr model = from_denoiser(denoise, {2}, kSchedule, "d");
  const Tensor x = at::zeros({3, 2});
  EXPECT_THROW_MSG(model->evaluate(x, level_at(0.5, 20)), ConfigError,
                   "denoiser: \"d\" knows levels 0 to 19, but is asked for level 20; sample on the "
                   "model's own schedule");
  const auto wrong = [](const Tensor& y, double /*v*/) { return y.to(at::kDouble).select(1, 0); };
  EXPECT_THROW_MSG(from_denoiser(wrong, {2}, kSchedule, "d")->evaluate(x, kSchedule.level(3)),
                   ShapeError,
                   "denoiser: \"d\" returns float64 (3), must be as its points: float32 (3, 2)");
  const auto none = [](const Tensor& /*y*/, double /*v*/) { return Tensor(); };
  EXPECT_THROW_MSG(
      from_denoiser(none, {2}, kSchedule, "d")->evaluate(x, kSchedule.level(3)), ShapeError,
      "denoiser: \"d\" returns an undefined tensor, must be as its points: float32 (3, 2)");
}

}  // namespace
}  // namespace motet::testing
