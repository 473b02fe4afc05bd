// What a job is planned by: the rows of its window. Where others follow, one more is counted, as long as the model
// takes it, and room is made for whatever a row may ask for beside its tokens, as far as that takes little.
//
// Not changed any more once others are read: then `why_not` may be asked by another thread.
#pragma once

#include <cstdint>
#include <string>

#include "run/rows/open_row.hpp"
#include "spec/model_spec.hpp"
#include "spec/policy.hpp"

namespace flexgen {

class PlannedRows {
 public:
  void add(const OpenRow& row);
  /// Rows follow that are not known yet.
  void expect_more(const ModelSpec& model);

  const JobShape& shape() const { return shape_; }
  std::uint64_t max_new_tokens() const { return max_new_tokens_; }
  /// Why a row cannot run in this job though it could in one of its own; empty: it can.
  std::string why_not(const OpenRow& row) const;

 private:
  static void count_sampling(const OpenRow& row, SamplingShape& sampling);

  JobShape shape_;
  std::uint64_t max_new_tokens_ = 0;
  std::int64_t num_planned_ = 0;  // rows of the input
  bool is_open_ = false;          // others follow
};

}  // namespace flexgen
