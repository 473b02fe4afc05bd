// Attention of one query per head on keys and values as they are stored (part of compressed_kernels_body.hpp).
//
// Up to four positions at a time, head after head: as many sequential streams, each query loaded once for all four.
// Plain: lanes run along the head, in the order of `dots` and `weighted_sum` (host_kernels.hpp), so that the bits are
// theirs. Compressed: a lane is a 32-bit word of codes. With E codes to a word, q is kept as E vectors, vector j that of
// the elements j of all words, so that codes are taken out by shifts alone; the scale is multiplied to sums of codes,
// and the minimum to the sum of q, which is the vector behind the E. Sums of values are kept in the same order.
#pragma once

#include "ops/compressed_kernels.hpp"
#include "ops/simd.hpp"

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
  std::int64_t first_group(std::int64_t vector) const { return vector * kLanes / words_per_group; }
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
  if (NOPF) return;
  for (std::int64_t line = 0; line < bytes; line += 64) {
#pragma GCC unroll 4
    for (int p = 0; p < Positions; ++p) __builtin_prefetch(next[p] + offset + line, 0, HINT);
  }
}

// ---- plain ----------------------------------------------------------------------------------------------------------

template <int Positions>
FLEXGEN_ALWAYS_INLINE void put_scores(const Floats (&sum)[Positions], float* score) {
  const auto at = [&](int p) { return p < Positions ? sum[p] : broadcast(0.0F); };
  const auto four = lane_sums(at(0), at(1), at(2), at(3));
  __builtin_memcpy(score, &four, Positions * sizeof(float));
}

template <class Element, int Positions>
[[gnu::noinline]] void plain_scores(const StoredHeads& heads, const Tile& tile, const float* q, float* score, std::int64_t score_stride) {
  const std::int64_t dim = heads.head_dim, whole = dim / kLanes * kLanes;
  for (std::int64_t h = 0; h < heads.num_heads; ++h, q += whole_lanes(dim), score += score_stride) {
    const std::int64_t offset = h * heads.head_stride;
    fetch<Positions>(tile.next, offset, heads.head_stride);
    Floats sum[Positions];
#pragma GCC unroll 4
    for (int p = 0; p < Positions; ++p) sum[p] = broadcast(0.0F);
    for (std::int64_t d = 0; d < whole; d += kLanes) {
      const Floats row = load(q + d);
#pragma GCC unroll 4
      for (int p = 0; p < Positions; ++p)
        sum[p] = multiply_add(row, load(reinterpret_cast<const Element*>(tile.data[p] + offset) + d), sum[p]);
    }
    if (whole < dim) {
      const Floats row = load(q + whole);
#pragma GCC unroll 4
      for (int p = 0; p < Positions; ++p) {
        const auto* key = reinterpret_cast<const Element*>(tile.data[p] + offset);
        sum[p] = multiply_add(row, load_part(key + whole, dim - whole), sum[p]);
      }
    }
    put_scores(sum, score);
  }
}

