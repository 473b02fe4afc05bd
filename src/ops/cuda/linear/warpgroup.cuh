// Warpgroup products (wgmma, sm_90a): 64 rows of registers times a matrix in shared memory, started now, waited for
// later. Source: PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions".
//
// With w the warp of its warpgroup, g = lane / 4 and t = lane % 4, a lane holds of a (64 x 16) what it holds of a 16 x
// 16 fragment (cuda_tensor_core.cuh) whose first row is 16 w, and of the sums (64 x n), j counting columns by eights,
//   sum[4j], sum[4j + 1] (16w + g, 8j + 2t..)   sum[4j + 2], sum[4j + 3] (16w + g + 8, 8j + 2t..)
#pragma once

#include <cstdint>
#include <type_traits>

#include "ops/cuda/cuda_tensor_core.cuh"

namespace flexgen {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/// Before products that read registers written since the last one.
__device__ inline void before_products() { asm volatile("wgmma.fence.sync.aligned;\n"); }

/// Closes a group of products; wait_for_products<n> returns when all but the newest n groups have ended.
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;\n"); }
template <int kNewest>
__device__ inline void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kNewest));
}

/// Describes a matrix [n, 64] of 16-bit elements at a multiple of 1024 bytes of shared memory, whose row r has its
/// 16-byte chunk c at place c ^ (r % 8). Add 2 for each sixteen columns to skip.
__device__ inline std::uint64_t product_operand(const void* matrix) {
  constexpr std::uint64_t kEightRows = 1024 >> 4;
  constexpr std::uint64_t kSwizzle128 = 1;
  return (shared_address(matrix) & 0x3ffffU) >> 4 | 1ULL << 16 | kEightRows << 32 | kSwizzle128 << 62;
}

#define FLEXGEN_PRODUCT_64(types)                                                                                \
  asm volatile(                                                                                                  \
      "{\n"                                                                                                      \
      ".reg .pred add;\n"                                                                                        \
      "setp.ne.b32 add, %37, 0;\n"                                                                               \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." types                                                        \
      " {"                                                                                                       \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                   \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"                           \
      "}, {%32, %33, %34, %35}, %36, add, 1, 1, 0;\n"                                                            \
      "}\n"                                                                                                      \
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]), "+f"(sum[4]), "+f"(sum[5]), "+f"(sum[6]),        \
        "+f"(sum[7]), "+f"(sum[8]), "+f"(sum[9]), "+f"(sum[10]), "+f"(sum[11]), "+f"(sum[12]), "+f"(sum[13]),    \
        "+f"(sum[14]), "+f"(sum[15]), "+f"(sum[16]), "+f"(sum[17]), "+f"(sum[18]), "+f"(sum[19]), "+f"(sum[20]), \
        "+f"(sum[21]), "+f"(sum[22]), "+f"(sum[23]), "+f"(sum[24]), "+f"(sum[25]), "+f"(sum[26]), "+f"(sum[27]), \
        "+f"(sum[28]), "+f"(sum[29]), "+f"(sum[30]), "+f"(sum[31])                                               \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(x), "r"(add))

/// sum [64, 64] = add * sum + a [64, 16] * x [64, 16]^T, add 0 or 1.
template <typename T>
__device__ inline void warpgroup_multiply_add(float (&sum)[32], const std::uint32_t (&a)[4], std::uint64_t x, int add) {
  if constexpr (std::is_same_v<T, __half>) FLEXGEN_PRODUCT_64("f16.f16");
  else FLEXGEN_PRODUCT_64("bf16.bf16");
}
#undef FLEXGEN_PRODUCT_64

#define FLEXGEN_PRODUCT_128(types)                                                                               \
  asm volatile(                                                                                                  \
      "{\n"                                                                                                      \
      ".reg .pred add;\n"                                                                                        \
      "setp.ne.b32 add, %69, 0;\n"                                                                               \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." types                                                       \
      " {"                                                                                                       \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                   \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                         \
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                         \
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"                           \
      "}, {%64, %65, %66, %67}, %68, add, 1, 1, 0;\n"                                                            \
      "}\n"                                                                                                      \
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]), "+f"(sum[4]), "+f"(sum[5]), "+f"(sum[6]),        \
        "+f"(sum[7]), "+f"(sum[8]), "+f"(sum[9]), "+f"(sum[10]), "+f"(sum[11]), "+f"(sum[12]), "+f"(sum[13]),    \
        "+f"(sum[14]), "+f"(sum[15]), "+f"(sum[16]), "+f"(sum[17]), "+f"(sum[18]), "+f"(sum[19]), "+f"(sum[20]), \
        "+f"(sum[21]), "+f"(sum[22]), "+f"(sum[23]), "+f"(sum[24]), "+f"(sum[25]), "+f"(sum[26]), "+f"(sum[27]), \
        "+f"(sum[28]), "+f"(sum[29]), "+f"(sum[30]), "+f"(sum[31]), "+f"(sum[32]), "+f"(sum[33]), "+f"(sum[34]), \
        "+f"(sum[35]), "+f"(sum[36]), "+f"(sum[37]), "+f"(sum[38]), "+f"(sum[39]), "+f"(sum[40]), "+f"(sum[41]), \
        "+f"(sum[42]), "+f"(sum[43]), "+f"(sum[44]), "+f"(sum[45]), "+f"(sum[46]), "+f"(sum[47]), "+f"(sum[48]), \
        "+f"(sum[49]), "+f"(sum[50]), "+f"(sum[51]), "+f"(sum[52]), "+f"(sum[53]), "+f"(sum[54]), "+f"(sum[55]), \
        "+f"(sum[56]), "+f"(sum[57]), "+f"(sum[58]), "+f"(sum[59]), "+f"(sum[60]), "+f"(sum[61]), "+f"(sum[62]), \
        "+f"(sum[63])                                                                                            \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(x), "r"(add))

/// sum [64, 128] = add * sum + a [64, 16] * x [128, 16]^T, add 0 or 1.
template <typename T>
__device__ inline void warpgroup_multiply_add(float (&sum)[64], const std::uint32_t (&a)[4], std::uint64_t x, int add) {
  if constexpr (std::is_same_v<T, __half>) FLEXGEN_PRODUCT_128("f16.f16");
  else FLEXGEN_PRODUCT_128("bf16.bf16");
}
#undef FLEXGEN_PRODUCT_128

#endif

}  // namespace flexgen
