// What a pass of a job is planned by: the first of the rows that wait. Where others follow, room may be made for those,
// too: for one as long as the model takes it, for what earlier rows asked for, and for whatever takes little.
//
// Not changed any more once others are read: then `cover` may be asked by another thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "run/rows/common_beginnings.hpp"
#include "run/rows/open_row.hpp"
#include "spec/model_spec.hpp"
#include "spec/policy.hpp"

namespace flexgen {

/// What a row asks of a plan: the shape of a job that has it alone.
JobShape needs_of(const OpenRow& row);
/// A plan that is made by one shape has all that a row of such needs wants.
bool covers(const JobShape& plan, const JobShape& needs);
/// What it has not: "log-probabilities of prompts, rows of 300 tokens".
std::string describe_lack(const JobShape& plan, const JobShape& needs);

class PlannedRows {
 public:
  /// Of no rows yet. What others have asked for before stays wanted, where room is made.
  void begin();
  /// Nor does that.
  void forget();
  void add(const OpenRow& row);
  /// Rows follow that are not known yet.
  void expect_more(const ModelSpec& model);

  const JobShape& shape() const { return shape_; }
  std::size_t num_rows() const { return num_rows_; }  // of the input
  bool has_room_for_others() const { return is_open_; }
  bool cover(const OpenRow& row) const { return covers(shape_, needs_of(row)); }

 private:
  JobShape shape_;
  std::size_t num_rows_ = 0;
  bool is_open_ = false;           // others are expected
  bool wants_scores_ = false;      // a row of any pass
  SamplingShape wanted_sampling_;  // of all of them
  CommonBeginnings beginnings_;
};

}  // namespace flexgen
