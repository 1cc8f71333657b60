// Exported programs: TorchScript made here gives the scores and densities that its motet.json says,
// and files that are broken, of another program or of another kind are refused with what is wrong.
#include <caffe2/serialize/inline_container.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/types.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "motet/error.hpp"
#include "motet/io.hpp"
#include "motet/pretrained.hpp"
#include "support/folder.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

using Json = nlohmann::json;

// Three levels; the network's times are 10, 20 and 30.
const std::vector<double> kAlphaBars = {0.9, 0.5, 0.1};

Json json_of(const std::string& parameterisation) {
  return {{"format", "motet.program"},
          {"version", 1},
          {"parameterisation", parameterisation},
          {"event_shape", {2}},
          {"alpha_bars", kAlphaBars},
          {"times", {10.0, 20.0, 30.0}},
          {"data", {{"units", "metres"}}}};
}

class ProgramTest : public ::testing::Test {
 protected:
  std::string path() const { return folder_ / "net.ts"; }
  std::string json_path() const { return path() + ".motet.json"; }
  std::string pairs_path() const { return path() + ".pairs.safetensors"; }
  std::string prefix() const { return "program: " + path() + ": "; }

  // A TorchScript file whose forward is `code`, "x, time, ..." being its arguments.
  torch::jit::Module write_program(const std::string& arguments, const std::string& code) const {
    torch::jit::Module module("Net");
    module.register_parameter("w", at::tensor({0.5f, -2.0f}), false);
    module.define("def forward(self, " + arguments + "):\n    " + code + "\n");
    module.save(path());
    return module;
  }

  void write_json(const Json& json) const { test::write_text(json_path(), json.dump()); }

  // What the module makes of three rows, as the exporters store it.
  std::map<std::string, at::Tensor> pairs_of(
      torch::jit::Module module, const std::vector<std::pair<std::string, at::Tensor>>& inputs = {},
      const std::vector<std::string>& names = {"output"}) const {
    std::map<std::string, at::Tensor> tensors = {
        {"x", at::arange(6, at::kFloat).view({3, 2}).div(4.0)},
        {"time", at::tensor({10.0f, 20.0f, 30.0f})}};
    std::vector<c10::IValue> arguments = {tensors["x"], tensors["time"]};
    for (const auto& [name, rows] : inputs) {
      tensors["input." + name] = rows;
      arguments.emplace_back(rows);
    }
    const c10::IValue result = module.forward(arguments);
    const std::vector<c10::IValue> parts =
        result.isTensor() ? std::vector<c10::IValue>{result} : result.toTuple()->elements().vec();
    for (size_t i = 0; i < names.size(); ++i) {
      tensors[names[i]] = parts[i].toTensor();
    }
    return tensors;
  }

  void write_pairs(const std::map<std::string, at::Tensor>& tensors) const {
    write_safetensors(pairs_path(), {.tensors = tensors, .metadata = {}});
  }

  // x * w + t / 100, whose files are all there.
  void write_affine(const Json& json = json_of("epsilon")) const {
    const auto module = write_program("x, time", "return x * self.w + time[:, None] / 100.0");
    write_json(json);
    write_pairs(pairs_of(module));
  }

  void expect_refused(const std::string& message, const PretrainedOptions& options = {}) const {
    EXPECT_THROW_MSG(load_program(path(), "net", options), DataError, message);
  }

  test::Folder folder_;
};

const at::Tensor& points() {
  static const at::Tensor x = at::tensor({0.3, -0.7, 1.1, 0.2, -0.4, 0.9}, at::kFloat).view({3, 2});
  return x;
}

NoiseLevel level_of(int64_t index) {
  return NoiseSchedule::from_alpha_bars(kAlphaBars).level(index);
}

at::Tensor affine(const at::Tensor& x, double time) {
  return x * at::tensor({0.5f, -2.0f}) + time / 100.0;
}

void expect_close(const at::Tensor& found, const at::Tensor& expected) {
  EXPECT_TRUE(at::allclose(found.to(at::kDouble), expected.to(at::kDouble), 1e-5, 1e-6))
      << found << expected;
}

