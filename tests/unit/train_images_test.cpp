// Training of networks of images: the loss falls, runs are functions of their seed, what is written
// loads again, and each message.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "motet/error.hpp"
#include "motet/io.hpp"
#include "motet/pretrained.hpp"
#include "motet/run.hpp"
#include "nets/unet2d.hpp"
#include "run_images.hpp"
#include "support/folder.hpp"
#include "support/throw_message.hpp"
#include "train_architecture.hpp"

namespace motet {
namespace {

using detail::ImageTraining;
using detail::Prediction;

const std::string kDigits = std::string(MOTET_SOURCE_DIR) + "/tests/golden/digits.safetensors";
const std::string kUNet =
    R"({"block_out_channels": [8, 8], "layers_per_block": 1, "norm_num_groups": 4,
        "attention_head_dim": 8, "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]})";
const std::string kEncoder =
    R"({"num_channels": 32, "num_res_blocks": 1, "channel_mult": [1.0, 1.0],
        "attention_resolutions": [4], "num_head_channels": 32, "pool": "attention"})";

ImageNetwork unet(const std::string& prediction = "epsilon", const std::string& more = "{}") {
  nlohmann::json config = nlohmann::json::parse(kUNet);
  config.update(nlohmann::json::parse(more));
  return {.architecture = "unet", .config = config.dump(), .prediction = prediction};
}

DataSetPtr digits(bool with_labels) {
  DataConfig config;
  config.images = kDigits;
  config.labels = with_labels ? kDigits : "";
  return detail::open_data(config);
}

TrainConfig short_training(int64_t num_steps) {
  TrainConfig config;
  config.schedule = NoiseSchedule::linear(1000);
  config.num_steps = num_steps;
  config.batch_size = 16;
  config.learning_rate = 3e-3;
  config.warmup_steps = 10;
  config.ema_warmup = true;
  config.gradient_clip = 1.0;
  config.held_out_every = 1000;
  config.held_out_size = 40;
  config.seed = 3;
  return config;
}

TrainState trained(const TrainConfig& config, const ImageTraining& training, const DataSetPtr& data,
                   const TrainState* resume = nullptr, const TrainObserver& observer = {}) {
  return detail::train_architecture(config, training.architecture, training.objective, *data,
                                    observer, resume);
}

TEST(TrainImages, HeldOutLossFallsForEveryPrediction) {
  const DataSetPtr data = digits(false);
  for (const char* prediction : {"epsilon", "v_prediction", "sample"}) {
    TrainConfig config = short_training(50);
    config.held_out_every = 25;
    const ImageTraining training = detail::image_training(unet(prediction), *data, config.schedule);
    const TrainState state = trained(config, training, data);
    ASSERT_EQ(state.held_out.size(), 2U);
    EXPECT_EQ(state.held_out.back().per_level.size(), 10U);
    // Zero output: eps_hat = 0 has the loss 1; of v, eps_hat = sigma x; of x_0, x / sigma.
    EXPECT_LT(state.held_out.back().per_level.back(), 0.5) << prediction;
  }
}

TEST(TrainImages, EnergiesTrainByTheirGradient) {
  const DataSetPtr data = digits(false);
  for (const char* prediction : {"energy_norm", "energy_residual"}) {
    TrainConfig config = short_training(12);
    config.warmup_steps = 0;
    config.held_out_every = 3;
    const ImageTraining training = detail::image_training(unet(prediction), *data, config.schedule);
    const TrainState state = trained(config, training, data);
    EXPECT_LT(state.held_out.back().mean, 0.7 * state.held_out.front().mean) << prediction;
  }
}

TEST(TrainImages, AClassSeenAndDroppedTrains) {
  const DataSetPtr data = digits(true);
  TrainConfig config = short_training(4);
  config.drop_probability = 0.5;
  const ImageTraining training = detail::image_training(
      unet("epsilon", R"({"num_class_embeds": 11})"), *data, config.schedule);
  const TrainState state = trained(config, training, data);
  const Tensor table = state.tensors.at("weight.class_embedding.weight");
  const TrainState start =
      detail::initial_architecture_state(*training.architecture, training.objective, config.seed);
  const Tensor moved = (table - start.tensors.at("weight.class_embedding.weight")).abs().amax(1);
  EXPECT_EQ(moved.size(0), 11);
  EXPECT_GT(moved[10].item<float>(), 0.0F);  // no class
}

