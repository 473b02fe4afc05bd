// Codes of 4 bits in groups of 64, of heads of 64 or 128 elements, by dot products of bytes; everything else as in the
// AVX-512 set. Weights are rounded to sixteen bits (of the largest of eight positions), which is finer than elements of
// float16 and bfloat16, which the sums become: float32 is left to the other set.
#include "ops/host/stored/vnni_values_body.hpp"

namespace flexgen {
namespace {

constexpr const StoredKernels& kOthers = avx512_stored_kernels;
constexpr int kAhead = kValueTile;  // positions that are fetched before they are read

/// Calls body.template operator()<Groups>(), or says that the heads are not of the kind.
template <class Body>
FLEXGEN_ALWAYS_INLINE bool for_groups(const StoredHeads& heads, const Body& body) {
  if (heads.quant.bits != 4 || heads.quant.group != 64 || heads.dtype == DType::float32) return false;
  if (heads.head_dim == 128) body.template operator()<2>();
  else if (heads.head_dim == 64) body.template operator()<1>();
  else return false;
  return true;
}

/// Of a run of heads; what is kept in scratch memory. Floats, one per group, with room for a vector beyond the last.
template <int Groups>
struct Room {
  std::int64_t padded;
  float* factor;  // or weighted minima
  float* sum;
  float* parameters;  // of the positions of a tile, where those of the heads do not follow one another

