// Attention on codes of 4 bits in groups of 64, by dot products of bytes (AVX-512 VNNI): the steps for one tile of
// positions and a chunk of neighbouring heads (part of kernels_avx512_vnni.cpp).
//
// The heads of a position are one line of groups: a vector of codes is two groups of eight words, a chunk is eight such
// vectors, and its sixteen groups are the lanes of every vector of parameters. Heads of 64 are one group, two heads to
// a vector; heads of 128 are two groups, one vector.
// A query is kept as three signed bytes an element, scaled by the largest of its group: as many as leave room for the
// sum over a group in 32 bits. Weights times scales are kept as two, for a tile of values: their sums do not go through
// an exponential. Sums of products with codes are exact integers, whatever lies beside them; they become float32 once
// per tile.
#pragma once

#include "ops/host/simd.hpp"
#include "ops/host/stored/stored_kernels.hpp"

namespace flexgen {
namespace {

constexpr int kChunk = 8;                // vectors of codes
constexpr int kScoreTile = 4;            // positions
constexpr int kValueTile = 8;            // positions: quads of which a lane's four bytes are made
constexpr float kLargestQuery = 2.1e6F;  // times 64 times 15: below 2^31
constexpr float kLargestWeight = 127.0F * 256.0F + 127.0F;

/// Heads of Groups * 64 elements.
template <int Groups>
struct Heads {
  static constexpr int kDim = Groups * 64;
  static constexpr int kHeadsPerVector = 2 / Groups;
  static constexpr int kHeadsPerChunk = kChunk * kHeadsPerVector;
  static constexpr int kPieceBytes = kDim / 2;  // a byte of a query's elements that meet lower, or upper, nibbles
  static constexpr std::int64_t kArranged = kDim + 8 * Groups;
  static constexpr std::int64_t kFactor =
      kDim / 4 * 3;                              // where the factors of a query's groups are, and then their sums
  static constexpr std::int64_t kMinima = kDim;  // where the weighted minima of the groups are, after the sums
};

/// Positions of a tile, the last one repeated where it is not full, and what to fetch for each of them.
template <int Positions>
struct Rows {
  const std::byte* data[Positions];
  const std::byte* parameters[Positions];  // of all heads, one after the other
  const std::byte* next[Positions];
  const std::byte* next_parameters[Positions];
};

/// Part of the heads of a run.
struct Chunk {
  std::int64_t vector;       // the first
  std::int64_t num_vectors;  // up to kChunk
  std::int64_t head, num_heads;
  std::int64_t stride;  // of heads
  FLEXGEN_ALWAYS_INLINE std::int64_t group() const { return vector * 2; }
};

/// The parameters of sixteen groups.
struct Parameters {
  Floats scale, minimum;
  FLEXGEN_ALWAYS_INLINE Parameters(const std::byte* from, __mmask16 mask) {
    const __m512i order = _mm512_set_epi16(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1, 30, 28, 26, 24,
                                           22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i both = _mm512_permutexvar_epi16(order, _mm512_maskz_loadu_epi32(mask, from));
    scale = _mm512_cvtph_ps(_mm512_castsi512_si256(both));
    minimum = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(both, 1));
  }
};
template <int Groups>
FLEXGEN_ALWAYS_INLINE __mmask16 group_mask(const Chunk& chunk) {
  return static_cast<__mmask16>((1U << (chunk.num_heads * Groups)) - 1U);
}

/// The codes of vector v of a chunk. Together: heads follow one another without gaps.
template <int Groups, bool Together>
FLEXGEN_ALWAYS_INLINE __m512i load_codes(const std::byte* data, const Chunk& chunk, std::int64_t v) {
  if constexpr (Groups == 2) return _mm512_loadu_si512(data + (chunk.head + v) * chunk.stride);
  const std::int64_t h = 2 * v;
  const std::byte* first = data + (chunk.head + h) * chunk.stride;
  if (h + 1 >= chunk.num_heads) return _mm512_maskz_loadu_epi32(0x00FF, first);
  if constexpr (Together) return _mm512_loadu_si512(first);
  const __m256i lower = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(first));
  const __m256i upper = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(first + chunk.stride));
  return _mm512_inserti64x4(_mm512_castsi256_si512(lower), upper, 1);
}

