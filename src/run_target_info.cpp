// What motet info --target prints: the tree of a target, what is known of its densities, how a
// sampler will judge its steps, what they cost, and whether the target exists as far as can be told.
#include <torch/types.h>

#include <algorithm>

#include "error_shape.hpp"
#include "motet/run.hpp"
#include "run_target.hpp"

namespace motet {
namespace {

constexpr size_t kNameWidth = 24;

// "name    line", further lines of the text indented under the first.
void add_line(std::string& page, const std::string& name, const std::string& text) {
  std::string padded = name;
  padded.resize(std::max(kNameWidth, name.size() + 1), ' ');
  page += padded;
  for (const char c : text) {
    page += c;
    page += c == '\n' ? std::string(kNameWidth, ' ') : "";
  }
  page += "\n";
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) {
    text += (text.empty() ? "" : ", ") + name;
  }
  return text.empty() ? "none" : text;
}

void add_densities(std::string& page, const ModelPtr& target, const std::vector<ModelPtr>& parts) {
  std::vector<std::string> exact;
  std::vector<std::string> scores;
  for (const ModelPtr& part : parts) {
    (part->is_exact() ? exact : scores).push_back(part->describe());
  }
  std::vector<std::string> tracked;
  if (const auto* model = dynamic_cast<const TrackingModel*>(target.get())) {
    for (const size_t index : model->tracked()) {
      tracked.push_back(parts.at(index)->describe());
    }
  }
  add_line(page, "exact densities", joined(exact));
  add_line(page, "scores only", joined(scores));
  add_line(
      page, "tracked densities",
      joined(tracked) + (tracked.empty() ? "" : " (carried along each chain, from high noise on)"));
}

std::string rule_text(const KernelConfig& kernel) {
  return kernel.ratio == "line"
             ? "line integral of the scores (" + to_string(kernel.line_rule) + ")"
             : "integral of the scores along the trajectory (" + to_string(kernel.curve_rule) + ")";
}

std::string ratio_text(const Sampler& sampler, const Model& target) {
  const KernelConfig& kernel = sampler.kernel_config;
  if (kernel.ratio.empty()) {
    return "none: " + (sampler.kernel ? kernel.type + " has no Metropolis test"
                                      : "the sampler takes no MCMC steps");
  }
  if (target.is_exact()) {
    return "difference of log densities, exact";
  }
  if (kernel.ratio == "exact") {
    return "difference of log densities, which this target does not know: it will be refused";
  }
  const bool is_tracked = traits(target).is_tracked;
  return rule_text(kernel) +
         (is_tracked ? ", for each tracked law by itself" : "; known parts by difference");
}

// Evaluations of the target that one MCMC step costs; those of a line whose points the pilot run
// finds are left out.
std::string step_cost(const Sampler& sampler, const Model& target, size_t num_leaves) {
  const KernelConfig& kernel = sampler.kernel_config;
  if (kernel.type.empty()) {
    return "no MCMC steps";
  }
  const bool is_langevin = kernel.type == "ula" || kernel.type == "mala";
  const bool is_line = kernel.ratio == "line" && !target.is_exact();
  const int64_t points = is_line && kernel.num_points > 0 ? kernel.num_points - 2 : 0;
  const int64_t evaluations = (is_langevin ? 1 : kernel.hmc.num_leapfrog) + points;
  const bool is_open = is_line && kernel.num_points == 0;
  return std::to_string(evaluations * static_cast<int64_t>(num_leaves)) + " leaf evaluations (" +
         std::to_string(evaluations) + " of the target" +
         (is_open ? ", and those of the line's inner points" : "") + ")";
}

std::string weights_text(const Sampler& sampler, const Model& target) {
  if (!sampler.anneal.weights) {
    const bool is_pure = sampler.anneal.placement == Placement::pure;
    return std::string("off: ") + (is_pure ? "the sampler takes no reverse steps to weight"
                                           : "weights.enabled = true turns them on");
  }
  const Traits has = traits(target);
  std::string text = "on: along the reverse steps";
  text += has.has_twist ? "; a given likelihood by its values at both ends" : "";
  text += has.has_slope ? "; what changes with the level by itself (ramps, normalisers) too" : "";
  return text;
}

std::string outward_text(const ModelPtr& target, const NoiseSchedule& schedule,
                         const std::string& device) {
  constexpr int64_t kNumLevels = 10;
  const int64_t last = schedule.num_levels() - 1;
  std::vector<int64_t> levels;
  for (int64_t i = 0; i < kNumLevels; ++i) {
    levels.push_back(last - i * last / (kNumLevels - 1));
  }
  const std::vector<int64_t> outward = detail::outward_levels(target, schedule, levels, device);
  if (outward.empty()) {
    return "no sign against it: far out its score points inwards at every level tried";
  }
  return "doubtful: far out its score points outwards at " + detail::levels_text(outward);
}

std::string existence_text(const ModelPtr& target, const NoiseSchedule& schedule,
                           const std::string& device) {
  const Traits has = traits(*target);
  if (has.is_field) {
    return "no: its score is the gradient of nothing (docs/tapestry.md)";
  }
  if (target->is_normalised()) {
    return "yes: a law at every level";
  }
  if (!has.divides) {
    return "yes: nothing divides";
  }
  if (has.is_tracked) {
    return "not looked at: its score hangs on densities that only chains know";
  }
  return outward_text(target, schedule, device);
}

}  // namespace

std::string describe_target(const SampleConfig& config) {
  std::vector<std::string> products;
  const ModelPtr target = detail::compose_target(config, [&products](const ModelPtr& product) {
    products.push_back(product->describe());
    return LogNormalisers{{0.0}, {0.0}};  // what is measured before sampling changes nothing here
  });
  const NoiseSchedule schedule = choose_schedule(config, *target);
  const Sampler sampler = resolve_sampler(config, target, schedule);
  const std::vector<ModelPtr> parts = leaves(target);
  const NoiseLevel highest = schedule.level(schedule.num_levels() - 1);
  std::string tree = describe_tree(target);
  while (!tree.empty() && tree.back() == '\n') {
    tree.pop_back();
  }
  std::string page;
  if (!config.target.empty()) {
    add_line(page, "target", config.target);
  }
  for (const std::string& note : detail::guidance_notes(config)) {
    add_line(page, "note", note);
  }
  add_line(page, "tree", tree);
  add_densities(page, target, parts);
  if (!products.empty()) {
    add_line(page, "measured integrals", joined(products) + " (by a run before sampling)");
  }
  add_line(page, "sampler", sampler.name);
  add_line(page, "log ratio", ratio_text(sampler, *target));
  add_line(page, "weights", weights_text(sampler, *target));
  add_line(page, "an evaluation",
           std::to_string(parts.size()) + (parts.size() == 1 ? " leaf" : " leaves, once each"));
  add_line(page, "a step", step_cost(sampler, *target, parts.size()));
  add_line(page, "total exponent",
           detail::six_digits(total_exponent(*target, schedule.level(0))) + " at the data, " +
               detail::six_digits(total_exponent(*target, highest)) + " at high noise");
  add_line(page, "normalisable", existence_text(target, schedule, config.device));
  return page;
}

}  // namespace motet
