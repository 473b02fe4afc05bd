// Where the rows of a job come from: pulled one by one, as places become free, so that a source need not have all of
// them ready. A source may have rows again after it had none, as long as rows of it are on their way: one that ends may
// bring another. One thread at a time.
#pragma once

#include <cstdint>
#include <optional>

#include "batch/row.hpp"

namespace flexgen {

class RowSource {
 public:
  virtual ~RowSource() = default;

  /// The next row, in the order of the job, after waiting for it; none: there is no more but what rows that end bring.
  virtual std::optional<RowRequest> next_row() = 0;
  /// Rows that next_row would give now; none: nobody knows.
  virtual std::optional<std::int64_t> num_left() const = 0;
};

}  // namespace flexgen
