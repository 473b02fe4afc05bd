#include "batch/sweep_building.hpp"

#include <cstdint>
#include <utility>

namespace flexgen {

std::vector<MicroBatchWork> build_micro_batches(Block& block) {
  std::vector<MicroBatchWork> micro_batches;
  std::int32_t slot = block.first_slot();
  for (Block::Rows& rows : block.micro_batches()) {
    MicroBatchWork batch;
    batch.slot = slot++;
    batch.rows.reserve(rows.size());
    for (std::optional<Sequence>& sequence : rows)
      if (sequence) batch.rows.push_back(sequence->next_work());
    if (!batch.rows.empty()) micro_batches.push_back(std::move(batch));
  }
  return micro_batches;
}

}  // namespace flexgen
