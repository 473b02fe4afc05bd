#include "batch/sequence.hpp"

#include <algorithm>
#include <utility>

namespace flexgen {

Sequence::Sequence(RowRequest request, std::int32_t cache_row, std::int32_t cache_begin)
    : request_(std::move(request)),
      cache_row_(cache_row),
      cache_begin_(cache_begin),
      num_prompt_tokens_(static_cast<std::int32_t>(request_.prompt.size())),
      num_wanted_(num_prompt_tokens_ + std::max(0, request_.max_new_tokens - 1)) {}

RowWork Sequence::next_work() {
  RowWork work;
  work.row = request_.id;
  work.cache_row = cache_row_;
  work.cache_begin = cache_begin_;
  work.start = num_computed_;
  work.reads_prompt = num_computed_ < num_prompt_tokens_;
  work.wants_token = request_.max_new_tokens > 0;
  work.wants_scores = work.reads_prompt && request_.score_prompt;
  if (work.reads_prompt) work.tokens = std::move(request_.prompt);
  else work.tokens.assign(1, last_token_);
  num_computed_ += work.count();
  return work;
}

}  // namespace flexgen
