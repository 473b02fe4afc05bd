#include "model/slice_description.hpp"

#include <algorithm>
#include <memory>

#include "device/buffer.hpp"
#include "model/layer.hpp"
#include "ops/host_scratch.hpp"
#include "ops/linear.hpp"
#include "ops/parallel_for.hpp"

namespace flexgen {
namespace {

std::uint64_t attention_scratch(const AttentionSpec& spec, const BlockShape& block, const CallSizes& largest,
                                HostCalls calls) {
  const AttentionSizes sizes{largest.rows,
                             spec.kv_heads,
                             spec.head_size,
                             largest.longest,
                             block.dtype,
                             block.cache_format,
                             static_cast<float>(block.attention_sparsity),
                             block.num_prefixes > 0};
  return calls == HostCalls::all ? attention_scratch_bytes(sizes) : attention_decode_scratch_bytes(sizes);
}

/// Of all products with a layer's matrices, and of their being compressed.
std::uint64_t weight_scratch(const LayerDescription& layer, const BlockShape& block, std::int64_t tokens,
                             HostCalls calls) {
  std::uint64_t most = 0;
  for (const WeightSpec& weight : layer.weights) {
    const bool compressed = !stored_format(weight.role, block.weight_format).is_none();
    if (compressed) most = std::max(most, quantize_scratch_bytes(weight.cols));
    if (calls == HostCalls::all)
      most = std::max(most, linear_scratch_bytes({tokens, weight.rows, weight.cols, block.dtype, compressed}));
  }
  return most;
}

std::uint64_t host_scratch(const ModelSpec& model, const LayerList& layers, const BlockShape& block,
                           const CallSizes& largest, HostCalls calls) {
  std::uint64_t most = calls == HostCalls::all ? layer_norm_scratch_bytes(model.hidden) : 0;
  for (const LayerDescription& layer : layers) {
    most = std::max(most, weight_scratch(layer, block, largest.tokens, calls));
    if (layer.kind == LayerKind::head && largest.samples && calls == HostCalls::all)
      most = std::max(most, sample_rows_scratch_bytes(model.vocab));
    if (layer.has_cache()) most = std::max(most, attention_scratch(model.attention, block, largest, calls));
  }
  return most;
}

}  // namespace

SliceDescription describe_slice(const ModelSpec& model, const SliceBounds& bounds, bool separate_layers,
                                const Device& device) {
  const auto layers = std::make_shared<const Layers>(make_layers(model, bounds, separate_layers));
  SliceDescription slice;
  slice.layers = describe(*layers);
  slice.on_gpu = device.is_cuda();
  slice.reads_pinned_memory = !device.is_cuda() || reads_pinned_memory(device);
  slice.workspace_bytes = [layers, device](const BlockShape& block, const CallSizes& largest) {
    std::uint64_t most = 0;
    for (const auto& layer : *layers) most = std::max(most, layer->workspace_bytes(device, block, largest));
    most += linear_workspace_bytes(device);
    return block.weight_format.is_none() ? most : most + linear_compressed_workspace_bytes(device);
  };
  slice.host_scratch_bytes = [shared_model = std::make_shared<const ModelSpec>(model), described = slice.layers](
                                 const BlockShape& block, const CallSizes& largest, HostCalls calls) {
    return host_scratch(*shared_model, described, block, largest, calls);
  };
  slice.num_loop_threads = num_loop_threads();
  return slice;
}

}  // namespace flexgen
