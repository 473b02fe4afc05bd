// From compressed to plain on the GPU: whole matrices, rows looked up in a table, and the cache of rows that bring
// several tokens. Bound by memory: a lane takes eight neighbouring codes, so that a warp's stores are whole lines.
#include <algorithm>

#include "ops/cuda/attention_compressed.hpp"
#include "ops/cuda/compressed_elements.cuh"
#include "ops/cuda/cuda_dependency.cuh"
#include "ops/cuda/cuda_kernels.hpp"

namespace flexgen {
namespace {

constexpr int kThreads = 256;
constexpr int kUnroll = 4;
constexpr int kWarpUnits = 32 * kUnroll;  // eights of codes that a warp takes of one row

struct DequantizeParams {
  const std::byte* from;  // rows of codes and parameters
  const std::byte* rest;  // where rows from num_first on lie, counted from there
  std::int64_t num_first;
  std::byte* to;              // [rows, cols]
  const std::int32_t* index;  // [rows] or null: row r comes from row index[r]
  std::int64_t from_stride;   // bytes
  std::int64_t to_stride;     // bytes
  std::int64_t parameter_offset;
  std::int64_t rows;
  int cols;
  int parts;  // of a row, a warp each
  int group_shift;
  bool vectors;
};

template <typename T, int kBits>
__global__ void __launch_bounds__(kThreads) dequantize_kernel(const DequantizeParams p) {
  start_dependents_after_predecessor();
  const auto warp = static_cast<unsigned>(blockIdx.x * (kThreads / 32) + threadIdx.x / 32);
  const unsigned row = warp / p.parts;
  if (row >= p.rows) return;
  const int first = static_cast<int>(warp % p.parts) * kWarpUnits + threadIdx.x % 32;
  const std::int64_t source = p.index != nullptr ? p.index[row] : row;
  const std::byte* codes =
      source < p.num_first ? p.from + source * p.from_stride : p.rest + (source - p.num_first) * p.from_stride;
  const auto* parameters = reinterpret_cast<const std::uint32_t*>(codes + p.parameter_offset);
  T* to = reinterpret_cast<T*>(p.to + row * p.to_stride);
  const int units = (p.cols + 7) / 8;

  EightCodes<kBits> held[kUnroll];
  std::uint32_t line[kUnroll];
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const int unit = min(first + 32 * u, units - 1);
    held[u].load(codes + static_cast<std::int64_t>(unit) * kBits);
    line[u] = parameters[unit * 8 >> p.group_shift];
  }
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const int unit = first + 32 * u;
    if (unit >= units) break;
    float value[8];
    held[u].values(scale_and_minimum(line[u]), value);
    store_eight(to + unit * 8, value, p.cols - unit * 8, p.vectors);
  }
}

void dequantize(const OpContext& context, const TableView& table, const std::int32_t* index, const MatrixView& to) {
  const MatrixView& from = table.first;
  FLEXGEN_CHECK(from.is_compressed() && !to.is_compressed(), "dequantize: from compressed to plain");
  FLEXGEN_CHECK(from.cols == to.cols && to.cols < (1LL << 30), "dequantize: matrices differ in width");
  FLEXGEN_CHECK(
      aligned_to(from.data, 8) && aligned_to(table.rest.data, 8) && (table.rows() <= 1 || from.row_stride % 8 == 0),
      "dequantize: compressed rows start on boundaries of 8 bytes");
  if (to.rows == 0 || to.cols == 0) return;
  DequantizeParams p{};
  p.from = from.data;
  p.rest = table.rest.data;
  p.num_first = from.rows;
  p.to = to.data;
  p.index = index;
  p.from_stride = from.row_stride;
  p.to_stride = to.row_stride * static_cast<std::int64_t>(element_bytes(to.dtype));
  p.parameter_offset = from.quant.row_parameter_offset(from.cols);
  p.rows = to.rows;
  p.cols = static_cast<int>(to.cols);
  p.parts = static_cast<int>(((to.cols + 7) / 8 + kWarpUnits - 1) / kWarpUnits);
  p.group_shift = group_shift_of(from.quant);
  p.vectors = aligned_to(to.data, 16) && (to.rows <= 1 || p.to_stride % 16 == 0);
  const unsigned blocks = grid_extent((p.rows * p.parts + kThreads / 32 - 1) / (kThreads / 32));
  const bool four = from.quant.bits == 4;
  with_element_type(to.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    launch_dependent(context, four ? dequantize_kernel<T, 4> : dequantize_kernel<T, 8>, blocks, kThreads, p,
                     "launch of dequantize_kernel");
  });
}

