// Classifiers: values and gradients against autograd in float64, training, files, and what is
// refused.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <array>
#include <cmath>

#include "motet/error.hpp"
#include "motet/likelihood.hpp"
#include "motet/train.hpp"
#include "nets/residual_mlp.hpp"
#include "support/models.hpp"
#include "support/tensors.hpp"
#include "support/throw_message.hpp"
#include "train_pass.hpp"
#include "unit/io_fixture.hpp"

namespace motet {
namespace {

using testing::gaussian;
using testing::level_at;

// No size is a multiple of a vector; with seven classes f is longer than what the network sees of x.
NetworkConfig small_config(int64_t event_dim, int64_t num_classes) {
  return {.event_dim = event_dim,
          .width = 20,
          .num_blocks = 2,
          .widen = 3,
          .embedding_dim = 5,
          .num_levels = 10,
          .parameterisation = Parameterisation::classifier,
          .num_classes = num_classes};
}

Weights random_weights(const NetworkConfig& config) {
  Weights weights;
  weights.config = config;
  weights.schedule = NoiseSchedule::cosine(config.num_levels);
  Rng rng(7);
  for (const auto& [name, shape] : expected_tensors(config)) {
    const Tensor normal = rng.normal_like(at::empty(shape, at::kFloat));
    weights.tensors[name] = normal / std::sqrt(static_cast<double>(shape.back()));
  }
  return weights;
}

Tensor points(int64_t num, int64_t event_dim) {
  Rng rng(11);
  return rng.normal_like(at::empty({num, event_dim}, at::kDouble));
}

// log softmax(f) in float64, (B, C).
Tensor expected_logs(const Weights& weights, const Tensor& x, const NoiseLevel& level) {
  detail::TensorMap tensors;
  for (const auto& [name, tensor] : weights.tensors) {
    tensors[name] = tensor.to(at::kDouble);
  }
  const Tensor index = at::full({}, level.index, at::kLong);
  return at::log_softmax(detail::reference_forward(tensors, weights.config, x, index), 1);
}

double relative_error(const Tensor& found, const Tensor& expected) {
  const Tensor error = (found.to(at::kDouble) - expected).abs().max();
  return (error / expected.abs().max()).item<double>();
}

void expect_agreement_with_float64(const NetworkConfig& config) {
  const Weights weights = random_weights(config);
  const NoiseLevel level = weights.schedule.level(3);
  const Tensor leaf = points(37, config.event_dim).requires_grad_(true);
  for (int64_t label = 0; label < config.num_classes; ++label) {
    const Tensor log_share = expected_logs(weights, leaf, level).select(1, label);
    const Tensor gradient = torch::autograd::grad({log_share.sum()}, {leaf})[0];
    const auto found =
        classifier_likelihood(weights, label, "net")->evaluate(leaf.detach(), level, {});
    EXPECT_EQ(found.log_likelihood.scalar_type(), at::kDouble);
    EXPECT_EQ(found.score.scalar_type(), at::kDouble);
    EXPECT_LT(relative_error(found.log_likelihood, log_share.detach()), 5e-6) << label;
    EXPECT_LT(relative_error(found.score, gradient), 5e-6) << label;
    EXPECT_FALSE(found.score.requires_grad());
  }
}

TEST(Classifier, ValueAndGradientAreThoseOfFloat64Autograd) {
  for (const int64_t num_classes : {2, 7}) {
    for (const int64_t event_dim : {1, 3}) {
      NetworkConfig config = small_config(event_dim, num_classes);
      expect_agreement_with_float64(config);
      config.frequencies = {0.7, 3.0};
      expect_agreement_with_float64(config);
    }
  }
}

TEST(Classifier, SharesOfAllClassesSumToOne) {
  const Weights weights = random_weights(small_config(2, 5));
  const Tensor x = points(50, 2);
  Tensor sum = at::zeros({50}, at::kDouble);
  for (int64_t label = 0; label < 5; ++label) {
    const auto value =
        classifier_likelihood(weights, label, "net")->evaluate(x, weights.schedule.level(4), {});
    sum = sum + value.log_likelihood.exp();
  }
  EXPECT_LT((sum - 1.0).abs().max().item<double>(), 1e-12);
}

TEST(Classifier, BitsOfARowDoNotDependOnTheBatch) {
  const Weights weights = random_weights(small_config(2, 3));
  const LikelihoodPtr classifier = classifier_likelihood(weights, 1, "net");
  const NoiseLevel level = weights.schedule.level(0);
  const Tensor x = points(300, 2).to(at::kFloat);
  const auto all = classifier->evaluate(x, level, {});
  for (const int64_t row : {0, 17, 299}) {
    const auto one = classifier->evaluate(x.narrow(0, row, 1), level, {});
    EXPECT_TRUE(at::equal(one.log_likelihood, all.log_likelihood.narrow(0, row, 1)));
    EXPECT_TRUE(at::equal(one.score, all.score.narrow(0, row, 1)));
  }
}

TEST(Classifier, IsJointWithThePriorAndKnowsItsSchedule) {
  const Weights weights = random_weights(small_config(3, 2));
  const LikelihoodPtr classifier = classifier_likelihood(weights, 0, "cats");
  EXPECT_EQ(classifier->path(), LikelihoodPath::joint);
  EXPECT_TRUE(classifier->is_gradient());
  EXPECT_EQ(classifier->event_shape(), std::vector<int64_t>{3});
  EXPECT_EQ(classifier->describe(), "cats");
  ASSERT_TRUE(classifier->schedule());
  EXPECT_TRUE(classifier->schedule()->same_levels(weights.schedule));
  EXPECT_FALSE(classifier->allows(points(1, 3)).defined());
}

TEST(Classifier, RefusesWhatItCannotBe) {
  const Weights weights = random_weights(small_config(2, 3));
  EXPECT_THROW_MSG(classifier_likelihood(weights, 3, "net"), ConfigError,
                   "classifier: \"net\" has the classes 0 to 2, but label = 3");
  EXPECT_THROW_MSG(classifier_likelihood(weights, -1, "net"), ConfigError,
                   "classifier: \"net\" has the classes 0 to 2, but label = -1");
  EXPECT_THROW_MSG(classifier_likelihood(weights, 0, "net", "tpu"), ConfigError,
                   "network: device = \"tpu\" is not known; allowed: cpu, cuda");
  Weights score = weights;
  score.config.parameterisation = Parameterisation::score;
  score.config.num_classes = 0;
  EXPECT_THROW_MSG(classifier_likelihood(score, 0, "net"), ConfigError,
                   "classifier: \"net\" is a network of parameterisation \"score\", must be "
                   "\"classifier\"; give its file as weights = \"FILE\", or load it by "
                   "network_model()");
  EXPECT_THROW_MSG(network_model(weights, "net"), ConfigError,
                   "network: \"net\" is a classifier, which has no score; give its file as "
                   "classifier = \"FILE\" with a label, or load it by classifier_likelihood()");
  const LikelihoodPtr classifier = classifier_likelihood(weights, 0, "net");
  EXPECT_THROW_MSG(classifier->evaluate(points(4, 2), level_at(0.5, 10), {}), ConfigError,
                   "network: \"net\" was trained on levels 0 to 9, but is asked for level 10; "
                   "sample on the model's own schedule");
  EXPECT_THROW(classifier->evaluate(points(4, 3), level_at(0.5), {}), ShapeError);
  Weights cut = weights;
  cut.tensors["output.weight"] = at::zeros({2, 20});
  EXPECT_THROW_MSG(classifier_likelihood(cut, 0, "net"), DataError,
                   "network: \"net\": tensor \"output.weight\": shape (2, 20), expected (3, 20); "
                   "the tensors and the config are of two different networks");
}

TEST(Classifier, ConfigsHaveClassesOrNone) {
  NetworkConfig config = small_config(2, 1);
  EXPECT_THROW_MSG(expected_tensors(config), ConfigError,
                   "network: num_classes = 1, must be >= 2 for a classifier");
  config.parameterisation = Parameterisation::energy_norm;
  config.num_classes = 4;
  EXPECT_THROW_MSG(expected_tensors(config), ConfigError,
                   "network: num_classes = 4, but parameterisation = \"energy_norm\" has no "
                   "classes; must be 0");
  EXPECT_EQ(parameterisation_from("classifier"), Parameterisation::classifier);
}

TEST(BayesClassifier, RefusesWhatHasNoBayesRule) {
  const ModelPtr a = gaussian({0.0}, {1.0}, "a"), b = gaussian({1.0}, {1.0}, "b");
  EXPECT_THROW_MSG(bayes_classifier({a}, {1.0}, 0, "y"), ConfigError,
                   "classifier: \"y\" was given 1 classes and 1 weights, must be as many of both, "
                   "at least 2");
  EXPECT_THROW_MSG(bayes_classifier({a, b}, {1.0}, 0, "y"), ConfigError,
                   "classifier: \"y\" was given 2 classes and 1 weights, must be as many of both, "
                   "at least 2");
  EXPECT_THROW_MSG(bayes_classifier({a, b}, {1.0, 1.0}, 2, "y"), ConfigError,
                   "classifier: \"y\" has the classes 0 to 1, but label = 2");
  EXPECT_THROW_MSG(bayes_classifier({a, nullptr}, {1.0, 1.0}, 0, "y"), ConfigError,
                   "classifier: \"y\" class 1 is null");
  EXPECT_THROW_MSG(bayes_classifier({a, score_only(b)}, {1.0, 1.0}, 0, "y"), ConfigError,
                   "classifier: \"y\" class 1 (" + score_only(b)->describe() +
                       ") has no normalised log density; take analytic laws, or train a "
                       "classifier");
  EXPECT_THROW_MSG(bayes_classifier({a, gaussian({0.0, 0.0}, {1.0, 1.0})}, {1.0, 1.0}, 0, "y"),
                   ShapeError,
                   "classifier: \"y\" class 1 has event shape (2), but class 0 has (1)");
  EXPECT_THROW_MSG(bayes_classifier({a, b}, {1.0, -0.5}, 0, "y"), ConfigError,
                   "classifier: \"y\" class 1 has weight -0.5, must be > 0 and finite");
}

// All densities underflow: shares alike, no NaN.
TEST(BayesClassifier, StaysFiniteFarOutside) {
  const ModelPtr a = gaussian({0.0}, {1e-3}), b = gaussian({1.0}, {1e-3});
  const auto value = bayes_classifier({a, b}, {1.0, 3.0}, 0, "y")
                         ->evaluate(rows({{1e160}, {-1e160}}), level_at(0.999999), {});
  EXPECT_TRUE(value.log_likelihood.isfinite().all().item<bool>());
}

// Two classes on a line, one of prior probability 3/4.
DataSetPtr two_classes() {
  return labelled_data(
      {analytic_data(gaussian({-0.4}, {0.2})), analytic_data(gaussian({0.5}, {0.3}))}, {3.0, 1.0});
}

TrainConfig small_training() {
  TrainConfig config;
  config.network = small_config(1, 2);
  config.schedule = NoiseSchedule::cosine(10);
  config.num_steps = 300;
  config.batch_size = 500;
  config.learning_rate = 5e-3;
  config.rate_schedule = RateSchedule::cosine;
  config.ema_decay = 0.9;
  config.held_out_size = 2000;
  return config;
}

TEST(ClassifierTraining, LearnsBayesRuleAtEveryLevel) {
  const TrainConfig config = small_training();
  const DataSetPtr data = two_classes();
  const Weights weights = trained_weights(config, train(config, *data), *data);
  const LikelihoodPtr found = classifier_likelihood(weights, 1, "net");
  const LikelihoodPtr expected =
      bayes_classifier({gaussian({-0.4}, {0.2}), gaussian({0.5}, {0.3})}, {3.0, 1.0}, 1, "y");
  const Tensor x = at::linspace(-0.8, 1.0, 19, at::kDouble).unsqueeze(1);
  for (const int64_t index : {0, 3, 6, 9}) {
    const NoiseLevel level = config.schedule.level(index);
    const Tensor shares = found->evaluate(x, level, {}).log_likelihood.exp();
    const Tensor exact = expected->evaluate(x, level, {}).log_likelihood.exp();
    EXPECT_LT((shares - exact).abs().max().item<double>(), 0.06) << index;
  }
  EXPECT_EQ(weights.provenance.at("arithmetic"), "float32 reference");
}

// A network whose f is 0 says 1 / C of each class: cross-entropy log C.
TEST(ClassifierTraining, LossIsTheCrossEntropy) {
  const TrainConfig config = small_training();
  const auto layout = detail::parameter_layout(config.network);
  const int64_t count = layout.back().offset + layout.back().count;
  const Tensor weights = at::zeros({count}, at::kDouble);
  const Tensor x = points(6, 1);
  const Tensor labels = at::tensor({0, 1, 1, 0, 1, 1}, at::kLong);
  const Tensor levels = at::tensor({0, 9, 3, 4, 5, 5}, at::kLong);
  const detail::Batch batch{.x = x, .noise = at::zeros_like(x), .level = levels, .label = labels};
  const auto pass = detail::reference_pass(config.network);
  const Tensor gradient = at::zeros({count}, at::kDouble);
  EXPECT_NEAR(pass->gradient(weights, batch, gradient), std::log(2.0), 1e-15);
  EXPECT_LT((pass->row_losses(weights, batch) - std::log(2.0)).abs().max().item<double>(), 1e-15);
  // d loss / d bias_c = mean(1/2 - [label = c]).
  for (const auto& p : layout) {
    if (p.name == "output.bias") {
      const Tensor expected = at::tensor({0.5 - 2.0 / 6, 0.5 - 4.0 / 6}, at::kDouble);
      EXPECT_TRUE(at::allclose(gradient.narrow(0, p.offset, p.count), expected, 0.0, 1e-15));
    }
  }
}

TEST(ClassifierTraining, ResumesToTheSameBits) {
  TrainConfig config = small_training();
  config.num_steps = 12;
  const DataSetPtr data = two_classes();
  const TrainState whole = train(config, *data);
  std::optional<TrainState> half;
  const auto stop = [&half](const TrainState& state, double) {
    if (state.step == 5) {
      half = state;
      for (auto& [name, tensor] : half->tensors) {
        tensor = tensor.clone();
      }
    }
    return true;
  };
  (void)train(config, *data, stop);
  ASSERT_TRUE(half);
  const TrainState resumed = train(config, *data, {}, &*half);
  for (const auto& [name, tensor] : whole.tensors) {
    EXPECT_TRUE(at::equal(tensor, resumed.tensors.at(name))) << name;
  }
}

TEST(ClassifierTraining, RefusesDataThatDoNotFit) {
  TrainConfig config = small_training();
  const DataSetPtr plain = analytic_data(gaussian({0.0}, {1.0}, "bell"));
  EXPECT_THROW_MSG(train(config, *plain), ConfigError,
                   "train: a classifier needs points with labels, but the data bell have none; "
                   "give labelled_data() or array_data() with labels");
  config.network.num_classes = 3;
  const DataSetPtr data = two_classes();
  EXPECT_THROW_MSG(train(config, *data), ConfigError,
                   "train: network.num_classes = 3, but the data classes(gaussian, gaussian) have "
                   "2 classes; set network.num_classes = 2");
  config = small_training();
  config.mixed_precision = true;
  EXPECT_THROW_MSG(train(config, *data), ConfigError,
                   "train: mixed_precision = true needs the hand-written passes, which "
                   "classifiers do not have; set mixed_precision = false");
}

class BadLabels : public LabelledData {
 public:
  explicit BadLabels(Tensor labels) : labels_(std::move(labels)) {}
  Draw sample_labelled(int64_t num_samples, Rng& rng) const override {
    return {rng.normal_like(at::empty({num_samples, 1}, at::kDouble)), labels_};
  }
  int64_t num_classes() const override { return 2; }
  int64_t event_dim() const override { return 1; }
  std::string describe() const override { return "mine"; }