template <int Groups>
FLEXGEN_ALWAYS_INLINE __m512i load_piece(const std::byte* first, const std::byte* second, int piece) {
  if constexpr (Groups == 2) return _mm512_loadu_si512(first + piece * 64);
  const auto half = [&](const std::byte* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + piece * 32));
  };
  return _mm512_inserti64x4(_mm512_castsi256_si512(half(first)), half(second), 1);
}

/// What lies at `offset` of all positions: several streams at a time, which memory answers faster than one.
template <int Positions>
FLEXGEN_ALWAYS_INLINE void fetch_vector(const Rows<Positions>& rows, std::int64_t offset) {
#pragma GCC unroll 8
  for (int p = 0; p < Positions; ++p) __builtin_prefetch(rows.next[p] + offset, 0, 3);
}

/// 4 x 4, in each quarter.
FLEXGEN_ALWAYS_INLINE void transpose_quarters(const Floats (&from)[4], Floats (&to)[4]) {
  const Floats a = _mm512_unpacklo_ps(from[0], from[1]), b = _mm512_unpackhi_ps(from[0], from[1]);
  const Floats c = _mm512_unpacklo_ps(from[2], from[3]), d = _mm512_unpackhi_ps(from[2], from[3]);
  to[0] = _mm512_shuffle_ps(a, c, 0x44), to[1] = _mm512_shuffle_ps(a, c, 0xEE);
  to[2] = _mm512_shuffle_ps(b, d, 0x44), to[3] = _mm512_shuffle_ps(b, d, 0xEE);
}

/// One vector for each position of a tile.
struct Sums {
  __m512i of[kScoreTile];
};
FLEXGEN_ALWAYS_INLINE Sums no_sums() {
  const __m512i zero = _mm512_setzero_si512();
  return {{zero, zero, zero, zero}};
}
template <class Step>
FLEXGEN_ALWAYS_INLINE Sums merge(const Sums& a, const Sums& b, const Step& step) {
  Sums merged;
#pragma GCC unroll 4
  for (int p = 0; p < kScoreTile; ++p) merged.of[p] = step(a.of[p], b.of[p]);
  return merged;
}
FLEXGEN_ALWAYS_INLINE __m512i merge_words(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}
FLEXGEN_ALWAYS_INLINE __m512i merge_pairs(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}
FLEXGEN_ALWAYS_INLINE __m512i merge_quarters(__m512i a, __m512i b) {
  const __m512i order = _mm512_set_epi32(15, 11, 14, 10, 13, 9, 12, 8, 7, 3, 6, 2, 5, 1, 4, 0);
  const __m512i sums = _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD));
  return _mm512_permutexvar_epi32(order, sums);
}

