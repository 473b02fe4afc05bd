// What a job has done so far, counted where it is done and read by whoever watches: the progress line, metrics.
//
// Rank 0's. Thread-safe: counting is one relaxed atomic addition, for the engine's path; a reading is no single moment.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

namespace flexgen {

/// A reading.
struct LiveValues {
  std::uint64_t rows = 0;                     // that have their result, failed ones included
  std::uint64_t failed_rows = 0;              // of them
  std::uint64_t earlier_rows = 0;             // of `rows`, those that cost this run nothing
  std::uint64_t tokens = 0;                   // generated, or scored
  std::uint64_t prompt_tokens = 0;            // read by sweeps
  std::uint64_t sweeps = 0;                   // done
  std::optional<std::uint64_t> total_rows;    // none: the input's end has not been seen
  std::optional<std::uint64_t> total_tokens;  // most that can be generated
  double fraction_read = 0;                   // of the input's bytes, 0 .. 1; 0: unknown
  std::uint64_t rows_read = 0;                // in that fraction

  /// The total, or what the part of the input that has been read lets one expect; none: nothing is known.
  std::optional<double> expected_rows() const;
  /// Share of this run's work that is done, 0 .. 1: of rows or of tokens, whichever is further. None: unknown.
  std::optional<double> done_share() const;
  bool is_complete() const { return total_rows && rows >= *total_rows; }
};

class LiveCounts {
 public:
  /// None: unknown.
  void set_total_rows(std::optional<std::uint64_t> num_rows);
  void set_total_tokens(std::optional<std::uint64_t> num_tokens);
  /// While the total is unknown: `num_rows` rows stood in this fraction of the input's bytes, 0 .. 1.
  void set_fraction_read(double fraction, std::uint64_t num_rows);

  /// One row has its result (or, `failed`, its error).
  void add_row(bool failed = false);
  /// Rows that were done without this run's sweeps: bad ones, and those of a run before. They say nothing of its pace.
  void add_earlier_rows(std::uint64_t num_rows, std::uint64_t num_failed);
  void add_tokens(std::uint64_t num_tokens) { add(tokens_, num_tokens); }
  void add_sweep(std::uint64_t num_prompt_tokens);

  LiveValues values() const;

 private:
  using Count = std::atomic<std::uint64_t>;
  static constexpr std::uint64_t unknown = ~std::uint64_t{0};

  static void add(Count& count, std::uint64_t more) { count.fetch_add(more, std::memory_order_relaxed); }
  static std::optional<std::uint64_t> known(const Count& count);

  Count ok_rows_ = 0, failed_rows_ = 0, earlier_rows_ = 0, tokens_ = 0, prompt_tokens_ = 0, sweeps_ = 0;
  Count total_rows_ = unknown, total_tokens_ = unknown, rows_read_ = 0;
  std::atomic<double> fraction_read_ = 0;
};

}  // namespace flexgen
