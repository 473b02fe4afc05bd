#include "ops/context.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace flexgen {

std::byte* Workspace::take(std::uint64_t bytes, std::string_view purpose) {
  constexpr std::uint64_t kAlignment = 256;
  const std::uint64_t address = reinterpret_cast<std::uint64_t>(data_) + used_bytes_;
  const std::uint64_t first = used_bytes_ + (align_up(address, kAlignment) - address);
  FLEXGEN_CHECK(first <= size_bytes_ && bytes <= size_bytes_ - first,
                fmt::format("the workspace of {} bytes is too small: {} wants {} bytes beside the {} in use",
                            size_bytes_, purpose, bytes, used_bytes_));
  used_bytes_ = first + bytes;
  peak_bytes_ = std::max(peak_bytes_, used_bytes_);
  return data_ + first;
}

}  // namespace flexgen
