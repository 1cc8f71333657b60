// The annealing driver. Levels fall from high noise to low; at each the kernel takes its steps, and
// between level a and the next level b the reverse process may take one ([S23] eq. 2-3), with
// alpha = abar_a / abar_b, beta = 1 - alpha:
//   ancestral  x_b ~ N((x + beta s) / sqrt(alpha), v),
//              v = beta or beta~ = beta (1 - abar_b) / (1 - abar_a)
//   ddim       x_b = sqrt(abar_b) x_0 + sigma_b eps,
//              x_0 = (x + sigma_a^2 s) / sqrt(abar_a),  eps = -sigma_a s
// The score at x is known from the MCMC, so the reverse step is free. Random numbers are placed by
// (level, step), so that a resumed run draws what an uninterrupted one would.
#include "motet/anneal.hpp"

#include <torch/types.h>

#include <cmath>
#include <limits>
#include <sstream>

#include "anneal_crossing.hpp"
#include "anneal_last_map.hpp"
#include "anneal_mass.hpp"
#include "anneal_pilot.hpp"
#include "anneal_weights.hpp"
#include "model_rows.hpp"
#include "motet/compose.hpp"
#include "motet/error.hpp"

namespace motet {
namespace {

[[noreturn]] void fail_level(size_t position, const LevelPlan& plan, const std::string& problem) {
  throw ConfigError("anneal: level " + std::to_string(plan.level.index) + " (position " +
                    std::to_string(position) + " of the plan): " + problem);
}

void check_plan(const AnnealConfig& config, const NoiseSchedule& schedule,
                const KernelPtr& kernel) {
  if (config.levels.empty()) {
    throw ConfigError("anneal: levels is empty; give at least one noise level");
  }
  for (size_t i = 0; i < config.levels.size(); ++i) {
    const LevelPlan& plan = config.levels[i];
    if (schedule.level(plan.level.index).alpha_bar != plan.level.alpha_bar) {
      fail_level(i, plan, "alpha_bar is not that of " + schedule.describe());
    }
    if (i > 0 && plan.level.index >= config.levels[i - 1].level.index) {
      fail_level(i, plan,
                 "levels must fall, but the one before it is " +
                     std::to_string(config.levels[i - 1].level.index));
    }
    if (plan.num_steps < 0) {
      fail_level(i, plan, "num_steps = " + std::to_string(plan.num_steps) + ", must be >= 0");
    }
    if (plan.num_steps == 0 || config.placement == Placement::none) {
      continue;
    }
    if (!config.adapt && (!(plan.step_size > 0.0) || !std::isfinite(plan.step_size))) {
      fail_level(i, plan,
                 "step_size = " + std::to_string(plan.step_size) + ", must be > 0 and finite");
    }
    if (kernel == nullptr) {
      fail_level(i, plan, "has MCMC steps, but no kernel is given; give one, or placement none");
    }
  }
}

void check_model(const ModelPtr& model, const NoiseSchedule& schedule) {
  if (model == nullptr) {
    throw ConfigError("anneal: no model given (null), must be a model");
  }
  const auto trained = model->schedule();
  if (trained && !trained->same_levels(schedule)) {
    throw ConfigError("anneal: \"" + model->describe() + "\" was trained for " +
                      trained->describe() + ", but the run uses " + schedule.describe() +
                      "; use the model's schedule");
  }
}

void check_start(const Tensor& x, const Model& model) {
  const auto event = model.event_shape();
  if (!x.defined() || x.dim() != static_cast<int64_t>(event.size()) + 1 ||
      x.sizes().slice(1) != at::IntArrayRef(event) || !x.is_floating_point()) {
    std::ostringstream text;
    text << "anneal: x_init must be a floating-point tensor (batch, event) with event shape "
         << at::IntArrayRef(event) << " for \"" << model.describe() << "\"";
    if (x.defined()) {
      text << ", but is " << x.scalar_type() << " of shape " << x.sizes();
    }
    throw ShapeError(text.str());
  }
}

Tensor reverse_mean(const Tensor& x, const Tensor& score, double weight, double scale) {
  return x.add(score, weight).mul_(scale);
}

// Rows of `like` times their own factor; all of them when it is undefined.
Tensor times_rows(const Tensor& like, const Tensor& factor) {
  return factor.defined() ? like * detail::as_rows(factor.to(like.scalar_type()), like) : like;
}

// `share` (B) of the step, or all of it where that is undefined: drift and variance alike.
Tensor reverse_step(const ChainState& chains, const NoiseLevel& from, const NoiseLevel& to,
                    ReverseStep kind, const Tensor& share, Rng& rng) {
  const Tensor score = times_rows(chains.eval.score, share);
  const double alpha = from.alpha_bar / to.alpha_bar;
  const double beta = 1.0 - alpha;
  if (kind == ReverseStep::ddim) {
    // sqrt(abar_b) x_0 + sigma_b eps, collected in x and s.
    const double scale = 1.0 / std::sqrt(alpha);
    const double weight = from.sigma() * (from.sigma() - to.sigma() / scale);
    return reverse_mean(chains.x, score, weight, scale);
  }
  const double variance = detail::reverse_variance(from, to, kind);
  const Tensor noise =
      times_rows(rng.normal_like(chains.x), share.defined() ? share.sqrt() : Tensor());
  return reverse_mean(chains.x, score, beta, 1.0 / std::sqrt(alpha))
      .add_(noise, std::sqrt(variance));
}

// Mean over the rows of |row|^2.
double mean_square(const Tensor& x) { return detail::square_norm(x).mean().item<double>(); }

// One call of anneal(): the loop's fixed inputs and its state.
class Annealer {
 public:
  Annealer(const ModelPtr& model, const KernelPtr& kernel, const AnnealConfig& config,
           const Rng& rng, const Observer& observer, AnnealState state)
      : model_(model),
        kernel_(kernel),
        config_(config),
        rng_(rng),
        reverse_rng_(rng.split("reverse")),
        resample_rng_(rng.split("resample")),
        observer_(observer),
        state_(std::move(state)) {}

