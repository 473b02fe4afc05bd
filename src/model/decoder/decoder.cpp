#include "model/decoder/decoder.hpp"

#include "model/decoder/block.hpp"
#include "model/decoder/embedding.hpp"
#include "model/decoder/head.hpp"

namespace flexgen {

Layers make_decoder_layers(const ModelSpec& model, const CheckpointNames& names, const SliceBounds& bounds,
                           bool separate_layers) {
  const bool separate = separate_layers && model.residual != Residual::parallel;
  Layers layers;
  if (bounds.has_embedding) layers.push_back(std::make_unique<Embedding>(model, names));
  for (std::int32_t i = 0; i < bounds.num_decoder_layers; ++i) {
    const std::int32_t index = bounds.first_decoder_layer + i;
    if (separate) {
      layers.push_back(std::make_unique<AttentionLayer>(model, names, index));
      layers.push_back(std::make_unique<MlpLayer>(model, names, index));
    } else {
      layers.push_back(std::make_unique<Block>(model, names, index));
    }
  }
  if (bounds.has_head) layers.push_back(std::make_unique<Head>(model, names));
  return layers;
}

}  // namespace flexgen
