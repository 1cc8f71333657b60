// Analytic models against 60-digit arithmetic (tools/golden_analytic.py), far tails included.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "motet/model.hpp"

namespace motet {
namespace {

nlohmann::json golden() {
  std::ifstream file(MOTET_SOURCE_DIR "/tests/golden/analytic.json");
  return nlohmann::json::parse(file);
}

Tensor vector(const nlohmann::json& values) {
  return at::tensor(values.get<std::vector<double>>(), at::kDouble);
}

Tensor matrix(const nlohmann::json& rows) {
  std::vector<Tensor> tensors;
  for (const auto& row : rows) {
    tensors.push_back(vector(row));
  }
  return at::stack(tensors);
}

void expect_near(double value, double expected, double relative, const std::string& what) {
  EXPECT_NEAR(value, expected, relative * (1.0 + std::abs(expected))) << what;
}

void expect_golden(const Model& model, const nlohmann::json& cases) {
  for (const auto& item : cases) {
    const NoiseLevel level{.alpha_bar = item["alpha_bar"]};
    const Eval eval = model.evaluate(vector(item["x"]).unsqueeze(0), level);
    const std::string what =
        model.describe() + " at " + item["x"].dump() + ", alpha_bar " + item["alpha_bar"].dump();
    expect_near(eval.log_density.item<double>(), item["log_density"], 2e-12, what);
    for (int64_t i = 0; i < 2; ++i) {
      expect_near(eval.score[0][i].item<double>(), item["score"][static_cast<size_t>(i)], 2e-12,
                  what);
    }
  }
}

TEST(AnalyticGolden, MixtureAgreesWith60Digits) {
  const auto data = golden()["mixture"];
  const AnalyticPtr model = gaussian_mixture(vector(data["weights"]), matrix(data["means"]),
                                             matrix(data["sds"]), "mixture");
  expect_golden(*model, data["cases"]);
}

TEST(AnalyticGolden, BoxAgreesWith60Digits) {
  const auto data = golden()["box"];
  expect_golden(*uniform_box(vector(data["low"]), vector(data["high"]), "box"), data["cases"]);
}

}  // namespace
}  // namespace motet
