// Training: hand-written gradients against autograd, the optimiser against closed forms, resuming.
#include "motet/train.hpp"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <array>
#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "motet/error.hpp"
#include "nets/engine.hpp"
#include "support/throw_message.hpp"
#include "train_kernels.hpp"
#include "train_pass.hpp"

namespace motet {
namespace {

using detail::Arithmetic;
using detail::Batch;

NetworkConfig small_network(Parameterisation parameterisation) {
  // Widths that are no multiples of the padding; 150 rows are no whole number of tiles.
  return {.event_dim = 3,
          .width = 20,
          .num_blocks = 2,
          .widen = 2,
          .embedding_dim = 5,
          .num_levels = 7,
          .parameterisation = parameterisation};
}

struct Problem {
  Tensor weights;
  Batch batch;
};

Problem random_problem(const NetworkConfig& network, int64_t rows) {
  const auto layout = detail::parameter_layout(network);
  const int64_t count = layout.back().offset + layout.back().count;
  Rng rng(7);
  const auto normal = [&rng](at::IntArrayRef shape) {
    return rng.normal_like(at::empty(shape, at::kDouble));
  };
  Problem problem;
  problem.weights = 0.2 * normal({count, 1}).flatten();
  const Tensor u = rng.uniform(rows, problem.weights);
  problem.batch = {normal({rows, network.event_dim}), normal({rows, network.event_dim}),
                   (u * network.num_levels).floor().to(at::kLong)};
  return problem;
}

Batch to_float(const Batch& batch) {
  return {batch.x.to(at::kFloat), batch.noise.to(at::kFloat), batch.level};
}

std::string name_of(const testing::TestParamInfo<Parameterisation>& info) {
  const std::array<std::string, 3> names = {"Score", "EnergyNorm", "EnergyResidual"};
  return names[static_cast<size_t>(info.param)];
}

class GradientTest : public testing::TestWithParam<Parameterisation> {};

NetworkConfig with_features(NetworkConfig network) {
  network.frequencies = {0.7, 3.0};
  return network;
}

void expect_gradient_in_float64(const NetworkConfig& network) {
  const Problem problem = random_problem(network, 150);
  const Tensor expected = at::zeros_like(problem.weights);
  const Tensor found = at::full_like(problem.weights, 99.0);
  const double expected_loss =
      detail::reference_pass(network)->gradient(problem.weights, problem.batch, expected);
  const double found_loss = detail::tiled_pass(network, Arithmetic::float64)
                                ->gradient(problem.weights, problem.batch, found);
  EXPECT_NEAR(found_loss, expected_loss, 1e-12 * expected_loss);
  for (const auto& p : detail::parameter_layout(network)) {
    const Tensor a = expected.narrow(0, p.offset, p.count);
    const Tensor b = found.narrow(0, p.offset, p.count);
    EXPECT_LT((a - b).abs().max().item<double>(), 1e-12 * (1.0 + a.abs().max().item<double>()))
        << p.name;
    EXPECT_TRUE(a.abs().max().item<double>() > 0.0 || p.name == "output.bias") << p.name;
  }
}

TEST_P(GradientTest, HandWrittenEqualsAutogradInFloat64) {
  expect_gradient_in_float64(small_network(GetParam()));
}

TEST_P(GradientTest, HandWrittenEqualsAutogradInFloat64WithFeatures) {
  expect_gradient_in_float64(with_features(small_network(GetParam())));
}

TEST_P(GradientTest, LossesOfRowsEqualTheReferences) {
  const NetworkConfig small = small_network(GetParam());
  for (const NetworkConfig& network : {small, with_features(small)}) {
    const Problem problem = random_problem(network, 150);
    const Tensor expected =
        detail::reference_pass(network)->row_losses(problem.weights, problem.batch);
    const Tensor found = detail::tiled_pass(network, Arithmetic::float64)
                             ->row_losses(problem.weights, problem.batch);
    EXPECT_LT(((expected - found) / expected).abs().max().item<double>(), 1e-11);
  }
}

INSTANTIATE_TEST_SUITE_P(All, GradientTest,
                         testing::Values(Parameterisation::score, Parameterisation::energy_norm,
                                         Parameterisation::energy_residual),
                         name_of);

// The hand-written gradient in `arithmetic`, tensor by tensor, is within `tolerance` of the norm of
// autograd's in float64.
void expect_gradient_near(const NetworkConfig& network, Arithmetic arithmetic, double tolerance) {
  const Problem problem = random_problem(network, 150);
  const Tensor expected = at::zeros_like(problem.weights);
  detail::reference_pass(network)->gradient(problem.weights, problem.batch, expected);
  const Tensor found = at::zeros_like(problem.weights, at::kFloat);
  detail::tiled_pass(network, arithmetic)
      ->gradient(problem.weights.to(at::kFloat), to_float(problem.batch), found);
  for (const auto& p : detail::parameter_layout(network)) {
    const Tensor a = expected.narrow(0, p.offset, p.count);
    const Tensor b = found.narrow(0, p.offset, p.count).to(at::kDouble);
    EXPECT_LE((a - b).norm().item<double>(), tolerance * a.norm().item<double>()) << p.name;
  }
}

// One float32 rounding is 6e-8; sums of about 1000 terms through a dozen layers lose two digits.
TEST_P(GradientTest, Float32KeepsFiveDigits) {
  expect_gradient_near(small_network(GetParam()), Arithmetic::float32, 1e-5);
  expect_gradient_near(with_features(small_network(GetParam())), Arithmetic::float32, 1e-5);
}

// A bfloat16 rounding is 2e-3 (half of 2^-8); the products' sums average it down.
TEST_P(GradientTest, Bfloat16KeepsOnePercent) {
  if (!detail::has_bfloat16_products()) {
    GTEST_SKIP() << "no bfloat16 matrix unit";
  }
  expect_gradient_near(small_network(GetParam()), Arithmetic::bfloat16, 1e-2);
  expect_gradient_near(with_features(small_network(GetParam())), Arithmetic::bfloat16, 1e-2);
}

TEST(MixedPrecision, NeedsTheProcessorThatNarrowSamplingNeeds) {
  EXPECT_TRUE(!detail::has_bfloat16_products() || detail::bfloat16_engine() != nullptr);
}

TEST_P(GradientTest, BitsDoNotDependOnTheNumberOfThreads) {
  NetworkConfig network = train_recipe("motet").network;  // large enough to be split in many ways
  network.parameterisation = GetParam();
  const Problem problem = random_problem(network, 150);
  const Tensor weights = problem.weights.to(at::kFloat);
  const Tensor one = at::zeros_like(weights);
  const Tensor many = at::zeros_like(weights);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  detail::tiled_pass(network, Arithmetic::float32)->gradient(weights, to_float(problem.batch), one);
  at::set_num_threads(6);
  detail::tiled_pass(network, Arithmetic::float32)
      ->gradient(weights, to_float(problem.batch), many);
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one, many));
}

