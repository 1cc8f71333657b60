// The driver: a pilot run whose kernel is watched, probes of its levels with its own particles, the
// held-out test, and the verdict. The kernel is wrapped instead of the run being observed: an
// observer sees the chains after they have left a level, the wrapper sees every step inside it.
#include "motet/diagnose.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "diagnose_detail.hpp"
#include "model_rows.hpp"
#include "motet/compose.hpp"
#include "motet/error.hpp"
#include "preset_start.hpp"

namespace motet {
namespace {

constexpr int64_t kMinChains = 64;
constexpr int64_t kMinHeldOut = 256;
constexpr int64_t kMinMeasured = 16;      // particles, for a spread or a quantile to mean anything
constexpr int64_t kFewMore = 5;           // levels above num_levels that are probed all the same
constexpr double kTowardsLowNoise = 1.5;  // power that sets probed levels denser at low noise
constexpr double kPilotShare = 0.5;       // of the work, for progress
constexpr double kLevelsShare = 0.3;
constexpr double kTail = 0.99;

// What the kernel did at one level, summed on the device.
struct Record {
  Tensor x;           // after the last step
  Tensor log_accept;  // of the last step
  Tensor num_accepted;
  Tensor num_invalid;
  Tensor square_jump;  // sum over steps of the mean over chains
  int64_t num_steps = 0;
  int64_t num_proposals = 0;
};

// Passes everything on and keeps a Record of each level that is to be probed.
class RecordingKernel : public Kernel {
 public:
  RecordingKernel(KernelPtr kernel, std::set<int64_t> probed)
      : kernel_(std::move(kernel)), probed_(std::move(probed)) {}

  Step step(const Target& target, const ChainState& now, double step_size,
            Rng& rng) const override {
    Step step = kernel_->step(target, now, step_size, rng);
    if (probed_.count(target.level().index) == 0) {
      return step;
    }
    Record& record = records_[target.level().index];
    const Tensor jump = (step.state.x - now.x).to(at::kDouble).square().flatten(1).sum(1).nanmean();
    const Tensor accepted = step.info.accepted.sum();
    const bool is_first = record.num_steps == 0;
    record.square_jump = is_first ? jump : record.square_jump + jump;
    record.num_accepted = is_first ? accepted : record.num_accepted + accepted;
    record.num_invalid =
        is_first ? step.info.num_invalid : record.num_invalid + step.info.num_invalid;
    record.x = step.state.x;
    record.log_accept = step.info.log_accept;
    record.num_proposals += now.x.size(0);
    ++record.num_steps;
    return step;
  }
  double step_size_for(double length) const override { return kernel_->step_size_for(length); }
  bool is_adjusted() const override { return kernel_->is_adjusted(); }
  bool takes_mass() const override { return kernel_->takes_mass(); }
  std::string describe() const override { return kernel_->describe(); }
  const std::map<int64_t, Record>& records() const { return records_; }

 private:
  KernelPtr kernel_;
  std::set<int64_t> probed_;
  mutable std::map<int64_t, Record> records_;  // by the level's index; only looked at
};

void check(const DiagnoseConfig& config) {
  const auto need = [](const char* name, int64_t value, int64_t least) {
    if (value < least) {
      throw ConfigError("diagnose: " + std::string(name) + " = " + std::to_string(value) +
                        ", must be >= " + std::to_string(least));
    }
  };
  need("num_chains", config.num_chains, kMinChains);
  need("num_levels", config.num_levels, 1);
  need("num_probes", config.num_probes, 1);
  need("num_settle", config.num_settle, 2);
  if (config.num_held_out != 0) {
    need("num_held_out", config.num_held_out, kMinHeldOut);
  }
}

// Positions of the plan, falling noise, ends included.
std::vector<size_t> choose_positions(size_t num_levels, int64_t wanted) {
  const auto limit = static_cast<size_t>(wanted);
  std::set<size_t> chosen;
  for (size_t i = 0; i < num_levels && num_levels <= limit + kFewMore; ++i) {
    chosen.insert(i);
  }
  for (size_t k = 0; k < limit && num_levels > limit + kFewMore; ++k) {
    const double left =
        1.0 - static_cast<double>(k) / std::max(1.0, static_cast<double>(limit - 1));
    const double place = 1.0 - std::pow(limit == 1 ? 0.0 : left, kTowardsLowNoise);
    chosen.insert(static_cast<size_t>(std::lround(place * static_cast<double>(num_levels - 1))));
  }
  return {chosen.begin(), chosen.end()};
}

double spread(const std::vector<double>& values) {
  const auto count = static_cast<double>(values.size());
  double sum = 0.0;
  double square = 0.0;
  for (const double value : values) {
    sum += value;
    square += value * value;
  }
  return std::sqrt(std::max(0.0, (square - sum * sum / count) / (count - 1.0)));
}

// One call of diagnose(): its fixed inputs and what it has found.
class Diagnoser {
 public:
  Diagnoser(const ModelPtr& target, const NoiseSchedule& schedule, const Sampler& sampler,
            const DiagnoseConfig& config, const Rng& rng, const DiagnoseObserver& observer)
      : target_(target),
        schedule_(schedule),
        sampler_(sampler),
        config_(config),
        rng_(rng),
        observer_(observer),
        moves_(sampler.kernel != nullptr && sampler.anneal.placement != Placement::none) {}

