// Drop NAME.toml and NAME.json into this folder and get a test: the config is run, and every number
// in NAME.json must come out. {"near": value, "within": tolerance} allows a tolerance; everything
// else must be equal. Keys that NAME.json leaves out are not looked at.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "motet/error.hpp"
#include "motet/io.hpp"
#include "motet/run.hpp"

namespace motet {
namespace {

using Json = nlohmann::json;

const std::filesystem::path kFolder = std::filesystem::path(MOTET_SOURCE_DIR) / "tests" / "cases";

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(kFolder)) {
    if (file.path().extension() == ".toml") {
      names.push_back(file.path().stem().string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

void compare(const Json& expected, const Json& found, const std::string& place) {
  if (expected.is_object() && expected.contains("near")) {
    ASSERT_TRUE(found.is_number()) << place << " is " << found;
    EXPECT_NEAR(found.get<double>(), expected["near"].get<double>(),
                expected["within"].get<double>())
        << place;
  } else if (expected.is_object()) {
    for (const auto& [key, value] : expected.items()) {
      ASSERT_TRUE(found.contains(key)) << place << "." << key << " is missing";
      compare(value, found[key], place + "." + key);
    }
  } else if (expected.is_array()) {
    ASSERT_EQ(expected.size(), found.size()) << place;
    for (size_t i = 0; i < expected.size(); ++i) {
      compare(expected[i], found[i], place + "[" + std::to_string(i) + "]");
    }
  } else {
    EXPECT_EQ(expected, found) << place;
  }
}

class Case : public testing::TestWithParam<std::string> {};

TEST_P(Case, GivesTheExpectedNumbers) {
  const std::string path = (kFolder / GetParam()).string();
  const Json expected = Json::parse(read_file(path + ".json"));
  if (expected.contains("error")) {
    try {
      run(load_config(path + ".toml"));
      ADD_FAILURE() << "threw nothing";
    } catch (const std::exception& error) {
      EXPECT_EQ(error.what(), expected["error"].get<std::string>());
    }
    return;
  }
  const RunReport report = run(load_config(path + ".toml"));
  compare(expected, Json::parse(report.json), "");
}

INSTANTIATE_TEST_SUITE_P(Folder, Case, testing::ValuesIn(case_names()), [](const auto& test) {
  std::string name = test.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace motet
