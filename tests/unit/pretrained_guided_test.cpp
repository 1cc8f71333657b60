// Folders of guided-diffusion: what loads, what its files say, and what is refused.
#include "pretrained_guided.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <filesystem>

#include "config_classes.hpp"
#include "likelihood_network.hpp"
#include "motet/compose.hpp"
#include "motet/error.hpp"
#include "motet/io.hpp"
#include "motet/pretrained.hpp"
#include "support/adm.hpp"
#include "support/folder.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

using detail::AdmConfig;
using detail::GuidedFile;

GuidedFile small_file(bool is_classifier) {
  GuidedFile file;
  file.is_classifier = is_classifier;
  file.network = {.image_size = 4,
                  .in_channels = 1,
                  .num_channels = 32,
                  .num_res_blocks = 1,
                  .channel_mult = {1},
                  .attention_resolutions = {},
                  .num_heads = 2,
                  .num_classes = 3};
  file.diffusion = {.noise_schedule = "cosine", .num_steps = 100, .respacing = "10"};
  return file;
}

detail::TensorMap tensors_of(const GuidedFile& file) {
  const auto network =
      file.is_classifier ? detail::adm_classifier(file.network) : detail::adm_unet(file.network);
  return testing::adm_tensors(network->expected_tensors());
}

void save(const test::Folder& folder, const GuidedFile& file) {
  detail::save_guided_diffusion(folder.path(), file, tensors_of(file));
}

PretrainedOptions with_class(int64_t label) {
  return {.inputs = {{"class_labels", at::scalar_tensor(label)}}};
}

TEST(PretrainedGuided, NetworksComeBackAsTheyWereSaved) {
  const test::Folder folder;
  save(folder, small_file(false));
  const ModelPtr model = load_guided_diffusion(folder.path(), "net", with_class(1));
  EXPECT_EQ(model->event_shape(), (std::vector<int64_t>{1, 4, 4}));
  EXPECT_FALSE(model->is_exact());
  ASSERT_TRUE(model->schedule());
  EXPECT_EQ(model->schedule()->num_levels(), 10);
  const Tensor x = testing::adm_points(1, 4);
  const NoiseLevel level = model->schedule()->level(4);
  const auto network = detail::adm_unet(small_file(false).network);
  const Tensor time = at::full({1}, 44.0, at::kFloat);
  const Tensor f = network->forward(tensors_of(small_file(false)), x, time,
                                    {{"class_labels", at::full({1}, 1, at::kLong)}});
  const Tensor expected = f / -level.sigma();
  EXPECT_LT((model->evaluate(x, level).score - expected).abs().max().item<double>(), 1e-5);
}

TEST(PretrainedGuided, FilesSayWhatWasSaved) {
  for (const bool is_classifier : {false, true}) {
    GuidedFile file = small_file(is_classifier);
    file.network.channel_mult = {0.5, 1};
    file.network.attention_resolutions = {4, 2};
    file.network.use_new_attention_order = true;
    file.network.conv_resample = false;
    file.network.num_head_channels = 16;
    file.network.pool = detail::AdmPool::spatial;
    file.diffusion.rescales_times = true;
    file.diffusion.predicts_x_0 = true;
    const GuidedFile read = detail::parse_guided_file(detail::guided_file_text(file), "test");
    EXPECT_EQ(detail::guided_file_text(read), detail::guided_file_text(file));
    EXPECT_EQ(read.network.channel_mult, file.network.channel_mult);
    EXPECT_EQ(read.network.attention_resolutions, file.network.attention_resolutions);
    EXPECT_EQ(read.is_classifier, is_classifier);
  }
}