  SampleResult run() {
    while (state_.level_position < num_levels()) {
      run_level();
    }
    SampleResult result;
    result.x = state_.chains.x;
    result.levels = state_.levels;
    result.shares = shares_;
    result.network_seconds = state_.network_seconds;
    report_weights(result);
    for (const LevelStats& level : state_.levels) {
      result.evaluations_per_chain += level.evaluations;
    }
    return result;
  }

 private:
  int64_t num_levels() const { return static_cast<int64_t>(config_.levels.size()); }

  int64_t num_steps_here() const {
    const bool skips =
        config_.placement == Placement::none ||
        (config_.placement == Placement::after_reverse && state_.level_position == 0);
    return skips ? 0 : config_.levels[position()].num_steps;
  }

  size_t position() const { return static_cast<size_t>(state_.level_position); }
  LevelStats& stats() { return state_.levels[position()]; }

  void run_level() {
    const LevelPlan& plan = config_.levels[position()];
    Target target(model_, plan.level);
    evaluations_booked_ = 0;
    seconds_booked_ = 0.0;
    if (config_.weights && state_.step == 0) {
      update_weights(target);
    }
    const int64_t num_steps = num_steps_here();
    if (num_steps > 0) {
      ensure_evaluated(target);
      use_mass(target);
    }
    while (state_.step < num_steps) {
      Rng rng = rng_.at(plan.level.index, state_.step);
      const double step_size = config_.adapt ? adapted_step_size() : plan.step_size;
      Step step = kernel_->step(target, state_.chains, step_size, rng);
      const bool is_last_step = state_.step + 1 == num_steps;
      if (is_last_step) {
        stats().squared_jump = mean_square(step.state.x - state_.chains.x);
      }
      state_.chains = std::move(step.state);
      if (is_last_step && config_.weights && config_.weights->matched) {
        note_divergence(step);
      }
      if (config_.adapt) {
        adapt_to(step.info);
      }
      state_.num_accepted = state_.num_accepted + step.info.accepted.sum();
      state_.num_invalid = state_.num_invalid + step.info.num_invalid;
      ++state_.step;
      book_costs(target);
      if (state_.step < num_steps) {
        notify();
      }
    }
    leave_level(target);
    notify();
  }

