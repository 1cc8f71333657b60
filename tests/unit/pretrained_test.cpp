// Folders of diffusers as strangers send them: broken, truncated, hostile, of another kind; and
// respacing, clipping, old names, which path is whose.
#include "motet/pretrained.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "json_object.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "nets/unet2d.hpp"
#include "pretrained_detail.hpp"
#include "support/folder.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using detail::OutputSpec;
using test::Folder;
using test::read_text;
using test::write_text;

const std::string kGolden = MOTET_SOURCE_DIR "/tests/golden/unet2d/";
constexpr const char* kWeights = "diffusion_pytorch_model.safetensors";

// The network of tests/golden/unet2d in a folder of its own, to be spoiled.
class DiffusersFolder : public ::testing::Test {
 protected:
  void SetUp() override { fill("pipeline/unet"); }

  void fill(const std::string& source) {
    fs::copy(kGolden + source, folder_.path(),
             fs::copy_options::recursive | fs::copy_options::overwrite_existing);
    fs::copy(kGolden + "sharded/scheduler_config.json", folder_ / "scheduler_config.json",
             fs::copy_options::overwrite_existing);
  }
  std::string at(const std::string& name) const { return folder_ / name; }

  void edit(const std::string& name, const std::function<void(Json&)>& change) {
    Json json = Json::parse(read_text(at(name)));
    change(json);
    write_text(at(name), json.dump());
  }
  void set(const std::string& name, const std::string& key, const Json& value) {
    edit(name, [&](Json& json) { json[key] = value; });
  }

  ModelPtr load(PretrainedOptions options = {}) const {
    options.inputs.emplace("class_labels", at::scalar_tensor(1));
    return load_pretrained(folder_.path(), "net", options);
  }
  std::string where(const std::string& name) const { return "diffusers: " + at(name) + ": "; }
  std::string here() const { return "diffusers: " + folder_.path() + ": "; }

  Folder folder_;
};

at::Tensor score_of(const ModelPtr& model) {
  const at::Tensor x = at::linspace(-1.0, 1.0, 64).view({2, 2, 4, 4});
  return model->evaluate(x, model->schedule()->level(5)).score;
}

TEST_F(DiffusersFolder, LoadsByEachOfItsPaths) {
  const at::Tensor score = score_of(load());
  EXPECT_TRUE(at::isfinite(score).all().item<bool>());
  const PretrainedOptions options{.inputs = {{"class_labels", at::full({1}, 1)}}};
  EXPECT_TRUE(at::equal(score_of(load_diffusers(folder_.path() + "/", "a", options)), score));
  EXPECT_TRUE(at::equal(score_of(load_pretrained(kGolden + "pipeline", "b", options)), score));
}

TEST_F(DiffusersFolder, AClassIsNeededAndChangesTheScore) {
  EXPECT_THROW_MSG(load_pretrained(folder_.path(), "net"), ConfigError,
                   here() +
                       "input \"class_labels\" is missing; the network needs one of shape (), "
                       "a class from 0 to 2");
  const PretrainedOptions other{.inputs = {{"class_labels", at::scalar_tensor(2)}}};
  EXPECT_FALSE(at::equal(score_of(load()), score_of(load(other))));
}

TEST_F(DiffusersFolder, ALoneVariantIsTakenAndTwoAreRefused) {
  const at::Tensor score = score_of(load());
  fs::rename(at(kWeights), at("diffusion_pytorch_model.fp16.safetensors"));
  EXPECT_TRUE(at::equal(score_of(load()), score));
  fs::copy(at("diffusion_pytorch_model.fp16.safetensors"),
           at("diffusion_pytorch_model.ema.safetensors"));
  EXPECT_THROW_MSG(load(), ConfigError,
                   here() +
                       "has several variants of the weights: "
                       "\"diffusion_pytorch_model.ema.safetensors\", "
                       "\"diffusion_pytorch_model.fp16.safetensors\"; rename the one to be "
                       "used to \"diffusion_pytorch_model.safetensors\", or take the others "
                       "away");
}

TEST_F(DiffusersFolder, HalfPrecisionWeightsAreWidened) {
  const at::Tensor score = score_of(load());
  TensorFile file = read_safetensors(at(kWeights));
  for (auto& [name, tensor] : file.tensors) {
    tensor = tensor.to(at::kHalf);
  }
  write_safetensors(at(kWeights), file);
  EXPECT_LT((score_of(load()) - score).abs().max().item<double>(), 0.02);
}

