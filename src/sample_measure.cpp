// What is measured of the chains that a run keeps: metrics, error bars, agreement of islands, and the
// paths of a few chains.
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "model_rows.hpp"
#include "motet/error.hpp"
#include "motet/image.hpp"
#include "sample_run.hpp"

namespace motet::detail {
namespace {

// Under this many points a mixture fit and mode fractions say nothing.
constexpr int64_t kMinMeasured = 16;
constexpr int64_t kTracedChains = 6;  // as many as a line chart has colours
constexpr int64_t kSmallEvent = 64;
constexpr int64_t kStages = 10;      // of a chain, drawn side by side
constexpr int64_t kShownChains = 6;  // as traced
constexpr int64_t kMeasuredImages = 256;
constexpr int64_t kComparedCoordinates = 32;  // some ms each

std::string too_few(const std::string& what, const SampleOutcome& outcome) {
  std::string note = "not measured: that takes " + std::to_string(kMinMeasured) +
                     " chains, but there are " + std::to_string(outcome.num_measured) + " to " +
                     what + "; raise num_samples or metrics.num_samples";
  if (outcome.num_not_finite > 0) {
    note += " (" + std::to_string(outcome.num_not_finite) + " more are not finite)";
  }
  return note;
}

void compare_islands(const Tensor& points, const SampleGroups& groups, SampleOutcome& outcome) {
  outcome.num_coordinates = points[0].numel();
  if (groups.log_weights.defined()) {
    outcome.convergence_note =
        "not measured: the chains carry unequal weights (weights.resampling = \"none\")";
    return;
  }
  outcome.convergence = convergence(points, groups, kComparedCoordinates);
  if (outcome.convergence.empty()) {
    outcome.convergence_note = "not measured: that takes two groups of 4 finite chains";
  }
}

}  // namespace

int64_t Trace::num_chains() const { return values.size(1); }

Trace empty_trace(const Model& target, size_t num_levels, int64_t num_chains) {
  const bool is_small = c10::multiply_integers(target.event_shape()) <= kSmallEvent;
  return {is_small ? "first coordinate" : "root mean square of the coordinates",
          at::full({static_cast<int64_t>(num_levels) + 1, std::min(num_chains, kTracedChains)},
                   std::numeric_limits<double>::quiet_NaN(), at::kDouble)};
}

void record(Trace& trace, int64_t position, const Tensor& x) {
  const Tensor rows = x.narrow(0, 0, trace.num_chains()).to(at::kCPU, at::kDouble).flatten(1);
  trace.values[position].copy_(rows.size(1) <= kSmallEvent ? rows.select(1, 0)
                                                           : rows.square().mean(1).sqrt());
}

Evolution empty_evolution(const Model& target, const std::vector<LevelPlan>& levels,
                          int64_t num_chains) {
  Evolution evolution;
  const std::vector<int64_t> event = target.event_shape();
  if (!is_image(event)) {
    return evolution;
  }
  const auto last = static_cast<int64_t>(levels.size());
  const int64_t count = std::min(last + 1, kStages);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t position = count > 1 ? i * last / (count - 1) : last;
    evolution.positions.push_back(position);
    evolution.levels.push_back(position < last ? levels[static_cast<size_t>(position)].level.index
                                               : -1);
  }
  std::vector<int64_t> shape = {count, std::min(num_chains, kShownChains)};
  shape.insert(shape.end(), event.begin(), event.end());
  evolution.images = at::full(shape, std::numeric_limits<float>::quiet_NaN(), at::kFloat);
  return evolution;
}

void record(Evolution& evolution, int64_t position, const Tensor& x) {
  const auto found = std::find(evolution.positions.begin(), evolution.positions.end(), position);
  if (found != evolution.positions.end()) {
    evolution.images[found - evolution.positions.begin()].copy_(
        x.narrow(0, 0, evolution.images.size(1)));
  }
}

