// A stage's links to the rest of the pipeline: what rank 0 announces, hidden states in and out, sampled tokens back to
// rank 0.
//
// Where the transport moves host memory, hidden states pass through places of host memory (link_places): receives for
// the next sweep are under way while this one is computed, and nobody waits for a send but who needs its place. Where
// it moves device memory they go from GPU to GPU in stream order. Sweeps are announced and looked for by the thread
// that runs them; hidden states move in tasks of the hidden streams, in and out each in one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "comm/transport.hpp"
#include "engine/link_places.hpp"
#include "engine/tier_memory.hpp"
#include "engine/transfer.hpp"
#include "schedule/sweep_runner.hpp"

namespace flexgen {

class Neighbours {
 public:
  /// Takes Piece::received_hidden and Piece::sent_hidden where the transport moves host memory.
  /// @param transport    null: a single stage
  /// @param token_bytes  of a token's hidden state
  /// @param waits        null: nobody asks
  Neighbours(Transport* transport, TierMemory& memory, std::uint64_t token_bytes, WaitTimes* waits = nullptr);

  bool has_upstream() const { return transport_ && transport_->rank() > 0; }
  bool has_downstream() const { return transport_ && transport_->rank() + 1 < transport_->world_size(); }

  /// Rank 0: tells all other stages what comes next, or that nothing does.
  void announce(const SweepWork& work);
  void announce_end();
  /// Other ranks: waits for the next sweep; none: rank 0 has ended.
  std::optional<SweepWork> next_sweep();
  /// Looks, without waiting, whether the sweep after the one under way is announced: its hidden states may come then.
  void look_ahead();

  /// The next micro-batch's hidden states from the stage before, to the device.
  void receive_hidden(std::byte* to, std::uint64_t bytes, Transfer& transfer);
  /// Sends; returns when the device memory may be reused after what the stream holds.
  void send_hidden(const std::byte* from, std::uint64_t bytes, Transfer& transfer);
  /// Waits until all hidden states are away; once the tasks that send them have run.
  void finish_sending(Tracer* tracer);

  /// Last stage: gives the tokens to rank 0.
  void send_tokens(const SampledTokens& tokens);
  /// Rank 0 of several: waits for the next micro-batch's tokens.
  SampledTokens receive_tokens();

 private:
  void tell_others(std::span<const std::byte> message);
  void listen();
  void read_announcement();

  Transport* transport_;
  std::uint64_t token_bytes_;
  WaitTimes* waits_;
  bool on_gpu_;
  std::unique_ptr<ArrivalPlaces> arrivals_;       // null: nothing comes, or in device memory
  std::unique_ptr<DeparturePlaces> departures_;   // the same
  std::unique_ptr<PendingMessage> announcement_;  // being listened to
  std::optional<SweepWork> announced_;            // not asked for yet
  bool has_ended_ = false;
};

}  // namespace flexgen
