#include "engine/link_places.hpp"

#include <algorithm>

#include "base/error.hpp"

namespace flexgen {

ArrivalPlaces::ArrivalPlaces(Transport& transport, TierMemory& memory)
    : transport_(transport),
      memory_(memory.on_host(Piece::received_hidden)),
      places_(memory.num_parts_on_host(Piece::received_hidden)) {
  FLEXGEN_CHECK(!places_.empty(), "the plan has no place for hidden states of the stage before");
}

void ArrivalPlaces::expect(std::span<const std::uint64_t> bytes) {
  const std::lock_guard lock(mutex_);
  if (next_expected_ == expected_.size()) {
    expected_.clear();
    next_expected_ = 0;
  }
  expected_.insert(expected_.end(), bytes.begin(), bytes.end());
  receive_what_fits();
}

void ArrivalPlaces::receive_what_fits() {
  while (next_expected_ < expected_.size() && !places_[next_to_receive_].receiving) {
    Place& place = places_[next_to_receive_];
    place.states = {memory_[next_to_receive_], expected_[next_expected_]};
    place.receiving = transport_.recv(place.states, transport_.rank() - 1, Channel::hidden);
    ++next_expected_;
    next_to_receive_ = (next_to_receive_ + 1) % places_.size();
  }
}

std::span<const std::byte> ArrivalPlaces::take(Tracer* tracer) {
  PendingOp* receiving = nullptr;
  std::span<const std::byte> states;
  {
    const std::lock_guard lock(mutex_);
    receiving = places_[next_to_take_].receiving.get();
    states = places_[next_to_take_].states;
  }
  FLEXGEN_CHECK(receiving, "hidden states are taken that nobody expects");
  const TraceSpan span(tracer, Resource::recv, "hidden", states.size());
  receiving->wait();
  return states;
}

void ArrivalPlaces::give_back() {
  const std::lock_guard lock(mutex_);
  places_[next_to_take_].receiving.reset();
  next_to_take_ = (next_to_take_ + 1) % places_.size();
  receive_what_fits();
}

DeparturePlaces::DeparturePlaces(Transport& transport, TierMemory& memory, WaitTimes* waits)
    : transport_(transport),
      memory_(memory.on_host(Piece::sent_hidden)),
      waits_(waits),
      places_(memory.num_parts_on_host(Piece::sent_hidden)) {
  FLEXGEN_CHECK(!places_.empty(), "the plan has no place for hidden states for the next stage");
}

std::byte* DeparturePlaces::next(Tracer* tracer) {
  await(places_[turn_], tracer);
  return memory_[turn_];
}

void DeparturePlaces::send(std::uint64_t bytes, Tracer* tracer) {
  Place& place = places_[turn_];
  place.bytes = bytes;
  place.begin_ns = now_ns();
  place.sending = transport_.send({memory_[turn_], bytes}, transport_.rank() + 1, Channel::hidden);
  turn_ = (turn_ + 1) % places_.size();
  if (places_.size() == 1) await(place, tracer);
}

void DeparturePlaces::finish(Tracer* tracer) {
  for (std::size_t i = 0; i < places_.size(); ++i) await(places_[(turn_ + i) % places_.size()], tracer);
}

void DeparturePlaces::await(Place& place, Tracer* tracer) {
  if (!place.sending) return;
  {
    const WaitSpan span(waits_, Wait::send);
    place.sending->wait();
  }
  if (tracer) tracer->record(Resource::send, "hidden", place.begin_ns, place.sending->done_ns(), place.bytes);
  place.sending.reset();
}

}  // namespace flexgen
