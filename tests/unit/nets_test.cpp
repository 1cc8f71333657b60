// The residual MLP: its tensors, its definition, and the models made of it.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "motet/error.hpp"
#include "motet/model.hpp"
#include "nets/engine.hpp"
#include "nets/fast_network.hpp"
#include "nets/residual_mlp.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

double silu(double x) { return x / (1.0 + std::exp(-x)); }

// All sizes 1 except width 2, so that every layer, LayerNorm included, can be followed by hand.
NetworkConfig tiny_config() {
  return {
      .event_dim = 1, .width = 2, .num_blocks = 1, .widen = 1, .embedding_dim = 1, .num_levels = 2};
}

detail::TensorMap constant_tensors(const NetworkConfig& config, double value) {
  detail::TensorMap tensors;
  for (const auto& [name, shape] : expected_tensors(config)) {
    tensors[name] = torch::full(shape, value, torch::kDouble);
  }
  return tensors;
}

TEST(ExpectedTensors, OfThePaperNetworkHaveItsShapes) {
  const auto shapes = expected_tensors(NetworkConfig{});
  EXPECT_EQ(shapes.size(), 1u + 2u + 4u * 10u + 2u);
  EXPECT_EQ(shapes.at("embedding.weight"), (std::vector<int64_t>{100, 32}));
  EXPECT_EQ(shapes.at("input.weight"), (std::vector<int64_t>{128, 2}));
  EXPECT_EQ(shapes.at("blocks.3.norm.bias"), (std::vector<int64_t>{128}));
  EXPECT_EQ(shapes.at("blocks.0.hidden.weight"), (std::vector<int64_t>{256, 128}));
  EXPECT_EQ(shapes.at("blocks.0.level.weight"), (std::vector<int64_t>{256, 32}));
  EXPECT_EQ(shapes.at("blocks.0.middle.bias"), (std::vector<int64_t>{256}));
  EXPECT_EQ(shapes.at("blocks.0.output.weight"), (std::vector<int64_t>{128, 256}));
  EXPECT_EQ(shapes.at("output.weight"), (std::vector<int64_t>{2, 128}));
}

TEST(ExpectedTensors, OfANetworkWithFrequenciesTakeSinesAndCosines) {
  const NetworkConfig config{.frequencies = {2.0, 4.0, 8.0}};
  EXPECT_EQ(expected_tensors(config).at("input.weight"), (std::vector<int64_t>{128, 2 * 7}));
}

TEST(ReferenceForward, SeesSinesAndCosinesOfX) {
  NetworkConfig config = tiny_config();
  config.frequencies = {1.5, 40.0};
  detail::TensorMap tensors = constant_tensors(config, 0.0);
  tensors["output.weight"] = torch::tensor({{1.0, 0.0}}, torch::kDouble);
  tensors["input.weight"] =
      torch::tensor({{1.0, 10.0, 100.0, 1e3, 1e4}, {0.0, 0.0, 0.0, 0.0, 0.0}}, torch::kDouble);
  const double x = 0.3;
  const double expected = x + 10.0 * std::sin(1.5 * x) + 100.0 * std::cos(1.5 * x) +
                          1e3 * std::sin(40.0 * x) + 1e4 * std::cos(40.0 * x);
  const at::Tensor f = detail::reference_forward(
      tensors, config, torch::tensor({{x}}, torch::kDouble), torch::tensor(1, torch::kLong));
  EXPECT_NEAR(f.item<double>(), expected, 1e-11);
}

TEST(ReferenceForward, FollowsTheFormulaOnATinyNetwork) {
  const NetworkConfig config = tiny_config();
  detail::TensorMap tensors = constant_tensors(config, 0.5);
  tensors["input.weight"] = torch::tensor({{2.0}, {-1.0}}, torch::kDouble);
  tensors["embedding.weight"] = torch::tensor({{7.0}, {-3.0}}, torch::kDouble);
  const double x = 0.3;
  const double h0 = 2.0 * x + 0.5;
  const double h1 = -x + 0.5;
  const double mean = (h0 + h1) / 2.0;
  const double sd = std::sqrt(((h0 - mean) * (h0 - mean) + (h1 - mean) * (h1 - mean)) / 2.0 + 1e-5);
  const double normed0 = silu(0.5 * (h0 - mean) / sd + 0.5);
  const double normed1 = silu(0.5 * (h1 - mean) / sd + 0.5);
  const double level = 0.5 * -3.0 + 0.5;
  const double hidden = silu(0.5 * (normed0 + normed1) + 0.5 + level);
  const double middle = silu(0.5 * (hidden + hidden) + 0.5);
  const double out = 0.5 * (middle + middle) + 0.5;
  const double expected = 0.5 * (h0 + out + h1 + out) + 0.5;
  const at::Tensor f = detail::reference_forward(
      tensors, config, torch::tensor({{x}}, torch::kDouble), torch::tensor(1, torch::kLong));
  EXPECT_NEAR(f.item<double>(), expected, 1e-14);
}

