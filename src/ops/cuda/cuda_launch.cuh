// What the launchers of this room share: the stream, the check after a launch, alignment, one dtype dispatch.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "base/error.hpp"
#include "device/cuda_check.hpp"
#include "ops/batch_view.hpp"
#include "ops/context.hpp"
#include "ops/matrix_view.hpp"

namespace flexgen {

inline cudaStream_t stream_of(const OpContext& context) { return static_cast<cudaStream_t>(context.stream); }

/// Throws SystemError when the launch just made was refused.
inline void check_launch(const char* kernel) { check_cuda(cudaGetLastError(), kernel); }

/// A grid's x extent from a 64-bit count of blocks.
inline unsigned grid_extent(std::int64_t num_blocks) {
  FLEXGEN_CHECK(num_blocks > 0 && num_blocks <= 0x7fffffff, "a kernel's grid is out of range");
  return static_cast<unsigned>(num_blocks);
}

inline bool aligned_to(const void* pointer, std::uint64_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

/// True when every row of the matrix starts and ends on a 16-byte boundary.
inline bool rows_aligned(const MatrixView& matrix) {
  const std::uint64_t size = element_bytes(matrix.dtype);
  return aligned_to(matrix.data, 16) && matrix.cols * size % 16 == 0 &&
         (matrix.rows <= 1 || matrix.row_stride * size % 16 == 0);
}

/// The same of a compressed matrix.
inline bool stored_rows_aligned(const MatrixView& matrix) {
  return aligned_to(matrix.data, 16) && (matrix.rows <= 1 || matrix.row_stride % 16 == 0);
}

/// True when every key and value that these lead to starts on a boundary of `bytes`.
inline bool heads_aligned(const KvHead* host_heads, std::int64_t num_heads, std::uint64_t element_size,
                          std::uint64_t bytes) {
  std::uintptr_t addresses = 0;
  std::uint64_t offsets = 0;
  for (std::int64_t i = 0; i < num_heads; ++i) {
    const KvHead& head = host_heads[i];
    addresses |= reinterpret_cast<std::uintptr_t>(head.base);
    offsets |= static_cast<std::uint64_t>(head.position_stride | head.v_offset);
  }
  return addresses % bytes == 0 && offsets * element_size % bytes == 0;
}

/// The same of the cache of these rows, what they share included.
inline bool cache_aligned(const KvView& cache, std::int32_t num_rows, std::uint64_t element_size,
                          std::uint64_t bytes = 16) {
  std::int64_t num_runs = 0;
  for (std::int32_t s = 0; s < cache.shared.num_spans; ++s)
    num_runs = std::max<std::int64_t>(num_runs, cache.shared.host_spans[s].run + 1);
  return heads_aligned(cache.host_heads, static_cast<std::int64_t>(num_rows) * cache.num_heads, element_size, bytes) &&
         heads_aligned(cache.shared.host_heads, num_runs * cache.num_heads, element_size, bytes);
}

/// Calls f with a null pointer of the element type that stands for `dtype` on the GPU.
template <typename F>
void with_element_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::float32: f(static_cast<float*>(nullptr)); return;
    case DType::float16: f(static_cast<__half*>(nullptr)); return;
    case DType::bfloat16: f(static_cast<__nv_bfloat16*>(nullptr)); return;
    case DType::float64: break;
  }
  FLEXGEN_CHECK(false, "unknown dtype");
}

}  // namespace flexgen