template <class Element, int Positions, int Vectors>
FLEXGEN_ALWAYS_INLINE void add_plain(const Element* const (&value)[Positions], std::int64_t d,
                                     const Floats (&factor)[Positions], float* sums) {
  Floats sum[Vectors];
#pragma GCC unroll 8
  for (int i = 0; i < Vectors; ++i) sum[i] = load(sums + d + i * kLanes);
#pragma GCC unroll 4
  for (int p = 0; p < Positions; ++p) {
#pragma GCC unroll 8
    for (int i = 0; i < Vectors; ++i) sum[i] = multiply_add(factor[p], load(value[p] + d + i * kLanes), sum[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < Vectors; ++i) store(sums + d + i * kLanes, sum[i]);
}

template <class Element, int Positions>
[[gnu::noinline]] void plain_values(const StoredHeads& heads, const Tile& tile, const float* weight, std::int64_t weight_stride,
                  float* sums) {
  const std::int64_t dim = heads.head_dim;
  for (std::int64_t h = 0; h < heads.num_heads; ++h, sums += whole_lanes(dim), weight += weight_stride) {
    const std::int64_t offset = h * heads.head_stride;
    fetch<Positions>(tile.next, offset, heads.head_stride);
    Floats factor[Positions];
    const Element* value[Positions];
#pragma GCC unroll 4
    for (int p = 0; p < Positions; ++p) {
      factor[p] = broadcast(weight[p]);
      value[p] = reinterpret_cast<const Element*>(tile.data[p] + offset);
    }
    std::int64_t d = 0;
    for (; d + 4 * kLanes <= dim; d += 4 * kLanes) add_plain<Element, Positions, 4>(value, d, factor, sums);
    for (; d + kLanes <= dim; d += kLanes) add_plain<Element, Positions, 1>(value, d, factor, sums);
    if (d < dim) {
      Floats sum = load(sums + d);
#pragma GCC unroll 4
      for (int p = 0; p < Positions; ++p) sum = multiply_add(factor[p], load_part(value[p] + d, dim - d), sum);
      store(sums + d, sum);
    }
  }
}

// ---- compressed -----------------------------------------------------------------------------------------------------

/// The parameters of some positions, widened: scales, and minima, of all heads.
class Parameters {
 public:
  template <int Positions>
  FLEXGEN_ALWAYS_INLINE void widen(const StoredHeads& heads, const WordShape& shape, const Tile& tile, float* scratch) {
    room_ = shape.parameter_floats(heads.num_heads);
    scratch_ = scratch;
    const bool together = heads.parameter_stride == shape.groups * 4;
    const std::int64_t runs = together ? 1 : heads.num_heads, run = together ? heads.num_heads * shape.groups : shape.groups;
    for (int p = 0; p < Positions; ++p) {
      for (std::int64_t i = 0; i < runs; ++i)
        widen_run(tile.parameters[p] + i * heads.parameter_stride, run, scratch + 2 * p * room_ + i * shape.groups);
      if (!together) continue;
      for (std::int64_t line = 0; line < run * 4; line += 64)
        __builtin_prefetch(tile.next_parameters[p] + line, 0, 2);
    }
  }
  FLEXGEN_ALWAYS_INLINE Floats scales(int position, std::int64_t group, const Ints& index) const {
    return __builtin_shuffle(load(scratch_ + 2 * position * room_ + group), index);
  }
  FLEXGEN_ALWAYS_INLINE Floats minima(int position, std::int64_t group, const Ints& index) const {
    return __builtin_shuffle(load(scratch_ + (2 * position + 1) * room_ + group), index);
  }

 private:
  FLEXGEN_ALWAYS_INLINE static Floats halves(const Words& words) {
    const Shorts low = __builtin_convertvector(words, Shorts);
    return load(reinterpret_cast<const Half*>(&low));
  }
  FLEXGEN_ALWAYS_INLINE void widen_run(const std::byte* from, std::int64_t count, float* to) const {
    for (std::int64_t i = 0; i < count; i += kLanes) {
      const Words words = i + kLanes <= count ? load_words(from + i * 4) : load_words(from + i * 4, count - i);
      store(to + i, halves(words & 0xFFFFU));
      store(to + room_ + i, halves(words >> 16));
    }
  }

  float* scratch_ = nullptr;
  std::int64_t room_ = 0;
};

/// For every vector of words, which group (after the first of the vector's) each word belongs to.
struct GroupIndex {
  WordShape shape;
  Ints of[kMaxVectors];
  std::int64_t first[kMaxVectors];

  explicit GroupIndex(const StoredHeads& heads) : shape(heads) {
    for (std::int64_t v = 0; v < shape.vectors; ++v) first[v] = shape.first_group(v);
    if (shape.is_half()) {  // the groups of two heads follow one another
      for (std::int64_t lane = 0; lane < kLanes; ++lane) {
        const std::int64_t group = lane % shape.lanes / shape.words_per_group;
        const std::int64_t last = shape.groups - 1;
        of[0][lane] = static_cast<std::int32_t>((group < last ? group : last) + lane / shape.lanes * shape.groups);
      }
      return;
    }
    for (std::int64_t v = 0; v < shape.vectors; ++v)
      for (std::int64_t lane = 0; lane < kLanes; ++lane) {
        const std::int64_t group = (v * kLanes + lane) / shape.words_per_group;
        const std::int64_t last = shape.groups - 1;  // words beyond the head count for nothing
        of[v][lane] = static_cast<std::int32_t>((group < last ? group : last) - shape.first_group(v));
      }
  }
};

/// How many vectors the words of a head take (0: any number), and whether the last has a rest.
template <int Vectors, bool Rest>
struct Fill {
  FLEXGEN_ALWAYS_INLINE static std::int64_t vectors(const WordShape& shape) {
    return Vectors > 0 ? Vectors : shape.vectors;
  }
  /// Words of vector v, at `from`.
  FLEXGEN_ALWAYS_INLINE static Words words(const WordShape& shape, std::int64_t v, const std::byte* from) {
    const std::int64_t left = shape.words - v * kLanes;
    return Rest && left < kLanes ? load_words(from, left) : load_words(from);
  }
};

template <class Body>
FLEXGEN_ALWAYS_INLINE void for_fill(const WordShape& shape, const Body& body) {
  if (shape.words == kLanes) body(Fill<1, false>{});
  else if (shape.words == 2 * kLanes) body(Fill<2, false>{});
  else if (shape.words < kLanes) body(Fill<1, true>{});
  else body(Fill<0, true>{});
}

template <int Bits, int Positions, class HeadFill>
[[gnu::noinline]] void compressed_scores(const StoredHeads& heads, const Tile& tile, const float* q, float* score,
                       std::int64_t score_stride, const GroupIndex& index, float* scratch) {
  constexpr int kCodes = 32 / Bits;
  const WordShape& shape = index.shape;
  Parameters parameters;
  parameters.widen<Positions>(heads, shape, tile, scratch);
  for (std::int64_t h = 0; h < heads.num_heads; ++h, score += score_stride) {
    const std::int64_t offset = h * heads.head_stride;
    fetch<Positions>(tile.next, offset, heads.head_stride);
    Floats total[Positions];
#pragma GCC unroll 4
    for (int p = 0; p < Positions; ++p) total[p] = broadcast(0.0F);
    for (std::int64_t v = 0; v < HeadFill::vectors(shape); ++v, q += (kCodes + 1) * kLanes) {
      Words words[Positions];
      Floats sum[Positions];
#pragma GCC unroll 4
      for (int p = 0; p < Positions; ++p) {
        const std::byte* from = tile.data[p] + offset + v * kLanes * 4;
        words[p] = HeadFill::words(shape, v, from);
        sum[p] = broadcast(0.0F);
      }
#pragma GCC unroll 8
      for (int j = 0; j < kCodes; ++j) {
        const Floats row = load(q + j * kLanes);
#pragma GCC unroll 4
        for (int p = 0; p < Positions; ++p) sum[p] = multiply_add(row, codes_of<Bits>(words[p], j), sum[p]);
      }
      const Floats row_sum = load(q + kCodes * kLanes);
      const std::int64_t group = h * shape.groups + index.first[v];
#pragma GCC unroll 4
      for (int p = 0; p < Positions; ++p) {
        total[p] = multiply_add(sum[p], parameters.scales(p, group, index.of[v]), total[p]);
        total[p] = multiply_add(row_sum, parameters.minima(p, group, index.of[v]), total[p]);
      }
    }
    put_scores(total, score);
  }
}

template <int Bits, int Positions, class HeadFill>
[[gnu::noinline]] void compressed_values(const StoredHeads& heads, const Tile& tile, const float* weight, std::int64_t weight_stride,
                       float* sums, const GroupIndex& index, float* scratch) {
  constexpr int kCodes = 32 / Bits;
  const WordShape& shape = index.shape;
  Parameters parameters;
  parameters.widen<Positions>(heads, shape, tile, scratch);
  for (std::int64_t h = 0; h < heads.num_heads; ++h, weight += weight_stride) {
    const std::int64_t offset = h * heads.head_stride;
    fetch<Positions>(tile.next, offset, heads.head_stride);
    for (std::int64_t v = 0; v < HeadFill::vectors(shape); ++v, sums += (kCodes + 1) * kLanes) {
      const std::int64_t group = h * shape.groups + index.first[v];
      Floats sum[kCodes + 1];
#pragma GCC unroll 16
      for (int j = 0; j <= kCodes; ++j) sum[j] = load(sums + j * kLanes);
#pragma GCC unroll 4
      for (int p = 0; p < Positions; ++p) {
        const std::byte* from = tile.data[p] + offset + v * kLanes * 4;
        const Words words = HeadFill::words(shape, v, from);
        const Floats factor = broadcast(weight[p]);
        const Floats scaled = factor * parameters.scales(p, group, index.of[v]);
        sum[kCodes] = multiply_add(factor, parameters.minima(p, group, index.of[v]), sum[kCodes]);
#pragma GCC unroll 8
        for (int j = 0; j < kCodes; ++j) sum[j] = multiply_add(scaled, codes_of<Bits>(words, j), sum[j]);
      }
#pragma GCC unroll 16
      for (int j = 0; j <= kCodes; ++j) store(sums + j * kLanes, sum[j]);
    }
  }
}

#if defined(__AVX512F__)

// ---- pairs of heads of up to half a vector: the lower half is one's, the upper half the next one's ------------------

/// A last head without a next one is taken twice: what comes out for the second goes nowhere.
struct Pair {
  std::int64_t first, second;  // heads
  bool both;
};
FLEXGEN_ALWAYS_INLINE Pair pair_of(const StoredHeads& heads, std::int64_t h) {
  const bool both = h + 1 < heads.num_heads;
  return {h, both ? h + 1 : h, both};
}

FLEXGEN_ALWAYS_INLINE Floats load_pair(const float* first, const float* second) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(first)), _mm256_loadu_ps(second), 1);
}
/// Together: the words of both follow one another.
template <bool Together>
FLEXGEN_ALWAYS_INLINE Words load_word_pair(const std::byte* first, const std::byte* second, __mmask8 mask) {
  if (Together) return load_words(first);
  const __m512i low = _mm512_castsi256_si512(_mm256_maskz_loadu_epi32(mask, first));
  return reinterpret_cast<Words>(_mm512_inserti32x8(low, _mm256_maskz_loadu_epi32(mask, second), 1));
}
FLEXGEN_ALWAYS_INLINE Floats broadcast_pair(float first, float second) {
  return _mm512_mask_blend_ps(0xFF00, broadcast(first), broadcast(second));
}
/// The sums of the halves: of the lower ones in lanes 0 .. 3, of the upper ones in lanes 8 .. 11.
FLEXGEN_ALWAYS_INLINE Floats half_sums(Floats a, Floats b, Floats c, Floats d) {
  const Floats ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const Floats cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const Floats four = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE));
  return _mm512_add_ps(four, _mm512_shuffle_f32x4(four, four, 0xB1));
}

