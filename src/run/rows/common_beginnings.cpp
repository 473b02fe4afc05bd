#include "run/rows/common_beginnings.hpp"

#include <cstddef>

#include "base/fnv.hpp"
#include "batch/prefix_tree.hpp"

namespace flexgen {
namespace {

// Goes on from the hash of what stands before it.
std::uint64_t add_token(std::uint64_t hash, std::int32_t token) {
  auto value = static_cast<std::uint32_t>(token);
  for (int i = 0; i < 4; ++i, value >>= 8) hash = fnv_add(hash, static_cast<std::uint8_t>(value));
  return hash;
}

}  // namespace

std::int64_t CommonBeginnings::add(std::span<const std::int32_t> prompt) {
  const auto num_shareable = static_cast<std::size_t>(shareable_tokens(prompt.size()));
  std::uint64_t hash = fnv_begin;
  std::int64_t num_common = 0;
  for (std::size_t i = 0; i < num_shareable; ++i) {
    hash = add_token(hash, prompt[i]);
    if ((i + 1) % prefix_grain == 0 && !seen_.insert(hash).second) num_common = static_cast<std::int64_t>(i) + 1;
  }
  return num_common;
}

}  // namespace flexgen
