// Writes new keys and values into a compressed cache: one block per token, sixteen elements per lane.
//
// The encoding is that of ops/quantize.hpp. A group lies in 2, 4 or 8 neighbouring lanes, which hold it in registers,
// counted from its minimum, so that float32 sums do not cancel. What it costs is arithmetic, about thirty instructions
// per element: codes are found by one saturating multiply-add (0 .. 1), one that scales and rounds (the sum with
// 1.5 * 2^23 has the code in its lowest byte) and one subtraction, and summed four at a time as bytes.
#include <algorithm>

#include "ops/cuda/attention/compressed.hpp"
#include "ops/cuda/attention/params.cuh"
#include "ops/cuda/compressed_elements.cuh"
#include "ops/cuda/cuda_dependency.cuh"
#include "ops/cuda/cuda_launch.cuh"
#include "ops/quantize.hpp"

namespace flexgen {
namespace {

constexpr int kThreads = 256;
constexpr int kLaneElements = 16;
constexpr float kLargestHalf = 65504.0F;
constexpr float kRounder = 12582912.0F;  // 1.5 * 2^23

struct CompressedAppendParams : AppendParams {
  int head_dim;
  int vector_lanes;  // lanes of one key or value, a power of two
  bool vectors;      // k and v can be read 16 bytes at a time
};

template <int kLanes, typename X>
__device__ inline X group_sum(X x) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffU, x, offset);
  return x;
}

/// What a scale and a minimum make of a lane's elements, summed over the group.
struct Fit {
  float scale = 0.0F;
  float offset = 0.0F;  // minimum less the group's first minimum
  float error = 0.0F;   // sum of squares
  float sum_product = 0.0F;
  int sum_code = 0;
  int sum_square = 0;
  std::uint32_t codes[kLaneElements / 4] = {};  // bytes
};

/// Sixteen elements of a group, less its first minimum; elements from `left` on are not there. kWhole: all are or none.
template <bool kWhole>
struct Elements {
  float value[kLaneElements];
  int left;
  float count, sum, sum_squares;  // of the group

  __device__ bool has(int e) const { return e < left; }

  template <int kBits, int kLanes>
  __device__ Fit fit(float scale, float offset) const {
    constexpr float kLargestCode = (1 << kBits) - 1;
    Fit fit;
    fit.scale = scale;
    fit.offset = offset;
    const float share = scale > 0.0F ? __fdividef(1.0F, scale * kLargestCode) : 0.0F;
    const float shift = -offset * share;
#pragma unroll
    for (int w = 0; w < kLaneElements / 4; ++w) {
      std::uint32_t byte[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float x = value[4 * w + i];
        const float rounded = fmaf(__saturatef(fmaf(x, share, shift)), kLargestCode, kRounder);
        const float code = rounded - kRounder;
        byte[i] = __float_as_uint(rounded);
        if (kWhole || has(4 * w + i)) {
          if constexpr (kBits == 8) {
            const float off = fmaf(-scale, code, x - offset);
            fit.error = fmaf(off, off, fit.error);
          }
          fit.sum_product = fmaf(code, x, fit.sum_product);
        } else {
          byte[i] = 0;
        }
      }
      fit.codes[w] = __byte_perm(__byte_perm(byte[0], byte[1], 0x0040), __byte_perm(byte[2], byte[3], 0x0040), 0x5410);
      if (kWhole && left <= 0) fit.codes[w] = 0;
      fit.sum_code = static_cast<int>(__dp4a(fit.codes[w], 0x01010101U, static_cast<unsigned>(fit.sum_code)));
      fit.sum_square = static_cast<int>(__dp4a(fit.codes[w], fit.codes[w], static_cast<unsigned>(fit.sum_square)));
    }
    if (kWhole && left <= 0) fit.error = fit.sum_product = 0.0F;
    fit.sum_product = group_sum<kLanes>(fit.sum_product);
    fit.sum_code = group_sum<kLanes>(fit.sum_code);
    fit.sum_square = group_sum<kLanes>(fit.sum_square);
    if constexpr (kBits == 8) {
      fit.error = group_sum<kLanes>(fit.error);
    } else {  // from the sums: 4 bits leave errors far above what float32 loses by that
      const float sum_code = static_cast<float>(fit.sum_code);
      const float codes_part = scale * fmaf(scale, static_cast<float>(fit.sum_square), -2.0F * fit.sum_product);
      fit.error = sum_squares + codes_part + offset * (2.0F * fmaf(scale, sum_code, -sum) + count * offset);
    }
    return fit;
  }
};

