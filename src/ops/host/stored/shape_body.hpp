// Attention of one query per head on keys and values as they are stored (part of kernels_body.hpp).
//
// Up to four positions at a time, head after head: as many sequential streams, each query loaded once for all four.
// Plain: lanes run along the head, in the order of `dots` and `weighted_sum` (host_kernels.hpp), so that the bits are
// theirs. Compressed: a lane is a 32-bit word of codes. With E codes to a word, q is kept as E vectors, vector j that
// of the elements j of all words, so that codes are taken out by shifts alone; the scale is multiplied to sums of
// codes, and the minimum to the sum of q, which is the vector behind the E. Sums of values are kept in the same order.
#pragma once

#include "ops/host/simd.hpp"
#include "ops/host/stored/stored_kernels.hpp"

namespace flexgen {
namespace {

constexpr int kPositions = 4;
constexpr std::int64_t kMaxVectors = 128;  // of words, to a head

typedef std::uint32_t Words __attribute__((vector_size(4 * kLanes)));
typedef std::uint16_t Shorts __attribute__((vector_size(2 * kLanes)));

FLEXGEN_ALWAYS_INLINE std::int64_t whole_lanes(std::int64_t count) { return (count + kLanes - 1) / kLanes * kLanes; }

FLEXGEN_ALWAYS_INLINE Words load_words(const std::byte* p) {
  Words words;
  __builtin_memcpy(&words, p, sizeof words);
  return words;
}
/// The first `count` < kLanes words, zeros after them.
FLEXGEN_ALWAYS_INLINE Words load_words(const std::byte* p, std::int64_t count) {
#if defined(__AVX512F__)
  return reinterpret_cast<Words>(_mm512_maskz_loadu_epi32(static_cast<__mmask16>((1U << count) - 1U), p));
#else
  Words words{};
  __builtin_memcpy(&words, p, static_cast<std::size_t>(count) * 4);
  return words;
#endif
}

constexpr int code_shift(int bits, int j) { return bits == 4 ? j % 2 * 16 + j / 2 * 4 : j * 8; }

/// Code j of every word.
template <int Bits>
FLEXGEN_ALWAYS_INLINE Floats codes_of(const Words& words, int j) {
  const Words shifted = words >> static_cast<std::uint32_t>(code_shift(Bits, j));
#if defined(__AVX512F__)
  if constexpr (Bits == 4) {  // the permutation heeds four bits of its index: no mask, no conversion
    const Floats numbers = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return _mm512_permutexvar_ps(reinterpret_cast<__m512i>(shifted), numbers);
  }
#endif
  return __builtin_convertvector(reinterpret_cast<Ints>(shifted & ((1U << Bits) - 1U)), Floats);
}

#if defined(__AVX512F__)
constexpr bool kPairs = true;  // of heads of up to half a vector
#else
constexpr bool kPairs = false;
#endif

/// Shape of a head in lanes of words.
struct WordShape {
  std::int64_t words, lanes, vectors, codes_per_word, groups, words_per_group;

  explicit WordShape(const StoredHeads& heads)
      : words(heads.quant.code_bytes(heads.head_dim) / 4),
        lanes(kPairs && words <= kLanes / 2 ? kLanes / 2 : kLanes),
        vectors((words + lanes - 1) / lanes),
        codes_per_word(32 / heads.quant.bits),
        groups(heads.quant.num_groups(heads.head_dim)),
        words_per_group(heads.quant.group / codes_per_word) {}
  bool is_half() const { return lanes < kLanes; }
  std::int64_t floats() const { return vectors * (codes_per_word + 1) * lanes; }
  /// Of the parameters of one position: room for a vector beyond the last.
  std::int64_t parameter_floats(std::int64_t num_heads) const { return whole_lanes(num_heads * groups) + kLanes; }
};

std::int64_t arranged_floats(const StoredHeads& heads) {
  return heads.quant.is_none() ? whole_lanes(heads.head_dim) : WordShape(heads).floats();
}

std::int64_t scratch_floats(const StoredHeads& heads) {
  return heads.quant.is_none() ? 0 : 2 * kPositions * WordShape(heads).parameter_floats(heads.num_heads);
}

void arrange_query(const StoredHeads& heads, const float* q, float* arranged) {
  const std::int64_t dim = heads.head_dim;
  if (heads.quant.is_none()) {
    for (std::int64_t d = 0; d < whole_lanes(dim); ++d) arranged[d] = d < dim ? q[d] : 0.0F;
    return;
  }
  const WordShape shape(heads);
  const std::int64_t per_word = shape.codes_per_word;
  for (std::int64_t v = 0; v < shape.vectors; ++v, arranged += (per_word + 1) * shape.lanes)
    for (std::int64_t lane = 0; lane < shape.lanes; ++lane) {
      float sum = 0.0F;
      for (std::int64_t j = 0; j < per_word; ++j) {
        const std::int64_t d = (v * shape.lanes + lane) * per_word + j;
        const float value = d < dim ? q[d] : 0.0F;
        arranged[j * shape.lanes + lane] = value;
        sum += value;
      }
      arranged[per_word * shape.lanes + lane] = sum;
    }
}

void collect_sums(const StoredHeads& heads, const float* arranged, float* out) {
  if (heads.quant.is_none()) {
    __builtin_memcpy(out, arranged, static_cast<std::size_t>(heads.head_dim) * 4);
    return;
  }
  const WordShape shape(heads);
  const std::int64_t per_word = shape.codes_per_word, lanes = shape.lanes;
  for (std::int64_t d = 0; d < heads.head_dim; ++d) {
    const float* vectors = arranged + d / per_word / lanes * (per_word + 1) * lanes + d / per_word % lanes;
    out[d] = vectors[d % per_word * lanes] + vectors[per_word * lanes];
  }
}

/// Up to kPositions positions, and what to fetch for each of them (what there is already, where nothing follows).
struct Tile {
  const std::byte* data[kPositions];
  const std::byte* parameters[kPositions];
  const std::byte* next[kPositions];
  const std::byte* next_parameters[kPositions];
};

/// What is read of position p lies `bytes` from its beginning.
template <int Positions>
FLEXGEN_ALWAYS_INLINE void fetch(const std::byte* const (&next)[kPositions], std::int64_t offset, std::int64_t bytes) {
  for (std::int64_t line = 0; line < bytes; line += 64) {
#pragma GCC unroll 4
    for (int p = 0; p < Positions; ++p) __builtin_prefetch(next[p] + offset + line, 0, 3);
  }
}

template <int Positions>
FLEXGEN_ALWAYS_INLINE void put_scores(const Floats (&sum)[Positions], float* score) {
  const auto at = [&](int p) { return p < Positions ? sum[p] : broadcast(0.0F); };
  const auto four = lane_sums(at(0), at(1), at(2), at(3));
  __builtin_memcpy(score, &four, Positions * sizeof(float));
}

}  // namespace
}  // namespace flexgen
