// The report's part about images: samples side by side, how the first chains became images, and two
// small plots of what an eye may miss, values and frequencies. PNGs are inside the page.
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "motet/image.hpp"
#include "motet/report.hpp"
#include "report_detail.hpp"
#include "sample_run.hpp"
#include "svg_detail.hpp"

namespace motet::detail {
namespace {

using Json = nlohmann::json;

constexpr int64_t kVisibleSide = 48;  // smaller images are drawn larger, in whole pixels
constexpr int64_t kMaxPagePixels = int64_t{1} << 20;  // of a picture inside a page, before that
constexpr int64_t kPlotted = 256;                     // images behind the two plots

// RFC 4648.
std::string base64(const std::string& bytes) {
  static const char* const kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j) {
      const uint32_t byte = i + j < bytes.size() ? static_cast<uint8_t>(bytes[i + j]) : 0U;
      group |= byte << (16 - 8 * j);
    }
    for (size_t j = 0; j < 4; ++j) {
      text += i + j > bytes.size() ? '=' : kDigits[(group >> (18 - 6 * j)) & 63U];
    }
  }
  return text;
}

Tensor grid_of(const Tensor& images, const PictureConfig& pictures, int64_t num_columns) {
  const int64_t side = std::max(images.size(2), images.size(3));
  const int64_t factor = std::max<int64_t>(1, (kVisibleSide + side - 1) / side);
  return enlarged(image_grid(pixels_of(images, pictures.low, pictures.high), num_columns), factor);
}

std::string embedded(const Tensor& pixels, const std::string& text) {
  return "<img alt=\"" + escape(text) + "\" width=\"" + std::to_string(pixels.size(2)) +
         "\" height=\"" + std::to_string(pixels.size(1)) + "\" src=\"data:image/png;base64," +
         base64(png_bytes(pixels)) + "\">\n";
}

// As many of the first images as a page can hold.
Tensor fitting(const Tensor& images, int64_t wanted) {
  const int64_t most = std::max<int64_t>(1, kMaxPagePixels / images[0].numel());
  return images.narrow(0, 0, std::min({images.size(0), wanted, most}));
}

std::string samples_part(const ImageRow& row, const PictureConfig& pictures) {
  const Tensor shown = fitting(row.run->samples, pictures.num_images);
  const std::string what = "the first " + std::to_string(shown.size(0)) + " samples";
  const std::string weights = row.run->log_weights.defined() ? "; their weights are not shown" : "";
  return "<figure><figcaption>" + escape(row.name) + ": " + what + weights +
         "</figcaption><div class=\"wide\">" +
         embedded(grid_of(shown, pictures, pictures.num_columns), what) + "</div></figure>\n";
}

std::string evolution_part(const RunReport& run, const PictureConfig& pictures) {
  if (!run.evolution.defined()) {
    return "";
  }
  const int64_t stages = run.evolution.size(0);
  const int64_t most = kMaxPagePixels / (stages * run.evolution[0][0].numel());
  const int64_t chains = std::clamp<int64_t>(most, 1, run.evolution.size(1));
  const Tensor rows = run.evolution.narrow(1, 0, chains).transpose(0, 1).flatten(0, 1);
  std::string levels;
  for (const int64_t level : run.evolution_levels) {
    levels += (levels.empty() ? "" : ", ") + (level < 0 ? "the sample" : std::to_string(level));
  }
  return "<h2>On the way</h2>\n<figure><figcaption>a chain a row, on entering levels " + levels +
         "</figcaption><div class=\"wide\">" +
         embedded(grid_of(rows, pictures, stages), "first chains at several noise levels") +
         "</div></figure>\n";
}

std::string spectrum_part(const std::vector<ImageRow>& rows) {
  std::vector<Curve> curves;
  for (const ImageRow& row : rows) {
    const Json images = row.json->value("images", Json());
    if (!images.is_object()) {
      continue;
    }
    Curve curve{row.name, {}, images.at("power_spectrum").get<std::vector<double>>()};
    for (size_t i = 0; i < curve.y.size(); ++i) {
      curve.x.push_back(static_cast<double>(i + 1));
    }
    curves.push_back(std::move(curve));
  }
  return curves.empty()
             ? ""
             : "<div class=\"wide\">" +
                   line_svg("Power of spatial frequencies", "mean of |F|^2 over the pixels' number",
                            curves, YAxis::logarithmic, "cycles an image") +
                   "</div>\n<p class=\"quiet\">A tail that flattens at high frequencies is noise "
                   "that is left; one that falls below the data's is blur.</p>\n";
}

}  // namespace

Tensor picture_of(const Tensor& samples, const PictureConfig& pictures) {
  const int64_t count = std::min(samples.size(0), pictures.num_images);
  return grid_of(samples.narrow(0, 0, count), pictures, pictures.num_columns);
}

std::string images_section(const std::vector<ImageRow>& rows) {
  std::string out;
  for (const ImageRow& row : rows) {
    out += samples_part(row, row.pictures);
  }
  if (rows.size() == 1) {
    out += evolution_part(*rows.front().run, rows.front().pictures);
  }
  out += "<h2>Values and frequencies</h2>\n";
  for (const ImageRow& row : rows) {
    const Tensor some = fitting(row.run->samples, kPlotted);
    out += "<div class=\"wide\">" +
           histogram_svg(row.name + ": values", "value of a pixel", some, "pixels") + "</div>\n";
  }
  return out + spectrum_part(rows);
}

}  // namespace motet::detail
