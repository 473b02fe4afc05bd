// What comes out of a model: the logits of the head become tokens and scores, and these go to the host and on to
// whoever collects them.
//
//   compute: head -> logits of a range of outputs -> sample -> tokens and scores, range by range
//   deliver: tokens, scores, alternatives and, where they are kept, logits to the host -> sinks
//
// It has no stream of its own: it computes on that of the context, and delivers on the stream that a stage before would
// send hidden states on, which orders it (hidden_lane). One per SliceExecutor and called by its thread, the sinks by
// that stream's.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "base/ids.hpp"
#include "device/buffer.hpp"
#include "engine/neighbours.hpp"
#include "engine/sampler.hpp"
#include "engine/stage_memory.hpp"
#include "engine/sweep_batches.hpp"
#include "engine/transfer_stream.hpp"
#include "model/layer.hpp"

namespace flexgen {

/// Called with each micro-batch's tokens on the last stage.
using TokenSink = std::function<void(SampledTokens)>;
/// The same for the logits behind them: [outputs, vocab] float32, host memory.
using LogitsSink = std::function<void(std::int64_t sweep, MicroBatchId, std::span<const float> logits)>;

struct OutputSinks {
  TokenSink tokens;
  LogitsSink logits;  // empty: logits are not kept
};

class OutputLane {
 public:
  /// @param layers  of the slice; one without a head has no outputs
  OutputLane(const StagePlan& plan, const Layers& layers, StageMemory& memory, const Device& device, OutputSinks sinks);

  void begin_sweep(std::int64_t number) { sweep_ = number; }

  /// The head on a chunk of micro-batch k. Logits take what the context's workspace has room for at a time.
  void compute(const OpContext& context, const Layer& head, const LayerCall& call, const MicroBatch& batch,
               const BatchChunk& chunk, MicroBatchId k) const;
  bool keeps_logits() const { return static_cast<bool>(sinks_.logits); }

  /// Posts to `out` what takes the outputs of micro-batch k away; `out` waits for them already.
  void deliver(MicroBatchId k, const MicroBatch& batch, TransferStream& out);

 private:
  // Of a micro-batch, where the task that delivers them runs.
  struct Delivery {
    std::int64_t sweep;
    MicroBatchId k;
    std::size_t count;  // outputs
    bool has_scores;
    std::int32_t max_top;  // of these
  };

  void deliver_in_task(const Delivery& what, Transfer& transfer);
  /// Where in the arrays output `first` of micro-batch k is, of `max_top` alternatives each.
  OutputArrays at(const OutputArrays& all, MicroBatchId k, std::int64_t first, std::int32_t max_top) const;

  OutputSinks sinks_;
  std::int64_t vocab_;
  std::size_t max_outputs_;       // of a micro-batch
  std::int64_t outputs_of_call_;  // of a call of the head, at most
  std::size_t max_top_;           // alternatives of an output
  OutputArrays device_;           // of [num_micro_batches * max_outputs]
  OutputArrays host_;             // the same, in host memory
  Buffer logits_;                 // [rows, vocab] float32 on the device, when they are kept
  std::int64_t sweep_ = 0;        // its number
};

}  // namespace flexgen
