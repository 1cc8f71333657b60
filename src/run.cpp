// A sampling run: chains go through anneal() in tiles, rows stream to the .npy file, statistics are
// summed over tiles. Chain i draws the same numbers in any tile, so tile_size bounds memory and
// changes nothing else.
#include "motet/run.hpp"

#include <ATen/Context.h>
#include <torch/types.h>

#include <algorithm>
#include <limits>

#include "checkpoint.hpp"
#include "error_shape.hpp"
#include "io_detail.hpp"
#include "motet/error.hpp"
#include "motet/image.hpp"
#include "motet/io.hpp"
#include "motet/report.hpp"
#include "preset_start.hpp"
#include "run_pretrained.hpp"
#include "run_target.hpp"
#include "sample_run.hpp"

namespace motet {
namespace {

[[noreturn]] void fail(const SampleConfig& config, const std::string& why) {
  throw ConfigError("config: " + config.name + ": " + why);
}

using Sources = std::map<std::string, detail::WeightsSource>;

Sources sources_of(const SampleConfig& config) {
  Sources sources;
  for (const TermConfig& term : config.terms) {
    if (!term.file().empty()) {
      sources[term.name] = detail::weights_source(term);
    }
  }
  return sources;
}

detail::Identity identity_of(const SampleConfig& config, const Sources& sources) {
  detail::Identity identity = config.identity;
  identity["versions.motet"] = version();
  identity["versions.torch"] = torch_version();
  for (const TermConfig& term : config.terms) {
    if (!term.file().empty()) {
      identity["model." + term.name + ".weights (contents)"] = sources.at(term.name).hash;
      if (compute_used(config.compute, config.device) != config.compute) {
        identity["compute_used"] = to_string(compute_used(config.compute, config.device));
      }
    }
  }
  return identity;
}

// Sums of the tiles' statistics; evaluations are per chain, the same for every tile.
void add_levels(std::vector<LevelStats>& sums, const std::vector<LevelStats>& tile) {
  if (sums.empty()) {
    sums = tile;
    return;
  }
  for (size_t i = 0; i < sums.size(); ++i) {
    const auto share = static_cast<double>(tile[i].num_proposals) /
                       static_cast<double>(sums[i].num_proposals + tile[i].num_proposals);
    sums[i].squared_jump += share * (tile[i].squared_jump - sums[i].squared_jump);
    sums[i].num_proposals += tile[i].num_proposals;
    sums[i].num_accepted += tile[i].num_accepted;
    sums[i].num_invalid += tile[i].num_invalid;
    sums[i].num_resampled += tile[i].num_resampled;
    sums[i].ess = std::min(sums[i].ess, tile[i].ess);  // NaN without weights, in both
    sums[i].families = std::min(sums[i].families, tile[i].families);
  }
}

}  // namespace

int64_t detail::steps_of(const AnnealConfig& plan, size_t position) {
  const bool skips = plan.placement == Placement::none ||
                     (plan.placement == Placement::after_reverse && position == 0);
  return std::max<int64_t>(skips ? 0 : plan.levels[position].num_steps, 1);
}

namespace {

// One sampling run in progress.
class SampleRun {
 public:
  SampleRun(const SampleConfig& config, const RunFiles& files, const RunHooks& hooks)
      : config_(config),
        files_(files),
        hooks_(hooks),
        target_(load_target(config)),
        schedule_(choose_schedule(config, *target_)),
        sampler_(resolve_sampler(config, target_, schedule_)),
        sources_(sources_of(config)),
        identity_(identity_of(config, sources_)),
        checkpoint_(detail::checkpoint_path(config.checkpoint, files)),
        clock_(config.checkpoint) {
    detail::check_sampler(config, sampler_, *target_);
    detail::check_exists(config, target_, schedule_, sampler_.anneal);
    check_picture();
    if (sampler_.anneal.weights) {  // islands are never torn
      const int64_t island = sampler_.anneal.weights->island_size;
      tile_chains_ = std::max<int64_t>(config.tile_size / island, 1) * island;
    }
    for (size_t i = 0; i < sampler_.anneal.levels.size(); ++i) {
      steps_before_.push_back(num_steps_);
      num_steps_ += detail::steps_of(sampler_.anneal, i);
    }
    const auto* tracking = dynamic_cast<const TrackingModel*>(target_.get());
    if (tracking != nullptr && !tracking->tracked().empty()) {
      outcome_.component_names = tracking->component_names();
      outcome_.component_weights = tracking->component_weights();
    }
    outcome_.trace = detail::empty_trace(*target_, sampler_.anneal.levels.size(), tile_size(0));
    outcome_.evolution = detail::empty_evolution(*target_, sampler_.anneal.levels, tile_size(0));
    outcome_.windows = detail::window_places(*target_);
    if (keeps_weights() && !files.samples.empty()) {
      outcome_.log_weights_file = log_weights_path(files.samples);
      detail::check_writable(outcome_.log_weights_file);
    }
  }

