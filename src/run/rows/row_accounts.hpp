// What became of a job's rows, in earlier runs and in this one. Those that fail get their line at once, and too many of
// them end the job.
//
// Refers to its writer. Single-threaded.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "job/output/result_writer.hpp"
#include "job/row_tally.hpp"
#include "run/rows/error_limit.hpp"

namespace flexgen {

class RowAccounts {
 public:
  /// @param writer  null: nobody wants lines, and there is no earlier run
  RowAccounts(ResultWriter* writer, ErrorLimit limit)
      : writer_(writer), limit_(limit), earlier_(writer ? writer->totals() : RowTotals{}) {}

  /// From now on `on_input_error` is told of rows that cannot run, as add_unread gets them.
  void start(std::function<void()> on_input_error) { on_input_error_ = std::move(on_input_error); }

  /// @param num_rows  of the job so far, this one included. Throws UserError (rows_failed) where too many have failed.
  void add(const RowError& error, std::uint64_t num_rows);
  /// One that never got to run.
  void add_unread(const RowError& error, std::uint64_t num_rows);
  /// A sequence that has ended.
  void add_sequence(std::uint64_t num_prompt_tokens, std::uint64_t num_generated_tokens) {
    tally_.add_sequence(num_prompt_tokens, num_generated_tokens);
  }

  /// That have failed, in earlier runs, too.
  std::uint64_t num_failed() const { return earlier_.failed_rows + tally_.num_errors(); }
  const RowTotals& earlier() const { return earlier_; }
  /// This run's.
  const RowTally& tally() const { return tally_; }

 private:
  ResultWriter* writer_;
  ErrorLimit limit_;
  RowTotals earlier_;
  RowTally tally_;
  std::function<void()> on_input_error_;
};

}  // namespace flexgen
