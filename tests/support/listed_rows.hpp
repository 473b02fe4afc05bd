// Rows that are all there: a row source for jobs that are made up.
#pragma once

#include <deque>
#include <utility>

#include "batch/row_source.hpp"

namespace flexgen::test {

class ListedRows final : public RowSource {
 public:
  explicit ListedRows(std::deque<RowRequest> rows) : rows_(std::move(rows)) {}

  std::optional<RowRequest> next_row() override {
    if (rows_.empty()) return std::nullopt;
    RowRequest first = std::move(rows_.front());
    rows_.pop_front();
    return first;
  }
  std::optional<std::int64_t> num_left() const override { return std::ssize(rows_); }

 private:
  std::deque<RowRequest> rows_;
};

/// Knows neither how many rows come nor whether another does, before it is asked for one.
class UnknownRows final : public RowSource {
 public:
  explicit UnknownRows(std::deque<RowRequest> rows) : rows_(std::move(rows)) {}
  std::optional<RowRequest> next_row() override {
    std::optional<RowRequest> row = rows_.next_row();
    num_pulled += row ? 1 : 0;
    return row;
  }
  std::optional<std::int64_t> num_left() const override { return std::nullopt; }

  std::size_t num_pulled = 0;

 private:
  ListedRows rows_;
};

}  // namespace flexgen::test