// A network at which nothing is special: no size but the default's is a multiple of a vector.
NetworkConfig small_config(int64_t event_dim, Parameterisation parameterisation) {
  return {.event_dim = event_dim,
          .width = 20,
          .num_blocks = 2,
          .widen = 3,
          .embedding_dim = 5,
          .num_levels = 10,
          .parameterisation = parameterisation};
}

NetworkConfig with_features(NetworkConfig config) {
  config.frequencies = {0.7, 3.0, 5.0};
  return config;
}

Weights random_weights(const NetworkConfig& config) {
  Weights weights;
  weights.config = config;
  weights.schedule = NoiseSchedule::cosine(config.num_levels);
  at::manual_seed(7);
  for (const auto& [name, shape] : expected_tensors(config)) {
    weights.tensors[name] = torch::randn(shape) / std::sqrt(static_cast<double>(shape.back()));
  }
  return weights;
}

detail::TensorMap to_double(const detail::TensorMap& tensors) {
  detail::TensorMap result;
  for (const auto& [name, tensor] : tensors) {
    result[name] = tensor.to(torch::kDouble);
  }
  return result;
}

// Largest error against the size of the expected values.
double relative_error(const at::Tensor& found, const at::Tensor& expected) {
  const at::Tensor error = (found.to(torch::kDouble) - expected).abs().max();
  return (error / expected.abs().max()).item<double>();
}

struct Expected {
  at::Tensor score, log_density;
};

// Score and log density by the formulas of method.md 1, in float64 autograd.
Expected expected_eval(const Weights& weights, const at::Tensor& x, const NoiseLevel& level) {
  const at::Tensor leaf = x.to(torch::kDouble).detach().requires_grad_(true);
  const at::Tensor f = detail::reference_forward(to_double(weights.tensors), weights.config, leaf,
                                                 torch::tensor(level.index, torch::kLong));
  if (weights.config.parameterisation == Parameterisation::score) {
    return {(-f / level.sigma()).detach(), {}};
  }
  const bool residual = weights.config.parameterisation == Parameterisation::energy_residual;
  const at::Tensor energy = (residual ? f - leaf : f).square().sum(1);
  const at::Tensor gradient = torch::autograd::grad({energy.sum()}, {leaf})[0];
  return {-gradient / level.sigma(), (-energy / level.sigma()).detach()};
}

// Rounding that each arithmetic may add over four blocks: some tens of units in the last place of
// float32 (6e-8) and of bfloat16 (4e-3), relative to the largest value.
double tolerance(Compute compute) { return compute == Compute::bfloat16 ? 3e-2 : 5e-6; }

constexpr std::array<Compute, 3> kComputes = {Compute::reference, Compute::float32,
                                              Compute::bfloat16};
constexpr std::array<Parameterisation, 3> kParameterisations = {
    Parameterisation::score, Parameterisation::energy_norm, Parameterisation::energy_residual};

void expect_agreement_with_float64(const NetworkConfig& config) {
  const Weights weights = random_weights(config);
  const NoiseLevel level = weights.schedule.level(3);
  const at::Tensor x = torch::randn({37, config.event_dim});
  const Expected expected = expected_eval(weights, x, level);
  for (const Compute compute : kComputes) {
    const std::string what = to_string(config.parameterisation) + " " + to_string(compute) +
                             " d = " + std::to_string(config.event_dim) + ", " +
                             std::to_string(config.frequencies.size()) + " frequencies";
    const Eval eval = network_model(weights, "net", compute)->evaluate(x, level);
    EXPECT_LT(relative_error(eval.score, expected.score), tolerance(compute)) << what;
    EXPECT_EQ(eval.remainder.defined(), config.parameterisation == Parameterisation::score) << what;
    ASSERT_EQ(eval.log_density.defined(), expected.log_density.defined()) << what;
    if (expected.log_density.defined()) {
      EXPECT_EQ(eval.log_density.scalar_type(), torch::kDouble) << what;
      EXPECT_LT(relative_error(eval.log_density, expected.log_density), tolerance(compute)) << what;
    }
  }
}

