// The residual MLP, its three parameterisations, the training loss and its gradients against
// torch.nn modules (tools/golden_networks.py).
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "motet/model.hpp"
#include "nets/residual_mlp.hpp"
#include "support/golden.hpp"
#include "train_pass.hpp"

namespace motet {
namespace {

using Json = nlohmann::json;
using detail::Arithmetic;
using testing::matrix;

const Json& golden() {
  static const Json values = testing::read_golden("networks");
  return values;
}

Tensor vector(const Json& values) {
  return at::tensor(values.get<std::vector<double>>(), at::kDouble);
}

NetworkConfig config_of(const std::string& parameterisation) {
  const Json& config = golden()["config"];
  return {.event_dim = config["event_dim"],
          .width = config["width"],
          .num_blocks = config["num_blocks"],
          .widen = config["widen"],
          .embedding_dim = config["embedding_dim"],
          .num_levels = config["num_levels"],
          .parameterisation = parameterisation_from(parameterisation)};
}

// torch's own names are those of expected_tensors(), or a tensor is missing here.
std::map<std::string, Tensor> tensors_of(const Json& values, const NetworkConfig& config) {
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, shape] : expected_tensors(config)) {
    tensors[name] = vector(values.at(name)).view(shape);
  }
  EXPECT_EQ(tensors.size(), values.size());
  return tensors;
}

Tensor levels() { return at::tensor(golden()["level"].get<std::vector<int64_t>>(), at::kLong); }

double relative_error(const Tensor& found, const Tensor& expected) {
  const double scale = expected.abs().max().item<double>();
  return (found.to(at::kDouble) - expected).abs().max().item<double>() / std::max(scale, 1e-300);
}

TEST(NetworkGolden, ReferenceForwardAgreesWithTorchModules) {
  const NetworkConfig config = config_of("score");
  const Tensor f = detail::reference_forward(tensors_of(golden()["weights"], config), config,
                                             matrix(golden()["x"]), levels());
  EXPECT_LT(relative_error(f, matrix(golden()["f"])), 1e-13);
}

// A schedule with the golden file's sigmas.
NoiseSchedule schedule() {
  std::vector<double> alpha_bars;
  for (const double sigma : golden()["sigmas"].get<std::vector<double>>()) {
    alpha_bars.push_back(1.0 - sigma * sigma);
  }
  return NoiseSchedule::from_alpha_bars(alpha_bars);
}

// Scores and log densities of all rows, each at its own level.
Eval evaluate_rows(const Model& model) {
  const Tensor x = matrix(golden()["x"]).to(at::kFloat);
  std::vector<Tensor> scores;
  std::vector<Tensor> log_densities;
  for (int64_t row = 0; row < x.size(0); ++row) {
    const NoiseLevel level = schedule().level(levels()[row].item<int64_t>());
    const Eval eval = model.evaluate(x.narrow(0, row, 1), level);
    scores.push_back(eval.score);
    if (model.is_exact()) {
      log_densities.push_back(eval.log_density);
    }
  }
  return {.score = at::cat(scores),
          .log_density = log_densities.empty() ? Tensor() : at::cat(log_densities),
          .remainder = {}};
}

TEST(NetworkGolden, ModelsAgreeWithTorchModulesInFloat32) {
  for (const Json& item : golden()["cases"]) {
    const NetworkConfig config = config_of(item["parameterisation"]);
    Weights weights{.config = config, .schedule = schedule(), .tensors = {}, .provenance = {}};
    for (const auto& [name, tensor] : tensors_of(golden()["weights"], config)) {
      weights.tensors[name] = tensor.to(at::kFloat);  // exact: the numbers are float32's
    }
    for (const Compute compute : {Compute::reference, Compute::float32}) {
      const std::string what =
          item["parameterisation"].get<std::string>() + " " + to_string(compute);
      const Eval eval = evaluate_rows(*network_model(weights, "golden", compute));
      EXPECT_LT(relative_error(eval.score, matrix(item["score"])), 5e-6) << what;
      ASSERT_EQ(eval.log_density.defined(), item.contains("energy")) << what;
      if (eval.log_density.defined()) {
        const Tensor sigma = vector(golden()["sigmas"]).index_select(0, levels());
        EXPECT_LT(relative_error(eval.log_density, -vector(item["energy"]) / sigma), 5e-6) << what;
      }
    }
  }
}

// Loss and gradients of `pass`, whose numbers are of `dtype`, against the golden ones.
void expect_golden_gradients(detail::GradientPass& pass, const NetworkConfig& config,
                             const Json& item, at::ScalarType dtype, double tolerance) {
  const auto layout = detail::parameter_layout(config);
  const auto options = at::TensorOptions().dtype(dtype);
  const Tensor weights = at::zeros({layout.back().offset + layout.back().count}, options);
  const auto given = tensors_of(golden()["weights"], config);
  for (const auto& [name, view] : detail::named_views(layout, weights)) {
    view.copy_(given.at(name));
  }
  const detail::Batch batch{matrix(golden()["x"]).to(dtype),
                            matrix(golden()["added_noise"]).to(dtype), levels()};
  const Tensor gradient = at::full_like(weights, 99.0);
  const double loss = pass.gradient(weights, batch, gradient);
  const double expected_loss = item["loss"];
  EXPECT_NEAR(loss, expected_loss, tolerance * expected_loss);
  EXPECT_NEAR(pass.row_losses(weights, batch).mean().item<double>(), expected_loss,
              tolerance * expected_loss);
  const auto expected = tensors_of(item["gradients"], config);
  const double largest = [&] {
    double value = 0.0;
    for (const auto& [name, tensor] : expected) {
      value = std::max(value, tensor.abs().max().item<double>());
    }
    return value;
  }();
  for (const auto& [name, view] : detail::named_views(layout, gradient)) {
    EXPECT_LT((view.to(at::kDouble) - expected.at(name)).abs().max().item<double>(),
              tolerance * largest)
        << name;
  }
}

TEST(NetworkGolden, LossesAndGradientsAgreeWithTorchModules) {
  for (const Json& item : golden()["cases"]) {
    SCOPED_TRACE(item["parameterisation"]);
    const NetworkConfig config = config_of(item["parameterisation"]);
    expect_golden_gradients(*detail::reference_pass(config), config, item, at::kDouble, 1e-12);
    expect_golden_gradients(*detail::tiled_pass(config, Arithmetic::float64), config, item,
                            at::kDouble, 1e-12);
    expect_golden_gradients(*detail::tiled_pass(config, Arithmetic::float32), config, item,
                            at::kFloat, 1e-5);
  }
}

}  // namespace
}  // namespace motet
