// Numbers and names as text in pictures.
#include "svg_detail.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace motet::detail {
namespace {

// As printf in the C locale, whatever the program's locale: a decimal comma is no SVG.
std::string text_of(double value, std::chars_format format, int precision) {
  char buffer[400];  // the largest double has 309 digits
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, format, precision).ptr;
  return {buffer, end};
}

}  // namespace

std::string pixels(double value) {
  std::string text = text_of(value, std::chars_format::fixed, std::abs(value) < 1.0 ? 2 : 1);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') {
    text.pop_back();
  }
  return text == "-0" ? "0" : text;
}

std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::vector<double> nice_ticks(double low, double high, int count) {
  if (!(low < high) || !std::isfinite(high - low) || count < 1) {
    return {};
  }
  const double rough = (high - low) / count;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10.0 * power;
  for (const double factor : {5.0, 2.0, 1.0}) {
    step = rough <= factor * power ? factor * power : step;
  }
  // Counted by integers: from 2^53 on k + 1 is k. There a step may be too small to move a tick.
  const double first = std::ceil(low / step);
  std::vector<double> ticks;
  for (int i = 0; i <= count; ++i) {
    const double k = first + i;
    const double tick = k == 0.0 ? 0.0 : k * step;
    if (tick <= high + 1e-9 * step && (ticks.empty() || tick > ticks.back())) {
      ticks.push_back(tick);
    }
  }
  return ticks;
}

std::string tick_text(double value) { return text_of(value, std::chars_format::general, 6); }

}  // namespace motet::detail
