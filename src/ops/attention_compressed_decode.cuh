// Attention of single tokens over a compressed cache: codes are read once, and are tensor-core operands as they are.
//
// One block per (row, head, split), as in attention_decode.cuh. A warp takes tiles of 16 positions in turn. With c the
// codes (exact in float16, less their centre), s and m the scale and the minimum + centre * scale of a group:
//
//   keys    C [16 positions, 8] = c [16 positions, dims] . B,  column j of B: q of the dims of group j % columns alone
//           score = sum over groups of s * C + m * sum(q)
//   values  O [dims, 8] += c^T [dims, 16 positions] . W,  column j of W: weight * s of group j % columns
//           out = O at the column of the dimension's own group + sum of weight * m
//
// so that a product needs no more than a shift, a mask and an addition for two codes, and sums are float32. With g =
// lane / 4 and t = lane % 4 (cuda_tensor_core.cuh), a lane holds of keys the positions g and g + 8, of values the
// positions 2t, 2t + 1, 2t + 8 and 2t + 9; dimensions come in the order of the stored words. Two positions' words of
// values become pairs of equal dimensions by one permutation for four pairs.
// Codes and parameters come through a ring in shared memory, filled by asynchronous copies. Each lane fetches what it
// will itself use, so the ring needs no barriers.
#pragma once

#include "ops/attention_decode.cuh"
#include "ops/compressed_elements.cuh"
#include "ops/cuda_tensor_core.cuh"

namespace flexgen {

inline constexpr int kStoredWarps = 4;
inline constexpr int kStoredStages = 3;
inline constexpr int kTilePositions = 16;
inline constexpr int kMostColumns = 4;  // groups of 32 in 128 dimensions

struct StoredDecodeParams {
  DecodeParams decode;
  int columns;     // groups of a head, rounded up to a power of two
  int num_groups;  // of a head
  bool bfloat16;   // of q and out; else float16
};

/// One lane's part of a warp's ring. kDims: 64 or 128, head_dim rounded up.
template <int kBits, int kDims>
struct StoredRing {
  static constexpr int kPieces = kDims * kBits / 256;  // 8-byte pieces of a key; also words of a value
  static constexpr int kWarpBytes = 32 * (16 * kPieces + 16 * kPieces + 32);  // of a stage
  static constexpr int kBlockBytes = kWarpBytes * kStoredStages * kStoredWarps;

  std::byte* own;         // the warp's part
  const std::byte* keys;  // what this lane fetches of position 0
  const std::byte* values;
  const std::byte* key_parameters;
  const std::byte* value_parameters;
  std::uint32_t stride;  // bytes from position to position
  int lane;
  int end;                  // positions
  int piece_step[kPieces];  // from a key's first piece to the others
  int second_column;        // from the parameters of the first column to those of the second

  __device__ uint2* key(int stage, int h, int piece) const {
    return reinterpret_cast<uint2*>(own + stage * kWarpBytes) + (h * kPieces + piece) * 32 + lane;
  }
  /// Two words of one position's value, or all there is of it.
  __device__ std::byte* value(int stage, int i, int word) const {
    constexpr int kSlot = kPieces == 1 ? 4 : 8;
    return own + stage * kWarpBytes + 512 * kPieces + (i * kPieces + word / 2 * 2) * 128 + lane * kSlot + word % 2 * 4;
  }
  /// which 0: scale and minimum of keys: position g, two columns, position g + 8, two columns; 1: of values, four
  /// positions.
  __device__ uint4* parameters(int stage, int which) const {
    return reinterpret_cast<uint4*>(own + stage * kWarpBytes + 1024 * kPieces) + which * 32 + lane;
  }

  /// Places that stand for no position or no dimension get what a real one has: it is multiplied by zero, or left out.
  __device__ void set(const StoredDecodeParams& p, const DecodeWork& work, std::byte* shared, int warp, int its_lane) {
    const KvHead head = p.decode.heads[static_cast<std::int64_t>(work.row) * p.decode.num_heads + work.head];
    const int code_bytes = p.decode.head_dim * kBits / 8;
    lane = its_lane;
    const int g = lane / 4, t = lane % 4;
    const int first_column = 2 * t % p.columns;
    own = shared + warp * kStoredStages * kWarpBytes;
    stride = head.position_stride;
    end = work.end;
    const int key_at = 8 * t < code_bytes ? 8 * t : 0;
    const int value_at = 4 * kPieces * g < code_bytes ? 4 * kPieces * g : 0;
    keys = head.base + key_at;
    values = head.base + head.v_offset + value_at;
    key_parameters = head.base + head.k_parameters + 4 * first_column;
    value_parameters = head.base + head.v_parameters + 4 * min(g % p.columns, p.num_groups - 1);
#pragma unroll
    for (int j = 0; j < kPieces; ++j) piece_step[j] = 32 * j + key_at < code_bytes ? 32 * j : 0;
    second_column = p.columns > 1 && first_column + 1 < p.num_groups ? 4 : 0;
    // Each a register of its own: taken apart into base and offset again, they would cost two additions per copy.
    asm volatile("" : "+l"(keys), "+l"(values), "+l"(key_parameters), "+l"(value_parameters));
  }
  /// Of a position, or of the last one.
  __device__ std::uint64_t offset(int position) const {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(min(position, end - 1))) * stride;
  }

