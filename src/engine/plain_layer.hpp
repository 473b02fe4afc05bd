// The compressed matrices of one layer made plain, once for all calls of many tokens that a sweep has for the layer.
//
// What is made and read here is so on the computing stream alone, whose order is all that keeps layers apart. Calls of
// few tokens never read it: their products take codes, and on a GPU may read weights before the kernel that precedes
// them has ended (ops/cuda/cuda_dependency.cuh).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/sweep_batches.hpp"
#include "ops/context.hpp"
#include "ops/matrix_view.hpp"
#include "spec/layer_description.hpp"

namespace flexgen {

class PlainLayer {
 public:
  /// @param memory  of the computing device; null: no call takes plain matrices
  /// @param bytes   of the largest layer's matrices made plain (MemoryPlan::plain_layer_bytes)
  PlainLayer(std::byte* memory, std::uint64_t bytes) : memory_(memory), bytes_(bytes) {}

  /// Before the sweep's first layer: decides whether its layers have calls enough.
  void begin_sweep(std::span<const MicroBatch> batches);
  /// Before a layer's first micro-batch: what was made is of another layer.
  void forget() { weights_.clear(); }

  /// Whether this call of the layer is to be computed with `weights`, which `make` makes first where not is_made.
  bool takes(const LayerDescription& layer, const BatchChunk& chunk) const;
  bool is_made() const { return !weights_.empty(); }
  /// `stored`: the layer's weights, in the order of its description. Enqueues on the context's stream.
  void make(const OpContext& context, const LayerDescription& layer, std::span<const MatrixView> stored);
  /// In the order of the description; what is not made plain is as it is stored. Valid until `forget`.
  std::span<const MatrixView> weights() const { return weights_; }

 private:
  std::byte* memory_;
  std::uint64_t bytes_;
  bool pays_ = false;  // in this sweep
  std::vector<MatrixView> weights_;
};

}  // namespace flexgen