template <int Bits, int Positions, bool Together>
FLEXGEN_ALWAYS_INLINE void score_pair(const StoredHeads& heads, const Tile& tile, const Pair& pair, const float* q,
                                      float* score, std::int64_t score_stride, const GroupIndex& index,
                                      const Parameters& parameters) {
  constexpr int kCodes = 32 / Bits;
  const WordShape& shape = index.shape;
  const float* first = q + pair.first * shape.floats();
  const float* second = q + pair.second * shape.floats();
  const std::int64_t offset = pair.first * heads.head_stride, second_offset = pair.second * heads.head_stride;
  const auto mask = static_cast<__mmask8>((1U << shape.words) - 1U);
  fetch<Positions>(tile.next, offset, 2 * heads.head_stride);
  Words words[Positions];
  Floats sum[Positions];
#pragma GCC unroll 4
  for (int p = 0; p < Positions; ++p) {
    words[p] = load_word_pair<Together>(tile.data[p] + offset, tile.data[p] + second_offset, mask);
    sum[p] = broadcast(0.0F);
  }
#pragma GCC unroll 8
  for (int j = 0; j < kCodes; ++j) {
    const Floats row = load_pair(first + j * 8, second + j * 8);
#pragma GCC unroll 4
    for (int p = 0; p < Positions; ++p) sum[p] = multiply_add(row, codes_of<Bits>(words[p], j), sum[p]);
  }
  const Floats row_sum = load_pair(first + kCodes * 8, second + kCodes * 8);
#pragma GCC unroll 4
  for (int p = 0; p < Positions; ++p) {
    sum[p] = sum[p] * parameters.scales(p, pair.first * shape.groups, index.of[0]);
    sum[p] = multiply_add(row_sum, parameters.minima(p, pair.first * shape.groups, index.of[0]), sum[p]);
  }
  const auto at = [&](int p) { return p < Positions ? sum[p] : broadcast(0.0F); };
  const Floats eight = half_sums(at(0), at(1), at(2), at(3));
  const __m128 lower = _mm512_castps512_ps128(eight), upper = _mm512_extractf32x4_ps(eight, 2);
  if (pair.both) __builtin_memcpy(score + pair.second * score_stride, &upper, Positions * sizeof(float));
  __builtin_memcpy(score + pair.first * score_stride, &lower, Positions * sizeof(float));
}

