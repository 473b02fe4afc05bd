// What those who watch a job are told of its input: how many rows there are, once all are read; before that how much of
// it was read, where that can be told.
//
// Refers to the job's counts. Single-threaded.
#pragma once

#include <cstdint>
#include <optional>

#include "job/live_counts.hpp"

namespace flexgen {

class InputTotals {
 public:
  /// @param total_tokens  of the rows that are read by now: said where these are all
  template <class Book>
  InputTotals(const Book& book, std::uint64_t total_tokens, LiveCounts& counts) : counts_(counts) {
    update(book);
    if (are_known_) counts_.set_total_tokens(total_tokens);
  }

  template <class Book>
  void update(const Book& book) {
    if (are_known_) return;
    const std::optional<std::size_t> num_rows = book.num_rows();
    are_known_ = num_rows.has_value();
    if (are_known_) counts_.set_total_rows(num_rows);
    else if (const std::optional<double> share = book.share_read()) counts_.set_fraction_read(*share, book.num_read());
  }

 private:
  LiveCounts& counts_;
  bool are_known_ = false;
};

}  // namespace flexgen
