// Where the rows of a job come from: pulled one by one, as places become free, so that a source need not have all of
// them ready. One thread at a time.
#pragma once

#include <cstdint>
#include <optional>

#include "batch/row.hpp"

namespace flexgen {

class RowSource {
 public:
  virtual ~RowSource() = default;

  /// The next row, in the order of the job; none: there are no more, now and ever after.
  virtual std::optional<RowRequest> next_row() = 0;
  /// Rows that next_row has yet to give; none: nobody knows.
  virtual std::optional<std::int64_t> num_left() const = 0;
};

}  // namespace flexgen