  __device__ void fetch(int stage, int tile) const {
    if (tile < end) {
      const int g = lane / 4, t = lane % 4;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const std::uint64_t at = offset(tile + g + 8 * h);
#pragma unroll
        for (int j = 0; j < kPieces; ++j) copy_small_async<8>(key(stage, h, j), keys + at + piece_step[j], true);
        auto* to = reinterpret_cast<std::uint32_t*>(parameters(stage, 0)) + 2 * h;
        copy_small_async<4>(to, key_parameters + at, true);
        copy_small_async<4>(to + 1, key_parameters + at + second_column, true);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const std::uint64_t at = offset(tile + 2 * t + i % 2 + i / 2 * 8);
#pragma unroll
        for (int w = 0; w < kPieces; w += 2)
          copy_small_async<kPieces == 1 ? 4 : 8>(value(stage, i, w), values + at + 4 * w, true);
        copy_small_async<4>(reinterpret_cast<std::uint32_t*>(parameters(stage, 1)) + i, value_parameters + at, true);
      }
    }
    commit_copies();  // an empty group, too: groups are counted
  }
};

/// This lane's q for the products with keys: pairs of dimensions in the order of the stored words, zero outside the
/// group of the lane's column.
template <int kBits, int kDims>
struct StoredQuery {
  static constexpr int kWords = kDims * kBits / 128;  // of a key, per lane
  static constexpr int kPairs = kWordCodes<kBits> / 2;
  std::uint32_t pair[kWords][kPairs];
  float scale_log2;  // what is left to multiply scores with
  float sum[2];      // of q over the groups of this lane's columns 2t and 2t + 1

  __device__ void load(const StoredDecodeParams& p, const DecodeWork& work, int lane) {
    const int column_group = lane / 4 % p.columns;
    const std::int64_t at = work.token * p.decode.q_stride + static_cast<std::int64_t>(work.head) * p.decode.head_dim;
    float2 value[kWords][kPairs];
    float largest = 0.0F;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        const int dim = (w / 2 * 32 + lane % 4 * 8 + w % 2 * 4) * 8 / kBits + 2 * i;
        float2& x = value[w][i];
        x = make_float2(0.0F, 0.0F);
        if (dim < p.decode.head_dim) {
          const auto bits = *reinterpret_cast<const std::uint32_t*>(p.decode.q + (at + dim) * 2);
          x = p.bfloat16 ? unpack_pair<__nv_bfloat16>(bits) : unpack_pair<__half>(bits);
        }
        largest = fmaxf(largest, fmaxf(fabsf(x.x), fabsf(x.y)));
        if (dim >> p.decode.group_shift != column_group) x = make_float2(0.0F, 0.0F);
      }
    }
    // Brought to below 2 by a power of two: what bfloat16 holds then fits float16.
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffU, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffU, largest, 2));
    const std::uint32_t exponent = min(max(__float_as_uint(largest) >> 23, 1U), 253U);
    const float factor = __uint_as_float((254U - exponent) << 23);
    scale_log2 = p.decode.scale_log2 * __uint_as_float(exponent << 23);
    float total[4] = {};
    const std::uint32_t ones[4] = {0x3c003c00U, 0x3c003c00U, 0x3c003c00U, 0x3c003c00U};
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
#pragma unroll
      for (int i = 0; i < kPairs; ++i) pair[w][i] = pack_pair<__half>(value[w][i].x * factor, value[w][i].y * factor);
