// Hidden states of micro-batches on their way between stages, in host memory: receives are started before anybody waits
// for them, sends are left to themselves. Each takes as much of the memory as it needs, so that where the plan has room
// for two micro-batches of prompts, all of a sweep's that decode are under way together.
//
// The transport and the memory outlive both. What is still under way when one dies is cancelled, or given two seconds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "base/trace.hpp"
#include "comm/transport.hpp"
#include "engine/tier_memory.hpp"
#include "engine/wait_times.hpp"

namespace flexgen {

/// Places in a range of memory, which come free in the order in which they were taken: the range is a ring.
class RingPlaces {
 public:
  explicit RingPlaces(std::uint64_t capacity_bytes) : capacity_bytes_(capacity_bytes) {}

  /// Offset of so many bytes in one piece, a cache line's at least; none: there is no room before more comes free.
  std::optional<std::uint64_t> take(std::uint64_t bytes);
  void free_oldest() { taken_.pop_front(); }

 private:
  struct Range {
    std::uint64_t begin, end;
  };
  std::uint64_t capacity_bytes_;
  std::deque<Range> taken_;  // oldest first
};

/// Of the stage before. Receives begin as soon as a micro-batch is expected and there is room for it. One thread
/// expects, another takes.
class ArrivalPlaces {
 public:
  /// Takes Piece::received_hidden.
  ArrivalPlaces(Transport& transport, TierMemory& memory);

  /// A sweep will bring micro-batches of these sizes, after those that are expected already.
  void expect(std::span<const std::uint64_t> bytes);
  /// Waits for the next micro-batch; throws Error (communication) where it does not come. Its states stay until they
  /// are given back, before the next is taken.
  std::span<const std::byte> take(Tracer* tracer);
  void give_back();

 private:
  struct Arrival {
    std::span<std::byte> states;
    std::unique_ptr<PendingOp> receiving;
  };
  void receive_what_fits();  // mutex_ held

  Transport& transport_;
  HostPiece memory_;
  std::mutex mutex_;
  RingPlaces places_;
  std::deque<std::uint64_t> expected_;  // bytes, oldest first; no receive has begun
  std::deque<Arrival> arrivals_;        // oldest first; after memory_: receives end before it goes
};

/// To the next stage. For one thread at a time.
class DeparturePlaces {
 public:
  /// Takes Piece::sent_hidden. @param waits  null: nobody asks
  DeparturePlaces(Transport& transport, TierMemory& memory, WaitTimes* waits);

  /// Memory for the next micro-batch; waits until there is room, and throws what became of what was sent from there.
  std::span<std::byte> next(std::uint64_t bytes, Tracer* tracer);
  /// Sends what lies there. With room for one alone, returns once that is away.
  void send(std::span<const std::byte> states, Tracer* tracer);
  /// Waits until all is away.
  void finish(Tracer* tracer);

 private:
  struct Departure {
    std::uint64_t bytes;
    std::uint64_t begin_ns;
    std::unique_ptr<PendingOp> sending;
  };
  void await_oldest(Tracer* tracer);

  Transport& transport_;
  HostPiece memory_;
  WaitTimes* waits_;
  bool is_single_;
  RingPlaces places_;
  std::deque<Departure> departures_;  // oldest first; after memory_: sends end before it goes
};

}  // namespace flexgen
