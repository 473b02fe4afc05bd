// Dequantizes the cache of rows that bring several tokens: bound by memory, a lane takes eight neighbouring codes.
#include "ops/cuda/attention/compressed.hpp"
#include "ops/cuda/attention/params.cuh"
#include "ops/cuda/compressed_elements.cuh"
#include "ops/cuda/cuda_dependency.cuh"
#include "ops/cuda/cuda_launch.cuh"
#include "spec/block_limits.hpp"

namespace flexgen {
namespace {

constexpr int kThreads = 256;
constexpr int kBlockPositions = 4;

struct DequantizeCacheParams {
  const std::int32_t* token_offset;  // [rows + 1]
  const std::int32_t* start;         // [rows]
  const KvHead* heads;               // [rows, num_heads], compressed
  SpanTables shared;
  KvHead* plain_heads;  // [rows, num_heads], written
  std::byte* plain;     // [rows][slot_positions][2][num_heads][head_dim]
  std::int64_t slot_positions;
  int num_heads;
  int head_dim;
  int group_shift;
};

static_assert(prefix_grain % kBlockPositions == 0, "what a block takes lies in one part");

/// Grid (positions / kBlockPositions, rows). What the row shares comes to its slot, too.
template <typename T, int kBits, bool kSpans>
__global__ void __launch_bounds__(kThreads) dequantize_cache_kernel(const DequantizeCacheParams p) {
  start_dependents_after_predecessor();
  const int row = blockIdx.y;
  const RowTokens tokens = row_tokens(p.token_offset, p.start, row);
  if (!tokens.is_prefill()) return;  // another kernel's
  const int length = tokens.num_positions();
  const std::int64_t width = static_cast<std::int64_t>(p.num_heads) * p.head_dim;
  T* slot = reinterpret_cast<T*>(p.plain) + row * p.slot_positions * 2 * width;
  if (blockIdx.x == 0) {
    for (int h = threadIdx.x; h < p.num_heads; h += blockDim.x) {
      KvHead head{};
      head.base = reinterpret_cast<std::byte*>(slot + static_cast<std::int64_t>(h) * p.head_dim);
      head.position_stride = static_cast<std::int32_t>(2 * width);
      head.v_offset = static_cast<std::int32_t>(width);
      p.plain_heads[static_cast<std::int64_t>(row) * p.num_heads + h] = head;
    }
  }
  const int units = (p.head_dim + 7) / 8;  // of one head's key or value
  const bool vectors = p.head_dim % 8 == 0;
  const int first = blockIdx.x * kBlockPositions;
  const int last = min(first + kBlockPositions, length);
  if (first >= last) return;
  const RowPart stored = part_of<kSpans>(p.heads, p.shared, p.num_heads, row, tokens, first);
  for (int i = threadIdx.x; i < 2 * p.num_heads * units; i += blockDim.x) {
    const int vector = i / units;  // key of head 0, 1, ..., value of head 0, 1, ...
    const int dim = (i - vector * units) * 8;
    const CachePart part = vector >= p.num_heads ? CachePart::values : CachePart::keys;
    const CacheSpan span{stored.heads[part == CachePart::values ? vector - p.num_heads : vector], length};
    T* to = slot + static_cast<std::int64_t>(vector) * p.head_dim + dim;
#pragma unroll
    for (int q = 0; q < kBlockPositions; ++q) {
      const std::int64_t position = first + q;
      if (position >= last) break;
      EightCodes<kBits> held;
      held.load(span.at(part, position - stored.begin, 1) + dim / 8 * kBits);
      float value[8];
      const auto* lines = reinterpret_cast<const std::uint32_t*>(span.parameters(part, position - stored.begin));
      held.values(scale_and_minimum(lines[dim >> p.group_shift]), value);
      store_eight(to + position * 2 * width, value, p.head_dim - dim, vectors);
    }
  }
}

}  // namespace

void dequantize_cache(const OpContext& context, const BatchView& rows, const KvView& cache, DType dtype,
                      std::int32_t slot_positions, KvHead* plain_heads, std::byte* plain) {
  DequantizeCacheParams p{};
  p.token_offset = rows.token_offset;
  p.start = rows.start;
  p.heads = cache.heads;
  p.shared = span_tables(cache.shared);
  p.plain_heads = plain_heads;
  p.plain = plain;
  p.slot_positions = slot_positions;
  p.num_heads = cache.num_heads;
  p.head_dim = cache.head_dim;
  p.group_shift = group_shift_of(cache.quant);
  FLEXGEN_CHECK(rows.num_rows <= 65535, "attention: too many rows in one call");
  const dim3 grid(grid_extent((slot_positions + kBlockPositions - 1) / kBlockPositions), rows.num_rows);
  const bool four = cache.quant.bits == 4, spans = cache.shared.num_spans > 0;
  with_element_type(dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    auto* kernel = spans ? (four ? dequantize_cache_kernel<T, 4, true> : dequantize_cache_kernel<T, 8, true>)
                         : (four ? dequantize_cache_kernel<T, 4, false> : dequantize_cache_kernel<T, 8, false>);
    launch_dependent(context, kernel, grid, kThreads, p, "launch of dequantize_cache_kernel");
  });
}

}  // namespace flexgen
