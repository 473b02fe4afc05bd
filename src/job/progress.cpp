#include "job/progress.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "base/trace.hpp"
#include "job/file_descriptor.hpp"

namespace flexgen {
namespace {

constexpr double terminal_interval_seconds = 0.2;
constexpr double line_interval_seconds = 5.0;

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

}  // namespace

Progress::Progress(ProgressOptions options, Clock clock, Sink sink)
    : options_(options), clock_(std::move(clock)), sink_(std::move(sink)), start_seconds_(clock_()) {
  // A terminal shows the first line at once; a log is spared the jobs that are over in a moment.
  next_show_seconds_ = start_seconds_ + (options_.is_terminal ? 0.0 : line_interval_seconds);
}

std::unique_ptr<Progress> Progress::to_stderr(std::optional<std::size_t> total_rows,
                                              std::optional<std::uint64_t> total_tokens, bool is_quiet) {
  return std::make_unique<Progress>(
      ProgressOptions{total_rows, total_tokens, ::isatty(STDERR_FILENO) == 1},
      [] { return static_cast<double>(now_ns()) * 1e-9; },
      // Lost progress is no reason to end a job: errors are dropped.
      [is_quiet](std::string_view text) {
        if (!is_quiet) write_fully(STDERR_FILENO, text);
      });
}

void Progress::set_totals(std::optional<std::size_t> total_rows, std::optional<std::uint64_t> total_tokens) {
  const std::lock_guard lock(mutex_);
  options_.total_rows = total_rows;
  options_.total_tokens = total_tokens;
  show_if_due();
}

void Progress::set_expected_rows(std::optional<double> rows) {
  const std::lock_guard lock(mutex_);
  expected_rows_ = rows;
}

void Progress::set_phase(std::string_view phase) {
  const std::lock_guard lock(mutex_);
  phase_ = phase;
  show_if_due();
}

void Progress::add_row(bool failed) {
  const std::lock_guard lock(mutex_);
  ++num_rows_;
  if (failed) ++num_failed_;
  show_if_due();
}

void Progress::add_tokens(std::uint64_t num_generated) {
  const std::lock_guard lock(mutex_);
  num_tokens_ += num_generated;
  show_if_due();
}

void Progress::refresh() {
  const std::lock_guard lock(mutex_);
  show_if_due();
}

void Progress::finish() {
  const std::lock_guard lock(mutex_);
  const std::string text = compose(clock_());
  sink_(options_.is_terminal ? "\r" + text + "\x1b[K\n" : text + "\n");
}

std::string Progress::line() const {
  const std::lock_guard lock(mutex_);
  return compose(clock_());
}

void Progress::show_if_due() {
  const double now = clock_();
  if (now < next_show_seconds_) return;
  next_show_seconds_ = now + (options_.is_terminal ? terminal_interval_seconds : line_interval_seconds);
  const std::string text = compose(now);
  // On a terminal: back to the first column, and clear what a longer line left behind.
  sink_(options_.is_terminal ? "\r" + text + "\x1b[K" : text + "\n");
}

std::string Progress::compose(double now_seconds) const {
  const double elapsed = now_seconds - start_seconds_;
  std::string text = phase_.empty() ? "" : phase_ + "  ";
  text += fmt::format("rows {}", num_rows_);
  if (options_.total_rows) text += fmt::format("/{}", *options_.total_rows);
  if (num_failed_ > 0) text += fmt::format(" ({} failed)", num_failed_);
  if (num_tokens_ > 0 && elapsed > 0) text += "  tokens/s " + rate_text(static_cast<double>(num_tokens_) / elapsed);
  const bool is_complete = options_.total_rows && num_rows_ >= *options_.total_rows;
  if (is_complete) {
    text += "  time " + clock_text(elapsed);
  } else if (const auto eta = eta_seconds(elapsed)) {
    text += "  eta " + clock_text(*eta);
  }
  return text;
}

/// From the share of rows or of tokens that is done, whichever is further: rows end in bursts, block by block, and
/// token totals are upper limits, since rows stop early.
std::optional<double> Progress::eta_seconds(double elapsed_seconds) const {
  double done = 0;
  if (options_.total_rows && *options_.total_rows > 0)
    done = static_cast<double>(num_rows_) / static_cast<double>(*options_.total_rows);
  else if (!options_.total_rows && expected_rows_ && *expected_rows_ > 0)
    done = std::min(1.0, static_cast<double>(num_rows_) / *expected_rows_);
  if (options_.total_tokens && *options_.total_tokens > 0)
    done = std::max(done, static_cast<double>(num_tokens_) / static_cast<double>(*options_.total_tokens));
  if (done <= 0 || elapsed_seconds <= 0) return std::nullopt;
  return std::max(0.0, elapsed_seconds * (1 - done) / done);
}

}  // namespace flexgen
