#include "engine/generator.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"

namespace flexgen {
namespace {

// Sampling gives a token of -1 where a logit is NaN. A score of minus infinity can neither be summed nor written.
bool are_numbers(std::span<const std::int32_t> tokens, std::span<const float> scores) {
  return std::ranges::none_of(tokens, [](std::int32_t token) { return token < 0; }) &&
         std::ranges::all_of(scores, [](float score) { return std::isfinite(score); });
}

}  // namespace

Generator::Generator(Stage& stage, std::int32_t num_groups, std::vector<std::int32_t> eos_tokens)
    : stage_(stage), eos_tokens_(std::move(eos_tokens)), groups_(static_cast<std::size_t>(num_groups)) {}

// Gives an idle group its next block. False when no rows wait.
bool Generator::fill(Group& group) {
  const Policy& policy = stage_.plan().input.policy;
  group.micro_batches.clear();
  // The groups that have nothing share what is left, or one would work while the other stages wait.
  const auto num_idle =
      std::count_if(groups_.begin(), groups_.end(), [](const Group& g) { return g.micro_batches.empty(); });
  const auto num_waiting = static_cast<std::int64_t>(waiting_.size());
  std::int64_t room = std::min<std::int64_t>(policy.block_rows(), (num_waiting + num_idle - 1) / num_idle);
  for (std::int32_t k = 0; k < policy.num_micro_batches && room > 0; ++k) {
    std::vector<ActiveRow>& rows = group.micro_batches.emplace_back();
    for (std::int32_t b = 0; b < policy.micro_batch_size && room > 0; ++b, --room) {
      ActiveRow row;
      row.request = std::move(waiting_.front());
      waiting_.pop_front();
      row.cache_row = b;
      row.next = row.request.prompt;
      rows.push_back(std::move(row));
    }
  }
  return !group.micro_batches.empty();
}

// Another sweep certainly or probably follows the one being made: its first weights may be loaded early.
bool Generator::anything_follows(const Group& group) const {
  if (!waiting_.empty()) return true;
  for (const Group& other : groups_)
    if (&other != &group && other.in_flight) return true;
  for (const auto& rows : group.micro_batches)
    for (const ActiveRow& row : rows)
      if (!row.done && row.num_generated + 1 < row.request.max_new_tokens) return true;
  return false;
}

// Builds the group's next sweep from its unfinished rows. False when all are finished.
bool Generator::make_work(Group& group, GroupId id) {
  const std::int32_t slots = stage_.plan().input.policy.num_micro_batches;
  group.work = {};
  group.work.group = id;
  for (std::size_t k = 0; k < group.micro_batches.size(); ++k) {
    MicroBatchWork batch;
    batch.slot = id.value * slots + static_cast<std::int32_t>(k);
    for (ActiveRow& row : group.micro_batches[k]) {
      if (row.done) continue;
      const bool scores = row.length == 0 && row.request.score_prompt;
      batch.rows.push_back({row.request.id, row.cache_row, row.length, row.request.max_new_tokens > 0, scores, row.next,
                            row.length == 0});
      row.length += static_cast<std::int32_t>(row.next.size());
    }
    if (!batch.rows.empty()) group.work.micro_batches.push_back(std::move(batch));
  }
  if (group.work.micro_batches.empty()) return false;
  group.work.number = num_sweeps_++;
  group.work.more_follow = anything_follows(group);
  return true;
}

void Generator::finish(ActiveRow& row, FinishReason reason, const GenerateCallbacks& callbacks) {
  row.done = true;
  callbacks.on_finished(row.request.id, reason);
}

void Generator::take_token(ActiveRow& row, std::int32_t token, const GenerateCallbacks& callbacks) {
  ++row.num_generated;
  row.next.assign(1, token);
  const bool is_eos = std::ranges::find(eos_tokens_, token) != eos_tokens_.end();
  const bool stopped = callbacks.on_token(row.request.id, token) || (row.request.stop_at_eos && is_eos);
  if (!stopped && row.num_generated < row.request.max_new_tokens) return;
  finish(row, stopped ? FinishReason::stop : FinishReason::length, callbacks);
}

std::size_t Generator::take_outputs(ActiveRow& row, const RowWork& work, const SampledTokens& sampled, std::size_t at,
                                    const GenerateCallbacks& callbacks) {
  const auto count = static_cast<std::size_t>(work.num_outputs());
  FLEXGEN_CHECK(at + count <= sampled.tokens.size() && (!work.wants_scores || at + count <= sampled.scores.size()),
                "tokens do not belong to the sweep that was awaited");
  const std::span<const std::int32_t> tokens = std::span(sampled.tokens).subspan(at, count);
  std::span<const float> scores;
  if (work.wants_scores) scores = std::span(sampled.scores).subspan(at, count - 1);
  if (!are_numbers(tokens, scores)) {
    finish(row, FinishReason::not_a_number, callbacks);
    return count;
  }
  if (work.wants_scores) callbacks.on_scores(row.request.id, scores, tokens.first(count - 1));
  if (work.wants_token) take_token(row, tokens.back(), callbacks);
  else finish(row, FinishReason::length, callbacks);
  return count;
}

void Generator::collect(Group& group, const GenerateCallbacks& callbacks) {
  const std::vector<SampledTokens> sampled = stage_.collect(group.work.micro_batches.size());
  for (std::size_t k = 0; k < sampled.size(); ++k) {
    const MicroBatchWork& batch = group.work.micro_batches[k];
    FLEXGEN_CHECK(sampled[k].sweep == group.work.number && sampled[k].micro_batch == static_cast<std::int32_t>(k),
                  "tokens do not belong to the sweep that was awaited");
    const std::int32_t slots = stage_.plan().input.policy.num_micro_batches;
    std::vector<ActiveRow>& rows = group.micro_batches[static_cast<std::size_t>(batch.slot % slots)];
    std::size_t at = 0;
    for (const RowWork& work : batch.rows)
      at += take_outputs(rows[static_cast<std::size_t>(work.cache_row)], work, sampled[k], at, callbacks);
    FLEXGEN_CHECK(at == sampled[k].tokens.size(), "tokens do not belong to the sweep that was awaited");
  }
  group.in_flight = false;

  const std::uint64_t now = now_ns();
  const double seconds = static_cast<double>(now - last_ns_) / 1e9;
  last_ns_ = now;
  const bool is_prefill = group.work.num_prompt_tokens() > 0;
  (is_prefill ? times_.prefill_seconds : times_.decode_seconds) += seconds;
  ++(is_prefill ? times_.num_prefill_sweeps : times_.num_decode_sweeps);
}

void Generator::run(std::deque<GenerateRow> rows, const GenerateCallbacks& callbacks) {
  waiting_ = std::move(rows);
  last_ns_ = now_ns();
  bool any = true;
  while (any) {
    any = false;
    // In turn: collect a group's tokens, then send it on its way again, while the other groups are on theirs.
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      Group& group = groups_[g];
      if (group.in_flight) collect(group, callbacks);
      const GroupId id(static_cast<std::int32_t>(g));
      if (!make_work(group, id) && !(fill(group) && make_work(group, id))) continue;
      stage_.run(group.work);
      group.in_flight = true;
      any = true;
    }
  }
  stage_.finish();
}

}  // namespace flexgen