constexpr int kBlockPositions = 4;

struct ExpandParams {
  const std::int32_t* token_offset;  // [rows + 1]
  const std::int32_t* start;         // [rows]
  const KvHead* heads;               // [rows, num_heads], compressed
  KvHead* plain_heads;               // [rows, num_heads], written
  std::byte* plain;                  // [rows][slot_positions][2][num_heads][head_dim]
  std::int64_t slot_positions;
  int num_heads;
  int head_dim;
  int group_shift;
};

/// Grid (positions / kBlockPositions, rows).
template <typename T, int kBits>
__global__ void __launch_bounds__(kThreads) expand_cache_kernel(const ExpandParams p) {
  start_dependents_after_predecessor();
  const int row = blockIdx.y;
  const int count = p.token_offset[row + 1] - p.token_offset[row];
  if (count <= 1) return;  // another kernel's
  const int length = p.start[row] + count;
  const std::int64_t width = static_cast<std::int64_t>(p.num_heads) * p.head_dim;
  T* slot = reinterpret_cast<T*>(p.plain) + row * p.slot_positions * 2 * width;
  const KvHead* heads = p.heads + static_cast<std::int64_t>(row) * p.num_heads;
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
  for (int i = threadIdx.x; i < 2 * p.num_heads * units; i += blockDim.x) {
    const int vector = i / units;  // key of head 0, 1, ..., value of head 0, 1, ...
    const int dim = (i - vector * units) * 8;
    const bool is_value = vector >= p.num_heads;
    const KvHead head = heads[is_value ? vector - p.num_heads : vector];
    const std::byte* codes = head.base + (is_value ? head.v_offset : 0) + dim / 8 * kBits;
    const std::byte* line = head.base + (is_value ? head.v_parameters : head.k_parameters) + (dim >> p.group_shift) * 4;
    T* to = slot + static_cast<std::int64_t>(vector) * p.head_dim + dim;
#pragma unroll
    for (int q = 0; q < kBlockPositions; ++q) {
      const std::int64_t position = first + q;
      if (position >= last) break;
      EightCodes<kBits> held;
      held.load(codes + position * head.position_stride);
      float value[8];
      held.values(scale_and_minimum(*reinterpret_cast<const std::uint32_t*>(line + position * head.position_stride)),
                  value);
      store_eight(to + position * 2 * width, value, p.head_dim - dim, vectors);
    }
  }
}

}  // namespace

void dequantize_rows_cuda(const OpContext& context, const MatrixView& from, const MatrixView& to) {
  FLEXGEN_CHECK(from.rows == to.rows, "dequantize_rows: matrices differ in rows");
  dequantize(context, from, nullptr, to);
}

void gather_compressed_rows(const OpContext& context, const TableView& table, const std::int32_t* index,
                            const MatrixView& out) {
  dequantize(context, table, index, out);
}

void expand_cache(const OpContext& context, const BatchView& rows, const KvView& cache, DType dtype,
                  std::int32_t slot_positions, KvHead* plain_heads, std::byte* plain) {
  ExpandParams p{};
  p.token_offset = rows.token_offset;
  p.start = rows.start;
  p.heads = cache.heads;
  p.plain_heads = plain_heads;
  p.plain = plain;
  p.slot_positions = slot_positions;
  p.num_heads = cache.num_heads;
  p.head_dim = cache.head_dim;
  p.group_shift = group_shift_of(cache.quant);
  FLEXGEN_CHECK(rows.num_rows <= 65535, "attention: too many rows in one call");
  const dim3 grid(grid_extent((slot_positions + kBlockPositions - 1) / kBlockPositions), rows.num_rows);
  const bool four = cache.quant.bits == 4;
  with_element_type(dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    launch_dependent(context, four ? expand_cache_kernel<T, 4> : expand_cache_kernel<T, 8>, grid, kThreads, p,
                     "launch of expand_cache_kernel");
  });
}

}  // namespace flexgen