// sum_k p(k | x_t) = 1, and the gradient is that of the value.
TEST(PretrainedGuided, ClassifiersAreNormalisedAndKnowTheirGradient) {
  const test::Folder folder;
  save(folder, small_file(true));
  const Tensor x = testing::adm_points(1, 4);
  const Tensor v = testing::hashed(x.numel(), 5).view_as(x).to(at::kFloat);
  Tensor sum = at::zeros({2}, at::kDouble);
  for (int64_t label = 0; label < 3; ++label) {
    const auto classifier = load_guided_diffusion_classifier(folder.path(), label, "y");
    const NoiseLevel level = classifier->schedule()->level(4);
    const auto value = classifier->evaluate(x, level, {});
    EXPECT_EQ(value.log_likelihood.scalar_type(), at::kDouble);
    sum = sum + value.log_likelihood.exp();
    constexpr double kStep = 1e-2;
    const auto at_step = [&](double step) {
      return classifier->evaluate(x + step * v, level, {}).log_likelihood;
    };
    const Tensor expected = (at_step(kStep) - at_step(-kStep)) / (2.0 * kStep);
    const Tensor slope = (value.score * v).flatten(1).sum(1);
    EXPECT_LT(((slope - expected).abs().max() / expected.abs().max()).item<double>(), 1e-3);
  }
  EXPECT_LT((sum - 1.0).abs().max().item<double>(), 1e-12);
}

TEST(PretrainedGuided, ClassifiersDiffuseWithTheirPriorAndKeepTheBitsOfARow) {
  const test::Folder folder;
  save(folder, small_file(true));
  const auto classifier = load_guided_diffusion_classifier(folder.path(), 2, "y");
  EXPECT_EQ(classifier->path(), LikelihoodPath::joint);
  EXPECT_EQ(classifier->event_shape(), (std::vector<int64_t>{1, 4, 4}));
  const Tensor x = testing::adm_points(1, 4).to(at::kDouble);
  const NoiseLevel level = classifier->schedule()->level(0);
  const auto both = classifier->evaluate(x, level, {});
  EXPECT_EQ(both.score.scalar_type(), at::kDouble);
  const auto second = classifier->evaluate(x.narrow(0, 1, 1), level, {});
  EXPECT_TRUE(at::equal(second.score[0], both.score[1]));
  EXPECT_TRUE(at::equal(second.log_likelihood[0], both.log_likelihood[1]));
}

TEST(PretrainedGuided, AConfigsClassifierMayBeAFolder) {
  const test::Folder folder;
  save(folder, small_file(true));
  const auto classifier =
      detail::load_classifier({.weights = folder.path(), .classes = {}, .label = 1}, "y", "cpu");
  EXPECT_EQ(classifier->schedule()->num_levels(), 10);
  EXPECT_THROW_MSG(
      detail::load_classifier({.weights = folder.path(), .classes = {}, .label = 3}, "y", "cpu"),
      ConfigError, "classifier: \"y\" has the classes 0 to 2, but label = 3");
}

TEST(PretrainedGuided, ClassifiersAndNetworksAreNotTakenForEachOther) {
  const test::Folder folder;
  save(folder, small_file(true));
  const std::string where = "guided-diffusion: " + folder.path() + ": ";
  EXPECT_THROW_MSG(load_guided_diffusion(folder.path(), "net"), ConfigError,
                   where +
                       "is a classifier (EncoderUNetModel), which has no score; give it as "
                       "classifier = \"FOLDER\" with a label, or load it by "
                       "load_guided_diffusion_classifier()");
  save(folder, small_file(false));
  EXPECT_THROW_MSG(load_guided_diffusion_classifier(folder.path(), 0, "y"), ConfigError,
                   where +
                       "is no classifier but a UNetModel; give it as weights = \"FOLDER\", or load "
                       "it by load_guided_diffusion()");
}

