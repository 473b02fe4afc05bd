// A sweep runner without weights: answers from a script, and watches that what it is given could be run.
//
// The token of a row is a function of the row and of how many it has made; its scores are a function of its tokens. The
// checks are those that an engine relies on: a place and a run of the cache have one row at a time, positions follow
// one another, rows come in the order in which their attention is split, micro-batches keep their budget, and no sweep
// comes that was said not to. And those that a job relies on: every token is brought once, and nobody waits who could
// go on.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "batch/row.hpp"
#include "schedule/sweep_runner.hpp"
#include "spec/block_limits.hpp"
#include "spec/policy.hpp"

namespace flexgen::test {

class ScriptedRunner final : public SweepRunner {
 public:
  /// Keeps references.
  ScriptedRunner(const BlockShape& shape, const BlockLimits& limits) : shape_(shape), limits_(limits) {}

  /// The token that a row makes from its cache of so many positions; by default one that ends nothing.
  std::function<std::int32_t(RowId, std::int32_t length)> token = [](RowId row, std::int32_t length) {
    return static_cast<std::int32_t>(1000 + 100 * row.value + length);
  };
  /// The score of a token of a row.
  std::function<float(RowId, std::int32_t token)> score = [](RowId, std::int32_t scored) {
    return -static_cast<float>(scored);
  };
  /// Changes what a sweep gave before it is collected; may be empty.
  std::function<void(std::vector<SampledTokens>&)> spoil;
  bool keeps_sweeps = true;  // in `sweeps`

  /// A row that will come.
  void expect(const RowRequest& row) { requests_.emplace(row.id, row); }

  void run(const SweepWork& work) override {
    EXPECT_FALSE(is_finished_);
    EXPECT_TRUE(may_follow_) << "sweep " << work.number << " was not announced";
    EXPECT_EQ(work.number, num_sweeps_++);
    EXPECT_LT(work.group.value, shape_.num_groups);
    EXPECT_GE(work.group.value, 0);
    EXPECT_FALSE(work.micro_batches.empty());
    for (const SweepWork& other : under_way_) EXPECT_NE(other.group, work.group) << "one sweep per group at a time";
    for (const MicroBatchWork& batch : work.micro_batches) check(batch, work.group);
    check_that_all_decode(work);
    may_follow_ = work.more_follow;
    if (keeps_sweeps) sweeps.push_back(work);
    under_way_.push_back(work);
    most_under_way = std::max(most_under_way, under_way_.size());
  }

  std::vector<SampledTokens> collect(std::size_t num_micro_batches) override {
    EXPECT_FALSE(under_way_.empty());
    const SweepWork work = std::move(under_way_.front());
    under_way_.pop_front();
    EXPECT_EQ(num_micro_batches, work.micro_batches.size());
    std::vector<SampledTokens> sampled;
    for (const MicroBatchWork& batch : work.micro_batches)
      sampled.push_back(answer(batch, work.number, static_cast<std::int32_t>(sampled.size())));
    if (spoil) spoil(sampled);
    return sampled;
  }

  void finish() override {
    EXPECT_TRUE(under_way_.empty());
    EXPECT_TRUE(lives_.empty());
    EXPECT_FALSE(is_finished_);
    is_finished_ = true;
  }

  /// The row has ended: others may have its place from now on.
  void forget(RowId row, FinishReason reason) {
    const auto at = lives_.find(row);
    ASSERT_NE(at, lives_.end());
    const Life& life = at->second;
    if (reason == FinishReason::length) {
      EXPECT_EQ(life.length, life.wanted) << "of row " << row.value;
    }
    places_.erase({life.slot, life.cache_row});
    runs_.erase({life.slot, life.begin});
    lives_.erase(at);
  }

  bool is_finished() const { return is_finished_; }
  std::int64_t num_sweeps() const { return num_sweeps_; }

  std::vector<SweepWork> sweeps;  // all, in order
  std::size_t most_under_way = 0;

 private:
  struct Life {  // of a row in flight
    std::int32_t slot = 0, cache_row = 0, begin = 0;
    std::int32_t length = 0, prompt = 0, wanted = 0;

    bool decodes() const { return length >= prompt; }
  };

  void check(const MicroBatchWork& batch, GroupId group) {
    EXPECT_GE(batch.slot, group.value * shape_.num_micro_batches);
    EXPECT_LT(batch.slot, (group.value + 1) * shape_.num_micro_batches);
    EXPECT_FALSE(batch.rows.empty());
    EXPECT_LE(std::ssize(batch.rows), shape_.micro_batch_size);
    EXPECT_LE(batch.num_tokens(), limits_.num_tokens);
    const auto rank = [](const RowWork& row) { return row.reads_prompt ? -1 : row.cache_begin; };
    EXPECT_TRUE(std::ranges::is_sorted(batch.rows, {}, rank)) << "prompts first, the others as their cache lies";
    for (const RowWork& row : batch.rows) check(row, batch.slot);
    if (batch.num_tokens() == limits_.num_tokens) return;
    for (const auto& [row, life] : lives_)
      if (life.slot == batch.slot) {
        EXPECT_EQ(std::ranges::count(batch.rows, row, &RowWork::row), 1) << "row " << row.value << " could go on";
      }
  }