template <int Bits, int Positions, bool Together>
FLEXGEN_ALWAYS_INLINE void add_pair(const StoredHeads& heads, const Tile& tile, const Pair& pair, const float* weight,
                                    std::int64_t weight_stride, float* sums, const GroupIndex& index,
                                    const Parameters& parameters) {
  constexpr int kCodes = 32 / Bits;
  const WordShape& shape = index.shape;
  float* first = sums + pair.first * shape.floats();
  float* second = sums + pair.second * shape.floats();
  const std::int64_t offset = pair.first * heads.head_stride, second_offset = pair.second * heads.head_stride;
  const auto mask = static_cast<__mmask8>((1U << shape.words) - 1U);
  fetch<Positions>(tile.next, offset, 2 * heads.head_stride);
  Floats sum[kCodes + 1];
#pragma GCC unroll 16
  for (int j = 0; j <= kCodes; ++j) sum[j] = load_pair(first + j * 8, second + j * 8);
#pragma GCC unroll 4
  for (int p = 0; p < Positions; ++p) {
    const Words words = load_word_pair<Together>(tile.data[p] + offset, tile.data[p] + second_offset, mask);
    const Floats factor =
        broadcast_pair(weight[pair.first * weight_stride + p], weight[pair.second * weight_stride + p]);
    const Floats scaled = factor * parameters.scales(p, pair.first * shape.groups, index.of[0]);
    sum[kCodes] = multiply_add(factor, parameters.minima(p, pair.first * shape.groups, index.of[0]), sum[kCodes]);
#pragma GCC unroll 8
    for (int j = 0; j < kCodes; ++j) sum[j] = multiply_add(scaled, codes_of<Bits>(words, j), sum[j]);
  }
#pragma GCC unroll 16
  for (int j = 0; j <= kCodes; ++j) {
    if (pair.both) _mm256_storeu_ps(second + j * 8, _mm512_extractf32x8_ps(sum[j], 1));
    _mm256_storeu_ps(first + j * 8, _mm512_castps512_ps256(sum[j]));
  }
}

