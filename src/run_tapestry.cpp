// The tapestry of a config: its windows' models, where they lie, and how large the canvas is.
#include <algorithm>

#include "motet/error.hpp"
#include "run_target.hpp"
#include "tapestry_detail.hpp"

namespace motet::detail {
namespace {

[[noreturn]] void fail(const SampleConfig& config, const std::string& why) {
  throw ConfigError("config: " + config.name + ": " + why);
}

// Height and width of a window: (1, w) where events have no rows. Ranks are checked by tapestry().
std::pair<int64_t, int64_t> size_of(const Model& model) {
  const std::vector<int64_t> event = model.event_shape();
  return {event.size() < 2 ? 1 : event[event.size() - 2], event.back()};
}

void place_grid(const SampleConfig& config, std::vector<Window>& windows) {
  const auto [height, width] = size_of(*windows.front().model);
  for (const Window& window : windows) {
    if (size_of(*window.model) != std::pair(height, width)) {
      fail(config, "tapestry.grid has windows of different sizes, \"" +
                       windows.front().model->describe() + "\" and \"" + window.model->describe() +
                       "\"; give [tapestry.window.NAME] tables instead");
    }
  }
  const Window& last = windows.back();
  const auto places =
      window_grid(last.row + 1, last.column + 1, height, width, config.tapestry->overlap);
  for (size_t i = 0; i < windows.size(); ++i) {
    windows[i].row = places[i].first;
    windows[i].column = places[i].second;
  }
}

}  // namespace

ModelPtr compose_tapestry(const SampleConfig& config, const BuildExpression& build) {
  const TapestryConfig& tapestry = *config.tapestry;
  std::vector<Window> windows;
  for (const WindowConfig& window : tapestry.windows) {
    windows.push_back({build(window.model), window.row, window.column, window.exponent});
  }
  if (tapestry.is_grid) {
    place_grid(config, windows);
  }
  Canvas canvas{.height = 1, .width = 1, .rule = tapestry.rule, .taper = tapestry.taper};
  if (!tapestry.canvas.empty()) {
    canvas.height = tapestry.canvas[0];
    canvas.width = tapestry.canvas[1];
  } else {
    for (const Window& window : windows) {
      const auto [height, width] = size_of(*window.model);
      canvas.height = std::max(canvas.height, window.row + height);
      canvas.width = std::max(canvas.width, window.column + width);
    }
  }
  return motet::tapestry(std::move(windows), canvas);
}

std::vector<WindowPlace> window_places(const Model& target) {
  std::vector<WindowPlace> places;
  if (const Tapestry* canvas = tapestry_in(target)) {
    for (const Window& window : canvas->windows()) {
      const auto [height, width] = size_of(*window.model);
      places.push_back({window.row, window.column, height, width});
    }
  }
  return places;
}

}  // namespace motet::detail
