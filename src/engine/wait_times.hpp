// How long a stage stood still, by what it stood still for. Counted by the thread that waits; thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/trace.hpp"

namespace flexgen {

enum class Wait : std::uint8_t {
  load,     // for weights, cache or hidden states on their way between tiers
  receive,  // for hidden states of the stage before
  send,     // for what was sent before to be away, so that its place is free; sends wait so beside the computation
  turn,     // between sweeps: rank 0 for the tokens of a block, the others for what rank 0 announces
};
inline constexpr std::size_t num_waits = 4;

class WaitTimes {
 public:
  void add(Wait what, std::uint64_t ns) { ns_[static_cast<std::size_t>(what)] += ns; }
  double seconds(Wait what) const { return static_cast<double>(ns_[static_cast<std::size_t>(what)]) / 1e9; }

 private:
  std::array<std::atomic<std::uint64_t>, num_waits> ns_{};
};

/// Counts the life of a scope in which a thread waits.
class WaitSpan {
 public:
  WaitSpan(WaitTimes* times, Wait what) : times_(times), what_(what), begin_ns_(times ? now_ns() : 0) {}
  ~WaitSpan() {
    if (times_) times_->add(what_, now_ns() - begin_ns_);
  }
  WaitSpan(const WaitSpan&) = delete;
  WaitSpan& operator=(const WaitSpan&) = delete;

 private:
  WaitTimes* times_;  // null: nobody asks
  Wait what_;
  std::uint64_t begin_ns_;
};

}  // namespace flexgen
