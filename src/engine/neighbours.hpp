// A stage's links to the rest of the pipeline: hidden states in and out, sampled tokens back to rank 0.
//
// Called from the tasks of the hidden streams. Where the transport moves host memory and layers compute on a GPU,
// hidden states pass through pinned staging; where it moves device memory they go from GPU to GPU in stream order.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "comm/transport.hpp"
#include "engine/tier_memory.hpp"
#include "engine/transfer.hpp"
#include "schedule/sweep_runner.hpp"

namespace flexgen {

class Neighbours {
 public:
  /// Takes Piece::received_hidden and Piece::sent_hidden where the transport moves host memory and layers compute on a
  /// GPU.
  /// @param transport  null: a single stage
  Neighbours(Transport* transport, TierMemory& memory);

  bool has_upstream() const { return transport_ && transport_->rank() > 0; }
  bool has_downstream() const { return transport_ && transport_->rank() + 1 < transport_->world_size(); }

  /// The next micro-batch's hidden states from the stage before, to the device.
  void receive_hidden(std::byte* to, std::uint64_t bytes, Transfer& transfer);
  /// Sends; returns when the device memory may be reused after what the stream holds.
  void send_hidden(const std::byte* from, std::uint64_t bytes, Transfer& transfer);

  /// Last stage: gives the tokens to rank 0.
  void send_tokens(const SampledTokens& tokens);
  /// Rank 0 of several: waits for the next micro-batch's tokens.
  SampledTokens receive_tokens();

 private:
  Transport* transport_;
  bool through_host_;
  HostPiece receive_staging_;
  HostPiece send_staging_;
};

}  // namespace flexgen
