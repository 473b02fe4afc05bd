// The rows of a job as whoever drives it sees them: in passes, each with a plan of its own. Nearly all jobs have one.
//
// A plan holds what its rows ask for. Rows that need more wait until the others have run, and then are planned anew,
// with all that follow. Rank 0's. Between passes single-threaded.
#pragma once

#include <string>

#include "batch/row_source.hpp"
#include "spec/policy.hpp"

namespace flexgen {

class JobRows : public RowSource {
 public:
  /// What the pass that is next is to be planned by.
  virtual JobShape shape() const = 0;
  /// No plan for that fits the machine: has `shape` ask for less, or gives up a row. False: nothing else can be done.
  /// @param misfit  what does not fit, for the result of such a row
  virtual bool plan_by_less(const std::string& misfit) {
    static_cast<void>(misfit);
    return false;
  }
  /// next_row has no more, and all that ran has ended. False: there are no others.
  virtual bool begin_pass() { return false; }
};

}  // namespace flexgen
