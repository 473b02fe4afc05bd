// Row-wise ops on the GPU, one block per output row: look-ups in a table, sums of matrices. And copies of flat arrays.
#include <algorithm>

#include "ops/cuda/cuda_elements.cuh"
#include "ops/cuda/cuda_kernels.hpp"
#include "ops/cuda/cuda_launch.cuh"

namespace flexgen {
namespace {

constexpr int kThreads = 256;

struct RowsParams {
  const std::byte* x;         // [x_rows, cols]; row index[r], or r where index is null
  const std::byte* x_rest;    // rows from x_rows on
  const std::byte* y;         // [rows, cols] or null; may be out
  std::byte* out;             // [rows, cols]
  const std::int32_t* index;  // [rows] or null
  std::int64_t x_rows;
  std::int64_t x_stride;  // elements
  std::int64_t y_stride;
  std::int64_t out_stride;
  std::int64_t cols;  // elements
};

template <typename Unit>
__device__ inline const Unit* source_row(const RowsParams& p) {
  const std::int64_t row = p.index != nullptr ? p.index[blockIdx.x] : static_cast<std::int64_t>(blockIdx.x);
  const bool is_first = row < p.x_rows;
  return reinterpret_cast<const Unit*>(is_first ? p.x : p.x_rest) + (is_first ? row : row - p.x_rows) * p.x_stride;
}

/// out[r] = x[index[r]]. Unit: what a thread moves at a time; strides and cols count Units.
template <typename Unit>
__global__ void __launch_bounds__(kThreads) copy_rows_kernel(const RowsParams p) {
  const Unit* from = source_row<Unit>(p);
  auto* to = reinterpret_cast<Unit*>(p.out) + blockIdx.x * p.out_stride;
  for (std::int64_t i = threadIdx.x; i < p.cols; i += blockDim.x) to[i] = from[i];
}

/// out[r] = x[index[r]] + y[r] in float32, rounded once; all rows on 16-byte boundaries.
template <typename T>
__global__ void __launch_bounds__(kThreads) add_rows_vector_kernel(const RowsParams p) {
  constexpr int kVector = kVectorElements<T>;
  const auto* x = reinterpret_cast<const uint4*>(source_row<T>(p));
  const auto* y = reinterpret_cast<const uint4*>(p.y + blockIdx.x * p.y_stride * sizeof(T));
  auto* out = reinterpret_cast<uint4*>(p.out + blockIdx.x * p.out_stride * sizeof(T));
  for (std::int64_t i = threadIdx.x; i < p.cols / kVector; i += blockDim.x) {
    float a[kVector], b[kVector];
    unpack<T>(x[i], a);
    unpack<T>(y[i], b);
#pragma unroll
    for (int e = 0; e < kVector; ++e) a[e] += b[e];
    out[i] = pack<T>(a);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) add_rows_plain_kernel(const RowsParams p) {
  const T* x = source_row<T>(p);
  const T* y = reinterpret_cast<const T*>(p.y) + blockIdx.x * p.y_stride;
  T* out = reinterpret_cast<T*>(p.out) + blockIdx.x * p.out_stride;
  for (std::int64_t i = threadIdx.x; i < p.cols; i += blockDim.x)
    out[i] = from_float<T>(to_float(x[i]) + to_float(y[i]));
}

int threads_for(std::int64_t units) {
  return static_cast<int>(std::clamp<std::int64_t>((units + 31) / 32 * 32, 32, kThreads));
}

bool table_aligned(const TableView& table) {
  return rows_aligned(table.first) && (table.rest.rows == 0 || rows_aligned(table.rest));
}

void add_rows(const OpContext& context, const TableView& table, const std::int32_t* index, const MatrixView& y,
              const MatrixView& out) {
  const MatrixView& x = table.first;
  FLEXGEN_CHECK(!x.is_compressed() && !y.is_compressed(), "sum of compressed matrices");
  FLEXGEN_CHECK(x.dtype == out.dtype && y.dtype == out.dtype, "sum of matrices of different dtypes");
  FLEXGEN_CHECK(x.cols == out.cols && y.cols == out.cols && y.rows == out.rows, "sum of matrices of different shapes");
  if (out.rows == 0 || out.cols == 0) return;
  const RowsParams p{x.data, table.rest.data, y.data,       out.data,       index,
                     x.rows, x.row_stride,    y.row_stride, out.row_stride, out.cols};
  const unsigned blocks = grid_extent(out.rows);
  const bool vectors = table_aligned(table) && rows_aligned(y) && rows_aligned(out);
  with_element_type(out.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    if (vectors) {
      add_rows_vector_kernel<T><<<blocks, threads_for(p.cols / kVectorElements<T>), 0, stream_of(context)>>>(p);
    } else {
      add_rows_plain_kernel<T><<<blocks, threads_for(p.cols), 0, stream_of(context)>>>(p);
    }
  });
  check_launch("launch of add_rows");
}

void copy_rows(const OpContext& context, const TableView& table, const std::int32_t* index, const MatrixView& out) {
  const MatrixView& first = table.first;
  if (out.rows == 0 || out.cols == 0) return;
  const bool vectors = table_aligned(table) && rows_aligned(out);
  const auto size = static_cast<std::int64_t>(element_bytes(out.dtype));
  const std::int64_t unit = vectors ? 16 : size;
  RowsParams p{};
  p.x = first.data;
  p.x_rest = table.rest.data;
  p.x_rows = first.rows;
  p.out = out.data;
  p.index = index;
  p.x_stride = first.row_stride * size / unit;
  p.out_stride = out.row_stride * size / unit;
  p.cols = out.cols * size / unit;
  const unsigned blocks = grid_extent(out.rows);
  if (vectors) {
    copy_rows_kernel<uint4><<<blocks, threads_for(p.cols), 0, stream_of(context)>>>(p);
  } else if (size == 4) {
    copy_rows_kernel<std::uint32_t><<<blocks, threads_for(p.cols), 0, stream_of(context)>>>(p);
  } else {
    copy_rows_kernel<std::uint16_t><<<blocks, threads_for(p.cols), 0, stream_of(context)>>>(p);
  }
  check_launch("launch of copy_rows_kernel");
}

template <typename Unit>
__global__ void __launch_bounds__(kThreads) copy_units_kernel(const Unit* from, Unit* to, std::uint64_t num_units) {
  const std::uint64_t i = static_cast<std::uint64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < num_units) to[i] = from[i];
}

template <typename Unit>
void copy_units(const OpContext& context, const std::byte* from, std::byte* to, std::uint64_t count) {
  const std::uint64_t num_units = count / sizeof(Unit);
  const unsigned blocks = grid_extent(static_cast<std::int64_t>((num_units + kThreads - 1) / kThreads));
  copy_units_kernel<Unit><<<blocks, kThreads, 0, stream_of(context)>>>(reinterpret_cast<const Unit*>(from),
                                                                       reinterpret_cast<Unit*>(to), num_units);
  check_launch("launch of copy_units_kernel");
}

}  // namespace