TEST_F(ProgramTest, EpsilonIsTheScoreTimesMinusSigma) {
  write_affine();
  const ModelPtr model = load_program(path(), "net");
  const NoiseLevel level = level_of(1);
  const Eval eval = model->evaluate(points(), level);
  expect_close(eval.score, affine(points(), 20.0) / -level.sigma());
  EXPECT_TRUE(at::equal(eval.score, eval.remainder));
  EXPECT_FALSE(model->is_exact());
  EXPECT_EQ(model->describe(), "net");
  EXPECT_EQ(model->event_shape(), (std::vector<int64_t>{2}));
  EXPECT_EQ(model->schedule()->alpha_bars(), kAlphaBars);
}

TEST_F(ProgramTest, OtherParameterisationsAreReadAsTheirEquationsSay) {
  const NoiseLevel level = level_of(2);
  const double a = std::sqrt(level.alpha_bar);
  const double s = level.sigma();
  const at::Tensor f = affine(points(), 30.0);
  const std::map<std::string, at::Tensor> scores = {{"score", f},
                                                    {"sample", (a * f - points()) / (s * s)},
                                                    {"v_prediction", -(a * f + s * points()) / s}};
  for (const auto& [word, score] : scores) {
    SCOPED_TRACE(word);
    write_affine(json_of(word));
    expect_close(load_program(path(), "net")->evaluate(points(), level).score, score);
  }
}

TEST_F(ProgramTest, DenoisersOfANoiseLevelSeeExplodingCoordinates) {
  Json json = json_of("sample");
  json["coordinates"] = "variance_exploding";
  write_affine(json);
  const NoiseLevel level = level_of(1);
  const double a = std::sqrt(level.alpha_bar);
  const at::Tensor denoised = affine(points() / a, 20.0);
  expect_close(load_program(path(), "net")->evaluate(points(), level).score,
               (a * denoised - points()) / (level.sigma() * level.sigma()));
}

// The law of every exact model: the score is the gradient of the log density.
void expect_gradient(const Model& model, const NoiseLevel& level) {
  ASSERT_TRUE(model.is_exact());
  const at::Tensor x = points();
  const Eval eval = model.evaluate(x, level);
  constexpr double kStep = 1e-2;
  for (int64_t i = 0; i < 2; ++i) {
    at::Tensor shift = at::zeros({1, 2});
    shift[0][i] = kStep;
    const at::Tensor up = model.evaluate(x + shift, level).log_density;
    const at::Tensor down = model.evaluate(x - shift, level).log_density;
    const at::Tensor slope = (up - down) / (2.0 * kStep);
    EXPECT_TRUE(at::allclose(eval.score.select(1, i).to(at::kDouble), slope, 1e-3, 1e-3))
        << eval.score << slope;
  }
}

TEST_F(ProgramTest, EnergiesOfAnOutputAreDifferentiatedThroughTheProgram) {
  const auto module =
      write_program("x, time", "return torch.sin(x * self.w) + time[:, None] / 100.0");
  write_pairs(pairs_of(module));
  for (const char* word : {"energy_norm", "energy_residual"}) {
    SCOPED_TRACE(word);
    write_json(json_of(word));
    const ModelPtr model = load_program(path(), "net");
    expect_gradient(*model, level_of(1));
    const at::Tensor f = at::sin(points() * at::tensor({0.5f, -2.0f})) + 0.2;
    const at::Tensor rest = std::string(word) == "energy_norm" ? f : f - points();
    expect_close(model->evaluate(points(), level_of(1)).log_density,
                 -rest.square().sum(1) / level_of(1).sigma());
  }
}

TEST_F(ProgramTest, AnEnergyIsMinusTheLogDensityAsItSays) {
  const auto module = write_program("x, time", "return (x * x * self.w * self.w).sum(1) * time");
  auto pairs = pairs_of(module, {}, {"energy"});
  const at::Tensor w = at::tensor({0.5f, -2.0f});
  pairs["gradient"] = 2.0 * pairs["x"] * w * w * pairs["time"].unsqueeze(1);
  write_pairs(pairs);
  const at::Tensor energy = (points() * w).square().sum(1) * 20.0;
  for (const auto& [law, divisor] :
       {std::pair("-E", 1.0), std::pair("-E / sigma", level_of(1).sigma())}) {
    Json json = json_of("energy");
    json["returns"] = "energy";
    json["log_density"] = law;
    write_json(json);
    const ModelPtr model = load_program(path(), "net");
    const Eval eval = model->evaluate(points(), level_of(1));
    expect_close(eval.log_density, -energy / divisor);
    expect_close(eval.score, -2.0 * points() * w * w * 20.0 / divisor);
  }
}