TEST_F(DiffusersFolder, OldNamesOfAttentionsAreKnown) {
  const at::Tensor score = score_of(load());
  TensorFile file = read_safetensors(at(kWeights));
  const std::vector<std::pair<std::string, std::string>> parts = {{".to_q.", ".query."},
                                                                  {".to_k.", ".key."},
                                                                  {".to_v.", ".value."},
                                                                  {".to_out.0.", ".proj_attn."}};
  TensorFile old;
  for (const auto& [name, tensor] : file.tensors) {
    std::string renamed = name;
    for (const auto& [now, before] : parts) {
      if (const size_t place = renamed.find(now); place != std::string::npos) {
        renamed.replace(place, now.size(), before);
      }
    }
    old.tensors[renamed] = tensor.clone();
  }
  write_safetensors(at(kWeights), old);
  EXPECT_TRUE(at::equal(score_of(load()), score));
  const std::string name = "mid_block.attentions.0.to_q.bias";
  old.tensors[name] = file.tensors.at(name).clone();
  write_safetensors(at(kWeights), old);
  EXPECT_THROW_MSG(load(), DataError,
                   here() + "tensor \"" + name + "\" is there twice, by an old and a new name");
}

TEST_F(DiffusersFolder, WeightsMustBeTheConfigsAndFinite) {
  const TensorFile file = read_safetensors(at(kWeights));
  TensorFile bad = file;
  bad.tensors.erase("conv_in.bias");
  write_safetensors(at(kWeights), bad);
  EXPECT_THROW_MSG(load(), DataError,
                   here() +
                       "tensor \"conv_in.bias\" of shape (4) is missing; the tensors are of "
                       "another architecture or another size");
  bad = file;
  bad.tensors["conv_in.bias"] = at::zeros({5});
  write_safetensors(at(kWeights), bad);
  EXPECT_THROW_MSG(load(), DataError,
                   here() +
                       "tensor \"conv_in.bias\": shape (5), expected (4); the tensors and the "
                       "config are of two different networks");
  bad = file;
  bad.tensors["conv_in.bias"] = at::full({4}, std::numeric_limits<float>::infinity());
  write_safetensors(at(kWeights), bad);
  EXPECT_THROW_MSG(load(), DataError,
                   here() + "tensor \"conv_in.bias\" has entries that are not finite");
}

TEST_F(DiffusersFolder, TruncatedWeightsAreRefused) {
  const std::string whole = read_text(at(kWeights));
  for (const size_t size : {size_t{0}, size_t{7}, size_t{100}, whole.size() - 1}) {
    write_text(at(kWeights), whole.substr(0, size));
    EXPECT_THROW(load(), DataError) << size;
  }
}

TEST_F(DiffusersFolder, PicklesAreRefusedUnread) {
  fs::rename(at(kWeights), at("diffusion_pytorch_model.bin"));
  EXPECT_THROW_MSG(load(), DataError,
                   here() +
                       "has only diffusion_pytorch_model.bin, a pickle, which can run any code "
                       "when it is opened, so motet never does; the converters in tools/export/ "
                       "make safetensors of it (docs/loading.md)");
  fs::remove(at("diffusion_pytorch_model.bin"));
  EXPECT_THROW_MSG(load(), DataError,
                   here() +
                       "has no diffusion_pytorch_model.safetensors and no "
                       "diffusion_pytorch_model.safetensors.index.json");
  EXPECT_THROW_MSG(load_pretrained(at("model.ckpt"), "net"), DataError,
                   "pretrained: " + at("model.ckpt") +
                       ": is a pickle by its name, which can run any code when it is opened, so "
                       "motet never does; the converters in tools/export/ make a folder of it "
                       "(docs/loading.md)");
}

