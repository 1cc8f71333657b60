// Analytic models against 60-digit arithmetic (tools/golden_analytic.py), far tails included.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
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

void expect_golden(const Model& model, const nlohmann::json& cases) {
  for (const auto& item : cases) {
    const NoiseLevel level{.alpha_bar = item["alpha_bar"]};
    const Eval eval = model.evaluate(vector(item["x"]).unsqueeze(0), level);
    const std::string what =
        model.describe() + " at " + item["x"].dump() + ", alpha_bar " + item["alpha_bar"].dump();
    const double log_density = item["log_density"];
    EXPECT_NEAR(eval.log_density.item<double>(), log_density, 2e-12 * (1.0 + std::abs(log_density)))
        << what;
    // Relative to the whole vector: where |x| / sigma is 1e4, components are told apart by
    // differences of log densities of size 1e8.
    const Tensor score = vector(item["score"]);
    EXPECT_LT((eval.score[0] - score).norm().item<double>(),
              2e-12 * (1.0 + score.norm().item<double>()))
        << what << ": " << eval.score << score;
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

TEST(AnalyticGolden, LawsOfThePlaneAgreeWith60Digits) {
  const auto data = golden();
  for (const AnalyticPtr& law : {checkerboard(), moons(), spirals()}) {
    expect_golden(*law, data[law->describe()]["cases"]);
  }
}

// scikit-learn's points, a million, in the cells of a square: shares within 5 standard deviations
// of the integral of the density, by 12 x 12 midpoints a cell.
TEST(AnalyticGolden, MoonsAreThoseOfScikitLearn) {
  const auto data = golden()["sklearn_moons"];
  const Tensor counts = vector(data["counts"]);
  const double num_samples = data["num_samples"];
  const auto side = static_cast<int64_t>(std::lround(std::sqrt(counts.size(0))));
  const int64_t num_nodes = 12 * side;
  const double half = data["half"];
  const double width = 2.0 * half / static_cast<double>(num_nodes);
  const Tensor axis = (at::arange(num_nodes, at::kDouble) + 0.5) * width - half;
  const Tensor grid = at::cartesian_prod({axis, axis});
  const Tensor density = moons()->log_density_data(grid).exp() * (width * width);
  const Tensor share = density.view({side, 12, side, 12}).sum({1, 3}).flatten();
  const Tensor error = (counts - num_samples * share).abs();
  const Tensor sd = (num_samples * share).sqrt() + 1.0;
  EXPECT_LT((error / sd).max().item<double>(), 5.0) << counts << num_samples * share;
}

}  // namespace
}  // namespace motet