TEST_F(ProgramTest, AGradientThatAProgramReturnsIsTaken) {
  const auto module =
      write_program("x, time", "return (x * x).sum(1) * time, 2.0 * x * time[:, None]");
  write_pairs(pairs_of(module, {}, {"energy", "gradient"}));
  Json json = json_of("energy");
  json["returns"] = "energy_and_gradient";
  json["log_density"] = "-E";
  write_json(json);
  const Eval eval = load_program(path(), "net")->evaluate(points(), level_of(0));
  expect_close(eval.log_density, -points().square().sum(1) * 10.0);
  expect_close(eval.score, -points() * 20.0);
}

TEST_F(ProgramTest, LearnedVariancesAreLeftOut) {
  const auto module = write_program("x, time", "return torch.cat([x * self.w, x * 7.0], 1)");
  Json json = json_of("score");
  json["output_shape"] = {4};
  write_json(json);
  write_pairs(pairs_of(module));
  const Eval eval = load_program(path(), "net")->evaluate(points(), level_of(0));
  expect_close(eval.score, points() * at::tensor({0.5f, -2.0f}));
}

TEST_F(ProgramTest, RowsDoNotDependOnTheBatch) {
  Json json = json_of("epsilon");
  for (const int64_t batch_size : {0, 2, 5}) {
    json["batch_size"] = batch_size;
    write_affine(json);
    const ModelPtr model = load_program(path(), "net");
    const at::Tensor all = model->evaluate(points(), level_of(0)).score;
    for (int64_t i = 0; i < 3; ++i) {
      const at::Tensor row = model->evaluate(points().narrow(0, i, 1), level_of(0)).score;
      EXPECT_TRUE(at::equal(row, all.narrow(0, i, 1)));
    }
  }
}

TEST_F(ProgramTest, PointsAreNotWrittenInto) {
  write_program("x, time", "return x.add_(1.0)").save(path());
  write_json(json_of("score"));
  std::map<std::string, at::Tensor> pairs = {
      {"x", at::zeros({3, 2})}, {"time", at::full({3}, 10.0f)}, {"output", at::ones({3, 2})}};
  write_pairs(pairs);
  const at::Tensor x = at::zeros({64, 2});
  expect_close(load_program(path(), "net")->evaluate(x, level_of(0)).score, at::ones({64, 2}));
  EXPECT_TRUE(at::equal(x, at::zeros({64, 2})));
}

class ProgramInputsTest : public ProgramTest {
 protected:
  ProgramInputsTest() {
    const auto module =
        write_program("x, time, label, text", "return x * label[:, None] + text.sum(1)");
    json_["inputs"] = {
        {{"name", "label"}, {"shape", Json::array()}, {"dtype", "int64"}, {"num_values", 5}},
        {{"name", "text"}, {"shape", {3, 2}}, {"dtype", "float32"}}};
    write_json(json_);
    write_pairs(pairs_of(module, {{"label", at::tensor({0, 1, 4}, at::kLong)},
                                  {"text", at::arange(18, at::kFloat).view({3, 3, 2})}}));
  }
  void expect_input_refused(const std::map<std::string, at::Tensor>& inputs,
                            const std::string& message) const {
    EXPECT_THROW_MSG(load_program(path(), "net", {.inputs = inputs}), ConfigError,
                     prefix() + "input " + message);
  }
  Json json_ = json_of("score");
};

TEST_F(ProgramInputsTest, AreGivenToEveryRowInTheirOrder) {
  const at::Tensor text = at::tensor({1.0, 2.0, 3.0, 4.0, 5.0, 6.0}, at::kDouble).view({3, 2});
  const ModelPtr model =
      load_program(path(), "net", {.inputs = {{"text", text}, {"label", at::scalar_tensor(3.0)}}});
  expect_close(model->evaluate(points(), level_of(0)).score,
               points() * 3.0 + at::tensor({9.0f, 12.0f}));
}

