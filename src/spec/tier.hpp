// The tiers that hold a stage's memory, and what the bytes on them are for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace flexgen {

enum class TierKind : std::uint8_t { gpu, dram, ssd };
inline constexpr std::size_t num_tiers = 3;
/// "gpu", "dram" or "ssd".
std::string_view tier_name(TierKind tier);

/// The homes of the three tensor classes, in the order of TensorClass; all else passes through, or is scratch.
enum class MemoryUse : std::uint8_t {
  weights,
  cache,
  hidden,
  staging,    // slots, buffers in transit, tables, and what rounding up to whole blocks costs
  workspace,  // scratch of the ops
  unclaimed,  // taken for pieces that nobody has asked for yet
};
inline constexpr std::size_t num_memory_uses = 6;
/// "weights", "cache", ...
std::string_view memory_use_name(MemoryUse use);

}  // namespace flexgen