TrainConfig small_training(Parameterisation parameterisation = Parameterisation::score) {
  TrainConfig config;
  config.network = small_network(parameterisation);
  config.network.event_dim = 2;
  config.schedule = NoiseSchedule::cosine(7);
  config.num_steps = 12;
  config.batch_size = 70;
  config.held_out_every = 5;
  config.held_out_size = 140;
  config.seed = 3;
  return config;
}

void expect_same_bits(const TrainState& a, const TrainState& b) {
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.pending_loss, b.pending_loss);
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (const auto& [name, tensor] : a.tensors) {
    EXPECT_TRUE(at::equal(tensor, b.tensors.at(name))) << name;
  }
  ASSERT_EQ(a.held_out.size(), b.held_out.size());
  for (size_t i = 0; i < a.held_out.size(); ++i) {
    EXPECT_EQ(a.held_out[i].step, b.held_out[i].step);
    EXPECT_EQ(a.held_out[i].per_level, b.held_out[i].per_level);
  }
}

TrainState clone(const TrainState& state) {
  TrainState copy = state;
  for (auto& [name, tensor] : copy.tensors) {
    tensor = tensor.clone();
  }
  return copy;
}

TEST(TrainKernels, NormOfNarrowRowsFarFromZeroIsFinite) {
  constexpr int64_t kRows = 3;
  constexpr int64_t n = detail::kPad;
  for (const int64_t width : {1, 2, 17, 31, 32}) {
    const Tensor true_h = 3e4 + at::arange(kRows * width, at::kFloat).view({kRows, width});
    const Tensor h = at::constant_pad_nd(true_h, {0, n - width});
    const Tensor gamma = at::constant_pad_nd(at::ones({width}), {0, n - width});
    const Tensor beta = at::zeros({n});
    const Tensor normed = at::empty({kRows, n}), slope = at::empty({kRows, n});
    const Tensor rstd = at::empty({kRows}), y = at::empty({kRows, n});
    const detail::NormTape<float> tape{.normed = normed.data_ptr<float>(),
                                       .rstd = rstd.data_ptr<float>(),
                                       .slope = slope.data_ptr<float>(),
                                       .curve = nullptr,
                                       .adjoint = nullptr,
                                       .tangent = nullptr,
                                       .rstd_dot = nullptr};
    detail::kernels<float, float>().norm_silu(
        kRows, width, n, h.const_data_ptr<float>(), gamma.const_data_ptr<float>(),
        beta.const_data_ptr<float>(), tape, y.data_ptr<float>());
    const Tensor expected =
        at::silu(at::layer_norm(true_h.to(at::kDouble), {width}, {}, {}, detail::kNormEpsilon));
    const Tensor found = y.narrow(1, 0, width).to(at::kDouble);
    EXPECT_LT((found - expected).abs().max().item<double>(), 0.02) << "width " << width;
  }
}

