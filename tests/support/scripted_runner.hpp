// A sweep runner without weights: answers from a script, and watches that what it is given could be run.
//
// The token of a row is a function of the row and of how many it has made; its scores are a function of its tokens. The
// checks are those that an engine relies on: a place of the cache has one row at a time, positions follow one another,
// and no sweep comes that was said not to.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "schedule/sweep_runner.hpp"
#include "spec/policy.hpp"

namespace flexgen::test {

class ScriptedRunner final : public SweepRunner {
 public:
  explicit ScriptedRunner(const BlockShape& shape) : shape_(shape) {}

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

  void run(const SweepWork& work) override {
    EXPECT_FALSE(is_finished_);
    EXPECT_TRUE(sweeps.empty() || sweeps.back().more_follow) << "sweep " << work.number << " was not announced";
    EXPECT_EQ(work.number, std::ssize(sweeps));
    EXPECT_LT(work.group.value, shape_.num_groups);
    EXPECT_GE(work.group.value, 0);
    EXPECT_FALSE(work.micro_batches.empty());
    for (const SweepWork& other : under_way_) EXPECT_NE(other.group, work.group) << "one sweep per group at a time";
    for (const MicroBatchWork& batch : work.micro_batches) check(batch, work.group);
    sweeps.push_back(work);
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
    EXPECT_FALSE(is_finished_);
    is_finished_ = true;
  }

  /// The row has ended: others may have its place from now on.
  void forget(RowId row) {
    const auto at = lives_.find(row);
    ASSERT_NE(at, lives_.end());
    owners_.erase({at->second.slot, at->second.cache_row});
    lives_.erase(at);
  }

  bool is_finished() const { return is_finished_; }

  std::vector<SweepWork> sweeps;  // all, in order
  std::size_t most_under_way = 0;

 private:
  struct Life {  // of a row in flight
    std::int32_t slot = 0, cache_row = 0, length = 0;
  };

  void check(const MicroBatchWork& batch, GroupId group) {
    EXPECT_GE(batch.slot, group.value * shape_.num_micro_batches);
    EXPECT_LT(batch.slot, (group.value + 1) * shape_.num_micro_batches);
    EXPECT_FALSE(batch.rows.empty());
    EXPECT_LE(std::ssize(batch.rows), shape_.micro_batch_size);
    for (const RowWork& row : batch.rows) check(row, batch.slot);
  }

  void check(const RowWork& row, std::int32_t slot) {
    EXPECT_GE(row.count(), 1);
    EXPECT_GE(row.cache_row, 0);
    EXPECT_LT(row.cache_row, shape_.micro_batch_size);
    const auto [owner, is_free] = owners_.try_emplace({slot, row.cache_row}, row.row);
    EXPECT_EQ(owner->second, row.row) << "two rows in one place of the cache";
    const auto [life, is_new] = lives_.try_emplace(row.row, Life{slot, row.cache_row, 0});
    EXPECT_EQ(std::pair(life->second.slot, life->second.cache_row), std::pair(slot, row.cache_row)) << "a row moved";
    EXPECT_EQ(life->second.length, row.start);
    EXPECT_EQ(row.reads_prompt, is_new) << "prompts are read whole";
    EXPECT_EQ(is_free, is_new);
    life->second.length = row.length();
  }

  SampledTokens answer(const MicroBatchWork& batch, std::int64_t sweep, std::int32_t micro_batch) const {
    SampledTokens sampled{sweep, micro_batch, {}, {}};
    bool has_scores = false;
    for (const RowWork& row : batch.rows) {
      has_scores = has_scores || row.wants_scores;
      for (std::int32_t at = row.count() - row.num_outputs(); at < row.count(); ++at) {
        sampled.tokens.push_back(token(row.row, row.start + at + 1));
        const bool is_scored = at + 1 < row.count();
        sampled.scores.push_back(is_scored ? score(row.row, row.tokens[static_cast<std::size_t>(at) + 1]) : 0.0F);
      }
    }
    if (!has_scores) sampled.scores.clear();
    return sampled;
  }

  BlockShape shape_;
  bool is_finished_ = false;
  std::deque<SweepWork> under_way_;
  std::map<RowId, Life> lives_;
  std::map<std::pair<std::int32_t, std::int32_t>, RowId> owners_;  // by slot and cache row
};

}  // namespace flexgen::test
