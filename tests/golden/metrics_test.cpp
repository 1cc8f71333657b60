// The metrics against scipy, POT and scikit-learn at fixed float64 inputs
// (tools/golden_metrics.py).
#include "motet/metrics.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "metrics_detail.hpp"
#include "support/golden.hpp"

namespace motet {
namespace {

using Json = nlohmann::json;
using testing::matrix;

const Json& golden() {
  static const Json values = testing::read_golden("metrics");
  return values;
}

TEST(MetricsGolden, W2AgreesWithScipyAndPot) {
  const Tensor x = matrix(golden()["x"]);
  const Tensor y = matrix(golden()["y"]);
  const Json& want = golden()["transport"];
  EXPECT_NEAR(w2_assignment(x, y), want["w2_scipy"].get<double>(), 1e-13);
  EXPECT_NEAR(w2_assignment(x, y), want["w2_pot"].get<double>(), 1e-12);
}

TEST(MetricsGolden, FoldedW2AgreesWithPot) {
  EXPECT_NEAR(w2_folded(matrix(golden()["x"]), matrix(golden()["y"])),
              golden()["transport"]["w2_folded_pot"].get<double>(), 1e-12);
}

TEST(MetricsGolden, SlicedW2AgreesWithPotAlongTheSameDirections) {
  const double w2 = detail::w2_along(matrix(golden()["x"]), matrix(golden()["y"]),
                                     matrix(golden()["directions"]));
  EXPECT_NEAR(w2, golden()["transport"]["w2_sliced_pot"].get<double>(), 1e-12);
}

TEST(MetricsGolden, AssignmentAgreesWithScipyForCostsOfBothSigns) {
  const Json& want = golden()["assignment"];
  EXPECT_EQ(assignment(matrix(want["cost"])), want["columns"].get<std::vector<int64_t>>());
}

TEST(MetricsGolden, EnergyDistanceAgreesWithScipy) {
  const Tensor x = matrix(golden()["x"]).slice(0, 0, 150);
  const Tensor y = matrix(golden()["y"]);
  const Json& want = golden()["pairs"];
  EXPECT_NEAR(energy_distance(x, y), want["energy"].get<double>(), 1e-13);
  EXPECT_NEAR(energy_distance(x.slice(1, 1), y.slice(1, 1)), want["energy_scipy_1d"].get<double>(),
              1e-13);
}

TEST(MetricsGolden, MmdAgreesWithItsFormula) {
  const Tensor x = matrix(golden()["x"]).slice(0, 0, 150);
  const Tensor y = matrix(golden()["y"]);
  const Json& want = golden()["pairs"];
  EXPECT_NEAR(mmd_squared(x, y, want["mmd_bandwidth"].get<double>()), want["mmd"].get<double>(),
              1e-13);
  EXPECT_NEAR(mmd_squared(x, y), want["mmd_median"].get<double>(), 1e-13);
}

// scikit-learn's fit stops by the same rule but starts elsewhere: the same optimum, up to what a
// change of 1e-3 nats in the log likelihood leaves open; more where components overlap ("cloud").
TEST(MetricsGolden, MixturesAgreeWithScikitLearn) {
  for (const char* name : {"x", "y", "cloud"}) {
    const Json& want = golden()["mixtures"][name];
    Rng rng(3);
    const auto num_components = want["num_components"].get<int64_t>();
    const GmmFit fit = fit_gmm(matrix(golden()[name]), num_components, rng, 20);
    const double tolerance = num_components == 2 ? 1e-3 : 5e-3;
    EXPECT_TRUE(fit.converged) << name;
    EXPECT_NEAR(fit.log_likelihood, want["log_likelihood"].get<double>(), 1e-3) << name;
    std::vector<size_t> order(fit.means.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return fit.means[a].back() < fit.means[b].back(); });
    for (size_t c = 0; c < order.size(); ++c) {
      EXPECT_NEAR(fit.weights[order[c]], want["weights"][c].get<double>(), tolerance) << name;
      for (size_t k = 0; k < fit.means[0].size(); ++k) {
        EXPECT_NEAR(fit.means[order[c]][k], want["means"][c][k].get<double>(), tolerance) << name;
        EXPECT_NEAR(fit.variances[order[c]][k], want["variances"][c][k].get<double>(), tolerance)
            << name;
      }
    }
  }
}

TEST(MetricsGolden, LogDensityAndBothUnitsAgreeWithTheReferenceFormula) {
  const Json& want = golden()["benchmark"];
  const Tensor x = matrix(want["x"]);
  const Tensor density = log_density_product_benchmark(x);
  for (int64_t i = 0; i < x.size(0); ++i) {
    const Json& value = want["log_density"][static_cast<size_t>(i)];
    if (value.is_null()) {
      EXPECT_EQ(density[i].item<double>(), -INFINITY) << "point " << i;
    } else {
      EXPECT_NEAR(density[i].item<double>(), value.get<double>(), 1e-10) << "point " << i;
    }
  }
  const LogLikelihood result = log_likelihood(x);
  EXPECT_EQ(result.num_outside_support, want["num_outside"].get<int64_t>());
  EXPECT_NEAR(result.ll_true, want["ll_true"].get<double>(), 1e-11);
  EXPECT_NEAR(result.ll_paper, want["ll_paper"].get<double>(), 1e-11);
}

TEST(MetricsGolden, ModesAgreeWithNumpy) {
  const Json& want = golden()["modes"];
  const ModeReport report =
      modes(matrix(golden()["x"]), matrix(want["centres"]), want["radius"].get<double>());
  EXPECT_DOUBLE_EQ(report.fraction_outside_modes, want["outside"].get<double>());
  for (size_t k = 0; k < 2; ++k) {
    EXPECT_DOUBLE_EQ(report.mode_fractions[k], want["fractions"][k].get<double>());
    for (size_t j = 0; j < 2; ++j) {
      EXPECT_NEAR(report.mode_sd[k][j], want["sd"][k][j].get<double>(), 1e-14);
    }
  }
}

}  // namespace
}  // namespace motet
