// Codes and parameters of a compressed cache on their way through shared memory (compressed_decode.cuh).
//
// Four neighbouring heads of a row share a block, and the ring: where their codes and their parameters follow each
// other, as they do within a segment (spec/quantization.hpp), a position is four runs of 16-byte pieces, which the
// threads of the block fetch in order. Other groups of heads (fewer than four, of two segments, or on other
// boundaries) come piece by piece, into the same places: what is computed does not depend on how it came.
//
// A stage holds 32 positions: a row of keys of each, [codes of four heads][parameters], then as many rows of values.
// Rows begin an odd multiple of 32 (keys) or 16 bytes (values) apart, modulo the banks: lanes that read neighbouring
// positions, or every other one, then meet in no bank.
#pragma once

#include "ops/cuda/attention/decode.cuh"
#include "ops/cuda/compressed_elements.cuh"
#include "ops/cuda/cuda_tensor_core.cuh"

namespace flexgen {

inline constexpr int kStoredHeads = 4;  // of a block
inline constexpr int kStoredSets = 2;   // warps of a head: each takes every other tile of positions
inline constexpr int kStoredWarps = kStoredHeads * kStoredSets;
inline constexpr int kTilePositions = 16;
inline constexpr int kStagePositions = kStoredSets * kTilePositions;
inline constexpr int kMostStages = 4;
inline constexpr int kMostColumns = 4;  // groups of 32 in 128 dimensions

struct StoredDecodeParams {
  DecodeParams decode;
  int columns;     // groups of a head, rounded up to a power of two
  int num_groups;  // of a head
  int code_bytes;  // of one key of one head
  int key_pitch;   // bytes from row to row of a stage
  int value_pitch;
  int stages;
  bool bfloat16;  // of q and out; else float16
};

__host__ __device__ inline int stored_stage_bytes(const StoredDecodeParams& p) {
  return kStagePositions * (p.key_pitch + p.value_pitch);
}

/// One thread's view of the ring. kDims: 64 or 128, head_dim rounded up. `at`: of a stage, in bytes.
template <int kBits, int kDims>
struct StoredRing {
  static constexpr int kPieces = kDims * kBits / 256;  // 8-byte pieces of a lane's part of a key; also words of a value
  static constexpr int kRowChunks = kStoredHeads * kDims * kBits / 128;  // of 16 bytes, keys' codes of a position
  static constexpr int kPassPositions = kStoredWarps * 32 / (2 * kRowChunks);
  static constexpr int kPasses = kStagePositions / kPassPositions;

  std::byte* shared;
  // what this thread fetches
  const std::byte* codes;  // of position 0
  const std::byte* parameters;
  std::uint32_t stride;  // bytes from position to position
  int end;               // positions
  int codes_position;    // of the first pass, in a stage
  int codes_to;          // in a stage; negative: nothing
  int codes_step;        // from pass to pass
  int parameters_to;
  bool in_runs;  // the same in all threads
  // what this lane uses
  int key_at;
  int key_parameters_at;
  int second_column;  // from the parameters of the first column to those of the second
  int value_at;
  int value_parameters_at;
  int piece_step[kPieces];  // from a key's first piece to the others

  /// Whether heads follow each other from the first on, all on boundaries of 16 bytes.
  static __device__ bool follow_each_other(const StoredDecodeParams& p, const KvHead (&head)[kStoredHeads]) {
    const KvHead& first = head[0];
    bool result = ((reinterpret_cast<std::uintptr_t>(first.base) | static_cast<std::uint32_t>(first.position_stride) |
                    static_cast<std::uint32_t>(first.v_offset) | static_cast<std::uint32_t>(first.k_parameters) |
                    static_cast<std::uint32_t>(first.v_parameters)) &
                   15U) == 0;
#pragma unroll
    for (int h = 1; h < kStoredHeads; ++h) {
      const KvHead& next = head[h];
      const int off = h * (4 * p.num_groups - p.code_bytes);  // parameters count from a head's own codes on
      result = result && next.base == first.base + h * p.code_bytes && next.position_stride == first.position_stride &&
               next.v_offset == first.v_offset && next.k_parameters == first.k_parameters + off &&
               next.v_parameters == first.v_parameters + off;
    }
    return result;
  }