  Room(const StoredHeads& heads, float* scratch)
      : padded((heads.num_heads * Groups + 15) / 16 * 16 + 16),
        factor(scratch),
        sum(scratch + padded),
        parameters(sum + padded) {}
  std::int64_t floats() const { return (2 + kValueTile) * padded; }
};

std::int64_t arranged_floats(const StoredHeads& heads) {
  std::int64_t count = 0;
  if (for_groups(heads, [&]<int Groups>() { count = Heads<Groups>::kArranged; })) return count;
  return kOthers.arranged_floats(heads);
}

std::int64_t scratch_floats(const StoredHeads& heads) {
  std::int64_t count = 0;
  if (for_groups(heads, [&]<int Groups>() { count = Room<Groups>(heads, nullptr).floats(); })) return count;
  return kOthers.scratch_floats(heads);
}

/// Where element d of a group is in its row of words: word, byte, nibble.
struct CodePlace {
  std::int64_t word;
  int byte, nibble;
  explicit CodePlace(std::int64_t d)
      : word(d / 8), byte(static_cast<int>(d % 2 * 2 + d % 8 / 4)), nibble(static_cast<int>(d % 4 / 2)) {}
};

template <int Groups>
void arrange(const float* q, float* arranged) {
  constexpr int kPiece = Heads<Groups>::kPieceBytes;
  auto* bytes = reinterpret_cast<std::int8_t*>(arranged);
  for (std::int64_t g = 0; g < Groups; ++g) {
    float largest = 0.0F, sum = 0.0F;
    for (std::int64_t d = g * 64; d < (g + 1) * 64; ++d) {
      const float size = __builtin_fabsf(q[d]);
      if (size > largest) largest = size;
      sum += q[d];
    }
    const float inverse = kLargestQuery / largest, factor = largest / kLargestQuery;
    int total = 0;
    for (std::int64_t d = g * 64; d < (g + 1) * 64; ++d) {
      const float scaled = q[d] * inverse;  // no number where all are zero, or one is infinite
      const bool is_number = __builtin_fabsf(scaled) <= kLargestQuery + 1.0F;
      const int number = is_number ? static_cast<int>(__builtin_rintf(scaled)) : 0;
      total += number;
      const int upper = (number + 128) >> 8, highest = (upper + 128) >> 8;
      const CodePlace place(d);
      std::int8_t* to = bytes + place.nibble * kPiece + place.word * 4 + place.byte;
      to[0] = static_cast<std::int8_t>(highest);
      to[2 * kPiece] = static_cast<std::int8_t>(upper - highest * 256);
      to[4 * kPiece] = static_cast<std::int8_t>(number - upper * 256);
    }
    arranged[Heads<Groups>::kFactor + g] = factor;
    // The minimum meets the rounded query, as the codes do: what rounding does then goes with the keys' own size.
    arranged[Heads<Groups>::kFactor + Groups + g] = sum - sum == 0.0F ? factor * static_cast<float>(total) : sum;
  }
}

void arrange_query(const StoredHeads& heads, const float* q, float* arranged) {
  if (!for_groups(heads, [&]<int Groups>() { arrange<Groups>(q, arranged); }))
    kOthers.arrange_query(heads, q, arranged);
}

void collect_sums(const StoredHeads& heads, const float* arranged, float* out) {
  const bool done = for_groups(heads, [&]<int Groups>() {
    for (std::int64_t d = 0; d < heads.head_dim; ++d) {
      const CodePlace place(d);
      const std::int64_t byte = place.word % 4 * 4 + place.byte;  // of a quarter of a vector
      const std::int64_t vector = byte / 4 * 2 + place.nibble, lane = place.word / 4 * 4 + byte % 4;
      out[d] = arranged[vector * Groups * 8 + lane] + arranged[Heads<Groups>::kMinima + d / 64];
    }
  });
  if (!done) kOthers.collect_sums(heads, arranged, out);
}

/// at(p): position p of the tile, ahead(p): what to fetch for it.
template <int Groups, int Positions, class At, class Ahead>
FLEXGEN_ALWAYS_INLINE Rows<Positions> tile_rows(const StoredHeads& heads, const Room<Groups>& room, const At& at,
                                                const Ahead& ahead) {
  Rows<Positions> rows;
  const bool together = heads.num_heads == 1 || heads.parameter_stride == Groups * 4;
  for (int p = 0; p < Positions; ++p) {
    const StoredPlace own = at(p), next = ahead(p);
    rows.data[p] = own.data, rows.parameters[p] = own.parameters;
    rows.next[p] = next.data, rows.next_parameters[p] = next.parameters;
    if (together) continue;
    float* copy = room.parameters + p * room.padded;
    for (std::int64_t h = 0; h < heads.num_heads; ++h)
      __builtin_memcpy(copy + h * Groups, own.parameters + h * heads.parameter_stride, Groups * 4);
    rows.parameters[p] = reinterpret_cast<const std::byte*>(copy);
  }
  return rows;
}

StoredPlace position_of(const StoredHeads& heads, const StoredPlace& place, std::int64_t position) {
  const std::int64_t offset = position * heads.position_stride;
  return {place.data + offset, place.parameters + offset};
}

/// Tiles of a run of positions, and what lies kAhead of them.
template <int Groups, int Positions>
FLEXGEN_ALWAYS_INLINE Rows<Positions> run_rows(const StoredHeads& heads, const Room<Groups>& room,
                                               const StoredPlace& place, const StoredPlace& next, std::int64_t count,
                                               std::int64_t first) {
  const auto own = [&](int p) { return position_of(heads, place, first + p < count ? first + p : count - 1); };
  return tile_rows<Groups, Positions>(heads, room, own, [&](int p) {
    const std::int64_t position = first + p + kAhead;
    if (position < count) return position_of(heads, place, position);
    return next.data != nullptr ? position_of(heads, next, position - count) : own(p);
  });
}

template <int Groups>
FLEXGEN_ALWAYS_INLINE Chunk chunk_from(const StoredHeads& heads, std::int64_t first_head) {
  using Shape = Heads<Groups>;
  const std::int64_t left = heads.num_heads - first_head;
  const std::int64_t count = left < Shape::kHeadsPerChunk ? left : Shape::kHeadsPerChunk;
  return {first_head / Shape::kHeadsPerVector, (count + Shape::kHeadsPerVector - 1) / Shape::kHeadsPerVector,
          first_head, count, heads.head_stride};
}

template <int Groups, bool Together>
[[gnu::noinline]] void score_tile(const StoredHeads& heads, const Rows<kScoreTile>& rows, const Room<Groups>& room,
                                  const float* queries, __mmask8 positions, float* score, std::int64_t score_stride) {
  using Shape = Heads<Groups>;
  for (std::int64_t h = 0; h < heads.num_heads; h += Shape::kHeadsPerChunk) {
    const Chunk chunk = chunk_from<Groups>(heads, h);
    const float* q = queries + h * Shape::kArranged;
    float* to = score + h * score_stride;
    if (chunk.num_heads == Shape::kHeadsPerChunk)
      score_chunk<Groups, Together, true>(rows, chunk, q, room.factor, room.sum, positions, to, score_stride);
    else score_chunk<Groups, Together, false>(rows, chunk, q, room.factor, room.sum, positions, to, score_stride);
  }
}

/// A bit for each of the positions of a tile that there are.
FLEXGEN_ALWAYS_INLINE std::uint32_t tile_mask(std::int64_t left, int tile) {
  return (1U << (left < tile ? left : tile)) - 1U;
}

template <int Groups>
void vnni_scores(const StoredHeads& heads, const StoredPlace& keys, const StoredPlace& next, std::int64_t num_positions,
                 const float* queries, float* score, std::int64_t score_stride, float* scratch) {
  using Shape = Heads<Groups>;
  const Room<Groups> room(heads, scratch);
  for (std::int64_t h = 0; h < heads.num_heads; ++h) {
    const float* query = queries + h * Shape::kArranged + Shape::kFactor;
    for (int g = 0; g < Groups; ++g)
      room.factor[h * Groups + g] = query[g], room.sum[h * Groups + g] = query[Groups + g];
  }
  const bool together = heads.head_stride == Shape::kPieceBytes;
  for (std::int64_t first = 0; first < num_positions; first += kScoreTile) {
    const auto positions = static_cast<__mmask8>(tile_mask(num_positions - first, kScoreTile));
    const auto rows = run_rows<Groups, kScoreTile>(heads, room, keys, next, num_positions, first);
    if (together) score_tile<Groups, true>(heads, rows, room, queries, positions, score + first, score_stride);
    else score_tile<Groups, false>(heads, rows, room, queries, positions, score + first, score_stride);
  }
}

void scores(const StoredHeads& heads, const StoredPlace& keys, const StoredPlace& next, std::int64_t num_positions,
            const float* queries, float* score, std::int64_t score_stride, float* scratch) {
  const bool done = for_groups(heads, [&]<int Groups>() {
    vnni_scores<Groups>(heads, keys, next, num_positions, queries, score, score_stride, scratch);
  });
  if (!done) kOthers.scores(heads, keys, next, num_positions, queries, score, score_stride, scratch);
}

template <int Groups, int Quads, bool Together>
[[gnu::noinline]] void value_tile(const StoredHeads& heads, const Rows<4 * Quads>& rows, const float* weight,
                                  std::int64_t weight_stride, std::uint32_t positions, float* sums, float* minima) {
  using Shape = Heads<Groups>;
  for (std::int64_t h = 0; h < heads.num_heads; h += Shape::kHeadsPerChunk)
    add_chunk<Groups, Quads, Together>(rows, chunk_from<Groups>(heads, h), weight + h * weight_stride, weight_stride,
                                       positions, sums + h * Shape::kArranged, minima);
}

/// make_rows.template operator()<Positions>(first): a tile.
template <int Groups, class MakeRows>
void vnni_values(const StoredHeads& heads, const Room<Groups>& room, std::int64_t count, const float* weight,
                 std::int64_t weight_stride, float* sums, const MakeRows& make_rows) {
  using Shape = Heads<Groups>;
  const bool together = heads.head_stride == Shape::kPieceBytes;
  float* minima = room.factor;
  for (std::int64_t i = 0; i < room.padded; ++i) minima[i] = 0.0F;
  const auto tile = [&]<int Quads>(std::int64_t first) {
    const Rows<4 * Quads> rows = make_rows.template operator()<4 * Quads>(first);
    const std::uint32_t positions = tile_mask(count - first, 4 * Quads);
    if (together) value_tile<Groups, Quads, true>(heads, rows, weight + first, weight_stride, positions, sums, minima);
    else value_tile<Groups, Quads, false>(heads, rows, weight + first, weight_stride, positions, sums, minima);
  };
  std::int64_t first = 0;
  for (; first + 4 < count; first += kValueTile) tile.template operator()<2>(first);
  if (first < count) tile.template operator()<1>(first);
  for (std::int64_t h = 0; h < heads.num_heads; ++h)
    for (int g = 0; g < Groups; ++g) sums[h * Shape::kArranged + Shape::kMinima + g] += minima[h * Groups + g];
}

void add_values(const StoredHeads& heads, const StoredPlace& values, const StoredPlace& next,
                std::int64_t num_positions, const float* weight, std::int64_t weight_stride, float* sums,
                float* scratch) {
  const bool done = for_groups(heads, [&]<int Groups>() {
    const Room<Groups> room(heads, scratch);
    const auto rows = [&]<int Positions>(std::int64_t first) {
      return run_rows<Groups, Positions>(heads, room, values, next, num_positions, first);
    };
    vnni_values<Groups>(heads, room, num_positions, weight, weight_stride, sums, rows);
  });
  if (!done) kOthers.add_values(heads, values, next, num_positions, weight, weight_stride, sums, scratch);
}

void add_chosen_values(const StoredHeads& heads, const StoredPlace& values, const std::int32_t* position,
                       std::int64_t count, const float* weight, float* sums, float* scratch) {
  const bool done = for_groups(heads, [&]<int Groups>() {
    const Room<Groups> room(heads, scratch);
    const auto rows = [&]<int Positions>(std::int64_t first) {
      const auto at = [&](std::int64_t p) { return position_of(heads, values, position[p < count ? p : count - 1]); };
      return tile_rows<Groups, Positions>(
          heads, room, [&](int p) { return at(first + p); }, [&](int p) { return at(first + p + kAhead); });
    };
    vnni_values<Groups>(heads, room, count, weight, 0, sums, rows);
  });
  if (!done) kOthers.add_chosen_values(heads, values, position, count, weight, sums, scratch);
}

bool encode(const float* from, std::int64_t count, const QuantFormat& format, int refinements, std::byte* codes,
            std::byte* parameters) {
  return kOthers.encode(from, count, format, refinements, codes, parameters);
}
void decode(const std::byte* codes, const std::byte* parameters, const QuantFormat& format, std::int64_t count,
            DType dtype, std::byte* to) {
  kOthers.decode(codes, parameters, format, count, dtype, to);
}

}  // namespace

extern const StoredKernels avx512_vnni_stored_kernels = {
    "avx512_vnni", encode,         decode, arranged_floats, arrange_query,
    collect_sums,  scratch_floats, scores, add_values,      add_chosen_values};

}  // namespace flexgen
