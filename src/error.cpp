// Exit codes and the "did you mean" search.
#include "motet/error.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

namespace motet {
namespace {

// Levenshtein distance, one row at a time.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

}  // namespace

int exit_code(const std::exception& error) {
  if (dynamic_cast<const ConfigError*>(&error) != nullptr ||
      dynamic_cast<const ShapeError*>(&error) != nullptr) {
    return 2;
  }
  if (dynamic_cast<const DataError*>(&error) != nullptr) {
    return 3;
  }
  if (dynamic_cast<const NumericalError*>(&error) != nullptr) {
    return 4;
  }
  if (dynamic_cast<const Interrupted*>(&error) != nullptr) {
    return 130;
  }
  return 70;
}

std::string nearest(std::string_view given, std::span<const std::string> known) {
  std::string best;
  size_t best_distance = given.size() / 3 + 2;  // at least one letter may always differ
  for (const std::string& candidate : known) {
    const size_t distance = edit_distance(given, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace motet
