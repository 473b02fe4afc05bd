// Elements in registers: conversion to and from float32, and 16-byte vectors of them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace flexgen {

/// Elements of T in one 16-byte vector.
template <typename T>
inline constexpr int kVectorElements = 16 / static_cast<int>(sizeof(T));

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__half x) { return __half2float(x); }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

/// Rounds to nearest even.
template <typename T>
__device__ inline T from_float(float x) {
  if constexpr (std::is_same_v<T, __half>) {
    return __float2half_rn(x);
  } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return __float2bfloat16_rn(x);
  } else {
    return x;
  }
}

/// Two 16-bit elements in one register, `low` at the lower address.
template <typename T>
__device__ inline std::uint32_t pack_pair(float low, float high) {
  if constexpr (std::is_same_v<T, __half>) {
    const __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  }
}

template <typename T>
__device__ inline float2 unpack_pair(std::uint32_t bits) {
  if constexpr (std::is_same_v<T, __half>) {
    return __half22float2(*reinterpret_cast<const __half2*>(&bits));
  } else {  // a bfloat16 is the upper half of a float32
    return make_float2(__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000U));
  }
}

template <typename T>
__device__ inline void unpack(const uint4& bits, float (&out)[kVectorElements<T>]) {
  if constexpr (sizeof(T) == 4) {
    out[0] = __uint_as_float(bits.x);
    out[1] = __uint_as_float(bits.y);
    out[2] = __uint_as_float(bits.z);
    out[3] = __uint_as_float(bits.w);
  } else {
    const std::uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = unpack_pair<T>(words[i]);
      out[2 * i] = pair.x;
      out[2 * i + 1] = pair.y;
    }
  }
}

template <typename T>
__device__ inline uint4 pack(const float (&in)[kVectorElements<T>]) {
  if constexpr (sizeof(T) == 4) {
    return make_uint4(__float_as_uint(in[0]), __float_as_uint(in[1]), __float_as_uint(in[2]), __float_as_uint(in[3]));
  } else {
    return make_uint4(pack_pair<T>(in[0], in[1]), pack_pair<T>(in[2], in[3]), pack_pair<T>(in[4], in[5]),
                      pack_pair<T>(in[6], in[7]));
  }
}

/// 2^x to about 2 ulp; 0 below the smallest normal number. exp2f would add a test for that to every call.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Sum over the 32 lanes of a warp, in every lane.
__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffU, x, offset);
  return x;
}

/// Sum over a block of whole warps (blockDim.x threads, at most 1024), in every thread. `scratch` is shared memory
/// for 32 floats; it may be used again at once.
__device__ inline float block_sum(float x, float* scratch) {
  x = warp_sum(x);
  const int num_warps = (blockDim.x + 31) / 32;
  if (num_warps == 1) return x;
  __syncthreads();  // readers of an earlier sum are done
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  const float sum = threadIdx.x % 32 < num_warps ? scratch[threadIdx.x % 32] : 0.0F;
  return warp_sum(sum);
}

}  // namespace flexgen
