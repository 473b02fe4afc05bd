// The room's own counters behind device_call_counts().
#pragma once

#include <atomic>
#include <cstdint>

namespace flexgen {

struct AtomicCallCounts {
  std::atomic<std::uint64_t> host_waits{0};
  std::atomic<std::uint64_t> allocations{0};
  std::atomic<std::uint64_t> pinning_ns{0};
};
AtomicCallCounts& call_counts();

}  // namespace flexgen
