// Parts of the report that are about numbers.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "motet/run.hpp"

namespace motet::detail {

/// One line of the tables.
struct MetricsRow {
  std::string name;
  const nlohmann::json* json;  ///< of the run
};

/// One run of images, and how they are drawn.
struct ImageRow {
  std::string name;
  const nlohmann::json* json;
  const RunReport* run;
  PictureConfig pictures;
};
/// Samples of each run, the way of the first chains (of a single run), values and frequencies.
std::string images_section(const std::vector<ImageRow>& rows);

/// "12.35"; "-" when not finite.
std::string fixed(double value, int digits);
/// A whole self-contained page around `body`, in the reports' style.
std::string html_page(const std::string& title, const std::string& body);
/// One sentence of what happened.
std::string lead(const std::vector<MetricsRow>& rows);
/// Do the islands agree: R-hat and effective sizes, the modes' shares with a chart, the paths of a few
/// chains (of a single run).
std::string chains_section(const std::vector<MetricsRow>& rows);
/// The table in both unit systems and what each number means; `exact` (an object with "metrics", or
/// null) is its last row.
std::string metrics_section(const std::vector<MetricsRow>& rows, const nlohmann::json* exact);

}  // namespace motet::detail
