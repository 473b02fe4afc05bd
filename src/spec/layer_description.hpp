// What one layer of a sweep holds: its weights, where a checkpoint keeps them, whether it has a KV cache.
// Made by a model family (src/model), read by the memory plan and the engine. Plain data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "spec/dtype.hpp"
#include "spec/quantization.hpp"

namespace flexgen {

/// One tensor of a checkpoint: the first of `keys` that exists is taken.
struct CheckpointKeys {
  std::vector<std::string> keys;
  std::int64_t num_elements = 0;
};

/// What a weight is used for, as far as compression goes: `plain` ones (vectors, projections) and positions are never
/// compressed. Of the table of tokens and that of positions an embedding looks single rows up.
enum class WeightRole : std::uint8_t { plain, linear, table, positions };

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
  WeightRole role = WeightRole::plain;
  /// Index in the layer of the vector about which the matrix's inputs lie (the bias of the LayerNorm before it), where
  /// the weight that follows is the matrix's own bias; -1: not known. What compression adds to the outputs on average
  /// is then taken off that bias.
  std::int32_t mean_input = -1;

  std::int64_t num_elements() const { return rows * cols; }
};

/// How a weight is stored under a policy's format. The token table, a hundredth of the weights of a large model, never
/// has fewer than 8 bits: at 4 it costs as much accuracy as all second MLP matrices (decisions/0005-compression.md).
inline QuantFormat stored_format(WeightRole role, const QuantFormat& format) {
  if (format.is_none() || role == WeightRole::plain || role == WeightRole::positions) return {};
  return role == WeightRole::table ? QuantFormat{8, format.group} : format;
}

/// Bytes of a weight as it is stored: in `stored`, or in `dtype` where that is none.
inline std::uint64_t stored_bytes(const WeightSpec& weight, DType dtype, const QuantFormat& stored) {
  if (stored.is_none()) return static_cast<std::uint64_t>(weight.num_elements()) * element_bytes(dtype);
  return static_cast<std::uint64_t>(weight.rows) * static_cast<std::uint64_t>(stored.row_bytes(weight.cols));
}

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
