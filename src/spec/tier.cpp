#include "spec/tier.hpp"

namespace flexgen {

std::string_view tier_name(TierKind tier) {
  switch (tier) {
    case TierKind::gpu: return "gpu";
    case TierKind::dram: return "dram";
    case TierKind::ssd: return "ssd";
  }
  return "unknown";
}

std::string_view memory_use_name(MemoryUse use) {
  switch (use) {
    case MemoryUse::weights: return "weights";
    case MemoryUse::cache: return "cache";
    case MemoryUse::hidden: return "hidden";
    case MemoryUse::staging: return "staging";
    case MemoryUse::workspace: return "workspace";
    case MemoryUse::unclaimed: return "unclaimed";
  }
  return "unknown";
}

}  // namespace flexgen
