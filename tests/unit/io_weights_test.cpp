// Weights files: a saved network is loaded to the same bits with all that describes it, and a file
// that does not hold exactly one network of its own config is refused with what is wrong.
#include <functional>
#include <limits>

#include "unit/io_fixture.hpp"

namespace motet {
namespace {

// A small network, its tensors counted up from 0.
Weights small_weights() {
  Weights weights;
  weights.config = {.event_dim = 2,
                    .width = 4,
                    .num_blocks = 1,
                    .widen = 2,
                    .embedding_dim = 3,
                    .num_levels = 5,
                    .parameterisation = Parameterisation::energy_norm};
  weights.schedule = NoiseSchedule::cosine(5);
  for (const auto& [name, shape] : expected_tensors(weights.config)) {
    weights.tensors[name] = counting(shape, at::kFloat);
  }
  weights.provenance = {{"data", "ring"}, {"seed", "7"}, {"", "odd key"}};
  return weights;
}

class WeightsTest : public IoTest {
 protected:
  // A weights file with one metadata entry replaced, or removed when `value` is null.
  std::string with_metadata(const std::string& key, const char* value) const {
    save_weights(path("w"), small_weights());
    TensorFile file = read_safetensors(path("w"));
    file.metadata.erase(key);
    if (value != nullptr) {
      file.metadata[key] = value;
    }
    write_safetensors(path("w"), file);
    return path("w");
  }
  // A weights file whose tensors were changed after all checks.
  std::string with_tensors(
      const std::function<void(std::map<std::string, Tensor>&)>& change) const {
    save_weights(path("w"), small_weights());
    TensorFile file = read_safetensors(path("w"));
    change(file.tensors);
    write_safetensors(path("w"), file);
    return path("w");
  }
  void expect_refused(const std::string& file, const std::string& message) const {
    EXPECT_THROW_MSG(load_weights(file), DataError, "weights: " + file + ": " + message);
  }
};

TEST_F(WeightsTest, RoundTripKeepsEverything) {
  const Weights saved = small_weights();
  save_weights(path("w"), saved);
  const Weights loaded = load_weights(path("w"));
  EXPECT_EQ(loaded.config, saved.config);
  EXPECT_EQ(loaded.schedule.alpha_bars(), saved.schedule.alpha_bars());
  EXPECT_EQ(loaded.schedule.describe(), saved.schedule.describe());
  EXPECT_EQ(loaded.provenance, saved.provenance);
  ASSERT_EQ(loaded.tensors.size(), saved.tensors.size());
  for (const auto& [name, tensor] : saved.tensors) {
    EXPECT_TRUE(same_bits(loaded.tensors.at(name), tensor)) << name;
  }
}

Weights weights_with_features() {
  Weights weights = small_weights();
  weights.config.frequencies = {2.0, 1.0 / 3};
  weights.tensors["input.weight"] = counting({4, 2 * 5}, at::kFloat);
  return weights;
}

TEST_F(WeightsTest, RoundTripKeepsFrequencies) {
  const Weights saved = weights_with_features();
  save_weights(path("w"), saved);
  const Weights loaded = load_weights(path("w"));
  EXPECT_EQ(loaded.config, saved.config);
  EXPECT_TRUE(same_bits(loaded.tensors.at("input.weight"), saved.tensors.at("input.weight")));
}

TEST_F(WeightsTest, WithoutFrequenciesTheFileIsAsBeforeThereWereAny) {
  save_weights(path("w"), small_weights());
  EXPECT_EQ(
      read_safetensors(path("w")).metadata.at("motet.config"),
      R"({"event_dim":2,"width":4,"num_blocks":1,"widen":2,"embedding_dim":3,"num_levels":5})");
}

TEST_F(WeightsTest, RefusesFrequenciesThatAreNone) {
  const auto config = [](const std::string& frequencies, const std::string& event_dim = "2") {
    return R"({"event_dim":)" + event_dim +
           R"(,"width":4,"num_blocks":1,"widen":2,"embedding_dim":3,"num_levels":5,"frequencies":)" +
           frequencies + "}";
  };
  std::string many = "[1";
  for (int i = 1; i < 65; ++i) {
    many += ",1";
  }
  for (const std::string& list :
       {std::string("2.0"), std::string("[]"), std::string("[0]"), std::string("[1,-2.0]"),
        std::string("[\"2\"]"), std::string("[null]"), std::string("[1000001]"), many + "]"}) {
    expect_refused(with_metadata("motet.config", config(list).c_str()),
                   "motet.config: frequencies must be a list of 1 to 64 numbers in (0, 1000000]");
  }
  expect_refused(with_metadata("motet.config", config("[1.0,2.0]", "200001").c_str()),
                 "motet.config: network: event_dim = 200001 with 2 frequencies gives event_dim * "
                 "(1 + 2 * 2) inputs, must be at most 1000000");
  expect_refused(with_metadata("motet.config", config("[1.0]").c_str()),
                 "tensor \"input.weight\": shape (4, 2), expected (4, 6); the tensors and the "
                 "config are of two different networks");
}

TEST_F(WeightsTest, SchedulesKeepTheirExactNumbersAndNames) {
  for (const NoiseSchedule& schedule :
       {NoiseSchedule::cosine(5, 0.1, 0.5), NoiseSchedule::linear(5, 1e-3, 0.3),
        NoiseSchedule::scaled_linear(5),
        NoiseSchedule::from_alpha_bars({0.9, 0.7, 1.0 / 3, 0.2, 5e-324})}) {
    Weights weights = small_weights();
    weights.schedule = schedule;
    save_weights(path("w"), weights);
    const NoiseSchedule loaded = load_weights(path("w")).schedule;
    EXPECT_EQ(loaded.alpha_bars(), schedule.alpha_bars()) << schedule.describe();
    EXPECT_EQ(loaded.describe(), schedule.describe());
  }
}

TEST_F(WeightsTest, NumbersDecideWhenAScheduleIsNotWhatItsNameSays) {
  const std::string file = with_metadata(
      "motet.schedule",
      R"json({"name":"cosine(5, offset=0.008, max_beta=0.999)","alpha_bars":[0.9,0.8,0.7,0.6,0.5]})json");
  const NoiseSchedule loaded = load_weights(file).schedule;
  EXPECT_EQ(loaded.alpha_bars(), (std::vector<double>{0.9, 0.8, 0.7, 0.6, 0.5}));
  EXPECT_NE(loaded.describe(), "cosine(5, offset=0.008, max_beta=0.999)");
}

TEST_F(WeightsTest, MetadataOfOtherProgramsAreIgnored) {
  EXPECT_EQ(load_weights(with_metadata("format", "pt")).provenance, small_weights().provenance);
}

TEST_F(WeightsTest, RefusesFilesThatAreNoWeights) {
  write_safetensors(path("s"), {{{"x", at::zeros({2})}}, {{"format", "pt"}}});
  expect_refused(
      path("s"),
      "not a motet weights file: its metadata have no \"motet.format\"; motet train makes "
      "one");
  file("model.pt", std::string("PK\x03\x04\0\0\x08\x08\0\0\0\0", 12));
  EXPECT_THROW_MSG(load_weights(path("model.pt")), DataError,
                   "safetensors: " + path("model.pt") +
                       ": is a zip archive (as torch.save and numpy.savez make), which motet never "
                       "loads, because unpickling runs code from the file; convert it with "
                       "safetensors.torch.save_file");
  EXPECT_THROW_MSG(load_weights(path("none")), DataError,
                   "safetensors: " + path("none") + ": no such file");
}

TEST_F(WeightsTest, RefusesBrokenMetadata) {
  struct Case {
    const char* key;
    const char* value;
    const char* message;
  };
  const std::vector<Case> cases = {
      {"motet.format", "2", "motet.format is \"2\", must be \"1\"; a newer motet may have made it"},
      {"motet.config", nullptr, "missing metadata key \"motet.config\""},
      {"motet.shedule", "",
       "unknown metadata key \"motet.shedule\"; did you mean "
       "\"motet.schedule\"?"},
      {"motet.architecture", "unet", "motet.architecture is \"unet\", must be \"residual_mlp\""},
      {"motet.config", "{", "motet.config: is not valid JSON"},
      {"motet.config", "[1]", "motet.config: must be a JSON object"},
      {"motet.config", R"({"width":{"a":1}})", "motet.config: is nested too deeply"},
      {"motet.config", R"({"width":[[1]]})", "motet.config: is nested too deeply"},
      {"motet.config", R"({"width":4,"width":5})", "motet.config: duplicate key \"width\""},
      {"motet.config", R"({"widht":4})",
       "motet.config: unknown key \"widht\"; did you mean "
       "\"width\"?"},
      {"motet.config", "{}", "motet.config: missing key \"event_dim\""},
      {"motet.schedule", R"({"name":"x"})", "motet.schedule: missing key \"alpha_bars\""},
      {"motet.schedule", R"({"name":"x","alpha_bars":["a"]})",
       "motet.schedule: name must be a string and alpha_bars an array of numbers"},
      {"motet.schedule", R"({"name":"x","alpha_bars":[0.5,0.6]})",
       "motet.schedule: schedule: alpha_bars[1] = 0.6, must be in (0, alpha_bars[0]) = (0, 0.5): "
       "alpha_bars fall strictly"},
      {"motet.schedule", R"({"name":"x","alpha_bars":[0.5,0.25]})",
       "motet.config has num_levels = 5, but motet.schedule has 2 levels"},
  };
  for (const Case& broken : cases) {
    expect_refused(with_metadata(broken.key, broken.value), broken.message);
  }
  const std::string huge(4'000'001, ' ');
  expect_refused(with_metadata("motet.config", huge.c_str()),
                 "motet.config: has 4000001 bytes, must have at most 4000000");
}

TEST_F(WeightsTest, RefusesSizesOutOfRange) {
  const auto config = [](const std::string& width) {
    return R"({"event_dim":2,"width":)" + width +
           R"(,"num_blocks":1,"widen":2,"embedding_dim":3,"num_levels":5})";
  };
  const std::vector<std::string> widths = {
      "0", "-4", "4.0", "\"4\"", "null", "true", "65537", "18446744073709551615", "1e300"};
  for (const std::string& width : widths) {
    const std::string shown = width == "1e300" ? "1e+300" : width;
    expect_refused(with_metadata("motet.config", config(width).c_str()),
                   "motet.config: width = " + shown + ", must be an integer from 1 to 65536");
  }
}

TEST_F(WeightsTest, RefusesMoreKeysThanTheFormatHas) {
  std::string many = "{\"a0\":1";
  for (int i = 1; i < 100'000; ++i) {
    many += ",\"a" + std::to_string(i) + "\":1";
  }
  expect_refused(with_metadata("motet.config", (many + "}").c_str()),
                 "motet.config: has more than 16 keys");
}

// 20 MB of tensors would become 25 GB of the levels' biases.
TEST_F(WeightsTest, RefusesNetworksMuchLargerInMemoryThanInTheFile) {
  const std::string config =
      R"({"event_dim":2,"width":1,"num_blocks":1000,"widen":1,"embedding_dim":3,"num_levels":100000})";
  expect_refused(with_metadata("motet.config", config.c_str()),
                 "motet.config: num_levels * num_blocks * widen * width = 3200000000 (the last two "
                 "rounded up to 32), must be at most 268435456");
}

TEST_F(WeightsTest, RefusesTensorsOfAnotherNetwork) {
  using Tensors = std::map<std::string, Tensor>;
  const std::string weight = "tensor \"input.weight\": ";
  expect_refused(with_tensors([](Tensors& t) { t.erase("input.weight"); }),
                 "tensor \"input.weight\" of shape (4, 2) is missing; the tensors are of another "
                 "architecture or another size");
  expect_refused(with_tensors([](Tensors& t) {
                   t["inputs.weight"] = t["input.weight"];
                   t.erase("input.weight");
                 }),
                 "tensor \"input.weight\" of shape (4, 2) is missing; there is "
                 "\"inputs.weight\" instead");
  expect_refused(with_tensors([](Tensors& t) { t["more"] = at::zeros({1}); }),
                 "tensor \"more\" is not part of the network that the config describes; the "
                 "tensors are of another architecture or another size");
  expect_refused(with_tensors([](Tensors& t) { t["input.weight"] = at::zeros({4, 3}); }),
                 weight +
                     "shape (4, 3), expected (4, 2); the tensors and the config are of two "
                     "different networks");
  expect_refused(with_tensors([](Tensors& t) { t["input.weight"] = at::zeros({2, 4}); }),
                 weight +
                     "shape (2, 4), expected (4, 2); it is transposed: weights are (out, in) "
                     "as in torch");
  expect_refused(
      with_tensors([](Tensors& t) { t["input.weight"] = t["input.weight"].to(at::kDouble); }),
      weight + "dtype float64, expected float32; convert it");
  expect_refused(with_tensors([](Tensors& t) {
                   t["input.weight"][1][0] = std::numeric_limits<float>::quiet_NaN();
                   t["input.weight"][2][1] = std::numeric_limits<float>::infinity();
                 }),
                 weight + "2 of 8 values are not finite; the training that made it diverged");
}

TEST_F(WeightsTest, SavingMakesTheSameChecksAndWritesNothing) {
  Weights weights = small_weights();
  weights.tensors["input.weight"] = Tensor();
  EXPECT_THROW_MSG(save_weights(path("w"), weights), DataError,
                   "weights: " + path("w") + ": tensor \"input.weight\": is undefined");
  weights = small_weights();
  weights.schedule = NoiseSchedule::cosine(6);
  EXPECT_THROW_MSG(save_weights(path("w"), weights), DataError,
                   "weights: " + path("w") +
                       ": motet.config has num_levels = 5, but motet.schedule has 6 levels");
  weights = small_weights();
  weights.config.width = 0;
  EXPECT_THROW_MSG(
      save_weights(path("w"), weights), DataError,
      "weights: " + path("w") + ": motet.config: width = 0, must be an integer from 1 to 65536");
  EXPECT_TRUE(names().empty());
}

}  // namespace
}  // namespace motet
