// Charts as inline SVG with their captions in HTML: shapes stretch with the page, text does not. Each has a title and a
// description for those who do not see it.
//
// Pure. Captions are plain text, which is escaped here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "job/row_tally.hpp"

namespace flexgen {

/// What a chart says in words.
struct ChartText {
  std::string name;    // left above the chart
  std::string figure;  // right above it: "97 %"
  std::string detail;  // the description
};

/// An area in steps: values[i], 0 .. 1 of the height, between edges[i] and edges[i + 1].
/// @param tone  1 .. 4: colours of the style
std::string step_chart(const std::vector<double>& edges, const std::vector<double>& values, int tone,
                       const ChartText& text);
/// The time below charts of that many seconds.
std::string time_axis(double seconds);
/// Bars of equal width, with the lengths below.
std::string histogram(const LengthDistribution& lengths, int tone, const ChartText& text);
/// Shares of a whole, 0 .. 1, as bars over each other: from the widest, which is the palest, to the narrowest.
std::string share_bar(double widest, double narrowest, const ChartText& text);

}  // namespace flexgen