 private:
  Tensor labels_;
};

TEST(ClassifierTraining, ChecksTheLabelsThatADataSetGives) {
  TrainConfig config = small_training();
  config.batch_size = 3;
  for (const Tensor& labels : {at::zeros({2}, at::kLong), at::zeros({3}, at::kDouble), Tensor()}) {
    EXPECT_THROW_MSG(train(config, BadLabels(labels)), ShapeError,
                     "train: the data mine gave labels that are not Long of shape (3) on cpu");
  }
  EXPECT_THROW_MSG(train(config, BadLabels(at::tensor({0, -1, 2}, at::kLong))), ShapeError,
                   "train: the data mine gave labels from -1 to 2, must be in [0, 2)");
}

TEST(LabelledDataTest, ClassesComeInProportionToTheirWeights) {
  Rng rng(3);
  const DataSetPtr data = two_classes();
  const auto draw = dynamic_cast<const LabelledData&>(*data).sample_labelled(20000, rng);
  EXPECT_EQ(draw.labels.scalar_type(), at::kLong);
  // sd sqrt(.75 .25 / 20000) = .003; means of 5,000 and 15,000 points are known to .004.
  EXPECT_NEAR(draw.labels.to(at::kDouble).mean().item<double>(), 0.25, 0.015);
  const auto mean_of = [&](int64_t label) {
    return draw.points.squeeze(1).masked_select(draw.labels.eq(label)).mean().item<double>();
  };
  EXPECT_NEAR(mean_of(0), -0.4, 0.02);
  EXPECT_NEAR(mean_of(1), 0.5, 0.02);
  EXPECT_EQ(data->describe(), "classes(gaussian, gaussian)");
}

TEST(LabelledDataTest, RowsDoNotDependOnTheBatch) {
  const Tensor x = at::arange(10, at::kDouble).unsqueeze(1);
  const Tensor labels = at::tensor({0, 1, 2, 0, 1, 2, 0, 1, 2, 0}, at::kFloat);
  for (const DataSetPtr& data : {two_classes(), array_data(x, labels, "rows")}) {
    const auto& labelled = dynamic_cast<const LabelledData&>(*data);
    Rng all(5), tail = Rng(5).for_chains(90);
    const auto whole = labelled.sample_labelled(100, all);
    const auto part = labelled.sample_labelled(10, tail);
    EXPECT_TRUE(at::equal(part.points, whole.points.narrow(0, 90, 10))) << data->describe();
    EXPECT_TRUE(at::equal(part.labels, whole.labels.narrow(0, 90, 10))) << data->describe();
  }
}

TEST(LabelledDataTest, ArraysKeepRowAndLabelTogether) {
  const Tensor x = at::arange(10, at::kDouble).unsqueeze(1);
  const DataSetPtr data = array_data(x, x.squeeze(1).remainder(3.0), "rows");
  const auto& labelled = dynamic_cast<const LabelledData&>(*data);
  EXPECT_EQ(labelled.num_classes(), 3);
  Rng rng(5);
  const auto draw = labelled.sample_labelled(200, rng);
  EXPECT_TRUE(at::equal(draw.points.squeeze(1).remainder(3.0), draw.labels.to(at::kDouble)));
}

TEST(LabelledDataTest, RefusesBadLabelsAndClasses) {
  const Tensor x = at::zeros({3, 2}, at::kDouble);
  EXPECT_THROW_MSG(array_data(x, at::zeros({2}), "file"), DataError,
                   "data: \"file\": labels have shape (2), must be (3), one for each row");
  EXPECT_THROW_MSG(array_data(x, at::tensor({0.0, 0.5, 1.0}), "file"), DataError,
                   "data: \"file\": labels [1] = 0.5, must be a whole number from 0 to 65535");
  EXPECT_THROW_MSG(array_data(x, at::tensor({0.0, 1.0, -1.0}), "file"), DataError,
                   "data: \"file\": labels [2] = -1, must be a whole number from 0 to 65535");
  EXPECT_THROW_MSG(array_data(x, at::zeros({3}), "file"), DataError,
                   "data: \"file\": labels are all 0, must be of two classes at least");
  const DataSetPtr plane = builtin_data("ring"), line = analytic_data(gaussian({0.0}, {1.0}));
  EXPECT_THROW_MSG(labelled_data({plane}, {1.0}), ConfigError,
                   "data: labelled_data() was given 1 classes and 1 weights, must be as many of "
                   "both, at least 2");
  EXPECT_THROW_MSG(labelled_data({plane, nullptr}, {1.0, 1.0}), ConfigError,
                   "data: class 1 is null");
  EXPECT_THROW_MSG(labelled_data({plane, line}, {1.0, 1.0}), ShapeError,
                   "data: class 1 has 1 dimensions, but class 0 has 2");
  EXPECT_THROW_MSG(labelled_data({plane, plane}, {1.0, 0.0}), ConfigError,
                   "data: class 1 has weight 0, must be > 0 and finite");
}

class ClassifierFile : public IoTest {
 protected:
  std::string with_metadata(const std::string& key, const std::string& value) const {
    save_weights(path("w"), random_weights(small_config(2, 3)));
    TensorFile file = read_safetensors(path("w"));
    file.metadata[key] = value;
    write_safetensors(path("w"), file);
    return path("w");
  }
  void expect_refused(const std::string& file, const std::string& message) const {
    EXPECT_THROW_MSG(load_weights(file), DataError, "weights: " + file + ": " + message);
  }
};

TEST_F(ClassifierFile, RoundTripKeepsTheClasses) {
  const Weights saved = random_weights(small_config(2, 3));
  save_weights(path("w"), saved);
  const Weights loaded = load_weights(path("w"));
  EXPECT_EQ(loaded.config, saved.config);
  EXPECT_EQ(loaded.config.num_classes, 3);
  EXPECT_TRUE(at::equal(loaded.tensors.at("output.weight"), saved.tensors.at("output.weight")));
}

TEST_F(ClassifierFile, HasClassesIfAndOnlyIfItIsAClassifier) {
  const std::string sizes =
      R"({"event_dim":2,"width":20,"num_blocks":2,"widen":3,"embedding_dim":5,"num_levels":10)";
  expect_refused(with_metadata("motet.config", sizes + "}"),
                 "motet.config: missing key \"num_classes\"");
  expect_refused(with_metadata("motet.config", sizes + R"(,"num_classes":1})"),
                 "motet.config: network: num_classes = 1, must be >= 2 for a classifier");
  expect_refused(with_metadata("motet.config", sizes + R"(,"num_classes":0})"),
                 "motet.config: num_classes = 0, must be an integer from 1 to 65536");
  expect_refused(with_metadata("motet.config", sizes + R"(,"num_classes":4})"),
                 "tensor \"output.bias\": shape (3), expected (4); the tensors and the config are "
                 "of two different networks");
  expect_refused(with_metadata("motet.parameterisation", "score"),
                 "motet.config: unknown key \"num_classes\"");
}

}  // namespace
}  // namespace motet