TEST(NetworkModel, AgreesWithFloat64InEveryArithmeticParameterisationAndDimension) {
  for (const Parameterisation parameterisation : kParameterisations) {
    for (const int64_t event_dim : {1, 2, 50}) {
      const NetworkConfig config = small_config(event_dim, parameterisation);
      expect_agreement_with_float64(config);
      expect_agreement_with_float64(with_features(config));
    }
  }
}

TEST(NetworkModel, OfThePaperSizeAgreesWithFloat64) {
  for (const Parameterisation parameterisation : kParameterisations) {
    const Weights weights = random_weights({.parameterisation = parameterisation});
    const NoiseLevel level = weights.schedule.level(42);
    const at::Tensor x = torch::randn({130, 2});
    const Expected expected = expected_eval(weights, x, level);
    for (const Compute compute : kComputes) {
      const Eval eval = network_model(weights, "net", compute)->evaluate(x, level);
      EXPECT_LT(relative_error(eval.score, expected.score), tolerance(compute))
          << to_string(parameterisation) << " " << to_string(compute);
    }
  }
}

void expect_slope(const Weights& weights, double tolerance) {
  const ModelPtr model = network_model(weights, "net");
  EXPECT_TRUE(model->is_exact());
  const NoiseLevel level = weights.schedule.level(5);
  const at::Tensor x = torch::randn({20, 3});
  const at::Tensor score = model->evaluate(x, level).score;
  constexpr double kStep = 1e-2;  // float32 energies: truncation and rounding both near 1e-4
  for (int64_t j = 0; j < 3; ++j) {
    at::Tensor shift = torch::zeros({3});
    shift[j] = kStep;
    const at::Tensor slope = (model->evaluate(x + shift, level).log_density -
                              model->evaluate(x - shift, level).log_density) /
                             (2.0 * kStep);
    EXPECT_LT(relative_error(score.select(1, j), slope), tolerance);
  }
}

TEST(NetworkModel, ScoreIsTheSlopeOfTheLogDensity) {
  for (const Parameterisation parameterisation :
       {Parameterisation::energy_norm, Parameterisation::energy_residual}) {
    const NetworkConfig config = small_config(3, parameterisation);
    expect_slope(random_weights(config), 2e-3);
    expect_slope(random_weights(with_features(config)), 5e-3);
  }
}

TEST(ComputeUsed, DiffersOnlyForBfloat16OnACpuWithoutItsProducts) {
  const bool has_products = detail::bfloat16_engine() != nullptr;
  EXPECT_EQ(compute_used(Compute::bfloat16), has_products ? Compute::bfloat16 : Compute::float32);
  EXPECT_EQ(compute_used(Compute::bfloat16, "cuda"), Compute::bfloat16);
  EXPECT_EQ(compute_used(Compute::float32), Compute::float32);
  EXPECT_EQ(compute_used(Compute::reference), Compute::reference);
}

TEST(NetworkModel, EveryEngineOfThisMachineComputesTheSame) {
  std::vector<const detail::Engine*> engines = {&detail::portable_engine(),
                                                &detail::float32_engine()};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    engines.push_back(detail::avx2_engine());
  }
#endif
  const Weights weights =
      random_weights(with_features(small_config(2, Parameterisation::energy_norm)));
  const NoiseLevel level = weights.schedule.level(1);
  const at::Tensor x = torch::randn({53, 2});
  const Expected expected = expected_eval(weights, x, level);
  for (const detail::Engine* engine : engines) {
    const detail::FastNetwork network(weights.tensors, weights.config, *engine, true);
    at::Tensor energy = torch::empty({53}, torch::kDouble);
    at::Tensor gradient = torch::empty({53, 2});
    network.energy(x.const_data_ptr<float>(), 53, level.index, false, energy.data_ptr<double>(),
                   gradient.data_ptr<float>());
    EXPECT_LT(relative_error(gradient / -level.sigma(), expected.score), 5e-6) << engine->name;
    EXPECT_LT(relative_error(energy / -level.sigma(), expected.log_density), 5e-6) << engine->name;
  }
}