TEST_F(DiffusersFolder, ShardsAreWhereTheirIndexSays) {
  fs::remove(at(kWeights));
  fill("sharded");
  const at::Tensor score = score_of(load());
  EXPECT_TRUE(at::isfinite(score).all().item<bool>());
  EXPECT_EQ(pretrained_files(folder_.path()).size(), 7U);  // two configs, the index, four shards
  const std::string index = std::string(kWeights) + ".index.json";
  const auto shard = [](int i) {
    return "diffusion_pytorch_model-0000" + std::to_string(i) + "-of-00004.safetensors";
  };
  const TensorFile file = read_safetensors(at(shard(1)));
  const std::string tensor = file.tensors.begin()->first;
  TensorFile more = read_safetensors(at(shard(2)));
  more.tensors[tensor] = file.tensors.at(tensor).clone();
  const std::string second = read_text(at(shard(2)));
  write_safetensors(at(shard(2)), more);
  EXPECT_THROW_MSG(
      load(), DataError,
      where(shard(2)) + "holds tensor \"" + tensor + "\", which " + index + " has in " + shard(1));
  write_text(at(shard(2)), second);
  edit(index, [&](Json& json) { json["weight_map"].erase(tensor); });
  EXPECT_THROW_MSG(
      load(), DataError,
      where(shard(1)) + "holds tensor \"" + tensor + "\", which " + index + " does not name");
  edit(index, [&](Json& json) {
    json["weight_map"][tensor] = shard(1);
    json["weight_map"]["more"] = shard(1);
  });
  EXPECT_THROW_MSG(load(), DataError,
                   where(shard(1)) + "has no tensor \"more\", but " + index + " has it there");
  fs::remove(at(shard(3)));
  EXPECT_THROW_MSG(load(), DataError, where(shard(3)) + "is missing, but " + index + " names it");
}

TEST_F(DiffusersFolder, AnIndexMayNotLeaveItsFolder) {
  const std::string index = std::string(kWeights) + ".index.json";
  for (const std::string file : {"../x.safetensors", "/etc/passwd", "a/x.safetensors", "..",
                                 "x.bin", "", "a\\x.safetensors"}) {
    write_text(at(index), Json{{"weight_map", {{"conv_in.bias", file}}}}.dump());
    EXPECT_THROW_MSG(
        load(), DataError,
        where(index) + "tensor \"conv_in.bias\" is in " +
            (file == "a\\x.safetensors" ? "\"a\\x5cx.safetensors\"" : "\"" + file + "\"") +
            ", must be in a .safetensors file of this folder");
  }
  write_text(at(index), R"({"weight_map": {"conv_in.bias": 7}})");
  EXPECT_THROW_MSG(load(), DataError,
                   where(index) +
                       "tensor \"conv_in.bias\" is in no file, must be in a .safetensors "
                       "file of this folder");
  write_text(at(index), R"({"weight_map": {}})");
  EXPECT_THROW_MSG(load(), DataError,
                   where(index) + "weight_map must be an object of tensors and their files");
}

TEST_F(DiffusersFolder, BrokenJsonIsRefused) {
  const auto refused = [&](const std::string& text, const std::string& why) {
    write_text(at("config.json"), text);
    EXPECT_THROW_MSG(load(), DataError, where("config.json") + why);
  };
  refused("", "is not valid JSON at its byte 1");
  refused("{\"a\": 1", "is not valid JSON at its byte 8");
  refused("[1, 2]", "is a list of 2, must be an object { }");
  refused(R"({"sample_size": 4, "sample_size": 8})", "\"sample_size\" is given twice");
  refused("{\"a\": " + std::string(100000, '[') + std::string(100000, ']') + "}",
          "is nested deeper than 32");
  refused("{\"a\": 1e999}", "is not valid JSON: it has a number that is out of range");
  refused("{\"a\": \"\xff\"}", "is not valid JSON at its byte 8");
  write_text(at("config.json"), "{\"a\": \"" + std::string(1 << 24, 'a') + "\"}");
  EXPECT_THROW(load(), DataError);
}

struct BadSetting {
  std::string key;
  std::string value;  // JSON
  std::string why;
};

