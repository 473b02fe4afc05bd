// One line about how far a job is, for people: "decode  rows 312/1200 (1 failed)  tokens/s 812  eta 0:43".
//
// Shown by rank 0 on stderr: rewritten in place every 0.2 s on a terminal, a line of its own every 5 s elsewhere.
// Thread-safe: all calls lock; a call that shows nothing costs one clock reading. Clock and sink are injected.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

namespace flexgen {

struct ProgressOptions {
  std::optional<std::size_t> total_rows;      // unknown while the input is still being read
  std::optional<std::uint64_t> total_tokens;  // most that can be generated; refines the eta between finished rows
  bool is_terminal = false;
};

class Progress {
 public:
  using Clock = std::function<double()>;               // seconds, monotonic
  using Sink = std::function<void(std::string_view)>;  // takes text as it is, newlines and carriage returns included

  /// The job's clock starts here.
  Progress(ProgressOptions options, Clock clock, Sink sink);
  /// To stderr, on the real clock; a terminal is recognised. Quiet: counts, and shows nothing.
  static std::unique_ptr<Progress> to_stderr(std::optional<std::size_t> total_rows,
                                             std::optional<std::uint64_t> total_tokens = {}, bool is_quiet = false);

  void set_totals(std::optional<std::size_t> total_rows, std::optional<std::uint64_t> total_tokens = {});
  /// While the total is unknown: how many rows there may be, for the eta alone.
  void set_expected_rows(std::optional<double> rows);
  /// "load", "prefill", "decode": shown in front until the next call.
  void set_phase(std::string_view phase);
  /// One row has its result (or, `failed`, its error).
  void add_row(bool failed = false);
  void add_tokens(std::uint64_t num_generated);
  /// Shows the line if it is due.
  void refresh();
  /// Shows the final state on a line of its own, always.
  void finish();

  /// The line as it would be shown now, without line ends.
  std::string line() const;

 private:
  void show_if_due();
  std::string compose(double now_seconds) const;
  std::optional<double> eta_seconds(double elapsed_seconds) const;

  mutable std::mutex mutex_;
  ProgressOptions options_;
  Clock clock_;
  Sink sink_;
  std::optional<double> expected_rows_;
  double start_seconds_;
  double next_show_seconds_;
  std::string phase_;
  std::size_t num_rows_ = 0;  // finished, failed ones included
  std::size_t num_failed_ = 0;
  std::uint64_t num_tokens_ = 0;
};

}  // namespace flexgen