TEST(PretrainedGuided, RefusesInputsAndLevelsThatDoNotFit) {
  const test::Folder folder;
  save(folder, small_file(false));
  const std::string where = "guided-diffusion: " + folder.path() + ": ";
  EXPECT_THROW_MSG(load_guided_diffusion(folder.path(), "net"), ConfigError,
                   where +
                       "input \"class_labels\" is missing; the network needs one of shape (), a "
                       "class from 0 to 2");
  EXPECT_THROW_MSG(load_guided_diffusion(folder.path(), "net", with_class(3)), ConfigError,
                   where +
                       "input \"class_labels\" is not a class of this network; must be a whole "
                       "number from 0 to 2");
  const ModelPtr model = load_guided_diffusion(folder.path(), "net", with_class(0));
  EXPECT_THROW_MSG(model->evaluate(testing::adm_points(1, 4), {.index = 10}), ConfigError,
                   "network: \"net\" was trained on levels 0 to 9, but is asked for level 10; "
                   "sample on the model's own schedule");
}

TEST(PretrainedGuided, RefusesTensorsOfAnotherNetwork) {
  const test::Folder folder;
  const GuidedFile file = small_file(true);
  save(folder, file);
  const std::string where = "guided-diffusion: " + folder.path() + ": ";
  const std::string path = folder / "model.safetensors";
  detail::TensorMap tensors = tensors_of(file);
  tensors["out.3.weight"] = at::zeros({3, 16, 1, 1});
  write_safetensors(path, {.tensors = tensors, .metadata = {}});
  EXPECT_THROW_MSG(load_guided_diffusion_classifier(folder.path(), 0, "y"), DataError,
                   where +
                       "tensor \"out.3.weight\": shape (3, 16, 1, 1), expected (3, 32, 1, 1); the "
                       "tensors and the config are of two different networks");
  tensors.erase("out.3.weight");
  write_safetensors(path, {.tensors = tensors, .metadata = {}});
  EXPECT_THROW_MSG(load_guided_diffusion_classifier(folder.path(), 0, "y"), DataError,
                   where +
                       "tensor \"out.3.weight\" of shape (3, 32, 1, 1) is missing; the tensors are "
                       "of another architecture or another size");
  EXPECT_THROW_MSG(
      detail::save_guided_diffusion(folder.path(), file, tensors), DataError,
      where +
          "tensor \"out.3.weight\" of shape (3, 32, 1, 1) is missing; the tensors are of another "
          "architecture or another size");
}

TEST(PretrainedGuided, TruncatedTensorsAreRefused) {
  const test::Folder folder;
  save(folder, small_file(true));
  const std::string whole = test::read_text(folder / "model.safetensors");
  for (const double share : {0.0, 0.0001, 0.01, 0.5, 0.999}) {
    const auto size = static_cast<size_t>(share * static_cast<double>(whole.size()));
    test::write_text(folder / "model.safetensors", whole.substr(0, size));
    EXPECT_THROW(load_guided_diffusion_classifier(folder.path(), 0, "y"), DataError) << share;
  }
}

TEST(PretrainedGuided, TruncatedDescriptionsAreRefused) {
  const std::string whole = detail::guided_file_text(small_file(true));
  for (size_t size = 0; size + 2 < whole.size(); ++size) {
    EXPECT_THROW(detail::parse_guided_file(whole.substr(0, size), "test"), DataError) << size;
  }
}

TEST(PretrainedGuided, RefusesWhatIsNoFolder) {
  const test::Folder folder;
  test::write_text(folder / "64x64_diffusion.pt", "PK");
  const std::string path = folder / "64x64_diffusion.pt";
  EXPECT_THROW_MSG(load_guided_diffusion(path, "net"), DataError,
                   "guided-diffusion: " + path +
                       ": is no folder; a checkpoint of guided-diffusion is a pickle, which motet "
                       "never loads: make a folder of it with tools/export/guided_diffusion.py");
}

std::string file_with(const std::string& flags, const std::string& more = "") {
  return R"({"format": "guided-diffusion", "flags": {)" + flags + "}" + more + "}";
}

