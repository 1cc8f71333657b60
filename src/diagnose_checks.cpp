// The verdict: numbers to lights and sentences. Every threshold has its reason in
// docs/diagnostics.md.
#include <algorithm>
#include <cmath>
#include <functional>
#include <sstream>

#include "diagnose_detail.hpp"

namespace motet {
namespace {

using detail::Subject;
using Rows = std::vector<LevelDiagnosis>;

struct Thresholds {
  double amber;
  double red;
};
constexpr Thresholds kAcceptance{0.5, 0.15};  // below
constexpr Thresholds kEss{0.1, 0.02};         // share of an island, below
constexpr Thresholds kInvalid{0.0, 0.01};     // share of proposals; above, as all others
constexpr Thresholds kPath{0.1, 0.5};         // nats, standard deviation
constexpr Thresholds kQuadrature{0.05, 0.1};  // mean change of the probability of acceptance
constexpr Thresholds kCurl{0.1, 0.5};
constexpr Thresholds kLag{0.1, 0.5};            // nats
constexpr Thresholds kBalance{0.05, 0.2};       // nats
constexpr Thresholds kExactBalance{0.02, 0.1};  // nats, from exact draws
constexpr double kHeldOutAmber = 0.01;          // p values
constexpr double kHeldOutRed = 1e-4;
constexpr double kHeldOutEffect = 0.1;  // standard deviations, or a share of variances
constexpr double kBalanceP = 1e-3;
constexpr double kManyErrors = 4.0;     // standard errors before a residual counts
constexpr double kMinAcceptance = 0.3;  // below, means of exp(log_accept) hang on rare proposals
constexpr double kHighAcceptance = 0.99;

std::string text(double value) {
  std::ostringstream out;
  out.precision(2);
  out << value;
  return out.str();
}

std::string percent(double share) { return text(100.0 * share) + " %"; }

std::string at_level(const LevelDiagnosis& row) {
  return "level " + std::to_string(row.level.index);
}

Light light_above(double value, const Thresholds& limits) {
  return value > limits.red ? Light::red : value > limits.amber ? Light::amber : Light::green;
}

using Number = std::function<double(const LevelDiagnosis&)>;

// The row where `number` is largest; null when it is nowhere finite.
const LevelDiagnosis* worst_row(const Rows& rows, const Number& number) {
  const LevelDiagnosis* worst = nullptr;
  for (const LevelDiagnosis& row : rows) {
    if (std::isfinite(number(row)) && (worst == nullptr || number(row) > number(*worst))) {
      worst = &row;
    }
  }
  return worst;
}

const char* const kNotMeasured = "too few finite particles to measure it";
const char* const kNoTest = "the sampler has no Metropolis test";
const char* const kDensities = "the log densities are known, so nothing is integrated";

Check skipped(const char* name, const std::string& why) {
  return {name, Light::skipped, "does not apply: " + why + "."};
}

Check check_acceptance(const Rows& rows, const Subject& subject) {
  const char* const name = "acceptance";
  if (!subject.is_adjusted) {
    return skipped(name, subject.has_kernel ? kNoTest : "the sampler takes no MCMC steps");
  }
  const auto* low = worst_row(rows, [](const LevelDiagnosis& row) { return -row.acceptance; });
  const auto* high = worst_row(rows, [](const LevelDiagnosis& row) { return row.acceptance; });
  if (low == nullptr) {
    return skipped(name, kNotMeasured);
  }
  const std::string range = text(low->acceptance) + " (" + at_level(*low) + ") to " +
                            text(high->acceptance) + " (" + at_level(*high) + ")";
  const double value = low->acceptance;
  if (value < kAcceptance.red) {
    return {name, Light::red,
            range + ": chains hardly move at " + at_level(*low) +
                ", so that its particles are still those of the level before; lower its step "
                "size."};
  }
  if (value < kAcceptance.amber) {
    return {name, Light::amber,
            range + ": chains move slowly at " + at_level(*low) + "; lower its step size."};
  }
  return {name, Light::green,
          range + (value > kHighAcceptance
                       ? ": hardly a proposal is rejected; longer steps would mix faster."
                       : ": chains move at every level.")};
}

Check check_invalid(const Rows& rows, const Subject& subject) {
  const char* const name = "invalid proposals";
  if (!subject.has_kernel) {
    return skipped(name, "the sampler takes no MCMC steps");
  }
  int64_t invalid = 0;
  int64_t proposals = 0;
  for (const LevelDiagnosis& row : rows) {
    invalid += row.num_invalid;
    proposals += row.num_proposals;
  }
  const auto* worst = worst_row(
      rows, [](const LevelDiagnosis& row) { return static_cast<double>(row.num_invalid); });
  const std::string counts =
      std::to_string(invalid) + " of " + std::to_string(proposals) + " proposals";
  if (invalid == 0 || worst == nullptr) {
    return {name, Light::green, "none of " + std::to_string(proposals) + " proposals."};
  }
  const double share = static_cast<double>(invalid) / static_cast<double>(proposals);
  return {name, light_above(share, kInvalid),
          counts + " met a score that was not finite, most at " + at_level(*worst) +
              "; they were rejected. Lower the step size there, or check the networks on points "
              "far from the data."};
}

Check check_weights(const Rows& rows, const Subject& subject) {
  const char* const name = "weights";
  const auto* low = worst_row(rows, [](const LevelDiagnosis& row) { return -row.ess; });
  if (low == nullptr && subject.is_product) {
    return {name, Light::amber,
            "the sampler carries no weights: where modes part as noise falls, their shares rest on "
            "MCMC crossing between them, which no check here sees. Give [weights], or compare with "
            "a run that has them."};
  }
  if (low == nullptr) {
    return skipped(name, "the sampler carries no weights, nor does one law need them");
  }
  const Light light = low->ess < kEss.red     ? Light::red
                      : low->ess < kEss.amber ? Light::amber
                                              : Light::green;
  return {name, light,
          "lowest effective sample size " + text(low->ess) + " of an island's chains, at " +
              at_level(*low) +
              (light == Light::green
                   ? ": many chains carry the sample."
                   : ": few chains carry the sample there; more levels around it, more chains, or "
                     "exponents nearer to 1 in sum.")};
}

Check check_path(const Rows& rows, const Subject& subject) {
  const char* const name = "path dependence";
  if (subject.is_exact || !subject.has_kernel) {
    return skipped(name, subject.is_exact ? kDensities : "the sampler takes no MCMC steps");
  }
  const auto* worst =
      worst_row(rows, [](const LevelDiagnosis& row) { return row.path_dependence; });
  if (worst == nullptr) {
    return skipped(name, kNotMeasured);
  }
  const std::string found = text(worst->path_dependence) + " nat (sd) at " + at_level(*worst);
  if (worst->reference_error > std::max(kPath.amber, worst->path_dependence)) {
    return {name, Light::amber,
            found + ", but the reference integrals themselves are uncertain by " +
                text(worst->reference_error) +
                " nat: the score varies too fast along a trajectory; lower the step size."};
  }
  const Light light = light_above(worst->path_dependence, kPath);
  const char* const guard = subject.kernel.guard > 0.0 ? "lower ratio.guard" : "use ratio.guard";
  const char* const meaning[] = {
      ": for proposals of this length the score field is as good as a gradient.",
      ": the log ratio hangs on the path there; a shorter step or better networks make it firmer.",
      ": the score field is not a gradient there, so that no density is sampled; lower the step "
      "size there, "};
  return {name, light,
          found + meaning[static_cast<size_t>(light)] +
              (light == Light::red
                   ? std::string(guard) + ", or train the networks better at that level."
                   : "")};
}

Check check_quadrature(const Rows& rows, const Subject& subject) {
  const char* const name = "quadrature";
  if (subject.is_exact || subject.kernel.ratio.empty()) {
    return skipped(name, subject.is_exact ? kDensities : kNoTest);
  }
  const auto* worst =
      worst_row(rows, [](const LevelDiagnosis& row) { return row.acceptance_error; });
  if (worst == nullptr) {
    return skipped(name, kNotMeasured);
  }
  const Light light = light_above(worst->acceptance_error, kQuadrature);
  const std::string found = percent(worst->acceptance_error) + " of the decisions are wrong at " +
                            at_level(*worst) + ", where the log ratio is off by up to " +
                            text(worst->quadrature_error) + " nat (99 %)";
  const bool is_coarse = subject.kernel.curve_rule == CurveRule::trapezoid;
  const std::string cure = subject.kernel.ratio == "line"
                               ? "more points or ratio.rule = \"gauss_lobatto\""
                           : is_coarse ? "ratio.rule = \"polynomial\""
                                       : "a line ratio";
  return {
      name, light,
      found + (light == Light::green ? ": the rule is accurate enough."
               : light == Light::amber
                   ? ": a small bias; " + cure + " or a shorter step there removes it."
                   : ": the test accepts wrongly there; use " + cure + ", or shorten the step.")};
}

Check check_curl(const Rows& rows, const Subject& subject) {
  const char* const name = "curl";
  if (subject.is_exact) {
    return skipped(name, "the log densities are known, so the score is a gradient");
  }
  const auto* worst = worst_row(rows, [](const LevelDiagnosis& row) { return row.curl.value; });
  if (worst == nullptr) {
    return skipped(name, kNotMeasured);
  }
  const Light light = light_above(worst->curl.value, kCurl);
  const char* const meaning[] = {
      ": the Jacobian is nearly symmetric, as a gradient's is.",
      ": the field turns noticeably; see path dependence for what that does to this sampler.",
      ": the field turns as much as it attracts; train the networks better at that level, or use "
      "energy networks."};
  return {name, light,
          "|J - J^T| / |J + J^T| = " + text(worst->curl.value) + " +- " +
              text(worst->curl.standard_error) + " at " + at_level(*worst) +
              meaning[static_cast<size_t>(light)]};
}

// A residual counts where it is many standard errors from 0 and enough proposals are accepted.
Number significant(const std::function<Estimate(const LevelDiagnosis&)>& residual) {
  return [residual](const LevelDiagnosis& row) {
    const Estimate found = residual(row);
    const bool counts = row.acceptance >= kMinAcceptance &&
                        std::abs(found.value) > kManyErrors * found.standard_error;
    return row.acceptance >= kMinAcceptance && std::isfinite(found.value)
               ? (counts ? std::abs(found.value) : 0.0)
               : std::nan("");
  };
}

Check check_residual(const char* name, const Rows& rows, const Subject& subject,
                     const std::function<Estimate(const LevelDiagnosis&)>& residual,
                     const Thresholds& limits, const char* fine, const char* wrong) {
  if (!subject.is_adjusted) {
    return skipped(name, kNoTest);
  }
  const auto* worst = worst_row(rows, significant(residual));
  if (worst == nullptr) {
    return skipped(name, "acceptance is below " + text(kMinAcceptance) + " at every level");
  }
  const double size = significant(residual)(*worst);
  const Light light = light_above(size, limits);
  if (size == 0.0) {
    return {name, Light::green, std::string("no residual above its error: ") + fine};
  }
  const Estimate found = residual(*worst);
  return {name, light,
          "log E exp(log_accept) = " + text(found.value) + " +- " + text(found.standard_error) +
              " at " + at_level(*worst) + ": " + (light == Light::green ? fine : wrong)};
}

Check check_held_out(const HeldOutTest& held_out) {
  const char* const name = "held-out Gaussians";
  if (held_out.target.empty()) {
    return skipped(name, held_out.skipped);
  }
  const double effect = std::max(held_out.max_mean_error, held_out.max_covariance_error);
  Light light = held_out.p_value < kHeldOutAmber ? Light::amber : Light::green;
  if (held_out.p_value < kHeldOutRed && effect > kHeldOutEffect) {
    light = Light::red;
  }
  const std::string found = "largest error of a mean " + text(held_out.max_mean_error) + " sd (z " +
                            text(held_out.max_abs_z_mean) + "), of a covariance " +
                            percent(held_out.max_covariance_error) + " (z " +
                            text(held_out.max_abs_z_covariance) +
                            "), p = " + text(held_out.p_value);
  const char* const meaning[] = {
      ": the sampler and its plan get a composition of Gaussians right.",
      ": hardly chance; more steps a level or more levels should remove it.",
      ": this sampler on this plan does not sample even Gaussians; take more steps a level, more "
      "levels, or a sampler with a Metropolis test."};
  return {name, light, found + meaning[static_cast<size_t>(light)]};
}

Check check_exact_balance(const HeldOutTest& held_out, const Subject& subject) {
  const char* const name = "held-out balance";
  if (held_out.target.empty() || !subject.is_adjusted) {
    return skipped(name, held_out.target.empty() ? held_out.skipped : kNoTest);
  }
  if (held_out.num_balance_levels == 0) {
    return skipped(name, "acceptance is below " + text(kMinAcceptance) + " at every level");
  }
  const Estimate& found = held_out.balance;
  const double z = found.value / std::max(found.standard_error, 1e-12);
  const double p = detail::p_of_z(z) * static_cast<double>(held_out.num_balance_levels);
  const Light light =
      p < kBalanceP ? light_above(std::abs(found.value), kExactBalance) : Light::green;
  return {name, light,
          "from exact draws log E exp(log_accept) is at most " + text(found.value) + " +- " +
              text(found.standard_error) + " off 0 (level " +
              std::to_string(held_out.balance_level) + ")" +
              (light == Light::green
                   ? ": the kernel's test is right."
                   : ": the kernel's test is wrong or its log ratio inexact even here; check the "
                     "kernel, or shorten the step.")};
}

}  // namespace

std::string to_string(Light light) {
  const char* const names[] = {"green", "amber", "red", "skipped"};
  return names[static_cast<size_t>(light)];
}

std::vector<Check> detail::assess(const Rows& levels, const HeldOutTest& held_out,
                                  const Subject& subject) {
  return {check_acceptance(levels, subject),
          check_invalid(levels, subject),
          check_weights(levels, subject),
          check_path(levels, subject),
          check_quadrature(levels, subject),
          check_curl(levels, subject),
          check_residual(
              "settling", levels, subject, [](const LevelDiagnosis& row) { return row.lag; }, kLag,
              "the particles have reached the law of their level.",
              "the particles have not reached the law of the level; take more steps there, or "
              "more levels above it."),
          check_residual(
              "detailed balance", levels, subject,
              [](const LevelDiagnosis& row) { return row.balance; }, kBalance,
              "the test leaves the particles' law as it is.",
              "the test is inexact there, or the particles have not settled even after more "
              "steps; see quadrature, and shorten the step."),
          check_held_out(held_out),
          check_exact_balance(held_out, subject)};
}

Light detail::worst_of(const std::vector<Check>& checks) {
  Light worst = Light::green;
  for (const Check& check : checks) {
    if (check.light != Light::skipped && check.light > worst) {
      worst = check.light;
    }
  }
  return worst;
}

}  // namespace motet