  // Between levels momenta are those of unit mass.
  void use_mass(Target& target) {
    const bool is_sought = config_.adapt && config_.adapt->diagonal_mass;
    if (is_sought && state_.step == 0) {
      stats().mass = detail::diagonal_mass(state_.chains.eval.score);
    }
    const Tensor& mass = is_sought ? stats().mass : config_.levels[position()].mass;
    target.set_mass(mass.defined() ? mass.to(state_.chains.x.options()) : mass);
    if (state_.step == 0) {
      detail::scale_momentum(target, 0.5, state_.chains);
    }
  }

  double adapted_step_size() {
    if (state_.adapt_scale == 0.0) {
      state_.adapt_scale = config_.adapt->start;
    }
    adapt_unit_ = 1.0 / std::sqrt(detail::inverse_square_scale(state_.chains.eval.score));
    return kernel_->step_size_for(state_.adapt_scale * adapt_unit_);
  }

  // The level keeps the step size as corrected by what was seen there: many levels have one step.
  void adapt_to(const StepInfo& info) {
    const double factor = detail::adapt_factor(*config_.adapt, info);
    state_.adapt_scale = std::min(state_.adapt_scale * factor, config_.adapt->cap);
    stats().step_size = kernel_->step_size_for(state_.adapt_scale * adapt_unit_);
  }

  void ensure_evaluated(const Target& target) {
    if (state_.chains.eval.score.defined()) {
      return;
    }
    const Tensor& ledger = state_.crossing.ledger;
    state_.chains.eval =
        ledger.defined() ? target.evaluate(state_.chains.x, ledger) : target.begin(state_.chains.x);
  }

  void note_divergence(const Step& step) {
    if (step.path.points.size() < 2) {
      return;
    }
    const Tensor unit = detail::island_medians(detail::square_norm(state_.chains.eval.score),
                                               config_.weights->island_size);
    const auto [value, error] = detail::divergence_estimate(step.path, step.info.accepted);
    // E |s|^2 = -E div s: a broken path says as much as none.
    state_.divergence = (value / unit).nan_to_num_(-1.0, -1.0, -1.0);
    state_.divergence_error = (error / unit).nan_to_num_(0.0, 0.0, 0.0);
  }

  detail::MatchedRate matched_rate(const NoiseLevel& level) const {
    return detail::matched_rate(state_.chains.eval, level, config_.weights->rule,
                                config_.weights->island_size, state_.drift_share, state_.divergence,
                                state_.divergence_error);
  }

  // Opens the way to the next level.
  void begin_weights(const NoiseLevel& level) {
    const WeightConfig& weights = *config_.weights;
    state_.weight_rate = detail::weight_rate(state_.chains.eval, level, weights.rule);
    if (weights.matched && state_.divergence.defined()) {
      state_.drift_share = detail::drift_share(state_.chains.eval, weights.island_size);
      const detail::MatchedRate matched = matched_rate(level);
      state_.weight_rate = state_.weight_rate + matched.gain;
      state_.weight_rate_error = matched.error;
    }
  }

  // What the way from the level before adds to log w: the trapezoid. An error e of it raises the
  // mean weight by exp(e^2 / 2), which is taken off.
  Tensor weight_increment(const NoiseLevel& before, const NoiseLevel& here) const {
    const WeightRule rule = config_.weights->rule;
    const double interval = 0.5 * detail::weight_interval(before, here, rule);
    const Tensor rates = state_.weight_rate + detail::weight_rate(state_.chains.eval, here, rule);
    if (!state_.drift_share.defined()) {
      return rates * interval;
    }
    const detail::MatchedRate matched = matched_rate(here);
    const Tensor error = (state_.weight_rate_error + matched.error) * interval;
    return (rates + matched.gain) * interval - 0.5 * error.square();
  }

