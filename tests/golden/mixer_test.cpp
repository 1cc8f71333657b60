// MLP-Mixers against a forward pass in numpy (tools/golden_mixer.py), and files of equinox.
#include "nets/mixer.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "motet/error.hpp"
#include "motet/io.hpp"
#include "motet/pretrained.hpp"
#include "npy_sequence.hpp"
#include "support/folder.hpp"
#include "support/golden.hpp"
#include "support/throw_message.hpp"

namespace motet::testing {
namespace {

using detail::MixerConfig;
using test::Folder;

// As weight() of the maker.
Tensor formula(size_t index, const std::vector<int64_t>& shape) {
  const int64_t size = c10::multiply_integers(shape);
  const double fan_in =
      shape.size() > 1 ? static_cast<double>(size) / static_cast<double>(shape[0]) : 1.0;
  const Tensor steps = at::arange(size, at::kDouble);
  return ((steps * 1.3 + 0.7 * static_cast<double>(index)).cos() / std::sqrt(fan_in))
      .to(at::kFloat)
      .view(shape);
}

Tensor image(const std::vector<int64_t>& shape) {
  return (at::arange(c10::multiply_integers(shape), at::kDouble) * 0.37)
      .sin()
      .to(at::kFloat)
      .view(shape);
}

MixerConfig config_of(const nlohmann::json& json) {
  return {.num_channels = json.at("num_channels"),
          .height = json.at("height"),
          .width = json.at("width"),
          .patch_size = json.at("patch_size"),
          .hidden_size = json.at("hidden_size"),
          .mix_patch = json.at("mix_patch"),
          .mix_hidden = json.at("mix_hidden"),
          .num_blocks = json.at("num_blocks"),
          .last_time = json.at("last_time")};
}

std::vector<Tensor> leaves_of(const MixerConfig& config) {
  const detail::ShapeMap shapes = detail::mixer_architecture(config)->expected_tensors();
  std::vector<Tensor> leaves;
  for (const std::string& name : detail::mixer_leaf_names(config)) {
    leaves.push_back(formula(leaves.size(), shapes.at(name)));
  }
  return leaves;
}

detail::TensorMap tensors_of(const MixerConfig& config) {
  const std::vector<Tensor> leaves = leaves_of(config);
  const std::vector<std::string> names = detail::mixer_leaf_names(config);
  detail::TensorMap tensors;
  for (size_t i = 0; i < names.size(); ++i) {
    tensors[names[i]] = leaves[i];
  }
  return tensors;
}

const MixerConfig kSmall{.num_channels = 1,
                         .height = 8,
                         .width = 8,
                         .patch_size = 2,
                         .hidden_size = 6,
                         .mix_patch = 10,
                         .mix_hidden = 7,
                         .num_blocks = 3,
                         .last_time = 10.0};

// One array as numpy.save writes it; shape () for `is_number`.
std::string npy_bytes(const Tensor& array, bool is_number = false) {
  std::string shape = "(";
  for (const int64_t size : array.sizes()) {
    shape += is_number ? "" : std::to_string(size) + ",";
  }
  const std::string descr = array.scalar_type() == at::kDouble ? "<f8" : "<f4";
  std::string text =
      "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + "), }";
  text.append(63 - (text.size() + 10) % 64, ' ');
  text += '\n';
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(text.size() & 0xff);
  bytes += static_cast<char>(text.size() >> 8);
  bytes += text;
  const Tensor data = array.contiguous();
  return bytes.append(static_cast<const char*>(data.const_data_ptr()), data.nbytes());
}

std::string eqx_bytes(const MixerConfig& config) {
  std::string bytes;
  for (const Tensor& leaf : leaves_of(config)) {
    bytes += npy_bytes(leaf);
  }
  return bytes + npy_bytes(at::tensor({config.last_time}, at::kDouble), true);
}

std::string written(const Folder& folder, const std::string& bytes) {
  const std::string path = folder / "net.eqx";
  write_file_atomic(path, bytes);
  return path;
}

TEST(Mixer, AgreesWithNumpy) {
  const nlohmann::json golden = read_golden("mixer");
  for (const nlohmann::json& row : golden.at("cases")) {
    const MixerConfig config = config_of(row.at("config"));
    const auto architecture = detail::mixer_architecture(config);
    const auto values = row.at("output").get<std::vector<double>>();
    const Tensor expected = at::tensor(values, at::kDouble).view(architecture->event_shape());
    detail::TensorMap doubles = tensors_of(config);
    for (auto& [name, tensor] : doubles) {
      tensor = tensor.to(at::kDouble);
    }
    const Tensor x = image(architecture->event_shape()).unsqueeze(0);
    const Tensor time = at::full({1}, row.at("time").get<double>());
    const Tensor exact = architecture->forward(doubles, x.to(at::kDouble), time, {});
    EXPECT_LT((exact[0] - expected).abs().max().item<double>(), 1e-6);
    for (const Compute compute : {Compute::reference, Compute::float32}) {
      const auto network =
          detail::bound_network(architecture, tensors_of(config), {}, compute, "cpu", "test: ");
      const Tensor output = network->forward(x, row.at("time").get<double>());
      EXPECT_LT((output[0] - expected).abs().max().item<double>(), 1e-5);
    }
  }
}