  Diagnosis run() {
    if (target_ == nullptr) {
      throw ConfigError("diagnose: no model given (null), must be a model");
    }
    if (traits(*target_).is_tracked) {
      throw ConfigError("diagnose: \"" + target_->describe() +
                        "\" tracks log densities along each chain, but the checks ask for the "
                        "target at single points; look at the components' shares that a run of it "
                        "reports, or diagnose the components");
    }
    if (sampler_.anneal.adapt) {
      throw ConfigError("diagnose: the step sizes of sampler \"" + sampler_.name +
                        "\" are still to be found; give the plan that tune() returns");
    }
    const std::vector<LevelPlan>& plan = sampler_.anneal.levels;
    const std::vector<size_t> positions = choose_positions(plan.size(), config_.num_levels);
    for (const size_t position : positions) {
      probed_.insert(plan[position].level.index);
    }
    if (moves_) {
      recorder_ = std::make_shared<RecordingKernel>(sampler_.kernel, probed_);
    }
    run_pilot();
    for (size_t i = 0; i < positions.size(); ++i) {
      result_.levels.push_back(diagnose_level(plan[positions[i]]));
      keep_going(kPilotShare +
                 kLevelsShare * static_cast<double>(i + 1) / static_cast<double>(positions.size()));
    }
    test_held_out();
    const detail::Subject subject{is_exact_, moves_, moves_ && sampler_.kernel->is_adjusted(),
                                  sampler_.kernel_config, is_product()};
    result_.checks = detail::assess(result_.levels, result_.held_out, subject);
    result_.light = detail::worst_of(result_.checks);
    return result_;
  }

 private:
  bool is_product() const {
    const std::vector<Term> terms = factors(target_);
    return terms.size() > 1 || terms.front().exponent != 1.0;
  }
  bool goes_on(double fraction) const { return !observer_ || observer_(fraction); }
  void keep_going(double fraction) const {
    if (!goes_on(fraction)) {
      throw Interrupted("diagnose: stopped by the observer");
    }
  }

  void run_pilot() {
    const Tensor x_init =
        detail::starting_points(*target_, sampler_, config_.num_chains, config_.device, rng_);
    const auto num_levels = static_cast<double>(sampler_.anneal.levels.size());
    AnnealConfig plan = sampler_.anneal;
    if (plan.weights) {
      plan.weights->island_size = config_.num_chains;
    }
    const Observer watch = [&](const AnnealState& state) {
      const auto position = static_cast<size_t>(state.level_position);
      if (state.step == 0 && position > 0) {  // the weights are still those of the level left
        log_weights_[plan.levels[position - 1].level.index] = state.log_weights;
      }
      if (state.step == 0 && position < plan.levels.size()) {
        keep_entry(plan.levels[position].level.index, state.chains.x);
      }
      return goes_on(kPilotShare * static_cast<double>(state.level_position) / num_levels);
    };
    if (!sampler_.anneal.levels.empty()) {
      keep_entry(sampler_.anneal.levels.front().level.index, x_init);
    }
    const KernelPtr kernel = recorder_ ? KernelPtr(recorder_) : sampler_.kernel;
    const SampleResult pilot = anneal(target_, schedule_, kernel, plan, x_init, rng_, watch);
    result_.evaluations_per_chain = pilot.evaluations_per_chain;
    for (const LevelStats& level : pilot.levels) {
      ess_[level.index] = level.ess;
    }
  }

  // Particles of levels without MCMC steps, which the recorder does not see.
  void keep_entry(int64_t index, const Tensor& x) {
    if (probed_.count(index) > 0) {
      entries_[index] = x;
    }
  }

