// A training run: data and network from the config, checkpoints, the weights file and its numbers.
#include <torch/types.h>

#include "checkpoint.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "run_detail.hpp"
#include "run_images.hpp"

namespace motet {
namespace {

using detail::Json;

detail::Identity identity_of(const TrainJob& job) {
  detail::Identity identity = job.identity;
  identity["versions.motet"] = version();
  identity["versions.torch"] = torch_version();
  for (const auto& [key, path] : detail::data_files(job.data)) {
    identity[key + " (contents)"] = detail::file_hash(path);
  }
  return identity;
}

Json held_out_json(const std::vector<HeldOut>& all) {
  Json list = Json::array();
  for (const HeldOut& held_out : all) {
    list.push_back({{"step", held_out.step},
                    {"mean", detail::number_or_null(held_out.mean)},
                    {"per_level", held_out.per_level}});
  }
  return list;
}

// One training run in progress: what its observer needs.
class TrainRun {
 public:
  TrainRun(const TrainJob& job, const RunFiles& files, const RunHooks& hooks)
      : job_(job),
        hooks_(hooks),
        identity_(identity_of(job)),
        checkpoint_(detail::checkpoint_path(job.checkpoint, files)),
        clock_(job.checkpoint) {}

  /// The state to go on from; empty without --resume.
  std::optional<TrainState> resume(bool wanted) {
    if (!wanted) {
      return std::nullopt;
    }
    if (checkpoint_.empty()) {
      throw ConfigError("train: --resume needs the output file that names the checkpoint: give it");
    }
    const TensorFile file = detail::read_checkpoint(checkpoint_, "train", identity_);
    seconds_before_ = detail::checkpoint_number(file, checkpoint_, "run.seconds");
    TrainState state = detail::unpack_train(file, checkpoint_);
    first_step_ = state.step;
    return state;
  }

  bool observe(const TrainState& state, double loss) {
    const bool stop = hooks_.should_stop && hooks_.should_stop();
    const bool last = state.step == job_.train.num_steps;
    if ((clock_.tick() || stop) && !last) {
      save(state);
    }
    if (hooks_.progress) {
      report(state, loss);
    }
    return !stop || last;
  }

  double seconds() const { return seconds_before_ + watch_.seconds(); }
  const std::string& checkpoint() const { return checkpoint_; }

 private:
  void save(const TrainState& state) {
    if (checkpoint_.empty()) {
      return;
    }
    TensorFile file;
    detail::pack(state, file);
    file.tensors["run.seconds"] = at::tensor({seconds()}, at::kDouble);
    detail::write_checkpoint(checkpoint_, std::move(file), "train", identity_);
  }

  void report(const TrainState& state, double loss) const {
    Progress progress;
    progress.phase = "train";
    progress.step = state.step;
    progress.num_steps = job_.train.num_steps;
    progress.fraction = static_cast<double>(state.step) / static_cast<double>(progress.num_steps);
    progress.seconds = watch_.seconds();
    progress.steps_per_second = static_cast<double>(state.step - first_step_) / progress.seconds;
    progress.seconds_left =
        static_cast<double>(progress.num_steps - state.step) / progress.steps_per_second;
    progress.loss = loss;
    hooks_.progress(progress);
  }

  const TrainJob& job_;
  const RunHooks& hooks_;
  detail::Identity identity_;
  std::string checkpoint_;
  detail::CheckpointClock clock_;
  detail::Stopwatch watch_;
  double seconds_before_ = 0.0;
  int64_t first_step_ = 0;
};

Json train_json(const TrainJob& job, const TrainState& state,
                const std::map<std::string, std::string>& provenance, double seconds) {
  Json json;
  json["kind"] = "train";
  json["config"] = detail::config_to_json(job.toml);
  json["config_toml"] = job.toml;
  json["seed"] = job.train.seed;
  json.update(detail::environment_json("cpu"));
  json["dtype"] = job.train.mixed_precision ? "bfloat16" : "float32";
  json["num_steps"] = state.step;
  json["provenance"] = provenance;
  json["loss_every"] = kLossEvery;
  json["losses"] = state.losses;
  json["held_out"] = held_out_json(state.held_out);
  json["seconds"] = {{"total", seconds}};
  json["peak_rss_bytes"] = detail::peak_rss_bytes();
  return json;
}

// A network on its data, ready to be trained and kept.
class Job {
 public:
  Job(const TrainJob& job, DataSetPtr data) : job_(job), data_(std::move(data)) {
    if (job_.image_network) {
      images_ = detail::image_training(*job_.image_network, *data_, job_.train.schedule);
      return;
    }
    job_.train.network.event_dim = data_->event_dim();
    if (const auto* labelled = dynamic_cast<const LabelledData*>(data_.get())) {
      job_.train.network.num_classes = labelled->num_classes();
    }
  }

  const TrainJob& fitted() const { return job_; }

  TrainState run(const TrainObserver& observer, const TrainState* resume) const {
    return images_ ? detail::train_architecture(job_.train, images_->architecture,
                                                images_->objective, *data_, observer, resume)
                   : train(job_.train, *data_, observer, resume);
  }

  Weights result(const TrainState& state) const {
    Weights weights = images_ ? Weights{} : trained_weights(job_.train, state, *data_);
    if (images_) {
      weights.provenance = train_provenance(job_.train, state, *data_);
      weights.provenance["network"] = images_->architecture->describe();
    }
    weights.provenance["commit"] = commit();
    weights.provenance["motet"] = version();
    weights.provenance["torch"] = torch_version();
    weights.provenance["command"] = "motet train CONFIG.toml, with config as CONFIG.toml";
    weights.provenance["config"] = job_.toml;
    return weights;
  }

  void save(const std::string& path, const TrainState& state, const Weights& weights) const {
    if (images_) {
      detail::save_image_network(path, *job_.image_network, *images_, job_.train.schedule,
                                 detail::trained_tensors(*images_->architecture, state),
                                 weights.provenance);
    } else {
      save_weights(path, weights);
    }
  }

 private:
  TrainJob job_;
  DataSetPtr data_;
  std::optional<detail::ImageTraining> images_;
};

void check_outputs(const TrainJob& job, RunFiles files) {
  if (job.image_network) {
    detail::check_folder(files.weights);
    files.weights.clear();
  }
  detail::check_writable(files, job.checkpoint);
}

}  // namespace

TrainReport run_train(const TrainJob& job, const RunFiles& files, const RunHooks& hooks) {
  check_outputs(job, files);
  const Job work(job, detail::open_data(job.data));
  TrainRun progress(work.fitted(), files, hooks);
  const std::optional<TrainState> resume = progress.resume(files.resume);
  TrainState state;
  try {
    state = work.run(
        [&progress](const TrainState& now, double loss) { return progress.observe(now, loss); },
        resume ? &*resume : nullptr);
  } catch (const Interrupted&) {
    throw Interrupted("train: " + detail::interrupted_text(progress.checkpoint()));
  }
  TrainReport report;
  report.weights = work.result(state);
  report.json =
      detail::dump(train_json(work.fitted(), state, report.weights.provenance, progress.seconds()));
  // The weights last: where they are, the training is done and its JSON there (reproduce).
  if (!files.json.empty()) {
    write_file_atomic(files.json, report.json);
  }
  if (!files.weights.empty()) {
    work.save(files.weights, state, report.weights);
  }
  detail::remove_checkpoint(progress.checkpoint());
  return report;
}

}  // namespace motet
