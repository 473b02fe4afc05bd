#include "job/progress.hpp"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>
#include <vector>

#include "base/log_line.hpp"
#include "job/file_descriptor.hpp"

namespace flexgen {
namespace {

constexpr double live_interval_seconds = 0.2;
constexpr double line_interval_seconds = 30.0;
constexpr double binding_fraction = 0.8;  // a resource that is in use so much of the time binds

/// "0:43", "12:05", "3:07:09".
std::string clock_text(double seconds) {
  const auto whole = static_cast<std::uint64_t>(std::ceil(seconds));
  const std::uint64_t hours = whole / 3600, minutes = whole / 60 % 60;
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, whole % 60);
  return fmt::format("{}:{:02}", minutes, whole % 60);
}

/// Three digits matter: a weak box makes 0.35 tokens a second, a strong one thousands.
std::string rate_text(double rate) {
  if (rate >= 100) return fmt::format("{:.0f}", rate);
  return rate >= 10 ? fmt::format("{:.1f}", rate) : fmt::format("{:.2f}", rate);
}

/// Three digits of an estimate: "1180000".
std::string about_text(double number) {
  const double grain = std::pow(10, std::max(0.0, std::floor(std::log10(std::max(number, 1.0))) - 2));
  return fmt::format("{:.0f}", std::round(number / grain) * grain);
}

/// "~": the end of the input has not been seen.
std::string rows_text(const LiveValues& counts) {
  std::string text = fmt::format("rows {}", counts.rows);
  if (counts.total_rows) text += fmt::format("/{}", *counts.total_rows);
  else if (const auto expected = counts.expected_rows()) text += "/~" + about_text(*expected);
  if (counts.failed_rows > 0) text += fmt::format(" ({} failed)", counts.failed_rows);
  return text;
}

std::string rates_text(const LiveFigures& figures) {
  if (figures.counts.tokens == 0 || figures.run_seconds <= 0) return "";
  const std::string overall = rate_text(figures.tokens_per_second());
  if (figures.phase == JobPhase::done) return "tokens/s " + overall;
  return fmt::format("tokens/s {} now, {} overall", rate_text(figures.recent_tokens_per_second), overall);
}

/// Measured, not reckoned: what is in use nearly all the time binds; of less than that it is only said that nothing is
/// busier. Other ranks are not seen.
std::string busiest_text(const LiveFigures& figures) {
  if (!figures.busiest || figures.phase == JobPhase::done) return "";
  return fmt::format("{}{} {} {:.0f} %", figures.num_ranks > 1 ? "rank 0 " : "",
                     figures.busiest_fraction >= binding_fraction ? "bound by" : "busiest",
                     resource_name(*figures.busiest), 100 * figures.busiest_fraction);
}

std::string time_text(const LiveFigures& figures) {
  if (figures.phase == JobPhase::done || figures.counts.is_complete()) return "time " + clock_text(figures.run_seconds);
  const auto eta = figures.eta_seconds();
  return eta ? "eta " + clock_text(*eta) : "";
}

std::size_t terminal_columns() {
  winsize size{};
  const bool is_known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return is_known ? size.ws_col : 80;
}

bool can_rewrite_lines() {
  const char* term = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) == 1 && term != nullptr && *term != '\0' && std::string_view(term) != "dumb";
}

}  // namespace

std::string progress_line(const LiveFigures& figures, std::size_t max_columns) {
  std::string text = rows_text(figures.counts);
  const std::string time = time_text(figures), rates = rates_text(figures), busiest = busiest_text(figures);
  // In the order in which they are shown; the time matters more than what stands before it.
  const auto joined = [&](const std::vector<std::string>& parts) {
    std::string line = text;
    for (const std::string& part : parts)
      if (!part.empty()) line += "  " + part;
    return line;
  };
  for (const std::vector<std::string>& parts :
       {std::vector{rates, time, busiest}, std::vector{rates, time}, std::vector{time}})
    if (std::string line = joined(parts); line.size() <= max_columns) return line;
  return text.substr(0, max_columns);
}

ProgressDisplay::ProgressDisplay(Style style, Columns columns, Sink sink)
    : style_(style), columns_(std::move(columns)), sink_(std::move(sink)) {}

ProgressDisplay ProgressDisplay::to_stderr(bool is_quiet) {
  const Style style = is_quiet ? Style::silent : can_rewrite_lines() ? Style::live : Style::lines;
  // Lost progress is no reason to end a job: errors are dropped.
  return {style, terminal_columns, [](std::string_view text) { write_fully(STDERR_FILENO, text); }};
}

void ProgressDisplay::show(const LiveFigures& figures, double now_seconds) {
  if (style_ == Style::silent) return;
  // A terminal shows the first line at once; a log is spared the jobs that are over in a moment.
  if (next_show_seconds_ < 0) next_show_seconds_ = now_seconds + (style_ == Style::live ? 0 : line_interval_seconds);
  if (now_seconds < next_show_seconds_) return;
  next_show_seconds_ = now_seconds + (style_ == Style::live ? live_interval_seconds : line_interval_seconds);
  sink_(style_ == Style::live ? in_place(figures) : progress_line(figures) + "\n");
}

void ProgressDisplay::finish(const LiveFigures& figures) {
  if (style_ == Style::silent) return;
  sink_(style_ == Style::live ? in_place(figures) + "\n" : progress_line(figures) + "\n");
  log::end_open_line();
}

void ProgressDisplay::leave() {
  if (std::exchange(shown_columns_, 0) > 0) sink_("\n");
  log::end_open_line();
}

// The last column stays free: some terminals begin a new line there. A terminal that has become narrower has broken
// the line that stands there into several, all of which go.
std::string ProgressDisplay::in_place(const LiveFigures& figures) {
  const std::size_t columns = std::max<std::size_t>(columns_(), 2);
  const std::size_t lines_above = shown_columns_ > 0 ? (shown_columns_ - 1) / columns : 0;
  const std::string text = progress_line(figures, columns - 1);
  shown_columns_ = text.size();
  log::begin_open_line();
  const std::string up = lines_above > 0 ? fmt::format("\x1b[{}A", lines_above) : "";
  return fmt::format("{}\r{}\x1b[{}", up, text, lines_above > 0 ? "J" : "K");
}

}  // namespace flexgen