// The same run with all that the recipe "motet" changes.
TrainConfig by_motet(TrainConfig config) {
  const TrainConfig recipe = train_recipe("motet");
  config.network.frequencies = recipe.network.frequencies;
  config.level_law = recipe.level_law;
  config.rate_schedule = recipe.rate_schedule;
  return config;
}

class ResumeTest : public testing::TestWithParam<Parameterisation> {};

void expect_same_bits_after_a_stop(const TrainConfig& config) {
  const DataSetPtr data = builtin_data("ring");
  const TrainState whole = train(config, *data);
  TrainState stopped;
  const auto stop_at_7 = [&stopped](const TrainState& state, double) {
    stopped = clone(state);
    return state.step < 7;
  };
  EXPECT_THROW(train(config, *data, stop_at_7), Interrupted);
  const TrainState before = clone(stopped);
  expect_same_bits(train(config, *data, {}, &stopped), whole);
  expect_same_bits(stopped, before);  // resuming leaves the given state as it was
}

TEST_P(ResumeTest, EndsWithTheSameBits) {
  for (const bool mixed : {false, detail::has_bfloat16_products()}) {
    TrainConfig config = small_training(GetParam());
    config.mixed_precision = mixed;
    expect_same_bits_after_a_stop(config);
    expect_same_bits_after_a_stop(by_motet(config));
  }
}

INSTANTIATE_TEST_SUITE_P(All, ResumeTest,
                         testing::Values(Parameterisation::score, Parameterisation::energy_norm,
                                         Parameterisation::energy_residual),
                         name_of);

