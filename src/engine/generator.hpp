// Rank 0's part: turns rows into sweeps and tokens into finished rows, with as many groups in flight as stages.
//
// Greedy decoding; static blocks: a group takes B * K rows, keeps them until the last is finished, and takes the next.
// Rows that are finished leave the work list at once. A row whose numbers fail is finished; the others go on.
// Single-threaded.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "base/ids.hpp"
#include "engine/stage.hpp"

namespace flexgen {

struct GenerateRow {
  RowId id;
  std::vector<std::int32_t> prompt;  // at least one token
  std::int32_t max_new_tokens = 1;   // at least one, or 0 where the prompt is scored
  bool stop_at_eos = true;
  bool score_prompt = false;  // on_scores is told how likely the prompt was
};

/// not_a_number: the model gave a logit or a score that is none, or no finite one; nothing of the row is of use.
enum class FinishReason : std::uint8_t { stop, length, not_a_number };

/// Calls from the generator to whoever runs the job.
struct GenerateCallbacks {
  /// A row's next token; true: the row is to stop here (a stop string). The end-of-sequence token is passed too.
  std::function<bool(RowId, std::int32_t token)> on_token;
  std::function<void(RowId, FinishReason)> on_finished;
  /// Of a row whose prompt is scored, before its first token: score[i] is the log-probability of prompt token i + 1
  /// after tokens 0 .. i, greedy[i] the token that was likeliest there; both have one entry less than the prompt.
  std::function<void(RowId, std::span<const float> scores, std::span<const std::int32_t> greedy)> on_scores;
};

struct PhaseTimes {
  double prefill_seconds = 0;
  double decode_seconds = 0;
  std::int64_t num_prefill_sweeps = 0;
  std::int64_t num_decode_sweeps = 0;
};

class Generator {
 public:
  /// @param num_groups  blocks in flight, as in the plan
  Generator(Stage& stage, std::int32_t num_groups, std::vector<std::int32_t> eos_tokens);

  /// Runs all rows to their end and tells the stages to finish.
  void run(std::deque<GenerateRow> rows, const GenerateCallbacks& callbacks);

  const PhaseTimes& times() const { return times_; }

 private:
  struct ActiveRow {
    GenerateRow request;
    std::int32_t cache_row = 0;
    std::int32_t length = 0;  // positions in the cache once the sweep under way is done
    std::int32_t num_generated = 0;
    std::vector<std::int32_t> next;  // tokens that the next sweep reads
    bool done = false;
  };
  struct Group {
    std::vector<std::vector<ActiveRow>> micro_batches;  // [K][<= B]
    SweepWork work;                                     // in flight
    bool in_flight = false;
  };

  bool fill(Group& group);
  bool make_work(Group& group, GroupId id);
  void collect(Group& group, const GenerateCallbacks& callbacks);
  // Takes the row's outputs from `at` on; returns how many they were.
  std::size_t take_outputs(ActiveRow& row, const RowWork& work, const SampledTokens& sampled, std::size_t at,
                           const GenerateCallbacks& callbacks);
  static void finish(ActiveRow& row, FinishReason reason, const GenerateCallbacks& callbacks);
  void take_token(ActiveRow& row, std::int32_t token, const GenerateCallbacks& callbacks);
  bool anything_follows(const Group& group) const;

  Stage& stage_;
  std::vector<std::int32_t> eos_tokens_;  // any of them ends a row
  std::vector<Group> groups_;
  std::deque<GenerateRow> waiting_;
  std::int64_t num_sweeps_ = 0;
  PhaseTimes times_;
  std::uint64_t last_ns_ = 0;
};

}  // namespace flexgen
