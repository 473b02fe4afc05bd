#include "engine/plain_layer.hpp"

#include <algorithm>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "ops/quantize.hpp"
#include "policy/weight_layout.hpp"

namespace flexgen {
namespace {

bool has_many_tokens(const BatchChunk& chunk) { return chunk.batch.num_tokens >= plain_layer_tokens; }

}  // namespace

// For a single call, pieces that the GPU's cache holds on to are as good.
void PlainLayer::begin_sweep(std::span<const MicroBatch> batches) {
  forget();
  std::ptrdiff_t calls = 0;
  for (const MicroBatch& batch : batches) calls += std::ranges::count_if(batch.chunks, has_many_tokens);
  pays_ = memory_ != nullptr && calls >= 2;
}

bool PlainLayer::takes(const LayerDescription& layer, const BatchChunk& chunk) const {
  return pays_ && has_many_tokens(chunk) && std::ranges::any_of(layer.weights, is_made_plain);
}

void PlainLayer::make(const OpContext& context, const LayerDescription& layer, std::span<const MatrixView> stored) {
  weights_.assign(stored.begin(), stored.end());
  std::uint64_t used = 0;
  for (std::size_t w = 0; w < weights_.size(); ++w) {
    if (!is_made_plain(layer.weights[w]) || !stored[w].is_compressed()) continue;
    weights_[w] = contiguous_view(memory_ + used, stored[w].rows, stored[w].cols, stored[w].dtype);
    used += align_up(weights_[w].size_bytes(), weight_alignment);
    FLEXGEN_CHECK(used <= bytes_, "the plain layer is smaller than its matrices");
    dequantize_rows(context, stored[w], weights_[w]);
  }
}

}  // namespace flexgen
