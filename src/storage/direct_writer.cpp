#include "storage/direct_writer.hpp"

#include <algorithm>
#include <cstring>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace flexgen {
namespace {

// Copies bytes [begin, begin + size) of head + body + zeros.
void gather(const ExtentWrite& write, std::uint64_t begin, std::uint64_t size, std::byte* destination) {
  std::uint64_t part_begin = 0;
  std::uint64_t copied = 0;
  for (const std::span<const std::byte> part : {write.head, write.body}) {
    const std::uint64_t at = begin + copied;
    if (copied < size && at < part_begin + part.size()) {
      const std::uint64_t count = std::min<std::uint64_t>(size - copied, part_begin + part.size() - at);
      std::memcpy(destination + copied, part.data() + (at - part_begin), count);
      copied += count;
    }
    part_begin += part.size();
  }
  std::memset(destination + copied, 0, size - copied);
}

class WriteSource : public IoSource {
 public:
  WriteSource(std::span<const ExtentWrite> writes, BounceArea& bounce) : writes_(writes), bounce_(bounce) {
    bounce_.reset();
  }

  bool next(IoRequest& request, std::uint64_t& tag) override {
    while (current_ < writes_.size() && position_ == writes_[current_].size_bytes) {
      ++current_;
      position_ = 0;
    }
    if (current_ == writes_.size()) return false;
    const ExtentWrite& write = writes_[current_];
    std::uint64_t size = straight_bytes(write);
    if (size > 0) {
      // The kernel only reads a buffer that is written out.
      request.data = const_cast<std::byte*>(write.body.data());
      tag = BounceArea::no_slot_tag;
    } else {
      const auto slot = bounce_.take();
      if (!slot) return false;
      size = std::min(BounceArea::slot_bytes, write.size_bytes - position_);
      gather(write, position_, size, bounce_.data(*slot));
      request.data = bounce_.data(*slot);
      tag = *slot;
    }
    request.fd = write.file->fd();
    request.offset_bytes = write.offset_bytes + position_;
    request.size_bytes = size;
    request.write = true;
    position_ += size;
    return true;
  }

  void done(std::uint64_t tag) override {
    if (tag != BounceArea::no_slot_tag) bounce_.give_back(static_cast<std::uint32_t>(tag));
  }

 private:
  std::uint64_t straight_bytes(const ExtentWrite& write) const {
    const auto address = reinterpret_cast<std::uintptr_t>(write.body.data());
    if (position_ > 0 || !write.head.empty() || address % direct_alignment != 0) return 0;
    return align_down(std::min<std::uint64_t>(write.body.size(), write.size_bytes), direct_alignment);
  }

  std::span<const ExtentWrite> writes_;
  BounceArea& bounce_;
  std::size_t current_ = 0;
  std::uint64_t position_ = 0;  // within the current extent
};

}  // namespace

void write_extents(IoQueue& queue, std::span<const ExtentWrite> writes) {
  for (const ExtentWrite& write : writes) {
    FLEXGEN_CHECK(write.file && write.file->is_open(), "an extent needs an open file");
    FLEXGEN_CHECK(write.offset_bytes % direct_alignment == 0 && write.size_bytes % direct_alignment == 0,
                  "only whole blocks are written");
  }
  WriteSource source(writes, queue.bounce());
  queue.run_source(source);
}

}  // namespace flexgen