void gather_rows_cuda(const OpContext& context, const TableView& table, const std::int32_t* index,
                      const MatrixView& out) {
  FLEXGEN_CHECK(table.first.dtype == out.dtype && table.first.cols == out.cols, "gather_rows: table and out differ");
  if (table.first.is_compressed()) gather_compressed_rows(context, table, index, out);
  else copy_rows(context, table, index, out);
}

void copy_bytes_cuda(const OpContext& context, const std::byte* from, std::byte* to, std::uint64_t count) {
  const auto aligned = [&](std::uint64_t bytes) {
    return aligned_to(from, bytes) && aligned_to(to, bytes) && count % bytes == 0;
  };
  if (aligned(16)) copy_units<uint4>(context, from, to, count);
  else if (aligned(4)) copy_units<std::uint32_t>(context, from, to, count);
  else copy_units<std::uint8_t>(context, from, to, count);
}

void add_gathered_rows_cuda(const OpContext& context, const TableView& table, const std::int32_t* index,
                            const MatrixView& out) {
  add_rows(context, table, index, out, out);
}

void add_cuda(const OpContext& context, const MatrixView& x, const MatrixView& y, const MatrixView& out) {
  FLEXGEN_CHECK(x.rows == out.rows, "add: x and out differ in rows");
  add_rows(context, x, nullptr, y, out);
}

}  // namespace flexgen