  // Adds what the way from the level before is worth, then resamples the islands that need it. At
  // the last of them all do, so that equal weights are handed out and the MCMC there parts the
  // copies.
  void update_weights(const Target& target) {
    ensure_evaluated(target);
    const WeightConfig& weights = *config_.weights;
    if (state_.level_position == 0 || !has_weights_at(position())) {
      return;
    }
    const NoiseLevel& before = config_.levels[position() - 1].level;
    const Eval& eval = state_.chains.eval;
    state_.log_weights = state_.log_weights + weight_increment(before, target.level());
    const Tensor gain = detail::crossing_gain(state_.crossing, eval, before, target.level());
    if (gain.defined()) {
      state_.log_weights = state_.log_weights + gain;
    }
    if (eval.log_density.defined()) {  // outside a hard region
      constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();
      state_.log_weights =
          state_.log_weights.masked_fill(eval.log_density == kMinusInfinity, kMinusInfinity);
    }
    Rng rng = resample_rng_.at(target.level().index, 0);
    const bool is_last = !has_weights_at(position() + 1);
    const detail::ResampleResult result =
        detail::resample(state_.log_weights, weights,
                         rng.uniform(state_.chains.x.size(0), state_.chains.x), is_last);
    stats().ess = result.smallest_ess;
    stats().num_resampled = result.num_resampled;
    if (result.num_resampled > 0) {
      take_over(result.ancestors.to(state_.chains.x.device()));
      state_.log_weights = result.log_weights.to(state_.log_weights.device());
      state_.log_normalisers = state_.log_normalisers + result.log_normalisers;
    }
    stats().families = detail::smallest_families(state_.family, weights.island_size);
  }

  // Whether the level there takes weights; false past the last one.
  bool has_weights_at(size_t where) const {
    return where < config_.levels.size() &&
           config_.levels[where].level.index >= config_.weights->lowest_level;
  }

  void take_over(const Tensor& ancestors) {
    const auto taken = [&ancestors](const Tensor& rows) {
      return rows.defined() ? rows.index_select(0, ancestors) : rows;
    };
    ChainState& chains = state_.chains;
    chains.x = taken(chains.x);
    chains.momentum = taken(chains.momentum);
    chains.eval = detail::take_rows(chains.eval, ancestors);
    state_.family = taken(state_.family);
    state_.divergence = taken(state_.divergence);
    state_.divergence_error = taken(state_.divergence_error);
  }

  void report_weights(SampleResult& result) const {
    if (!config_.weights) {
      return;
    }
    result.log_normalisers = state_.log_normalisers;
    if (config_.weights->resampling == Resampling::none) {
      result.log_weights = state_.log_weights;
      result.log_normalisers = detail::log_means(state_.log_weights, config_.weights->island_size);
    }
  }

  // Moves the chains to the next level, or to the data, and closes the books of this one.
  void leave_level(const Target& target) {
    close_stats(target);
    const bool is_last = state_.level_position + 1 == num_levels();
    if (is_last && !target.tracked().empty()) {
      ensure_evaluated(target);
      const auto& model = dynamic_cast<const TrackingModel&>(target.model());
      shares_ = model.shares(state_.chains.eval, state_.chains.x, target.level());
    }
    const bool steps_back = !is_last && config_.placement != Placement::pure;
    if (steps_back || (is_last && config_.last_map != LastMap::none)) {
      ensure_evaluated(target);
      if (config_.weights && steps_back) {
        begin_weights(target.level());
      }
      const Tensor moved = is_last ? last_map_from(target) : reverse_step_from(target.level());
      count_broken(target, moved);
      if (steps_back) {
        state_.crossing =
            detail::cross(target, state_.chains, moved, next_level(), config_.reverse_step);
      }
      state_.chains.x = moved;
    }
    book_costs(target);
    detail::scale_momentum(target, -0.5, state_.chains);
    state_.chains.eval = {};
    state_.step = 0;
    ++state_.level_position;
    const auto counter = at::zeros({}, state_.chains.x.options().dtype(at::kLong));
    state_.num_accepted = counter;
    state_.num_invalid = counter;
  }

