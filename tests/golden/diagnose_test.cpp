// Convergence statistics against arviz-stats at fixed float64 draws (tools/golden_diagnose.py).
#include "motet/diagnose.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "diagnose_detail.hpp"
#include "support/golden.hpp"

namespace motet {
namespace {

using Json = nlohmann::json;
using testing::matrix;

const Json& golden() {
  static const Json values = testing::read_golden("diagnose");
  return values;
}

void expect_close(double got, const Json& want, const std::string& what) {
  const double value = want.get<double>();
  EXPECT_NEAR(got, value, 1e-11 * std::max(1.0, std::abs(value))) << what;
}

TEST(DiagnoseGolden, ConvergenceStatisticsEqualThoseOfArviz) {
  for (const auto& [name, want] : golden()["chains"].items()) {
    const Tensor draws = matrix(want["draws"]);
    if (!want["rhat"].is_null()) {
      expect_close(rhat(draws), want["rhat"], name + ", rhat");
    }
    expect_close(ess_bulk(draws), want["ess_bulk"], name + ", ess_bulk");
    expect_close(ess_tail(draws), want["ess_tail"], name + ", ess_tail");
    expect_close(mcse_mean(draws), want["mcse_mean"], name + ", mcse_mean");
    expect_close(mcse_sd(draws), want["mcse_sd"], name + ", mcse_sd");
    for (const auto& [prob, error] : want["mcse_quantile"].items()) {
      expect_close(mcse_quantile(draws, std::stod(prob)), error, name + ", mcse_quantile " + prob);
    }
  }
}

TEST(DiagnoseGolden, BetaQuantilesAndStudentTailsEqualThoseOfScipy) {
  for (const Json& row : golden()["beta_quantiles"]) {
    const double want = row[3].get<double>();
    EXPECT_NEAR(detail::beta_quantile(row[0], row[1], row[2]), want, 1e-11 * want) << row;
  }
  for (const Json& row : golden()["student_p"]) {
    const double z = detail::z_of_student(row[0], row[1]);
    const double want = row[2].get<double>();
    EXPECT_NEAR(detail::p_of_z(z), want, 1e-9 * want) << row;
    EXPECT_EQ(z < 0.0, row[0].get<double>() < 0.0) << row;
  }
}

}  // namespace
}  // namespace motet