TEST_F(ProgramInputsTest, ThatDoNotFitAreNamed) {
  const at::Tensor text = at::zeros({3, 2});
  const at::Tensor label = at::scalar_tensor(1.0);
  expect_input_refused({{"label", label}},
                       "\"text\" is missing; the network needs one of shape (3, 2)");
  expect_input_refused(
      {{"text", text}},
      "\"label\" is missing; the network needs one of shape (), a class from 0 to 4");
  expect_input_refused({{"text", at::zeros({2, 3})}, {"label", label}},
                       "\"text\" has shape (2, 3), must be (3, 2)");
  expect_input_refused(
      {{"text", text}, {"label", at::scalar_tensor(5.0)}},
      "\"label\" is not a class of this network; must be a whole number from 0 to 4");
  expect_input_refused({{"text", text}, {"label", label}, {"tex", text}},
                       "\"tex\" is not known; did you mean \"text\"?");
  expect_input_refused({{"text", text / 0.0}, {"label", label}}, "\"text\" must be finite");
}

TEST_F(ProgramInputsTest, OfWholeNumbersTakeNoOthers) {
  json_["inputs"][0] = {{"name", "label"}, {"dtype", "int64"}};
  write_json(json_);
  expect_input_refused({{"text", at::zeros({3, 2})}, {"label", at::scalar_tensor(1.5)}},
                       "\"label\" must be whole numbers (int64)");
}

TEST_F(ProgramTest, TakesNoInputsThatItDoesNotHave) {
  write_affine();
  EXPECT_THROW_MSG(load_program(path(), "net", {.inputs = {{"label", at::zeros({1})}}}),
                   ConfigError,
                   prefix() +
                       "input \"label\" is not taken: this network has no inputs beside x and "
                       "the time");
}

TEST_F(ProgramTest, PairsThatAreNotReproducedAreRefused) {
  write_affine();
  auto tensors = read_safetensors(pairs_path()).tensors;
  at::Tensor output = tensors["output"].clone();
  output[1][0] += 0.5;  // of 2.3, the largest
  tensors["output"] = output;
  write_pairs(tensors);
  expect_refused(
      prefix() +
      "reference pair 2 of 3 is not reproduced: its output differs by 0.5, 0.227 of the "
      "largest, must be at most 0.0001; the program, its motet.json and its pairs are of "
      "different exports, or this torch or device computes it differently. Export it again");
}

TEST_F(ProgramTest, AWrongGradientIsRefused) {
  const auto module = write_program("x, time", "return (x * x).sum(1) * time, 2.0 * x");
  auto pairs = pairs_of(module, {}, {"energy", "gradient"});
  pairs["gradient"] = pairs["gradient"] * 2.0;
  write_pairs(pairs);
  Json json = json_of("energy");
  json["returns"] = "energy_and_gradient";
  json["log_density"] = "-E";
  write_json(json);
  expect_refused(
      prefix() +
      "reference pair 1 of 3 is not reproduced: its gradient differs by 0.5, 0.1 of the "
      "largest, must be at most 0.0001; the program, its motet.json and its pairs are of "
      "different exports, or this torch or device computes it differently. Export it again");
}

TEST_F(ProgramTest, PairsOfOtherShapesNamesAndTimesAreRefused) {
  write_affine();
  const auto good = read_safetensors(pairs_path()).tensors;
  const auto refused = [&](const std::string& name, const std::optional<at::Tensor>& tensor,
                           const std::string& message) {
    auto tensors = good;
    tensors.erase(name);
    if (tensor) {
      tensors[name] = *tensor;
    }
    write_pairs(tensors);
    expect_refused(prefix() + "reference pairs: " + message);
  };
  refused("x", {}, "tensor \"x\", float32 (3, 2), is missing");
  refused("x", at::zeros({2, 2}), "tensor \"x\" is float32 (2, 2), must be float32 (3, 2)");
  refused("output", at::zeros({3, 2}, at::kDouble),
          "tensor \"output\" is float64 (3, 2), must be float32 (3, 2)");
  refused("output", at::full({3, 2}, NAN), "tensor \"output\" has numbers that are not finite");
  refused("other", at::zeros({1}), "tensor \"other\" is of no input and no result of the program");
  refused(
      "time", at::tensor({10.0f, 20.0f, 25.0f}),
      "time 25 of pair 3 is none of motet.json's times; the two files are of different exports");
  std::filesystem::remove(pairs_path());
  expect_refused(prefix() + "reference pairs: the file beside it, " + pairs_path() +
                 ", is missing; export the program again");
}

