// The book-keeping that every I/O engine shares: splits requests into blocks, resumes short ones, and knows when a
// request is complete or the run has failed.
//
// Ownership: owns the blocks (as many as may be in flight), borrows the source. Thread-safety: none; the thread that
// runs the queue calls it, whatever threads perform the blocks.
#pragma once

#include <cstdint>
#include <exception>
#include <vector>

#include "storage/io_queue.hpp"

namespace flexgen {

/// One transfer as the kernel sees it. `start_bytes` is where in the block the next attempt begins.
struct IoBlock {
  int fd = -1;
  bool write = false;
  std::byte* data = nullptr;
  std::uint64_t offset_bytes = 0;
  std::uint32_t size_bytes = 0;
  std::uint32_t required_bytes = 0;  // what must arrive; the rest may lie past the end of the file
  std::uint32_t done_bytes = 0;
  std::uint32_t start_bytes = 0;
  std::uint32_t num_attempts = 0;
  std::uint32_t request_slot = 0;

  std::byte* next_data() const { return data + start_bytes; }
  std::uint64_t next_offset_bytes() const { return offset_bytes + start_bytes; }
  std::uint32_t next_size_bytes() const { return size_bytes - start_bytes; }
};

class BlockLedger {
 public:
  static constexpr std::uint64_t block_bytes = 1024 * 1024;

  /// At most `depth` blocks are in flight.
  explicit BlockLedger(int depth);
  BlockLedger(const BlockLedger&) = delete;
  BlockLedger& operator=(const BlockLedger&) = delete;

  void begin(IoSource& source);
  /// The next block to perform; null: none for now.
  IoBlock* next();
  /// Takes the outcome of a block that next() gave: the byte count, or a negated errno.
  void complete(IoBlock& block, std::int64_t result);
  /// Nothing is in flight.
  bool idle() const { return num_in_flight_ == 0; }
  /// Throws what ended the run early, if anything did.
  void rethrow() const;

 private:
  struct ActiveRequest {
    IoRequest request;
    std::uint64_t tag = 0;
    std::uint64_t split_bytes = 0;  // handed out so far
    std::uint32_t num_blocks_open = 0;
  };

  bool fetch_request();
  IoBlock* split_next_block();
  void finish_if_complete(std::uint32_t request_slot);
  void fail(std::exception_ptr error);

  IoSource* source_ = nullptr;
  std::vector<IoBlock> blocks_;
  std::vector<IoBlock*> free_blocks_;
  std::vector<IoBlock*> retries_;
  std::vector<ActiveRequest> requests_;
  std::vector<std::uint32_t> free_requests_;
  std::int64_t splitting_ = -1;  // slot of the request that is being split
  int num_in_flight_ = 0;
  std::exception_ptr error_;
};

}  // namespace flexgen