  void check(const RowWork& row, std::int32_t slot) {
    EXPECT_GE(row.count(), 1);
    EXPECT_LE(row.count(), call_tokens);
    const RowRequest& request = requests_.at(row.row);
    if (!lives_.contains(row.row)) begin_life(row, slot, request);
    Life& life = lives_.at(row.row);
    EXPECT_EQ(std::tuple(life.slot, life.cache_row, life.begin), std::tuple(slot, row.cache_row, row.cache_begin))
        << "a row moved";
    EXPECT_EQ(life.length, row.start);
    EXPECT_EQ(row.reads_prompt, !life.decodes());
    if (row.reads_prompt) check_chunk(row, request);
    else EXPECT_EQ(row.tokens, std::vector{token(row.row, row.start)}) << "the token that it was given";
    life.length = row.length();
    EXPECT_LE(life.length, life.wanted);
  }

  void check_chunk(const RowWork& row, const RowRequest& request) const {
    const auto end = static_cast<std::size_t>(row.length());
    ASSERT_LE(end, request.prompt.size());
    const bool is_last = end == request.prompt.size();
    EXPECT_TRUE(std::ranges::equal(
        row.tokens, std::span(request.prompt).subspan(end - row.tokens.size()).first(row.tokens.size())));
    EXPECT_EQ(row.wants_token, is_last && request.max_new_tokens > 0);
    EXPECT_EQ(row.wants_scores, request.score_prompt);
    EXPECT_EQ(row.next_token, row.wants_scores && !is_last ? request.prompt[end] : -1);
  }

  void begin_life(const RowWork& row, std::int32_t slot, const RowRequest& request) {
    const auto prompt = static_cast<std::int32_t>(request.prompt.size());
    const std::int32_t wanted = prompt + std::max(0, request.max_new_tokens - 1);
    lives_.emplace(row.row, Life{slot, row.cache_row, row.cache_begin, 0, prompt, wanted});
    EXPECT_GE(row.cache_row, 0);
    EXPECT_LT(row.cache_row, shape_.micro_batch_size);
    EXPECT_TRUE(places_.emplace(std::pair(slot, row.cache_row), row.row).second) << "two rows in one place";
    const std::int32_t end = row.cache_begin + (wanted + cache_grain - 1) / cache_grain * cache_grain;
    EXPECT_EQ(row.cache_begin % cache_grain, 0);
    EXPECT_TRUE(is_within_a_band(row.cache_begin, end, limits_.slots[static_cast<std::size_t>(slot)]));
    const auto [at, is_new] = runs_.emplace(std::pair(slot, row.cache_begin), end);
    EXPECT_TRUE(is_new) << "two rows in one run of the cache";
    const auto next = std::next(at);
    const bool is_clear_behind = next == runs_.end() || next->first.first != slot || end <= next->first.second;
    const bool is_clear_before =
        at == runs_.begin() || std::prev(at)->first.first != slot || std::prev(at)->second <= row.cache_begin;
    EXPECT_TRUE(is_clear_behind && is_clear_before) << "runs overlap";
  }

  static bool is_within_a_band(std::int32_t begin, std::int32_t end, const CacheSpace& space) {
    std::int32_t band = 0;
    for (const std::int32_t length : space.bands) {
      if (begin >= band && end <= band + length) return true;
      band += length;
    }
    return false;
  }

  // Called after the sweep's rows have been counted: who is left behind in the group was not brought.
  void check_that_all_decode(const SweepWork& work) const {
    std::map<RowId, bool> brought;
    for (const MicroBatchWork& batch : work.micro_batches)
      for (const RowWork& row : batch.rows) brought[row.row] = true;
    for (const auto& [row, life] : lives_)
      if (life.slot / shape_.num_micro_batches == work.group.value && life.decodes()) {
        EXPECT_TRUE(brought.contains(row)) << "row " << row.value << " was left out";
      }
  }

  SampledTokens answer(const MicroBatchWork& batch, std::int64_t sweep, std::int32_t micro_batch) const {
    SampledTokens sampled{sweep, micro_batch, {}, {}};
    bool has_scores = false;
    for (const RowWork& row : batch.rows) {
      has_scores = has_scores || row.wants_scores;
      for (std::int32_t at = row.count() - row.num_outputs(); at < row.count(); ++at) {
        sampled.tokens.push_back(token(row.row, row.start + at + 1));
        const std::int32_t next = at + 1 < row.count() ? row.tokens[static_cast<std::size_t>(at) + 1] : row.next_token;
        sampled.scores.push_back(row.wants_scores && next >= 0 ? score(row.row, next) : 0.0F);
      }
    }
    if (!has_scores) sampled.scores.clear();
    return sampled;
  }

  const BlockShape& shape_;
  const BlockLimits& limits_;
  bool is_finished_ = false;
  bool may_follow_ = true;
  std::int64_t num_sweeps_ = 0;
  std::deque<SweepWork> under_way_;
  std::map<RowId, RowRequest> requests_;
  std::map<RowId, Life> lives_;
  std::map<std::pair<std::int32_t, std::int32_t>, RowId> places_;       // by slot and cache row
  std::map<std::pair<std::int32_t, std::int32_t>, std::int32_t> runs_;  // by slot and begin: end
};

}  // namespace flexgen::test
