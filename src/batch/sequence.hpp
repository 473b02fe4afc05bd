// A row in flight: positions computed and positions wanted. Knows what of it comes next, not when.
//
// A row of p prompt tokens and n new ones wants p + n - 1 positions: the last token is not read again.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.hpp"
#include "batch/cache_runs.hpp"
#include "batch/row.hpp"
#include "batch/token_chooser.hpp"
#include "schedule/work_list.hpp"

namespace flexgen {

/// Positions that a row can need.
inline std::int32_t positions_wanted(const RowRequest& row) {
  return static_cast<std::int32_t>(row.prompt.size()) + std::max(0, row.max_new_tokens - 1);
}

class Sequence {
 public:
  /// @param cache_row  its place in its micro-batch's cache, for its life
  /// @param run        its positions of the slot's cache, as long
  /// @param shared     what it has of its prompt in runs that others use, too: `run` goes on from there
  Sequence(RowRequest request, std::int32_t cache_row, CacheRun run, std::vector<SharedRun> shared = {});

  RowId id() const { return request_.id; }
  /// @param eos_tokens  the model's own
  bool stops_at(std::int32_t token, std::span<const std::int32_t> eos_tokens) const;
  CacheRun run() const { return run_; }
  const std::vector<SharedRun>& shared() const { return shared_; }

  /// What a sweep brings of it: of its prompt what comes next, at most `max_tokens` (> 0), or the token that it was
  /// given last. That counts as computed from now on.
  RowWork next_work(std::int32_t max_tokens);
  /// Tokens of its prompt that no sweep has brought yet.
  std::int32_t num_prompt_left() const { return std::max(0, num_prompt_tokens_ - num_computed_); }
  /// The token that the last work made.
  void take_token(std::int32_t token);
  /// Null where it is the likeliest, without more.
  const TokenChooser* chooser() const { return chooser_ ? &*chooser_ : nullptr; }
  /// Whether anything of it is left to compute after the last work, unless it stops before.
  bool wants_more() const { return num_computed_ < num_wanted_; }

 private:
  std::vector<std::int32_t> next_of_prompt(std::int32_t count);

  RowRequest request_;  // the prompt is let go once it is read
  std::int32_t cache_row_;
  CacheRun run_;
  std::vector<SharedRun> shared_;
  std::int32_t num_prompt_tokens_;
  std::int32_t num_wanted_;
  std::int32_t num_computed_;
  std::int32_t last_token_ = 0;
  std::optional<TokenChooser> chooser_;
};

}  // namespace flexgen
