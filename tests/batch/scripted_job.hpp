// A whole job of a batch driver on a scripted runner: what its rows were told, in one struct.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "batch/batch_driver.hpp"
#include "tests/support/listed_rows.hpp"
#include "tests/support/scripted_runner.hpp"

namespace flexgen::test {

/// What the callbacks heard of a row.
struct Told {
  std::vector<std::int32_t> tokens;
  std::vector<float> scores;
  std::vector<FinishReason> ends;  // one, or something is wrong
};

struct ScriptedJob {
  ScriptedJob(std::int32_t micro_batch_size, std::int32_t num_micro_batches, std::int32_t num_groups = 1,
              BlockRule rule = BlockRule::rolling)
      : runner(shape, limits) {
    shape.micro_batch_size = micro_batch_size;
    shape.num_micro_batches = num_micro_batches;
    shape.num_groups = num_groups;
    shape.rule = rule;
    limits.slots.resize(static_cast<std::size_t>(num_micro_batches * num_groups), CacheSpace{{64 * micro_batch_size}});
    limits.num_tokens = 1 << 20;
  }

  /// A row with the next id.
  RowRequest& add(std::size_t num_prompt_tokens, std::int32_t max_new_tokens) {
    const auto id = static_cast<std::int32_t>(rows.size());
    RowRequest& row = rows.emplace_back();
    row.id = RowId(id);
    for (std::size_t t = 0; t < num_prompt_tokens; ++t)
      row.prompt.push_back(100 * (id + 1) + static_cast<std::int32_t>(t));
    row.max_new_tokens = max_new_tokens;
    return row;
  }

  /// The same, of given tokens.
  RowRequest& add(std::vector<std::int32_t> prompt, std::int32_t max_new_tokens) {
    RowRequest& row = add(0, max_new_tokens);
    row.prompt = std::move(prompt);
    return row;
  }

  std::function<bool()> goes_on;            // RowCallbacks::on_sweep
  std::function<void()> at_end;             // of a row; may be empty
  std::function<std::int32_t()> new_limit;  // of a micro-batch's tokens, asked for before every sweep; may be empty

  PhaseTimes run(RowSource& source) {
    RowCallbacks callbacks;
    callbacks.on_token = [&](RowId row, std::int32_t token) {
      EXPECT_TRUE(told[row].ends.empty());
      told[row].tokens.push_back(token);
      return stops && stops(row, token);
    };
    callbacks.on_finished = [&](RowId row, FinishReason reason) {
      if (at_end) at_end();
      told[row].ends.push_back(reason);
      runner.forget(row, reason);
    };
    callbacks.on_scores = [&](RowId row, const TokenScores& tokens) {
      EXPECT_TRUE(told[row].tokens.empty());
      told[row].scores.insert(told[row].scores.end(), tokens.scores.begin(), tokens.scores.end());
    };
    for (const RowRequest& row : rows) runner.expect(row);
    BatchDriver driver(runner, shape, limits, eos_tokens);
    callbacks.on_sweep = [&] {
      if (new_limit) driver.limit_tokens(new_limit());
      return !goes_on || goes_on();
    };
    driver.run(source, callbacks);
    EXPECT_TRUE(runner.is_finished());
    cache_use = driver.cache_use();
    num_saved_tokens = driver.num_saved_tokens();
    return driver.times();
  }
  PhaseTimes run() {
    ListedRows source(rows);
    return run(source);
  }

  /// Ids of the rows in each sweep, one list per micro-batch.
  std::vector<std::vector<std::vector<std::int64_t>>> rows_of_sweeps() const {
    std::vector<std::vector<std::vector<std::int64_t>>> all;
    for (const SweepWork& work : runner.sweeps) {
      auto& sweep = all.emplace_back();
      for (const MicroBatchWork& batch : work.micro_batches) {
        auto& ids = sweep.emplace_back();
        for (const RowWork& row : batch.rows) ids.push_back(row.row.value);
      }
    }
    return all;
  }

  BlockShape shape;
  BlockLimits limits;  // by default of no consequence
  ScriptedRunner runner;
  std::deque<RowRequest> rows;
  std::vector<std::int32_t> eos_tokens;
  std::function<bool(RowId, std::int32_t token)> stops;  // a stop string; may be empty
  std::map<RowId, Told> told;
  CacheUse cache_use;  // of the last run
  std::int64_t num_saved_tokens = 0;
};

}  // namespace flexgen::test
