#include "support/invariance.hpp"

#include <torch/types.h>

#include <cmath>
#include <iomanip>
#include <sstream>

namespace motet::testing {
namespace {

std::vector<std::pair<std::string, Tensor>> moments(const Tensor& points) {
  const Tensor x = points.select(1, 0);
  const Tensor y = points.select(1, -1);
  return {{"x", x},
          {"y", y},
          {"x^2", x * x},
          {"y^2", y * y},
          {"xy", x * y},
          {"x^3", x * x * x},
          {"x<0", x.lt(0.0).to(at::kDouble)}};
}

}  // namespace

std::string LawReport::table() const {
  std::ostringstream text;
  text << "acceptance " << acceptance << ", invalid " << num_invalid << '\n' << std::fixed;
  for (const MomentRow& row : moments) {
    text << std::setw(4) << row.name << std::setprecision(5) << std::setw(11) << row.before << " ->"
         << std::setw(11) << row.after << "  z " << std::setprecision(2) << std::setw(7) << row.z
         << '\n';
  }
  return text.str();
}

LawReport check_invariance(const Kernel& kernel, const ModelPtr& model, const AnalyticModel& law,
                           const LawSettings& settings) {
  const Rng rng(settings.seed);
  Rng start = rng.split("start");
  Target target(model, settings.level);
  target.set_mass(settings.mass);
  ChainState state;
  state.x = law.sample_level(settings.num_chains, settings.level, start);
  state.eval = settings.start ? settings.start(target, state.x) : target.evaluate(state.x);
  const auto before = moments(state.x);
  LawReport report;
  for (int64_t i = 0; i < settings.num_steps; ++i) {
    Rng here = rng.at(settings.level.index, i);
    const Step step = kernel.step(target, state, settings.step_size, here);
    state = step.state;
    report.acceptance += step.info.accepted.to(at::kDouble).mean().item<double>();
    report.num_invalid += step.info.num_invalid.item<int64_t>();
  }
  report.acceptance /= static_cast<double>(settings.num_steps);
  const auto after = moments(state.x);
  for (size_t i = 0; i < before.size(); ++i) {
    const Tensor change = after[i].second - before[i].second;
    const double error =
        change.std().item<double>() / std::sqrt(static_cast<double>(settings.num_chains));
    const double z = change.mean().item<double>() / error;
    report.moments.push_back({before[i].first, before[i].second.mean().item<double>(),
                              after[i].second.mean().item<double>(), z});
    report.max_abs_z = std::max(report.max_abs_z, std::abs(z));
  }
  return report;
}

}  // namespace motet::testing
