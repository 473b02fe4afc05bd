// How much cache a micro-batch has for its rows, where it lies, and how many tokens it may bring in a sweep: from the
// sizes of a block and the rows of a job. Pure arithmetic.
#pragma once

#include <cstdint>
#include <vector>

#include "spec/block_limits.hpp"
#include "spec/policy.hpp"

namespace flexgen {

/// A part of a micro-batch's cache whose sequences are all treated alike.
struct CacheBand {
  std::int32_t num_positions = 0;
  Share share;                    // over the tiers, of every sequence's heads
  bool attended_by_host = false;  // decode attention of its sequences is the host's
};

/// Positions that the rows of one micro-batch share. Rolling: what B rows in flight take, and as much more as their
/// sum strays; at least the longest row, at most B of it, as fixed blocks have it.
std::int32_t cache_positions(const BlockShape& block, const JobShape& job);

/// Tokens that a micro-batch may bring in a sweep. Rolling: one a row, and twice the prompt tokens that keep the block
/// full in the long run, so that it fills in half a row's life, or more where the job is short (at once where all its
/// rows are in flight together); fixed: all prompts at once.
std::int32_t micro_batch_tokens(const BlockShape& block, const JobShape& job);

/// The bands of every cache slot. Where the host attends for a part of the rows, whole sequences lie on a tier; else
/// every sequence has its heads on the tiers alike, in one band, or in as many as the other ranks' slots are cut into.
std::vector<std::vector<CacheBand>> cache_bands(const Policy& policy, const JobShape& job);

BlockLimits block_limits(const Policy& policy, const JobShape& job);

}  // namespace flexgen
