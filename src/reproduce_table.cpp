// The published numbers: [S23] (arXiv 2307.14012v1) Table 1, as printed there.
#include <algorithm>

#include "motet/error.hpp"
#include "motet/reproduce.hpp"

namespace motet {
namespace {

std::vector<std::string> known_words() {
  std::vector<std::string> words = {"energy", "score"};
  for (const std::string& name : table_sampler_names()) {
    words.push_back(name);
  }
  for (const TableRow& row : table1_rows()) {
    words.push_back(row.name());
  }
  return words;
}

bool is_picked(const TableRow& row, const std::string& word) {
  return word == row.name() || word == row.sampler || word == row.parameterisation;
}

void check_word(const std::string& word) {
  const std::vector<std::string> words = known_words();
  if (std::find(words.begin(), words.end(), word) != words.end()) {
    return;
  }
  const std::string near = nearest(word, words);
  throw ConfigError("reproduce: unknown row \"" + word + "\"" +
                    (near.empty() ? "" : "; did you mean \"" + near + "\"?") +
                    (near.empty() ? "; give" : " Give") +
                    " score, energy, a sampler's name, or one row such as score/hmc-4-curve");
}

}  // namespace

const std::vector<TableRow>& table1_rows() {
  static const std::vector<TableRow> rows = {
      {"energy", "reverse", {-8.22, .21}, {5.81, .19}, {.02701, .00134}},
      {"energy", "u-la", {-7.52, .22}, {4.19, .45}, {.01461, .00135}},
      {"energy", "la-energy", {-6.50, .30}, {4.24, .55}, {.01466, .00146}},
      {"energy", "u-hmc", {-5.72, .18}, {4.19, 1.25}, {.00653, .00091}},
      {"energy", "hmc-energy", {-4.09, .14}, {4.12, 1.44}, {.00333, .00065}},
      {"score", "reverse", {-8.15, .24}, {5.80, .20}, {.02688, .00120}},
      {"score", "u-la", {-7.57, .12}, {4.44, .63}, {.01499, .00062}},
      {"score", "la-3-line", {-6.45, .20}, {4.03, .52}, {.01428, .00107}},
      {"score", "la-5-line", {-6.61, .17}, {4.22, .46}, {.01519, .00092}},
      {"score", "la-10-line", {-6.53, .17}, {4.20, .51}, {.01475, .00091}},
      {"score", "u-hmc", {-5.77, .12}, {3.39, .77}, {.00690, .00071}},
      {"score", "hmc-3-line", {-4.29, .13}, {2.92, 1.02}, {.00372, .00061}},
      {"score", "hmc-4-curve", {-4.07, .12}, {2.94, .90}, {.00306, .00054}},
      {"score", "hmc-5-line", {-4.07, .13}, {2.68, 1.20}, {.00308, .00069}},
      {"score", "hmc-10-line", {-4.07, .14}, {2.87, .89}, {.00317, .00056}},
  };
  return rows;
}

std::vector<TableRow> select_table1_rows(const std::vector<std::string>& selection) {
  if (selection.empty()) {
    return table1_rows();
  }
  std::for_each(selection.begin(), selection.end(), check_word);
  std::vector<TableRow> rows;
  for (const TableRow& row : table1_rows()) {
    if (std::any_of(selection.begin(), selection.end(),
                    [&](const std::string& word) { return is_picked(row, word); })) {
      rows.push_back(row);
    }
  }
  return rows;
}

}  // namespace motet
