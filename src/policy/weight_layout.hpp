// Where the weights of a slice lie: packs, their split over the tiers, and what a load has to bring.
//
// A pack is one layer's own weights, contiguous and aligned. Its bytes are split [0, gpu) [gpu, gpu + dram) [.., end),
// so that the achieved share is exact to the alignment and equal in every layer. Weights that lie wholly in the gpu
// part are used in place, and so are the embedding's tables, of which a sweep wants few rows, wherever the device can
// read single rows; the rest of a pack is an image that a load brings into a slot. Pure arithmetic.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "policy/memory_pieces.hpp"
#include "spec/dtype.hpp"
#include "spec/layer_description.hpp"
#include "spec/policy.hpp"

namespace flexgen {

inline constexpr std::uint64_t weight_alignment = 256;  // of each weight in its pack: vector loads, cuBLAS
inline constexpr std::uint64_t split_alignment = 4096;  // of the tier boundaries: direct file I/O

/// One layer's own weights.
struct WeightPack {
  std::uint64_t bytes = 0;
  std::uint64_t gpu_bytes = 0;
  std::uint64_t dram_bytes = 0;
  std::uint64_t gpu_offset = 0;  // of the gpu part in the gpu home of all packs
  std::uint64_t ssd_bytes() const { return bytes - gpu_bytes - dram_bytes; }
};

/// Where a layer finds one of its weights.
struct WeightPlace {
  std::int32_t pack = 0;     // another layer's when shared
  std::uint64_t offset = 0;  // in that pack
  std::uint64_t bytes = 0;
  QuantFormat quant;              // as it is stored
  bool resident = false;          // used in place in the gpu part
  bool looked_up = false;         // or in place in the gpu and the dram part, which are cut between two rows
  std::int64_t gpu_rows = 0;      // of such a table, the rows in the gpu part
  std::uint64_t slot_offset = 0;  // in the layer's slot otherwise
};

/// A range of a pack that a layer's load copies to its slot.
struct PackRange {
  std::int32_t pack = 0;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::uint64_t slot_offset = 0;
};

struct LayerWeights {
  std::vector<WeightPlace> places;  // one per WeightSpec
  std::vector<PackRange> loads;     // empty: everything is resident
  std::uint64_t slot_bytes = 0;
};

struct WeightLayout {
  std::vector<WeightPack> packs;     // one per layer
  std::vector<LayerWeights> layers;  // one per layer
  std::uint64_t gpu_bytes = 0;       // achieved, sums over the packs
  std::uint64_t dram_bytes = 0;
  std::uint64_t ssd_bytes = 0;
  std::uint64_t gpu_home_bytes = 0;  // of the gpu parts, each aligned; of the ssd parts in whole blocks
  std::uint64_t ssd_file_bytes = 0;
  std::uint64_t slot_bytes = 0;  // of the largest load; 0 when all is resident

  std::uint64_t total_bytes() const { return gpu_bytes + dram_bytes + ssd_bytes; }
  void name_home(MemoryPieces& pieces) const;
};

/// `format`: of the weights that may be compressed. `reads_dram`: the device can read single rows of the dram tier.
WeightLayout plan_weights(std::span<const LayerDescription> layers, DType dtype, const Share& share,
                          const QuantFormat& format = {}, bool reads_dram = false);

/// True of tables of which a sweep looks single rows up.
inline bool is_lookup_table(const LayerDescription& layer, const WeightSpec& weight) {
  return layer.kind == LayerKind::embedding &&
         (weight.role == WeightRole::table || weight.role == WeightRole::positions);
}

/// True of matrices that products of many tokens may find made plain; a table has a row per token looked up, or is
/// multiplied by the few positions whose logits are wanted.
inline bool is_made_plain(const WeightSpec& weight) { return weight.role == WeightRole::linear; }
/// Bytes of a layer's matrices of that kind, plain, one after another, each aligned.
std::uint64_t plain_layer_bytes(const LayerDescription& layer, DType dtype);

}  // namespace flexgen
