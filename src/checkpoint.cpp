// State of a run <-> safetensors. Floats are stored as they are in memory, so a resumed run has
// the same bits. The write is atomic (io), so the last checkpoint survives a kill at any moment.
#include "checkpoint.hpp"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "io_detail.hpp"
#include "motet/error.hpp"
#include "settings.hpp"

namespace motet::detail {
namespace {

constexpr const char* kVersion = "1";
constexpr int64_t kNumCounts = 7;
constexpr int64_t kMaxSteps = int64_t{1} << 32;

Tensor numbers(const std::vector<double>& values) {
  return values.empty() ? at::zeros({0}, at::kDouble) : at::tensor(values, at::kDouble);
}

std::vector<double> to_vector(const Tensor& tensor) {
  const Tensor flat = tensor.to(at::kDouble).reshape({-1}).contiguous();
  return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
}

void put_number(TensorFile& file, const std::string& name, double value) {
  file.tensors[name] = numbers({value});
}

void put_defined(TensorFile& file, const std::string& name, const Tensor& tensor) {
  if (tensor.defined()) {
    file.tensors[name] = tensor.detach().cpu().contiguous();
  }
}

Tensor get_or_undefined(const TensorFile& file, const std::string& name,
                        const std::string& device) {
  const auto found = file.tensors.find(name);
  return found == file.tensors.end() ? Tensor() : found->second.clone().to(at::Device(device));
}

std::string part_prefix(const std::string& prefix, size_t part) {
  return prefix + "part." + std::to_string(part) + ".";
}

void put_eval(TensorFile& file, const std::string& prefix, const Eval& eval) {
  put_defined(file, prefix + "score", eval.score);
  put_defined(file, prefix + "log_density", eval.log_density);
  put_defined(file, prefix + "remainder", eval.remainder);
  put_defined(file, prefix + "square_sum", eval.square_sum);
  put_defined(file, prefix + "slope", eval.slope);
  put_defined(file, prefix + "twist", eval.twist);
  put_defined(file, prefix + "twist_score", eval.twist_score);
  put_defined(file, prefix + "ledger", eval.ledger);
  for (size_t i = 0; i < eval.parts.size(); ++i) {
    put_eval(file, part_prefix(prefix, i), eval.parts[i]);
  }
}

Eval get_eval(const TensorFile& file, const std::string& prefix, const std::string& device) {
  const auto get = [&](const char* name) { return get_or_undefined(file, prefix + name, device); };
  Eval eval;
  eval.score = get("score");
  eval.log_density = get("log_density");
  eval.remainder = get("remainder");
  eval.square_sum = get("square_sum");
  eval.slope = get("slope");
  eval.twist = get("twist");
  eval.twist_score = get("twist_score");
  eval.ledger = get("ledger");
  // Only a composition has parts, and these have none.
  for (size_t i = 0; prefix == "chains."; ++i) {
    Eval part = get_eval(file, part_prefix(prefix, i), device);
    if (!part.score.defined()) {
      break;
    }
    eval.parts.push_back(std::move(part));
  }
  return eval;
}

void compare(const std::string& path, const Identity& saved, const Identity& now) {
  const auto differs = [&](const std::string& key, const std::string& was, const std::string& is) {
    throw ConfigError("checkpoint: " + path + ": made with " + key + " = " + was +
                      ", but this run has " + is +
                      "; resume with the same config, or delete the file and start anew");
  };
  for (const auto& [key, value] : now) {
    const auto found = saved.find(key);
    if (found == saved.end()) {
      differs(key, "(not given)", value);
    } else if (found->second != value) {
      differs(key, found->second, value);
    }
  }
  for (const auto& [key, value] : saved) {
    if (now.count(key) == 0) {
      differs(key, value, "(not given)");
    }
  }
}

// Casting any other double to an integer is undefined behaviour.
int64_t to_count(const std::string& path, const std::string& name, double value, int64_t max) {
  if (!(value >= 0.0 && value <= static_cast<double>(max)) || value != std::floor(value)) {
    refuse(path, name + " = " + number_text(value) + ", must be a whole number in [0, " +
                     std::to_string(max) + "]");
  }
  return static_cast<int64_t>(value);
}

// (n, d) float64; undefined when no level has a mass.
Tensor masses_of(const std::vector<LevelStats>& levels) {
  const auto first = std::find_if(levels.begin(), levels.end(),
                                  [](const LevelStats& level) { return level.mass.defined(); });
  if (first == levels.end()) {
    return {};
  }
  std::vector<Tensor> rows;
  for (const LevelStats& level : levels) {
    rows.push_back(level.mass.defined() ? level.mass : at::ones_like(first->mass));
  }
  return at::stack(rows);
}

bool are_within(const Tensor& rows, int64_t count) {
  return rows.ge(0).logical_and_(rows.lt(count)).all().item<bool>();
}

// What a state can hold of each chain; a checkpoint may have been changed or made by anyone.
void check_chains(const AnnealState& state, const std::string& path) {
  const ChainState& chains = state.chains;
  const auto check = [&](const char* name, const Tensor& tensor, at::IntArrayRef shape) {
    if (tensor.defined() && (tensor.sizes() != shape || !tensor.is_floating_point())) {
      refuse(path, std::string(name) + " is " + c10::toString(tensor.scalar_type()) + " " +
                       shape_text(tensor.sizes()) + ", must be floats of shape " +
                       shape_text(shape));
    }
  };
  if (chains.x.dim() < 1) {
    refuse(path, "chains.x has the wrong shape");
  }
  check("chains.x", chains.x, chains.x.sizes());
  check("chains.momentum", chains.momentum, chains.x.sizes());
  const auto check_eval = [&](const Eval& eval) {
    check("chains.score", eval.score, chains.x.sizes());
    check("chains.remainder", eval.remainder, chains.x.sizes());
    check("chains.twist_score", eval.twist_score, chains.x.sizes());
    check("chains.log_density", eval.log_density, {chains.x.size(0)});
    check("chains.square_sum", eval.square_sum, {chains.x.size(0)});
    check("chains.slope", eval.slope, {chains.x.size(0)});
    check("chains.twist", eval.twist, {chains.x.size(0)});
  };
  check_eval(chains.eval);
  for (const Eval& part : chains.eval.parts) {
    check_eval(part);
  }
  check("crossing.slope", state.crossing.slope, {chains.x.size(0)});
  check("crossing.twist", state.crossing.twist, {chains.x.size(0)});
  for (const Tensor& ledger : {chains.eval.ledger, state.crossing.ledger}) {
    check("ledger", ledger,
          {chains.x.size(0), ledger.defined() && ledger.dim() == 2 ? ledger.size(1) : 0});
  }
  check("weights.log_weights", state.log_weights, {chains.x.size(0)});
  check("weights.rate", state.weight_rate, {chains.x.size(0)});
  check("weights.share", state.drift_share, {chains.x.size(0)});
  check("weights.rate_error", state.weight_rate_error, {chains.x.size(0)});
  check("weights.divergence", state.divergence, {chains.x.size(0)});
  check("weights.divergence_error", state.divergence_error, {chains.x.size(0)});
  const Tensor& family = state.family;
  const int64_t num_chains = chains.x.size(0);
  if (family.defined() != state.log_weights.defined() ||
      (family.defined() && (family.scalar_type() != at::kLong || family.dim() != 1 ||
                            family.size(0) != num_chains || !are_within(family, num_chains)))) {
    refuse(path, "weights.family must name a chain of " + std::to_string(num_chains) + " for each");
  }
  for (const Tensor& counter : {state.num_accepted, state.num_invalid}) {
    if (counter.dim() != 0 || counter.scalar_type() != at::kLong) {
      refuse(path, "anneal.num_accepted and anneal.num_invalid must be int64 numbers");
    }
  }
}

}  // namespace

void refuse(const std::string& path, const std::string& why) {
  throw DataError("checkpoint: " + path + ": " + why);
}

CheckpointClock::CheckpointClock(const CheckpointConfig& config)
    : config_(config), last_(std::chrono::steady_clock::now()) {}

bool CheckpointClock::tick() {
  ++steps_;
  const auto now = std::chrono::steady_clock::now();
  const bool by_clock = std::chrono::duration<double>(now - last_).count() >= config_.every_seconds;
  const bool by_count = config_.every_steps > 0 && steps_ % config_.every_steps == 0;
  if (by_clock || by_count) {
    last_ = now;
  }
  return by_clock || by_count;
}

std::string checkpoint_path(const CheckpointConfig& config, const RunFiles& files) {
  if (!config.path.empty()) {
    return config.path;
  }
  for (const std::string& path : {files.samples, files.weights, files.json, files.report}) {
    if (!path.empty()) {
      return path + ".checkpoint";
    }
  }
  return "";
}

void write_checkpoint(const std::string& path, TensorFile file, const std::string& kind,
                      const Identity& identity) {
  file.metadata["motet.format"] = "checkpoint";
  file.metadata["motet.version"] = kVersion;
  file.metadata["motet.kind"] = kind;
  for (const auto& [key, value] : identity) {
    file.metadata["identity." + key] = value;
  }
  write_safetensors(path, file);
}

TensorFile read_checkpoint(const std::string& path, const std::string& kind,
                           const Identity& identity) {
  TensorFile file = read_safetensors(path);
  if (file.metadata["motet.format"] != "checkpoint") {
    refuse(path, "not a checkpoint of motet");
  }
  if (file.metadata["motet.version"] != kVersion) {
    refuse(path, "version " + file.metadata["motet.version"] + ", must be " + kVersion);
  }
  if (file.metadata["motet.kind"] != kind) {
    refuse(path,
           "of a \"" + file.metadata["motet.kind"] + "\" run, must be of a \"" + kind + "\" run");
  }
  Identity saved;
  const std::string prefix = "identity.";
  for (const auto& [key, value] : file.metadata) {
    if (key.rfind(prefix, 0) == 0) {
      saved[key.substr(prefix.size())] = value;
    }
  }
  compare(path, saved, identity);
  return file;
}

void remove_checkpoint(const std::string& path) {
  if (!path.empty()) {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
    remove_leftovers(path);
  }
}

const Tensor& checkpoint_tensor(const TensorFile& file, const std::string& path,
                                const std::string& name) {
  const auto found = file.tensors.find(name);
  if (found == file.tensors.end()) {
    refuse(path, "has no tensor " + name);
  }
  return found->second;
}

std::vector<double> checkpoint_numbers(const TensorFile& file, const std::string& path,
                                       const std::string& name) {
  return to_vector(checkpoint_tensor(file, path, name));
}

double checkpoint_number(const TensorFile& file, const std::string& path, const std::string& name) {
  const std::vector<double> values = checkpoint_numbers(file, path, name);
  if (values.size() != 1) {
    refuse(path, name + " has " + std::to_string(values.size()) + " entries, must have 1");
  }
  return values[0];
}

int64_t checkpoint_count(const TensorFile& file, const std::string& path, const std::string& name,
                         int64_t max) {
  return to_count(path, name, checkpoint_number(file, path, name), max);
}

void pack(const TrainState& state, TensorFile& file) {
  put_number(file, "train.step", static_cast<double>(state.step));
  put_number(file, "train.pending_loss", state.pending_loss);
  for (const auto& [name, tensor] : state.tensors) {
    file.tensors["state." + name] = tensor.detach().cpu().contiguous();
  }
  file.tensors["train.losses"] = numbers(state.losses);
  std::vector<double> flat;
  for (const HeldOut& held_out : state.held_out) {
    flat.push_back(static_cast<double>(held_out.step));
    flat.push_back(held_out.mean);
    flat.insert(flat.end(), held_out.per_level.begin(), held_out.per_level.end());
  }
  const auto rows = static_cast<int64_t>(state.held_out.size());
  file.tensors["train.held_out"] =
      numbers(flat).reshape({rows, rows > 0 ? static_cast<int64_t>(flat.size()) / rows : 0});
}

TrainState unpack_train(const TensorFile& file, const std::string& path) {
  TrainState state;
  state.step = checkpoint_count(file, path, "train.step", kMaxSteps);
  state.pending_loss = checkpoint_number(file, path, "train.pending_loss");
  const std::string prefix = "state.";
  for (const auto& [name, tensor] : file.tensors) {
    if (name.rfind(prefix, 0) == 0) {
      state.tensors[name.substr(prefix.size())] = tensor.clone();
    }
  }
  state.losses = to_vector(checkpoint_tensor(file, path, "train.losses"));
  const Tensor& held_out = checkpoint_tensor(file, path, "train.held_out");
  if (held_out.dim() != 2 || (held_out.size(0) > 0 && held_out.size(1) < 2)) {
    refuse(path, "train.held_out has the wrong shape");
  }
  for (int64_t i = 0; i < held_out.size(0); ++i) {
    const std::vector<double> row = to_vector(held_out[i]);
    state.held_out.push_back({to_count(path, "train.held_out", row[0], kMaxSteps), row[1],
                              std::vector<double>(row.begin() + 2, row.end())});
  }
  return state;
}

void pack_levels(const std::vector<LevelStats>& levels, const std::string& prefix,
                 TensorFile& file) {
  std::vector<int64_t> counts;
  std::vector<double> step_sizes;
  std::vector<double> ess;
  std::vector<double> families;
  std::vector<double> jumps;
  for (const LevelStats& level : levels) {
    counts.insert(counts.end(),
                  {level.index, level.num_steps, level.num_proposals, level.num_accepted,
                   level.num_invalid, level.evaluations, level.num_resampled});
    step_sizes.push_back(level.step_size);
    ess.push_back(level.ess);
    families.push_back(level.families);
    jumps.push_back(level.squared_jump);
  }
  const auto rows = static_cast<int64_t>(levels.size());
  file.tensors[prefix + ".counts"] =
      rows == 0 ? at::zeros({0, kNumCounts}, at::kLong)
                : at::tensor(counts, at::kLong).reshape({rows, kNumCounts});
  file.tensors[prefix + ".step_size"] = numbers(step_sizes);
  file.tensors[prefix + ".ess"] = numbers(ess);
  file.tensors[prefix + ".families"] = numbers(families);
  file.tensors[prefix + ".squared_jump"] = numbers(jumps);
  put_defined(file, prefix + ".mass", masses_of(levels));
}

std::vector<LevelStats> unpack_levels(const TensorFile& file, const std::string& path,
                                      const std::string& prefix) {
  const Tensor& counts = checkpoint_tensor(file, path, prefix + ".counts");
  const std::vector<double> step_sizes =
      to_vector(checkpoint_tensor(file, path, prefix + ".step_size"));
  const std::vector<double> ess = to_vector(checkpoint_tensor(file, path, prefix + ".ess"));
  const std::vector<double> families =
      to_vector(checkpoint_tensor(file, path, prefix + ".families"));
  const std::vector<double> jumps =
      to_vector(checkpoint_tensor(file, path, prefix + ".squared_jump"));
  if (counts.dim() != 2 || counts.size(1) != kNumCounts || counts.scalar_type() != at::kLong ||
      counts.size(0) != static_cast<int64_t>(step_sizes.size()) ||
      ess.size() != step_sizes.size() || families.size() != step_sizes.size() ||
      jumps.size() != step_sizes.size()) {
    refuse(path, prefix + ".counts has the wrong shape");
  }
  const auto found = file.tensors.find(prefix + ".mass");
  const Tensor masses = found == file.tensors.end() ? Tensor() : found->second.clone();
  if (masses.defined() && (masses.dim() != 2 || masses.size(0) != counts.size(0) ||
                           masses.scalar_type() != at::kDouble)) {
    refuse(path, prefix + ".mass has the wrong shape");
  }
  const auto table = counts.accessor<int64_t, 2>();
  std::vector<LevelStats> levels;
  for (int64_t i = 0; i < counts.size(0); ++i) {
    levels.push_back({.index = table[i][0],
                      .step_size = step_sizes[static_cast<size_t>(i)],
                      .num_steps = table[i][1],
                      .num_proposals = table[i][2],
                      .num_accepted = table[i][3],
                      .num_invalid = table[i][4],
                      .evaluations = table[i][5],
                      .ess = ess[static_cast<size_t>(i)],
                      .num_resampled = table[i][6],
                      .families = families[static_cast<size_t>(i)],
                      .squared_jump = jumps[static_cast<size_t>(i)],
                      .mass = masses.defined() ? masses[i] : Tensor()});
  }
  return levels;
}

void pack_points(const std::vector<int64_t>& num_points, const std::string& prefix,
                 TensorFile& file) {
  if (!num_points.empty()) {
    file.tensors[prefix + ".num_points"] = at::tensor(num_points, at::kLong);
  }
}

std::vector<int64_t> unpack_points(const TensorFile& file, const std::string& path,
                                   const std::string& prefix, size_t num_levels) {
  const std::string name = prefix + ".num_points";
  const Tensor& points = checkpoint_tensor(file, path, name);
  if (points.dim() != 1 || points.scalar_type() != at::kLong ||
      points.size(0) != static_cast<int64_t>(num_levels)) {
    refuse(path, name + " has the wrong shape");
  }
  const auto table = points.accessor<int64_t, 1>();
  std::vector<int64_t> result;
  for (int64_t i = 0; i < points.size(0); ++i) {
    if (table[i] < 2 || table[i] > 64) {
      refuse(path, name + " has the entry " + std::to_string(table[i]) + ", must be in [2, 64]");
    }
    result.push_back(table[i]);
  }
  return result;
}

void pack(const AnnealState& state, TensorFile& file) {
  put_number(file, "anneal.level_position", static_cast<double>(state.level_position));
  put_number(file, "anneal.step", static_cast<double>(state.step));
  put_number(file, "anneal.network_seconds", state.network_seconds);
  put_number(file, "anneal.adapt_scale", state.adapt_scale);
  put_defined(file, "anneal.num_accepted", state.num_accepted);
  put_defined(file, "anneal.num_invalid", state.num_invalid);
  put_defined(file, "chains.x", state.chains.x);
  put_defined(file, "chains.momentum", state.chains.momentum);
  put_eval(file, "chains.", state.chains.eval);
  put_defined(file, "crossing.ledger", state.crossing.ledger);
  put_defined(file, "crossing.slope", state.crossing.slope);
  put_defined(file, "crossing.twist", state.crossing.twist);
  put_defined(file, "weights.log_weights", state.log_weights);
  put_defined(file, "weights.rate", state.weight_rate);
  put_defined(file, "weights.share", state.drift_share);
  put_defined(file, "weights.rate_error", state.weight_rate_error);
  put_defined(file, "weights.divergence", state.divergence);
  put_defined(file, "weights.divergence_error", state.divergence_error);
  put_defined(file, "weights.log_normalisers", state.log_normalisers);
  put_defined(file, "weights.family", state.family);
  pack_levels(state.levels, "anneal", file);
}

AnnealState unpack_anneal(const TensorFile& file, const std::string& path,
                          const std::string& device) {
  AnnealState state;
  state.level_position = checkpoint_count(file, path, "anneal.level_position", kMaxSteps);
  state.step = checkpoint_count(file, path, "anneal.step", kMaxSteps);
  state.network_seconds = checkpoint_number(file, path, "anneal.network_seconds");
  state.adapt_scale = checkpoint_number(file, path, "anneal.adapt_scale");
  for (const char* name : {"anneal.num_accepted", "anneal.num_invalid", "chains.x"}) {
    checkpoint_tensor(file, path, name);
  }
  state.num_accepted = get_or_undefined(file, "anneal.num_accepted", device);
  state.num_invalid = get_or_undefined(file, "anneal.num_invalid", device);
  state.chains.x = get_or_undefined(file, "chains.x", device);
  state.chains.momentum = get_or_undefined(file, "chains.momentum", device);
  state.chains.eval = get_eval(file, "chains.", device);
  state.crossing.ledger = get_or_undefined(file, "crossing.ledger", device);
  state.crossing.slope = get_or_undefined(file, "crossing.slope", device);
  state.crossing.twist = get_or_undefined(file, "crossing.twist", device);
  state.log_weights = get_or_undefined(file, "weights.log_weights", device);
  state.weight_rate = get_or_undefined(file, "weights.rate", device);
  state.drift_share = get_or_undefined(file, "weights.share", device);
  state.weight_rate_error = get_or_undefined(file, "weights.rate_error", device);
  state.divergence = get_or_undefined(file, "weights.divergence", device);
  state.divergence_error = get_or_undefined(file, "weights.divergence_error", device);
  state.log_normalisers = get_or_undefined(file, "weights.log_normalisers", "cpu");
  state.family = get_or_undefined(file, "weights.family", device);
  check_chains(state, path);
  state.levels = unpack_levels(file, path, "anneal");
  return state;
}

namespace {

constexpr uint64_t kHashStart = 14695981039346656037ULL;

void add_to_hash(uint64_t& hash, std::string_view bytes) {
  for (const char c : bytes) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  }
}

std::string hash_text(uint64_t hash) {
  static const char* const kDigits = "0123456789abcdef";
  std::string text = "fnv1a64:";
  for (int shift = 60; shift >= 0; shift -= 4) {
    text += kDigits[(hash >> shift) & 15U];
  }
  return text;
}

}  // namespace

std::string text_hash(std::string_view text) {
  uint64_t hash = kHashStart;
  add_to_hash(hash, text);
  return hash_text(hash);
}

std::string file_hash(const std::string& path) {
  uint64_t hash = kHashStart;
  const InputFile file(path, "read");  // not mapped: a data set's file may change meanwhile
  constexpr int64_t kChunk = int64_t{1} << 20;
  std::string chunk;
  for (int64_t offset = 0; offset < file.size(); offset += kChunk) {
    chunk.resize(static_cast<size_t>(std::min(kChunk, file.size() - offset)));
    file.read(chunk.data(), static_cast<int64_t>(chunk.size()), offset);
    add_to_hash(hash, chunk);
  }
  return hash_text(hash);
}

std::string interrupted_text(const std::string& checkpoint) {
  return checkpoint.empty()
             ? "interrupted; nothing was kept, since the run writes no file: give --out to be able "
               "to resume"
             : "interrupted; progress is in " + checkpoint +
                   ": run the same command with --resume to continue";
}

}  // namespace motet::detail