  LevelDiagnosis diagnose_level(const LevelPlan& plan) {
    LevelDiagnosis row;
    row.level = plan.level;
    const Record* record = nullptr;
    if (recorder_ && recorder_->records().count(plan.level.index) > 0) {
      record = &recorder_->records().at(plan.level.index);
    }
    row.ess = ess_.at(plan.level.index);
    Target target(target_, plan.level);
    const Tensor& all = record ? record->x : entries_.at(plan.level.index);
    const Tensor finite = detail::finite_rows(all).nonzero().squeeze(1);
    const Tensor x = all.index_select(0, finite);
    row.num_measured = x.size(0);
    if (row.num_measured >= kMinMeasured) {
      target.set_mass(plan.mass.defined() ? plan.mass.to(x.options()) : plan.mass);
      const Eval eval = target.evaluate(x);
      row.scale = local_scale(eval.score);
      is_exact_ = !eval.remainder.defined();
      Tensor log_weights = log_weights_.at(plan.level.index);
      if (record != nullptr) {
        row.step_size = plan.step_size;
        read_record(*record, log_weights, row);
      }
      log_weights = log_weights.defined() ? log_weights.index_select(0, finite) : log_weights;
      const Tensor settled = settle(target, {x, eval, {}}, log_weights, row);
      probe(target, settled, row);
    }
    result_.evaluations_per_chain += target.num_evaluations();
    return row;
  }

  void read_record(const Record& record, const Tensor& log_weights, LevelDiagnosis& row) const {
    row.num_steps = record.num_steps;
    row.num_proposals = record.num_proposals;
    row.num_invalid = record.num_invalid.item<int64_t>();
    row.acceptance = record.num_accepted.item<double>() / static_cast<double>(record.num_proposals);
    const auto d = static_cast<double>(record.x[0].numel());
    row.squared_jump = record.square_jump.item<double>() / static_cast<double>(record.num_steps) /
                       (d * row.scale * row.scale);
    if (recorder_->is_adjusted()) {
      row.lag = balance_residual(record.log_accept, log_weights);
    }
  }

  // More steps at the level, so that the rest is measured in its equilibrium: what the pilot's
  // particles lack of it is row.lag. Moves at a fixed level leave weights as they are.
  Tensor settle(const Target& target, ChainState state, const Tensor& log_weights,
                LevelDiagnosis& row) const {
    if (row.num_steps == 0 || !recorder_->is_adjusted()) {
      return state.x;
    }
    std::vector<Tensor> log_accepts;
    for (int64_t i = 0; i < config_.num_settle; ++i) {
      Rng rng = rng_.split("settle").at(target.level().index, i);
      Step step = sampler_.kernel->step(target, state, row.step_size, rng);
      state = std::move(step.state);
      if (i >= config_.num_settle / 2) {
        log_accepts.push_back(step.info.log_accept);
      }
    }
    row.balance = balance_residual(at::stack(log_accepts, 1), log_weights);
    return state.x;
  }

  void probe(const Target& target, const Tensor& x, LevelDiagnosis& row) const {
    if (is_exact_) {
      return;
    }
    Rng rng = rng_.split("probe").at(target.level().index, 0);
    row.curl = curl_ratio(target, x, config_.num_probes, rng);
    if (row.num_steps == 0) {
      return;
    }
    const PathProbe paths = probe_paths(target, sampler_.kernel_config, row.step_size, x, rng);
    row.path_differences = paths.path_dependence;
    const auto tail = [](const Tensor& values) {
      return detail::quantile(detail::sorted_finite(values.abs()), kTail);
    };
    row.path_dependence = spread(detail::sorted_finite(paths.path_dependence));
    row.path_dependence_99 = tail(paths.path_dependence);
    row.reference_error = tail(paths.reference_error);
    if (paths.quadrature_error.defined()) {
      row.quadrature_error = tail(paths.quadrature_error);
      row.acceptance_error = paths.acceptance_error.nanmean().item<double>();
    }
  }

  void test_held_out() {
    const double rest = 1.0 - kPilotShare - kLevelsShare;
    result_.held_out = detail::held_out_test(
        *target_, schedule_, sampler_, result_.levels.back().scale, config_, rng_.split("held out"),
        [&](double fraction) { return goes_on(1.0 - rest + rest * fraction); });
    goes_on(1.0);
  }

  const ModelPtr& target_;
  const NoiseSchedule& schedule_;
  const Sampler& sampler_;
  const DiagnoseConfig& config_;
  Rng rng_;
  const DiagnoseObserver& observer_;
  bool moves_;
  bool is_exact_ = false;
  std::shared_ptr<RecordingKernel> recorder_;
  std::set<int64_t> probed_;
  std::map<int64_t, Tensor> entries_;      // by the level's index, as the two below
  std::map<int64_t, Tensor> log_weights_;  // undefined without weights
  std::map<int64_t, double> ess_;
  Diagnosis result_;
};

}  // namespace

Diagnosis diagnose(const ModelPtr& target, const NoiseSchedule& schedule, const Sampler& sampler,
                   const DiagnoseConfig& config, const Rng& rng, const DiagnoseObserver& observer) {
  check(config);
  return Diagnoser(target, schedule, sampler, config, rng, observer).run();
}

}  // namespace motet