/// Encodes the group of these elements (not yet less its minimum); returns the word of parameters. kClamp: they may lie
/// beyond what float16 holds.
template <int kBits, int kLanes, bool kWhole, bool kClamp>
__device__ std::uint32_t encode(Elements<kWhole>& elements, std::uint32_t (&codes)[kLaneElements / 4]) {
  constexpr float kLargestCode = (1 << kBits) - 1;
  float smallest = INFINITY, largest = -INFINITY, poison = 0.0F;
#pragma unroll
  for (int e = 0; e < kLaneElements; ++e) {
    if (!kWhole && !elements.has(e)) continue;
    float& x = elements.value[e];
    if constexpr (kClamp) {
      poison = fmaf(x, 0.0F, poison);  // NaN when one is not finite
      x = fminf(fmaxf(x, -kLargestHalf), kLargestHalf);
    }
    smallest = fminf(smallest, x), largest = fmaxf(largest, x);
  }
  if (elements.left <= 0) smallest = INFINITY, largest = -INFINITY;
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    smallest = fminf(smallest, __shfl_xor_sync(0xffffffffU, smallest, offset));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffU, largest, offset));
  }
  elements.count = static_cast<float>(group_sum<kLanes>(max(min(elements.left, kLaneElements), 0)));
  const float minimum = __half2float(__float2half_rn(smallest));
  float sum = 0.0F, squares = 0.0F;
#pragma unroll
  for (int e = 0; e < kLaneElements; ++e) {
    elements.value[e] -= minimum;
    if (!kWhole && !elements.has(e)) continue;
    sum += elements.value[e];
    squares = fmaf(elements.value[e], elements.value[e], squares);
  }
  if (elements.left <= 0) sum = squares = 0.0F;
  elements.sum = sum = group_sum<kLanes>(sum);
  elements.sum_squares = kBits == 4 ? group_sum<kLanes>(squares) : 0.0F;
  const float count = elements.count;
  poison = kClamp ? group_sum<kLanes>(poison) : sum * 0.0F;

  const float first_scale = __half2float(__float2half_rn((largest - smallest) / kLargestCode));
  Fit best = elements.template fit<kBits, kLanes>(first_scale, 0.0F);
  bool ended = !(first_scale > 0.0F);
#pragma unroll
  for (int r = 0; r < cache_refinements; ++r) {
    const float sum_code = static_cast<float>(best.sum_code);
    const float denominator = fmaf(count, static_cast<float>(best.sum_square), -sum_code * sum_code);
    const float slope = __fdividef(fmaf(count, best.sum_product, -sum_code * sum), denominator);
    const float scale = __half2float(__float2half_rn(slope));
    const float next = __half2float(__float2half_rn(minimum + __fdividef(sum - slope * sum_code, count)));
    ended = ended || !(denominator > 0.0F && scale > 0.0F && scale <= kLargestHalf && fabsf(next) <= kLargestHalf);
    const Fit fit = elements.template fit<kBits, kLanes>(scale, next - minimum);
    ended = ended || !(fit.error < best.error);
    if (!ended) best = fit;
  }
#pragma unroll
  for (int w = 0; w < kLaneElements / 4; ++w) codes[w] = best.codes[w];
  if (poison != 0.0F) return 0x7e007e00U;  // NaN: what is read from it shows it
  return bits_of(__floats2half2_rn(best.scale, minimum + best.offset));
}

/// Codes as bytes in order -> words as they are stored.
template <int kBits>
__device__ inline void store_codes(std::byte* to, const std::uint32_t (&bytes)[kLaneElements / 4], int left) {
  constexpr int kWords = kLaneElements * kBits / 32;
  std::uint32_t word[kWords];
#pragma unroll
  for (int w = 0; w < kWords; ++w) {
    if constexpr (kBits == 8) {
      word[w] = bytes[w];
    } else {  // bytes 0 4 1 5 and 2 6 3 7: two nibbles of each half
      word[w] = __byte_perm(bytes[2 * w], bytes[2 * w + 1], 0x5140) |
                __byte_perm(bytes[2 * w], bytes[2 * w + 1], 0x7362) << 4;
    }
  }
  const int words = (left + 7) / 8 * (kBits / 4);
  if (words >= kWords && reinterpret_cast<std::uintptr_t>(to) % 8 == 0) {
#pragma unroll
    for (int w = 0; w < kWords; w += 2) reinterpret_cast<uint2*>(to)[w / 2] = make_uint2(word[w], word[w + 1]);
    return;
  }
#pragma unroll
  for (int w = 0; w < kWords; ++w) {
    if (w < words) reinterpret_cast<std::uint32_t*>(to)[w] = word[w];
  }
}