/// Calls body.template operator()<Together>(pair) for all heads.
template <class Body>
FLEXGEN_ALWAYS_INLINE void for_pairs(const StoredHeads& heads, const WordShape& shape, const Body& body) {
  const bool together = shape.words == 8 && heads.head_stride == 32;
  std::int64_t h = 0;
  for (; together && h + 2 <= heads.num_heads; h += 2) body.template operator()<true>(Pair{h, h + 1, true});
  for (; h < heads.num_heads; h += 2) body.template operator()<false>(pair_of(heads, h));
}

template <int Bits, int Positions>
[[gnu::noinline]] void paired_scores(const StoredHeads& heads, const Tile& tile, const float* q, float* score,
                                     std::int64_t score_stride, const GroupIndex& index, float* scratch) {
  Parameters parameters;
  parameters.widen<Positions>(heads, index.shape, tile, scratch);
  for_pairs(heads, index.shape, [&]<bool Together>(const Pair& pair) {
    score_pair<Bits, Positions, Together>(heads, tile, pair, q, score, score_stride, index, parameters);
  });
}

template <int Bits, int Positions>
[[gnu::noinline]] void paired_values(const StoredHeads& heads, const Tile& tile, const float* weight,
                                     std::int64_t weight_stride, float* sums, const GroupIndex& index,
                                     float* scratch) {
  Parameters parameters;
  parameters.widen<Positions>(heads, index.shape, tile, scratch);
  for_pairs(heads, index.shape, [&]<bool Together>(const Pair& pair) {
    add_pair<Bits, Positions, Together>(heads, tile, pair, weight, weight_stride, sums, index, parameters);
  });
}

