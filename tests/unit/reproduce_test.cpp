// The reproduced table: its rows, its sums over repeats, and a small one end to end.
#include "motet/reproduce.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "motet/error.hpp"
#include "motet/io.hpp"

namespace motet {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Names = std::vector<std::string>;

// An empty folder that is gone after the test.
class Reproduce : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() /
              ("motet-reproduce-" + std::string(test->name()) + "-" + std::to_string(getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  Json read(const std::string& name) const { return Json::parse(read_file(path(name))); }
  void write(const std::string& name, const Json& json) const {
    write_file_atomic(path(name), json.dump());
  }
  // Networks that learn nothing and few chains: the machinery in seconds.
  ReproduceConfig tiny(const Names& rows) const {
    ReproduceConfig config;
    config.folder = folder_.string();
    config.num_repeats = 1;
    config.rows = rows;
    config.train_steps = 3;
    config.batch_size = 16;
    config.num_samples = 16;
    return config;
  }

  fs::path folder_;
};

template <typename Error>
std::string message(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

Names row_names(const std::vector<TableRow>& rows) {
  Names names;
  for (const TableRow& row : rows) {
    names.push_back(row.name());
  }
  return names;
}

Json metrics(double ll, double w2, double gmm) {
  return {{"ll_true", ll + 6.19}, {"ll_paper", ll},   {"num_outside_support", 2},
          {"w2", w2 / 31.6},      {"w2_paper", w2},   {"w2_folded", 0.0123},
          {"gmm", gmm},           {"gmm_paper", gmm}, {"fraction_outside_modes", 0.0625}};
}

Json row(double ll, double w2, double gmm) {
  return {{"metrics", metrics(ll, w2, gmm)},
          {"evaluations_per_chain", 3069},
          {"acceptance", {{"mean", 0.998}, {"last_level", 0.99}}},
          {"seconds", {{"total", 21.4}, {"network", 20.9}}}};
}

Json repeat(int number, const Json& rows) {
  return {{"format", "motet.table1.repeat.1"},
          {"repeat", number},
          {"settings",
           {{"preset", "paper"},
            {"compute", "float32"},
            {"train_precision", "float32"},
            {"train_steps", 15000},
            {"batch_size", 2000},
            {"num_samples", 2000}}},
          {"exact", metrics(-2.72, 2.6, 0.00006)},
          {"rows", rows}};
}

TEST_F(Reproduce, RefusesTextWhereThePageShowsANumber) {
  Json rows = {{"score/u-la", row(-7.5, 4.4, 0.015)}};
  rows["score/u-la"]["evaluations_per_chain"] = "<script>alert(1)</script>";
  write("repeat-01.json", repeat(1, rows));
  const auto refused = [&] {
    return message<DataError>([&] { summarise_table1(folder_.string()); });
  };
  const std::string malformed = "reproduce: " + path("repeat-01.json") + ": malformed: ";
  EXPECT_THAT(refused(), testing::StartsWith(malformed));
  Json numbered = repeat(1, {{"score/u-la", row(-7.5, 4.4, 0.015)}});
  numbered["repeat"] = "1";
  write("repeat-01.json", numbered);
  EXPECT_THAT(refused(), testing::StartsWith(malformed));
  numbered["repeat"] = 1;
  numbered["settings"]["num_samples"] = "many";
  write("repeat-01.json", numbered);
  EXPECT_THAT(refused(), testing::StartsWith(malformed));
  EXPECT_FALSE(fs::exists(path("report.html")));
}

TEST_F(Reproduce, TableHasFiveEnergyAndTenScoreRows) {
  EXPECT_THAT(
      row_names(table1_rows()),
      testing::ElementsAre("energy/reverse", "energy/u-la", "energy/la-energy", "energy/u-hmc",
                           "energy/hmc-energy", "score/reverse", "score/u-la", "score/la-3-line",
                           "score/la-5-line", "score/la-10-line", "score/u-hmc", "score/hmc-3-line",
                           "score/hmc-4-curve", "score/hmc-5-line", "score/hmc-10-line"));
}

TEST_F(Reproduce, EnergySamplersStandOnlyInEnergyRows) {
  for (const TableRow& row : table1_rows()) {
    const Sampler sampler = make_sampler(row.sampler, "paper", NoiseSchedule::cosine(100));
    EXPECT_TRUE(!sampler.needs_energy || row.parameterisation == "energy") << row.name();
  }
}

TEST_F(Reproduce, RowsAreSelectedByNameSamplerOrParameterisation) {
  EXPECT_EQ(select_table1_rows({}).size(), 15U);
  EXPECT_EQ(select_table1_rows({"score"}).size(), 10U);
  EXPECT_THAT(row_names(select_table1_rows({"score/hmc-4-curve", "reverse", "energy/reverse"})),
              testing::ElementsAre("energy/reverse", "score/reverse", "score/hmc-4-curve"));
}

TEST_F(Reproduce, UnknownRowsAreRefusedWithTheNearest) {
  EXPECT_EQ(message<ConfigError>([] { select_table1_rows({"hmc-4-curv"}); }),
            "reproduce: unknown row \"hmc-4-curv\"; did you mean \"hmc-4-curve\"? Give score, "
            "energy, a sampler's name, or one row such as score/hmc-4-curve");
  EXPECT_EQ(message<ConfigError>([] { select_table1_rows({"gibbs"}); }),
            "reproduce: unknown row \"gibbs\"; give score, energy, a sampler's name, or one row "
            "such as score/hmc-4-curve");
}

TEST_F(Reproduce, BadSettingsAreRefusedBeforeAnyWork) {
  const auto with = [&](const std::function<void(ReproduceConfig&)>& change) {
    ReproduceConfig config = tiny({"score/reverse"});
    change(config);
    return message<ConfigError>([&] { reproduce_table1(config); });
  };
  EXPECT_EQ(with([](ReproduceConfig& c) { c.num_repeats = 0; }),
            "reproduce: num_repeats = 0, must be in [1, 9999]");
  EXPECT_EQ(with([](ReproduceConfig& c) { c.first_repeat = 9999, c.num_repeats = 2; }),
            "reproduce: repeats 9999 .. 10000, must end at 9999 or before");
  EXPECT_EQ(with([](ReproduceConfig& c) { c.num_samples = 15; }),
            "reproduce: num_samples = 15, must be in [16, 4000]");
  EXPECT_EQ(with([](ReproduceConfig& c) { c.preset = "papers"; }),
            "preset: unknown name \"papers\"; did you mean \"paper\"? Known: paper, corrected");
  EXPECT_EQ(with([](ReproduceConfig& c) { c.device = "tpu"; }),
            "config: reproduce:6: device = \"tpu\", must be one of \"cpu\", \"cuda\"; did you mean "
            "\"cpu\"?");
  EXPECT_THAT(with([](ReproduceConfig& c) { c.device = "cpu\"\nseed = 7 # "; }),
              testing::StartsWith("config: reproduce:6: device = "));
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(Reproduce, FolderThatCannotBeNamedIsADataError) {
  ReproduceConfig config = tiny({"score/reverse"});
  config.folder = path(std::string(300, 'a'));
  EXPECT_EQ(message<DataError>([&] { reproduce_table1(config); }),
            "reproduce: folder " + config.folder + " cannot be made: File name too long");
}

TEST_F(Reproduce, OutputsThatCannotBeWrittenAreFoundBeforeAnyWork) {
  for (const char* name : {"table1.json", "table1.md", "report.html", "repeat-02/bar.json",
                           "repeat-02/ring.safetensors", "repeat-02/score-reverse.npy"}) {
    fs::create_directories(path(name));
    ReproduceConfig config = tiny({"score/reverse"});
    config.num_repeats = 2;
    EXPECT_EQ(message<DataError>([&] { reproduce_table1(config); }),
              "write: " + path(name) + ": is a folder, must be a file name");
    EXPECT_FALSE(fs::exists(path("repeat-01"))) << name;
    EXPECT_FALSE(fs::exists(path("reproduce.lock"))) << name;
    fs::remove_all(path(name));
  }
}

TEST_F(Reproduce, SummaryIsWrittenWholeOrNotAtAll) {
  write("repeat-01.json", repeat(1, {{"score/u-la", row(-7.5, 4.4, .015)}}));
  fs::create_directories(path("report.html"));
  EXPECT_EQ(message<DataError>([&] { summarise_table1(folder_.string()); }),
            "write: " + path("report.html") + ": is a folder, must be a file name");
  EXPECT_FALSE(fs::exists(path("table1.json")));
}

TEST_F(Reproduce, SummaryIsMeanSampleDeviationAndDistanceInPublishedDeviations) {
  write("repeat-01.json", repeat(1, {{"score/hmc-4-curve", row(-4.00, 3.0, .0030)}}));
  write("repeat-02.json", repeat(2, {{"score/hmc-4-curve", row(-4.10, 2.6, .0034)},
                                     {"energy/reverse", row(-8.01, 6.0, .0270)}}));
  summarise_table1(folder_.string());
  const Json summary = read("table1.json");
  EXPECT_EQ(summary.at("repeats"), Json({1, 2}));
  ASSERT_EQ(summary.at("rows").size(), 2U);
  const Json& reverse = summary.at("rows").at(0);
  const Json& hmc = summary.at("rows").at(1);
  EXPECT_EQ(reverse.at("name"), "energy/reverse");
  EXPECT_EQ(reverse.at("num_repeats"), 1);
  EXPECT_TRUE(reverse.at("paper_units").at("ll").at("sd").is_null());
  EXPECT_NEAR(reverse.at("deviation_in_published_sd").at("ll").get<double>(), 1.0, 1e-9);
  EXPECT_EQ(hmc.at("num_repeats"), 2);
  EXPECT_NEAR(hmc.at("paper_units").at("ll").at("mean").get<double>(), -4.05, 1e-12);
  EXPECT_NEAR(hmc.at("paper_units").at("ll").at("sd").get<double>(), 0.1 / std::sqrt(2.0), 1e-12);
  EXPECT_NEAR(hmc.at("deviation_in_published_sd").at("ll").get<double>(), 0.02 / 0.12, 1e-9);
  EXPECT_EQ(read_file(path("table1.md")),
            read_file(MOTET_SOURCE_DIR "/tests/golden/reproduce_table1.md"));
  EXPECT_THAT(read_file(path("report.html")), testing::HasSubstr("score/hmc-4-curve"));
}

TEST_F(Reproduce, SummaryNamesWhatIsWrongWithItsFiles) {
  const auto summary_error = [&](auto kind) {
    return message<decltype(kind)>([&] { summarise_table1(folder_.string()); });
  };
  EXPECT_EQ(summary_error(DataError("")),
            "reproduce: " + folder_.string() +
                ": no repeat-NN.json; make one with motet reproduce table1 --out " +
                folder_.string());
  write_file_atomic(path("repeat-01.json"), "{");
  EXPECT_EQ(summary_error(DataError("")),
            "reproduce: " + path("repeat-01.json") +
                ": not a repeat file of this version (format motet.table1.repeat.1)");
  Json bad = repeat(1, {{"score/u-la", row(-7.5, 4.4, .015)}});
  bad.at("rows").at("score/u-la").erase("metrics");
  write("repeat-01.json", bad);
  EXPECT_THAT(summary_error(DataError("")),
              testing::StartsWith("reproduce: " + path("repeat-01.json") + ": malformed: "));
  write("repeat-01.json", repeat(1, {{"score/u-la", row(-7.5, 4.4, .015)}}));
  Json other = repeat(2, {{"score/u-la", row(-7.5, 4.4, .015)}});
  other.at("settings").at("preset") = "corrected";
  write("repeat-02.json", other);
  EXPECT_EQ(summary_error(ConfigError("")),
            "reproduce: repeats 1 (here) and 2 (there) were made with different settings: preset = "
            "\"paper\" here, \"corrected\" there; keep them in folders of their own");
}

TEST_F(Reproduce, SmallTableEndToEndAndResumeAddsOnlyMissingRows) {
  reproduce_table1(tiny({"score/reverse"}));
  const Json first = read("repeat-01.json");
  EXPECT_EQ(first.at("rows").size(), 1U);
  EXPECT_EQ(first.at("rows").at("score/reverse").at("evaluations_per_chain"), 100);
  EXPECT_EQ(read_npy(path("repeat-01/score-reverse.npy")).sizes(), at::IntArrayRef({16, 2}));
  const auto trained = fs::last_write_time(path("repeat-01/ring.safetensors"));
  EXPECT_EQ(message<ConfigError>([&] { reproduce_table1(tiny({"score/reverse"})); }),
            "reproduce: " + path("repeat-01.json") +
                " exists; --resume adds the rows it lacks, or choose another --out");
  ReproduceConfig more = tiny({"reverse"});
  more.resume = true;
  reproduce_table1(more);
  const Json second = read("repeat-01.json");
  EXPECT_EQ(second.at("rows").size(), 2U);
  EXPECT_EQ(second.at("rows").at("score/reverse"), first.at("rows").at("score/reverse"));
  EXPECT_EQ(fs::last_write_time(path("repeat-01/ring.safetensors")), trained);
  EXPECT_TRUE(fs::exists(path("repeat-01/bar-energy.safetensors")));
  EXPECT_EQ(read("table1.json").at("rows").size(), 2U);
  more.num_samples = 17;
  EXPECT_EQ(message<ConfigError>([&] { reproduce_table1(more); }),
            "reproduce: " + path("repeat-01.json") +
                " was made with other settings: num_samples = 17 here, 16 there; give the same, or "
                "choose another --out");
}

TEST_F(Reproduce, NetworksTrainedOtherwiseAreNotUsed) {
  reproduce_table1(tiny({"score/reverse"}));
  fs::remove(path("repeat-01.json"));
  ReproduceConfig other = tiny({"score/reverse"});
  other.train_steps = 4;
  EXPECT_EQ(message<ConfigError>([&] { reproduce_table1(other); }),
            "reproduce: " + path("repeat-01/ring.safetensors") +
                " was not trained as this repeat asks (its config differs); remove it, or choose "
                "another --out");
}

// Older versions wrote fewer keys, or the same ones otherwise.
TEST_F(Reproduce, NetworksOfAnotherSpellingOfTheConfigAreUsed) {
  reproduce_table1(tiny({"score/reverse"}));
  const std::string ring = path("repeat-01/ring.safetensors");
  Weights weights = load_weights(ring);
  weights.provenance["config"] =
      "train = {batch_size = 16, num_steps = 3}\nseed = 11\ndata.set = 'ring'\n";
  save_weights(ring, weights);
  const std::string bytes = read_file(ring);
  fs::remove(path("repeat-01.json"));
  reproduce_table1(tiny({"score/reverse"}));
  EXPECT_EQ(read_file(ring), bytes);
  const auto refused = [&](const std::string& toml) {
    weights.provenance["config"] = toml;
    save_weights(ring, weights);
    fs::remove(path("repeat-01.json"));
    return message<ConfigError>([&] { reproduce_table1(tiny({"score/reverse"})); });
  };
  const std::string differs = "reproduce: " + ring +
                              " was not trained as this repeat asks (its config differs); remove "
                              "it, or choose another --out";
  EXPECT_EQ(refused("train = {batch_size = 16, num_steps = 3}\nseed = 12\ndata.set = 'ring'\n"),
            differs);
  EXPECT_EQ(refused("no config"), differs);
}

TEST_F(Reproduce, StoppedTableGoesOnToTheSameNumbers) {
  const Names rows = {"score/reverse"};
  reproduce_table1(tiny(rows));
  const Json whole = read("repeat-01.json").at("rows").at("score/reverse").at("metrics");
  for (const int64_t stop_at : {2, 5, 40}) {  // in the first training, the second, the sampling
    fs::remove_all(folder_);
    ReproduceConfig config = tiny(rows);
    int64_t calls = 0;
    RunHooks hooks;
    hooks.should_stop = [&] { return ++calls == stop_at; };
    EXPECT_THROW(reproduce_table1(config, hooks), Interrupted) << stop_at;
    config.resume = true;
    reproduce_table1(config);
    EXPECT_EQ(read("repeat-01.json").at("rows").at("score/reverse").at("metrics"), whole)
        << stop_at;
  }
}

}  // namespace
}  // namespace motet