  RunReport run() {
    std::optional<AnnealState> state = files_.resume ? resume() : std::nullopt;
    if (!files_.resume) {
      detail::remove_checkpoint(checkpoint_);  // the rows that an old one counts on go now
    }
    if (sampler_.anneal.adapt) {
      outcome_.tune = detail::tune_sampler(config_, target_, schedule_, hooks_, sampler_);
      network_seconds_ += outcome_.tune->network_seconds;
    }
    open_writer();
    for (; tile_ < num_tiles(); ++tile_) {
      run_tile(state ? &*state : nullptr);
      state.reset();
    }
    // Before the rows take their final name: who resumes later must know that all are there.
    save(nullptr);
    if (writer_) {
      writer_->finish();
    }
    RunReport report = measure();
    write(report);
    detail::remove_checkpoint(checkpoint_);
    return report;
  }

 private:
  void check_picture() const {
    if (!files_.picture.empty() && !is_image(target_->event_shape())) {
      fail(config_, "--png draws images, events (1 or 3, H, W), but " + target_->describe() +
                        " has " + detail::shape_text(target_->event_shape()) + "; leave it out");
    }
  }
  int64_t num_tiles() const { return (config_.num_samples + tile_chains_ - 1) / tile_chains_; }
  int64_t tile_size(int64_t tile) const {
    return std::min(tile_chains_, config_.num_samples - tile * tile_chains_);
  }
  bool keeps_weights() const {
    return sampler_.anneal.weights && sampler_.anneal.weights->resampling == Resampling::none;
  }
  int64_t num_finished() const { return std::min(tile_ * tile_chains_, config_.num_samples); }
  int64_t num_kept() const { return std::min(config_.num_samples, config_.metrics_num_samples); }
  double seconds() const { return seconds_before_ + watch_.seconds(); }

  // Rows of finished tiles wait in the writer's partial file, those to be measured in the
  // checkpoint too. A state is in the checkpoint unless all tiles are finished.
  std::optional<AnnealState> resume() {
    if (checkpoint_.empty()) {
      fail(config_, "--resume needs the output file that names the checkpoint: give --out");
    }
    const TensorFile file = detail::read_checkpoint(checkpoint_, "sample", identity_);
    tile_ = detail::checkpoint_count(file, checkpoint_, "run.tile", num_tiles());
    seconds_before_ = detail::checkpoint_number(file, checkpoint_, "run.seconds");
    network_seconds_ = detail::checkpoint_number(file, checkpoint_, "run.network_seconds");
    kept_ = detail::checkpoint_tensor(file, checkpoint_, "run.kept").clone();
    levels_ = detail::unpack_levels(file, checkpoint_, "run");
    log_normalisers_ = detail::checkpoint_tensor(file, checkpoint_, "run.log_normalisers").clone();
    log_weights_ = detail::checkpoint_tensor(file, checkpoint_, "run.log_weights").clone();
    check_shape("run.log_weights", log_weights_, {keeps_weights() ? num_finished() : 0});
    const Tensor& trace = detail::checkpoint_tensor(file, checkpoint_, "run.trace");
    check_shape("run.trace", trace, outcome_.trace.values.sizes());
    outcome_.trace.values.copy_(trace);
    restore_evolution(file);
    restore_shares(file);
    restore_plan(file);
    check_finished();
    check_rows();
    first_step_ = tile_ * num_steps_;
    if (tile_ == num_tiles()) {
      return std::nullopt;
    }
    AnnealState state = detail::unpack_anneal(file, checkpoint_, config_.device);
    check_chains(state);
    first_step_ += steps_done(state);
    return state;
  }