// Chains that a reverse step broke are left out and counted: they are data, not a failed run.
void measure(const SampleConfig& config, const Sampler& sampler, SampleOutcome& outcome,
             RunReport& report) {
  const Tensor& kept = report.samples;
  const Tensor rows = finite_rows(kept).nonzero().squeeze(1);
  const Tensor points = rows.size(0) == kept.size(0) ? kept : kept.index_select(0, rows);
  const bool wants_metrics = config.metrics_target == "product";
  outcome.num_measured = points.size(0);
  outcome.num_not_finite = kept.size(0) - points.size(0);
  const bool has_images = is_image(points.sizes().slice(1).vec());
  if (has_images && points.size(0) > 0 && !outcome.windows.empty()) {
    outcome.seams = seams_json(points, outcome.windows);
  }
  if (points.size(0) < kMinMeasured) {
    outcome.metrics_note = wants_metrics ? too_few("measure", outcome) : "";
    outcome.convergence_note = too_few("compare", outcome);
    return;
  }
  const int64_t island = sampler.anneal.weights ? sampler.anneal.weights->island_size : 0;
  SampleGroups groups = consecutive_groups(kept.size(0), island);
  outcome.groups_of = groups.are_islands ? "islands" : island > 0 ? "neighbours" : "chains";
  outcome.num_groups = groups.num_groups;
  groups.group = groups.group.index_select(0, rows);
  if (report.log_weights.defined()) {
    groups.log_weights = report.log_weights.index_select(0, rows);
  }
  compare_islands(points, groups, outcome);
  if (has_images) {
    outcome.images = image_json(points, config.pictures);
  }
  if (wants_metrics) {
    Rng reference_rng = Rng(config.seed).split("reference");
    Rng metrics_rng = Rng(config.seed).split("metrics");
    report.reference = sample_product_benchmark(points.size(0), reference_rng);
    outcome.metrics = product_metrics(points.to(at::kDouble), report.reference, metrics_rng, {},
                                      kMaxPairwise, groups);
  }
}

Json image_json(const Tensor& images, const PictureConfig& pictures) {
  // A spectrum of some hundred images is as smooth as one of all.
  const Tensor some = images.narrow(0, 0, std::min(images.size(0), kMeasuredImages));
  const Tensor values = some.to(at::kDouble);
  const Tensor power = power_spectrum(values);
  return {{"num_images", some.size(0)},
          {"mean", values.mean().item<double>()},
          {"standard_deviation", values.std(/*unbiased=*/false).item<double>()},
          {"range", {pictures.low, pictures.high}},
          {"share_below", values.lt(pictures.low).to(at::kDouble).mean().item<double>()},
          {"share_above", values.gt(pictures.high).to(at::kDouble).mean().item<double>()},
          {"power_spectrum", std::vector<double>(power.const_data_ptr<double>(),
                                                 power.const_data_ptr<double>() + power.numel())}};
}

Json seams_json(const Tensor& images, const std::vector<WindowPlace>& windows) {
  // A border that shows is told by some hundred images.
  const Tensor some = images.narrow(0, 0, std::min(images.size(0), kMeasuredImages));
  try {
    const SeamScore seams = seam_score(some, windows);
    return {{"score", seams.score.value},
            {"standard_error", number_or_null(seams.score.standard_error)},
            {"at_seams", seams.at_seams},
            {"elsewhere", seams.elsewhere},
            {"num_images", some.size(0)},
            {"num_seams", seams.num_seams}};
  } catch (const ConfigError& error) {  // windows side by side that leave no edge, or nothing else
    return {{"note", error.what()}};
  } catch (const NumericalError& error) {
    return {{"note", error.what()}};
  }
}

void add_shares(ShareSums& sums, const Tensor& shares) {
  if (!shares.defined()) {
    return;
  }
  const Tensor own = shares.to(at::kCPU, at::kDouble);
  const Tensor added = at::stack({own.sum(0), own.square().sum(0)});
  sums.sums = sums.sums.defined() ? sums.sums + added : added;
  sums.num_chains += own.size(0);
}

}  // namespace motet::detail

namespace motet {

std::string log_weights_path(const std::string& samples) {
  const std::string ending = ".npy";
  const bool has_ending =
      samples.size() > ending.size() &&
      samples.compare(samples.size() - ending.size(), ending.size(), ending) == 0;
  return (has_ending ? samples.substr(0, samples.size() - ending.size()) : samples) +
         ".log_weights" + ending;
}

}  // namespace motet
