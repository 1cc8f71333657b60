// The JSON of a sampling run.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "motet/diagnose.hpp"
#include "run_detail.hpp"

namespace motet::detail {

/// What a weights file was when the run read it.
struct WeightsSource {
  std::string hash;  ///< as file_hash
  std::map<std::string, std::string> metadata;
};

/// What the pilot run found and cost.
struct TuneRecord {
  int64_t num_chains = 0;
  int64_t evaluations_per_chain = 0;
  double seconds = 0.0;
  double network_seconds = 0.0;
  std::vector<LevelStats> levels;
  std::vector<int64_t> num_points;  ///< of the line at each level of the plan; empty: not sought
};

/// Steps that the observer sees at one position of a plan: its MCMC steps, or 1.
int64_t steps_of(const AnnealConfig& plan, size_t position);

/// Where a pilot run says that weights should end, unless the config does: WeightConfig::lowest_level
/// becomes the lowest level down to which the run's islands keep families enough.
void end_weights(const SampleConfig& config, const std::vector<LevelStats>& pilot,
                 AnnealConfig& anneal);

/// Runs config.tune's pilot and fixes what the sampler's plan leaves open. Throws as tune();
/// Interrupted when the hooks stop it.
TuneRecord tune_sampler(const SampleConfig& config, const ModelPtr& target,
                        const NoiseSchedule& schedule, const RunHooks& hooks, Sampler& sampler);

/// Fixes the line's number of points at each level of the sampler's plan.
void fix_points(const std::vector<int64_t>& num_points, Sampler& sampler);
/// What the paths of a few chains are followed by.
struct Trace {
  std::string value;  ///< what is recorded of a chain
  Tensor values;      ///< (L + 1, C) float64, NaN before: on entering each level, the sample
  int64_t num_chains() const;  ///< C
};
/// Of min(6, num_chains) chains: the first coordinate of small events, the root mean square of large
/// ones.
Trace empty_trace(const Model& target, size_t num_levels, int64_t num_chains);
/// Writes down the first chains of x (B, *event) at a position of the plan.
void record(Trace& trace, int64_t position, const Tensor& x);

/// The first chains of a run of images as they become images.
struct Evolution {
  std::vector<int64_t> positions;  ///< of the plan, rising; the last is that of the samples
  std::vector<int64_t> levels;     ///< their noise levels; -1: the samples
  Tensor images;                   ///< (P, M, C, H, W) float32, NaN before; undefined: no images
};
/// Of min(6, num_chains) chains, on entering up to 10 levels; nothing for events that are no images.
Evolution empty_evolution(const Model& target, const std::vector<LevelPlan>& levels,
                          int64_t num_chains);
/// Copies the first chains of x (B, C, H, W) where this position of the plan is drawn.
void record(Evolution& evolution, int64_t position, const Tensor& x);

/// Sums of the shares that components of tracked mixtures have at the chains.
struct ShareSums {
  Tensor sums;  ///< (2, C) float64: of shares and of their squares
  int64_t num_chains = 0;
};
/// Adds SampleResult::shares of a tile; nothing where undefined.
void add_shares(ShareSums& sums, const Tensor& shares);

/// What a finished sampling run knows.
struct SampleOutcome {
  std::vector<LevelStats> levels;
  std::map<std::string, WeightsSource> sources;  ///< by the factor's name; none for analytic laws
  std::optional<TuneRecord> tune;                ///< where the run made its own pilot
  Tensor log_normalisers;  ///< (I) float64, an island each; undefined without weights
  double total_seconds = 0.0;
  double network_seconds = 0.0;
  std::string target;          ///< Model::describe()
  std::string schedule;        ///< NoiseSchedule::describe()
  int64_t num_measured = 0;    ///< finite chains among those to be measured
  int64_t num_not_finite = 0;  ///< the others: broken by a reverse step, not measured
  std::optional<ProductMetrics> metrics;
  std::string metrics_note;  ///< why metrics that were asked for are not there; else ""
  Trace trace;
  Evolution evolution;
  ShareSums shares;
  std::vector<std::string> component_names;  ///< of ShareSums' columns
  std::vector<double> component_weights;
  Tensor log_weights;            ///< (N) float64 of all chains; undefined where they are equal
  std::string log_weights_file;  ///< where they were written; "" nowhere
  std::string groups_of;         ///< what the groups are, as group_json() says it
  int64_t num_groups = 0;
  int64_t num_coordinates = 0;
  std::vector<CoordinateConvergence> convergence;
  std::string convergence_note;      ///< why there is none
  Json images = nullptr;             ///< what image_json() says of the samples
  std::vector<WindowPlace> windows;  ///< of a tapestry
  Json seams = nullptr;              ///< what seams_json() says of the samples
};

/// Measures report.samples (the chains that are measured) into outcome and report.reference.
void measure(const SampleConfig& config, const Sampler& sampler, SampleOutcome& outcome,
             RunReport& report);

/// Of images (N, C, H, W): share of values below and above the pictures' range, mean and standard
/// deviation of all values, power_spectrum().
Json image_json(const Tensor& images, const PictureConfig& pictures);

/// seam_score() of images (N, C, H, W); {"note"}, why there is none, where it throws.
Json seams_json(const Tensor& images, const std::vector<WindowPlace>& windows);

/// The first samples as one picture (C, rows, columns) uint8; small ones are enlarged.
Tensor picture_of(const Tensor& samples, const PictureConfig& pictures);

Json sample_json(const SampleConfig& config, const Sampler& sampler, const SampleOutcome& outcome);
/// {"of", "num_groups"}: "islands", "neighbours" (rows of fewer than 4 islands), "chains" or "rows"
/// (independent ones).
Json groups_json(const std::string& of, int64_t num_groups);
/// {"standard_error", "method"} by metric.
Json errors_json(const std::map<std::string, MetricError>& errors);
/// Of any set of points measured against the benchmark's product.
Json metrics_json(const ProductMetrics& metrics, int64_t num_samples);

}  // namespace motet::detail