  void check_shape(const char* name, const Tensor& tensor, at::IntArrayRef shape) const {
    if (tensor.sizes() != shape || tensor.scalar_type() != at::kDouble) {
      detail::refuse(checkpoint_, std::string(name) + " has shape " +
                                      detail::shape_text(tensor.sizes()) + ", must have float64 " +
                                      detail::shape_text(shape));
    }
  }

  void restore_evolution(const TensorFile& file) {
    Tensor& images = outcome_.evolution.images;
    if (!images.defined()) {
      return;
    }
    const Tensor& saved = detail::checkpoint_tensor(file, checkpoint_, "run.evolution");
    if (saved.sizes() != images.sizes() || saved.scalar_type() != at::kFloat) {
      detail::refuse(checkpoint_, "run.evolution has shape " + detail::shape_text(saved.sizes()) +
                                      ", must have float32 " + detail::shape_text(images.sizes()));
    }
    images.copy_(saved);
  }

  void restore_shares(const TensorFile& file) {
    if (outcome_.component_names.empty() || tile_ == 0) {
      return;
    }
    const Tensor& sums = detail::checkpoint_tensor(file, checkpoint_, "run.shares");
    check_shape("run.shares", sums, {2, static_cast<int64_t>(outcome_.component_names.size())});
    outcome_.shares = {sums.clone(), num_finished()};
  }

  // The pilot run is not run again: its numbers are in the checkpoint.
  void restore_plan(const TensorFile& file) {
    if (!sampler_.anneal.adapt) {
      return;
    }
    detail::TuneRecord record;
    record.levels = detail::unpack_levels(file, checkpoint_, "tune");
    std::vector<LevelPlan>& plan = sampler_.anneal.levels;
    for (size_t i = 0; i < std::max(plan.size(), record.levels.size()); ++i) {
      if (plan.size() != record.levels.size() || record.levels[i].index != plan[i].level.index) {
        detail::refuse(checkpoint_, "tune.counts must have the levels of the plan");
      }
      plan[i].step_size = record.levels[i].step_size;
      plan[i].mass = record.levels[i].mass.defined() ? record.levels[i].mass : plan[i].mass;
    }
    detail::end_weights(config_, record.levels, sampler_.anneal);
    if (sampler_.kernel_config.line_tolerance > 0.0) {
      record.num_points = detail::unpack_points(file, checkpoint_, "tune", plan.size());
      detail::fix_points(record.num_points, sampler_);
    }
    const auto number = [&](const char* name) {
      return detail::checkpoint_number(file, checkpoint_, name);
    };
    record.num_chains = static_cast<int64_t>(number("tune.num_chains"));
    record.evaluations_per_chain = static_cast<int64_t>(number("tune.evaluations"));
    record.seconds = number("tune.seconds");
    sampler_.anneal.curvature = detail::checkpoint_numbers(file, checkpoint_, "tune.curvature");
    sampler_.anneal.adapt.reset();
    outcome_.tune = record;
  }

  std::string partial_path() const { return files_.samples + ".partial"; }

  // All rows were written and took their final name before the run was stopped.
  bool rows_are_final() const {
    return tile_ == num_tiles() && !detail::path_exists(partial_path()) &&
           detail::path_exists(files_.samples);
  }

  void check_rows() const {
    if (tile_ > 0 && !files_.samples.empty() && !detail::path_exists(partial_path()) &&
        !rows_are_final()) {
      throw DataError("resume: " + partial_path() + ": missing, but it holds the rows of " +
                      std::to_string(num_finished()) + " finished chains; delete " + checkpoint_ +
                      " and start anew");
    }
  }

