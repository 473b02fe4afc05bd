// What of a block's sequences the next sweep brings. Static blocks: of every sequence what comes next, prompts whole.
#pragma once

#include <vector>

#include "batch/block.hpp"
#include "schedule/work_list.hpp"

namespace flexgen {

/// Micro-batches with at least one row, in order; none where the block is empty. What they bring counts as computed.
std::vector<MicroBatchWork> build_micro_batches(Block& block);

}  // namespace flexgen
