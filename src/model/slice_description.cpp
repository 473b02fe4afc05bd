#include "model/slice_description.hpp"

#include <algorithm>
#include <memory>

#include "device/buffer.hpp"
#include "model/layer.hpp"
#include "ops/linear.hpp"

namespace flexgen {

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
  return slice;
}

}  // namespace flexgen