  // What the finished tiles left fits this run: a checkpoint may have been changed or made by
  // anyone.
  void check_finished() const {
    const size_t num_levels = tile_ == 0 ? 0 : sampler_.anneal.levels.size();
    if (levels_.size() != num_levels) {
      detail::refuse(checkpoint_, "run.counts has " + std::to_string(levels_.size()) +
                                      " levels, must have " + std::to_string(num_levels));
    }
    std::vector<int64_t> shape = {std::min(tile_ * tile_chains_, num_kept())};
    if (tile_ > 0) {
      const std::vector<int64_t> event = target_->event_shape();
      shape.insert(shape.end(), event.begin(), event.end());
    }
    if (kept_.sizes() != at::IntArrayRef(shape) || kept_.scalar_type() != at::kFloat) {
      detail::refuse(checkpoint_, "run.kept has shape " + detail::shape_text(kept_.sizes()) +
                                      ", must have float32 " + detail::shape_text(shape));
    }
  }

  void check_chains(const AnnealState& state) const {
    const int64_t size = tile_size(tile_);
    const bool has_eval = state.chains.eval.score.defined();
    if (state.chains.x.size(0) != size || (has_eval && !is_whole(state.chains.eval)) ||
        !has_ledger(state)) {
      detail::refuse(checkpoint_, "chains.* must be those of " + std::to_string(size) +
                                      " chains of " + target_->describe());
    }
  }

  bool is_whole(const Eval& eval) const {
    return target_->is_exact() ? eval.log_density.defined() && !eval.remainder.defined()
                               : eval.log_density.defined() || eval.remainder.defined();
  }

  // Where the target tracks log densities: all of them, and what each leaf knows.
  bool has_ledger(const AnnealState& state) const {
    const auto* model = dynamic_cast<const TrackingModel*>(target_.get());
    if (model == nullptr || model->tracked().empty()) {
      return true;
    }
    const auto num_tracked = static_cast<int64_t>(model->tracked().size());
    const auto fits = [num_tracked](const Tensor& ledger) {
      return ledger.defined() && ledger.dim() == 2 && ledger.size(1) == num_tracked;
    };
    const Eval& eval = state.chains.eval;
    if (!eval.score.defined()) {
      return state.level_position == 0 || fits(state.crossing.ledger);
    }
    const std::vector<ModelPtr> parts = leaves(target_);
    bool is_good = fits(eval.ledger) && eval.parts.size() == parts.size();
    for (size_t i = 0; is_good && i < parts.size(); ++i) {
      is_good = eval.parts[i].score.defined() &&
                eval.parts[i].log_density.defined() == parts[i]->is_exact() &&
                eval.parts[i].remainder.defined() == !parts[i]->is_exact();
    }
    return is_good;
  }

  void open_writer() {
    if (!files_.samples.empty() && !rows_are_final()) {
      writer_.emplace(files_.samples, config_.num_samples, target_->event_shape(), files_.resume);
    }
  }

  void run_tile(const AnnealState* state) {
    const int64_t first = tile_ * tile_chains_;
    const int64_t size = tile_size(tile_);
    const Rng rng = Rng(config_.seed).for_chains(first);
    const Tensor x_init = detail::starting_points(*target_, sampler_, size, config_.device, rng);
    if (tile_ == 0 && state == nullptr) {
      detail::record(outcome_.trace, 0, x_init);
      detail::record(outcome_.evolution, 0, x_init);
    }
    SampleResult result;
    try {
      result = anneal(
          target_, schedule_, sampler_.kernel, sampler_.anneal, x_init, rng,
          [this](const AnnealState& now) { return observe(now); }, state);
    } catch (const Interrupted&) {
      throw Interrupted("sample: " + detail::interrupted_text(checkpoint_));
    }
    const Tensor rows = result.x.to(at::kCPU, at::kFloat);
    if (writer_) {
      writer_->write(first, rows);
    }
    if (first < num_kept()) {
      const Tensor head = rows.narrow(0, 0, std::min(size, num_kept() - first));
      kept_ = kept_.defined() && kept_.size(0) > 0 ? at::cat({kept_, head}) : head.clone();
    }
    add_levels(levels_, result.levels);
    if (result.log_normalisers.defined()) {
      log_normalisers_ = at::cat({log_normalisers_, result.log_normalisers});
    }
    if (result.log_weights.defined()) {
      log_weights_ = at::cat({log_weights_, result.log_weights.to(at::kCPU)});
    }
    detail::add_shares(outcome_.shares, result.shares);
    network_seconds_ += result.network_seconds;
  }