TEST(PretrainedGuided, RefusesDescriptionsThatCannotBe) {
  const std::vector<std::pair<std::string, std::string>> flaws = {
      {R"({"format": "motet.program"})",
       "format = \"motet.program\", must be \"guided-diffusion\""},
      {"{}", "format = null, must be \"guided-diffusion\""},
      {file_with("", R"(, "version": 2)"), "version = 2, must be a whole number from 1 to 1"},
      {file_with("", R"(, "network": "SuperResModel")"),
       "network = \"SuperResModel\", must be one of \"UNetModel\", \"EncoderUNetModel\""},
      {R"({"format": "guided-diffusion", "flags": []})", "flags: is [], must be an object { }"},
      {file_with(R"("num_chanels": 32)"),
       "flags: unknown key \"num_chanels\"; did you mean \"num_channels\"?"},
      {file_with(R"("classifier_width": 32)"),
       "flags: unknown key \"classifier_width\"; motet does not know what it would change"},
      {file_with("", R"(, "constants": {"num_clases": 10})"),
       "constants: unknown key \"num_clases\"; did you mean \"num_classes\"?"},
      {file_with(R"("class_cond": "True")"), "flags: class_cond = \"True\", must be true or false"},
      {file_with(R"("num_channels": 1e9)"),
       "flags: num_channels = 1000000000.0, must be a whole number from -1 to 1000000"},
      {file_with(R"("image_size": 32)"),
       "flags: channel_mult is missing; image_size = 32, and there are defaults for 64, 128, 256 "
       "and 512 only"},
      {file_with(R"("attention_resolutions": "16;8")"),
       "flags: attention_resolutions = \"16;8\", must be numbers with commas between them, such as "
       "\"32,16,8\""},
      {file_with(R"("noise_schedule": "sqrt")"),
       "flags: noise_schedule = \"sqrt\", must be one of \"linear\", \"cosine\""},
      {file_with(R"("diffusion_steps": 20)"),
       "flags: schedule: beta_last = 1, must be in [beta_first, 1) = [0.005, 1)"},
      {file_with(R"("timestep_respacing": "many")"),
       "flags: timestep_respacing = \"many\", must be counts such as \"250\" or \"10,15,20\", or "
       "\"ddim50\""},
      {file_with(R"("timestep_respacing": "600,10")"),
       "flags: timestep_respacing = \"600,10\", but section 1 has 500 steps, of which it cannot "
       "keep 600"},
      {file_with(R"("timestep_respacing": "ddim999")"),
       "flags: timestep_respacing = \"ddim999\", but no whole stride takes 999 of 1000 steps"},
      {file_with(R"("timestep_respacing": "0")"),
       "flags: timestep_respacing = \"0\", must keep at least 1 step"},
      {file_with(R"("large_size": 256)"),
       "flags: large_size = 256, but networks that make images larger (SuperResModel) are not "
       "supported"},
  };
  for (const auto& [text, message] : flaws) {
    EXPECT_THROW_MSG(detail::parse_guided_file(text, "motet.json"), DataError,
                     "motet.json: " + message);
  }
}

TEST(PretrainedGuided, SizesThatCannotBeAreTheFilesFlaw) {
  const test::Folder folder;
  test::write_text(folder / "motet.json", file_with(R"("num_channels": 48)"));
  EXPECT_THROW_MSG(load_guided_diffusion(folder.path(), "net"), DataError,
                   "guided-diffusion: " + (folder / "motet.json") +
                       ": network: num_channels * channel_mult[0] = 48, must be a multiple of 32, "
                       "the groups of the norms");
}

TEST(PretrainedGuided, ClippedNetworksLoadOnlyWhenTold) {
  const test::Folder folder;
  GuidedFile file = small_file(false);
  save(folder, file);
  std::string text = test::read_text(folder / "motet.json");
  text.replace(text.find("\"class_cond\""), 0, "\"clip_denoised\": true, ");
  test::write_text(folder / "motet.json", text);
  PretrainedOptions options = with_class(0);
  EXPECT_THROW_MSG(load_guided_diffusion(folder.path(), "net", options), ConfigError,
                   "guided-diffusion: " + (folder / "motet.json") +
                       ": clip_denoised = true, but a clipped estimate of x_0 is no score, and "
                       "Metropolis tests would be wrong; accept the unclipped one with "
                       "ignore_clipping = true, or write false into the file");
  options.ignore_clipping = true;
  options.num_levels = 4;
  EXPECT_EQ(load_guided_diffusion(folder.path(), "net", options)->schedule()->num_levels(), 4);
}

