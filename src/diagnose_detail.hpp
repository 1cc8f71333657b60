// Shared by the files of diagnose.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "motet/diagnose.hpp"

namespace motet::detail {

/// Regularised incomplete beta function I_x(a, b), a, b > 0.
double incomplete_beta(double a, double b, double x);
/// The x at which I_x(a, b) = prob.
double beta_quantile(double prob, double a, double b);
/// The normal z score that is as unlikely as `t` of Student's law with `dof` degrees of freedom.
double z_of_student(double t, double dof);
/// Two-sided: the probability of a normal |z| at least this large.
double p_of_z(double z);
/// Quantile of sorted values with linear interpolation (type 7 of Hyndman and Fan).
double quantile(const std::vector<double>& sorted, double prob);
/// The finite entries of a tensor, sorted.
std::vector<double> sorted_finite(const Tensor& values);

/// By how much a log acceptance ratio moves the probability of acceptance away from that of `truth`,
/// beyond what `doubt` >= 0, the error of `truth`, could: a decision on which the reference is not
/// sure is not called wrong. All (B) float64; in [0, 1].
Tensor decision_error(const Tensor& log_accept, const Tensor& truth, const Tensor& doubt);

/// The held-out test at the scale of the target at the plan's last level.
HeldOutTest held_out_test(const Model& target, const NoiseSchedule& schedule,
                          const Sampler& sampler, double scale, const DiagnoseConfig& config,
                          const Rng& rng, const std::function<bool(double)>& observer);

/// What the target and the sampler are, as far as the verdict depends on it.
struct Subject {
  bool is_exact = false;     ///< the target's log densities are known
  bool has_kernel = false;   ///< the sampler takes MCMC steps
  bool is_adjusted = false;  ///< with a Metropolis test
  KernelConfig kernel = {};
  bool is_product = false;  ///< of several factors, or of one with an exponent other than 1
};
/// The lights and their sentences.
std::vector<Check> assess(const std::vector<LevelDiagnosis>& levels, const HeldOutTest& held_out,
                          const Subject& subject);
Light worst_of(const std::vector<Check>& checks);

}  // namespace motet::detail