  bool observe(const AnnealState& state) {
    if (tile_ == 0 && state.step == 0) {  // at the door of a level, or at the data
      detail::record(outcome_.trace, state.level_position, state.chains.x);
      detail::record(outcome_.evolution, state.level_position, state.chains.x);
    }
    const bool stop = hooks_.should_stop && hooks_.should_stop();
    if (clock_.tick() || stop) {
      save(&state);
    }
    if (hooks_.progress) {
      report(state);
    }
    return !stop;
  }

  // Writes the checkpoint; `state` is that of the tile in progress, null after the last.
  void save(const AnnealState* state) {
    if (checkpoint_.empty()) {
      return;
    }
    if (writer_) {
      writer_->flush();
    }
    TensorFile file;
    if (state != nullptr) {
      detail::pack(*state, file);
    }
    detail::pack_levels(levels_, "run", file);
    const auto number = [](double value) { return at::tensor({value}, at::kDouble); };
    file.tensors["run.tile"] = number(static_cast<double>(tile_));
    file.tensors["run.seconds"] = number(seconds());
    file.tensors["run.network_seconds"] = number(network_seconds_);
    file.tensors["run.log_normalisers"] = log_normalisers_;
    file.tensors["run.log_weights"] = log_weights_;
    file.tensors["run.trace"] = outcome_.trace.values;
    if (outcome_.evolution.images.defined()) {
      file.tensors["run.evolution"] = outcome_.evolution.images;
    }
    if (outcome_.shares.num_chains > 0) {
      file.tensors["run.shares"] = outcome_.shares.sums;
    }
    if (outcome_.tune) {
      detail::pack_levels(outcome_.tune->levels, "tune", file);
      detail::pack_points(outcome_.tune->num_points, "tune", file);
      file.tensors["tune.num_chains"] = number(static_cast<double>(outcome_.tune->num_chains));
      file.tensors["tune.evaluations"] =
          number(static_cast<double>(outcome_.tune->evaluations_per_chain));
      file.tensors["tune.seconds"] = number(outcome_.tune->seconds);
      file.tensors["tune.curvature"] = at::tensor(sampler_.anneal.curvature, at::kDouble);
    }
    file.tensors["run.kept"] = kept_.defined() ? kept_ : at::zeros({0}, at::kFloat);
    detail::write_checkpoint(checkpoint_, std::move(file), "sample", identity_);
  }

  int64_t steps_done(const AnnealState& state) const {
    const auto position = static_cast<size_t>(state.level_position);
    return position < steps_before_.size() ? steps_before_[position] + state.step : num_steps_;
  }

  void report(const AnnealState& state) {
    Progress progress;
    progress.phase = "sample";
    progress.step = tile_ * num_steps_ + steps_done(state);
    progress.num_steps = num_tiles() * num_steps_;
    progress.fraction =
        static_cast<double>(progress.step) / static_cast<double>(progress.num_steps);
    progress.seconds = watch_.seconds();
    progress.steps_per_second = static_cast<double>(progress.step - first_step_) / progress.seconds;
    progress.seconds_left =
        static_cast<double>(progress.num_steps - progress.step) / progress.steps_per_second;
    const auto last =
        std::min(state.level_position, static_cast<int64_t>(sampler_.anneal.levels.size()) - 1);
    const auto position = static_cast<size_t>(last);
    progress.level = sampler_.anneal.levels[position].level.index;
    // The level in progress counts on the device; the last finished one costs no synchronisation.
    progress.acceptance = position > 0 && sampler_.kernel && sampler_.kernel->is_adjusted()
                              ? state.levels[position - 1].acceptance()
                              : std::numeric_limits<double>::quiet_NaN();
    hooks_.progress(progress);
  }

