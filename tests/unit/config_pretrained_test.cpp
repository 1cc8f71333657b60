// [model.NAME] tables of pretrained networks: inputs, respacing, clipping, names in quotes, and what a
// checkpoint knows of their files.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <limits>

#include "motet/error.hpp"
#include "motet/io.hpp"
#include "motet/pretrained.hpp"
#include "motet/run.hpp"
#include "motet/train.hpp"
#include "run_pretrained.hpp"
#include "support/folder.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

using test::Folder;
using test::read_text;
using test::write_text;

const std::string kTable =
    "[model.cat]\n"
    "weights = \"nets/cat\"\n"
    "num_levels = 20\n"
    "ignore_clipping = true\n"
    "[model.cat.inputs]\n"
    "class_labels = 2\n"
    "embedding = \"cat.npy\"\n";

TEST(ConfigPretrained, TablesSayHowANetworkIsRun) {
  const SampleConfig config = parse_config(kTable, "a.toml", {}, "/data");
  ASSERT_EQ(config.terms.size(), 1U);
  const PretrainedConfig expected{
      .inputs = {{"class_labels", {.number = 2.0}}, {"embedding", {.file = "/data/cat.npy"}}},
      .num_levels = 20,
      .ignore_clipping = true};
  EXPECT_EQ(config.terms[0].pretrained, expected);
  EXPECT_EQ(config.terms[0].weights, "/data/nets/cat");
  EXPECT_TRUE(parse_config("[model.cat]\nweights = \"x\"\n").terms[0].pretrained.is_default());
}

TEST(ConfigPretrained, InputsDecideTheResultAndAreWrittenBack) {
  const SampleConfig config = parse_config(kTable, "a.toml", {}, "/data");
  EXPECT_EQ(config.identity.at("model.cat.inputs.class_labels"), "2.0");
  const SampleConfig again = parse_config(config.toml, "a.toml", {}, "/data");
  EXPECT_EQ(again.terms[0].pretrained, config.terms[0].pretrained);
  EXPECT_EQ(again.toml, config.toml);
  const SampleConfig other = parse_config(kTable, "a.toml", {"model.cat.inputs.class_labels=1"});
  EXPECT_EQ(other.terms[0].pretrained.inputs.at("class_labels").number, 1.0);
}

TEST(ConfigPretrained, RefusesWhatDoesNotFit) {
  EXPECT_THROW_MSG(parse_config("[model.a]\nlaw = \"ring\"\nnum_levels = 20\n", "a.toml"),
                   ConfigError,
                   "config: a.toml:3: model.a.num_levels = 20, but [model.a] has no weights of a "
                   "network; leave it out");
  EXPECT_THROW_MSG(
      parse_config("target = \"a\"\n[model.a]\nexpression = \"ring\"\ninputs.y = 1\n", "a.toml"),
      ConfigError,
      "config: a.toml:4: model.a.inputs.y = 1.0, but [model.a] has no weights of a network; leave "
      "it out");
  EXPECT_THROW_MSG(
      parse_config("[model.a]\nweights = \"x\"\ninputs.y = \"y.pt\"\n", "a.toml"), ConfigError,
      "config: a.toml:3: model.a.inputs.y = \"y.pt\", must be a number, or a file whose name ends "
      "in .npy or .safetensors");
  EXPECT_THROW_MSG(parse_config("[model.a]\nweights = \"x\"\ninput.y = 1\n", "a.toml"), ConfigError,
                   "config: a.toml:3: unknown key model.a.input; did you mean model.a.inputs?");
}

TEST(ConfigPretrained, AConditionIsNumbersOrNone) {
  const auto parsed = [](const std::string& keys) {
    return parse_config("[model.a]\nweights = \"x\"\n" + keys, "a.toml");
  };
  const SampleConfig config = parsed("condition = [0.5, -0.25]\n");
  EXPECT_EQ(config.terms[0].pretrained.condition, (std::vector<double>{0.5, -0.25}));
  EXPECT_EQ(config.identity.at("model.a.condition"), "[0.5, -0.25]");
  EXPECT_EQ(parse_config(config.toml, "a.toml").terms[0].pretrained, config.terms[0].pretrained);
  EXPECT_EQ(parsed("condition = []\n").terms[0].pretrained.condition, std::vector<double>());
  EXPECT_EQ(parsed("").terms[0].pretrained.condition, std::nullopt);
  EXPECT_THROW_MSG(parsed("condition = [0.5]\ninputs.class_labels = 1\n"), ConfigError,
                   "config: a.toml:3: model.a.condition = [0.5], but [model.a.inputs] gives "
                   "class_labels, which the condition becomes; leave one out");
  EXPECT_THROW_MSG(parse_config("[model.a]\nlaw = \"ring\"\ncondition = []\n", "a.toml"),
                   ConfigError,
                   "config: a.toml:3: model.a.condition = [], but [model.a] has no weights of a "
                   "network; leave it out");
}