TEST_F(DiffusersFolder, SettingsOfWrongTypesAndSizesAreRefused) {
  const std::vector<BadSetting> bad = {
      {"in_channels", "-3", "in_channels = -3, must be a whole number from 1 to 65536"},
      {"in_channels", "NaN", "in_channels = \"NaN\", must be a whole number from 1 to 65536"},
      {"in_channels", "1e30", "in_channels = 1e+30, must be a whole number from 1 to 65536"},
      {"in_channels", "18446744073709551615",
       "in_channels = 18446744073709551615, must be a whole number from 1 to 65536"},
      {"in_channels", "\"3\"", "in_channels = \"3\", must be a whole number from 1 to 65536"},
      {"norm_eps", "Infinity", "norm_eps = \"Infinity\", must be a number from 1e-12 to 1"},
      {"norm_eps", "0", "norm_eps = 0, must be a number from 1e-12 to 1"},
      {"center_input_sample", "1", "center_input_sample = 1, must be true or false"},
      {"act_fn", "\"tanh\"",
       "act_fn = \"tanh\", must be one of \"silu\", \"mish\", \"gelu\", \"relu\""},
      {"time_embedding_type", "\"sine\"",
       "time_embedding_type = \"sine\", must be one of \"positional\", \"fourier\", \"learned\""},
      {"time_embedding_type", "\"learned\"",
       "num_train_timesteps is missing: time_embedding_type = \"learned\" needs it"},
      {"block_out_channels", "[]", "block_out_channels = [], must be a list of 1 to 16 entries"},
      {"block_out_channels", "[4, 4.5]",
       "block_out_channels[1] = 4.5, must be a whole number from 1 to 65536"},
      {"down_block_types", "[\"DownBlock2D\", 2]", "down_block_types[1] = 2, must be a text"},
      {"sample_size", "[4, 4, 4]", "sample_size = a list of 3, must be a list of 1 to 2 entries"},
      {"sample_size", "[4]", "sample_size = a list of 1, must be one number, or [height, width]"},
      {"downsample_padding", "2", "downsample_padding = 2, must be a whole number from 0 to 1"},
      {"norm_num_group", "4", "unknown key \"norm_num_group\"; did you mean \"norm_num_groups\"?"},
      {"conditioning", "4",
       "unknown key \"conditioning\"; motet does not know what it would change"},
  };
  const std::string original = read_text(at("config.json"));
  for (const BadSetting& setting : bad) {
    Json json = Json::parse(original);
    json.erase(setting.key);
    const std::string rest = json.dump().substr(1);
    write_text(at("config.json"), "{\"" + setting.key + "\": " + setting.value + ", " + rest);
    EXPECT_THROW_MSG(load(), DataError, where("config.json") + setting.why);
  }
}

TEST_F(DiffusersFolder, SettingsThatMotetLacksAreNamed) {
  const std::vector<BadSetting> bad = {
      {"_class_name", "\"UNet2DConditionModel\"",
       "_class_name = \"UNet2DConditionModel\", must be \"UNet2DModel\"; export other networks "
       "with "
       "tools/export/ (docs/loading.md)"},
      {"sample_size", "null",
       "sample_size is null: the network takes images of any size; write the one that it was "
       "trained on into the file, as \"sample_size\": 32 or [height, width]"},
      {"sample_size", "5",
       "sample_size is 5 x 5, must be multiples of 2: each block but the last halves the image"},
      {"down_block_types", "[\"DownBlock2D\", \"KDownBlock2D\"]",
       "down_block_types has \"KDownBlock2D\", which motet does not have; it has DownBlock2D, "
       "AttnDownBlock2D, ResnetDownsampleBlock2D, SkipDownBlock2D, AttnSkipDownBlock2D; export the "
       "network as a program instead (docs/loading.md)"},
      {"down_block_types", "[\"DownBlock2D\"]",
       "there are 1 down_block_types, 2 up_block_types and 2 block_out_channels, must be as many "
       "of "
       "each, at least 1"},
      {"down_block_types", "[\"SkipDownBlock2D\", \"DownBlock2D\"]",
       "blocks that skip are for images of 3 channels, but in_channels = 2 and out_channels = 2"},
      {"up_block_types", "[\"SkipUpBlock2D\", \"UpBlock2D\"]",
       "up_block_types has a block that skips before one that does not: the images that skip past "
       "would not have its size"},
      {"mid_block_type", "\"UNetMidBlock2DCrossAttn\"",
       "mid_block_type = \"UNetMidBlock2DCrossAttn\", must be \"UNetMidBlock2D\" or null; export "
       "the "
       "network as a program instead (docs/loading.md)"},
      {"resnet_time_scale_shift", "\"spatial\"",
       "resnet_time_scale_shift = \"spatial\", must be \"default\" or \"scale_shift\""},
      {"norm_num_groups", "3",
       "down_blocks.0.resnets.0.norm1 has 4 channels, which 3 groups do not divide; see "
       "norm_num_groups"},
      {"norm_num_groups", "null", "norm_num_groups is null, which only blocks that skip allow"},
      {"attention_head_dim", "8",
       "attention_head_dim = 8, but down_blocks.1.attentions.0 has only 4 channels"},
      {"freq_shift", "2",
       "freq_shift is half the first of block_out_channels: the frequencies of the time would be "
       "infinite"},
  };
  const std::string original = read_text(at("config.json"));
  for (const BadSetting& setting : bad) {
    Json json = Json::parse(original);
    json[setting.key] = Json::parse(setting.value);
    write_text(at("config.json"), json.dump());
    EXPECT_THROW_MSG(load(), ConfigError, where("config.json") + setting.why);
  }
}