  RunReport measure() {
    outcome_.levels = levels_;
    if (sampler_.anneal.weights) {
      outcome_.log_normalisers = log_normalisers_;
    }
    outcome_.sources = sources_;
    outcome_.network_seconds = network_seconds_;
    outcome_.total_seconds = seconds();
    outcome_.target = target_->describe();
    outcome_.schedule = schedule_.describe();
    RunReport report;
    report.samples = kept_;
    report.evolution = outcome_.evolution.images;
    report.evolution_levels = outcome_.evolution.levels;
    if (keeps_weights()) {
      outcome_.log_weights = log_weights_;
      report.log_weights = log_weights_.narrow(0, 0, num_kept());
    }
    detail::measure(config_, sampler_, outcome_, report);
    report.json = detail::dump(detail::sample_json(config_, sampler_, outcome_));
    return report;
  }

  void write(const RunReport& report) const {
    if (!outcome_.log_weights_file.empty()) {
      write_npy(outcome_.log_weights_file, log_weights_);
    }
    if (!files_.json.empty()) {
      write_file_atomic(files_.json, report.json);
    }
    if (!files_.picture.empty()) {
      write_png(files_.picture, detail::picture_of(report.samples, config_.pictures));
    }
    if (!files_.report.empty()) {
      write_file_atomic(files_.report, sample_report({{config_.sampler, report}}));
    }
  }

  const SampleConfig& config_;
  const RunFiles& files_;
  const RunHooks& hooks_;
  ModelPtr target_;
  NoiseSchedule schedule_;
  Sampler sampler_;
  Sources sources_;
  detail::Identity identity_;
  std::string checkpoint_;
  detail::CheckpointClock clock_;
  detail::Stopwatch watch_;
  std::optional<NpyRowWriter> writer_;
  std::vector<int64_t> steps_before_;
  int64_t num_steps_ = 0;
  int64_t tile_chains_ = config_.tile_size;
  int64_t first_step_ = 0;
  int64_t tile_ = 0;
  double seconds_before_ = 0.0;
  double network_seconds_ = 0.0;
  Tensor kept_;
  std::vector<LevelStats> levels_;
  Tensor log_normalisers_ = at::zeros({0}, at::kDouble);
  Tensor log_weights_ = at::zeros({0}, at::kDouble);  // of finished tiles
  detail::SampleOutcome outcome_;
};

}  // namespace

void detail::check_sampler(const SampleConfig& config, const Sampler& sampler,
                           const Model& target) {
  if (sampler.needs_energy && !target.is_exact()) {
    fail(config, "sampler \"" + config.sampler +
                     "\" accepts by differences of log densities, but " + target.describe() +
                     " gives only scores; use energy models, or a line or curve sampler "
                     "(hmc-4-curve)");
  }
  const size_t num_coordinates = static_cast<size_t>(c10::multiply_integers(target.event_shape()));
  const size_t num_masses = sampler.kernel_config.hmc.mass.size();
  if (num_masses != 0 && num_masses != num_coordinates) {
    fail(config, "kernel.mass has " + std::to_string(num_masses) +
                     " entries, must have one for each of the " + std::to_string(num_coordinates) +
                     " coordinates of " + target.describe());
  }
  for (const LevelPlan& plan : sampler.anneal.levels) {
    if (plan.mass.defined() && plan.mass.numel() != static_cast<int64_t>(num_coordinates)) {
      fail(config, "kernel.mass has " + std::to_string(plan.mass.numel()) + " entries for level " +
                       std::to_string(plan.level.index) + ", must have one for each of the " +
                       std::to_string(num_coordinates) + " coordinates of " + target.describe());
    }
  }
  if (config.metrics_target == "product" && target.event_shape() != std::vector<int64_t>{2}) {
    fail(config, "metrics.target = \"product\" is a law in the plane, but " + target.describe() +
                     " has another event shape; leave it out");
  }
}

RunReport run(const SampleConfig& config, const RunFiles& files, const RunHooks& hooks) {
  detail::check_writable(files, config.checkpoint);
  return SampleRun(config, files, hooks).run();
}

}  // namespace motet
