// The pieces of memory that a stage takes, by name: what the plan emits and takers ask for. Sizes are worked out once,
// by the layouts and in memory_plan.cpp; nobody else computes one. Plain data.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/bytes.hpp"
#include "spec/tier.hpp"

namespace flexgen {

/// A piece may lie on several tiers: a home that is split, or an array that the device has and the host an image of.
enum class Piece : std::uint8_t {
  weights_home,
  cache_home,
  hidden_home,

  weight_slots,   // of layers that are not resident
  cache_slots,    // of (layer, micro-batch) parts that are not resident
  hidden_slots,   // of micro-batches that are not resident
  decode_states,  // hidden states of a decode step, which stay on the device wherever their home is: one a micro-batch
  plain_layer,    // the largest layer's compressed matrices made plain
  workspace,      // scratch of the ops for one call
  host_scratch,   // of the ops, on the threads of the host: one part a thread

  index_arrays,    // int32, of one sweep; two sets
  cache_tables,    // of all (layer, slot)s
  sampled_tokens,  // [micro-batches, outputs] int32, where the head writes them
  scores,          // the same, float32
  result_tokens,   // the same, where the last stage's arrive in host memory
  result_scores,
  alternatives,         // [micro-batches, outputs, most of an output] int32, and their scores: two parts
  result_alternatives,  // the same, where they arrive

  projected,  // of attention on the host: a block's queries, keys and values, on either side
  attended,   // and what attention made of them

  weight_disk_halves,  // pinned memory through which a stream's disk transfers pass to a GPU: two halves a stream
  cache_disk_halves,
  hidden_disk_halves,
  weight_disk_bounce,  // aligned memory of a stream's disk transfers that are not aligned themselves: one a stream
  cache_disk_bounce,
  hidden_disk_bounce,
  incomplete_blocks,  // of the cache on ssd: the last block of every region

  received_hidden,  // hidden states on their way from and to other stages through host memory
  sent_hidden,
};
inline constexpr std::size_t num_pieces = 29;
/// "weights", "KV cache", ...: as messages name it.
std::string_view piece_name(Piece piece);
MemoryUse use_of(Piece piece);

/// Where pieces of a device's memory, and of a scratch file, begin.
inline constexpr std::uint64_t piece_alignment = 4096;
/// Where parts of one allocation of host memory begin.
inline constexpr std::uint64_t cache_line_bytes = 64;

/// The pieces of a tensor class's streams that come from or go to the disk.
struct DiskPieces {
  Piece halves;
  Piece bounce;
};
inline constexpr DiskPieces disk_pieces_of_weights{Piece::weight_disk_halves, Piece::weight_disk_bounce};
inline constexpr DiskPieces disk_pieces_of_cache{Piece::cache_disk_halves, Piece::cache_disk_bounce};
inline constexpr DiskPieces disk_pieces_of_hidden{Piece::hidden_disk_halves, Piece::hidden_disk_bounce};

/// A piece on one tier: `count` parts of `bytes` each.
struct PlannedPiece {
  std::uint64_t bytes = 0;
  std::uint64_t count = 0;
  std::uint64_t alignment = 1;       // of each part: it takes up what is left to the next
  std::uint64_t uneven_padding = 0;  // where parts differ, `bytes` is their sum, and this what aligning each costs

  std::uint64_t content_bytes() const { return bytes * count; }
  /// From one part to the next.
  std::uint64_t stride_bytes() const { return align_up(bytes, alignment); }
  /// What the tier gives for it.
  std::uint64_t taken_bytes() const { return stride_bytes() * count + uneven_padding; }
};

class MemoryPieces {
 public:
  /// Names a piece; an empty one is left out. InternalError when it has been named before.
  void add(Piece piece, TierKind tier, const PlannedPiece& planned);
  /// Empty where the plan has no such piece.
  const PlannedPiece& at(Piece piece, TierKind tier) const {
    return pieces_[static_cast<std::size_t>(piece)][static_cast<std::size_t>(tier)];
  }
  bool has(Piece piece, TierKind tier) const { return at(piece, tier).count > 0; }

  /// All that a tier gives; what it gives for one use, where rounding up to whole blocks is staging.
  std::uint64_t taken_bytes(TierKind tier) const;
  std::uint64_t taken_bytes(TierKind tier, MemoryUse use) const;

 private:
  std::array<std::array<PlannedPiece, num_tiers>, num_pieces> pieces_{};
};

}  // namespace flexgen