TEST_F(DiffusersFolder, ClippingIsRefusedUnlessAccepted) {
  const std::string scheduler = "scheduler_config.json";
  const at::Tensor score = score_of(load());
  const std::string reason =
      ": a sampler that cuts its estimates of x_0 draws from another law than the one whose score "
      "the network is, and what is cut is no gradient that a Metropolis test could integrate. "
      "motet "
      "samples the unclipped law; accept that with ignore_clipping = true, or write false into the "
      "file";
  set(scheduler, "clip_sample", true);
  EXPECT_THROW_MSG(load(), ConfigError, where(scheduler) + "clip_sample is true" + reason);
  EXPECT_TRUE(at::equal(score_of(load({.ignore_clipping = true})), score));
  edit(scheduler, [](Json& json) { json.erase("clip_sample"); });
  EXPECT_THROW_MSG(
      load(), ConfigError,
      where(scheduler) + "clip_sample is true (the default of DDPMScheduler)" + reason);
  set(scheduler, "clip_sample", false);
  set(scheduler, "thresholding", true);
  EXPECT_THROW_MSG(load(), ConfigError, where(scheduler) + "thresholding is true" + reason);
  const auto rows = describe_pretrained(folder_.path());
  EXPECT_EQ(rows.back().second, "thresholding is true; loads with ignore_clipping = true only");
}

TEST_F(DiffusersFolder, SchedulersThatMotetLacksAreNamed) {
  const std::string scheduler = "scheduler_config.json";
  const std::string original = read_text(at(scheduler));
  const std::vector<BadSetting> bad = {
      {"_class_name", "\"FlowMatchEulerDiscreteScheduler\"",
       "_class_name = \"FlowMatchEulerDiscreteScheduler\", whose noise motet does not know; known: "
       "DDPMScheduler, DDPMParallelScheduler, DDIMScheduler, DDIMParallelScheduler, PNDMScheduler, "
       "DPMSolverMultistepScheduler, DPMSolverSinglestepScheduler, UniPCMultistepScheduler, "
       "DEISMultistepScheduler, EulerDiscreteScheduler, EulerAncestralDiscreteScheduler, "
       "LMSDiscreteScheduler, HeunDiscreteScheduler, KDPM2DiscreteScheduler, ScoreSdeVeScheduler"},
      {"prediction_type", "\"flow_prediction\"",
       "prediction_type = \"flow_prediction\", must be one of \"epsilon\", \"sample\", "
       "\"v_prediction\", \"energy_norm\", \"energy_residual\""},
      {"use_flow_sigmas", "true",
       "use_flow_sigmas is true: the network was trained on flows, not on noise levels"},
  };
  for (const BadSetting& setting : bad) {
    write_text(at(scheduler), original);
    set(scheduler, setting.key, Json::parse(setting.value));
    EXPECT_THROW_MSG(load(), ConfigError, where(scheduler) + setting.why);
  }
  const std::vector<BadSetting> broken = {
      {"beta_start", "-1", "beta_start = -1, must be a number from 0 to 1"},
      {"num_train_timesteps", "1e9",
       "num_train_timesteps = 1000000000.0, must be a whole number "
       "from 1 to 100000"},
      {"trained_betas", "[0.1, 0.2]",
       "trained_betas = a list of 2, must have as many entries as num_train_timesteps = 40"},
      {"trained_betas", "[0.1, \"0.2\"]",
       "trained_betas[1] = \"0.2\", must be a number from 0 to 1"},
      {"beta_shedule", "\"linear\"",
       "unknown key \"beta_shedule\"; did you mean \"beta_schedule\"?"},
      {"variance_type", "\"none\"",
       "variance_type = \"none\", must be one of \"fixed_small\", \"fixed_small_log\", "
       "\"fixed_large\", \"fixed_large_log\", \"learned\", \"learned_range\""},
  };
  for (const BadSetting& setting : broken) {
    write_text(at(scheduler), original);
    set(scheduler, setting.key, Json::parse(setting.value));
    EXPECT_THROW_MSG(load(), DataError, where(scheduler) + setting.why);
  }
  fs::remove(at(scheduler));
  EXPECT_THROW_MSG(load(), DataError,
                   here() +
                       "there is no scheduler_config.json here, in scheduler/ or in "
                       "../scheduler/; without it nobody knows what the network predicts, and "
                       "at which noise");
}

