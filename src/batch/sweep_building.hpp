// What of a block's sequences the next sweep brings. Every sequence that decodes brings its token; what is left of a
// micro-batch's budget goes to the prompts: what rows share before what they wait to read behind it, and then those
// that were begun first before the others.
#pragma once

#include <cstdint>
#include <vector>

#include "batch/block.hpp"
#include "schedule/work_list.hpp"

namespace flexgen {

/// Micro-batches with at least one row, in order; none where the block is empty. What they bring counts as computed.
/// The rows of each: those that read prompts, then those that decode (lies_before).
/// @param num_tokens  of a micro-batch at most, at least B
std::vector<MicroBatchWork> build_micro_batches(Block& block, std::int32_t num_tokens);

}  // namespace flexgen
