// The rows of a source that wait for a place: whether there is another is known before it is taken, for the first
// weights of a sweep are loaded early where one follows. At most one row is pulled ahead of its place.
//
// Refers to its source. Single-threaded.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "base/error.hpp"
#include "batch/row_source.hpp"

namespace flexgen {

class WaitingRows {
 public:
  explicit WaitingRows(RowSource& source) : source_(source) {}

  bool any() {
    if (!ahead_) ahead_ = source_.next_row();
    return ahead_.has_value();
  }

  /// The first of them; there must be one.
  RowRequest take() {
    FLEXGEN_CHECK(any(), "a row was taken where none waits");
    return *std::exchange(ahead_, std::nullopt);
  }

  /// None: the source does not know.
  std::optional<std::int64_t> count() const {
    const std::optional<std::int64_t> left = source_.num_left();
    return left ? std::optional(*left + (ahead_ ? 1 : 0)) : std::nullopt;
  }

 private:
  RowSource& source_;
  std::optional<RowRequest> ahead_;
};

}  // namespace flexgen