TEST(Train, FirstStepIsTheClosedFormOfAdamAndOfTheAverage) {
  TrainConfig config = small_training();
  config.num_steps = 1;
  config.ema_decay = 0.9;
  const TrainState start = initial_state(config);
  const TrainState end = train(config, *builtin_data("bar"));
  for (const auto& p : detail::parameter_layout(config.network)) {
    const Tensor before = start.tensors.at("weight." + p.name);
    const Tensor after = end.tensors.at("weight." + p.name);
    // m1 = .1 g, m2 = .001 g^2: the step is rate g / (|g| + eps).
    const Tensor g = end.tensors.at("adam1." + p.name) / 0.1;
    EXPECT_TRUE(at::allclose(end.tensors.at("adam2." + p.name), 0.001 * g * g, 1e-4, 1e-30))
        << p.name;
    const Tensor expected = before - config.learning_rate * g / (g.abs() + config.adam_epsilon);
    EXPECT_TRUE(at::allclose(after, expected, 1e-5, 1e-7)) << p.name;
    EXPECT_TRUE(
        at::allclose(end.tensors.at("ema." + p.name), 0.9 * before + 0.1 * after, 1e-5, 1e-7))
        << p.name;
  }
}

// A state at `step` whose network is not zero: the loss then depends on the levels.
TrainState random_state(const TrainConfig& config, int64_t step) {
  TrainState state = initial_state(config);
  Rng rng(23);
  for (auto& [name, tensor] : state.tensors) {
    if (name.starts_with("weight.")) {
      tensor.copy_(0.2 * rng.normal_like(at::empty({tensor.numel(), 1}, at::kDouble))
                             .flatten()
                             .view(tensor.sizes()));
    }
  }
  state.step = step;
  return state;
}

// The state and the loss after one step from `start`.
std::pair<TrainState, double> one_step(const TrainConfig& config, const TrainState& start) {
  std::pair<TrainState, double> result;
  const auto stop = [&result](const TrainState& state, double loss) {
    result = {clone(state), loss};
    return false;
  };
  EXPECT_THROW(train(config, *builtin_data("bar"), stop, &start), Interrupted);
  return result;
}

TEST(Train, CosineRateAtAThirdIsThreeQuarters) {
  TrainConfig config = small_training();
  const TrainState start = random_state(config, config.num_steps / 3);
  const TrainState constant = one_step(config, start).first;
  config.rate_schedule = RateSchedule::cosine;
  const TrainState cosine = one_step(config, start).first;
  for (const auto& p : detail::parameter_layout(config.network)) {
    const Tensor before = start.tensors.at("weight." + p.name).to(at::kDouble);
    const Tensor full = constant.tensors.at("weight." + p.name).to(at::kDouble) - before;
    const Tensor found = cosine.tensors.at("weight." + p.name).to(at::kDouble) - before;
    EXPECT_TRUE(at::allclose(found, 0.75 * full, 1e-4, 1e-7)) << p.name;
  }
}

// The levels of a batch, drawn here as draw() draws them: u of the stream "level" at the step.
TEST(Train, SquaredLawDrawsTheLevelsOfSmallNoiseMoreOften) {
  TrainConfig config = small_training();
  config.level_law = LevelLaw::squared;
  const TrainState start = random_state(config, 3);
  const Rng rng(config.seed);
  const auto stream = [&](const char* purpose) { return rng.split(purpose).at(0, 3); };
  Rng data = stream("data"), uniform = stream("level"), normal = stream("noise");
  const Tensor points = builtin_data("bar")->sample(config.batch_size, data);
  const Tensor u = uniform.uniform(config.batch_size, points);
  const Tensor level = (u * u * 7.0).floor().to(at::kLong);
  EXPECT_GT(level.eq(0).sum().item<int64_t>(), config.batch_size / 4);  // 1/sqrt(7) of the points
  const Tensor noise = normal.normal_like(points);
  Tensor x = at::empty_like(points);
  for (int64_t i = 0; i < config.batch_size; ++i) {
    const NoiseLevel at = config.schedule.level(level[i].item<int64_t>());
    x[i] = std::sqrt(at.alpha_bar) * points[i] + at.sigma() * noise[i];
  }
  const Batch batch = to_float({x, noise, level});
  Tensor weights = at::zeros({0});
  for (const auto& p : detail::parameter_layout(config.network)) {
    weights = at::cat({weights, start.tensors.at("weight." + p.name).flatten()});
  }
  const double expected =
      detail::reference_pass(config.network)->row_losses(weights, batch).mean().item<double>();
  EXPECT_NEAR(one_step(config, start).second, expected, 1e-5 * expected);
}

