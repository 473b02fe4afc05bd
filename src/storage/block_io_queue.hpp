// The loop that all engines share; an engine only starts blocks and reports how they ended.
#pragma once

#include <cstdint>
#include <vector>

#include "storage/block_ledger.hpp"
#include "storage/io_queue.hpp"

namespace flexgen {

class BlockIoQueue : public IoQueue {
 public:
  void run_source(IoSource& source) final;

 protected:
  struct Completion {
    IoBlock* block = nullptr;
    std::int64_t result = 0;  // bytes, or a negated errno
  };

  explicit BlockIoQueue(int depth);

  /// Queues one block; it may start now or in wait(). Never called with more than `depth` blocks in flight.
  virtual void submit(IoBlock& block) = 0;
  /// Waits until at least one block has ended and appends all that have.
  virtual void wait(std::vector<Completion>& completions) = 0;

 private:
  BlockLedger ledger_;
  std::vector<Completion> completions_;
};

}  // namespace flexgen