  /// work.head: the first of the block. Places that stand for no dimension are read as a real one is: they are
  /// multiplied by zero, or left out.
  __device__ void set(const StoredDecodeParams& p, const DecodeWork& work, const KvHead (&head)[kStoredHeads],
                      std::byte* memory) {
    const int thread = threadIdx.x, lane = thread % 32, head_of_warp = thread / 32 % kStoredHeads;
    const int set = thread / 32 / kStoredHeads;
    const KvHead& first = head[0];
    const int values = kStagePositions * p.key_pitch;
    shared = memory;
    stride = first.position_stride;
    end = work.end;
    in_runs = follow_each_other(p, head);

    const int all_codes = kStoredHeads * p.code_bytes;
    int chunk = thread % (2 * kRowChunks), position = thread / (2 * kRowChunks);
    codes_position = position;
    bool of_values = chunk >= kRowChunks;
    chunk %= kRowChunks;
    int pitch = of_values ? p.value_pitch : p.key_pitch;
    codes = first.base + (of_values ? first.v_offset : 0) + 16 * chunk;
    codes_to = 16 * chunk < all_codes ? (of_values ? values : 0) + position * pitch + 16 * chunk : -1;
    codes_step = kPassPositions * pitch;

    // eight threads per position for up to four pieces of keys and of values
    chunk = thread % 4, position = thread / 8, of_values = thread % 8 >= 4;
    pitch = of_values ? p.value_pitch : p.key_pitch;
    parameters = first.base + (of_values ? first.v_parameters : first.k_parameters) + 16 * chunk;
    parameters_to = chunk < p.num_groups ? (of_values ? values : 0) + position * pitch + all_codes + 16 * chunk : -1;
    // Each a register of its own: taken apart into base and offset again, they would cost two additions per copy.
    asm volatile("" : "+l"(codes), "+l"(parameters));

    const int g = lane / 4, t = lane % 4;
    const int first_column = 2 * t % p.columns;
    const int key = set * kTilePositions + g, value = set * kTilePositions + 2 * t;
    const int own_codes = head_of_warp * p.code_bytes, own_parameters = all_codes + head_of_warp * 4 * p.num_groups;
    const int key_byte = 8 * t < p.code_bytes ? 8 * t : 0;
    const int value_byte = 4 * kPieces * g < p.code_bytes ? 4 * kPieces * g : 0;
    key_at = key * p.key_pitch + own_codes + key_byte;
    key_parameters_at = key * p.key_pitch + own_parameters + 4 * first_column;
    second_column = p.columns > 1 && first_column + 1 < p.num_groups ? 4 : 0;
    value_at = values + value * p.value_pitch + own_codes + value_byte;
    value_parameters_at = values + value * p.value_pitch + own_parameters + 4 * min(g % p.columns, p.num_groups - 1);
#pragma unroll
    for (int j = 0; j < kPieces; ++j) piece_step[j] = 32 * j + key_byte < p.code_bytes ? 32 * j : 0;
  }

  /// Starts copying 32 positions from `first` on; positions that do not exist are copies of the last one.
  __device__ void fetch(const StoredDecodeParams& p, const DecodeWork& work, int count, int at, int first) const {
    if (first < end) {
      if (in_runs) {
        fetch_runs(at, first);
      } else {
        fetch_pieces(p, work, count, at, first);
      }
    }
    commit_copies();  // an empty group, too: groups are counted
  }

  /// Of a position, or of the last one.
  __device__ std::uint64_t offset(int position) const {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(min(position, end - 1))) * stride;
  }

