// Which waiting rows enter a block, and where. Static blocks: a block is filled when it is empty, with up to B * K
// rows, and keeps them until the last has ended.
#pragma once

#include <cstdint>

#include "batch/block.hpp"
#include "batch/waiting_rows.hpp"
#include "spec/policy.hpp"

namespace flexgen {

/// Called before every sweep of the block.
/// @param num_idle  blocks without a sequence, this one included: they share what is left where that is known, or one
///                  would work while the other stages wait
void admit_rows(Block& block, WaitingRows& rows, const BlockShape& shape, std::int64_t num_idle);

}  // namespace flexgen
