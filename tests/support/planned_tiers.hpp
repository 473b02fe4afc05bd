// The memory of some pieces, for tests of those who take it: budgets of a GiB, the host device, a folder for scratch
// files.
#pragma once

#include <optional>

#include "base/bytes.hpp"
#include "engine/tier_memory.hpp"
#include "tests/support/scratch_place.hpp"

namespace flexgen::test {

/// The pieces of a layout's home, and whatever else it names.
template <class Layout>
MemoryPieces home_of(const Layout& layout) {
  MemoryPieces pieces;
  layout.name_home(pieces);
  return pieces;
}

/// Of a stream of the host device.
inline std::optional<DiskStaging> host_staging(bool uses_disk) {
  return uses_disk ? std::optional<DiskStaging>(std::in_place) : std::nullopt;
}

class PlannedTiers {
 public:
  explicit PlannedTiers(const MemoryPieces& pieces) : pieces_(pieces) {}

  TierMemory& memory() { return memory_; }
  const MemoryPieces& pieces() const { return pieces_; }
  std::uint64_t used_bytes(TierKind tier, MemoryUse use) const { return memory_.budget(tier).used_bytes(use); }

 private:
  ScratchPlace scratch_;
  MemoryPieces pieces_;
  TierMemory memory_{pieces_, {GiB, GiB, GiB}, Device{}, scratch_.path()};
};

}  // namespace flexgen::test
