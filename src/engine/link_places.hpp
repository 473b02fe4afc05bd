// Hidden states of micro-batches on their way between stages, in places of host memory that are taken in turn: receives
// are started before anybody waits for them, sends are left to themselves.
//
// The transport and the memory outlive both. What is still under way when one dies is cancelled, or given two seconds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/trace.hpp"
#include "comm/transport.hpp"
#include "engine/tier_memory.hpp"
#include "engine/wait_times.hpp"

namespace flexgen {

/// Of the stage before. Receives begin as soon as a micro-batch is expected and a place is free. One thread expects,
/// another takes.
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
  struct Place {
    std::unique_ptr<PendingOp> receiving;  // null: free
    std::span<std::byte> states;
  };
  void receive_what_fits();  // mutex_ held

  Transport& transport_;
  HostPiece memory_;
  std::mutex mutex_;
  std::vector<std::uint64_t> expected_;  // bytes, oldest first from next_expected_ on
  std::size_t next_expected_ = 0;
  std::size_t next_to_receive_ = 0;  // place
  std::size_t next_to_take_ = 0;
  std::vector<Place> places_;  // after memory_: receives end before it goes
};

/// To the next stage. For one thread at a time.
class DeparturePlaces {
 public:
  /// Takes Piece::sent_hidden. @param waits  null: nobody asks
  DeparturePlaces(Transport& transport, TierMemory& memory, WaitTimes* waits);

  /// Memory for the next micro-batch; waits until what was sent from there is away, and throws what became of that.
  std::byte* next(Tracer* tracer);
  /// Sends what lies there. With a single place, returns once that is away.
  void send(std::uint64_t bytes, Tracer* tracer);
  /// Waits until all is away.
  void finish(Tracer* tracer);

 private:
  struct Place {
    std::unique_ptr<PendingOp> sending;  // null: free
    std::uint64_t bytes = 0;
    std::uint64_t begin_ns = 0;
  };
  void await(Place& place, Tracer* tracer);

  Transport& transport_;
  HostPiece memory_;
  WaitTimes* waits_;
  std::size_t turn_ = 0;
  std::vector<Place> places_;  // after memory_: sends end before it goes
};

}  // namespace flexgen
