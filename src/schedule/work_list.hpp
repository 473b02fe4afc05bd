// The work of one sweep: any set of micro-batches, each of rows with their own lengths and positions.
//
// FlexGen's lock-step block is the special case in which all rows are at the same step. A row may bring its whole
// prompt, a chunk of it, or one token. Plain data; rank 0 makes it, every stage receives the same list.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.hpp"
#include "spec/sampling.hpp"

namespace flexgen {

/// Nobody's: what of a prompt several rows have in common is read for all of them.
inline constexpr RowId no_row{-1};

/// Positions that rows have in common, the first ones of a run of the slot's cache.
struct SharedRun {
  std::int32_t cache_row = 0;    // place of what keeps them in the slot's cache
  std::int32_t cache_begin = 0;  // first of the slot's positions that are its own
  std::int32_t length = 0;       // how many of them, a multiple of prefix_grain

  bool operator==(const SharedRun&) const = default;
};

/// Positions that these are together.
constexpr std::int32_t total_length(std::span<const SharedRun> shared) {
  std::int32_t total = 0;
  for (const SharedRun& run : shared) total += run.length;
  return total;
}

struct RowWork {
  RowId row = {};
  std::int32_t cache_row = 0;             // the row's place in its micro-batch's cache, 0 .. B-1, fixed for its life
  std::int32_t cache_begin = 0;           // first of the slot's positions that are the row's, fixed for its life
  std::int32_t start = 0;                 // the row's own position of the first new token
  bool wants_token = true;                // false: a chunk of a prompt that is not its last
  bool wants_scores = false;              // of every new token but the first: its log-probability after those before it
  std::int32_t next_token = -1;           // scored too: what the prompt has after this chunk of it; -1: nothing
  std::vector<std::int32_t> tokens = {};  // new tokens, at least one
  bool reads_prompt = false;              // the tokens are of its prompt (prefill), not the one it made last (decode)
  std::vector<SharedRun> shared = {};     // its positions from 0 on, read in sweeps before; what follows is its own

  std::int32_t count() const { return static_cast<std::int32_t>(tokens.size()); }
  /// Positions whose logits are computed: all of a row that is scored, else the last one or none.
  std::int32_t num_outputs() const { return wants_scores ? count() : wants_token ? 1 : 0; }
  std::int32_t length() const { return start + count(); }
  /// The row's first position that is not shared: it lies at cache_begin.
  std::int32_t own_begin() const { return total_length(shared); }
  bool operator==(const RowWork&) const = default;
};

/// How a row's token is chosen where that is not simply the likeliest, or comes with log-probabilities.
struct RowChoice {
  std::int32_t row = 0;             // in MicroBatchWork::rows
  std::int32_t num_prompt_top = 0;  // alternatives to each token of its prompt, where that is scored
  bool wants_score = false;         // the log-probability of its new token
  SampleRow how = {};               // of its new token, but for what is known where the token is chosen
  std::vector<TokenAdjustment> adjustments = {};

  bool operator==(const RowChoice&) const = default;
};

/// The order of rows that decode: by where their caches lie, and so that those that share lie together.
bool lies_before(const RowWork& row, const RowWork& other);

struct MicroBatchWork {
  std::int32_t slot = 0;  // which cache slot of the engine the rows live in: group * K + k
  std::vector<RowWork> rows;
  std::vector<RowChoice> choices = {};  // of rows that have one and an output, in their order; none: all greedy

  std::int32_t num_tokens() const {
    std::int32_t total = 0;
    for (const RowWork& row : rows) total += row.count();
    return total;
  }
  bool operator==(const MicroBatchWork&) const = default;
};

struct SweepWork {
  std::int64_t number = 0;  // counts the sweeps of a job
  GroupId group;
  bool more_follow = true;  // another sweep comes: its first weights may be loaded early
  std::vector<MicroBatchWork> micro_batches;

  /// New tokens of the rows that read their prompts, and of those that do not: a sweep may bring both.
  std::int64_t num_prompt_tokens() const;
  std::int64_t num_decode_tokens() const;
  bool operator==(const SweepWork&) const = default;
};

/// Compact binary form for the control channel, and back. `decode_work` throws InternalError on malformed input.
std::vector<std::byte> encode_work(const SweepWork& work);
SweepWork decode_work(std::span<const std::byte> message);

}  // namespace flexgen
