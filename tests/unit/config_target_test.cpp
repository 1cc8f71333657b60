// `target` and [model.NAME] expression: what is sampled, and what is refused before any file is
// opened.
#include "config_target.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "motet/error.hpp"
#include "motet/run.hpp"
#include "support/throw_message.hpp"

namespace motet {
namespace {

const std::string kTwo = "[model.a]\nlaw = \"ring\"\n[model.b]\nlaw = \"bar\"\n";

std::string with_target(const std::string& target, const std::string& tables = kTwo) {
  return "target = \"" + target + "\"\n" + tables;
}

std::string many(int count, const std::string& text) {
  std::string all;
  for (int i = 0; i < count; ++i) {
    all += text;
  }
  return all;
}

std::vector<std::string> names_of(const SampleConfig& config) {
  std::vector<std::string> names;
  for (const TermConfig& term : config.terms) {
    names.push_back(term.name);
  }
  return names;
}

TEST(ConfigTarget, KeepsTheTextAsItStands) {
  const SampleConfig config = parse_config(with_target("a*b^0.5"));
  EXPECT_EQ(config.target, "a*b^0.5");
  EXPECT_EQ(names_of(config), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(parse_config(config.toml).target, "a*b^0.5");
  EXPECT_EQ(config.identity.at("target"), "\"a*b^0.5\"");
}

TEST(ConfigTarget, NeedsNoTableForLawsByNameAndFiles) {
  const SampleConfig config =
      parse_config("target = \"ring / 'x/net.safetensors'^0.5\"", "a.toml", {}, "/data");
  EXPECT_EQ(names_of(config), (std::vector<std::string>{"ring", "x/net.safetensors"}));
  EXPECT_TRUE(config.terms[0].law != nullptr);
  EXPECT_FALSE(config.terms[0].is_quoted);
  EXPECT_EQ(config.terms[1].weights, "/data/x/net.safetensors");
  EXPECT_TRUE(config.terms[1].is_quoted);
}

TEST(ConfigTarget, KnowsEachLawByName) {
  for (const std::string& name : detail::named_laws()) {
    EXPECT_EQ(load_target(parse_config("target = \"" + name + "\""))->event_shape(),
              std::vector<int64_t>{2})
        << name;
  }
}

TEST(ConfigTarget, ATableGoesBeforeALawOfItsName) {
  const SampleConfig config =
      parse_config("target = \"ring\"\n[model.ring]\nlaw = \"bar\"\nhalf_width = 0.1\n");
  ASSERT_EQ(config.terms.size(), 1U);
  EXPECT_EQ(config.terms[0].law->describe(), "bar");
}

TEST(ConfigTarget, WritesOutTablesThatAreExpressions) {
  const SampleConfig config =
      parse_config(with_target("both^2 / c", kTwo + "[model.both]\nexpression = \"a * twice\"\n"
                                                    "[model.twice]\nexpression = \"b^2\"\n"
                                                    "[model.c]\nlaw = \"ring\"\nradius = 0.7\n"));
  EXPECT_EQ(config.target, "(a * (b^2))^2 / c");
  EXPECT_EQ(names_of(config), (std::vector<std::string>{"a", "b", "c"}));
  const SampleConfig again = parse_config(config.toml);
  EXPECT_EQ(again.target, config.target);
  EXPECT_EQ(again.identity, config.identity);
}

TEST(ConfigTarget, AnOverrideTakesItsPlaceAndDropsWhatItDoesNotUse) {
  const SampleConfig config = parse_config(with_target("a * b"), "a.toml", {"target=a^0.5"});
  EXPECT_EQ(config.target, "a^0.5");
  EXPECT_EQ(names_of(config), std::vector<std::string>{"a"});
  EXPECT_EQ(config.identity.count("model.b.law"), 0U);
  EXPECT_EQ(parse_config(config.toml).target, "a^0.5");
}

TEST(ConfigTarget, FilesAreRenamedInEveryExpression) {
  const SampleConfig config = parse_config(
      "target = \"a * 'x.safetensors'\"\n[model.a]\nexpression = \"'y.safetensors'^2\"\n");
  const auto renamed =
      detail::renamed_files(config, [](const std::string& name) { return "../" + name; });
  EXPECT_EQ(renamed, (std::vector<std::string>{"target=\"a * '../x.safetensors'\"",
                                               "model.a.expression=\"'../y.safetensors'^2\""}));
  EXPECT_TRUE(
      detail::renamed_files(parse_config(with_target("a * b")), [](const std::string& name) {
        return name;
      }).empty());
}

struct Refusal {
  const char* name;
  std::string toml;
  std::string message;
};

void PrintTo(const Refusal& refusal, std::ostream* out) { *out << refusal.name; }

class RefusedTarget : public testing::TestWithParam<Refusal> {};

TEST_P(RefusedTarget, SaysWhereAndWhy) {
  EXPECT_THROW_MSG(parse_config(GetParam().toml, "a.toml"), ConfigError, GetParam().message);
}

// Tables e0 to e<count - 1>, each of which names the next one `times` times.
std::string chain(int count, int times) {
  std::string tables;
  for (int i = 0; i < count; ++i) {
    const std::string next = i + 1 == count ? "a" : "e" + std::to_string(i + 1);
    tables += "[model.e" + std::to_string(i) + "]\nexpression = \"" + next +
              many(times - 1, " * " + next) + "\"\n";
  }
  return "target = \"e0\"\n" + tables + "[model.a]\nlaw = \"ring\"\n";
}

INSTANTIATE_TEST_SUITE_P(
    Config, RefusedTarget,
    testing::Values(
        Refusal{"Syntax", with_target("a * * b"),
                "config: a.toml:1: target: expression: column 5: found \"*\", must be a name, a "
                "file in quotes, a function or \"(\"\n  a * * b\n      ^"},
        Refusal{"UnknownName", with_target("a * b * rign"),
                "config: a.toml:1: target: expression: column 9: unknown name \"rign\"; did you "
                "mean \"ring\"?\n  a * b * rign\n          ^"},
        Refusal{"UnknownNameFarFromAll", with_target("a * b * zzzzzzzz"),
                "config: a.toml:1: target: expression: column 9: unknown name \"zzzzzzzz\"; known: "
                "a, b, ring, bar, checkerboard, moons, spirals; others need a table "
                "[model.zzzzzzzz]\n  a * b * zzzzzzzz\n          ^"},
        Refusal{
            "HyphenForMinus", with_target("a * b * ring-bars"),
            "config: a.toml:1: target: expression: column 9: unknown name \"ring-bars\"; known: "
            "a, b, ring, bar, checkerboard, moons, spirals; others need a table "
            "[model.ring-bars] (a name may hold -; there is no subtraction)\n"
            "  a * b * ring-bars\n          ^"},
        Refusal{"FileWithoutQuotes", with_target("a * b * net.safetensors"),
                "config: a.toml:1: target: expression: column 9: unknown name "
                "\"net.safetensors\"; a file stands in quotes\n"
                "  a * b * net.safetensors\n          ^"},
        Refusal{"FileOfAnotherKind", with_target("a * b * 'net.npy'"),
                "config: a.toml:1: target: expression: column 9: 'net.npy' must be a weights file, "
                "whose name ends in .safetensors, a program, whose name ends in .ts or .pt2, a "
                "mixer, whose name ends in .eqx, or a folder, whose name has no dot or ends in /\n "
                " a * b * 'net.npy'\n          "
                "^"},
        Refusal{"UnknownNameInATable",
                with_target("a * b * c", kTwo + "[model.c]\nexpression = \"bat\"\n"),
                "config: a.toml:7: model.c.expression: expression: column 1: unknown name \"bat\"; "
                "did you mean \"bar\"?\n  bat\n  ^"},
        Refusal{"UnusedTable", with_target("a"),
                "config: a.toml:1: target = \"a\", does not use [model.b]; name it, or leave it "
                "out"},
        Refusal{
            "UnusedTables", with_target("ring"),
            "config: a.toml:1: target = \"ring\", does not use [model.a], [model.b]; name them, "
            "or leave them out"},
        Refusal{"TableThatCannotBeNamed", "target = \"ring\"\n[model.2nd]\nlaw = \"bar\"\n",
                "config: a.toml: [model.2nd] cannot be named in target: names there begin with a "
                "letter or _; rename it"},
        Refusal{"Exponent", with_target("a * b", kTwo + "exponent = 0.5\n"),
                "config: a.toml:6: model.b.exponent = 0.5, but target is given, which says the "
                "powers: write b^0.5 there, and leave this out"},
        Refusal{"ExpressionWithoutTarget", kTwo + "[model.c]\nexpression = \"a * b\"\n",
                "config: a.toml:6: model.c.expression = \"a * b\", but target is not given; say "
                "what to sample, as in target = \"c\""},
        Refusal{"ExpressionBesideALaw", with_target("a * b", kTwo + "expression = \"a\"\n"),
                "config: a.toml: [model.b] must have exactly one of weights, law, likelihood, "
                "classifier and expression"},
        Refusal{"NeitherWeightsNorLaw", with_target("a", "[model.a]\nscore_only = true\n"),
                "config: a.toml: [model.a] must have exactly one of weights, law, likelihood, "
                "classifier and expression"},
        Refusal{
            "ScoreOfAnExpression",
            with_target("a * b * c", kTwo + "[model.c]\nexpression = \"a\"\nscore_only = true\n"),
            "config: a.toml:8: model.c.score_only = true, but [model.c] is an expression; write "
            "score(...) around its names, and leave this out"},
        Refusal{
            "Loop",
            "target = \"c\"\n[model.c]\nexpression = \"d^2\"\n[model.d]\nexpression = \"c\"\n",
            "config: a.toml:3: model.c.expression = \"d^2\", leads back to itself: c -> d -> c"},
        Refusal{"LoopOfOne", "target = \"c\"\n[model.c]\nexpression = \"c * ring\"\n",
                "config: a.toml:3: model.c.expression = \"c * ring\", leads back to itself: c -> "
                "c"},
        Refusal{"LongChain", chain(21, 1),
                "config: a.toml:43: model.e20.expression = \"a\", is more than 20 tables away from "
                "target; write some of them out"},
        Refusal{"ManyParts", chain(20, 10),
                "config: a.toml:1: target = \"e0\", has more than 10000 parts when its expressions "
                "are written out"},
        Refusal{"LongWhenWrittenOut", chain(4, 9),
                "config: a.toml:1: target: with its expressions written out: expression: 27879 "
                "characters, must be at most 10000"}),
    [](const auto& test) { return test.param.name; });

TEST(ConfigTarget, TheCommandLinesOwnErrorsNeedNoPlace) {
  EXPECT_THROW_MSG(parse_config("", "--target", {"target=rign"}), ConfigError,
                   "expression: column 1: unknown name \"rign\"; did you mean \"ring\"?\n  rign\n  "
                   "^");
}

TEST(LoadTarget, IsTheProductOfAllTablesWithoutATarget) {
  const ModelPtr plain = load_target(parse_config(kTwo + "exponent = 0.5\n"));
  EXPECT_EQ(plain->describe(), load_target(parse_config(with_target("a * b^0.5")))->describe());
}

TEST(LoadTarget, AModelThatIsNamedTwiceIsOneLeaf) {
  const std::string tables = kTwo + "[model.c]\nexpression = \"a^0.5\"\n";
  EXPECT_EQ(leaves(load_target(parse_config(with_target("c * (a + b)", tables)))).size(), 2U);
}

// 0 at high noise, whole at the data: what the sampler "exact" makes of p / q by itself.
TEST(LoadTarget, TheSamplerExactRampsWhatDivides) {
  const std::string wide =
      "[model.w]\nlaw = \"gaussian_mixture\"\nmeans = [[0.0, 0.0]]\nsds = [[1.0]]\n";
  const NoiseLevel high = NoiseSchedule::cosine(100).level(99);
  const auto exponents = [&](const ModelPtr& target) {
    return std::pair(total_exponent(*target, high), total_exponent(*target));
  };
  const std::pair<double, double> expected = {1.0, 0.0};
  EXPECT_EQ(exponents(load_target(parse_config("target = \"ring / w\"\n" + wide))), expected);
  EXPECT_EQ(exponents(load_target(parse_config("target = \"(w / ring)^-1\"\n" + wide))), expected);
  EXPECT_EQ(exponents(load_target(
                parse_config("[model.r]\nlaw = \"ring\"\n" + wide + "exponent = -1.0\n"))),
            expected);
  EXPECT_EQ(exponents(load_target(parse_config("target = \"ring^2 / w\"\n" + wide))),
            (std::pair<double, double>(1.0, 1.0)));
}

TEST(LoadTarget, OtherSamplersAreRefusedAndToldOfRamps) {
  const std::string text = "sampler = \"hmc-4-curve\"\ntarget = \"ring / bar\"\n";
  EXPECT_THROW_MSG(load_target(parse_config(text, "a.toml")), ConfigError,
                   "config: a.toml: the exponents of product(ring, bar^-1) sum to 0 at high noise, "
                   "must be > 0: it would be no law there; use sampler \"exact\", or let the "
                   "factors that divide begin with exponent 0, as in target = \"ring / "
                   "ramp(blob)\"");
  EXPECT_NO_THROW(load_target(
      parse_config("sampler = \"hmc-4-curve\"\ntarget = \"ring / ramp(bar)\"\n", "a.toml")));
  EXPECT_THROW_MSG(load_target(parse_config("target = \"guide(ring, bar, 1) / moons\"", "a.toml",
                                            {"target=guide(ring, bar^2, 1)"})),
                   ConfigError,
                   "config: a.toml: the exponents of product(ring^2, bar^-2) sum to 0 at high "
                   "noise, must be > 0: it would be no law there; let the factors that divide "
                   "begin with exponent 0, as in target = \"ring / ramp(blob)\"");
}

TEST(DescribeTarget, TellsWhatIsKnownAndWhatAStepCosts) {
  const std::string text = describe_target(parse_config("target = \"ring * score(bar)^0.5\""));
  for (const char* line : {
           "target                  ring * score(bar)^0.5\n",
           "exact densities         ring\n",
           "scores only             score of bar\n",
           "tracked densities       none\n",
           "sampler                 exact\n",
           "log ratio               integral of the scores along the trajectory (polynomial); "
           "known "
           "parts by difference\n",
           "weights                 on: along the reverse steps\n",
           "an evaluation           2 leaves, once each\n",
           "a step                  4 leaf evaluations (2 of the target)\n",
           "total exponent          1.5 at the data, 1.5 at high noise\n",
           "normalisable            yes: nothing divides\n",
       }) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
}

TEST(DescribeTarget, DoubtsATargetWhoseScorePointsOutwards) {
  const std::string text = describe_target(
      parse_config("target = \"w^0.5 / ramp(ring)\"\n[model.w]\nlaw = \"gaussian_mixture\"\n"
                   "means = [[0.0, 0.0]]\nsds = [[1.0]]\n"));
  EXPECT_NE(text.find("normalisable            doubtful: far out its score points outwards at "
                      "levels "),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("total exponent          -0.5 at the data, 0.5 at high noise\n"),
            std::string::npos)
      << text;
}

TEST(DescribeTarget, ARunRefusesWhatItDoubts) {
  const SampleConfig config = parse_config(
      "sampler = \"hmc-4-curve\"\ntarget = \"w^0.5 / ramp(ring)\"\n[model.w]\n"
      "law = \"gaussian_mixture\"\nmeans = [[0.0, 0.0]]\nsds = [[1.0]]\n"
      "[schedule]\nnum_levels = 4\n[anneal]\nlevels = [2, 1, 0]\n",
      "a.toml");
  EXPECT_THROW_MSG(run(config), ConfigError,
                   "config: a.toml: " + load_target(config)->describe() +
                       " is no law at levels 2, 1, 0: far out its density grows; lower the "
                       "exponent of what is divided by");
}

TEST(DescribeTarget, AnExactMixtureIsALaw) {
  const std::string text = describe_target(parse_config("target = \"0.7 ring + 0.3 bar\""));
  EXPECT_NE(text.find("log ratio               difference of log densities, exact\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("normalisable            yes: a law at every level\n"), std::string::npos)
      << text;
}

TEST(DescribeTarget, LooksFarOutWhereSomethingDivides) {
  const std::string text = describe_target(parse_config("target = \"ring / bar^0.3\""));
  EXPECT_NE(
      text.find("normalisable            no sign against it: far out its score points inwards "
                "at every level tried\n"),
      std::string::npos)
      << text;
}

TEST(DescribeTarget, NamesTheIntegralsThatARunWillMeasure) {
  const std::string text = describe_target(parse_config("target = \"0.7 ring + 0.3 bar * moons\""));
  EXPECT_NE(text.find("measured integrals      product(bar, moons) (by a run before sampling)\n"),
            std::string::npos)
      << text;
}

TEST(DescribeTarget, AMixtureOfScoresIsTracked) {
  const std::string text =
      describe_target(parse_config("target = \"0.7 score(ring) + 0.3 score(bar)\""));
  EXPECT_NE(text.find("tracked densities       score of ring, score of bar (carried along each "
                      "chain, from high noise on)\n"),
            std::string::npos)
      << text;
}

}  // namespace
}  // namespace motet