TEST_F(DiffusersFolder, SettingsOfSamplersAreOfNoMatter) {
  const at::Tensor score = score_of(load());
  edit("scheduler_config.json", [](Json& json) {
    json["_class_name"] = "DPMSolverMultistepScheduler";
    json["solver_order"] = 3;
    json["timestep_spacing"] = "trailing";
  });
  std::string text = read_text(at("scheduler_config.json"));
  text.insert(1, "\"lambda_min_clipped\": -Infinity, ");  // as Python writes it
  write_text(at("scheduler_config.json"), text);
  EXPECT_TRUE(at::equal(score_of(load()), score));
}

TEST_F(DiffusersFolder, TimesMustFitTheEmbedding) {
  set("config.json", "time_embedding_type", "fourier");
  EXPECT_THROW_MSG(load(), ConfigError,
                   where("scheduler_config.json") +
                       "counts time from 0, but time_embedding_type = \"fourier\" takes its "
                       "logarithm; such networks go with a ScoreSdeVeScheduler");
  set("config.json", "time_embedding_type", "learned");
  set("config.json", "num_train_timesteps", 39);
  EXPECT_THROW_MSG(load(), ConfigError,
                   where("scheduler_config.json") +
                       "has more levels than the network's num_train_timesteps = 39");
}

TEST_F(DiffusersFolder, FewerLevelsKeepTheirTimes) {
  const ModelPtr all = load();
  const ModelPtr few = load({.num_levels = 14});
  ASSERT_EQ(few->schedule()->num_levels(), 14);
  const at::Tensor x = at::linspace(-1.0, 1.0, 64).view({2, 2, 4, 4});
  for (int64_t i = 0; i < 14; ++i) {  // 40 levels in steps of exactly 3
    const NoiseLevel level = few->schedule()->level(i);
    const NoiseLevel same = all->schedule()->level(3 * i);
    EXPECT_EQ(level.alpha_bar, same.alpha_bar);
    EXPECT_TRUE(at::equal(few->evaluate(x, level).score, all->evaluate(x, same).score)) << i;
  }
  for (const int64_t bad : {int64_t{1}, int64_t{41}, int64_t{-5}}) {
    EXPECT_THROW_MSG(load({.num_levels = bad}), ConfigError,
                     here() + "num_levels = " + std::to_string(bad) +
                         ", must be from 2 to 40, the levels that the network was trained on");
  }
}

// space_timesteps(1000, [7]) and (10, [4]) of guided-diffusion.
TEST(Respaced, TakesTheLevelsOfGuidedDiffusion) {
  const auto times_of = [](int64_t total, int64_t num_levels) {
    OutputSpec spec{.schedule = NoiseSchedule::linear(total), .times = {}};
    for (int64_t t = 0; t < total; ++t) {
      spec.times.push_back(static_cast<double>(t));
    }
    return detail::respaced(spec, num_levels, "").times;
  };
  EXPECT_EQ(times_of(1000, 7), (std::vector<double>{0, 166, 333, 500, 666, 832, 999}));
  EXPECT_EQ(times_of(10, 4), (std::vector<double>{0, 3, 6, 9}));
  EXPECT_EQ(times_of(10, 0).size(), 10U);
}

TEST(SchedulerConfig, AZeroTerminalLevelIsLeftOut) {
  const Json json = {{"_class_name", "DDIMScheduler"},
                     {"clip_sample", false},
                     {"rescale_betas_zero_snr", true},
                     {"num_train_timesteps", 30}};
  const detail::SchedulerConfig config = detail::scheduler_config(json, "x");
  EXPECT_EQ(config.output.schedule.num_levels(), 29);
  EXPECT_EQ(config.output.times.size(), 29U);
}