TEST(NetworkModel, BitsOfARowDoNotDependOnTheBatchOrTheThreads) {
  const int threads = at::get_num_threads();
  for (const Parameterisation parameterisation : {kParameterisations[0], kParameterisations[2]}) {
    const Weights weights = random_weights(with_features({.parameterisation = parameterisation}));
    const NoiseLevel level = weights.schedule.level(7);
    const at::Tensor x = torch::randn({2000, 2});
    for (const Compute compute : {Compute::float32, Compute::bfloat16}) {
      const ModelPtr model = network_model(weights, "net", compute);
      at::set_num_threads(1);
      const Eval whole = model->evaluate(x, level);
      for (const int num_threads : {1, 2}) {
        at::set_num_threads(num_threads);
        EXPECT_TRUE(torch::equal(model->evaluate(x, level).score, whole.score));
        for (const auto& [start, num] :
             std::vector<std::pair<int64_t, int64_t>>{{17, 1}, {15, 7}, {3, 33}, {0, 1999}}) {
          const Eval part = model->evaluate(x.narrow(0, start, num), level);
          EXPECT_TRUE(torch::equal(part.score, whole.score.narrow(0, start, num)))
              << to_string(compute) << " rows " << start << " + " << num;
          if (whole.log_density.defined()) {
            EXPECT_TRUE(torch::equal(part.log_density, whole.log_density.narrow(0, start, num)));
          }
        }
        const at::Tensor order = torch::randperm(2000);
        const Eval permuted = model->evaluate(x.index_select(0, order), level);
        EXPECT_TRUE(torch::equal(permuted.score, whole.score.index_select(0, order)));
      }
    }
  }
  at::set_num_threads(threads);
}

TEST(NetworkModel, KeepsNanInItsRow) {
  for (const Parameterisation parameterisation : kParameterisations) {
    const Weights weights = random_weights(with_features(small_config(2, parameterisation)));
    const NoiseLevel level = weights.schedule.level(0);
    at::Tensor x = torch::randn({40, 2});
    for (const Compute compute : kComputes) {
      const ModelPtr model = network_model(weights, "net", compute);
      const at::Tensor clean = model->evaluate(x, level).score;
      at::Tensor spoilt = x.clone();
      spoilt[11][1] = std::nan("");
      const at::Tensor score = model->evaluate(spoilt, level).score;
      EXPECT_TRUE(score[11].isnan().all().item<bool>()) << to_string(compute);
      EXPECT_TRUE(torch::equal(score.narrow(0, 0, 11), clean.narrow(0, 0, 11)));
      EXPECT_TRUE(torch::equal(score.narrow(0, 12, 28), clean.narrow(0, 12, 28)));
    }
  }
}

TEST(NetworkModel, LeavesItsInputAloneAndKeepsNoGraph) {
  for (const Parameterisation parameterisation : kParameterisations) {
    const Weights weights = random_weights(small_config(2, parameterisation));
    for (const Compute compute : kComputes) {
      const at::Tensor x = torch::randn({5, 2}, torch::kDouble).requires_grad_(true);
      const at::Tensor before = x.detach().clone();
      const Eval eval =
          network_model(weights, "net", compute)->evaluate(x, weights.schedule.level(0));
      EXPECT_TRUE(torch::equal(x.detach(), before));
      EXPECT_FALSE(eval.score.requires_grad());
      EXPECT_EQ(eval.score.scalar_type(), torch::kDouble);
      EXPECT_FALSE(x.grad().defined());
    }
  }
}

TEST(NetworkModel, TakesNoRowsAndStridedRows) {
  const Weights weights = random_weights(small_config(2, Parameterisation::energy_norm));
  const ModelPtr model = network_model(weights, "net");
  const NoiseLevel level = weights.schedule.level(2);
  EXPECT_EQ(model->evaluate(torch::empty({0, 2}), level).log_density.sizes(), (at::IntArrayRef{0}));
  const at::Tensor x = torch::randn({2, 9}).t();
  EXPECT_TRUE(
      torch::equal(model->evaluate(x, level).score, model->evaluate(x.contiguous(), level).score));
}

TEST(NetworkModel, RejectsPointsOfAnotherShapeOrDtype) {
  for (const auto parameterisation : {Parameterisation::score, Parameterisation::energy_norm}) {
    const auto model = network_model(random_weights(small_config(2, parameterisation)), "net");
    const NoiseLevel level = NoiseSchedule::cosine(10).level(3);
    EXPECT_THROW_MSG(model->evaluate(at::ones({4, 1}), level), ShapeError,
                     "model \"net\": x has shape (4, 1), must be (B, 2)");
    EXPECT_THROW_MSG(model->evaluate(at::ones({}), level), ShapeError,
                     "model \"net\": x has shape (), must be (B, 2)");
    EXPECT_THROW_MSG(model->evaluate(at::Tensor(), level), ShapeError,
                     "model \"net\": x is undefined, must be (B, 2)");
    EXPECT_THROW_MSG(model->evaluate(at::ones({4, 2}, at::kLong), level), ShapeError,
                     "model \"net\": x has dtype Long, must be Float or Double");
  }
}