  __device__ void fetch_runs(int at, int first) const {
    if (codes_to >= 0) {
      std::byte* to = shared + at + codes_to;
#pragma unroll
      for (int n = 0; n < kPasses; ++n)
        copy_16_async(to + n * codes_step, codes + offset(first + codes_position + n * kPassPositions));
    }
    if (parameters_to >= 0)
      copy_16_async(shared + at + parameters_to, parameters + offset(first + static_cast<int>(threadIdx.x / 8)));
  }

  /// In pieces of 8 bytes (codes) and 4 (parameters), each by way of its own head.
  __device__ void fetch_pieces(const StoredDecodeParams& p, const DecodeWork& work, int count, int at,
                               int first) const {
    const KvHead* heads = heads_of_row(p.decode.heads, p.decode.num_heads, work.row);
    const int code_pieces = p.code_bytes / 8, pieces = code_pieces + p.num_groups;
#pragma unroll 1
    for (int i = threadIdx.x; i < kStagePositions * 2 * count * pieces; i += kStoredWarps * 32) {
      const int piece = i % pieces, run = i / pieces;  // run: (position, keys or values, head)
      const int h = run % count, of_values = run / count % 2, position = run / count / 2;
      const CachePart part = of_values ? CachePart::values : CachePart::keys;
      const CacheSpan span{heads[kv_head_of(work.head + h)], end};
      const std::int64_t from_position = min(first + position, end - 1);
      std::byte* to =
          shared + at + (of_values ? kStagePositions * p.key_pitch + position * p.value_pitch : position * p.key_pitch);
      if (piece < code_pieces) {
        const std::byte* from = span.at(part, from_position, 1);
        copy_small_async<8>(to + h * p.code_bytes + 8 * piece, from + 8 * piece);
      } else {
        const int group = piece - code_pieces;
        const std::byte* from = span.parameters(part, from_position);
        copy_small_async<4>(to + kStoredHeads * p.code_bytes + 4 * (h * p.num_groups + group), from + 4 * group);
      }
    }
  }

  template <typename T>
  __device__ const T& in(int offset) const {
    return *reinterpret_cast<const T*>(shared + offset);
  }
  /// A piece of the key of position g + 8 * h of this warp's tile.
  __device__ uint2 key(const StoredDecodeParams& p, int at, int h, int piece) const {
    return in<uint2>(at + key_at + 8 * h * p.key_pitch + piece_step[piece]);
  }
  /// Scale and minimum of keys: of position g, two columns, of position g + 8, two columns.
  __device__ uint4 key_parameters(const StoredDecodeParams& p, int at) const {
    const int near = at + key_parameters_at, far = near + 8 * p.key_pitch;
    return make_uint4(in<std::uint32_t>(near), in<std::uint32_t>(near + second_column), in<std::uint32_t>(far),
                      in<std::uint32_t>(far + second_column));
  }
  static __device__ int value_row(int i) { return i % 2 + i / 2 * 8; }
  /// Words of the value of the lane's i-th position.
  __device__ std::uint32_t value_word(const StoredDecodeParams& p, int at, int i) const {
    return in<std::uint32_t>(at + value_at + value_row(i) * p.value_pitch);
  }
  __device__ uint2 value_pair(const StoredDecodeParams& p, int at, int i, int word) const {
    return in<uint2>(at + value_at + value_row(i) * p.value_pitch + 4 * word);
  }
  /// Scale and minimum of values, four positions.
  __device__ uint4 value_parameters(const StoredDecodeParams& p, int at) const {
    const int from = at + value_parameters_at;
    return make_uint4(in<std::uint32_t>(from), in<std::uint32_t>(from + p.value_pitch),
                      in<std::uint32_t>(from + 8 * p.value_pitch), in<std::uint32_t>(from + 9 * p.value_pitch));
  }
};

}  // namespace flexgen
