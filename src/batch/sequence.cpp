#include "batch/sequence.hpp"

#include <utility>

namespace flexgen {

Sequence::Sequence(RowRequest request, std::int32_t cache_row, CacheRun run, std::vector<SharedRun> shared)
    : request_(std::move(request)),
      cache_row_(cache_row),
      run_(run),
      shared_(std::move(shared)),
      num_prompt_tokens_(static_cast<std::int32_t>(request_.prompt.size())),
      num_wanted_(positions_wanted(request_)),
      num_computed_(total_length(shared_)) {
  if (request_.rules) chooser_.emplace(request_.rules, request_.prompt, request_.answer);
}

bool Sequence::stops_at(std::int32_t token, std::span<const std::int32_t> eos_tokens) const {
  const auto has = [token](std::span<const std::int32_t> tokens) {
    return std::ranges::find(tokens, token) != tokens.end();
  };
  return (request_.stop_at_eos && has(eos_tokens)) || has(request_.stop_tokens);
}

void Sequence::take_token(std::int32_t token) {
  last_token_ = token;
  if (chooser_) chooser_->take(token);
}

RowWork Sequence::next_work(std::int32_t max_tokens) {
  RowWork work;
  work.row = request_.id;
  work.cache_row = cache_row_;
  work.cache_begin = run_.begin;
  work.start = num_computed_;
  work.shared = shared_;
  work.reads_prompt = num_computed_ < num_prompt_tokens_;
  if (!work.reads_prompt) {
    work.tokens.assign(1, last_token_);
    ++num_computed_;
    return work;
  }
  const std::int32_t count = std::min(num_prompt_left(), max_tokens);
  num_computed_ += count;
  const bool is_last = num_computed_ == num_prompt_tokens_;
  work.wants_token = is_last && request_.max_new_tokens > 0;
  work.wants_scores = request_.score_prompt;
  if (work.wants_scores && !is_last) work.next_token = request_.prompt[static_cast<std::size_t>(num_computed_)];
  work.tokens = next_of_prompt(count);
  return work;
}

// The last `count` of those that count as computed.
std::vector<std::int32_t> Sequence::next_of_prompt(std::int32_t count) {
  std::vector<std::int32_t>& prompt = request_.prompt;
  if (count == num_prompt_tokens_) return std::exchange(prompt, {});
  const auto end = prompt.begin() + num_computed_;
  std::vector<std::int32_t> tokens(end - count, end);
  if (num_computed_ == num_prompt_tokens_) std::vector<std::int32_t>().swap(prompt);
  return tokens;
}

}  // namespace flexgen
