#include "storage/block_ledger.hpp"

#include <algorithm>
#include <cerrno>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "storage/io_error.hpp"

namespace flexgen {
namespace {

// Far more than any healthy kernel asks for; ends a spin on a device that only ever says "again".
constexpr std::uint32_t max_attempts = 100'000;

}  // namespace

BlockLedger::BlockLedger(int depth) {
  FLEXGEN_CHECK(depth > 0, "an I/O queue needs a depth of at least 1");
  blocks_.resize(static_cast<std::size_t>(depth));
  requests_.resize(blocks_.size() + 1);  // each in flight has a block; one more may be about to be split
  free_blocks_.reserve(blocks_.size());
  free_requests_.reserve(requests_.size());
}

void BlockLedger::begin(IoSource& source) {
  FLEXGEN_CHECK(idle(), "run() of an I/O queue was called from its own callback");
  source_ = &source;
  free_blocks_.clear();
  for (IoBlock& block : blocks_) free_blocks_.push_back(&block);
  free_requests_.clear();
  for (std::uint32_t slot = 0; slot < requests_.size(); ++slot) free_requests_.push_back(slot);
  retries_.clear();
  splitting_ = -1;
  error_ = nullptr;
}

IoBlock* BlockLedger::next() {
  if (error_) return nullptr;
  IoBlock* block = nullptr;
  if (!retries_.empty()) {
    block = retries_.back();
    retries_.pop_back();
  } else if (!free_blocks_.empty() && (splitting_ >= 0 || fetch_request())) {
    block = split_next_block();
  }
  if (!block) return nullptr;
  ++block->num_attempts;
  ++num_in_flight_;
  return block;
}

// Empty requests are complete at once.
bool BlockLedger::fetch_request() {
  try {
    while (!error_) {
      IoRequest request;
      std::uint64_t tag = 0;
      if (!source_->next(request, tag)) return false;
      if (request.size_bytes == 0) {
        source_->done(tag);
        continue;
      }
      splitting_ = free_requests_.back();
      free_requests_.pop_back();
      requests_[static_cast<std::size_t>(splitting_)] = {request, tag, 0, 0};
      return true;
    }
  } catch (...) {
    fail(std::current_exception());
  }
  return false;
}

IoBlock* BlockLedger::split_next_block() {
  ActiveRequest& active = requests_[static_cast<std::size_t>(splitting_)];
  const IoRequest& request = active.request;
  const std::uint64_t begin = active.split_bytes;
  const std::uint64_t size = std::min(block_bytes, request.size_bytes - begin);
  const std::uint64_t required_end = request.size_bytes - std::min(request.optional_tail_bytes, request.size_bytes);
  const std::uint64_t required = required_end > begin ? std::min(required_end - begin, size) : 0;

  IoBlock* block = free_blocks_.back();
  free_blocks_.pop_back();
  *block = {.fd = request.fd,
            .write = request.write,
            .data = request.data + begin,
            .offset_bytes = request.offset_bytes + begin,
            .size_bytes = static_cast<std::uint32_t>(size),
            .required_bytes = static_cast<std::uint32_t>(request.write ? size : required),
            .request_slot = static_cast<std::uint32_t>(splitting_)};
  active.split_bytes += size;
  ++active.num_blocks_open;
  if (active.split_bytes == request.size_bytes) splitting_ = -1;
  return block;
}

void BlockLedger::complete(IoBlock& block, std::int64_t result) {
  --num_in_flight_;
  if (error_) return;  // the run only drains
  if (result < 0) {
    const int error_number = static_cast<int>(-result);
    const bool transient = error_number == EINTR || error_number == EAGAIN;
    if (transient && block.num_attempts < max_attempts) {
      retries_.push_back(&block);
    } else {
      fail(std::make_exception_ptr(
          io_error(block.fd, block.write, block.next_offset_bytes(), block.next_size_bytes(), error_number)));
    }
    return;
  }
  const std::uint32_t reached = block.start_bytes + static_cast<std::uint32_t>(result);
  if (reached >= block.required_bytes) {
    free_blocks_.push_back(&block);
    --requests_[block.request_slot].num_blocks_open;
    finish_if_complete(block.request_slot);
  } else if (reached > block.done_bytes) {
    // Resume at a multiple of the alignment, so that direct I/O accepts it.
    block.done_bytes = reached;
    block.start_bytes = static_cast<std::uint32_t>(align_down(reached, direct_alignment));
    retries_.push_back(&block);
  } else {
    fail(std::make_exception_ptr(io_error(block.fd, block.write, block.offset_bytes + reached,
                                          block.required_bytes - reached, block.write ? EIO : end_of_file)));
  }
}

void BlockLedger::finish_if_complete(std::uint32_t request_slot) {
  const ActiveRequest& active = requests_[request_slot];
  if (active.num_blocks_open > 0 || active.split_bytes < active.request.size_bytes) return;
  const std::uint64_t tag = active.tag;
  free_requests_.push_back(request_slot);
  try {
    source_->done(tag);
  } catch (...) {
    fail(std::current_exception());
  }
}

void BlockLedger::fail(std::exception_ptr error) {
  if (!error_) error_ = std::move(error);
}

void BlockLedger::rethrow() const {
  if (error_) std::rethrow_exception(error_);
}

}  // namespace flexgen
