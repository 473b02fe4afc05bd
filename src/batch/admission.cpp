#include "batch/admission.hpp"

#include <algorithm>
#include <optional>

namespace flexgen {

void admit_rows(Block& block, WaitingRows& rows, const BlockShape& shape, std::int64_t num_idle) {
  if (!block.is_empty()) return;
  std::int64_t room = shape.block_rows();
  if (const std::optional<std::int64_t> waiting = rows.count())
    room = std::min(room, (*waiting + num_idle - 1) / num_idle);
  for (std::int32_t k = 0; k < shape.num_micro_batches; ++k)
    for (std::int32_t b = 0; b < shape.micro_batch_size; ++b, --room) {
      if (room <= 0 || !rows.any()) return;
      block.admit({k, b}, rows.take());
    }
}

}  // namespace flexgen
