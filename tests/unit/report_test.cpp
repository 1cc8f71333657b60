// Pictures and pages: what is drawn, what is counted, what is escaped.
#include "motet/report.hpp"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <limits>

#include "motet/error.hpp"
#include "support/throw_message.hpp"
#include "svg_detail.hpp"

namespace motet {
namespace {

int64_t count(const std::string& text, const std::string& part) {
  int64_t number = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++number;
  }
  return number;
}

const View kSquare{-1.0, 1.0, -1.0, 1.0};

TEST(Ticks, AreRoundAndCoverTheInterval) {
  EXPECT_EQ(detail::nice_ticks(-1.0, 1.0, 4), (std::vector<double>{-1.0, -0.5, 0.0, 0.5, 1.0}));
  EXPECT_EQ(detail::nice_ticks(0.0, 99.0, 5), (std::vector<double>{0.0, 20.0, 40.0, 60.0, 80.0}));
  EXPECT_TRUE(detail::nice_ticks(1.0, 1.0, 5).empty());
}

TEST(Ticks, EndWhereDoublesAreFarApart) {
  const double wide = std::numeric_limits<double>::max();
  EXPECT_EQ(detail::nice_ticks(1e16, 1e16 + 4.0, 5),
            (std::vector<double>{1e16, 1e16 + 2.0, 1e16 + 4.0}));
  EXPECT_TRUE(detail::nice_ticks(-wide, wide, 5).empty());
  EXPECT_LE(detail::nice_ticks(0.0, 5e-324, 5).size(), 6U);
}

TEST(Ticks, AreWrittenAsPrintfDoes) {
  EXPECT_EQ(detail::tick_text(0.5), "0.5");
  EXPECT_EQ(detail::tick_text(1e-5), "1e-05");
  EXPECT_EQ(detail::tick_text(1234567.0), "1.23457e+06");
  EXPECT_EQ(detail::tick_text(-100.0), "-100");
}

TEST(Chart, RefusesCurvesWithMoreXThanY) {
  EXPECT_THROW_MSG(line_svg("t", "y", {{"a", {0.0, 1.0}, {0.5}}}), ShapeError,
                   "svg: curve \"a\" has 2 x and 1 y, must have as many");
}

TEST(Report, RefusesNoRuns) {
  EXPECT_THROW_MSG(sample_report({}), ConfigError,
                   "report: sample_report() of no runs; give at least one");
}

TEST(Pixels, HaveNoTrailingZeros) {
  EXPECT_EQ(detail::pixels(12.0), "12");
  EXPECT_EQ(detail::pixels(100.04), "100");
  EXPECT_EQ(detail::pixels(0.25), "0.25");
  EXPECT_EQ(detail::pixels(-0.001), "0");
  EXPECT_EQ(detail::pixels(1e300).size(), 301U);
}

TEST(Scatter, DrawsEveryPointInsideAndCountsTheOthers) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Tensor points =
      at::tensor({0.0, 0.0, 0.5, 0.5, 3.0, 0.0, nan, 0.0}, at::kDouble).view({4, 2});
  const std::string svg =
      scatter_svg({{.title = "one", .caption = "", .layers = {{points, "samples"}}}}, kSquare, 1);
  EXPECT_EQ(count(svg, "h0"), 2);
  EXPECT_EQ(count(svg, ">2 outside the view<"), 1);
}

TEST(Scatter, EscapesTitles) {
  const std::string svg =
      scatter_svg({{.title = "a < b & \"c\"", .caption = "", .layers = {}}}, kSquare, 1);
  EXPECT_EQ(count(svg, "a &lt; b &amp; &quot;c&quot;"), 2);  // the title and the label
  EXPECT_EQ(count(svg, "a < b"), 0);
}

TEST(Scatter, IsTheSameTextForTheSamePoints) {
  const Tensor points = at::linspace(-1, 1, 600, at::kFloat).view({300, 2});
  const std::vector<ScatterPanel> panels = {{"p", "", {{points, "samples"}}}};
  EXPECT_EQ(scatter_svg(panels, kSquare, 2), scatter_svg(panels, kSquare, 2));
}

TEST(Scatter, RefusesOtherShapes) {
  const std::vector<ScatterPanel> panels = {{"p", "", {{at::zeros({4, 3}), "samples"}}}};
  EXPECT_THROW_MSG(scatter_svg(panels, kSquare, 1), ShapeError,
                   "svg: points of shape [4, 3], must be (N, 2)");
  EXPECT_THROW_MSG(scatter_svg({}, kSquare, 0), ConfigError,
                   "svg: scatter_svg(0 panels, num_columns = 0): both must be >= 1");
}

TEST(View, LeavesAStrayPointOut) {
  Tensor points = at::full({1000, 2}, 0.5, at::kDouble);
  points[0].fill_(1e6);
  EXPECT_DOUBLE_EQ(view_of({points}).high_x, 0.55);
}

TEST(Lines, BreakAtGapsAndRunFromHighNoiseToLow) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::string svg = line_svg("t", "y", {{"c", {9.0, 5.0, 2.0, 0.0}, {0.5, nan, 0.6, 0.7}}});
  const size_t begin = svg.find("class=\"curve c0\" d=\"") + 20;
  const std::string path = svg.substr(begin, svg.find('"', begin) - begin);
  EXPECT_EQ(count(path, "M"), 2);
  EXPECT_EQ(count(path, "L"), 1);
  EXPECT_EQ(path.substr(0, 3), "M54");  // level 9 at the left edge
}

TEST(Intervals, DrawBothBarsThePartsAndTheExactTick) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::string svg =
      interval_svg("t", "c < d",
                   {{"one", 0.5, 0.1, 0.2, {0.3, 0.7, nan}, 0.6}, {"two", 0.4, 0.1, nan, {}, nan}});
  EXPECT_EQ(count(svg, "class=\"inner\""), 2);
  EXPECT_EQ(count(svg, "class=\"outer\""), 1);
  EXPECT_EQ(count(svg, "class=\"exact\""), 1);
  EXPECT_EQ(count(svg, "h0"), 2 + 2);  // two parts, two values
  EXPECT_EQ(count(svg, "c &lt; d"), 1);
  EXPECT_THROW_MSG(interval_svg("t", "c", {}), ConfigError,
                   "svg: interval_svg() of no rows; give at least one");
}

TEST(Citations, RefuseOtherJson) {
  EXPECT_THROW_MSG(citations("[1]", "f.json"), DataError,
                   "cite: f.json: not the JSON of a sampling run; give a file written by motet "
                   "sample --json");
  EXPECT_THROW_MSG(citations("{", "f.json"), DataError,
                   "cite: f.json: not the JSON of a sampling run; give a file written by motet "
                   "sample --json");
}

}  // namespace
}  // namespace motet
