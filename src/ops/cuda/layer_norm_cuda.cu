// LayerNorm on the GPU: one block per token; mean, then variance around it, then the output, all in float32.
#include <algorithm>

#include "ops/cuda/cuda_dependency.cuh"
#include "ops/cuda/cuda_elements.cuh"
#include "ops/cuda/cuda_kernels.hpp"
#include "ops/cuda/cuda_launch.cuh"

namespace flexgen {
namespace {

struct LayerNormParams {
  const std::byte* x;      // [tokens, hidden]
  const std::byte* gamma;  // [hidden] or null
  const std::byte* beta;   // [hidden] or null
  std::byte* out;          // [tokens, hidden]
  std::int64_t x_stride;   // elements
  std::int64_t out_stride;
  int hidden;
  float epsilon;
};

constexpr int kHeldVectors = 4;  // 16-byte vectors of x that a thread keeps in registers
constexpr int kMaxThreads = 1024;

/// Rows on 16-byte boundaries, hidden at most kHeldVectors * blockDim.x vectors: x is read once.
template <typename T>
__global__ void __launch_bounds__(kMaxThreads) layer_norm_vector_kernel(const LayerNormParams p) {
  constexpr int kVector = kVectorElements<T>;
  __shared__ float scratch[32];
  start_dependents_after_predecessor();
  const int num_vectors = p.hidden / kVector;
  const auto* x = reinterpret_cast<const uint4*>(p.x + blockIdx.x * p.x_stride * sizeof(T));
  auto* out = reinterpret_cast<uint4*>(p.out + blockIdx.x * p.out_stride * sizeof(T));

  uint4 held[kHeldVectors];
  float sum = 0.0F;
#pragma unroll
  for (int h = 0; h < kHeldVectors; ++h) {
    const int at = h * blockDim.x + threadIdx.x;
    held[h] = at < num_vectors ? x[at] : make_uint4(0, 0, 0, 0);
    float element[kVector];
    unpack<T>(held[h], element);
#pragma unroll
    for (int i = 0; i < kVector; ++i) sum += element[i];
  }
  const float mean = block_sum(sum, scratch) / p.hidden;

  float squares = 0.0F;
#pragma unroll
  for (int h = 0; h < kHeldVectors; ++h) {
    if (h * blockDim.x + threadIdx.x >= num_vectors) continue;
    float element[kVector];
    unpack<T>(held[h], element);
#pragma unroll
    for (int i = 0; i < kVector; ++i) squares = fmaf(element[i] - mean, element[i] - mean, squares);
  }
  const float inverse = rsqrtf(block_sum(squares, scratch) / p.hidden + p.epsilon);

#pragma unroll
  for (int h = 0; h < kHeldVectors; ++h) {
    const int at = h * blockDim.x + threadIdx.x;
    if (at >= num_vectors) continue;
    float element[kVector];
    unpack<T>(held[h], element);
#pragma unroll
    for (int i = 0; i < kVector; ++i) element[i] = (element[i] - mean) * inverse;
    float factor[kVector];
    if (p.gamma != nullptr) {
      unpack<T>(__ldg(reinterpret_cast<const uint4*>(p.gamma) + at), factor);
#pragma unroll
      for (int i = 0; i < kVector; ++i) element[i] *= factor[i];
    }
    if (p.beta != nullptr) {
      unpack<T>(__ldg(reinterpret_cast<const uint4*>(p.beta) + at), factor);
#pragma unroll
      for (int i = 0; i < kVector; ++i) element[i] += factor[i];
    }
    out[at] = pack<T>(element);
  }
}

/// Any hidden size and alignment: x is read three times. A thread writes only elements that it alone reads, so out
/// may be x.
template <typename T>
__global__ void __launch_bounds__(kMaxThreads) layer_norm_plain_kernel(const LayerNormParams p) {
  __shared__ float scratch[32];
  start_dependents_after_predecessor();
  const T* x = reinterpret_cast<const T*>(p.x) + blockIdx.x * p.x_stride;
  T* out = reinterpret_cast<T*>(p.out) + blockIdx.x * p.out_stride;
  const T* gamma = reinterpret_cast<const T*>(p.gamma);
  const T* beta = reinterpret_cast<const T*>(p.beta);

  float sum = 0.0F;
  for (int i = threadIdx.x; i < p.hidden; i += blockDim.x) sum += to_float(x[i]);
  const float mean = block_sum(sum, scratch) / p.hidden;
  float squares = 0.0F;
  for (int i = threadIdx.x; i < p.hidden; i += blockDim.x) {
    const float deviation = to_float(x[i]) - mean;
    squares = fmaf(deviation, deviation, squares);
  }
  const float inverse = rsqrtf(block_sum(squares, scratch) / p.hidden + p.epsilon);
  for (int i = threadIdx.x; i < p.hidden; i += blockDim.x) {
    float y = (to_float(x[i]) - mean) * inverse;
    if (gamma != nullptr) y *= to_float(gamma[i]);
    if (beta != nullptr) y += to_float(beta[i]);
    out[i] = from_float<T>(y);
  }
}

void check_args(const LayerNormArgs& args) {
  FLEXGEN_CHECK(args.x.dtype == args.out.dtype && args.x.rows == args.out.rows && args.x.cols == args.out.cols,
                "layer_norm: x and out differ in shape or dtype");
  FLEXGEN_CHECK(args.x.cols > 0 && args.x.cols < (1 << 30), "layer_norm: hidden size out of range");
  for (const auto& vector : {args.gamma, args.beta}) {
    FLEXGEN_CHECK(!vector || (vector->cols == args.x.cols && vector->dtype == args.x.dtype),
                  "layer_norm: gamma or beta differs from x in width or dtype");
  }
}

}  // namespace

void layer_norm_cuda(const OpContext& context, const LayerNormArgs& args) {
  check_args(args);
  if (args.x.rows == 0) return;
  LayerNormParams p{};
  p.x = args.x.data;
  p.gamma = args.gamma ? args.gamma->data : nullptr;
  p.beta = args.beta ? args.beta->data : nullptr;
  p.out = args.out.data;
  p.x_stride = args.x.row_stride;
  p.out_stride = args.out.row_stride;
  p.hidden = static_cast<int>(args.x.cols);
  p.epsilon = args.epsilon;
  const unsigned blocks = grid_extent(args.x.rows);
  const std::int64_t num_vectors = args.x.cols * static_cast<std::int64_t>(element_bytes(args.x.dtype)) / 16;
  const bool vectors = rows_aligned(args.x) && rows_aligned(args.out) && aligned_to(p.gamma, 16) &&
                       aligned_to(p.beta, 16) && num_vectors <= kHeldVectors * kMaxThreads;
  with_element_type(args.x.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    if (vectors) {
      // Few rows: all of a row's loads at a time. Many: more rows at a time.
      const int held = blocks <= 128 ? static_cast<int>(num_vectors / kMaxThreads) + 1 : kHeldVectors;
      const auto per_held = static_cast<int>((num_vectors + held - 1) / held);
      const int threads = std::min(kMaxThreads, (per_held + 31) / 32 * 32);
      launch_dependent(context, layer_norm_vector_kernel<T>, blocks, threads, p, "launch of layer_norm");
    } else {
      const int threads = std::min(512, (p.hidden + 31) / 32 * 32);
      launch_dependent(context, layer_norm_plain_kernel<T>, blocks, threads, p, "launch of layer_norm");
    }
  });
}

}  // namespace flexgen
