#include "storage/block_io_queue.hpp"

namespace flexgen {

BlockIoQueue::BlockIoQueue(int depth) : ledger_(depth) { completions_.reserve(static_cast<std::size_t>(depth)); }

void BlockIoQueue::run_source(IoSource& source) {
  ledger_.begin(source);
  for (;;) {
    while (IoBlock* block = ledger_.next()) submit(*block);
    if (ledger_.idle()) break;
    completions_.clear();
    wait(completions_);
    for (const Completion& completion : completions_) ledger_.complete(*completion.block, completion.result);
  }
  ledger_.rethrow();
}

}  // namespace flexgen
