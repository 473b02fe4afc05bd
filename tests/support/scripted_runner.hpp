// A sweep runner without weights: answers from a script, and watches that what it is given could be run.
//
// The token of a row is a function of the row and of how many it has made; its scores are a function of its tokens. The
// checks are those that an engine relies on: a place and a run of the cache have one row at a time, positions follow
// one another, rows come in the order in which their attention is split, micro-batches keep their budget, and no sweep
// comes that was said not to. And those that a job relies on: every token is brought once, by the row or for all that
// share it, in a sweep before the one in which they attend it; and nobody waits who could go on.
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
    EXPECT_EQ(lives_.empty(), !leaves_rows);
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

  bool leaves_rows = false;  // the job is stopped before their ends

  bool is_finished() const { return is_finished_; }
  std::int64_t num_sweeps() const { return num_sweeps_; }

  std::vector<SweepWork> sweeps;  // all, in order
  std::size_t most_under_way = 0;
  std::int64_t num_prefix_tokens = 0;  // read for several rows at once
  std::int64_t num_shared_tokens = 0;  // of rows, in the place of reading them

 private:
  struct Prefix {  // what rows of a slot share, from position 0 on
    std::int32_t begin = 0, own_begin = 0;
    std::vector<std::int32_t> tokens;
    std::int32_t num_there = 0;  // before the sweep
    std::vector<SharedRun> shared;
  };
  struct Life {  // of a row in flight
    std::int32_t slot = 0, cache_row = 0, begin = 0;
    std::int32_t length = 0, prompt = 0, wanted = 0;
    std::vector<SharedRun> shared = {};

    bool decodes() const { return length >= prompt; }
  };

  void check(const MicroBatchWork& batch, GroupId group) {
    EXPECT_GE(batch.slot, group.value * shape_.num_micro_batches);
    EXPECT_LT(batch.slot, (group.value + 1) * shape_.num_micro_batches);
    EXPECT_FALSE(batch.rows.empty());
    EXPECT_LE(std::ssize(batch.rows), shape_.micro_batch_size);
    EXPECT_LE(batch.num_tokens(), limits_.num_tokens);
    const auto decode = std::ranges::find(batch.rows, false, &RowWork::reads_prompt);
    EXPECT_TRUE(std::ranges::none_of(decode, batch.rows.end(), &RowWork::reads_prompt)) << "prompts first";
    EXPECT_TRUE(std::is_sorted(decode, batch.rows.end(), lies_before)) << "the others as their cache lies";
    for (auto& [place, prefix] : prefixes_) prefix.num_there = static_cast<std::int32_t>(prefix.tokens.size());
    for (const RowWork& row : batch.rows)
      if (row.row == no_row) check_prefix(row, batch.slot);
    for (const RowWork& row : batch.rows)
      if (row.row != no_row) check(row, batch.slot);
    if (batch.num_tokens() + 3 > limits_.num_tokens) return;  // a prompt has no part of a single token
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
    EXPECT_EQ(row.shared, life.shared);
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
    lives_.emplace(row.row, Life{slot, row.cache_row, row.cache_begin, row.own_begin(), prompt, wanted, row.shared});
    EXPECT_LT(row.own_begin(), prompt) << "a row reads its prompt's last token itself";
    check_shared(row.shared, slot, std::span(request.prompt).first(static_cast<std::size_t>(row.own_begin())));
    EXPECT_GE(row.cache_row, 0);
    EXPECT_LT(row.cache_row, shape_.micro_batch_size);
    EXPECT_TRUE(places_.emplace(std::pair(slot, row.cache_row), row.row).second) << "two rows in one place";
    const std::int32_t own = wanted - row.own_begin();
    const std::int32_t end = row.cache_begin + (own + cache_grain - 1) / cache_grain * cache_grain;
    take_from_prefixes(slot, row.cache_begin, end, -1);
    for (const SharedRun& run : row.shared)
      EXPECT_TRUE(are_in_one_band(run.cache_begin, row.cache_begin, limits_.slots[static_cast<std::size_t>(slot)]));
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

  // What a row or another beginning begins with is there, whole, since an earlier sweep, and is what it should be.
  void check_shared(const std::vector<SharedRun>& shared, std::int32_t slot, std::span<const std::int32_t> prompt) {
    std::size_t begin = 0;
    for (const SharedRun& run : shared) {
      EXPECT_GT(run.length, 0);
      EXPECT_EQ(run.length % prefix_grain, 0);
      const auto at = prefixes_.find({slot, run.cache_row});
      ASSERT_NE(at, prefixes_.end()) << "what is not there is shared";
      const Prefix& prefix = at->second;
      EXPECT_EQ(prefix.begin, run.cache_begin);
      EXPECT_EQ(prefix.own_begin, static_cast<std::int32_t>(begin));
      begin += static_cast<std::size_t>(run.length);
      ASSERT_LE(begin, static_cast<std::size_t>(prefix.num_there)) << "shared before it was read";
      EXPECT_TRUE(std::ranges::equal(std::span(prefix.tokens).first(begin), prompt.first(begin))) << "of other tokens";
      num_shared_tokens += run.length;
    }
  }

  void check_prefix(const RowWork& work, std::int32_t slot) {
    EXPECT_GE(work.cache_row, shape_.micro_batch_size);
    EXPECT_LT(work.cache_row, shape_.micro_batch_size + shape_.num_prefixes);
    EXPECT_TRUE(work.reads_prompt && work.num_outputs() == 0);
    const std::pair place(slot, work.cache_row);
    if (work.start == work.own_begin()) {
      if (const auto old = prefixes_.find(place); old != prefixes_.end()) drop(old);
      Prefix& prefix = prefixes_[place];
      prefix.begin = work.cache_begin;
      prefix.own_begin = work.own_begin();
      prefix.shared = work.shared;
      if (!work.shared.empty()) {  // it goes on from the last of these
        const Prefix& before = prefixes_.at({slot, work.shared.back().cache_row});
        prefix.tokens.assign(before.tokens.begin(), before.tokens.begin() + prefix.own_begin);
        check_shared(work.shared, slot, prefix.tokens);
        num_shared_tokens -= prefix.own_begin;
      }
    }
    Prefix& prefix = prefixes_[place];
    EXPECT_EQ(std::ssize(prefix.tokens), work.start) << "of a common beginning, positions follow one another";
    prefix.tokens.insert(prefix.tokens.end(), work.tokens.begin(), work.tokens.end());
    const std::int32_t begin = work.cache_begin + work.start - prefix.own_begin;
    take_from_prefixes(slot, begin, begin + work.count(), work.cache_row);
    for (const auto& [run, end] : runs_)
      EXPECT_TRUE(run.first != slot || run.second >= begin + work.count() || end <= begin) << "it lies in a row's run";
    num_prefix_tokens += work.count();
  }

  // Positions that somebody has now, the place `owner` or a row: what held them has been given up.
  void take_from_prefixes(std::int32_t slot, std::int32_t begin, std::int32_t end, std::int32_t owner) {
    for (auto at = prefixes_.begin(); at != prefixes_.end();) {
      const Prefix& prefix = at->second;
      const std::int32_t last = prefix.begin + static_cast<std::int32_t>(prefix.tokens.size()) - prefix.own_begin;
      const bool is_taken = at->first.first == slot && at->first.second != owner && prefix.begin < end && begin < last;
      at = is_taken ? drop(at) : std::next(at);
    }
  }

  using Prefixes = std::map<std::pair<std::int32_t, std::int32_t>, Prefix>;
  Prefixes::iterator drop(Prefixes::iterator at) {
    for (const auto& [row, life] : lives_)
      for (const SharedRun& run : life.shared)
        EXPECT_FALSE(life.slot == at->first.first && run.cache_row == at->first.second)
            << "what row " << row.value << " shares was given up";
    return prefixes_.erase(at);
  }

  static bool are_in_one_band(std::int32_t one, std::int32_t other, const CacheSpace& space) {
    return is_within_a_band(std::min(one, other), std::max(one, other) + 1, space);
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
  Prefixes prefixes_;                                              // by slot and place; some may have been given up
  std::map<std::pair<std::int32_t, std::int32_t>, RowId> places_;  // by slot and cache row
  std::map<std::pair<std::int32_t, std::int32_t>, std::int32_t> runs_;  // by slot and begin: end
};

}  // namespace flexgen::test