TEST(ConfigPretrained, ExpressionsNameFoldersAndPrograms) {
  for (const std::string path : {"nets/cat", "v1.5/", "net.ts", "net.pt2", "net.safetensors"}) {
    const SampleConfig config = parse_config("target = \"'" + path + "'\"", "a.toml", {}, "/data");
    EXPECT_EQ(config.terms[0].weights, "/data/" + path);
  }
}

// Loads the network of a table over the weights of tests/golden/unet2d.
ModelPtr load(const std::string& inputs, const std::string& directory) {
  const std::string weights = MOTET_SOURCE_DIR "/tests/golden/unet2d/pipeline";
  const SampleConfig config = parse_config(
      "[model.a]\nweights = \"" + weights + "\"\nnum_levels = 10\n[model.a.inputs]\n" + inputs,
      "a.toml", {}, directory);
  return detail::load_network(config, config.terms[0]);
}

TEST(ConfigPretrained, InputsComeFromNumbersAndFiles) {
  const Folder folder;
  write_npy(folder / "class.npy", at::tensor({2.0F}));
  write_safetensors(folder / "one.safetensors",
                    {.tensors = {{"y", at::tensor({2.0F})}}, .metadata = {}});
  write_safetensors(folder / "two.safetensors",
                    {.tensors = {{"y", at::tensor({0.0F})}, {"class_labels", at::tensor({2.0F})}},
                     .metadata = {}});
  write_safetensors(
      folder / "bad.safetensors",
      {.tensors = {{"y", at::tensor({0.0F})}, {"z", at::tensor({2.0F})}}, .metadata = {}});
  const auto score = [&](const std::string& input) {
    const ModelPtr model = load("class_labels = " + input + "\n", folder.path());
    const Tensor x = at::linspace(-1.0, 1.0, 32).view({1, 2, 4, 4});
    return model->evaluate(x, model->schedule()->level(5)).score;
  };
  const Tensor expected = score("2");
  EXPECT_FALSE(at::equal(score("1"), expected));
  for (const std::string file : {"class.npy", "one.safetensors", "two.safetensors"}) {
    EXPECT_TRUE(at::equal(score("\"" + file + "\""), expected)) << file;
  }
  EXPECT_THROW_MSG(score("\"bad.safetensors\""), DataError,
                   "read: " + (folder / "bad.safetensors") +
                       ": has 2 tensors, must have one, or one called \"class_labels\"");
}

// A network of scenes that motet has trained, of a few steps.
class Conditioned : public ::testing::Test {
 protected:
  void SetUp() override {
    RunFiles files;
    files.weights = folder_ / "scenes";
    run_train(parse_train_config("[data]\nset = \"scenes\"\nsize = 8\n"
                                 "[network]\narchitecture = \"unet\"\n"
                                 "class_embed_type = \"identity\"\nblock_out_channels = [8, 8]\n"
                                 "norm_num_groups = 4\nattention_head_dim = 8\n"
                                 "[schedule]\ntype = \"linear\"\nnum_levels = 1000\n"
                                 "[train]\nnum_steps = 5\nbatch_size = 4\n"
                                 "held_out_size = 10\nlearning_rate = 0.01\n"),
              files);
  }
  ModelPtr load(const std::string& keys) const {
    const SampleConfig config =
        parse_config("[model.a]\nweights = \"scenes\"\n" + keys, "a.toml", {}, folder_.path());
    return detail::load_network(config, config.terms[0]);
  }
  Tensor score(const std::string& keys) const {
    const ModelPtr model = load(keys);
    const Tensor x = at::linspace(-1.0, 1.0, 192).view({1, 3, 8, 8});
    return model->evaluate(x, model->schedule()->level(500)).score;
  }
  void edit(const std::string& from, const std::string& to) const {
    std::string text = read_text(folder_ / "scenes/config.json");
    ASSERT_NE(text.find(from), std::string::npos) << text;
    write_text(folder_ / "scenes/config.json", text.replace(text.find(from), from.size(), to));
  }
  std::string here() const { return "diffusers: " + (folder_ / "scenes") + ": "; }

  const Folder folder_;
};

TEST_F(Conditioned, NetworksSeeTheFeaturesThatTheyWereTrainedOn) {
  const Tensor place = at::tensor({0.5, -0.25}, at::kDouble).view({1, 2});
  write_npy(folder_ / "features.npy", condition_features(place, 32));
  write_npy(folder_ / "none.npy", at::zeros({32}));
  const Tensor expected = score("inputs.class_labels = \"features.npy\"\n");
  EXPECT_TRUE(at::equal(score("condition = [0.5, -0.25]\n"), expected));
  EXPECT_FALSE(at::equal(score("condition = [0.5, -0.2]\n"), expected));
  EXPECT_TRUE(at::equal(score("condition = []\n"), score("inputs.class_labels = \"none.npy\"\n")));
}

