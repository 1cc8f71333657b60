// Whether a target is a law. With negative exponents its density may grow without end, at the data or
// on the way there; the score far out tells. A factor's own score there is that of its noise, so the
// sign is right for exact laws; networks were never trained there.
#include <torch/types.h>

#include <algorithm>

#include "motet/error.hpp"
#include "motet/run.hpp"
#include "run_target.hpp"

namespace motet::detail {
namespace {

constexpr int64_t kNumProbes = 256;
constexpr double kFarOut = 10.0;  // standard deviations of the probes, whose data are about 1 wide
constexpr double kNearest = 3.0;  // probes nearer to the middle say nothing

bool points_outward(const ModelPtr& target, const NoiseLevel& level, const Tensor& x) {
  const Tensor score = Target(target, level).evaluate(x).score;
  const Tensor radial = (score.to(at::kDouble) * x.to(at::kDouble)).flatten(1).sum(1);
  return radial.ge(0.0).any().item<bool>();
}

bool is_known(const ModelPtr& leaf) { return leaf->is_exact() && leaf->is_normalised(); }

}  // namespace

std::vector<int64_t> outward_levels(const ModelPtr& target, const NoiseSchedule& schedule,
                                    const std::vector<int64_t>& levels, const std::string& device) {
  if (traits(*target).is_tracked) {
    return {};
  }
  std::vector<int64_t> shape = target->event_shape();
  shape.insert(shape.begin(), kNumProbes);
  const auto options = at::TensorOptions().dtype(at::kFloat).device(at::Device(device));
  Rng rng = Rng(0).split("far out");
  const Tensor drawn = rng.normal_like(at::empty(shape, options)) * kFarOut;
  const Tensor radius = drawn.flatten(1).norm(2, 1);
  const Tensor x = drawn.index_select(0, radius.gt(kNearest).nonzero().squeeze(1));
  std::vector<int64_t> outward;
  for (const int64_t index : levels) {
    if (points_outward(target, schedule.level(index), x)) {
      outward.push_back(index);
    }
  }
  return outward;
}

std::string levels_text(const std::vector<int64_t>& levels) {
  std::string text = levels.size() == 1 ? "level " : "levels ";
  for (size_t i = 0; i < levels.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(levels[i]);
  }
  return text;
}

void check_exists(const SampleConfig& config, const ModelPtr& target, const NoiseSchedule& schedule,
                  const AnnealConfig& plan) {
  const std::vector<ModelPtr> parts = leaves(target);
  if (!traits(*target).divides || !std::all_of(parts.begin(), parts.end(), is_known)) {
    return;
  }
  std::vector<int64_t> levels;
  for (const LevelPlan& level : plan.levels) {
    levels.push_back(level.level.index);
  }
  const std::vector<int64_t> outward = outward_levels(target, schedule, levels, config.device);
  if (!outward.empty()) {
    throw ConfigError("config: " + config.name + ": " + target->describe() + " is no law at " +
                      levels_text(outward) +
                      ": far out its density grows; lower the exponent of what is divided by" +
                      (outward.back() == levels.back() ? "" : ", or ramp it"));
  }
}

}  // namespace motet::detail