TEST(TrainRecipe, MotetKeepsThePapersSizeAndCost) {
  const TrainConfig paper = train_recipe("paper"), motet = train_recipe("motet");
  EXPECT_TRUE(paper.network == NetworkConfig{});
  NetworkConfig without = motet.network;
  without.frequencies.clear();
  EXPECT_TRUE(without == paper.network);
  EXPECT_EQ(motet.num_steps, paper.num_steps);
  EXPECT_EQ(motet.batch_size, paper.batch_size);
  EXPECT_EQ(motet.ema_decay, paper.ema_decay);
  EXPECT_EQ(recipe_names(), (std::vector<std::string>{"paper", "motet"}));
  EXPECT_THROW_MSG(train_recipe("best"), ConfigError,
                   "recipe = \"best\" is not known; allowed: paper, motet");
}

TEST(TrainWords, ReadBackAndNameTheAllowed) {
  for (const LevelLaw law : {LevelLaw::uniform, LevelLaw::squared}) {
    EXPECT_EQ(level_law_from(to_string(law)), law);
  }
  for (const RateSchedule schedule : {RateSchedule::constant, RateSchedule::cosine}) {
    EXPECT_EQ(rate_schedule_from(to_string(schedule)), schedule);
  }
  EXPECT_THROW_MSG(level_law_from("cubic"), ConfigError,
                   "level_law = \"cubic\" is not known; allowed: uniform, squared");
  EXPECT_THROW_MSG(rate_schedule_from("step"), ConfigError,
                   "rate_schedule = \"step\" is not known; allowed: constant, cosine");
}

TEST(Train, ClippingScalesTheGradientToTheGivenNorm) {
  TrainConfig config = small_training();
  config.num_steps = 1;
  const auto norm = [](const TrainState& state) {
    double squares = 0.0;
    for (const auto& [name, tensor] : state.tensors) {
      if (name.starts_with("adam1.")) {
        squares += tensor.to(at::kDouble).square().sum().item<double>();
      }
    }
    return std::sqrt(squares) / 0.1;
  };
  const DataSetPtr data = builtin_data("ring");
  const double free = norm(train(config, *data));
  config.gradient_clip = 0.5 * free;
  EXPECT_NEAR(norm(train(config, *data)), 0.5 * free, 1e-5 * free);
  config.gradient_clip = 2.0 * free;
  EXPECT_DOUBLE_EQ(norm(train(config, *data)), free);
}

TEST(Train, InitialStateIsTheReferences) {
  TrainConfig config = small_training();
  config.network.width = 64;
  const TrainState state = initial_state(config);
  const auto weight = [&](const std::string& name) { return state.tensors.at("weight." + name); };
  EXPECT_EQ(weight("blocks.1.output.weight").abs().max().item<float>(), 0.0F);
  EXPECT_EQ(weight("output.weight").abs().max().item<float>(), 0.0F);
  EXPECT_EQ(weight("blocks.0.hidden.bias").abs().max().item<float>(), 0.0F);
  EXPECT_EQ(weight("blocks.0.norm.weight").min().item<float>(), 1.0F);
  const Tensor middle = weight("blocks.0.middle.weight") * std::sqrt(128.0);
  EXPECT_LE(middle.abs().max().item<double>(), 2.0);
  EXPECT_GT(middle.abs().max().item<double>(), 1.99);
  // 0.8796 is the sd of a normal truncated at 2; 128^2 draws know it to 0.6 % (1 sd).
  EXPECT_NEAR(middle.std().item<double>(), 0.8796, 0.02);
  EXPECT_NEAR(middle.mean().item<double>(), 0.0, 0.03);
  config.network.parameterisation = Parameterisation::energy_norm;
  EXPECT_GT(initial_state(config).tensors.at("weight.output.weight").abs().max().item<float>(), 0);
}