TEST_F(ProgramTest, ResultsThatMotetJsonDoesNotSayAreRefused) {
  write_affine();
  const auto refused = [&](const std::string& code, const std::string& message) {
    write_program("x, time", code);
    expect_refused(prefix() + message);
  };
  refused("return x.sum(1)",
          "the program returned float32 (3) as its output, motet.json says floats of shape (3, 2)");
  refused(
      "return x.long()",
      "the program returned int64 (3, 2) as its output, motet.json says floats of shape (3, 2)");
  refused("return x, x", "the program returned 2 tensors, must return 1 (returns = \"output\")");
  refused("return 3", "the program returns Int, must return a tensor or a tuple of tensors");
  refused("return x @ x",
          "the program failed: \"RuntimeError: mat1 and mat2 shapes cannot be multiplied (3x2 and "
          "3x2)\"");
}

TEST_F(ProgramTest, EnergiesWithoutAGradientAreRefused) {
  write_affine(json_of("energy_norm"));
  const auto detached = write_program("x, time", "return x.detach() * self.w + time[:, None]");
  write_pairs(pairs_of(detached));
  const ModelPtr model = load_program(path(), "net");
  EXPECT_THROW_MSG(
      model->evaluate(points(), level_of(0)), DataError,
      prefix() + "no gradient passes through the program; export it without no_grad and detach");
}

TEST_F(ProgramTest, ProgramsOfOtherArgumentsAreRefused) {
  write_affine();
  write_program("x", "return x");
  expect_refused(prefix() + "takes 1 arguments, but motet.json has 2: x, the time and 0 inputs");
}

TEST_F(ProgramTest, MotetJsonIsReadStrictly) {
  write_affine();
  const std::string where = "program: " + json_path() + ": ";
  const auto refused = [&](const std::function<void(Json&)>& change, const std::string& message) {
    Json json = json_of("epsilon");
    change(json);
    write_json(json);
    expect_refused(where + message);
  };
  refused([](Json& j) { j["format"] = "zip"; },
          "is no motet.json of a program: its format is not \"motet.program\"");
  refused([](Json& j) { j["version"] = 2; },
          "version = 2, must be 1; a newer motet may have made it");
  refused([](Json& j) { j["time"] = 1; }, "unknown key \"time\"; did you mean \"times\"?");
  for (const char* key : {"parameterisation", "event_shape", "alpha_bars", "times", "data"}) {
    refused([key](Json& j) { j.erase(key); }, "missing key \"" + std::string(key) + "\"");
  }
  refused([](Json& j) { j["alpha_bars"] = {0.9, 0.9, 0.1}; },
          "schedule: alpha_bars[1] = 0.9, must be in (0, alpha_bars[0]) = (0, 0.9): alpha_bars "
          "fall strictly");
  refused([](Json& j) { j["times"] = {1.0, 2.0}; }, "2 times for 3 alpha_bars, must be one each");
  refused([](Json& j) { j["times"] = {1.0, 2.5, 3.0}, j["time_dtype"] = "int64"; },
          "times = a list of 3, must be whole numbers, for time_dtype = \"int64\"");
  refused([](Json& j) { j["time_dtype"] = "bool"; },
          "time_dtype = \"bool\", must be \"float32\" or \"int64\"");
  refused([](Json& j) { j["dtype"] = "int64"; }, "dtype = \"int64\", must be a float dtype");
  refused([](Json& j) { j["event_shape"] = {65536, 65536}; },
          "event_shape = a list of 2, must have at most 268435456 numbers in all");
  refused([](Json& j) { j["returns"] = "energy"; },
          "parameterisation = \"epsilon\", must be \"energy\" where returns = \"energy\"");
  refused([](Json& j) { j["parameterisation"] = "energy"; },
          "parameterisation = \"energy\", needs returns = \"energy\" or \"energy_and_gradient\"");
  refused([](Json& j) { j["log_density"] = "-E"; },
          "log_density = \"-E\", must be left out unless parameterisation = \"energy\"");
  refused([](Json& j) { j["inputs"] = {{{"name", "a"}}, {{"name", "a"}}}; },
          "inputs[1]: \"a\" is there twice");
  refused([](Json& j) { j["inputs"] = {{{"name", "a"}, {"num_values", 3}}}; },
          "inputs[0]: num_values = 3, must be left out: only one int64 a row is a class");
  refused([](Json& j) { j["data"]["range"] = {1.0, -1.0}; },
          "data: range = a list of 2, must be [low, high] with low < high");
  refused([](Json& j) { j["provenance"] = {{"a", 1}}; },
          "provenance = an object, must be an object of at most 64 texts");
  std::filesystem::remove(json_path());
  expect_refused(prefix() + "the file beside it that says what it is, " + json_path() +
                 ", is missing; tools/export/ writes both, docs/loading.md has its keys");
}

