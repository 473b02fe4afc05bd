// What the progress of a job is told of its input: how many rows there are, once all are read; before that how many to
// expect, where that can be told.
//
// Refers to its progress. Single-threaded.
#pragma once

#include <cstdint>
#include <optional>

#include "job/progress.hpp"

namespace flexgen {

class InputTotals {
 public:
  /// @param total_tokens  of the rows that are read by now: said where these are all
  template <class Book>
  InputTotals(const Book& book, std::uint64_t total_tokens, Progress& progress) : progress_(progress) {
    if (book.num_rows()) progress_.set_totals(book.num_rows(), total_tokens);
    are_known_ = book.num_rows().has_value();
  }

  template <class Book>
  void update(const Book& book) {
    if (are_known_) return;
    are_known_ = book.num_rows().has_value();
    if (are_known_) progress_.set_totals(book.num_rows());
    else progress_.set_expected_rows(book.expected_rows());
  }

 private:
  Progress& progress_;
  bool are_known_ = false;
};

}  // namespace flexgen
