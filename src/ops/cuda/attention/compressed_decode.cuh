// Attention of single tokens over a compressed cache: codes are read once, and are tensor-core operands as they are.
//
// One block per (row, four neighbouring heads, split), two warps per head, which take tiles of 16 positions in turn.
// What they read comes through a ring in shared memory (compressed_ring.cuh). With c the codes (exact in
// float16), s and m the scale and the minimum of a group:
//
//   keys    C [16 positions, 8] = c [16 positions, dims] . B,  column j of B: q of the dims of group j % columns alone
//           score = sum over groups of s * C + m * sum(q)
//   values  O [dims, 8] += c^T [dims, 16 positions] . W,  column j of W: weight * s of group j % columns
//           out = O at the column of the dimension's own group + sum of weight * m
//
// so that a product needs no more than a mask for two codes, and for some of them a shift; sums are float32. With g =
// lane / 4 and t = lane % 4 (cuda_tensor_core.cuh), a lane holds of keys the positions g and g + 8, of values the
// positions 2t, 2t + 1, 2t + 8 and 2t + 9; dimensions come in the order of the stored words. Two positions' words of
// values become pairs of equal dimensions by one permutation for four pairs.
#pragma once

#include "ops/cuda/attention/compressed_ring.cuh"

namespace flexgen {

/// Codes become halves as they stand: an integer in the low bits of a half is a subnormal one, exactly so many times
/// 2^-24, and tensor cores take it as such. Of 4 bits, every other pair stays four places further up.
inline constexpr float kCodeUnit = 16777216.0F;  // the inverse
template <int kBits>
inline constexpr int kOddFactor = kBits == 4 ? 16 : 1;

/// The codes of a word, neighbours in one register; odd pairs times kOddFactor.
template <int kBits>
__device__ inline void spread_codes(std::uint32_t word, std::uint32_t (&pair)[kWordCodes<kBits> / 2]) {
  if constexpr (kBits == 4) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      pair[2 * i] = (word >> (8 * i)) & 0x000f000fU;
      pair[2 * i + 1] = (word >> (8 * i)) & 0x00f000f0U;
    }
  } else {
    pair[0] = __byte_perm(word, 0, 0x4140);
    pair[1] = __byte_perm(word, 0, 0x4342);
  }
}

/// This lane's q for the products with keys: pairs of dimensions in the order of the stored words, zero outside the
/// group of the lane's column.
template <int kBits, int kDims>
struct StoredQuery {
  static constexpr int kWords = kDims * kBits / 128;  // of a key, per lane
  static constexpr int kPairs = kWordCodes<kBits> / 2;
  std::uint32_t pair[kWords][kPairs];
  float scale_log2;  // what is left to multiply scores with
  float sum[2];      // of q over the groups of this lane's columns 2t and 2t + 1, in units of codes as halves

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
    scale_log2 = p.decode.scale_log2 * kCodeUnit * __uint_as_float(exponent << 23);
    float total[4] = {};
    constexpr std::uint32_t kOnes = 0x3c003c00U, kOdd = kOddFactor<kBits> == 16 ? 0x4c004c00U : kOnes;
    const std::uint32_t ones[4] = {kOnes, kOnes, kOdd, kOdd};
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        const float own = i % 2 == 0 ? factor : factor / kOddFactor<kBits>;
        pair[w][i] = pack_pair<__half>(value[w][i].x * own, value[w][i].y * own);
      }
