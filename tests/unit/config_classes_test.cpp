// Classes in configs: labelled data, classifiers as factors, and what is refused.
#include "config_classes.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "motet/error.hpp"
#include "motet/io.hpp"
#include "motet/run.hpp"
#include "run_target.hpp"
#include "support/models.hpp"
#include "support/throw_message.hpp"
#include "unit/io_fixture.hpp"

namespace motet {
namespace {

using testing::level_at;

const std::string kMixture =
    "law = \"gaussian_mixture\"\nmeans = [[0.0], [1.0], [2.0]]\nsds = [[0.1], [0.2], [0.3]]\n"
    "component_weights = [0.5, 0.2, 0.3]\n";
const std::string kPrior = "[model.prior]\n" + kMixture;
const std::string kClassifier = "[model.y]\n" + kMixture + "component_labels = [1, 0, 1]\n";
const std::string kNetwork = "[network]\nparameterisation = \"classifier\"\n";

TEST(ConfigClasses, ALabelledMixtureIsAClassifier) {
  const SampleConfig config = parse_config(kPrior + kClassifier + "label = 1\nexponent = 2.0\n");
  ASSERT_EQ(config.terms.size(), 2U);
  const TermConfig& term = config.terms[1];
  EXPECT_EQ(term.law, nullptr);
  EXPECT_EQ(term.exponent, 2.0);
  ASSERT_TRUE(term.classifier);
  EXPECT_EQ(term.classifier->label, 1);
  EXPECT_EQ(term.classifier->classes.weights, (std::vector<double>{0.2, 0.8}));
  // 0.2 of its points are of class 0; the classifier is Bayes' rule of the mixture itself.
  const LikelihoodPtr classifier = detail::load_classifier(*term.classifier, "y", "cpu");
  const Tensor x = at::tensor({-0.2, 0.9, 1.4}, at::kDouble).unsqueeze(1);
  const Tensor joint = term.classifier->classes.laws[1]->evaluate(x, level_at(0.9)).log_density;
  const Tensor all = config.terms[0].law->evaluate(x, level_at(0.9)).log_density;
  const Tensor expected = joint + std::log(0.8) - all;
  const Tensor found = classifier->evaluate(x, level_at(0.9), {}).log_likelihood;
  EXPECT_LT((found - expected).abs().max().item<double>(), 1e-12);
}

TEST(ConfigClasses, AFileWithALabelIsAClassifier) {
  const SampleConfig config = parse_config(
      kPrior + "[model.y]\nclassifier = \"c.safetensors\"\nlabel = 3\n", "c.toml", {}, "folder");
  ASSERT_TRUE(config.terms[1].classifier);
  EXPECT_EQ(config.terms[1].classifier->weights, "folder/c.safetensors");
  EXPECT_EQ(config.terms[1].classifier->label, 3);
  EXPECT_TRUE(config.terms[1].weights.empty());
}

TEST(ConfigClasses, TrainsOnTheClassesOfAMixture) {
  const TrainJob job =
      parse_train_config("[data]\n" + kMixture + "component_labels = [0, 1, 2]\n" + kNetwork);
  EXPECT_EQ(job.train.network.parameterisation, Parameterisation::classifier);
  EXPECT_EQ(job.data.classes.laws.size(), 3U);
  EXPECT_EQ(job.data.classes.weights, (std::vector<double>{0.5, 0.2, 0.3}));
}

void expect_refused(const std::string& toml, const std::string& message) {
  EXPECT_THROW_MSG(parse_config(toml, "c.toml"), ConfigError, "config: c.toml" + message);
}

TEST(ConfigClasses, RefusesHalfAClassifier) {
  expect_refused(kPrior + "[model.y]\nclassifier = \"c.safetensors\"\n",
                 ": model.y.label is missing; a classifier needs the class it stands for");
  expect_refused(kPrior + kClassifier,
                 ": model.y.label is missing; a classifier needs the class it stands for");
  expect_refused(kPrior + "label = 0\n",
                 ":6: model.prior.label = 0, needs exactly one of model.prior.classifier and "
                 "model.prior.component_labels");
  expect_refused(kPrior + kClassifier + "label = 1\nclassifier = \"c.safetensors\"\n",
                 ":12: model.y.label = 1, needs exactly one of model.y.classifier and "
                 "model.y.component_labels");
  expect_refused(kPrior + kClassifier + "label = 2\n",
                 ":12: model.y.label = 2, must be one of component_labels, 0 to 1");
  expect_refused(
      kPrior + "[model.y]\nclassifier = \"c\"\nlabel = 2\nweights = \"w.safetensors\"\n",
      ":9: model.y.weights = \"w.safetensors\", but [model.y] is a classifier; leave it out");
  expect_refused(kPrior + kClassifier + "label = 1\nscore_only = true\n",
                 ":13: model.y.score_only = true, but [model.y] is a classifier; leave it out");
  expect_refused(kClassifier + "label = 0\n",
                 ": each [model.NAME] is a likelihood; add the law that they condition");
  expect_refused("[model.y]\nexponent = 2.0\n",
                 ": [model.y] must have exactly one of weights, law, likelihood, classifier and "
                 "expression");
}

TEST(ConfigClasses, RefusesLabelsThatAreNone) {
  const auto labels = [](const std::string& list) {
    return kPrior + "[model.y]\n" + kMixture + "component_labels = " + list + "\nlabel = 0\n";
  };
  expect_refused(labels("[0, 1]"),
                 ":11: model.y.component_labels = [0, 1], must have one entry for each of the 3 "
                 "rows of means");
  expect_refused(labels("[0, 2, 0]"),
                 ":11: model.y.component_labels = [0, 2, 0], must have every label from 0 to the "
                 "largest, but has no 1");
  expect_refused(labels("[0, 0, 0]"),
                 ":11: model.y.component_labels = [0, 0, 0], must have two different labels at "
                 "least");
  expect_refused("[model.r]\nlaw = \"ring\"\ncomponent_labels = [0, 1]\n",
                 ":3: model.r.component_labels = [0, 1], but it is a parameter of law "
                 "\"gaussian_mixture\", not of \"ring\"");
}

TEST(ConfigClasses, DataHaveClassesIfAndOnlyIfTheNetworkLearnsThem) {
  const auto refused = [](const std::string& toml, const std::string& message) {
    EXPECT_THROW_MSG(parse_train_config(toml, "t.toml"), ConfigError, "config: t.toml" + message);
  };
  refused("[data]\nset = \"ring\"\n" + kNetwork,
          ":4: network.parameterisation = \"classifier\", but [data] has no classes; give "
          "data.component_labels, or data.file with data.labels");
  refused("[data]\n" + kMixture + "component_labels = [0, 1, 1]\n",
          ":6: data.component_labels = [0, 1, 1], but network.parameterisation = \"score\" learns "
          "no classes; leave it out");
  refused("[data]\nfile = \"x.npy\"\nlabels = \"y.npy\"\n",
          ":3: data.labels = \"y.npy\", but network.parameterisation = \"score\" learns no "
          "classes; leave it out");
  refused(
      "[data]\nset = \"ring\"\nlabels = \"y.npy\"\n" + kNetwork,
      ":3: data.labels = \"y.npy\", but neither data.file nor data.images is given; labels are of "
      "its rows");
}

TEST(GuidanceNotes, SayThatAnotherScaleIsAnotherTarget) {
  const std::string models = kPrior + kClassifier + "label = 1\n[model.one]\n" + kMixture;
  const auto notes = [&](const std::string& target) {
    return detail::guidance_notes(parse_config("target = \"" + target + "\"\n" + models));
  };
  using Notes = std::vector<std::string>;
  EXPECT_EQ(notes("guide(prior, y, 1) * one"), Notes());
  EXPECT_EQ(notes("guide(one, prior, 0) * y"), Notes());
  EXPECT_EQ(notes("one * guide(prior, y, 2)"),
            Notes{"guide(prior, y, 2) is another target than prior given y, which has scale 1"});
  EXPECT_EQ(notes("guide(one, prior, 1.5) * y"),
            Notes{"guide(one, prior, 1.5) is another target than one, which has scale 0"});
  EXPECT_EQ(notes("one * prior * y^2"),
            Notes{"y^2 is another target than the law given y, which has power 1"});
  EXPECT_EQ(
      detail::guidance_notes(parse_config(kPrior + kClassifier + "label = 1\nexponent = 3.0\n")),
      Notes{"y^3 is another target than the law given y, which has power 1"});
}

class ConfigClassesRun : public IoTest {
 protected:
  TrainReport train_to(const std::string& file, const TrainJob& job) const {
    RunFiles files;
    files.weights = path(file);
    return run_train(job, files);
  }
};

TEST_F(ConfigClassesRun, TrainsOnRowsWithLabelsAndLoadsWhatItTrained) {
  Rng rng(3);
  const Tensor x = rng.normal_like(at::empty({200, 1}, at::kDouble));
  write_npy(path("x.npy"), x);
  write_npy(path("y.npy"), x.squeeze(1).gt(0.0).to(at::kFloat));
  const TrainJob job =
      parse_train_config("[data]\nfile = \"x.npy\"\nlabels = \"y.npy\"\n" + kNetwork +
                             "width = 16\nnum_blocks = 1\n[train]\nnum_steps = 3\nbatch_size = 50\n"
                             "held_out_size = 100\n",
                         "t.toml", {}, path(""));
  const TrainReport report = train_to("c.safetensors", job);
  EXPECT_EQ(report.weights.config.num_classes, 2);
  EXPECT_EQ(report.weights.config.event_dim, 1);
  const SampleConfig config =
      parse_config(kPrior + "[model.y]\nclassifier = \"c.safetensors\"\nlabel = 1\nexponent = 3\n",
                   "c.toml", {}, path(""));
  const ModelPtr target = load_target(config);
  EXPECT_EQ(target->event_shape(), std::vector<int64_t>{1});
  EXPECT_TRUE(target->schedule());
}

TEST_F(ConfigClassesRun, AFileGivenAsTheOtherKindIsRefused) {
  const TrainJob score =
      parse_train_config("[data]\n" + kMixture +
                         "[network]\nwidth = 8\nnum_blocks = 1\n[train]\nnum_steps = 1\n"
                         "batch_size = 10\nheld_out_size = 100\n");
  (void)train_to("s.safetensors", score);
  const auto target = [&](const std::string& table) {
    return load_target(parse_config(kPrior + "[model.y]\n" + table, "c.toml", {}, path("")));
  };
  EXPECT_THROW_MSG(target("classifier = \"s.safetensors\"\nlabel = 0\n"), ConfigError,
                   "classifier: \"y\" is a network of parameterisation \"score\", must be "
                   "\"classifier\"; give its file as weights = \"FILE\", or load it by "
                   "network_model()");
  const TrainJob classifier = parse_train_config(
      "[data]\n" + kMixture + "component_labels = [0, 1, 1]\n" + kNetwork +
      "width = 8\nnum_blocks = 1\n[train]\nnum_steps = 1\nbatch_size = 10\nheld_out_size = 100\n");
  (void)train_to("c.safetensors", classifier);
  EXPECT_THROW_MSG(target("weights = \"c.safetensors\"\n"), ConfigError,
                   "network: \"y\" is a classifier, which has no score; give its file as "
                   "classifier = \"FILE\" with a label, or load it by classifier_likelihood()");
}

}  // namespace
}  // namespace motet
