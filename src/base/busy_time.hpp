// How long something was busy, when what kept it busy may overlap: the length of the union of intervals.
//
// Intervals may come in any order; only the newest few thousand gaps are remembered, so one that begins before all of
// those counts as busy already. Thread-safety: none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace flexgen {

class BusyTime {
 public:
  void add(std::uint64_t begin_ns, std::uint64_t end_ns);
  std::uint64_t total_ns() const { return total_ns_; }

 private:
  static constexpr std::size_t most_intervals = 8192;
  void forget_oldest();

  std::map<std::uint64_t, std::uint64_t> intervals_;  // begin -> end; disjoint, touching ones joined
  std::uint64_t total_ns_ = 0;
  std::uint64_t horizon_ns_ = 0;  // all before is settled
};

}  // namespace flexgen