#endif

// ---- entry points ---------------------------------------------------------------------------------------------------

/// Calls body.template operator()<Positions>(tile, first position) for all positions, four at a time.
template <class Body>
FLEXGEN_ALWAYS_INLINE void for_tiles(std::int64_t count, const Body& body) {
  std::int64_t first = 0;
  for (; first + kPositions <= count; first += kPositions) body.template operator()<kPositions>(first);
  switch (count - first) {
    case 3: body.template operator()<3>(first); break;
    case 2: body.template operator()<2>(first); break;
    case 1: body.template operator()<1>(first); break;
    default: break;
  }
}

/// Positions first .. of a run, and as what comes next those after them, or the beginning of `next`.
FLEXGEN_ALWAYS_INLINE Tile run_tile(const StoredHeads& heads, const StoredPlace& place, const StoredPlace& next,
                                    std::int64_t count, std::int64_t first) {
  Tile tile;
  const bool last = first + kPositions >= count;
  const std::int64_t stride = heads.position_stride;
  const auto parameters_of = [](const StoredPlace& of) { return of.parameters == nullptr ? of.data : of.parameters; };
  const StoredPlace at = {place.data + first * stride, parameters_of(place) + first * stride};
  StoredPlace ahead = at;
  if (!last) ahead = {at.data + kPositions * stride, at.parameters + kPositions * stride};
  else if (next.data != nullptr) ahead = {next.data, parameters_of(next)};
  for (int p = 0; p < kPositions; ++p) {
    tile.data[p] = at.data + p * stride;
    tile.parameters[p] = at.parameters + p * stride;
    tile.next[p] = ahead.data + p * stride;
    tile.next_parameters[p] = ahead.parameters + p * stride;
  }
  return tile;
}

/// Calls body.template operator()<Format>() with a type that says how elements are stored.
template <int NumBits>
struct CodesOf {
  static constexpr int bits = NumBits;
};
template <class T>
struct ElementsOf {
  static constexpr int bits = 0;
  using Element = T;
};
template <class Body>
FLEXGEN_ALWAYS_INLINE void for_format(const StoredHeads& heads, const Body& body) {
  if (heads.quant.bits == 4) return body(CodesOf<4>{});
  if (heads.quant.bits == 8) return body(CodesOf<8>{});
  switch (heads.dtype) {
    case DType::float32: return body(ElementsOf<float>{});
    case DType::float16: return body(ElementsOf<Half>{});
    case DType::bfloat16: return body(ElementsOf<BFloat16>{});
  }
}

