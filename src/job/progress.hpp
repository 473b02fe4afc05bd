// One line about how far a job is, for people:
//   "rows 312/1200 (1 failed)  tokens/s 812 now, 790 overall  eta 0:43  busiest disk_read 97 %".
//
// Shown on stderr: rewritten in place every 0.2 s on a terminal that can, as wide as that is at the moment; a line of
// its own every 30 s elsewhere. No colours. Thread-safety: none; one thread shows. Sink and width are injected.
#pragma once

#include <cstddef>
#include <functional>
#include <limits>
#include <string>
#include <string_view>

#include "job/live_figures.hpp"

namespace flexgen {

/// Without line ends. Where `max_columns` are too few, what matters least is left out; rows stay.
std::string progress_line(const LiveFigures& figures,
                          std::size_t max_columns = std::numeric_limits<std::size_t>::max());

class ProgressDisplay {
 public:
  enum class Style : std::uint8_t { live, lines, silent };
  using Columns = std::function<std::size_t()>;        // of the terminal, asked for each time
  using Sink = std::function<void(std::string_view)>;  // takes text as it is, newlines and carriage returns included

  ProgressDisplay(Style style, Columns columns, Sink sink);
  /// To stderr: live on a terminal whose TERM is not "dumb". Quiet: silent.
  static ProgressDisplay to_stderr(bool is_quiet);

  /// Shows the line if it is due.
  /// @param now_seconds  monotonic
  void show(const LiveFigures& figures, double now_seconds);
  /// Shows the final state on a line of its own, always.
  void finish(const LiveFigures& figures);
  /// Of a job that goes wrong: what is written next begins a line of its own.
  void leave();

 private:
  std::string in_place(const LiveFigures& figures);

  Style style_;
  Columns columns_;
  Sink sink_;
  double next_show_seconds_ = -1;  // below 0: the first call decides
  std::size_t shown_columns_ = 0;  // of the line that stands there
};

}  // namespace flexgen
