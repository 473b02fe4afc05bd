#include "engine/link_places.hpp"

#include <algorithm>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace flexgen {
namespace {

std::uint64_t room_in(const HostPiece& memory, std::uint64_t num_parts) {
  FLEXGEN_CHECK(num_parts > 0, "the plan has no room for hidden states on their way between stages");
  return memory.offset(num_parts);
}

}  // namespace

std::optional<std::uint64_t> RingPlaces::take(std::uint64_t bytes) {
  const std::uint64_t size = align_up(std::max<std::uint64_t>(bytes, 1), cache_line_bytes);
  std::uint64_t begin = 0;
  std::uint64_t end = capacity_bytes_;
  if (!taken_.empty()) {
    const std::uint64_t oldest = taken_.front().begin;
    begin = taken_.back().end;
    if (taken_.back().begin < oldest) {
      end = oldest;
    } else if (begin + size > capacity_bytes_) {
      begin = 0;
      end = oldest;
    }
  }
  if (begin + size > end) return std::nullopt;
  taken_.push_back({begin, begin + size});
  return begin;
}

ArrivalPlaces::ArrivalPlaces(Transport& transport, TierMemory& memory)
    : transport_(transport),
      memory_(memory.on_host(Piece::received_hidden)),
      places_(room_in(memory_, memory.num_parts_on_host(Piece::received_hidden))) {}

void ArrivalPlaces::expect(std::span<const std::uint64_t> bytes) {
  const std::lock_guard lock(mutex_);
  expected_.insert(expected_.end(), bytes.begin(), bytes.end());
  receive_what_fits();
}

void ArrivalPlaces::receive_what_fits() {
  while (!expected_.empty()) {
    const std::optional<std::uint64_t> at = places_.take(expected_.front());
    if (!at) break;
    const std::span<std::byte> states(memory_.data() + *at, expected_.front());
    arrivals_.push_back({states, transport_.recv(states, transport_.rank() - 1, Channel::hidden)});
    expected_.pop_front();
  }
}

std::span<const std::byte> ArrivalPlaces::take(Tracer* tracer) {
  PendingOp* receiving = nullptr;
  std::span<const std::byte> states;
  {
    const std::lock_guard lock(mutex_);
    FLEXGEN_CHECK(!arrivals_.empty(), "hidden states are taken that nobody expects");
    receiving = arrivals_.front().receiving.get();
    states = arrivals_.front().states;
  }
  const TraceSpan span(tracer, Resource::recv, "hidden", states.size());
  receiving->wait();
  return states;
}

void ArrivalPlaces::give_back() {
  const std::lock_guard lock(mutex_);
  arrivals_.pop_front();
  places_.free_oldest();
  receive_what_fits();
}

DeparturePlaces::DeparturePlaces(Transport& transport, TierMemory& memory, WaitTimes* waits)
    : transport_(transport),
      memory_(memory.on_host(Piece::sent_hidden)),
      waits_(waits),
      is_single_(memory.num_parts_on_host(Piece::sent_hidden) == 1),
      places_(room_in(memory_, memory.num_parts_on_host(Piece::sent_hidden))) {}

std::span<std::byte> DeparturePlaces::next(std::uint64_t bytes, Tracer* tracer) {
  std::optional<std::uint64_t> at;
  while (!(at = places_.take(bytes))) {
    FLEXGEN_CHECK(!departures_.empty(), "a micro-batch is larger than the plan has room for");
    await_oldest(tracer);
  }
  return {memory_.data() + *at, bytes};
}

void DeparturePlaces::send(std::span<const std::byte> states, Tracer* tracer) {
  departures_.push_back({states.size(), now_ns(), transport_.send(states, transport_.rank() + 1, Channel::hidden)});
  if (is_single_) await_oldest(tracer);
}

void DeparturePlaces::finish(Tracer* tracer) {
  while (!departures_.empty()) await_oldest(tracer);
}

void DeparturePlaces::await_oldest(Tracer* tracer) {
  const Departure& departure = departures_.front();
  {
    const WaitSpan span(waits_, Wait::send);
    departure.sending->wait();
  }
  if (tracer)
    tracer->record(Resource::send, "hidden", departure.begin_ns, departure.sending->done_ns(), departure.bytes);
  departures_.pop_front();
  places_.free_oldest();
}

}  // namespace flexgen
