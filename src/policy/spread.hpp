// Spreads a fraction over a sequence of parts that can only be cut at a grain: what one part is given too much, the
// next is given less, so that the whole is right to one grain and every part to one grain more.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace flexgen {

class Spread {
 public:
  explicit Spread(double fraction) : fraction_(fraction) {}

  /// How much of the next part of `size` goes here: a multiple of `grain`, or `most` (<= size) itself.
  std::uint64_t take(std::uint64_t size, std::uint64_t grain, std::uint64_t most) {
    const double wanted = fraction_ * static_cast<double>(size) + owed_;  // negative after a part that took too much
    const double cuts = std::round(std::max(0.0, wanted) / static_cast<double>(grain));
    std::uint64_t taken = std::min(static_cast<std::uint64_t>(cuts) * grain, most);
    if (std::abs(static_cast<double>(most) - wanted) < std::abs(static_cast<double>(taken) - wanted)) taken = most;
    owed_ = wanted - static_cast<double>(taken);
    return taken;
  }

 private:
  double fraction_;
  double owed_ = 0;
};

}  // namespace flexgen