#pragma unroll
      for (int i = 0; i < kPairs; i += 2) multiply_add<__half>(total, ones, pair[w][i], pair[w][i + 1]);
    }
    sum[0] = total[0];
    sum[1] = total[1];
  }

  /// Scores of positions g and g + 8, not yet times scale_log2.
  template <typename Ring>
  __device__ float2 scores(const Ring& ring, int stage, int columns) const {
    constexpr float kCentreCode = kCentre<kBits>;
    constexpr int kChains = kWords > 2 ? 2 : 1;  // of products: even and odd words apart
    float c[kChains][4] = {{kCentreCode * sum[0], kCentreCode * sum[1], kCentreCode * sum[0], kCentreCode * sum[1]}};
#pragma unroll
    for (int j = 0; j < kWords / 2; ++j) {
      const uint2 low = *ring.key(stage, 0, j);
      const uint2 high = *ring.key(stage, 1, j);
#pragma unroll
      for (int w = 0; w < 2; ++w) {
        std::uint32_t a[kPairs], b[kPairs];
        unpack_codes<kBits, true>(w == 0 ? low.x : low.y, a);
        unpack_codes<kBits, true>(w == 0 ? high.x : high.y, b);
#pragma unroll
        for (int i = 0; i < kPairs; i += 2) {
          const std::uint32_t codes[4] = {a[i], b[i], a[i + 1], b[i + 1]};
          multiply_add<__half>(c[w % kChains], codes, pair[2 * j + w][i], pair[2 * j + w][i + 1]);
        }
      }
    }
    if constexpr (kChains == 2) {
#pragma unroll
      for (int i = 0; i < 4; ++i) c[0][i] += c[1][i];
    }
    const uint4 line = *ring.parameters(stage, 0);
    const float2 first[2] = {scale_and_minimum(line.x), scale_and_minimum(line.z)};
    const float2 second[2] = {scale_and_minimum(line.y), scale_and_minimum(line.w)};
    float score[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      score[h] = first[h].x * c[0][2 * h] + first[h].y * sum[0];
      if (columns > 1) score[h] += second[h].x * c[0][2 * h + 1] + second[h].y * sum[1];
      if (columns > 2) score[h] += __shfl_xor_sync(0xffffffffU, score[h], 1);
    }
    return make_float2(score[0] * scale_log2, score[1] * scale_log2);
  }
};

/// Running softmax of a warp and its weighted sums of codes.
template <int kBits, int kDims>
struct StoredSums {
  static constexpr int kWords = kDims * kBits / 256;  // of a value, per lane
  static constexpr int kPairs = kWordCodes<kBits> / 2;
  /// Weights are 2^kBoost at most: with a scale they fit float16, and small ones keep more of their bits.
  static constexpr float kBoost = kBits == 4 ? 2.0F : 6.0F;

  float largest = kNoScore;  // of the warp
  float weight = 0.0F;       // of this lane's two positions
  float minimum = 0.0F;      // sum of weight * m over this lane's four positions, of its column's group
  float sum[kWords][2][kPairs / 2][4] = {};

