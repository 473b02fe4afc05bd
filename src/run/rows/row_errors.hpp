// The rows of a job that fail: each gets its line at once, and too many of them end the job.
//
// Refers to its writer and tally. Single-threaded.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "job/report.hpp"
#include "job/output/result_writer.hpp"
#include "job/row_tally.hpp"
#include "run/rows/error_limit.hpp"

namespace flexgen {

class RowErrors {
 public:
  /// @param writer  null: nobody wants lines
  /// @param tally        counts them
  /// @param num_earlier  that have failed in earlier runs
  RowErrors(ResultWriter* writer, ErrorLimit limit, RowTally& tally, std::uint64_t num_earlier = 0)
      : writer_(writer), limit_(limit), tally_(tally), num_earlier_(num_earlier) {}

  /// From now on `on_input_error` is told of rows that cannot run, as add_unread gets them.
  void start(std::function<void()> on_input_error) { on_input_error_ = std::move(on_input_error); }

  /// @param num_rows  of the job so far, this one included. Throws UserError (rows_failed) where too many have failed.
  void add(const RowError& error, std::uint64_t num_rows);
  /// One that never got to run.
  void add_unread(const RowError& error, std::uint64_t num_rows);

  std::uint64_t count() const { return num_earlier_ + tally_.num_errors(); }

 private:
  ResultWriter* writer_;
  ErrorLimit limit_;
  RowTally& tally_;
  std::uint64_t num_earlier_;
  std::function<void()> on_input_error_;
};

}  // namespace flexgen