TEST(Train, LossFallsForEveryParameterisation) {
  for (const auto parameterisation : {Parameterisation::score, Parameterisation::energy_norm,
                                      Parameterisation::energy_residual}) {
    TrainConfig config = small_training(parameterisation);
    config.num_steps = 300;
    config.batch_size = 128;
    config.learning_rate = 5e-3;
    config.ema_decay = 0.9;
    config.held_out_every = 300;
    config.held_out_size = 700;
    const TrainState state = train(config, *builtin_data("bar"));
    ASSERT_EQ(state.losses.size(), 3U);
    EXPECT_LT(state.losses.back(), 0.9 * state.losses.front());
    // Predicting 0 has loss 1; the last level is nearly pure noise and easy, the first hard.
    EXPECT_LT(state.held_out.back().mean, 0.4);
    EXPECT_LT(state.held_out.back().per_level.back(), state.held_out.back().per_level.front());
  }
}

TEST(Train, WeightsAreTheAveragesWithTheirOrigin) {
  const TrainConfig config = small_training();
  const DataSetPtr data = builtin_data("ring");
  const TrainState state = train(config, *data);
  const Weights weights = trained_weights(config, state, *data);
  EXPECT_TRUE(at::equal(weights.tensors.at("input.weight"), state.tensors.at("ema.input.weight")));
  EXPECT_EQ(weights.tensors.size(), expected_tensors(config.network).size());
  EXPECT_EQ(weights.provenance.at("seed"), "3");
  EXPECT_EQ(weights.provenance.at("num_steps"), "12");
  EXPECT_TRUE(weights.config == config.network);
}

TEST(Train, NamesTheStepWhereTheLossBreaksDown) {
  TrainConfig config = small_training();
  config.learning_rate = 1e30;
  try {
    train(config, *builtin_data("ring"));
    FAIL() << "trained with a learning rate of 1e30";
  } catch (const NumericalError& error) {
    EXPECT_NE(std::string(error.what()).find("is not finite at step "), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("lower learning_rate"), std::string::npos);
  }
}

struct BadSetting {
  std::function<void(TrainConfig&)> spoil;
  std::string message;
};

TEST(Train, RefusesBadSettings) {
  const std::vector<BadSetting> bad = {
      {[](TrainConfig& c) { c.num_steps = -1; }, "train: num_steps = -1, must be >= 0"},
      {[](TrainConfig& c) { c.batch_size = 0; }, "train: batch_size = 0, must be >= 1"},
      {[](TrainConfig& c) { c.learning_rate = -0.5; },
       "train: learning_rate = -0.5, must be > 0 and finite"},
      {[](TrainConfig& c) { c.learning_rate = NAN; },
       "train: learning_rate = nan, must be > 0 and finite"},
      {[](TrainConfig& c) { c.beta1 = 1.0; }, "train: beta1 = 1, must be in [0, 1)"},
      {[](TrainConfig& c) { c.beta2 = -0.1; }, "train: beta2 = -0.1, must be in [0, 1)"},
      {[](TrainConfig& c) { c.adam_epsilon = 0.0; },
       "train: adam_epsilon = 0, must be > 0 and finite"},
      {[](TrainConfig& c) { c.ema_decay = 1.5; }, "train: ema_decay = 1.5, must be in [0, 1)"},
      {[](TrainConfig& c) { c.gradient_clip = -1.0; },
       "train: gradient_clip = -1, must be >= 0 and finite (0: off)"},
      {[](TrainConfig& c) { c.held_out_every = 0; }, "train: held_out_every = 0, must be >= 1"},
      {[](TrainConfig& c) { c.held_out_size = 6; },
       "train: held_out_size = 6, must be at least network.num_levels"},
      {[](TrainConfig& c) { c.network.event_dim = 3; },
       "train: network.event_dim = 3, but the data moons have 2 dimensions; set "
       "network.event_dim = 2"},
      {[](TrainConfig& c) { c.network.num_levels = 9; },
       "train: network.num_levels = 9, but the schedule cosine(7, offset=0.008, max_beta=0.999) "
       "has 7 levels; make them equal"},
      {[](TrainConfig& c) { c.mixed_precision = c.reference_path = true; },
       "train: mixed_precision = true needs the hand-written passes; set reference_path = false"},
  };
  for (const BadSetting& setting : bad) {
    TrainConfig config = small_training();
    setting.spoil(config);
    EXPECT_THROW_MSG(train(config, *builtin_data("moons")), ConfigError, setting.message);
  }
}

