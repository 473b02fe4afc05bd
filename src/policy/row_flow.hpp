// How the rows of a job pass through one group's block, sweep by sweep: who reads its prompt, who makes a token, and
// how long the rows' caches are by then. What batch/ does with rows, here in numbers alone; pure arithmetic.
#pragma once

#include <cstdint>
#include <functional>

#include "spec/policy.hpp"

namespace flexgen {

struct FlowSweep {
  double prompt_tokens = 0;    // as far as rows read them themselves
  double beginning = 0;        // rows whose prompts these are; a part of a row counts as such
  double decoding = 0;         // rows that make a token
  double decode_position = 0;  // their tokens in the cache, in the mean
  double count = 1;            // such sweeps
};

/// Calls `visit` for all sweeps of a group in order; alike ones of a long steady state come as one of a larger count.
/// @param block  its sizes and rule
/// @param job    rows of all groups; of how many tokens they make mean and spread count, not the order
void follow_rows(const BlockShape& block, const JobShape& job, const std::function<void(const FlowSweep&)>& visit);

}  // namespace flexgen