  Tensor last_map_from(const Target& target) {
    const detail::Mapped mapped =
        detail::last_map(model_, target, state_.chains, config_.last_map, config_.curvature);
    stats().evaluations += mapped.evaluations;
    state_.network_seconds += mapped.seconds;
    const Tensor stays = allowed(*model_, mapped.x);
    if (!stays.defined()) {
      return mapped.x;
    }
    // The map knows no walls; the chain's own place is inside.
    const Tensor bare = state_.chains.x / std::sqrt(target.level().alpha_bar);
    return at::where(detail::as_rows(stays, bare), mapped.x, bare);
  }

  const NoiseLevel& next_level() const { return config_.levels[position() + 1].level; }

  Tensor reverse_step_from(const NoiseLevel& here) {
    Rng rng = reverse_rng_.at(here.index, 0);
    return reverse_step(state_.chains, here, next_level(), config_.reverse_step, state_.drift_share,
                        rng);
  }

  void book_costs(const Target& target) {
    stats().evaluations += target.num_evaluations() - evaluations_booked_;
    state_.network_seconds += target.seconds() - seconds_booked_;
    evaluations_booked_ = target.num_evaluations();
    seconds_booked_ = target.seconds();
  }

  void close_stats(const Target& target) {
    LevelStats& level = stats();
    level.num_steps = state_.step;
    level.num_proposals = state_.step * state_.chains.x.size(0);
    level.num_accepted = state_.num_accepted.item<int64_t>();
    level.num_invalid = state_.num_invalid.item<int64_t>();
    if (level.num_proposals > 0 && level.num_invalid == level.num_proposals) {
      std::ostringstream step_size;
      step_size << ", step_size " << config_.levels[position()].step_size;
      fail_invalid(target, step_size.str() + ": every proposal was invalid",
                   "the step size is too large: lower it");
    }
  }

  // A proposal that breaks is rejected; a chain that the move between levels breaks has nowhere to
  // stay. It goes on as it is and is counted here, once.
  void count_broken(const Target& target, const Tensor& moved) {
    const Tensor is_finite = detail::finite_rows(moved);
    if (moved.size(0) > 0 && !is_finite.any().item<bool>()) {
      fail_invalid(target, ": no chain is finite after the move out of it",
                   "the move overflowed: check the plan's levels");
    }
    const Tensor broken =
        detail::finite_rows(state_.chains.x).logical_and_(is_finite.logical_not());
    stats().num_invalid += broken.sum().item<int64_t>();
  }

  [[noreturn]] void fail_invalid(const Target& target, const std::string& problem,
                                 const std::string& cause_in_motion) const {
    std::string text =
        "anneal: level " + std::to_string(target.level().index) + problem + " (NaN or infinite)";
    // Only where chains are finite can a factor be told from what came before it.
    const Tensor& x = state_.chains.x;
    const Tensor finite = x.index_select(0, detail::finite_rows(x).nonzero().squeeze(1));
    const std::string term = first_invalid_term(*model_, finite, target.level());
    if (term.empty()) {
      text += "; the scores at the chains are finite, so " + cause_in_motion;
    } else {
      text += "; first bad term: \"" + term + "\": check its weights and inputs";
    }
    throw NumericalError(text);
  }

  void notify() const {
    if (observer_ && !observer_(state_)) {
      throw Interrupted("anneal: stopped by the observer at position " +
                        std::to_string(state_.level_position) + ", step " +
                        std::to_string(state_.step));
    }
  }