TEST(NetworkModel, RejectsLevelsItWasNotTrainedOn) {
  const Weights weights = random_weights(small_config(2, Parameterisation::score));
  const ModelPtr model = network_model(weights, "ring");
  EXPECT_THROW_MSG(model->evaluate(torch::zeros({1, 2}), {.index = 10, .alpha_bar = 0.5}),
                   ConfigError,
                   "network: \"ring\" was trained on levels 0 to 9, but is asked for level 10; "
                   "sample on the model's own schedule");
}

TEST(NetworkModel, NamesTheTensorThatIsWrong) {
  const Weights good = random_weights(small_config(2, Parameterisation::score));
  Weights bad = good;
  bad.tensors["blocks.1.hidden.weight"] = torch::zeros({60, 21});
  EXPECT_THROW_MSG(network_model(bad, "ring"), DataError,
                   "network: \"ring\": tensor \"blocks.1.hidden.weight\": shape (60, 21), "
                   "expected (60, 20); the tensors and the config are of two different networks");
  bad = good;
  bad.tensors.erase("output.bias");
  EXPECT_THROW_MSG(
      network_model(bad, "ring"), DataError,
      "network: \"ring\": tensor \"output.bias\" of shape (2) is missing; the tensors are "
      "of another architecture or another size");
  bad = good;
  bad.tensors["blocks.2.norm.bias"] = torch::zeros({20});
  EXPECT_THROW_MSG(
      network_model(bad, "ring"), DataError,
      "network: \"ring\": tensor \"blocks.2.norm.bias\" is not part of the network that "
      "the config describes; the tensors are of another architecture or another size");
  bad = good;
  bad.tensors["input.bias"] = torch::zeros({20}, torch::kHalf);
  EXPECT_THROW_MSG(
      network_model(bad, "ring"), DataError,
      "network: \"ring\": tensor \"input.bias\": dtype float16, expected float32; convert "
      "it");
}

TEST(NetworkModel, RejectsSizesBelowOneAndUnknownDevices) {
  for (int64_t NetworkConfig::*size :
       {&NetworkConfig::event_dim, &NetworkConfig::width, &NetworkConfig::num_blocks,
        &NetworkConfig::widen, &NetworkConfig::embedding_dim, &NetworkConfig::num_levels}) {
    NetworkConfig config;
    config.*size = 0;
    EXPECT_THROW(expected_tensors(config), ConfigError);
  }
  EXPECT_THROW_MSG(expected_tensors({.widen = -1}), ConfigError,
                   "network: widen = -1, must be >= 1");
  const Weights weights = random_weights(small_config(2, Parameterisation::score));
  EXPECT_THROW_MSG(network_model(weights, "net", Compute::float32, "tpu"), ConfigError,
                   "network: device = \"tpu\" is not known; allowed: cpu, cuda");
}

TEST(NetworkModel, RejectsFrequenciesThatAreNone) {
  const auto refused = [](int64_t event_dim, std::vector<double> frequencies) {
    NetworkConfig config;
    config.event_dim = event_dim;
    config.frequencies = std::move(frequencies);
    return config;
  };
  EXPECT_THROW_MSG(expected_tensors(refused(2, {2.0, 0.0})), ConfigError,
                   "network: frequencies[1] = 0, must be in (0, 1000000]");
  EXPECT_THROW_MSG(expected_tensors(refused(2, {-3.5})), ConfigError,
                   "network: frequencies[0] = -3.5, must be in (0, 1000000]");
  EXPECT_THROW_MSG(expected_tensors(refused(2, {std::nan("")})), ConfigError,
                   "network: frequencies[0] = nan, must be in (0, 1000000]");
  EXPECT_THROW_MSG(expected_tensors(refused(2, std::vector<double>(65, 1.0))), ConfigError,
                   "network: 65 frequencies, must be at most 64");
  EXPECT_THROW_MSG(expected_tensors(refused(200'001, {1.0, 2.0})), ConfigError,
                   "network: event_dim = 200001 with 2 frequencies gives event_dim * (1 + 2 * 2) "
                   "inputs, must be at most 1000000");
}

TEST(NetworkWords, ReadBackAndNameTheAllowed) {
  for (const Compute compute : kComputes) {
    EXPECT_EQ(compute_from(to_string(compute)), compute);
  }
  for (const Parameterisation parameterisation : kParameterisations) {
    EXPECT_EQ(parameterisation_from(to_string(parameterisation)), parameterisation);
  }
  EXPECT_THROW_MSG(compute_from("fp8"), ConfigError,
                   "compute = \"fp8\" is not known; allowed: reference, float32, bfloat16");
  EXPECT_THROW_MSG(parameterisation_from("eps"), ConfigError,
                   "parameterisation = \"eps\" is not known; allowed: score, energy_norm, "
                   "energy_residual, classifier");
}

}  // namespace
}  // namespace motet
