// The tables that tell attention where the heads of a micro-batch lie in a layer: one per (layer with a cache, cache
// slot). A decode finds them as the sweep before has left them; what changed is brought to the device.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "device/stream.hpp"
#include "engine/stage_memory.hpp"
#include "ops/batch_view.hpp"

namespace flexgen {

/// Whose heads a table lists, one after the other.
struct TableRows {
  std::span<const CacheRow> rows;  // those that the computation attends for
  std::span<const CacheRow> runs;  // what they share
};

class CacheTables {
 public:
  /// Takes Piece::cache_tables; on the host there is one image alone.
  CacheTables(const StagePlan& plan, StageMemory& memory, const Device& device);

  /// The cache of these rows of a (cache layer, slot), whose staged part is at `stage`; for work that is enqueued on
  /// `compute` afterwards. What used the table of that layer and slot before must be over. Of the runs it has the heads
  /// alone: which row shares which is a chunk's affair.
  KvView view(std::int32_t layer, std::int32_t slot, const TableRows& of, std::byte* stage, Stream& compute);

 private:
  const StagePlan& plan_;
  const KvCache& cache_;
  std::size_t entries_;            // of one table at most
  HostPiece host_;                 // [layers, slots, entries] KvHead
  KvHead* device_ = nullptr;       // the same, null on the host
  std::vector<std::size_t> used_;  // entries of each table
};

}  // namespace flexgen