  /// Weights of the scores of positions g and g + 8.
  __device__ float2 weights(float2 score) {
    float top = fmaxf(score.x, score.y);
#pragma unroll
    for (int offset = 4; offset < 32; offset *= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffU, top, offset));
    if (top > largest) {  // the same in all lanes
      const float factor = exp2_fast(largest - top);
      largest = top;
      weight *= factor;
      minimum *= factor;
#pragma unroll
      for (int w = 0; w < kWords; ++w) {
#pragma unroll
        for (int i = 0; i < kPairs; ++i) {
#pragma unroll
          for (int c = 0; c < 4; ++c) sum[w][i % 2][i / 2][c] *= factor;
        }
      }
    }
    const float2 share = make_float2(exp2_fast(score.x - largest + kBoost), exp2_fast(score.y - largest + kBoost));
    weight += share.x + share.y;
    return share;
  }

  template <typename Ring>
  __device__ void add_values(const Ring& ring, int stage, float2 share, int lane) {
    constexpr float kCentreCode = kCentre<kBits>;
    const int source = lane % 4 * 8;  // a lane that holds positions 2t and 2t + 8; four on: the next ones
    const float at[4] = {__shfl_sync(0xffffffffU, share.x, source), __shfl_sync(0xffffffffU, share.x, source + 4),
                         __shfl_sync(0xffffffffU, share.y, source), __shfl_sync(0xffffffffU, share.y, source + 4)};
    const uint4 lines = *ring.parameters(stage, 1);
    const float2 line[4] = {scale_and_minimum(lines.x), scale_and_minimum(lines.y), scale_and_minimum(lines.z),
                            scale_and_minimum(lines.w)};
#pragma unroll
    for (int i = 0; i < 4; ++i) minimum = fmaf(at[i], fmaf(kCentreCode, line[i].x, line[i].y), minimum);
    const std::uint32_t b0 = pack_pair<__half>(at[0] * line[0].x, at[1] * line[1].x);
    const std::uint32_t b1 = pack_pair<__half>(at[2] * line[2].x, at[3] * line[3].x);
    // two words of neighbouring positions -> the same dimensions side by side
    [[maybe_unused]] uint2 piece[4];
    constexpr unsigned kMerge[2] = {kBits == 4 ? 0x5410U : 0x5140U, kBits == 4 ? 0x7632U : 0x7362U};
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      std::uint32_t word[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if constexpr (kWords == 1) {
          word[i] = *reinterpret_cast<const std::uint32_t*>(ring.value(stage, i, 0));
        } else {
          if (w % 2 == 0) piece[i] = *reinterpret_cast<const uint2*>(ring.value(stage, i, w));
          word[i] = w % 2 == 0 ? piece[i].x : piece[i].y;
        }
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        std::uint32_t near[kPairs], far[kPairs];
        unpack_codes<kBits, true>(__byte_perm(word[0], word[1], kMerge[half]), near);
        unpack_codes<kBits, true>(__byte_perm(word[2], word[3], kMerge[half]), far);
#pragma unroll
        for (int i = 0; i < kPairs; i += 2) {
          const std::uint32_t codes[4] = {near[i], near[i + 1], far[i], far[i + 1]};
          multiply_add<__half>(sum[w][half][i / 2], codes, b0, b1);
        }
      }
    }
  }

  /// Sums over the warp's positions, into to[dims] (by the lane that has the column of the dimension's group).
  __device__ void finish(float* to, int head_dim, int group_shift, int lane) {
#pragma unroll
    for (int offset = 1; offset < 4; offset *= 2) minimum += __shfl_xor_sync(0xffffffffU, minimum, offset);
#pragma unroll
    for (int offset = 4; offset < 32; offset *= 2) weight += __shfl_xor_sync(0xffffffffU, weight, offset);
    const int first = lane / 4 * kWords * kWordCodes<kBits>;  // dimension
    const int group = first >> group_shift;
    const float least = __shfl_sync(0xffffffffU, minimum, group * 4 % 32);
    if (first >= head_dim || lane % 4 != group / 2) return;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int i = 0; i < kPairs; ++i) {
          const float(&c)[4] = sum[w][half][i / 2];
          const float value = group % 2 == 0 ? c[i % 2 * 2] : c[i % 2 * 2 + 1];
          const int place = kBits == 4 ? 2 * i + half : 2 * half + i;
          to[first + w * kWordCodes<kBits> + place] = value + least;
        }
      }
    }
  }
};

/// Grid (rows * heads, splits), kStoredWarps warps, StoredRing::kBlockBytes of shared memory. head_dim <= kDims, a
/// multiple of 16.
template <int kBits, int kDims>
__global__ void __launch_bounds__(kStoredWarps * 32, kBits* kDims <= 512 ? 5 : 3)
    stored_decode_kernel(const StoredDecodeParams p) {
  using Ring = StoredRing<kBits, kDims>;
  extern __shared__ uint4 shared[];
  __shared__ float shared_sum[kStoredWarps][kDims];
  __shared__ float2 shared_state[kStoredWarps];

  start_dependents_after_predecessor();
  DecodeWork work;
  if (!decode_work(p.decode, work)) return;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  Ring ring;
  ring.set(p, work, reinterpret_cast<std::byte*>(shared), warp, lane);

  constexpr int kHop = kStoredWarps * kTilePositions;
  int tile = work.begin + warp * kTilePositions;
#pragma unroll
  for (int s = 0; s < kStoredStages; ++s) ring.fetch(s, tile + s * kHop);
  StoredQuery<kBits, kDims> query;
  query.load(p, work, lane);
  StoredSums<kBits, kDims> sums;
  int stage = 0;
#pragma unroll 1
  for (; tile < work.end; tile += kHop) {
    wait_for_copies<kStoredStages - 1>();
    float2 score = query.scores(ring, stage, p.columns);
    if (tile + lane / 4 >= work.end) score.x = kNoScore;
    if (tile + lane / 4 + 8 >= work.end) score.y = kNoScore;
    sums.add_values(ring, stage, sums.weights(score), lane);
    ring.fetch(stage, tile + kStoredStages * kHop);
    stage = stage + 1 == kStoredStages ? 0 : stage + 1;
  }

  sums.finish(shared_sum[warp], p.decode.head_dim, p.decode.group_shift, lane);
  if (lane == 0) shared_state[warp] = make_float2(sums.largest, sums.weight);
  __syncthreads();
  if (p.bfloat16) {
    finish_block<__nv_bfloat16>(p.decode, work, shared_sum, shared_state);
  } else {
    finish_block<__half>(p.decode, work, shared_sum, shared_state);
  }
}

}  // namespace flexgen