TEST(Mixer, HasAsManyNumbersAsGalaxygrad) {
  int64_t count = 0;
  for (const auto& [name, shape] : detail::mixer_architecture({})->expected_tensors()) {
    count += c10::multiply_integers(shape);
  }
  EXPECT_EQ(count, 605761);
  EXPECT_EQ(detail::mixer_leaf_names({}).size(), 54U);
}

TEST(Mixer, RefusesSizesThatCannotBe) {
  EXPECT_THROW_MSG(detail::mixer_architecture({.num_blocks = 0}), ConfigError,
                   "mixer: num_blocks = 0, must be from 1 to 1000");
  EXPECT_THROW_MSG(detail::mixer_architecture({.hidden_size = 1 << 21}), ConfigError,
                   "mixer: hidden_size = 2097152, must be from 1 to 1048576");
  EXPECT_THROW_MSG(detail::mixer_architecture({.height = 30}), ConfigError,
                   "mixer: patch_size = 4, must divide the image of 30x32");
  EXPECT_THROW_MSG(detail::mixer_architecture({.last_time = 0.0}), ConfigError,
                   "mixer: last_time must be a finite number > 0");
}

TEST(EquinoxFile, IsTheNetworkWithItsSchedule) {
  const Folder folder;
  const std::string path = written(folder, eqx_bytes(kSmall));
  EXPECT_EQ(pretrained_kind(path), PretrainedKind::mixer);
  const ModelPtr model = load_pretrained(path, "galaxies");
  EXPECT_EQ(model->event_shape(), (std::vector<int64_t>{1, 8, 8}));
  const NoiseSchedule schedule = *model->schedule();
  EXPECT_EQ(schedule.num_levels(), 200);
  EXPECT_NEAR(schedule.level(0).alpha_bar, std::exp(-0.01), 1e-12);
  EXPECT_NEAR(schedule.level(199).alpha_bar, std::exp(-10.0), 1e-15);
  const NoiseLevel level = schedule.level(120);
  const Tensor x = image({1, 1, 8, 8});
  const Tensor time = at::full({1}, -std::log(level.alpha_bar));
  const Tensor expected =
      detail::mixer_architecture(kSmall)->forward(tensors_of(kSmall), x, time, {});
  EXPECT_LT((model->evaluate(x, level).score - expected).abs().max().item<double>(), 1e-5);
}

TEST(EquinoxFile, RefusesWhatIsBroken) {
  const Folder folder;
  const std::string whole = eqx_bytes(kSmall);
  const auto load = [&](const std::string& bytes) {
    return load_mixer(written(folder, bytes), "galaxies");
  };
  const std::string path = folder / "net.eqx";
  EXPECT_THROW_MSG(load(whole.substr(0, whole.size() - 1)), DataError,
                   "npy: " + path +
                       ": array 43: shape () of \"<f8\" needs 8 bytes of data, but the file has 7; "
                       "it is truncated");
  EXPECT_THROW_MSG(load(whole + "x"), DataError,
                   "npy: " + path +
                       ": array 44: file of 1 bytes, must have at least 10; it is truncated or not "
                       "a .npy file");
  EXPECT_THROW_MSG(load(npy_bytes(at::zeros({2}))), DataError,
                   "equinox: " + path +
                       ": 1 arrays, must have 7 and 12 for each block of a mixer; it is another "
                       "network");
  EXPECT_THROW_MSG(load(""), DataError,
                   "equinox: " + path +
                       ": 0 arrays, must have 7 and 12 for each block of a mixer; it is another "
                       "network");
}

TEST(EquinoxFile, RefusesAnotherNetwork) {
  const Folder folder;
  const std::string path = folder / "net.eqx";
  const auto load = [&](size_t changed, const Tensor& leaf, double last_time = 10.0) {
    std::vector<Tensor> leaves = leaves_of(kSmall);
    leaves[changed] = leaf;
    std::string bytes;
    for (const Tensor& each : leaves) {
      bytes += npy_bytes(each);
    }
    bytes += npy_bytes(at::tensor({last_time}, at::kDouble), true);
    return load_mixer(written(folder, bytes), "galaxies");
  };
  EXPECT_THROW_MSG(load(4, at::zeros({10, 15})), DataError,
                   "equinox: " + path + ": 15 patches, must be those of a square image");
  EXPECT_THROW_MSG(load(0, at::zeros({6, 2, 2})), DataError,
                   "equinox: " + path +
                       ": array 1 has shape (6, 2, 2), array 5 (10, 16), array 9 (7, 6) and the "
                       "last (), must have 4, 2, 2 and 0 dimensions; it is another network");
  EXPECT_THROW_MSG(load(0, at::zeros({6, 1, 2, 2})), DataError,
                   "equinox: " + path + ": mixer: num_channels = 0, must be from 1 to 1048576");
  for (const auto& [last_time, text] :
       {std::pair{0.001, "0.001"}, {1e300, "1e+300"}, {80.1, "80.1"}}) {
    EXPECT_THROW_MSG(load(4, leaves_of(kSmall)[4], last_time), DataError,
                     "equinox: " + path + ": the last number is " + text +
                         ", must be the largest time, in (0.01, 80]");
  }
  EXPECT_THROW(load(4, leaves_of(kSmall)[4], std::nextafter(0.01, 1.0)), DataError);
  EXPECT_THROW_MSG(load(5, at::full({10}, std::nan(""))), DataError,
                   "equinox: " + path + ": array 6 has entries that are not finite");
  EXPECT_THROW(load(5, at::zeros({11})), DataError);
}

}  // namespace
}  // namespace motet::testing