TEST_F(ProgramTest, OtherFilesAreRefusedUnread) {
  write_affine();
  const std::string pickle =
      "which motet never loads, because unpickling runs code from the file; convert it: "
      "tools/export/guided_diffusion.py for checkpoints of guided-diffusion, "
      "tools/export/module.py "
      "for all others";
  const std::string program = test::read_text(path());
  test::write_text(path(), "\x80\x02}q\x00.");
  expect_refused(prefix() + "is a pickle (as old versions of torch.save make), " + pickle);
  test::write_text(path(), "hello world");
  expect_refused(prefix() +
                 "is neither a TorchScript file nor an AOTInductor package; "
                 "tools/export/module.py makes both");
  test::write_text(path(), "PK");
  expect_refused(prefix() + "file of 2 bytes; it is truncated or no program");
  for (const size_t size : {size_t{100}, program.size() / 2, program.size() - 10}) {
    test::write_text(path(), program.substr(0, size));
    expect_refused(prefix() +
                   "cannot be read as a zip archive of torch; it is truncated or broken");
  }
}

// A zip archive as torch.save and torch.export write it, with these entries.
std::string golden(const std::string& name) {
  return MOTET_SOURCE_DIR "/tests/golden/programs/" + name;
}

TEST(ProgramContentsTest, PicklesAndUncompiledProgramsAreToldByTheirContents) {
  EXPECT_THROW_MSG(load_program(golden("pickle.ts"), "net"), DataError,
                   "program: " + golden("pickle.ts") +
                       ": is a pickle (as torch.save makes), which motet never loads, because "
                       "unpickling runs code from the file; convert it: "
                       "tools/export/guided_diffusion.py for checkpoints of guided-diffusion, "
                       "tools/export/module.py for all others");
  EXPECT_THROW_MSG(load_program(golden("exported.pt2"), "net"), DataError,
                   "program: " + golden("exported.pt2") +
                       ": is an ExportedProgram of torch.export that is not compiled; compile it "
                       "with torch._inductor.aoti_compile_and_package, or export it again with "
                       "tools/export/module.py");
}

TEST(ProgramContentsTest, AProgramOfTheExporterIsLoadedByItsContentsNotItsName) {
  const ModelPtr model =
      load_program(golden("traced.pt"), "net", {.inputs = {{"class", at::scalar_tensor(3.0)}}});
  EXPECT_EQ(model->event_shape(), (std::vector<int64_t>{1, 4, 4}));
  EXPECT_TRUE(model->is_exact());
}

// Archives with the entries that tell what a file is, and nothing in them.
class ProgramArchiveTest : public ProgramTest {
 protected:
  void write_archive(const std::map<std::string, std::string>& records) const {
    caffe2::serialize::PyTorchStreamWriter writer(path());
    for (const auto& [name, text] : records) {
      writer.writeRecord(name, text.data(), text.size());
    }
    writer.writeEndOfFile();
  }
  void write_package(const Json& metadata) const {
    write_archive({{"data/aotinductor/model/a.wrapper.so", "none"},
                   {"data/aotinductor/model/a.wrapper_metadata.json", metadata.dump()}});
  }
};

TEST_F(ProgramArchiveTest, OfNeitherKindAreRefused) {
  write_archive({{"notes.txt", "hello"}});
  expect_refused(prefix() +
                 "is a zip archive, but neither a TorchScript file nor an AOTInductor package; "
                 "tools/export/module.py makes both");
}

