// [tapestry] with grid = "a b; b a", or [tapestry.window.NAME] with model and at.
#include "config_tapestry.hpp"

#include <sstream>

#include "config_keys.hpp"

namespace motet::detail {
namespace {

using enum KeyType;

constexpr size_t kMaxWindows = 10'000;

std::vector<std::string> words_of(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> words;
  for (std::string word; in >> word;) {
    words.push_back(word);
  }
  return words;
}

// Rows of names: a line each, or parted by ";".
std::vector<std::vector<std::string>> grid_of(const Settings& settings) {
  std::string text = settings.get<std::string>("tapestry.grid");
  for (char& c : text) {
    c = c == ';' ? '\n' : c;
  }
  std::istringstream in(text);
  std::vector<std::vector<std::string>> rows;
  for (std::string line; std::getline(in, line);) {
    std::vector<std::string> words = words_of(line);
    if (!words.empty()) {
      rows.push_back(std::move(words));
    }
  }
  if (rows.empty()) {
    settings.fail("tapestry.grid", "must have the name of a model for each window");
  }
  for (const auto& row : rows) {
    if (row.size() != rows.front().size()) {
      settings.fail("tapestry.grid", "must have rows of one length");
    }
  }
  if (rows.size() * rows.front().size() > kMaxWindows) {
    settings.fail_whole("[tapestry] has more than " + std::to_string(kMaxWindows) + " windows");
  }
  return rows;
}

void refuse_beside_grid(const Settings& settings) {
  if (settings.given_under("tapestry.window")) {
    settings.fail("tapestry.grid", "but [tapestry.window.NAME] is given too; leave one out");
  }
}

void refuse_without_grid(const Settings& settings) {
  for (const char* key : {"tapestry.overlap", "tapestry.exponent"}) {
    if (settings.given(key)) {
      settings.fail(key, "but it belongs to tapestry.grid; leave it out");
    }
  }
}

void read_grid(const Settings& settings, TapestryConfig& tapestry) {
  refuse_beside_grid(settings);
  const auto grid = grid_of(settings);
  tapestry.is_grid = true;
  if (settings.given("tapestry.overlap")) {
    tapestry.overlap = settings.get<int64_t>("tapestry.overlap");
  }
  const double exponent =
      settings.given("tapestry.exponent") ? settings.get<double>("tapestry.exponent") : 1.0;
  for (size_t row = 0; row < grid.size(); ++row) {
    for (size_t column = 0; column < grid[row].size(); ++column) {
      tapestry.windows.push_back(
          {grid[row][column], static_cast<int64_t>(row), static_cast<int64_t>(column), exponent});
    }
  }
}

void read_list(const Settings& settings, TapestryConfig& tapestry) {
  refuse_without_grid(settings);
  const std::vector<std::string> names = settings.names_under("tapestry.window");
  if (names.empty()) {
    settings.fail_whole(
        "[tapestry] has no windows; give grid = \"NAME NAME; NAME NAME\", or "
        "[tapestry.window.NAME] with model and at");
  }
  if (names.size() > kMaxWindows) {
    settings.fail_whole("[tapestry] has more than " + std::to_string(kMaxWindows) + " windows");
  }
  for (const std::string& name : names) {
    const std::string prefix = "tapestry.window." + name + ".";
    for (const char* key : {"model", "at"}) {
      if (!settings.given(prefix + key)) {
        settings.fail(prefix + key, "is missing; a window needs model and at");
      }
    }
    const auto at = settings.get<std::vector<int64_t>>(prefix + "at");
    if (at.size() != 2) {
      settings.fail(prefix + "at", "must be [row, column]");
    }
    tapestry.windows.push_back(
        {settings.get<std::string>(prefix + "model"), at[0], at[1],
         settings.given(prefix + "exponent") ? settings.get<double>(prefix + "exponent") : 1.0});
  }
}

}  // namespace

std::vector<Key> tapestry_keys() {
  return {
      {.name = "tapestry.grid",
       .types = {text},
       .doc = "names of [model.NAME] tables or laws, a row of windows a line, or rows parted by "
              "\";\"; all windows of one size (docs/tapestry.md)"},
      {.name = "tapestry.overlap",
       .types = {integer},
       .range = counts(0),
       .doc = "grid: places that a window shares with its neighbour (0)"},
      {.name = "tapestry.canvas",
       .types = {integers},
       .range = counts(1),
       .doc = "[height, width]; absent: as small as the windows allow"},
      {.name = "tapestry.rule",
       .types = {text},
       .fallback = "\"cover\"",
       .choices = {"cover", "product"},
       .doc = "where windows overlap: cover, the mean of their scores, which is no law; product, "
              "the product of their laws",
       .with_table = true},
      {.name = "tapestry.taper",
       .types = {number},
       .fallback = "0.0",
       .range = {.low = 0.0},
       .doc = "cover: places over which a window's weight rises from its edges; 0: all count alike",
       .with_table = true},
      {.name = "tapestry.exponent",
       .types = {number},
       .doc = "grid, product: power of each window (1.0)"},
      {.name = "tapestry.window.*.model",
       .types = {text},
       .doc = "what the window shows: an expression, as target takes them"},
      {.name = "tapestry.window.*.at",
       .types = {integers},
       .range = counts(0),
       .doc = "[row, column] of the window's first place"},
      {.name = "tapestry.window.*.exponent",
       .types = {number},
       .doc = "product: power of the window (1.0)"},
  };
}

TapestryConfig read_tapestry(const Settings& settings) {
  TapestryConfig tapestry;
  tapestry.rule = overlap_rule_from(settings.get<std::string>("tapestry.rule"));
  tapestry.taper = settings.get<double>("tapestry.taper");
  if (settings.given("tapestry.canvas")) {
    tapestry.canvas = settings.get<std::vector<int64_t>>("tapestry.canvas");
    if (tapestry.canvas.size() != 2) {
      settings.fail("tapestry.canvas", "must be [height, width]");
    }
  }
  if (settings.given("tapestry.grid")) {
    read_grid(settings, tapestry);
  } else {
    read_list(settings, tapestry);
  }
  return tapestry;
}

std::string window_key(const Settings& settings, size_t index) {
  return settings.given("tapestry.grid")
             ? "tapestry.grid"
             : "tapestry.window." + settings.names_under("tapestry.window")[index] + ".model";
}

}  // namespace motet::detail
