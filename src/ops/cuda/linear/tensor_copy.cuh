// Copies of matrix tiles from global to shared memory by the tensor memory accelerator (sm_90 on): one thread asks, the
// hardware computes addresses, swizzles and fills with zeros, and a barrier in shared memory says when the bytes are
// there. Products of a warpgroup see them without a fence, which would wait for all other copies under way, too.
// Source: PTX ISA, "cp.async.bulk.tensor" and "mbarrier"; CUDA Driver API, cuTensorMapEncodeTiled.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "ops/cuda/cuda_launch.cuh"
#include "ops/cuda/cuda_tensor_core.cuh"

namespace flexgen {

/// A matrix in global memory and the tiles of it that are copied.
struct TileSource {
  const void* data;  // on a boundary of 16 bytes
  CUtensorMapDataType type;
  std::int64_t rows, cols;
  std::int64_t stride_bytes;   // a multiple of 16
  int tile_rows, tile_cols;    // a tile's rows: a multiple of 16 bytes
  CUtensorMapSwizzle swizzle;  // how the 16-byte chunks of a tile's row change places
};

/// Throws InternalError when the driver refuses it.
inline CUtensorMap describe_tiles(const TileSource& source) {
  using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                              const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                              CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  static const auto encode = [] {  // from the driver in use: the program starts without one
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    FLEXGEN_CUDA_CALL(
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found));
    FLEXGEN_CHECK(found == cudaDriverEntryPointSuccess, "the driver lacks cuTensorMapEncodeTiled");
    return reinterpret_cast<Encode>(function);
  }();
  const cuuint64_t extent[2] = {static_cast<cuuint64_t>(source.cols), static_cast<cuuint64_t>(source.rows)};
  const cuuint64_t stride[1] = {static_cast<cuuint64_t>(source.stride_bytes)};
  const cuuint32_t tile[2] = {static_cast<cuuint32_t>(source.tile_cols), static_cast<cuuint32_t>(source.tile_rows)};
  const cuuint32_t step[2] = {1, 1};
  CUtensorMap map;
  const CUresult result = encode(&map, source.type, 2, const_cast<void*>(source.data), extent, stride, tile, step,
                                 CU_TENSOR_MAP_INTERLEAVE_NONE, source.swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                 CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  FLEXGEN_CHECK(result == CUDA_SUCCESS, "the driver refuses the description of a matrix for copies of tiles");
  return map;
}

/// A barrier in shared memory that completes a phase when the announced bytes have arrived.
struct ArrivalBarrier {
  std::uint64_t state;

  /// By one thread; then show_barriers(), and a barrier of the block.
  __device__ void init() {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;\n" ::"r"(shared_address(&state)) : "memory");
  }
  __device__ void expect(int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(shared_address(&state)), "r"(bytes)
                 : "memory");
  }
  /// Phases alternate between parity 0, the first, and 1.
  __device__ void wait(int parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n"
        "}\n" ::"r"(shared_address(&state)),
        "r"(parity)
        : "memory");
  }
};

__device__ inline void show_barriers() { asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory"); }

/// Starts copying the tile that begins at (row, column), the column on a boundary of 16 bytes; `to` at a multiple of
/// 1024 bytes, `map` a kernel's parameter.
__device__ inline void copy_tile_async(void* to, const CUtensorMap& map, int row, int column, ArrivalBarrier& arrival) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], "
      "[%4];\n" ::"r"(shared_address(to)),
      "l"(reinterpret_cast<std::uint64_t>(&map)), "r"(column), "r"(row), "r"(shared_address(&arrival.state))
      : "memory");
}

}  // namespace flexgen