TEST(TrainImages, APositionIsLearned) {
  const DataSetPtr data = scene_data({.size = 8});
  TrainConfig config = short_training(2);
  config.drop_probability = 0.2;
  const ImageTraining training = detail::image_training(
      unet("epsilon", R"({"class_embed_type": "identity"})"), *data, config.schedule);
  EXPECT_EQ(trained(config, training, data).step, 2);
}

TEST(TrainImages, AClassifierLearnsDigits) {
  const DataSetPtr data = digits(true);
  TrainConfig config = short_training(60);
  config.batch_size = 64;
  config.held_out_every = 60;
  config.held_out_size = 400;
  const ImageTraining training =
      detail::image_training({.architecture = "encoder_unet", .config = kEncoder, .prediction = ""},
                             *data, config.schedule);
  const TrainState state = trained(config, training, data);
  EXPECT_LT(state.held_out.back().per_level.front(), 0.8 * std::log(10.0));
}

TEST(TrainImages, ResumesToTheSameBits) {
  const DataSetPtr data = digits(true);
  TrainConfig config = short_training(6);
  config.drop_probability = 0.3;
  const ImageTraining training = detail::image_training(
      unet("epsilon", R"({"num_class_embeds": 11})"), *data, config.schedule);
  const TrainState whole = trained(config, training, data);
  TrainState half;
  EXPECT_THROW(trained(config, training, data, nullptr,
                       [&half](const TrainState& state, double) {
                         half = state;
                         for (auto& [name, tensor] : half.tensors) {
                           tensor = tensor.clone();
                         }
                         return state.step < 3;
                       }),
               Interrupted);
  EXPECT_EQ(half.step, 3);
  const TrainState resumed = trained(config, training, data, &half);
  for (const auto& [name, tensor] : whole.tensors) {
    EXPECT_TRUE(at::equal(tensor, resumed.tensors.at(name))) << name;
  }
}

TEST(TrainImages, StartsAsTheIdentityWithTorchsBounds) {
  const DataSetPtr data = digits(false);
  const ImageTraining training = detail::image_training(unet(), *data, NoiseSchedule::linear(1000));
  const TrainState state =
      detail::initial_architecture_state(*training.architecture, training.objective, 1);
  const auto weight = [&state](const std::string& name) {
    return state.tensors.at("weight." + name);
  };
  for (const char* zero : {"conv_out.weight", "conv_out.bias", "mid_block.resnets.0.conv2.weight",
                           "mid_block.attentions.0.to_out.0.weight"}) {
    EXPECT_EQ(weight(zero).abs().max().item<float>(), 0.0F) << zero;
  }
  const float bound = 1.0F / std::sqrt(72.0F);
  const float largest = weight("mid_block.resnets.0.conv1.weight").abs().max().item<float>();
  EXPECT_LT(largest, bound);
  EXPECT_GT(largest, 0.95F * bound);
  EXPECT_LT(weight("mid_block.resnets.0.conv1.bias").abs().max().item<float>(), bound);
  EXPECT_EQ(weight("conv_norm_out.weight").min().item<float>(), 1.0F);
}

std::string digits_config(const std::string& more) {
  return "[data]\nimages = \"" + kDigits +
         "\"\n[network]\narchitecture = \"unet\"\n"
         "block_out_channels = [8, 8]\nnorm_num_groups = 4\nattention_head_dim = 8\n"
         "[schedule]\ntype = \"linear\"\nnum_levels = 1000\n"
         "[train]\nnum_steps = 2\nbatch_size = 4\nheld_out_size = 10\n" +
         more;
}

TEST(TrainImages, EnergiesLoadAgainAsModelsWithDensities) {
  for (const char* prediction : {"energy_norm", "energy_residual"}) {
    const test::Folder folder;
    std::string toml = digits_config("");
    toml.insert(toml.find("[schedule]"), std::string("prediction = \"") + prediction + "\"\n");
    RunFiles files;
    files.weights = folder / "digits";
    run_train(parse_train_config(toml), files);
    const ModelPtr model = load_pretrained(files.weights, "digits");
    EXPECT_TRUE(model->is_exact());
    const Eval eval = model->evaluate(at::ones({2, 1, 8, 8}), model->schedule()->level(10));
    EXPECT_TRUE(eval.log_density.isfinite().all().item<bool>());
  }
}

