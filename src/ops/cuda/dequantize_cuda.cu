// From compressed to plain on the GPU: whole matrices and rows looked up in a table. Bound by memory: a lane takes
// eight neighbouring codes, so that a warp's stores are whole lines.
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

}  // namespace

void dequantize_rows_cuda(const OpContext& context, const MatrixView& from, const MatrixView& to) {
  FLEXGEN_CHECK(from.rows == to.rows, "dequantize_rows: matrices differ in rows");
  dequantize(context, from, nullptr, to);
}

void gather_compressed_rows(const OpContext& context, const TableView& table, const std::int32_t* index,
                            const MatrixView& out) {
  dequantize(context, table, index, out);
}

}  // namespace flexgen