// A user's data set: what `make` returns.
class MadeData : public DataSet {
 public:
  explicit MadeData(std::function<Tensor(int64_t, Rng&)> make) : make_(std::move(make)) {}
  Tensor sample(int64_t num_samples, Rng& rng) const override { return make_(num_samples, rng); }
  int64_t event_dim() const override { return 2; }
  std::string describe() const override { return "made"; }

 private:
  std::function<Tensor(int64_t, Rng&)> make_;
};

TEST(Train, RefusesPointsOfAnotherShapeOrType) {
  const TrainConfig config = small_training();
  const std::string rows = std::to_string(config.batch_size);
  const auto train_on = [&](const std::function<Tensor(int64_t)>& make) {
    return train(config, MadeData([&](int64_t n, Rng&) { return make(n); }));
  };
  const std::string where = "train: the data made gave points of ";
  EXPECT_THROW_MSG(train_on([](int64_t n) { return at::zeros({n, 1}, at::kDouble); }), ShapeError,
                   where + "shape (" + rows + ", 1), must be (" + rows + ", 2)");
  EXPECT_THROW_MSG(train_on([](int64_t) { return at::zeros({3, 2}, at::kDouble); }), ShapeError,
                   where + "shape (3, 2), must be (" + rows + ", 2)");
  EXPECT_THROW_MSG(train_on([](int64_t) { return Tensor(); }), ShapeError,
                   where + "shape (undefined), must be (" + rows + ", 2)");
  EXPECT_THROW_MSG(train_on([](int64_t n) { return at::zeros({n, 2}, at::kLong); }), ShapeError,
                   where + "dtype Long on cpu, must be Float or Double on cpu");
}

TEST(Train, StridesOfThePointsChangeNothing) {
  const TrainConfig config = small_training();
  const DataSetPtr data = builtin_data("moons");
  const MadeData transposed(
      [&](int64_t n, Rng& rng) { return data->sample(n, rng).t().contiguous().t(); });
  const TrainState found = train(config, transposed);
  const TrainState expected = train(config, *data);
  for (const auto& [name, tensor] : expected.tensors) {
    EXPECT_TRUE(at::equal(found.tensors.at(name), tensor)) << name;
  }
}

TEST(Train, RefusesStatesOfOtherTrainings) {
  TrainConfig config = small_training();
  const DataSetPtr data = builtin_data("moons");
  TrainState state = initial_state(config);
  state.step = 13;
  EXPECT_THROW_MSG(train(config, *data, {}, &state), ConfigError,
                   "train: the state to resume is at step 13, but num_steps = 12; raise num_steps "
                   "to train on");
  state.step = 0;
  state.tensors["ema.input.bias"] = at::zeros({4});
  EXPECT_THROW_MSG(train(config, *data, {}, &state), DataError,
                   "train: the state to resume is not of this network: tensor \"ema.input.bias\" "
                   "has shape [4], expected shape [20]");
  state.tensors.erase("adam1.input.bias");
  EXPECT_THROW_MSG(train(config, *data, {}, &state), DataError,
                   "train: the state to resume is not of this network: tensor "
                   "\"adam1.input.bias\" is missing, expected shape [20]");
}

}  // namespace
}  // namespace motet