#pragma unroll
      for (int i = 0; i < kPairs; i += 2) multiply_add<__half>(total, ones, pair[w][i], pair[w][i + 1]);
    }
    sum[0] = total[0] / kCodeUnit;
    sum[1] = total[1] / kCodeUnit;
  }

  /// Scores of positions g and g + 8, not yet times scale_log2.
  template <typename Ring>
  __device__ float2 scores(const StoredDecodeParams& p, const Ring& ring, int at) const {
    constexpr int kChains = kWords > 2 ? 2 : 1;  // of products: even and odd words apart
    float c[kChains][4] = {};
#pragma unroll
    for (int j = 0; j < kWords / 2; ++j) {
      const uint2 low = ring.key(p, at, 0, j);
      const uint2 high = ring.key(p, at, 1, j);
#pragma unroll
      for (int w = 0; w < 2; ++w) {
        std::uint32_t a[kPairs], b[kPairs];
        spread_codes<kBits>(w == 0 ? low.x : low.y, a);
        spread_codes<kBits>(w == 0 ? high.x : high.y, b);
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
    const uint4 line = ring.key_parameters(p, at);
    const float2 first[2] = {scale_and_minimum(line.x), scale_and_minimum(line.z)};
    const float2 second[2] = {scale_and_minimum(line.y), scale_and_minimum(line.w)};
    float score[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      score[h] = first[h].x * c[0][2 * h] + first[h].y * sum[0];
      if (p.columns > 1) score[h] += second[h].x * c[0][2 * h + 1] + second[h].y * sum[1];
      if (p.columns > 2) score[h] += __shfl_xor_sync(0xffffffffU, score[h], 1);
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

  SoftmaxState state = nothing_seen();  // the warp's largest score; the weights of this lane's two positions
  float minimum = 0.0F;                 // sum of weight * m over this lane's four positions, of its column's group
  float sum[kWords][2][kPairs / 2][4] = {};

  /// Weights of the scores of positions g and g + 8.
  __device__ float2 weights(float2 score) {
    float top = fmaxf(score.x, score.y);
#pragma unroll
    for (int offset = 4; offset < 32; offset *= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffU, top, offset));
    if (top > state.largest) {  // the same in all lanes
      const float factor = raise_largest(state, top, Shrink{});
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
    const float2 share =
        make_float2(exp2_fast(score.x - state.largest + kBoost), exp2_fast(score.y - state.largest + kBoost));
    state.weight += share.x + share.y;
    return share;
  }

  template <typename Ring>
  __device__ void add_values(const StoredDecodeParams& p, const Ring& ring, int at, float2 share, int lane) {
    const int source = lane % 4 * 8;  // a lane that holds positions 2t and 2t + 8; four on: the next ones
    const float own[4] = {__shfl_sync(0xffffffffU, share.x, source), __shfl_sync(0xffffffffU, share.x, source + 4),
                          __shfl_sync(0xffffffffU, share.y, source), __shfl_sync(0xffffffffU, share.y, source + 4)};
    const uint4 lines = ring.value_parameters(p, at);
    const float2 line[4] = {scale_and_minimum(lines.x), scale_and_minimum(lines.y), scale_and_minimum(lines.z),
                            scale_and_minimum(lines.w)};
#pragma unroll
    for (int i = 0; i < 4; ++i) minimum = fmaf(own[i], line[i].y, minimum);
    const std::uint32_t b0 = pack_pair<__half>(own[0] * line[0].x, own[1] * line[1].x);
    const std::uint32_t b1 = pack_pair<__half>(own[2] * line[2].x, own[3] * line[3].x);
    // two words of neighbouring positions -> the same dimensions side by side
    [[maybe_unused]] uint2 piece[4];
    constexpr unsigned kMerge[2] = {kBits == 4 ? 0x5410U : 0x5140U, kBits == 4 ? 0x7632U : 0x7362U};
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      std::uint32_t word[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if constexpr (kWords == 1) {
          word[i] = ring.value_word(p, at, i);
        } else {
          if (w % 2 == 0) piece[i] = ring.value_pair(p, at, i, w);
          word[i] = w % 2 == 0 ? piece[i].x : piece[i].y;
        }
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        std::uint32_t near[kPairs], far[kPairs];
        spread_codes<kBits>(__byte_perm(word[0], word[1], kMerge[half]), near);
        spread_codes<kBits>(__byte_perm(word[2], word[3], kMerge[half]), far);
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
    for (int offset = 4; offset < 32; offset *= 2) state.weight += __shfl_xor_sync(0xffffffffU, state.weight, offset);
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
          constexpr float kUnit[2] = {kCodeUnit, kCodeUnit / kOddFactor<kBits>};
          to[first + w * kWordCodes<kBits> + place] = fmaf(value, kUnit[i % 2], least);
        }
      }
    }
  }
};

/// Puts together what the two warps of every head have seen, as finish_block does for one head.
/// boost: log2 of what sums and weights have been multiplied by.
template <typename T, SpanUse kUse, int kDims>
__device__ inline void finish_heads(const DecodeParams& p, const DecodeWork& work, int count, int num_parts,
                                    float boost, const float (*shared_sum)[kDims],
                                    const SoftmaxState (&shared_state)[kStoredWarps]) {
  static_assert(kStoredSets == 2);
#pragma unroll
  for (int i = threadIdx.x; i < kStoredHeads * kDims; i += kStoredWarps * 32) {
    const int h = i / kDims, d = i % kDims;
    if (h >= count || d >= p.head_dim) continue;
    const SoftmaxState part[kStoredSets] = {shared_state[h], shared_state[h + kStoredHeads]};
    float factor[kStoredSets];
    SoftmaxState all = softmax_merge(part, kStoredSets, factor, Shrink{});
    float sum = fmaf(shared_sum[h + kStoredHeads][d], factor[1], shared_sum[h][d] * factor[0]);
    const int head = work.head + h;
    if (kUse == SpanUse::merged) all.largest -= boost;  // relative to that, nothing was multiplied
    if (work.splits == 1) {
      if (kUse == SpanUse::merged) {
        const std::int64_t pair = static_cast<std::int64_t>(work.row) * p.num_heads + head;
        sum = add_span_parts(p.parts, pair, num_parts, p.head_dim, d, all, sum);
      }
      const std::int64_t at = work.token * p.out_stride + static_cast<std::int64_t>(head) * p.head_dim + d;
      reinterpret_cast<T*>(p.out)[at] = from_float<T>(sum * (1.0F / all.weight));
    } else {
      const std::int64_t pair = static_cast<std::int64_t>(work.row) * p.num_heads + head;
      const std::int64_t split = pair * p.max_splits + blockIdx.y;
      p.partial_sum[split * p.head_dim + d] = sum;
      if (d == 0) p.partial_state[split] = all;
    }
  }
}

__device__ inline void wait_for_stage(int stages) {
  if (stages == 4) {
    wait_for_copies<2>();
  } else if (stages == 3) {
    wait_for_copies<1>();
  } else {
    wait_for_copies<0>();
  }
}

/// Blocks that are to be on a multiprocessor at a time: as many as registers allow without spilling.
template <int kBits, int kDims>
inline constexpr int kStoredBlocks = kDims <= 64 ? 3 : 2;

/// Grid (rows * groups of kStoredHeads heads, splits), kStoredWarps warps, p.stages stages of shared memory. head_dim
/// <= kDims, a multiple of 16; codes on boundaries of 8 bytes. SpanUse::merged: as for decode_kernel.
template <int kBits, int kDims, SpanUse kUse>
__global__ void __launch_bounds__(kStoredWarps * 32, kStoredBlocks<kBits, kDims>)
    stored_decode_kernel(const StoredDecodeParams p) {
  extern __shared__ uint4 shared[];
  __shared__ SoftmaxState shared_state[kStoredWarps];

  if (kUse != SpanUse::merged) start_dependents_after_predecessor();
  DecodeParams groups = p.decode;  // a row's groups of heads for its heads
  groups.num_heads = (p.decode.num_heads + kStoredHeads - 1) / kStoredHeads;
  const int row = blockIdx.x / groups.num_heads, first_head = blockIdx.x % groups.num_heads * kStoredHeads;
  const int count = min(kStoredHeads, p.decode.num_heads - first_head);  // of heads
  KvHead heads[kStoredHeads];                                            // on their way while the row's length is
#pragma unroll
  for (int h = 0; h < kStoredHeads; ++h)
    heads[h] = heads_of_row(p.decode.heads, p.decode.num_heads, row)[kv_head_of(first_head + min(h, count - 1))];
  DecodeWork work;
  if (!decode_work(groups, work)) return;
  work.head = first_head;
  const int num_parts = kUse == SpanUse::merged ? num_span_parts(p.decode.shared, row) : 0;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const bool busy = warp % kStoredHeads < count;
  StoredRing<kBits, kDims> ring;
  ring.set(p, work, heads, reinterpret_cast<std::byte*>(shared));

  const int stage_bytes = stored_stage_bytes(p);
  const int last_stage = (p.stages - 1) * stage_bytes;
  const int ahead = (p.stages - 1) * kStagePositions;
#pragma unroll 1
  for (int s = 0; s + 1 < p.stages; ++s) ring.fetch(p, work, count, s * stage_bytes, work.begin + s * kStagePositions);
  StoredQuery<kBits, kDims> query;
  DecodeWork own = work;
  own.head += busy ? warp % kStoredHeads : 0;
  query.load(p, own, lane);
  StoredSums<kBits, kDims> sums;
  int stage = 0, emptied = last_stage;
#pragma unroll 1
  for (int first = work.begin; first < work.end; first += kStagePositions) {
    wait_for_stage(p.stages);
    __syncthreads();  // this stage is there for all, and all have done with the one before it
    ring.fetch(p, work, count, emptied, first + ahead);
    const int left = work.end - first - warp / kStoredHeads * kTilePositions;  // positions from the tile's first one on
    if (busy && left > 0) {
      float2 score = query.scores(p, ring, stage);
      if (lane / 4 >= left) score.x = kNoScore;
      if (lane / 4 + 8 >= left) score.y = kNoScore;
      sums.add_values(p, ring, stage, sums.weights(score), lane);
    }
    emptied = stage;
    stage = stage == last_stage ? 0 : stage + stage_bytes;
  }

  __syncthreads();  // the ring's memory is free
  auto* shared_sum = reinterpret_cast<float(*)[kDims]>(shared);
  sums.finish(shared_sum[warp], p.decode.head_dim, p.decode.group_shift, lane);
  if (lane == 0) shared_state[warp] = sums.state;
  if (kUse == SpanUse::merged) start_dependents_after_predecessor();
  __syncthreads();
  constexpr float kBoost = StoredSums<kBits, kDims>::kBoost;
  if (p.bfloat16) {
    finish_heads<__nv_bfloat16, kUse, kDims>(p.decode, work, count, num_parts, kBoost, shared_sum, shared_state);
  } else {
    finish_heads<__half, kUse, kDims>(p.decode, work, count, num_parts, kBoost, shared_sum, shared_state);
  }
}

}  // namespace flexgen
