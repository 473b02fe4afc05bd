// A row in flight: positions computed and positions wanted. Knows what of it comes next, not when.
//
// A row of p prompt tokens and n new ones wants p + n - 1 positions: the last token is not read again.
#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.hpp"
#include "batch/row.hpp"
#include "schedule/work_list.hpp"

namespace flexgen {

class Sequence {
 public:
  /// @param cache_row  its place in its micro-batch's cache, for its life
  Sequence(RowRequest request, std::int32_t cache_row, std::int32_t cache_begin);

  RowId id() const { return request_.id; }
  bool stops_at_eos() const { return request_.stop_at_eos; }

  /// What a sweep brings of it: its prompt, or the token that it was given last. That counts as computed from now on.
  RowWork next_work();
  /// The token that the last work made.
  void take_token(std::int32_t token) { last_token_ = token; }
  /// Whether anything of it is left to compute after the last work, unless it stops before.
  bool wants_more() const { return num_computed_ < num_wanted_; }

 private:
  RowRequest request_;  // the prompt goes to the sweep that reads it
  std::int32_t cache_row_;
  std::int32_t cache_begin_;
  std::int32_t num_prompt_tokens_;
  std::int32_t num_wanted_;
  std::int32_t num_computed_ = 0;
  std::int32_t last_token_ = 0;
};

}  // namespace flexgen