TEST(PretrainedGuided, DescribesFoldersWithoutTheirWeights) {
  const test::Folder folder;
  test::write_text(folder / "model.safetensors", "");
  test::write_text(folder / "motet.json", detail::guided_file_text(small_file(true)));
  const auto rows = describe_pretrained(folder.path());
  EXPECT_EQ(rows.front().second, "EncoderUNetModel(1x4x4)");
  EXPECT_EQ(rows.back().second, "cosine of 100 steps");
}

TEST(PretrainedGuided, RefusesWeightsThatAreNotFinite) {
  const test::Folder folder;
  const GuidedFile file = small_file(true);
  detail::TensorMap tensors = tensors_of(file);
  tensors["out.3.bias"] = at::full({3}, std::nan(""));
  detail::save_guided_diffusion(folder.path(), file, tensors);
  EXPECT_THROW_MSG(load_guided_diffusion_classifier(folder.path(), 0, "y"), DataError,
                   "guided-diffusion: " + folder.path() +
                       ": tensor \"out.3.bias\" has entries that are not finite");
}

TEST(PretrainedGuided, FlagsThatDoNotMatterAreKnown) {
  const GuidedFile file = detail::parse_guided_file(
      file_with(R"("use_fp16": true, "use_kl": false, "dropout": 0.1, "use_checkpoint": true,
                   "rescale_learned_sigmas": true, "clip_denoised": false, "class_cond": true)"),
      "test");
  EXPECT_EQ(file.network.num_classes, 1000);
  EXPECT_EQ(file.network.channel_mult, (std::vector<double>{1, 2, 3, 4}));
}

TEST(NetworkClassifier, RefusesNetworksThatAreNone) {
  const auto unet = detail::adm_unet(small_file(false).network);
  const auto tensors = testing::adm_tensors(unet->expected_tensors());
  const auto bound = detail::bound_network(unet, tensors, {{"class_labels", at::scalar_tensor(0)}},
                                           Compute::float32, "cpu", "");
  const NoiseSchedule schedule = NoiseSchedule::cosine(2);
  EXPECT_THROW_MSG(detail::network_classifier(bound, {schedule, {0.0, 1.0}, 0}, "y"), ConfigError,
                   "classifier: \"y\" has outputs of shape (1, 4, 4), must be (K), one number for "
                   "each of K >= 2 classes");
  const auto encoder = detail::adm_classifier(small_file(true).network);
  EXPECT_THROW_MSG(
      detail::architecture_classifier(encoder, testing::adm_tensors(encoder->expected_tensors()),
                                      {schedule, {0.0}, 0}, "y"),
      ConfigError, "classifier: \"y\" has 1 times for 2 levels, must be one each");
}

// A network without gradients, as a compiled package is.
class ValuesOnly : public detail::Network {
 public:
  std::vector<int64_t> event_shape() const override { return {1}; }
  std::vector<int64_t> output_shape() const override { return {2}; }
  at::Device device() const override { return at::kCPU; }
  Tensor forward(const Tensor& x, double /*time*/) const override { return at::cat({x, x}, 1); }
  detail::EnergyPass energy(const Tensor& x, double /*time*/, bool /*residual*/) const override {
    return {.energy = x, .gradient = x};
  }
};

TEST(NetworkClassifier, NeedsGradients) {
  const auto classifier = detail::network_classifier(std::make_shared<ValuesOnly>(),
                                                     {NoiseSchedule::cosine(1), {0.0}, 0}, "y");
  EXPECT_THROW_MSG(classifier->evaluate(at::zeros({1, 1}), {.index = 0}, {}), ConfigError,
                   "network: no gradients pass through this network; export it as TorchScript, "
                   "which keeps them");
}

}  // namespace
}  // namespace motet
