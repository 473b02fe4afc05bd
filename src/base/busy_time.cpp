#include "base/busy_time.hpp"

#include <algorithm>
#include <iterator>

namespace flexgen {

void BusyTime::add(std::uint64_t begin_ns, std::uint64_t end_ns) {
  begin_ns = std::max(begin_ns, horizon_ns_);
  if (begin_ns >= end_ns) return;
  // All intervals that touch the new one become one with it.
  auto at = intervals_.upper_bound(begin_ns);
  if (at != intervals_.begin() && std::prev(at)->second >= begin_ns) --at;
  while (at != intervals_.end() && at->first <= end_ns) {
    begin_ns = std::min(begin_ns, at->first);
    end_ns = std::max(end_ns, at->second);
    total_ns_ -= at->second - at->first;
    at = intervals_.erase(at);
  }
  intervals_.emplace_hint(at, begin_ns, end_ns);
  total_ns_ += end_ns - begin_ns;
  if (intervals_.size() > most_intervals) forget_oldest();
}

void BusyTime::forget_oldest() {
  const auto kept = std::next(intervals_.begin(), most_intervals / 2);
  horizon_ns_ = std::prev(kept)->second;
  intervals_.erase(intervals_.begin(), kept);
}

}  // namespace flexgen