TEST(TrainImages, WritesAFolderThatGivesTheSameOutputs) {
  const test::Folder folder;
  const std::string path = folder / "digits";
  const TrainJob job = parse_train_config(digits_config(""));
  RunFiles files;
  files.json = folder / "d.json";
  files.weights = path;
  run_train(job, files);
  const auto config = nlohmann::json::parse(read_file(path + "/config.json"));
  EXPECT_EQ(config.at("_class_name"), "UNet2DModel");
  EXPECT_EQ(config.at("sample_size"), 8);
  const auto scheduler = nlohmann::json::parse(read_file(path + "/scheduler_config.json"));
  EXPECT_EQ(scheduler.at("prediction_type"), "epsilon");
  EXPECT_NEAR(scheduler.at("beta_end").get<double>(), 0.02, 1e-12);
  const TensorFile file = read_safetensors(path + "/diffusion_pytorch_model.safetensors");
  EXPECT_EQ(file.metadata.at("format"), "pt");
  EXPECT_EQ(file.metadata.at("motet.provenance.num_steps"), "2");
  const auto architecture = detail::unet2d(detail::unet2d_config(config, "config.json"));
  Rng rng(1);
  const Tensor x = rng.normal_like(at::empty({2, 1, 8, 8}, at::kFloat));
  const Tensor time = at::full({1}, 3.0F);
  const DataSetPtr data = digits(false);
  const ImageTraining training =
      detail::image_training(*job.image_network, *data, job.train.schedule);
  const TrainState state = trained(job.train, training, data);
  const Tensor ours = training.architecture->forward(
      detail::trained_tensors(*training.architecture, state), x, time, {});
  EXPECT_TRUE(at::equal(architecture->forward(file.tensors, x, time, {}), ours));
  EXPECT_GT(ours.abs().max().item<float>(), 0.0F);
}

TEST(TrainImages, SchedulersSayLinearOrListTheirBetas) {
  EXPECT_TRUE(
      detail::scheduler_json(NoiseSchedule::linear(10), "sample").at("trained_betas").is_null());
  const auto cosine = detail::scheduler_json(NoiseSchedule::cosine(10), "sample");
  ASSERT_EQ(cosine.at("trained_betas").size(), 10U);
  EXPECT_EQ(cosine.at("trained_betas")[9], NoiseSchedule::cosine(10).level(9).beta);
}

TEST(TrainImages, RefusesWhatDoesNotFit) {
  const DataSetPtr plain = digits(false);
  const DataSetPtr labelled = digits(true);
  TrainConfig config = short_training(1);
  const auto run = [&](const ImageNetwork& network, const DataSetPtr& data) {
    return trained(config, detail::image_training(network, *data, config.schedule), data);
  };
  EXPECT_THROW_MSG(run(unet("epsilon", R"({"num_class_embeds": 11})"), plain), ConfigError,
                   "train: the input \"class_labels\" needs points with labels, but the data " +
                       kDigits + " have none; give data.labels");
  EXPECT_THROW_MSG(run(unet("epsilon", R"({"num_class_embeds": 11})"), labelled), ConfigError,
                   "train: the input \"class_labels\" takes 11 values, but the data " + kDigits +
                       " have 10 classes; set num_class_embeds = 10");
  EXPECT_THROW_MSG(
      run(unet("epsilon", R"({"class_embed_type": "identity"})"), plain), ConfigError,
      "train: the input \"class_labels\" of shape (32) needs points with a vector each, "
      "such as data.set = \"scenes\" gives, but the data " +
          kDigits + " have none");
  EXPECT_THROW_MSG(detail::image_training(unet(), *builtin_data("ring"), config.schedule),
                   ConfigError,
                   "train: network.architecture = \"unet\" takes images, but the data " +
                       builtin_data("ring")->describe() + " have the shape (2)");
  config.drop_probability = 0.1;
  EXPECT_THROW_MSG(run(unet("epsilon", R"({"num_class_embeds": 10})"), labelled), ConfigError,
                   "train: the input \"class_labels\" takes 10 values, but the data " + kDigits +
                       " have 10 classes, and drop_probability > 0 takes one more; set "
                       "num_class_embeds = 11");
  const ImageNetwork encoder{.architecture = "encoder_unet", .config = kEncoder, .prediction = ""};
  EXPECT_THROW_MSG(run(encoder, labelled), ConfigError,
                   "train: drop_probability is > 0, but a classifier sees no label; set "
                   "drop_probability = 0");
  config.drop_probability = 0.0;
  config.mixed_precision = true;
  EXPECT_THROW_MSG(
      run(unet("energy_norm"), plain), ConfigError,
      "train: mixed_precision = true is not for energies, whose gradients of gradients "
      "need float32; set mixed_precision = false");
  config.held_out_size = 9;
  EXPECT_THROW_MSG(
      run(unet(), plain), ConfigError,
      "train: held_out_size = 9, must be at least 10, one for each tenth of the levels");
}

