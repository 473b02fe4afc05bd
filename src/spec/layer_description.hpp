// What one layer of a sweep holds: its weights, where a checkpoint keeps them, whether it has a KV cache.
// Made by a model family (src/model), read by the memory plan and the engine. Plain data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace flexgen {

/// One tensor of a checkpoint: the first of `keys` that exists is taken.
struct CheckpointKeys {
  std::vector<std::string> keys;
  std::int64_t num_elements = 0;
};

/// A matrix as the layer computes with it: the elements of its sources one after another (so q, k and v are one
/// product). A vector has rows == 1.
struct WeightSpec {
  std::string name;  // "qkv.weight"
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<CheckpointKeys> sources;
  std::string shared_as;    // not empty: layers of a slice that name the same share one copy (tied head)
  float random_center = 0;  // of made-up weights (bench --dummy): LayerNorm weights lie about 1
  float random_scale = 0;

  std::int64_t num_elements() const { return rows * cols; }
};

enum class LayerKind : std::uint8_t { embedding, attention, mlp, block, head };

struct LayerDescription {
  LayerKind kind = LayerKind::block;
  std::int32_t decoder_layer = -1;  // index in the model; -1 for embedding and head
  std::string name;                 // "attention 3"
  std::vector<WeightSpec> weights;

  bool has_cache() const { return kind == LayerKind::attention || kind == LayerKind::block; }
  std::int64_t num_elements() const {
    std::int64_t total = 0;
    for (const WeightSpec& weight : weights) total += weight.num_elements();
    return total;
  }
};

}  // namespace flexgen