TEST_F(ProgramArchiveTest, PackagesOfOtherMachinesAreRefused) {
  write_affine();
  write_package({{"AOTI_DEVICE_KEY", "cuda"}});
  EXPECT_THROW_MSG(load_program(path(), "net"), ConfigError,
                   prefix() +
                       "was compiled for device \"cuda\", but device = \"cpu\"; export it "
                       "for that device, or as TorchScript");
  write_package({{"AOTI_DEVICE_KEY", "cpu"}, {"AOTI_CPU_ISA", "AVX2 SPELLS"}});
  expect_refused(prefix() +
                 "was compiled for a CPU with \"SPELLS\", which this one lacks; compile "
                 "it here, or export it as TorchScript");
#if defined(__x86_64__)
  write_package({{"AOTI_MACHINE", "aarch64"}});
  expect_refused(prefix() +
                 "was compiled for \"aarch64\", but this machine is x86_64; compile it "
                 "here, or export it as TorchScript");
#endif
}

TEST_F(ProgramArchiveTest, PackagesGiveNoGradients) {
  write_affine(json_of("energy_norm"));
  write_package({{"AOTI_DEVICE_KEY", "cpu"}});
  expect_refused(prefix() +
                 "is an AOTInductor package, through which no gradient passes, but its "
                 "energy needs one; export it as TorchScript, or so that it returns (E, "
                 "grad E)");
}

TEST_F(ProgramArchiveTest, PackagesThatTorchCannotLoadAreRefused) {
  write_affine();
  write_package({{"AOTI_DEVICE_KEY", "cpu"}});
  try {
    load_program(path(), "net");
    ADD_FAILURE() << "loaded a package without code";
  } catch (const DataError& error) {
    EXPECT_EQ(std::string(error.what())
                  .rfind(prefix() + "torch cannot load this AOTInductor package: \"", 0),
              0U)
        << error.what();
  }
}

TEST_F(ProgramTest, FewerLevelsKeepTheirTimes) {
  write_affine();
  const ModelPtr model = load_program(path(), "net", {.num_levels = 2});
  EXPECT_EQ(model->schedule()->alpha_bars(), (std::vector<double>{0.9, 0.1}));
  const NoiseLevel last = model->schedule()->level(1);
  expect_close(model->evaluate(points(), last).score, affine(points(), 30.0) / -last.sigma());
}

TEST_F(ProgramInputsTest, DifferBetweenModelsOfOneProgram) {
  const auto with_label = [&](double label) {
    return load_program(
        path(), "net",
        {.inputs = {{"label", at::scalar_tensor(label)}, {"text", at::zeros({3, 2})}}});
  };
  const ModelPtr one = with_label(1.0);
  const ModelPtr four = with_label(4.0);
  expect_close(one->evaluate(points(), level_of(0)).score, points());
  expect_close(four->evaluate(points(), level_of(0)).score, 4.0 * points());
}

TEST_F(ProgramInputsTest, AreDescribedWithoutLoading) {
  using Rows = std::vector<std::pair<std::string, std::string>>;
  json_["data"]["range"] = {-1.0, 1.0};
  json_["provenance"] = {{"torch", "2.13"}};
  write_json(json_);
  EXPECT_EQ(describe_pretrained(path()), (Rows{{"program", "TorchScript"},
                                               {"event shape", "(2)"},
                                               {"data", "metres, -1 to 1"},
                                               {"prediction", "score"},
                                               {"density", "a score only"},
                                               {"levels", "3"},
                                               {"dtype", "float32"},
                                               {"rows at once", "any"},
                                               {"input \"label\"", "a whole number from 0 to 4"},
                                               {"input \"text\"", "numbers (3, 2), float32"},
                                               {"torch", "2.13"}}));
  EXPECT_EQ(pretrained_files(path()),
            (std::vector<std::string>{path(), json_path(), pairs_path()}));
}

// Bytes of the program changed one at a time: every one is refused, or harmless.
TEST_F(ProgramTest, FlippedBytesNeverCrash) {
  write_affine();
  const std::string good = test::read_text(path());
  int64_t num_refused = 0;
  for (size_t i = 0; i < good.size(); i += 37) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x5a);
    test::write_text(path(), bad);
    try {
      load_program(path(), "net");
    } catch (const DataError&) {
      ++num_refused;
    }
  }
  EXPECT_GT(num_refused, 5);
}

}  // namespace
}  // namespace motet