void scores(const StoredHeads& heads, const StoredPlace& keys, const StoredPlace& next, std::int64_t num_positions,
            const float* queries, float* score, std::int64_t score_stride, float* scratch) {
  for_format(heads, [&]<class Format>(Format) {
    if constexpr (Format::bits == 0) {
      for_tiles(num_positions, [&]<int Positions>(std::int64_t first) {
        plain_scores<typename Format::Element, Positions>(heads, run_tile(heads, keys, next, num_positions, first),
                                                          queries, score + first, score_stride);
      });
    } else {
      const GroupIndex index(heads);
      const WordShape& shape = index.shape;
      for_tiles(num_positions, [&]<int Positions>(std::int64_t first) {
        const Tile tile = run_tile(heads, keys, next, num_positions, first);
#if defined(__AVX512F__)
        if (shape.is_half())
          return paired_scores<Format::bits, Positions>(heads, tile, queries, score + first, score_stride, index,
                                                        scratch);
#endif
        for_fill(shape, [&]<class HeadFill>(HeadFill) {
          compressed_scores<Format::bits, Positions, HeadFill>(heads, tile, queries, score + first, score_stride, index,
                                                           scratch);
        });
      });
    }
  });
}

template <class Format, int Positions>
FLEXGEN_ALWAYS_INLINE void add_tile(const StoredHeads& heads, const Tile& tile, const float* weight,
                                    std::int64_t weight_stride, float* sums, const GroupIndex* index, float* scratch) {
#if defined(__AVX512F__)
  if constexpr (Format::bits != 0) {
    if (index->shape.is_half())
      return paired_values<Format::bits, Positions>(heads, tile, weight, weight_stride, sums, *index, scratch);
  }
#endif
  if constexpr (Format::bits == 0) {
    plain_values<typename Format::Element, Positions>(heads, tile, weight, weight_stride, sums);
  } else {
    for_fill(index->shape, [&]<class HeadFill>(HeadFill) {
      compressed_values<Format::bits, Positions, HeadFill>(heads, tile, weight, weight_stride, sums, *index, scratch);
    });
  }
}

template <class Body>
FLEXGEN_ALWAYS_INLINE void with_index(const StoredHeads& heads, const Body& body) {
  if (heads.quant.is_none()) return body(nullptr);
  const GroupIndex index(heads);
  body(&index);
}

void add_values(const StoredHeads& heads, const StoredPlace& values, const StoredPlace& next,
                std::int64_t num_positions, const float* weight, std::int64_t weight_stride, float* sums,
                float* scratch) {
  with_index(heads, [&](const GroupIndex* index) {
    for_format(heads, [&]<class Format>(Format) {
      for_tiles(num_positions, [&]<int Positions>(std::int64_t first) {
        add_tile<Format, Positions>(heads, run_tile(heads, values, next, num_positions, first), weight + first,
                                    weight_stride, sums, index, scratch);
      });
    });
  });
}

void add_chosen_values(const StoredHeads& heads, const StoredPlace& values, const std::int32_t* position,
                       std::int64_t count, const float* weight, float* sums, float* scratch) {
  with_index(heads, [&](const GroupIndex* index) {
    for_format(heads, [&]<class Format>(Format) {
      for_tiles(count, [&]<int Positions>(std::int64_t first) {
        Tile tile;
        for (int p = 0; p < Positions; ++p) {
          const std::int64_t following = first + p + (first + kPositions + p < count ? kPositions : 0);
          const std::int64_t at = position[first + p] * heads.position_stride;
          const std::int64_t ahead = position[following] * heads.position_stride;
          const std::byte* parameters = values.parameters == nullptr ? values.data : values.parameters;
          tile.data[p] = values.data + at, tile.parameters[p] = parameters + at;
          tile.next[p] = values.data + ahead, tile.next_parameters[p] = parameters + ahead;
        }
        add_tile<Format, Positions>(heads, tile, weight + first, 0, sums, index, scratch);
      });
    });
  });
}

}  // namespace
}  // namespace flexgen
