// Text of numbers and names inside SVG and HTML.
#pragma once

#include <string>
#include <vector>

namespace motet::detail {

/// A coordinate with at most one digit after the point, "12.5", "12", "0.35" below one.
std::string pixels(double value);
/// &, <, >, " and ' as entities.
std::string escape(const std::string& text);
/// Round numbers (1, 2 or 5 times a power of ten apart) that cover [low, high], about `count`.
std::vector<double> nice_ticks(double low, double high, int count);
/// "0.5", "-1", "1e-05".
std::string tick_text(double value);

}  // namespace motet::detail
