#include "job/page/charts.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "job/page/html_text.hpp"

namespace flexgen {
namespace {

constexpr double width = 1000, height = 100;  // of every chart, before it is stretched

/// @param shapes  SVG
std::string figure(const ChartText& text, std::string_view kind, std::string_view shapes) {
  return fmt::format(
      "<figure class=\"{0}\"><figcaption><span>{1}</span><span>{2}</span></figcaption>"
      "<svg viewBox=\"0 0 {3} {4}\" preserveAspectRatio=\"none\" role=\"img\">"
      "<title>{1}: {2}</title><desc>{5}</desc>{6}</svg></figure>\n",
      kind, html_escaped(text.name), html_escaped(text.figure), width, height, html_escaped(text.detail), shapes);
}

double clamped(double share) { return std::clamp(share, 0.0, 1.0); }

}  // namespace

std::string step_chart(const std::vector<double>& edges, const std::vector<double>& values, int tone,
                       const ChartText& text) {
  std::string path;
  if (!values.empty() && edges.back() > edges.front()) {
    const double scale = width / (edges.back() - edges.front());
    path = fmt::format("M0 {:.0f}", height);
    for (std::size_t i = 0; i < values.size(); ++i)
      path += fmt::format("V{:.1f}H{:.1f}", height * (1 - clamped(values[i])), scale * (edges[i + 1] - edges.front()));
    path += fmt::format("V{:.0f}Z", height);
  }
  return figure(text, "strip", fmt::format("<path class=\"tone{}\" d=\"{}\"/>", tone, path));
}

std::string time_axis(double seconds) {
  std::string marks;
  for (int i = 0; i <= 4; ++i) marks += fmt::format("<span>{}</span>", i == 0 ? "0" : duration_text(seconds * i / 4));
  return "<div class=\"axis\" aria-hidden=\"true\">" + marks + "</div>\n";
}

std::string histogram(const LengthDistribution& lengths, int tone, const ChartText& text) {
  std::string bars;
  const std::uint64_t most = lengths.bins.empty() ? 0 : *std::ranges::max_element(lengths.bins);
  const double step = lengths.bins.empty() ? width : width / static_cast<double>(lengths.bins.size());
  for (std::size_t i = 0; i < lengths.bins.size(); ++i) {
    if (lengths.bins[i] == 0) continue;
    // A bar of one among millions is still seen.
    const double share = std::max(0.01, static_cast<double>(lengths.bins[i]) / static_cast<double>(most));
    bars += fmt::format("<rect class=\"tone{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>", tone,
                        step * static_cast<double>(i) + 0.05 * step, height * (1 - share), 0.9 * step, height * share);
  }
  const std::uint64_t end = lengths.first + lengths.bin_tokens * lengths.bins.size();
  return figure(text, "tall", bars) +
         fmt::format(
             "<div class=\"axis\" aria-hidden=\"true\"><span>{}</span><span>tokens</span><span>{}</span></div>\n",
             grouped(lengths.first), grouped(end));
}

std::string share_bar(double widest, double narrowest, const ChartText& text) {
  const auto bar = [](double share, const char* style) {
    return fmt::format("<rect class=\"{}\" width=\"{:.1f}\" height=\"{}\"/>", style, width * clamped(share), height);
  };
  return figure(text, "bar", bar(widest, "pale") + bar(narrowest, "tone1"));
}

}  // namespace flexgen
