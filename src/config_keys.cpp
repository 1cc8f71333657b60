// What a config may say: one row a key. docs/config.md is generated from these tables.
#include "config_keys.hpp"

#include "config_classes.hpp"
#include "config_images.hpp"
#include "config_laws.hpp"
#include "config_pretrained.hpp"
#include "config_tapestry.hpp"
#include "motet/preset.hpp"
#include "motet/train.hpp"

namespace motet::detail {
namespace {

using enum KeyType;

constexpr Range kNonNegative{.low = 0.0};
constexpr Range kOpenUnit{.low = 0.0, .high = 1.0, .low_open = true, .high_open = true};
constexpr Range kDecay{.low = 0.0, .high = 1.0, .high_open = true};

std::vector<Key> schedule_keys() {
  return {
      {.name = "schedule.type",
       .types = {text},
       .fallback = "\"cosine\"",
       .choices = {"cosine", "linear", "scaled_linear", "alpha_bars"},
       .doc = "noise schedule; a network's own schedule is used where [schedule] is absent"},
      {.name = "schedule.num_levels",
       .types = {integer},
       .fallback = "100",
       .range = counts(2, 100000),
       .doc = "number of noise levels",
       .only_with = {"schedule.type", {"cosine", "linear", "scaled_linear"}}},
      {.name = "schedule.offset",
       .types = {number},
       .fallback = "0.008",
       .range = {.low = 0.0, .high = 1.0},
       .doc = "cosine: s of Nichol and Dhariwal 2021, eq. 17",
       .only_with = {"schedule.type", {"cosine"}}},
      {.name = "schedule.max_beta",
       .types = {number},
       .fallback = "0.999",
       .range = kOpenUnit,
       .doc = "cosine: beta is clipped here",
       .only_with = {"schedule.type", {"cosine"}}},
      {.name = "schedule.beta_first",
       .types = {number},
       .range = kOpenUnit,
       .doc = "linear, scaled_linear: beta of level 0"},
      {.name = "schedule.beta_last",
       .types = {number},
       .range = kOpenUnit,
       .doc = "linear, scaled_linear: beta of the last level"},
      {.name = "schedule.alpha_bars",
       .types = {numbers},
       .range = kOpenUnit,
       .doc = "alpha_bars: strictly falling, level 0 first"},
  };
}

std::vector<Key> checkpoint_keys() {
  return {
      {.name = "checkpoint.every_seconds",
       .types = {number},
       .fallback = "120.0",
       .range = kPositive,
       .doc = "seconds between checkpoints",
       .changes_result = false},
      {.name = "checkpoint.every_steps",
       .types = {integer},
       .fallback = "0",
       .range = counts(0),
       .doc = "steps between checkpoints, besides every_seconds; 0: only every_seconds",
       .changes_result = false},
      {.name = "checkpoint.path",
       .types = {text},
       .doc = "checkpoint file, relative to the config; default: the first output file + "
              "\".checkpoint\"",
       .changes_result = false},
  };
}

std::vector<Key> run_keys() {
  return {
      {.name = "target",
       .types = {text},
       .doc =
           "what to sample, as an expression of [model.NAME] tables, laws by name and weights "
           "files in quotes: \"ring * bar^0.5\" (docs/expressions.md); absent: the product of all "
           "[model.NAME]"},
      {.name = "num_samples",
       .types = {integer},
       .fallback = "2000",
       .range = counts(1),
       .doc = "chains, one sample each"},
      {.name = "seed",
       .types = {integer},
       .fallback = "0",
       .range = {.low = 0.0},
       .doc = "of every random number; chain i is the same for any num_samples"},
      {.name = "sampler",
       .types = {text},
       .fallback = "\"exact\"",
       .choices = sampler_names(),
       .doc = "\"exact\": motet's own, weighted and tuned by itself (docs/method.md); the others: "
              "the published table's"},
      {.name = "evaluations",
       .types = {integer},
       .range = counts(static_cast<double>(kMinEvaluations)),
       .doc = "sampler \"exact\": evaluations of every factor that one chain may cost (105)"},
      {.name = "preset",
       .types = {text},
       .fallback = "\"corrected\"",
       .choices = preset_names(),
       .doc = "\"paper\" follows the reference code to the letter, \"corrected\" does the same "
              "samplers right (docs/reproduction.md)"},
      {.name = "compute",
       .types = {text},
       .fallback = "\"float32\"",
       .choices = {"reference", "float32", "bfloat16"},
       .doc = "arithmetic of the networks; bfloat16 on a CPU without AMX runs in float32, with a "
              "warning, and compute_used in the run's JSON says so"},
      {.name = "device",
       .types = {text},
       .fallback = "\"cpu\"",
       .choices = {"cpu", "cuda"},
       .doc = "where chains and networks live"},
      {.name = "tile_size",
       .types = {integer},
       .fallback = "8192",
       .range = counts(1, 1 << 24),
       .doc = "chains in memory at a time; samples do not depend on it"},
  };
}

std::vector<Key> model_keys() {
  std::vector<Key> keys = {
      {.name = "model.*.weights",
       .types = {text},
       .doc = "a trained network, relative to the config: a weights file, a folder of diffusers or "
              "guided-diffusion, an exported program (docs/loading.md)"},
      {.name = "model.*.expression",
       .types = {text},
       .doc = "an expression that target, or another expression, uses by this name"},
      {.name = "model.*.exponent",
       .types = {number},
       .doc = "power of this factor in the product (1.0); negative: negation; with target, powers "
              "stand there"},
      {.name = "model.*.score_only",
       .types = {boolean},
       .doc = "hide the factor's log density, so that ratios integrate its score (false)"},
  };
  const std::vector<Key> pretrained = pretrained_keys("model.*");
  keys.insert(keys.end(), pretrained.begin(), pretrained.end());
  const std::vector<Key> law = law_keys("model.*", "an analytic law instead of a network");
  keys.insert(keys.end(), law.begin(), law.end());
  const std::vector<Key> likelihood = likelihood_keys();
  keys.insert(keys.end(), likelihood.begin(), likelihood.end());
  const std::vector<Key> classifier = classifier_keys("model.*");
  keys.insert(keys.end(), classifier.begin(), classifier.end());
  return keys;
}

std::vector<Key> kernel_keys() {
  return {
      {.name = "kernel.type",
       .types = {text},
       .choices = {"ula", "mala", "uhmc", "hmc", "hmc-unflipped"},
       .doc = "Markov kernel; hmc-unflipped keeps the momentum of a rejected step and leaves the "
              "target NOT invariant: only for the published table"},
      {.name = "kernel.num_leapfrog",
       .types = {integer},
       .range = counts(1, 10000),
       .doc = "uhmc, hmc: leapfrog steps of a trajectory"},
      {.name = "kernel.damping",
       .types = {number},
       .range = {.low = 0.0, .high = 1.0},
       .doc = "uhmc, hmc: gamma of v' = gamma v + sqrt(1 - gamma^2) n; 0 draws afresh"},
      {.name = "kernel.mass",
       .types = {numbers, rows},
       .range = kPositive,
       .doc = "uhmc, hmc: diagonal mass, one entry a coordinate; or such a list for each level of "
              "the plan"},
      {.name = "kernel.step_size",
       .types = {number, numbers},
       .range = kPositive,
       .doc = "constant, or one a level of the plan; unit of x for uhmc and hmc, of x^2 for ula "
              "and mala"},
      {.name = "kernel.step_size.factor",
       .types = {number},
       .range = kPositive,
       .doc = "step size factor * beta^power"},
      {.name = "kernel.step_size.power", .types = {number}, .doc = "step size factor * beta^power"},
      {.name = "ratio.type",
       .types = {text},
       .choices = {"exact", "line", "curve"},
       .doc = "log density ratio of mala and hmc: difference of log densities, line integral on "
              "the straight segment, or along the leapfrog points"},
      {.name = "ratio.rule",
       .types = {text},
       .choices = {"trapezoid", "simpson", "gauss_lobatto", "polynomial"},
       .doc = "quadrature rule; line: trapezoid, simpson, gauss_lobatto; curve: trapezoid, "
              "polynomial"},
      {.name = "ratio.num_points",
       .types = {integer, integers},
       .range = counts(2, 64),
       .doc = "line: nodes, both ends included: one number, or one a level of the plan; absent, "
              "where a pilot run finds step sizes: found by it, by tune.tolerance"},
      {.name = "ratio.guard",
       .types = {number},
       .range = kNonNegative,
       .doc = "curve, polynomial: reject where it and the trapezoid differ by more, in nats; 0: "
              "never"},
  };
}

std::vector<Key> anneal_keys() {
  return {
      {.name = "anneal.levels",
       .types = {integers},
       .range = counts(0),
       .doc = "noise levels visited, falling"},
      {.name = "anneal.steps_per_level",
       .types = {integer, integers},
       .range = counts(0),
       .doc = "MCMC steps: one number, or one a level of the plan"},
      {.name = "anneal.placement",
       .types = {text},
       .choices = {"none", "pure", "after_reverse", "before_reverse"},
       .doc = "where MCMC goes relative to the reverse process"},
      {.name = "anneal.reverse_step",
       .types = {text},
       .choices = {"ancestral_beta_tilde", "ancestral_beta", "ddim"},
       .doc = "the reverse step from level to level"},
      {.name = "anneal.last_map",
       .types = {text},
       .choices = {"none", "rescale", "tweedie", "curvature"},
       .doc = "the map from the last level to the data"},
      {.name = "anneal.curvature",
       .types = {number, numbers},
       .doc = "last_map curvature: k of the target, or of each of its factors (1 more evaluation); "
              "absent: each chain's own"},
      {.name = "anneal.start",
       .types = {text},
       .choices = {"standard", "composition"},
       .doc = "law of the first chains: N(0, I), or N(0, sigma^2 / sum of the exponents)"},
      {.name = "weights.enabled",
       .types = {boolean},
       .doc = "Feynman-Kac weights along the reverse steps; false: none"},
      {.name = "weights.rule",
       .types = {text},
       .choices = {"v", "log_v"},
       .doc = "variable of the trapezoid that integrates them, v = (1 - alpha_bar) / alpha_bar"},
      {.name = "weights.resampling",
       .types = {text},
       .choices = {"none", "systematic", "stratified", "residual"},
       .doc = "how chains are drawn again in proportion to their weights"},
      {.name = "weights.ess_threshold",
       .types = {number},
       .range = {.low = 0.0, .high = 1.0},
       .doc = "an island resamples below this share of its size"},
      {.name = "weights.max_share",
       .types = {number},
       .range = kNonNegative,
       .doc = "a normalised weight is cut at max_share / island size; 0: never"},
      {.name = "weights.island_size",
       .types = {integer},
       .range = counts(2, 1 << 24),
       .doc = "chains that resample among themselves; islands are independent"},
      {.name = "weights.matched",
       .types = {boolean},
       .doc = "reverse steps cut to the share that needs least weighing (docs/method.md)"},
      {.name = "weights.lowest_level",
       .types = {integer},
       .range = counts(0, 100000),
       .doc = "levels below carry no weights, MCMC alone follows the law there; 0: all do; absent: "
              "0, or where the pilot run of \"exact\" sees few families left (docs/method.md)"},
      {.name = "tune.num_chains",
       .types = {integer},
       .range = counts(16, 1 << 24),
       .doc = "chains of the pilot run that finds step sizes (512)"},
      {.name = "tune.target_acceptance",
       .types = {number},
       .range = kOpenUnit,
       .doc = "acceptance that the pilot run aims at (0.8)"},
      {.name = "tune.rate",
       .types = {number},
       .range = kPositive,
       .doc = "the step size's factor c is multiplied by exp(rate (acceptance - target)) (1; 0.3 "
              "for trajectories of one leapfrog)"},
      {.name = "tune.start", .types = {number}, .range = kPositive, .doc = "first c (0.6)"},
      {.name = "tune.cap",
       .types = {number},
       .range = kPositive,
       .doc = "largest c (pi / 2 over num_leapfrog)"},
      {.name = "tune.tolerance",
       .types = {number},
       .range = kPositive,
       .doc = "line without num_points: error of the log ratio that may stay, in nats, at the 99 % "
              "quantile of a level's proposals (0.01); at most 16 points are tried"},
      {.name = "tune.mass",
       .types = {text},
       .choices = {"none", "diagonal"},
       .doc = "diagonal: the pilot run finds a diagonal mass for each level too, from the scores "
              "(none)"},
      {.name = "tune.max_disagreement",
       .types = {number},
       .range = {.low = 0.0, .high = 1.0, .low_open = true},
       .doc = "the step is also shortened until a rule of lower order changes the probability of "
              "acceptance by less, on average (0.01); 1: no bound"},
      {.name = "tuned.by",
       .types = {text},
       .doc = "written by motet tune: version and commit that found the numbers",
       .changes_result = false},
      {.name = "tuned.seed",
       .types = {integer},
       .range = {.low = 0.0},
       .doc = "written by motet tune: of its pilot run",
       .changes_result = false},
      {.name = "tuned.num_chains",
       .types = {integer},
       .range = counts(1),
       .doc = "written by motet tune: of its pilot run",
       .changes_result = false},
      {.name = "tuned.acceptance",
       .types = {numbers},
       .range = {.low = 0.0, .high = 1.0},
       .doc = "written by motet tune: of its pilot run, one a level with steps",
       .changes_result = false},
      {.name = "output.image_range",
       .types = {numbers},
       .fallback = "[-1.0, 1.0]",
       .doc = "pictures of images: the values drawn as black and as white",
       .changes_result = false,
       .with_table = true},
      {.name = "output.num_images",
       .types = {integer},
       .fallback = "64",
       .range = counts(1, 4096),
       .doc = "pictures of images: samples that are drawn, the first ones",
       .changes_result = false,
       .with_table = true},
      {.name = "output.num_columns",
       .types = {integer},
       .fallback = "8",
       .range = counts(1, 256),
       .doc = "pictures of images: samples a row",
       .changes_result = false,
       .with_table = true},
      {.name = "metrics.target",
       .types = {text},
       .fallback = "\"none\"",
       .choices = {"none", "product"},
       .doc = "what to measure the samples against; \"product\": the exact ring x bar"},
      {.name = "metrics.num_samples",
       .types = {integer},
       .fallback = "2000",
       .range = counts(2, 20000),
       .doc = "chains that are measured (the first ones); W2 costs their cube"},
  };
}

std::vector<Key> data_keys() {
  std::vector<Key> keys = {
      {.name = "data.set",
       .types = {text},
       .choices = {"ring", "bar", "checkerboard", "moons", "spirals", "swiss_roll", "scenes"},
       .doc = "a built-in set of points in the plane; scenes: images of cubes and spheres, each "
              "with the position of one (docs/training.md)"},
      {.name = "data.file", .types = {text}, .doc = "a .npy file (N, d), relative to the config"},
      {.name = "data.labels",
       .types = {text},
       .doc = "the class of each row of data.file or data.images, counted from 0: a .npy file (N), "
              "or an idx file; for classifiers and networks with num_class_embeds"},
  };
  const std::vector<Key> images = image_data_keys();
  keys.insert(keys.end(), images.begin(), images.end());
  const std::vector<Key> law = law_keys("data", "an analytic law, drawn afresh");
  keys.insert(keys.end(), law.begin(), law.end());
  return keys;
}

// `key` with the default that the recipe "motet" sets instead of the paper's.
Key by_recipe(Key key, const Value& value) {
  key.other_fallback = to_toml(value);
  key.other_with = {"train.recipe", {"motet"}};
  return key;
}

std::vector<Key> network_keys() {
  std::vector<Key> keys = residual_mlp_keys();
  keys.insert(
      keys.begin(),
      {.name = "network.architecture",
       .types = {text},
       .fallback = "\"residual_mlp\"",
       .choices = {"residual_mlp", "unet", "encoder_unet"},
       .doc = "residual_mlp: of points (d), a weights file; unet: UNet2DModel of diffusers, of "
              "images, a folder; encoder_unet: guided-diffusion's classifier of images, a folder"});
  const std::vector<Key> images = image_network_keys();
  keys.insert(keys.end(), images.begin(), images.end());
  return keys;
}

// What a recipe sets beside the network's frequencies.
std::vector<Key> recipe_keys() {
  const TrainConfig motet = train_recipe("motet");
  return {
      {.name = "train.recipe",
       .types = {text},
       .fallback = "\"paper\"",
       .choices = recipe_names(),
       .doc = "defaults of training; \"motet\": smaller score errors at small noise at the same "
              "cost (docs/howto.md)"},
      by_recipe({.name = "train.learning_rate",
                 .types = {number},
                 .fallback = "0.001",
                 .range = kPositive,
                 .doc = "of Adam; with a schedule, of the first step"},
                motet.learning_rate),
      by_recipe(
          {.name = "train.rate_schedule",
           .types = {text},
           .fallback = "\"constant\"",
           .choices = {"constant", "cosine"},
           .doc = "cosine: the learning rate falls to 0 as (1 + cos(pi step / num_steps)) / 2"},
          to_string(motet.rate_schedule)),
      by_recipe(
          {.name = "train.level_law",
           .types = {text},
           .fallback = "\"uniform\"",
           .choices = {"uniform", "squared"},
           .doc = "noise level of each point: floor(T u), or floor(T u^2), which trains small "
                  "noise more; u uniform in (0, 1)"},
          to_string(motet.level_law)),
  };
}

std::vector<Key> optimiser_keys() {
  return {
      {.name = "train.num_steps",
       .types = {integer},
       .fallback = "15000",
       .range = counts(1),
       .doc = "optimiser steps"},
      {.name = "train.batch_size",
       .types = {integer},
       .fallback = "2000",
       .range = counts(1, 1 << 24),
       .doc = "fresh points a step"},
      {.name = "train.beta1",
       .types = {number},
       .fallback = "0.9",
       .range = kDecay,
       .doc = "Adam's decay of the mean"},
      {.name = "train.beta2",
       .types = {number},
       .fallback = "0.999",
       .range = kDecay,
       .doc = "Adam's decay of the square"},
      {.name = "train.adam_epsilon",
       .types = {number},
       .fallback = "1e-8",
       .range = kPositive,
       .doc = "Adam's epsilon"},
      {.name = "train.ema_decay",
       .types = {number},
       .fallback = "0.999",
       .range = kDecay,
       .doc = "decay of the average that becomes the result"},
      {.name = "train.ema_warmup",
       .types = {boolean},
       .fallback = "false",
       .doc = "step k's decay is at most (1 + k) / (10 + k): short runs forget the initial "
              "weights"},
      {.name = "train.warmup_steps",
       .types = {integer},
       .fallback = "0",
       .range = counts(0),
       .doc = "steps in which the learning rate grows from 0, evenly"},
      {.name = "train.drop_probability",
       .types = {number},
       .fallback = "0.0",
       .range = kDecay,
       .doc = "share of the points whose class or condition the network does not see, for "
              "classifier-free guidance"},
      {.name = "train.gradient_clip",
       .types = {number},
       .fallback = "0.0",
       .range = kNonNegative,
       .doc = "largest global norm of a gradient; 0: off"},
      {.name = "train.mixed_precision",
       .types = {boolean},
       .fallback = "false",
       .doc = "bfloat16 matrix products (networks of images: all activations), float32 master "
              "weights"},
      {.name = "train.reference_path",
       .types = {boolean},
       .fallback = "false",
       .doc = "plain autograd instead of the hand-written passes: slower, the definition; always "
              "of classifiers"},
      {.name = "train.held_out_every",
       .types = {integer},
       .fallback = "1000",
       .range = counts(1),
       .doc = "steps between held-out losses"},
      {.name = "train.held_out_size",
       .types = {integer},
       .fallback = "20000",
       .range = counts(1, 1 << 24),
       .doc = "points of the held-out loss"},
      {.name = "seed",
       .types = {integer},
       .fallback = "0",
       .range = {.low = 0.0},
       .doc = "of initial weights, data and noise"},
  };
}

std::vector<Key> joined(std::initializer_list<std::vector<Key>> groups) {
  std::vector<Key> all;
  for (const std::vector<Key>& group : groups) {
    all.insert(all.end(), group.begin(), group.end());
  }
  return all;
}

}  // namespace

std::vector<Key> residual_mlp_keys() {
  std::vector<Key> keys = {
      {.name = "network.parameterisation",
       .types = {text},
       .fallback = "\"score\"",
       .choices = {"score", "energy_norm", "energy_residual", "classifier"},
       .doc = "score: the network is eps; energy_norm: E = ||f||^2; energy_residual: "
              "E = ||f - x||^2, as the reference code has it; classifier: log p(label | x_t) = "
              "log softmax(f)_label, for guidance, of data with classes"},
      {.name = "network.width",
       .types = {integer},
       .fallback = "128",
       .range = counts(1, 16384),
       .doc = "residual stream"},
      {.name = "network.num_blocks",
       .types = {integer},
       .fallback = "4",
       .range = counts(1, 1000),
       .doc = "residual blocks"},
      {.name = "network.widen",
       .types = {integer},
       .fallback = "2",
       .range = counts(1, 64),
       .doc = "hidden width of a block over width"},
      {.name = "network.embedding_dim",
       .types = {integer},
       .fallback = "32",
       .range = counts(1, 16384),
       .doc = "learned embedding of the level"},
      by_recipe({.name = "network.frequencies",
                 .types = {numbers},
                 .fallback = "[]",
                 .range = {.low = 0.0, .high = kMaxFrequency, .low_open = true},
                 .doc = "the first layer sees sin(f x) and cos(f x) of every coordinate beside x, "
                        "for at most 64 f in radians per unit of x",
                 .may_be_empty = true},
                train_recipe("motet").network.frequencies),
  };
  for (Key& key : keys) {
    key.only_with = {"network.architecture", {"residual_mlp"}};
  }
  return keys;
}

const std::vector<Key>& sample_keys() {
  static const std::vector<Key> keys = [] {
    std::vector<Key> schedule = schedule_keys();
    for (Key& key : schedule) {
      key.with_table = true;  // without [schedule] the networks' own is used
    }
    return joined({run_keys(), model_keys(), tapestry_keys(), kernel_keys(), anneal_keys(),
                   schedule, checkpoint_keys()});
  }();
  return keys;
}

const std::vector<Key>& train_keys() {
  static const std::vector<Key> keys = joined({recipe_keys(), optimiser_keys(), data_keys(),
                                               network_keys(), schedule_keys(), checkpoint_keys()});
  return keys;
}

}  // namespace motet::detail
