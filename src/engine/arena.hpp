// The gpu tier: one allocation of exact size on the computing device, handed out in pieces that live as long as it.
//
// Not thread-safe; used while a stage is built.
#pragma once

#include <cstdint>
#include <string_view>

#include "device/buffer.hpp"

namespace flexgen {

class Arena {
 public:
  Arena(std::uint64_t size_bytes, const Device& device) : buffer_(MemoryKind::device, size_bytes, device) {}

  /// 4096-byte aligned; an empty piece is null. Throws InternalError when the plan was too small.
  std::byte* take(std::uint64_t bytes, std::string_view purpose);

  std::uint64_t size_bytes() const { return buffer_.size_bytes(); }

 private:
  Buffer buffer_;
  std::uint64_t used_bytes_ = 0;
};

}  // namespace flexgen
