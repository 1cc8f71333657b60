// A config either means what it says or is refused with the place, the value and what is allowed.
#include <gtest/gtest.h>

#include "motet/error.hpp"
#include "motet/run.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

const std::string kGood = "[model.ring]\nlaw = \"ring\"\n[model.bar]\nlaw = \"bar\"\n";

std::string many(int count, const std::string& text) {
  std::string all;
  for (int i = 0; i < count; ++i) {
    all += text;
  }
  return all;
}

struct Refusal {
  const char* name;
  std::string toml;
  std::string message;
};

void PrintTo(const Refusal& refusal, std::ostream* out) { *out << refusal.name; }

class RefusedConfig : public testing::TestWithParam<Refusal> {};

TEST_P(RefusedConfig, SaysWhereAndWhatIsAllowed) {
  EXPECT_THROW_MSG(parse_config(GetParam().toml, "product.toml"), ConfigError, GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Config, RefusedConfig,
    testing::Values(
        Refusal{"UnknownKey", kGood + "\n\n\n\n[kernel]\nstepsize = 0.1\n",
                "config: product.toml:10: unknown key kernel.stepsize; did you mean "
                "kernel.step_size?"},
        Refusal{"UnknownTopLevelKey", "sedd = 1\n" + kGood,
                "config: product.toml:1: unknown key sedd; did you mean seed?"},
        Refusal{"UnknownKeyFarFromAll", kGood + "[ratio]\nzzzzzzzzzzzzzz = 1\n",
                "config: product.toml:6: unknown key ratio.zzzzzzzzzzzzzz; known here: type, rule, "
                "num_points, guard"},
        Refusal{"UnknownModelKey", "[model.ring]\nlaw = \"ring\"\nexponnent = 2\n",
                "config: product.toml:3: unknown key model.ring.exponnent; did you mean "
                "model.ring.exponent?"},
        Refusal{"Negative", kGood + "[kernel]\nstep_size = -0.03\n",
                "config: product.toml:6: kernel.step_size = -0.03, must be > 0"},
        Refusal{"NegativeInList", kGood + "[kernel]\nstep_size = [0.1, 0.0]\n",
                "config: product.toml:6: kernel.step_size[1] = 0.0, must be > 0"},
        Refusal{"NotFinite", kGood + "[kernel]\nstep_size = inf\n",
                "config: product.toml:6: kernel.step_size = inf, must be finite"},
        Refusal{
            "WrongType", kGood + "[kernel]\nstep_size = \"big\"\n",
            "config: product.toml:6: kernel.step_size = \"big\", must be a number > 0 or a list "
            "of numbers > 0"},
        Refusal{"FloatForInteger", "num_samples = 2.5\n" + kGood,
                "config: product.toml:1: num_samples = 2.5, must be an integer in [1, 1000000000]"},
        Refusal{"ZeroSamples", "num_samples = 0\n" + kGood,
                "config: product.toml:1: num_samples = 0, must be in [1, 1000000000]"},
        Refusal{"UnknownWord", "preset = \"papre\"\n" + kGood,
                "config: product.toml:1: preset = \"papre\", must be one of \"paper\", "
                "\"corrected\"; did you mean \"paper\"?"},
        Refusal{"TableExpected", "kernel = 3\n" + kGood,
                "config: product.toml:1: kernel = 3, must be a table [kernel]"},
        Refusal{"Syntax", "seed = = 1\n",
                "config: product.toml:1: Error while parsing value: could not determine value "
                "type"},
        Refusal{"ModelNameOutsideAscii", "[model.\"ä\"]\nlaw = \"ring\"\n",
                "config: product.toml:1: [model.\"ä\"] must have a name of a-z, A-Z, 0-9, _ and "
                "-; rename it"},
        Refusal{"ModelNameWithABlank", kGood + "[model.\"my ring\"]\nlaw = \"ring\"\n",
                "config: product.toml:5: [model.\"my ring\"] must have a name of a-z, A-Z, 0-9, _ "
                "and -; rename it"},
        Refusal{"ModelNameWithADot", "[model]\n\"a.b\" = {law = \"ring\"}\n",
                "config: product.toml:2: [model.\"a.b\"] must have a name of a-z, A-Z, 0-9, _ and "
                "-; rename it"},
        Refusal{"EmptyModelName", "[model.\"\"]\nlaw = \"ring\"\n",
                "config: product.toml:1: [model.\"\"] must have a name of a-z, A-Z, 0-9, _ and -; "
                "rename it"},
        Refusal{"LongModelName", "[model.\"" + many(40, "ä") + "\"]\nlaw = \"ring\"\n",
                "config: product.toml:1: [model.\"" + many(26, "ä") +
                    " ...] must have a name of a-z, A-Z, 0-9, _ and -; rename it"},
        Refusal{"UnquotedModelNameWithABlank", "[model.my ring]\nlaw = \"ring\"\n",
                "config: product.toml:1: Error while parsing table header: expected ']', saw 'r'; "
                "names are of a-z, A-Z, 0-9, _ and -"},
        Refusal{"UnquotedModelNameOutsideAscii", "[model.ä]\nlaw = \"ring\"\n",
                "config: product.toml:1: Error while parsing key: expected bare key starting "
                "character or string delimiter, saw 'ä'; names are of a-z, A-Z, 0-9, _ and -"},
        Refusal{"QuotedTopLevelPath", "\"kernel.type\" = \"ula\"\n" + kGood,
                "config: product.toml:1: unknown key \"kernel.type\"; did you mean kernel.type?"},
        Refusal{"Latin1", kGood + "# \xe4\n",
                "config: product.toml:5: column 3 has the byte 0xe4, which is not UTF-8; a config "
                "must be UTF-8 text"},
        Refusal{"Latin1AfterUtf8", "# ä and \xe4\n" + kGood,
                "config: product.toml:1: column 9 has the byte 0xe4, which is not UTF-8; a config "
                "must be UTF-8 text"},
        Refusal{"Utf16", std::string("\xff\xfe#\0", 4),
                "config: product.toml:1: column 1 has the byte 0xff, which is not UTF-8; a config "
                "must be UTF-8 text"},
        Refusal{"KeyOfManyParts", "seed = 1\n" + many(60000, "a.") + "a = 1\n",
                "config: product.toml:2: more than 32 dots in a key or word, or more than 128 in "
                "a line with quotes"},
        Refusal{"KeyOfManyQuotedParts", many(30000, "a.\"=\".") + "a = 1\n",
                "config: product.toml:1: more than 32 dots in a key or word, or more than 128 in "
                "a line with quotes"},
        Refusal{"TableOfManyParts", "[" + many(60000, "a.") + "a]\n",
                "config: product.toml:1: more than 32 dots in a key or word, or more than 128 in "
                "a line with quotes"},
        Refusal{"NoModels", "seed = 1\n",
                "config: product.toml: no [model.NAME] table; name at least one factor, with "
                "weights = \"FILE\" or law = ..., or give target = \"EXPRESSION\""},
        Refusal{"EmptyModel", kGood + "[model.third]\n",
                "config: product.toml:5: [model.third] is empty; give it weights, a law, a "
                "likelihood or an expression"},
        Refusal{
            "TwoSources", "[model.a]\nlaw = \"ring\"\nweights = \"a.safetensors\"\n",
            "config: product.toml: [model.a] must have exactly one of weights, law, likelihood, "
            "classifier and expression"},
        Refusal{"ParameterOfAnotherLaw", "[model.a]\nlaw = \"ring\"\nhalf_width = 0.2\n",
                "config: product.toml:3: model.a.half_width = 0.2, but it is a parameter of law "
                "\"bar\", not of \"ring\""},
        Refusal{"ParameterOfALawWithoutAny", "[model.a]\nlaw = \"moons\"\nsd = 0.2\n",
                "config: product.toml:3: model.a.sd = 0.2, but it is a parameter of law \"ring\", "
                "not of \"moons\""},
        Refusal{"UnknownLaw", "[model.a]\nlaw = \"spiral\"\n",
                "config: product.toml:2: model.a.law = \"spiral\", must be one of \"ring\", "
                "\"bar\", \"checkerboard\", \"moons\", \"spirals\", \"gaussian_mixture\", "
                "\"uniform_box\"; did you mean \"spirals\"?"},
        Refusal{"ParameterWithoutLaw", "[model.a]\nweights = \"x\"\nradius = 0.2\n",
                "config: product.toml:3: model.a.radius = 0.2, but model.a.law is not given; add "
                "law = \"ring\""},
        Refusal{"RaggedMeans",
                "[model.a]\nlaw = \"gaussian_mixture\"\nmeans = [[0, 1], [2]]\nsds = [[1, 1]]\n",
                "config: product.toml:3: model.a.means = [[0.0, 1.0], [2.0]], must have rows of "
                "one length"},
        Refusal{"UpsideDownBox", "[model.a]\nlaw = \"uniform_box\"\nlow = [1]\nhigh = [0]\n",
                "config: product.toml:4: model.a.high = [0.0], must be above low in every "
                "coordinate"},
        Refusal{"RisingLevels", kGood + "[anneal]\nlevels = [0, 1]\n",
                "config: product.toml:6: anneal.levels = [0, 1], must fall strictly"},
        Refusal{"HalfAPowerRule", kGood + "[kernel.step_size]\nfactor = 4.0\n",
                "config: product.toml: kernel.step_size.power is missing; the power rule needs "
                "factor and power"},
        Refusal{"AnotherSchedulesParameter",
                kGood + "[schedule]\ntype = \"linear\"\noffset = 0.1\n",
                "config: product.toml:7: schedule.offset = 0.1, but schedule.type is \"linear\", "
                "which has no such parameter"},
        Refusal{"Device", "device = \"gpu\"\n" + kGood,
                "config: product.toml:1: device = \"gpu\", must be one of \"cpu\", \"cuda\"; "
                "did you mean \"cpu\"?"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(Config, ReadsTheLawsOfThePlane) {
  for (const char* law : {"ring", "bar", "checkerboard", "moons", "spirals"}) {
    const std::string line = std::string("law = \"") + law + "\"\n";
    EXPECT_EQ(parse_config("[model.a]\n" + line).terms.at(0).law->describe(), law);
    EXPECT_EQ(parse_train_config("[data]\n" + line).data.law->describe(), law);
  }
}

TEST(Config, KeepsTheOrderOfTheModels) {
  const SampleConfig config = parse_config(kGood);
  ASSERT_EQ(config.terms.size(), 2U);
  EXPECT_EQ(config.terms[0].name, "ring");
  EXPECT_EQ(config.terms[1].name, "bar");
}

TEST(Config, OverriddenModelKeepsItsPlaceAndANewOneComesLast) {
  const SampleConfig config =
      parse_config(kGood, "a.toml", {"model.ring.law=bar", "model.also.law=ring"});
  ASSERT_EQ(config.terms.size(), 3U);
  EXPECT_EQ(config.terms[0].name, "ring");
  EXPECT_EQ(config.terms[1].name, "bar");
  EXPECT_EQ(config.terms[2].name, "also");
}

TEST(Config, ResolvedTomlGivesTheSameConfigAgain) {
  const std::string toml = kGood +
                           "exponent = -0.5\n[kernel]\nstep_size = {factor = 4.03, power = 1.34}\n"
                           "[schedule]\ntype = \"linear\"\nnum_levels = 12\n"
                           "[anneal]\nlevels = [11, 5, 0]\nsteps_per_level = [1, 2, 3]\n";
  const SampleConfig config = parse_config(toml, "a.toml");
  const SampleConfig again = parse_config(config.toml, "b.toml");
  EXPECT_EQ(again.toml, config.toml);
  EXPECT_EQ(again.identity, config.identity);
  EXPECT_EQ(again.terms[1].exponent, -0.5);
  EXPECT_EQ(again.overrides.step_size->power, 1.34);
  EXPECT_EQ(again.schedule->describe(), config.schedule->describe());
}

TEST(Config, ResolvedTomlGivesTheSameConfigAgainForEverySchedule) {
  for (const char* type : {"type = \"cosine\"", "type = \"cosine\"\noffset = 0.01",
                           "type = \"linear\"\nnum_levels = 12",
                           "type = \"linear\"\nbeta_first = 0.001\nbeta_last = 0.1",
                           "type = \"scaled_linear\"\nnum_levels = 9",
                           "type = \"alpha_bars\"\nalpha_bars = [0.9, 0.5, 0.1]"}) {
    const std::string schedule = std::string("[schedule]\n") + type + "\n";
    const SampleConfig config = parse_config(kGood + schedule, "a.toml");
    const SampleConfig again = parse_config(config.toml, "b.toml");
    EXPECT_EQ(again.toml, config.toml) << type;
    EXPECT_EQ(again.identity, config.identity) << type;
    EXPECT_EQ(again.schedule->alpha_bars(), config.schedule->alpha_bars()) << type;
    const TrainJob job = parse_train_config("[data]\nset = \"ring\"\n" + schedule, "t.toml");
    const TrainJob same = parse_train_config(job.toml, "u.toml");
    EXPECT_EQ(same.toml, job.toml) << type;
    EXPECT_EQ(same.identity, job.identity) << type;
    EXPECT_EQ(same.train.schedule.alpha_bars(), job.train.schedule.alpha_bars()) << type;
  }
}

TEST(Config, OverrideReplacesAKeyAndWhatLiesUnderIt) {
  const std::string toml = kGood + "[kernel]\nstep_size = {factor = 4.03, power = 1.34}\n";
  const SampleConfig config = parse_config(toml, "a.toml", {"kernel.step_size=0.5", "seed=7"});
  EXPECT_EQ(config.overrides.step_size->values, std::vector<double>{0.5});
  EXPECT_EQ(config.overrides.step_size->factor, 0.0);
  EXPECT_EQ(config.seed, 7U);
}

TEST(Config, OverrideTakesABareWordForAText) {
  EXPECT_EQ(parse_config(kGood, "a.toml", {"sampler=u-hmc"}).sampler, "u-hmc");
  EXPECT_EQ(parse_config(kGood, "a.toml", {"sampler=\"u-la\""}).sampler, "u-la");
}

TEST(Config, OverrideMayHaveBlanksAroundItsDots) {
  EXPECT_EQ(parse_config(kGood, "a.toml", {" model . ring .exponent = 2"}).terms[0].exponent, 2.0);
}

TEST(Config, RefusesOverridesByTheirText) {
  EXPECT_THROW_MSG(parse_config(kGood, "a.toml", {"seed"}), ConfigError,
                   "config: --set seed: must be key=value");
  EXPECT_THROW_MSG(parse_config(kGood, "a.toml", {"seed=-1"}), ConfigError,
                   "config: --set: seed = -1, must be >= 0");
  EXPECT_THROW_MSG(parse_config(kGood, "a.toml", {"sed=1"}), ConfigError,
                   "config: --set: unknown key sed; did you mean seed?");
  EXPECT_THROW_MSG(parse_config(kGood, "a.toml", {"device=\xff"}), ConfigError,
                   "config: --set device=\xff: column 8 has the byte 0xff, which is not UTF-8; a "
                   "config must be UTF-8 text");
  EXPECT_THROW_MSG(parse_config(kGood, "a.toml", {"model.\"ä\".law=ring"}), ConfigError,
                   "config: --set: [model.\"ä\"] must have a name of a-z, A-Z, 0-9, _ and -; "
                   "rename it");
  EXPECT_THROW_MSG(parse_config(kGood, "a.toml", {"model.my ring.law=ring"}), ConfigError,
                   "config: --set model.my ring.law=ring: Error while parsing key-value pair: "
                   "expected '=', saw 'r'; names are of a-z, A-Z, 0-9, _ and -");
  EXPECT_THROW(parse_config(kGood, "a.toml", {"seed.=1"}), ConfigError);
  EXPECT_THROW(parse_config(kGood, "a.toml", {".seed=1"}), ConfigError);
  EXPECT_THROW_MSG(parse_config(kGood, "a.toml", {"a" + many(33, ".a") + "=1"}), ConfigError,
                   "config: --set a" + many(29, ".a") +
                       ". ...: more than 32 dots in a key or word, or more than 128 in a line "
                       "with quotes");
}

TEST(Config, CheckpointIsRelativeToTheConfig) {
  const std::vector<std::string> relative = {"checkpoint.path=\"c\""};
  EXPECT_EQ(parse_config(kGood, "a.toml", relative, "folder").checkpoint.path, "folder/c");
  EXPECT_EQ(parse_config(kGood, "a.toml", {"checkpoint.path=\"/c\""}, "folder").checkpoint.path,
            "/c");
  EXPECT_EQ(parse_train_config("data.set = \"ring\"", "a.toml", relative, "folder").checkpoint.path,
            "folder/c");
}

TEST(Config, CheckpointThatCannotBeWrittenIsFoundBeforeAnyWork) {
  const SampleConfig config = parse_config(kGood, "a.toml", {"checkpoint.path=\"/absent/c\""});
  EXPECT_THROW_MSG(run(config), DataError,
                   "write: /absent/c: folder /absent does not exist; create it first");
}

TEST(Config, CheckpointKeysDoNotDecideTheResult) {
  const SampleConfig one = parse_config(kGood, "a.toml");
  const SampleConfig other = parse_config(kGood, "a.toml", {"checkpoint.every_steps=3"});
  EXPECT_EQ(one.identity, other.identity);
  EXPECT_NE(one.identity, parse_config(kGood, "a.toml", {"seed=3"}).identity);
}

TEST(Config, RefusesTextsOfMoreThanAMebibyte) {
  const std::string big = kGood + "#" + std::string(1 << 20, 'x');
  EXPECT_THROW_MSG(
      parse_config(big, "big.toml"), ConfigError,
      "config: big.toml: " + std::to_string(big.size()) + " bytes, must be at most 1048576");
}

TEST(Config, PathsAreRelativeToTheFile) {
  const std::string toml = "[model.a]\nweights = \"../a.safetensors\"\n";
  EXPECT_EQ(parse_config(toml, "a.toml", {}, "/x/y").terms[0].weights, "/x/y/../a.safetensors");
}

TEST(TrainJob, ReadsEveryPart) {
  const TrainJob job = parse_train_config(
      "seed = 3\n[data]\nset = \"ring\"\n[network]\nwidth = 16\nparameterisation = "
      "\"energy_residual\"\n[schedule]\nnum_levels = 10\n[train]\nnum_steps = 5\n",
      "ring.toml");
  EXPECT_EQ(job.train.seed, 3U);
  EXPECT_EQ(job.train.network.width, 16);
  EXPECT_EQ(job.train.network.num_levels, 10);
  EXPECT_EQ(job.train.network.parameterisation, Parameterisation::energy_residual);
  EXPECT_EQ(job.train.num_steps, 5);
  EXPECT_EQ(job.data.set, "ring");
}

TEST(TrainJob, RecipeSetsTheDefaultsAndKeysOverrideIt) {
  const std::string motet = "[data]\nset = \"ring\"\n[train]\nrecipe = \"motet\"\n";
  const TrainConfig recipe = train_recipe("motet");
  const TrainConfig set = parse_train_config(motet, "t.toml").train;
  EXPECT_EQ(set.network.frequencies, recipe.network.frequencies);
  EXPECT_EQ(set.level_law, recipe.level_law);
  EXPECT_EQ(set.learning_rate, recipe.learning_rate);
  EXPECT_EQ(set.rate_schedule, recipe.rate_schedule);
  const TrainConfig changed =
      parse_train_config(
          motet + "level_law = \"uniform\"\nlearning_rate = 0.5\n[network]\nfrequencies = []\n",
          "t.toml")
          .train;
  EXPECT_TRUE(changed.network.frequencies.empty());
  EXPECT_EQ(changed.level_law, LevelLaw::uniform);
  EXPECT_EQ(changed.learning_rate, 0.5);
  EXPECT_EQ(changed.rate_schedule, recipe.rate_schedule);
}

TEST(TrainJob, WithoutARecipeIsThePapers) {
  const TrainConfig paper = parse_train_config("data.set = \"ring\"", "t.toml").train;
  EXPECT_TRUE(paper.network.frequencies.empty());
  EXPECT_EQ(paper.level_law, LevelLaw::uniform);
  EXPECT_EQ(paper.learning_rate, 1e-3);
  EXPECT_EQ(paper.rate_schedule, RateSchedule::constant);
}

TEST(TrainJob, ResolvedTomlGivesTheSameJobAgainForEveryRecipe) {
  for (const std::string& recipe : recipe_names()) {
    const std::string toml = "[data]\nset = \"ring\"\n[train]\nrecipe = \"" + recipe + "\"\n";
    const TrainJob job = parse_train_config(toml, "t.toml");
    const TrainJob same = parse_train_config(job.toml, "u.toml");
    EXPECT_EQ(same.toml, job.toml);
    EXPECT_EQ(same.identity, job.identity);
    EXPECT_TRUE(same.train.network == job.train.network);
  }
}

TEST(TrainJob, RefusesFrequenciesThatAreNone) {
  const auto network = [](const std::string& value) {
    return "[data]\nset = \"ring\"\n[network]\nfrequencies = " + value + "\n";
  };
  EXPECT_THROW_MSG(parse_train_config(network("[2.0, 0.0]"), "t.toml"), ConfigError,
                   "config: t.toml:4: network.frequencies[1] = 0.0, must be in (0, 1000000]");
  EXPECT_THROW_MSG(parse_train_config(network("[1.0" + many(64, ", 1.0") + "]"), "t.toml"),
                   ConfigError,
                   "config: t.toml:4: network.frequencies = [1.0" + many(11, ", 1.0") +
                       ", ..., must have at most 64 entries");
}

TEST(TrainJob, RefusesANetworkWithoutBlocks) {
  EXPECT_THROW_MSG(
      parse_train_config("[data]\nset = \"ring\"\n[network]\nnum_blocks = 0\n", "t.toml"),
      ConfigError, "config: t.toml:4: network.num_blocks = 0, must be in [1, 1000]");
}

TEST(TrainJob, NeedsOneSourceOfData) {
  EXPECT_THROW_MSG(parse_train_config("seed = 1\n", "t.toml"), ConfigError,
                   "config: t.toml: [data] must have exactly one of set, file, images and law");
  EXPECT_THROW_MSG(parse_train_config("[data]\nset = \"ring\"\nfile = \"a.npy\"\n", "t.toml"),
                   ConfigError,
                   "config: t.toml: [data] must have exactly one of set, file, images and law");
}

class Sampling : public testing::Test {
 protected:
  static Sampler resolve(const std::string& toml) { return resolve_with("hmc-4-curve", toml); }
  static Sampler resolve_with(const std::string& sampler, const std::string& toml) {
    return resolve_sampler(parse_config("sampler = \"" + sampler + "\"\n" + kGood + toml, "p.toml"),
                           product({{ring(), 1.0}, {bar(), 1.0}}), NoiseSchedule::cosine(10));
  }
};

TEST_F(Sampling, OverridesChangeOnlyWhatTheyName) {
  const Sampler plain = resolve("");
  const Sampler sampler = resolve("[kernel]\ndamping = 0.9\n");
  EXPECT_EQ(sampler.kernel_config.hmc.damping, 0.9);
  EXPECT_EQ(sampler.kernel_config.hmc.num_leapfrog, plain.kernel_config.hmc.num_leapfrog);
  EXPECT_EQ(sampler.kernel_config.ratio, "curve");
  EXPECT_EQ(sampler.anneal.levels.size(), plain.anneal.levels.size());
}

TEST_F(Sampling, PowerRuleFollowsBeta) {
  const Sampler sampler = resolve("[kernel]\nstep_size = {factor = 2.0, power = 0.5}\n");
  for (const LevelPlan& plan : sampler.anneal.levels) {
    EXPECT_DOUBLE_EQ(plan.step_size, 2.0 * std::sqrt(plan.level.beta));
  }
}

TEST_F(Sampling, RefusesSettingsWithoutEffect) {
  const auto refused = [](const std::string& toml, const std::string& message) {
    EXPECT_THROW_MSG(resolve(toml), ConfigError, "config: p.toml: " + message);
  };
  refused("[kernel]\ntype = \"mala\"\n",
          "kernel.type = \"mala\" changes the unit of the step size of sampler \"hmc-4-curve\"; "
          "give kernel.step_size too");
  refused("[kernel]\ntype = \"ula\"\nstep_size = 0.1\ndamping = 0.1\n",
          "kernel.damping is given, but the kernel is \"ula\"; it belongs to uhmc and hmc");
  refused("[kernel]\ntype = \"uhmc\"\n[ratio]\ntype = \"curve\"\n",
          "[ratio] is given, but the kernel is \"uhmc\", which has no Metropolis test; leave it "
          "out, or choose mala or hmc");
  refused("[ratio]\nnum_points = 5\n",
          "ratio.num_points belongs to ratio.type = \"line\", but it is \"curve\"");
  refused("[ratio]\nrule = \"simpson\"\n",
          "ratio.rule = \"simpson\", but ratio.type is \"curve\"; line takes trapezoid, simpson or "
          "gauss_lobatto, curve trapezoid or polynomial, exact none");
  refused("[ratio]\nguard = 1.0\n",
          "ratio.guard belongs to ratio.type = \"curve\" with ratio.rule = \"polynomial\"");
  refused("[weights]\nmax_share = 2.0\n",
          "[weights] is given, but anneal.placement = \"pure\" takes no reverse steps to weight; "
          "give anneal.placement = \"before_reverse\"");
  refused(
      "[anneal]\nplacement = \"before_reverse\"\n[kernel]\nmass = [1.0, 2.0]\n[weights]\nmatched = "
      "true\n",
      "weights.matched = true needs unit masses, but kernel.mass is given; leave one of them out");
  refused("[weights]\nenabled = false\nmax_share = 2.0\n",
          "weights.enabled = false, but other keys of [weights] are given; leave them out");
  refused("[anneal]\nlast_map = \"none\"\ncurvature = 100.0\n",
          "anneal.curvature is given, but anneal.last_map is \"none\"");
  refused("[anneal]\ncurvature = [1.0, 2.0, 3.0]\n",
          "anneal.curvature has 3 entries, must have 1, or one for each of the 2 factors of "
          "product(ring, bar)");
  refused("[ratio]\ntype = \"line\"\n",
          "ratio.num_points is missing; ratio.type = \"line\" needs it");
  refused("[kernel]\nstep_size = [0.1, 0.2]\n",
          "kernel.step_size has 2 entries, must have 1, or one for each of the 10 levels of the "
          "plan");
  refused("[anneal]\nlevels = [10, 0]\n",
          "anneal.levels: 10, must be below 10 (" + NoiseSchedule::cosine(10).describe() + ")");
  refused("[anneal]\nreverse_step = \"ddim\"\n",
          "anneal.reverse_step is given, but anneal.placement = \"pure\" takes no reverse steps");
}

TEST_F(Sampling, TheExactSamplerIsOpenUntilItsStepSizesAreGiven) {
  const Sampler open = resolve_with("exact", "");
  EXPECT_TRUE(open.anneal.adapt.has_value());
  EXPECT_TRUE(open.anneal.weights.has_value());
  EXPECT_EQ(open.anneal.adapt->max_disagreement, AdaptConfig{}.max_disagreement);
  const Sampler strict = resolve_with("exact", "[tune]\nmax_disagreement = 0.01\n");
  EXPECT_EQ(strict.anneal.adapt->max_disagreement, 0.01);
  const Sampler fixed =
      resolve_with("exact", "[kernel]\nstep_size = 0.1\n[anneal]\nlevels = [8, 4, 1, 0]\n");
  EXPECT_FALSE(fixed.anneal.adapt.has_value());
  EXPECT_EQ(fixed.anneal.levels.size(), 4U);
  EXPECT_EQ(fixed.anneal.levels[3].step_size, 0.1);
  EXPECT_FALSE(resolve_with("exact", "[weights]\nenabled = false\n").anneal.weights.has_value());
  EXPECT_EQ(resolve_with("exact", "[ratio]\nguard = 0.5\n").kernel_config.guard, 0.5);
  EXPECT_EQ(resolve_with("exact", "[ratio]\nrule = \"trapezoid\"\n").kernel_config.guard, 0.0);
}

TEST_F(Sampling, ALineTakesOneNumberOfPointsOrOneALevelOrLeavesThemToThePilot) {
  const std::string line = "[anneal]\nlevels = [8, 4, 1, 0]\n[ratio]\ntype = \"line\"\n";
  const Sampler open = resolve_with("exact", line);
  EXPECT_EQ(open.kernel_config.line_tolerance, 0.01);
  EXPECT_EQ(open.kernel_config.line_rule, LineRule::gauss_lobatto);
  EXPECT_EQ(open.kernel->describe(),
            "hmc(num_leapfrog=2, damping=0, gauss_lobatto on the line, to 0.01 nat (pilot))");
  EXPECT_EQ(resolve_with("exact", line + "[tune]\ntolerance = 0.1\n").kernel_config.line_tolerance,
            0.1);
  const Sampler one = resolve_with("exact", line + "num_points = 5\n");
  EXPECT_EQ(one.kernel_config.line_tolerance, 0.0);
  EXPECT_EQ(one.kernel_config.num_points, 5);
  const Sampler each =
      resolve_with("exact", line + "rule = \"gauss_lobatto\"\nnum_points = [2, 3, 4, 6]\n");
  EXPECT_EQ(each.kernel_config.line_tolerance, 0.0);
  EXPECT_EQ(each.kernel_config.line_points, (LinePoints{{8, 2}, {4, 3}, {1, 4}, {0, 6}}));
  EXPECT_EQ(each.kernel->describe(),
            "hmc(num_leapfrog=2, damping=0, 2 to 6-point gauss_lobatto on the line, by level)");
}

TEST_F(Sampling, RefusesPointsOfALineThatDoNotFit) {
  const auto refused = [](const std::string& toml, const std::string& message) {
    EXPECT_THROW_MSG(resolve_with("exact", toml), ConfigError, "config: p.toml: " + message);
  };
  const std::string line = "[anneal]\nlevels = [8, 4, 1, 0]\n[ratio]\ntype = \"line\"\n";
  refused(line + "num_points = [2, 3]\n",
          "ratio.num_points has 2 entries, must have 1, or one for each of the 4 levels of the "
          "plan");
  refused(line + "rule = \"simpson\"\n",
          "ratio.num_points is missing; the pilot run finds it for ratio.rule = "
          "\"gauss_lobatto\" only");
  refused(line + "[kernel]\nstep_size = 0.1\n",
          "ratio.num_points is missing; ratio.type = \"line\" needs it");
  refused("[tune]\ntolerance = 0.1\n",
          "tune.tolerance belongs to ratio.type = \"line\", but it is \"curve\"");
  EXPECT_THROW_MSG(
      resolve_with("exact", line + "num_points = 5\n[tune]\ntolerance = 0.1\n"), ConfigError,
      "config: p.toml:12: tune.tolerance = 0.1, but ratio.num_points is given too; leave one out");
}

TEST_F(Sampling, AMassIsOneRowOrOneALevelOrLeftToThePilot) {
  const std::string levels = "[anneal]\nlevels = [8, 4, 1, 0]\n";
  const Sampler one = resolve_with("exact", levels + "[kernel]\nmass = [1.0, 2.0]\n");
  EXPECT_EQ(one.kernel_config.hmc.mass, (std::vector<double>{1.0, 2.0}));
  EXPECT_FALSE(one.anneal.levels[0].mass.defined());
  const Sampler each = resolve_with(
      "exact", levels + "[kernel]\nmass = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]\n");
  EXPECT_TRUE(each.kernel_config.hmc.mass.empty());
  EXPECT_TRUE(at::equal(each.anneal.levels[3].mass, at::tensor({7.0, 8.0}, at::kDouble)));
  EXPECT_FALSE(resolve_with("exact", "").anneal.adapt->diagonal_mass);
  EXPECT_FALSE(resolve_with("exact", "[tune]\nmass = \"none\"\n").anneal.adapt->diagonal_mass);
  EXPECT_TRUE(resolve_with("exact", "[tune]\nmass = \"diagonal\"\n").anneal.adapt->diagonal_mass);
}

TEST_F(Sampling, RefusesMassesThatDoNotFit) {
  const auto refused = [](const std::string& toml, const std::string& message) {
    EXPECT_THROW_MSG(resolve_with("exact", toml), ConfigError, "config: p.toml" + message);
  };
  refused("[kernel]\nmass = [[1.0, 2.0], [3.0, 4.0]]\n[anneal]\nlevels = [8, 4, 1, 0]\n",
          ": kernel.mass has 2 entries, must have 1, or one for each of the 4 levels of the plan");
  refused("[kernel]\nmass = [1.0, 2.0]\n[tune]\nmass = \"diagonal\"\n",
          ":9: tune.mass = \"diagonal\", but kernel.mass is given too; leave one out");
  refused("[kernel]\ntype = \"mala\"\n[tune]\nmass = \"diagonal\"\n",
          ": tune.mass = \"diagonal\", but the kernel is \"mala\"; it belongs to uhmc and hmc");
  const SampleConfig narrow = parse_config(
      "sampler = \"exact\"\n" + kGood +
          "[kernel]\nmass = [[1.0], [1.0]]\nstep_size = 0.1\n[anneal]\nlevels = [4, 0]\n"
          "steps_per_level = 1\n",
      "p.toml");
  EXPECT_THROW_MSG(run(narrow), ConfigError,
                   "config: p.toml: kernel.mass has 1 entries for level 4, must have one for each "
                   "of the 2 coordinates of " +
                       load_target(narrow)->describe());
}

TEST_F(Sampling, RefusesSettingsOfTheOtherKindOfSampler) {
  const auto parse = [](const std::string& toml) { return parse_config(toml, "p.toml"); };
  EXPECT_THROW_MSG(parse("sampler = \"u-hmc\"\n" + kGood + "[tune]\nrate = 0.1\n"), ConfigError,
                   "config: p.toml: [tune] is given, but there is nothing to tune: that takes "
                   "sampler = \"exact\" without kernel.step_size; leave it out");
  const auto resolve_whole = [&](const std::string& toml) {
    return resolve_sampler(parse(toml), product({{ring(), 1.0}, {bar(), 1.0}}),
                           NoiseSchedule::cosine(10));
  };
  EXPECT_THROW_MSG(resolve_whole("evaluations = 100\nsampler = \"u-hmc\"\n" + kGood), ConfigError,
                   "config: p.toml: evaluations is given, but sampler \"u-hmc\" has a fixed plan; "
                   "it belongs to sampler \"exact\"");
  EXPECT_THROW_MSG(resolve_whole("preset = \"paper\"\n" + kGood), ConfigError,
                   "config: p.toml: preset = \"paper\" is of the published table's samplers; leave "
                   "it out for sampler \"exact\"");
}

}  // namespace
}  // namespace motet