TEST(SchedulerConfig, ExplodingNoiseIsSeenAsSigma) {
  const Json json = {{"_class_name", "ScoreSdeVeScheduler"},
                     {"num_train_timesteps", 5},
                     {"sigma_min", 0.01},
                     {"sigma_max", 100.0},
                     {"snr", 0.15}};
  const OutputSpec output = detail::scheduler_config(json, "x").output;
  EXPECT_EQ(output.prediction, detail::Prediction::score);
  EXPECT_EQ(output.coordinates, detail::Coordinates::variance_exploding);
  for (int i = 0; i < 5; ++i) {
    const double sigma = 0.01 * std::pow(10.0, i);
    EXPECT_NEAR(output.times[static_cast<size_t>(i)], sigma, 1e-12 * sigma);
    EXPECT_NEAR(output.schedule.level(i).alpha_bar, 1.0 / (1.0 + sigma * sigma), 1e-12);
  }
}

TEST(SchedulerConfig, BetasThatGiveNoScheduleAreRefused) {
  const Json json = {
      {"_class_name", "DDPMScheduler"}, {"num_train_timesteps", 2}, {"trained_betas", {0.1, 0.0}}};
  EXPECT_THROW(detail::scheduler_config(json, "x"), DataError);
}

// Bytes changed, lost or doubled at random: an error of motet's, or a config.
TEST(UNet2DConfig, SpoiledFilesAreRefusedOrRead) {
  const std::string config = read_text(kGolden + "pipeline/unet/config.json");
  const std::string scheduler = read_text(kGolden + "pipeline/scheduler/scheduler_config.json");
  std::mt19937 random(1);
  const auto below = [&random](size_t count) { return static_cast<size_t>(random()) % count; };
  int num_refused = 0;
  for (int i = 0; i < 2000; ++i) {
    std::string text = i % 2 == 0 ? config : scheduler;
    for (size_t change = below(3) + 1; change > 0; --change) {
      static const std::string kBytes = "0123456789-+.eE{}[]\",:ntfN \\\xff";
      const size_t place = below(text.size());
      switch (below(3)) {
        case 0:
          text[place] = kBytes[below(kBytes.size())];
          break;
        case 1:
          text.erase(place, below(20));
          break;
        default:
          text.insert(place, text.substr(below(text.size()), below(20)));
      }
    }
    try {
      const Json json = detail::parse_json_object(text, "x");
      if (i % 2 == 0) {
        detail::unet2d(detail::unet2d_config(json, "x"))->expected_tensors();
      } else {
        detail::scheduler_config(json, "x");
      }
    } catch (const DataError&) {
      ++num_refused;
    } catch (const ConfigError&) {
      ++num_refused;
    }
  }
  EXPECT_GT(num_refused, 1000);
}

TEST(PretrainedKind, IsToldByNamesOnly) {
  const Folder folder;
  EXPECT_EQ(pretrained_kind(folder.path()), PretrainedKind::none);
  EXPECT_EQ(pretrained_kind(folder / "net.safetensors"), PretrainedKind::none);
  EXPECT_EQ(pretrained_kind(folder / "net.ts"), PretrainedKind::exported_program);
  EXPECT_EQ(pretrained_kind(kGolden + "pipeline"), PretrainedKind::diffusers);
  EXPECT_EQ(pretrained_kind(kGolden + "sharded"), PretrainedKind::diffusers);
  write_text(folder / "motet.json", "{}");
  EXPECT_EQ(pretrained_kind(folder.path()), PretrainedKind::guided_diffusion);
}

TEST(LoadPretrained, RefusesWhatItDoesNotKnow) {
  const Folder folder;
  EXPECT_THROW_MSG(load_pretrained(folder.path(), "net"), DataError,
                   "pretrained: " + folder.path() +
                       ": the folder has neither a config.json of diffusers nor a motet.json");
  EXPECT_THROW_MSG(load_pretrained(folder / "gone", "net"), DataError,
                   "pretrained: " + (folder / "gone") + ": does not exist");
  write_text(folder / "net.txt", "");
  EXPECT_THROW_MSG(load_pretrained(folder / "net.txt", "net"), DataError,
                   "pretrained: " + (folder / "net.txt") +
                       ": is not a network that motet knows: a folder of diffusers or "
                       "guided-diffusion, a program (.ts, .pt2) with its motet.json, or a "
                       "mixer (.eqx) (docs/loading.md)");
  write_text(folder / "model_index.json", "{}");
  EXPECT_THROW_MSG(
      load_pretrained(folder.path(), "net"), ConfigError,
      "diffusers: " + folder.path() +
          ": the pipeline has no unet/config.json; of pipelines motet takes those of a "
          "UNet2DModel; export others with tools/export/ (docs/loading.md)");
}

}  // namespace
}  // namespace motet