TEST(TrainImages, ConfigsSayWhatIsWrong) {
  const auto parse = [](const std::string& toml) { return parse_train_config(toml, "t.toml"); };
  const auto at = [](const std::string& line, const std::string& why) {
    return "config: t.toml:" + line + ": " + why;
  };
  EXPECT_THROW_MSG(parse("data.set = \"ring\"\nnetwork.num_class_embeds = 3\n"), ConfigError,
                   at("2",
                      "network.num_class_embeds = 3, but network.architecture is "
                      "\"residual_mlp\", which has no such parameter"));
  EXPECT_THROW_MSG(
      parse("data.set = \"scenes\"\nnetwork.architecture = \"unet\"\nnetwork.width = 3\n"),
      ConfigError,
      at("3",
         "network.width = 3, but network.architecture is \"unet\", which has no "
         "such parameter"));
  EXPECT_THROW_MSG(
      parse("data.set = \"scenes\"\n"), ConfigError,
      "config: t.toml: [data] has images, but network.architecture is \"residual_mlp\", "
      "which takes points (d); set network.architecture = \"unet\" or \"encoder_unet\"");
  EXPECT_THROW_MSG(parse("data.set = \"ring\"\nnetwork.architecture = \"unet\"\n"), ConfigError,
                   at("2",
                      "network.architecture = \"unet\", needs images; give data.images or "
                      "data.set = \"scenes\""));
  EXPECT_THROW_MSG(parse("data.set = \"ring\"\ndata.flip = true\n"), ConfigError,
                   at("2", "data.flip = true, but data.images is not given"));
  EXPECT_THROW_MSG(parse("data.set = \"ring\"\ndata.size = 32\n"), ConfigError,
                   at("2", "data.size = 32, but data.set is not \"scenes\""));
  EXPECT_THROW_MSG(parse("data.images = \"a\"\nnetwork.architecture = \"unet\"\n"
                         "network.num_class_embeds = 11\n"),
                   ConfigError,
                   at("3",
                      "network.num_class_embeds = 11, but [data] has no classes; give "
                      "data.images with data.labels"));
  EXPECT_THROW_MSG(
      parse("data.images = \"a\"\ndata.labels = \"b\"\nnetwork.architecture = \"unet\"\n"),
      ConfigError,
      at("2",
         "data.labels = \"b\", but the network does not see the class; leave it "
         "out, or give network.num_class_embeds"));
  EXPECT_THROW_MSG(parse("data.images = \"a\"\nnetwork.architecture = \"unet\"\n"
                         "network.class_embed_type = \"identity\"\n"),
                   ConfigError,
                   at("3",
                      "network.class_embed_type = \"identity\", but the data have no condition; "
                      "set data.set = \"scenes\""));
  EXPECT_THROW_MSG(parse("data.set = \"scenes\"\nnetwork.architecture = \"unet\"\n"
                         "train.reference_path = true\n"),
                   ConfigError,
                   at("3",
                      "train.reference_path = true, but networks of images have one path only; "
                      "leave it out"));
}

TEST(TrainImages, ResolvedConfigsGiveTheSameJobAgain) {
  const TrainJob job = parse_train_config(digits_config("drop_probability = 0.0\n"));
  const TrainJob again = parse_train_config(job.toml);
  EXPECT_EQ(again.toml, job.toml);
  EXPECT_EQ(again.image_network->config, job.image_network->config);
  EXPECT_EQ(again.image_network->prediction, "epsilon");
  EXPECT_EQ(job.toml.find("widen"), std::string::npos);
}

}  // namespace
}  // namespace motet