/// Codes times query, by words, of one vector.
template <int Groups, bool Together>
FLEXGEN_ALWAYS_INLINE Sums word_sums(const Rows<kScoreTile>& rows, const Chunk& chunk, std::int64_t v, const float* q) {
  using Shape = Heads<Groups>;
  const std::int64_t h = v * Shape::kHeadsPerVector;
  fetch_vector(rows, (chunk.head + h) * chunk.stride);
  const float* second_q = q + (h + 1 < chunk.num_heads ? h + 1 : h) * Shape::kArranged;
  const auto* first = reinterpret_cast<const std::byte*>(q + h * Shape::kArranged);
  const auto* second = reinterpret_cast<const std::byte*>(second_q);
  __m512i query[3][2];  // byte, the highest first; nibble
#pragma GCC unroll 6
  for (int i = 0; i < 6; ++i) query[i / 2][i % 2] = load_piece<Groups>(first, second, i);
  const __m512i nibble = _mm512_set1_epi8(15);
  Sums sums;
#pragma GCC unroll 4
  for (int p = 0; p < kScoreTile; ++p) {
    const __m512i codes = load_codes<Groups, Together>(rows.data[p], chunk, v);
    const __m512i low = _mm512_and_si512(codes, nibble);
    const __m512i high = _mm512_and_si512(_mm512_srli_epi16(codes, 4), nibble);
    __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 3
    for (int byte = 0; byte < 3; ++byte) {
      if (byte > 0) sum = _mm512_slli_epi32(sum, 8);
      sum = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sum, low, query[byte][0]), high, query[byte][1]);
    }
    sums.of[p] = sum;
  }
  return sums;
}

/// score[h * score_stride + p] of the chunk's heads. factor, sum: of the queries' groups.
template <int Groups, bool Together, bool Whole>
FLEXGEN_ALWAYS_INLINE void score_chunk(const Rows<kScoreTile>& rows, const Chunk& chunk, const float* q,
                                       const float* factor, const float* sum, __mmask8 positions, float* score,
                                       std::int64_t score_stride) {
  const auto words = [&](int v) __attribute__((always_inline)) {
    return Whole || v < chunk.num_vectors ? word_sums<Groups, Together>(rows, chunk, v, q) : no_sums();
  };
  const auto four = [&](int v) __attribute__((always_inline)) {
    const Sums lower = merge(words(v), words(v + 1), merge_words);
    return merge(lower, merge(words(v + 2), words(v + 3), merge_words), merge_pairs);
  };
  const Sums lower = four(0);
  const Sums sums = merge(lower, Whole || chunk.num_vectors > 4 ? four(4) : no_sums(), merge_quarters);
  const Floats scale = load(factor + chunk.group()), row_sum = load(sum + chunk.group());
  const __mmask16 mask = group_mask<Groups>(chunk);
  Floats total[kScoreTile];
#pragma GCC unroll 4
  for (int p = 0; p < kScoreTile; ++p) {
    const Parameters parameters(rows.parameters[p] + chunk.group() * 4, mask);
    __builtin_prefetch(rows.next_parameters[p] + chunk.group() * 4, 0, 3);
    total[p] = multiply_add(row_sum, parameters.minimum, _mm512_cvtepi32_ps(sums.of[p]) * (scale * parameters.scale));
  }
  Floats by_head[4];  // quarter i, vector j: the scores of head i * (4 / Groups) + j
  if constexpr (Groups == 2) {
    const auto add_groups = [](Floats a, Floats b) {
      return _mm512_shuffle_ps(a, b, 0x88) + _mm512_shuffle_ps(a, b, 0xDD);
    };
    const Floats a = add_groups(total[0], total[1]), b = add_groups(total[2], total[3]);
    by_head[0] = _mm512_shuffle_ps(a, b, 0x88), by_head[1] = _mm512_shuffle_ps(a, b, 0xDD);
  } else {
    transpose_quarters(total, by_head);
  }
  constexpr int kEach = 4 / Groups;
  const auto put = [&](int h, const __m128& four_scores) __attribute__((always_inline)) {
    if (Whole || h < chunk.num_heads) _mm_mask_storeu_ps(score + h * score_stride, positions, four_scores);
  };
#pragma GCC unroll 4
  for (int j = 0; j < kEach; ++j) {
    put(j, _mm512_castps512_ps128(by_head[j]));
    put(kEach + j, _mm512_extractf32x4_ps(by_head[j], 1));
    put(2 * kEach + j, _mm512_extractf32x4_ps(by_head[j], 2));
    put(3 * kEach + j, _mm512_extractf32x4_ps(by_head[j], 3));
  }
}

}  // namespace
}  // namespace flexgen
