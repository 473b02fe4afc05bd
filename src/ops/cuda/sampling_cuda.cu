// Greedy choice on the GPU: one block per row of logits.
#include <climits>

#include "ops/cuda/cuda_elements.cuh"
#include "ops/cuda/cuda_kernels.hpp"
#include "ops/cuda/cuda_launch.cuh"

namespace flexgen {
namespace {

constexpr int kThreads = 1024;

/// Largest logit so far and where it stands; a NaN, once seen, stays (index -1).
struct Best {
  float logit = -INFINITY;
  int index = INT_MAX;

  __device__ void take(float other_logit, int other_index) {
    if (index == -1) return;
    if (other_index == -1 || other_logit != other_logit) {
      index = -1;
    } else if (other_logit > logit || (other_logit == logit && other_index < index)) {
      logit = other_logit;
      index = other_index;
    }
  }

  __device__ void take_lanes() {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      const float other_logit = __shfl_xor_sync(0xffffffffU, logit, offset);
      const int other_index = __shfl_xor_sync(0xffffffffU, index, offset);
      take(other_logit, other_index);
    }
  }
};

/// logits [rows, vocab] float32 -> token [rows]. kVector: rows start on 16-byte boundaries.
template <bool kVector>
__global__ void __launch_bounds__(kThreads)
    argmax_kernel(const float* logits, std::int64_t row_stride, int vocab, std::int32_t* token) {
  __shared__ float shared_logit[32];
  __shared__ int shared_index[32];
  const float* row = logits + blockIdx.x * row_stride;
  Best best;
  const int vectored = kVector ? vocab / 4 : 0;
  for (int i = threadIdx.x; i < vectored; i += kThreads) {
    const float4 four = reinterpret_cast<const float4*>(row)[i];
    best.take(four.x, 4 * i);
    best.take(four.y, 4 * i + 1);
    best.take(four.z, 4 * i + 2);
    best.take(four.w, 4 * i + 3);
  }
  for (int i = vectored * 4 + static_cast<int>(threadIdx.x); i < vocab; i += kThreads) best.take(row[i], i);

  best.take_lanes();
  if (threadIdx.x % 32 == 0) {
    shared_logit[threadIdx.x / 32] = best.logit;
    shared_index[threadIdx.x / 32] = best.index;
  }
  __syncthreads();
  if (threadIdx.x >= 32) return;
  best.logit = shared_logit[threadIdx.x];
  best.index = shared_index[threadIdx.x];
  best.take_lanes();
  if (threadIdx.x == 0) token[blockIdx.x] = best.logit == INFINITY ? -1 : best.index;
}

/// logits [rows, vocab] float32 -> score [rows]. One block per row, which is read twice.
__global__ void __launch_bounds__(kThreads)
    log_probability_kernel(const float* logits, std::int64_t row_stride, int vocab, const std::int32_t* target,
                           float* score) {
  __shared__ float scratch[32];
  const float* row = logits + blockIdx.x * row_stride;
  const int wanted = target[blockIdx.x];
  if (wanted < 0) {
    if (threadIdx.x == 0) score[blockIdx.x] = 0.0F;
    return;
  }
  float largest = -INFINITY;
  for (int i = threadIdx.x; i < vocab; i += kThreads) largest = fmaxf(largest, row[i]);
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffU, largest, offset));
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = largest;
  __syncthreads();
  largest = scratch[0];
  for (int w = 1; w < kThreads / 32; ++w) largest = fmaxf(largest, scratch[w]);
  __syncthreads();
  float sum = 0.0F;
  for (int i = threadIdx.x; i < vocab; i += kThreads) sum += expf(row[i] - largest);
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) score[blockIdx.x] = row[wanted] - largest - logf(sum);
}

}  // namespace

void log_probabilities_cuda(const OpContext& context, const MatrixView& logits, const std::int32_t* target,
                            float* score) {
  if (logits.rows == 0) return;
  log_probability_kernel<<<grid_extent(logits.rows), kThreads, 0, stream_of(context)>>>(
      reinterpret_cast<const float*>(logits.data), logits.row_stride, static_cast<int>(logits.cols), target, score);
  check_launch("launch of log_probability_kernel");
}

void argmax_rows_cuda(const OpContext& context, const MatrixView& logits, std::int32_t* token) {
  FLEXGEN_CHECK(logits.dtype == DType::float32, "argmax_rows: logits are float32");
  FLEXGEN_CHECK(logits.cols > 0 && logits.cols < (1 << 30), "argmax_rows: vocabulary size out of range");
  if (logits.rows == 0) return;
  const auto* data = reinterpret_cast<const float*>(logits.data);
  const int vocab = static_cast<int>(logits.cols);
  const unsigned blocks = grid_extent(logits.rows);
  if (aligned_to(data, 16) && (logits.rows == 1 || logits.row_stride % 4 == 0)) {
    argmax_kernel<true><<<blocks, kThreads, 0, stream_of(context)>>>(data, logits.row_stride, vocab, token);
  } else {
    argmax_kernel<false><<<blocks, kThreads, 0, stream_of(context)>>>(data, logits.row_stride, vocab, token);
  }
  check_launch("launch of argmax_kernel");
}

}  // namespace flexgen