template <typename T, bool kWhole>
__device__ inline void load_elements(Elements<kWhole>& elements, const T* from, bool vectors) {
  if (kWhole && vectors) {
    constexpr int kVector = kVectorElements<T>;
#pragma unroll
    for (int v = 0; v < kLaneElements / kVector; ++v) {
      float part[kVector];
      unpack<T>(elements.left > 0 ? reinterpret_cast<const uint4*>(from)[v] : make_uint4(0, 0, 0, 0), part);
#pragma unroll
      for (int i = 0; i < kVector; ++i) elements.value[v * kVector + i] = part[i];
    }
    return;
  }
#pragma unroll
  for (int e = 0; e < kLaneElements; ++e) elements.value[e] = e < elements.left ? to_float(from[e]) : 0.0F;
}

/// kLanes: of a group.
template <typename T, int kBits, int kLanes, bool kWhole>
__global__ void __launch_bounds__(kThreads) append_compressed_kernel(const CompressedAppendParams p) {
  start_dependents_after_predecessor();
  const int token = blockIdx.x;
  const TokenPlace place = place_of_token(p, token);
  const int num_lanes = 2 * p.num_heads * p.vector_lanes;
  const int lane = threadIdx.x % p.vector_lanes;
  const int first = lane * kLaneElements;  // dimension
  // whole warps: the lanes of the last one that have no work must take part in its shuffles
  for (int i = threadIdx.x; i < (num_lanes + 31) / 32 * 32; i += blockDim.x) {
    const int vector = min(i, num_lanes - 1) / p.vector_lanes;
    const CachePart part = vector >= p.num_heads ? CachePart::values : CachePart::keys;
    const int h = part == CachePart::values ? vector - p.num_heads : vector;
    const std::byte* from = part == CachePart::values ? p.v + token * p.v_stride_bytes : p.k + token * p.k_stride_bytes;
    Elements<kWhole> elements;
    elements.left = i < num_lanes ? p.head_dim - first : 0;
    load_elements<T>(elements, reinterpret_cast<const T*>(from) + static_cast<std::int64_t>(h) * p.head_dim + first,
                     p.vectors);
    std::uint32_t codes[kLaneElements / 4];
    const std::uint32_t line = encode<kBits, kLanes, kWhole, !std::is_same_v<T, __half>>(elements, codes);
    if (elements.left <= 0) continue;
    const CacheSpan span = place.span(h);
    store_codes<kBits>(span.at(part, place.position, 1) + first * kBits / 8, codes, elements.left);
    if (lane % kLanes == 0) {
      std::byte* parameters = span.parameters(part, place.position);
      reinterpret_cast<std::uint32_t*>(parameters)[lane / kLanes] = line;
    }
  }
}

using Kernel = void (*)(CompressedAppendParams);

template <typename T, int kBits, bool kWhole>
Kernel kernel_of(int group_lanes) {
  if (group_lanes == 2) return append_compressed_kernel<T, kBits, 2, kWhole>;
  if (group_lanes == 4) return append_compressed_kernel<T, kBits, 4, kWhole>;
  return append_compressed_kernel<T, kBits, 8, kWhole>;
}

template <typename T>
Kernel kernel_of(int bits, int group_lanes, bool whole) {
  if (bits == 4) return whole ? kernel_of<T, 4, true>(group_lanes) : kernel_of<T, 4, false>(group_lanes);
  return whole ? kernel_of<T, 8, true>(group_lanes) : kernel_of<T, 8, false>(group_lanes);
}

}  // namespace

void append_compressed_kv(const OpContext& context, const BatchView& batch, const MatrixView& k, const MatrixView& v,
                          const KvView& cache) {
  FLEXGEN_CHECK(cache.head_dim <= 32 * kLaneElements, "append_kv: head_dim is beyond what the GPU compresses");
  CompressedAppendParams p{append_params(batch, k, v, cache)};
  p.head_dim = cache.head_dim;
  const int group_lanes = (1 << group_shift_of(cache.quant)) / kLaneElements;
  p.vector_lanes = group_lanes;
  while (p.vector_lanes * kLaneElements < p.head_dim) p.vector_lanes *= 2;
  const bool whole = cache.head_dim % kLaneElements == 0;
  p.vectors = whole && rows_aligned(k) && rows_aligned(v);
  const unsigned blocks = grid_extent(batch.num_tokens);
  const int threads = std::clamp((2 * p.num_heads * p.vector_lanes + 31) / 32 * 32, 32, kThreads);
  with_element_type(k.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    const Kernel kernel = kernel_of<T>(cache.quant.bits, group_lanes, whole);
    launch_dependent(context, kernel, blocks, threads, p, "launch of append_compressed_kernel");
  });
}

}  // namespace flexgen
