// Tables on the terminal.
#pragma once

#include <iosfwd>
#include <nlohmann/json.hpp>
#include <string>

namespace motet::cli {

/// "name             value", aligned.
void print_line(std::ostream& out, const std::string& name, const std::string& value);
/// A run's JSON in a dozen lines.
void print_run(const nlohmann::json& run, std::ostream& out);
/// The "metrics" object of a run or of motet eval, in columns as wide as their longest entry.
void print_metrics(const nlohmann::json& metrics, std::ostream& out);
/// The number at `key`, or NaN when it is absent or null.
double number_at(const nlohmann::json& json, const std::string& key);

}  // namespace motet::cli
