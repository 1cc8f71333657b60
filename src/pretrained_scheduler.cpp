// scheduler_config.json of diffusers 0.42.1 -> noise levels, times and what the network predicts.
// Their schedules are computed in float32, and networks were trained on just those numbers: the
// same operations in float32 give them here. Settings that only tell a sampler of diffusers how to
// walk (timestep_spacing, solver_order, ...) are allowed and of no matter.
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "error_shape.hpp"
#include "json_object.hpp"
#include "motet/error.hpp"
#include "pretrained_detail.hpp"

namespace motet::detail {
namespace {

constexpr int64_t kMaxLevels = 100000;

// Defaults of a scheduler where its file leaves them out.
struct SchedulerKind {
  const char* name;
  double beta_start;
  double beta_end;
  bool clips;
};
constexpr std::array<SchedulerKind, 14> kKinds = {{
    {"DDPMScheduler", 1e-4, 0.02, true},
    {"DDPMParallelScheduler", 1e-4, 0.02, true},
    {"DDIMScheduler", 1e-4, 0.02, true},
    {"DDIMParallelScheduler", 1e-4, 0.02, true},
    {"PNDMScheduler", 1e-4, 0.02, false},
    {"DPMSolverMultistepScheduler", 1e-4, 0.02, false},
    {"DPMSolverSinglestepScheduler", 1e-4, 0.02, false},
    {"UniPCMultistepScheduler", 1e-4, 0.02, false},
    {"DEISMultistepScheduler", 1e-4, 0.02, false},
    {"EulerDiscreteScheduler", 1e-4, 0.02, false},
    {"EulerAncestralDiscreteScheduler", 1e-4, 0.02, false},
    {"LMSDiscreteScheduler", 1e-4, 0.02, false},
    {"HeunDiscreteScheduler", 0.00085, 0.012, false},
    {"KDPM2DiscreteScheduler", 0.00085, 0.012, false},
}};
constexpr const char* kExploding = "ScoreSdeVeScheduler";

// Of samplers only; the last two are of old versions.
const std::vector<std::string>& sampler_keys() {
  static const std::vector<std::string> keys = {"clip_sample_range",  "dynamic_thresholding_ratio",
                                                "sample_max_value",   "timestep_spacing",
                                                "steps_offset",       "set_alpha_to_one",
                                                "skip_prk_steps",     "solver_order",
                                                "algorithm_type",     "solver_type",
                                                "lower_order_final",  "euler_at_final",
                                                "use_karras_sigmas",  "use_exponential_sigmas",
                                                "use_beta_sigmas",    "use_lu_lambdas",
                                                "flow_shift",         "final_sigmas_type",
                                                "lambda_min_clipped", "use_dynamic_shifting",
                                                "time_shift_type",    "predict_x0",
                                                "disable_corrector",  "solver_p",
                                                "shift_terminal",     "interpolation_type",
                                                "timestep_type",      "sigma_min",
                                                "sigma_max",          "snr",
                                                "sampling_eps",       "correct_steps",
                                                "tensor_format",      "timestep_values"};
  return keys;
}

[[noreturn]] void refuse(const std::string& where, const std::string& text) {
  throw ConfigError(where + ": " + text);
}

// Betas of a law of alpha_bar on [0, 1], cut at 0.999.
template <class Function>
at::Tensor betas_of(int64_t num_levels, const Function& alpha_bar) {
  std::vector<double> betas;
  for (int64_t t = 0; t < num_levels; ++t) {
    const double low = static_cast<double>(t) / static_cast<double>(num_levels);
    const double high = static_cast<double>(t + 1) / static_cast<double>(num_levels);
    betas.push_back(std::min(1.0 - alpha_bar(high) / alpha_bar(low), 0.999));
  }
  return at::tensor(betas, at::kFloat);
}

double cosine_alpha_bar(double u) {
  const double cosine = std::cos((u + 0.008) / 1.008 * M_PI / 2.0);
  return cosine * cosine;
}

double laplace_alpha_bar(double u) {
  const double half_log =
      -0.5 * std::copysign(1.0, 0.5 - u) * std::log(1.0 - 2.0 * std::abs(0.5 - u) + 1e-6);
  const double ratio = std::exp(half_log);
  return std::sqrt(ratio / (1.0 + ratio));
}

at::Tensor betas_by_name(const std::string& name, double first, double last, int64_t num_levels) {
  const auto line = [num_levels](double low, double high) {
    return at::linspace(low, high, num_levels, at::kFloat);
  };
  if (name == "linear") {
    return line(first, last);
  }
  if (name == "scaled_linear") {
    return line(std::sqrt(first), std::sqrt(last)).square();
  }
  if (name == "squaredcos_cap_v2") {
    return betas_of(num_levels, cosine_alpha_bar);
  }
  if (name == "laplace") {
    return betas_of(num_levels, laplace_alpha_bar);
  }
  if (name == "exp") {
    return betas_of(num_levels, [](double u) { return std::exp(-12.0 * u); });
  }
  return line(-6.0, 6.0).sigmoid() * (last - first) + first;  // sigmoid
}

// Moves sqrt(alpha_bar) so that the last is 0 (Lin et al. 2023, algorithm 1).
at::Tensor with_zero_snr(const at::Tensor& betas) {
  const at::Tensor roots = at::cumprod(1.0 - betas, 0).sqrt();
  const at::Tensor first = roots[0];
  const at::Tensor last = roots[-1];
  const at::Tensor alpha_bars = ((roots - last) * (first / (first - last))).square();
  const at::Tensor alphas = alpha_bars.slice(0, 1) / alpha_bars.slice(0, 0, -1);
  return 1.0 - at::cat({alpha_bars.slice(0, 0, 1), alphas});
}

at::Tensor read_betas(JsonObject& object, const SchedulerKind& kind) {
  const int64_t num_levels = object.integer("num_train_timesteps", 1000, 1, kMaxLevels);
  const double first = object.number("beta_start", kind.beta_start, 0.0, 1.0);
  const double last = object.number("beta_end", kind.beta_end, 0.0, 1.0);
  const std::string name =
      object.text("beta_schedule", "linear",
                  {"linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace", "exp"});
  const auto trained = object.numbers("trained_betas", 0.0, 1.0, static_cast<size_t>(kMaxLevels));
  if (trained && static_cast<int64_t>(trained->size()) != num_levels) {
    object.fail("trained_betas",
                "must have as many entries as num_train_timesteps = " + std::to_string(num_levels));
  }
  const at::Tensor betas =
      trained ? at::tensor(*trained, at::kFloat) : betas_by_name(name, first, last, num_levels);
  return object.boolean("rescale_betas_zero_snr", false) ? with_zero_snr(betas) : betas;
}

// The levels of betas; one whose alpha_bar is 0 is pure noise, no level of motet's, and left out.
void set_levels(OutputSpec& output, const at::Tensor& betas, const std::string& where) {
  const at::Tensor cumulated = at::cumprod(1.0 - betas, 0).to(at::kDouble).contiguous();
  const double* data = cumulated.data_ptr<double>();
  std::vector<double> alpha_bars(data, data + cumulated.numel());
  if (alpha_bars.back() == 0.0) {
    alpha_bars.pop_back();
  }
  for (size_t t = 0; t < alpha_bars.size(); ++t) {
    output.times.push_back(static_cast<double>(t));
  }
  try {
    output.schedule = NoiseSchedule::from_alpha_bars(std::move(alpha_bars));
  } catch (const ConfigError& error) {
    throw DataError(where + ": gives no noise schedule: " + error.what());
  }
}

// sigma from sigma_min to sigma_max in equal steps of log sigma; the network sees x_0 + sigma n,
// its time is sigma, and it gives the score of that (Song et al. 2021).
OutputSpec exploding(JsonObject& object) {
  const int64_t num_levels = object.integer("num_train_timesteps", 2000, 2, kMaxLevels);
  const double low = object.number("sigma_min", 0.01, 1e-6, 1e6);
  const double high = object.number("sigma_max", 1348.0, 1e-6, 1e6);
  if (!(low < high)) {
    object.fail("sigma_max", "must be above sigma_min");
  }
  object.allow(sampler_keys());
  object.finish();
  OutputSpec output{.prediction = Prediction::score,
                    .coordinates = Coordinates::variance_exploding,
                    .schedule = NoiseSchedule::from_alpha_bars({0.5}),
                    .times = {}};
  std::vector<double> alpha_bars;
  for (int64_t t = 0; t < num_levels; ++t) {
    const double share = static_cast<double>(t) / static_cast<double>(num_levels - 1);
    const double sigma = std::exp(std::log(low) + share * (std::log(high) - std::log(low)));
    output.times.push_back(sigma);
    alpha_bars.push_back(1.0 / (1.0 + sigma * sigma));
  }
  output.schedule = NoiseSchedule::from_alpha_bars(std::move(alpha_bars));
  return output;
}

const SchedulerKind& kind_of(const std::string& name, const std::string& where) {
  std::string known;
  for (const SchedulerKind& kind : kKinds) {
    if (name == kind.name) {
      return kind;
    }
    known += std::string(kind.name) + ", ";
  }
  refuse(where, "_class_name = " + quoted_text(name) +
                    ", whose noise motet does not know; known: " + known + kExploding);
}

std::string clipping_of(JsonObject& object, const SchedulerKind& kind) {
  const bool is_given = object.has("clip_sample");
  const bool clips = object.boolean("clip_sample", kind.clips);
  if (object.boolean("thresholding", false)) {
    return "thresholding is true";
  }
  return !clips ? ""
                : "clip_sample is true" +
                      (is_given ? "" : " (the default of " + std::string(kind.name) + ")");
}

}  // namespace

SchedulerConfig scheduler_config(const nlohmann::json& json, const std::string& where) {
  JsonObject object(json, where);
  const std::string name = object.text("_class_name", "");
  if (name == kExploding) {
    return {.output = exploding(object), .clipping = ""};
  }
  const SchedulerKind& kind = kind_of(name, where);
  const std::string prediction = object.text("prediction_type", "epsilon");
  // The last two are motet's own: it writes them for the energies that it trains.
  static const std::array<const char*, 5> kTypes = {"epsilon", "sample", "v_prediction",
                                                    "energy_norm", "energy_residual"};
  if (std::find(kTypes.begin(), kTypes.end(), prediction) == kTypes.end()) {
    refuse(where, "prediction_type = " + quoted_text(prediction) +
                      ", must be one of \"epsilon\", \"sample\", \"v_prediction\", "
                      "\"energy_norm\", \"energy_residual\"");
  }
  if (object.boolean("use_flow_sigmas", false)) {
    refuse(where, "use_flow_sigmas is true: the network was trained on flows, not on noise levels");
  }
  object.text("variance_type", "",
              {"fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned",
               "learned_range"});
  SchedulerConfig config{.output = {.prediction = prediction_from(prediction),
                                    .schedule = NoiseSchedule::from_alpha_bars({0.5}),
                                    .times = {}},
                         .clipping = clipping_of(object, kind)};
  const at::Tensor betas = read_betas(object, kind);
  object.allow(sampler_keys());
  object.finish();
  set_levels(config.output, betas, where);
  return config;
}

}  // namespace motet::detail
