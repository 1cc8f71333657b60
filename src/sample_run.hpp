// The JSON of a sampling run.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

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

/// Runs config.tune's pilot and fixes what the sampler's plan leaves open. Throws as tune();
/// Interrupted when the hooks stop it.
TuneRecord tune_sampler(const SampleConfig& config, const ModelPtr& target,
                        const NoiseSchedule& schedule, const RunHooks& hooks, Sampler& sampler);

/// Fixes the line's number of points at each level of the sampler's plan.
void fix_points(const std::vector<int64_t>& num_points, Sampler& sampler);

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
};

Json sample_json(const SampleConfig& config, const Sampler& sampler, const SampleOutcome& outcome);
/// Of any set of points measured against the benchmark's product.
Json metrics_json(const ProductMetrics& metrics, int64_t num_samples);

}  // namespace motet::detail