TEST_F(Conditioned, OthersAreRefused) {
  EXPECT_THROW_MSG(load("condition = [0.5]\n"), ConfigError,
                   here() + "condition has 1 numbers, must have 2, or none for \"none\"");
  EXPECT_THROW_MSG(
      load(""), ConfigError,
      here() + "input \"class_labels\" is missing; the network needs one of shape (32)");
  const PretrainedOptions both{.inputs = {{"class_labels", at::zeros({32})}},
                               .condition = std::vector<double>{}};
  EXPECT_THROW_MSG(load_pretrained(folder_ / "scenes", "a", both), ConfigError,
                   here() +
                       "has a condition and the input \"class_labels\", which the condition "
                       "becomes; leave one out");
  const PretrainedOptions infinite{
      .condition = std::vector<double>{0.0, std::numeric_limits<double>::infinity()}};
  EXPECT_THROW_MSG(load_pretrained(folder_ / "scenes", "a", infinite), ConfigError,
                   here() + "condition has entries that are not finite");
  edit("\"_motet_condition_dim\": 2,", "");
  EXPECT_THROW_MSG(
      load("condition = [0.5, -0.25]\n"), ConfigError,
      here() +
          "condition was given, but config.json has no _motet_condition_dim, the number of entries "
          "that a network trained by motet train was told; give the input \"class_labels\" itself");
  edit("\"class_embed_type\": \"identity\"", "\"class_embed_type\": \"timestep\"");
  const std::string wants =
      here() + "condition is for networks with class_embed_type = \"identity\"; ";
  EXPECT_THROW_MSG(load("condition = []\n"), ConfigError,
                   wants + "this one takes a number, so give it as the input \"class_labels\"");
  edit("\"class_embed_type\": \"timestep\"", "\"class_embed_type\": null");
  EXPECT_THROW_MSG(load("condition = []\n"), ConfigError,
                   wants + "this one has no inputs beside x and the time, so leave it out");
}

TEST_F(Conditioned, OtherKindsOfNetworksTakeNone) {
  const PretrainedOptions options{.condition = std::vector<double>{}};
  EXPECT_THROW_MSG(load_pretrained("net.ts", "a", options), ConfigError,
                   "pretrained: net.ts: condition is for folders of diffusers that motet train "
                   "wrote; give the inputs of other networks by their names");
}

TEST_F(Conditioned, DescriptionsSayHowManyNumbers) {
  const auto rows = describe_pretrained(folder_ / "scenes");
  const std::pair<std::string, std::string> row = {"condition", "2 numbers, or none"};
  EXPECT_NE(std::find(rows.begin(), rows.end(), row), rows.end());
}

TEST(ConfigPretrained, AWeightsFileOfMotetsTakesNoInputs) {
  const Folder folder;
  write_text(folder / "net.safetensors", "");
  const SampleConfig config = parse_config(
      "[model.a]\nweights = \"net.safetensors\"\nnum_levels = 10\n", "a.toml", {}, folder.path());
  EXPECT_THROW_MSG(
      detail::load_network(config, config.terms[0]), ConfigError,
      "config: a.toml: [model.a] has inputs, a condition, num_levels or ignore_clipping, but " +
          (folder / "net.safetensors") +
          " is a weights file of motet's, which takes none; leave them out");
}

TEST(ConfigPretrained, ChangedFilesChangeTheHash) {
  const Folder folder;
  std::filesystem::copy(MOTET_SOURCE_DIR "/tests/golden/unet2d/pipeline", folder.path(),
                        std::filesystem::copy_options::recursive);
  write_npy(folder / "class.npy", at::tensor({2.0F}));
  const SampleConfig config =
      parse_config("[model.a]\nweights = \".\"\ninputs.class_labels = \"class.npy\"\n", "a.toml",
                   {}, folder.path());
  const auto hash = [&] { return detail::weights_source(config.terms[0]).hash; };
  std::string before = hash();
  EXPECT_EQ(detail::weights_source(config.terms[0]).metadata.at("kind"), "diffusers");
  EXPECT_EQ(hash(), before);
  for (const std::string file : {"unet/config.json", "scheduler/scheduler_config.json",
                                 "unet/diffusion_pytorch_model.safetensors", "class.npy"}) {
    write_text(folder / file, read_text(folder / file) + " ");
    EXPECT_NE(hash(), before) << file;
    before = hash();
  }
}

}  // namespace
}  // namespace motet