  const ModelPtr& model_;
  const KernelPtr& kernel_;
  const AnnealConfig& config_;
  Rng rng_;
  Rng reverse_rng_;
  Rng resample_rng_;
  const Observer& observer_;
  AnnealState state_;
  int64_t evaluations_booked_ = 0;
  double seconds_booked_ = 0.0;
  Tensor shares_;            // of SampleResult
  double adapt_unit_ = 0.0;  // 1 / sqrt(F) of AdaptConfig at the last step
};

AnnealState fresh_state(const AnnealConfig& config, const Tensor& x_init) {
  AnnealState state;
  state.chains.x = x_init;
  const auto counter = at::zeros({}, x_init.options().dtype(at::kLong));
  state.num_accepted = counter;
  state.num_invalid = counter;
  if (config.weights) {
    const int64_t num_chains = x_init.size(0);
    const int64_t island = config.weights->island_size;
    state.log_weights = at::zeros({num_chains}, x_init.options().dtype(at::kDouble));
    state.family = at::arange(num_chains, x_init.options().dtype(at::kLong));
    state.log_normalisers = at::zeros({(num_chains + island - 1) / island}, at::kDouble);
  }
  for (const LevelPlan& plan : config.levels) {
    LevelStats stats;
    stats.index = plan.level.index;
    stats.step_size = plan.step_size;
    state.levels.push_back(stats);
  }
  return state;
}

void check_resume(const AnnealState& state, const AnnealConfig& config) {
  if (state.levels.size() != config.levels.size()) {
    throw ConfigError("anneal: the state to resume has " + std::to_string(state.levels.size()) +
                      " levels, but the plan has " + std::to_string(config.levels.size()) +
                      "; resume with the plan it was saved under");
  }
  const auto num_levels = static_cast<int64_t>(config.levels.size());
  if (state.level_position < 0 || state.level_position > num_levels || state.step < 0 ||
      !state.num_accepted.defined() || !state.num_invalid.defined()) {
    throw ConfigError(
        "anneal: the state to resume is at position " + std::to_string(state.level_position) +
        ", step " + std::to_string(state.step) +
        (state.num_accepted.defined() && state.num_invalid.defined() ? ""
                                                                     : " and lacks its counters") +
        "; give a state as anneal() hands to its observer");
  }
}

}  // namespace

double LevelStats::acceptance() const {
  return num_proposals == 0
             ? std::numeric_limits<double>::quiet_NaN()
             : static_cast<double>(num_accepted) / static_cast<double>(num_proposals);
}

double power_step_size(double factor, double power, const NoiseLevel& level) {
  return factor * std::pow(level.beta, power);
}

SampleResult anneal(const ModelPtr& model, const NoiseSchedule& schedule, const KernelPtr& kernel,
                    const AnnealConfig& config, const Tensor& x_init, const Rng& rng,
                    const Observer& observer, const AnnealState* resume) {
  check_model(model, schedule);
  check_plan(config, schedule, kernel);
  detail::check_masses(config, kernel, *model);
  detail::check_weights(config, rng);
  detail::check_curvature(config, model);
  detail::check_crossings(config, *model);
  check_start(resume == nullptr ? x_init : resume->chains.x, *model);
  if (resume != nullptr) {
    check_resume(*resume, config);
  }
  const at::NoGradGuard no_grad;
  AnnealState state = resume == nullptr ? fresh_state(config, x_init.detach()) : *resume;
  return Annealer(model, kernel, config, rng, observer, std::move(state)).run();
}

TuneResult tune(const ModelPtr& model, const NoiseSchedule& schedule, const KernelPtr& kernel,
                const AnnealConfig& config, const Tensor& x_init, const Rng& rng,
                const Observer& observer) {
  AnnealConfig pilot = config;
  pilot.adapt = config.adapt.value_or(AdaptConfig{});
  pilot.last_map = LastMap::none;  // the chains stay at the last level, where k is measured
  TuneResult result{config, anneal(model, schedule, kernel, pilot, x_init, rng, observer)};
  AnnealConfig& fixed = result.config;
  fixed.adapt.reset();
  for (size_t i = 0; i < fixed.levels.size(); ++i) {
    fixed.levels[i].step_size = result.pilot.levels[i].step_size;
    const Tensor& mass = result.pilot.levels[i].mass;
    fixed.levels[i].mass = mass.defined() ? mass : fixed.levels[i].mass;
  }
  const Traits found = traits(*model);
  // Components of a mixture, and directions that a likelihood knows and others, have widths of their
  // own: there each chain's own curvature serves better than a median.
  const bool has_one_width = !found.has_mixture && !found.is_conditioned && !found.is_tracked;
  if (config.last_map == LastMap::curvature && config.curvature.empty() && x_init.size(0) > 0 &&
      has_one_width) {
    const at::NoGradGuard no_grad;
    const Target target(model, config.levels.back().level);
    fixed.curvature = detail::factor_curvatures(model, target, result.pilot.x);
    result.pilot.evaluations_per_chain += 2;
  }
  return result;
}

}  // namespace motet
