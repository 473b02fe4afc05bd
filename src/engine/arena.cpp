#include "engine/arena.hpp"

#include <fmt/format.h>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace flexgen {

std::byte* Arena::take(std::uint64_t bytes, std::string_view purpose) {
  if (bytes == 0) return nullptr;
  const std::uint64_t begin = align_up(used_bytes_, 4096);
  FLEXGEN_CHECK(begin + bytes <= buffer_.size_bytes(),
                fmt::format("the gpu tier of {} has no room for {} of {}", format_bytes(buffer_.size_bytes()),
                            format_bytes(bytes), purpose));
  used_bytes_ = begin + bytes;
  return buffer_.data() + begin;
}

}  // namespace flexgen
