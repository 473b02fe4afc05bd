// Greedy choice and scores on the GPU: one block per row of logits.
#include "ops/cuda/cuda_kernels.hpp"
#include "ops/cuda/cuda_launch.cuh"
#include "ops/cuda/sampling_block.cuh"

namespace flexgen {
namespace {

constexpr int kThreads = kSamplingThreads;

/// logits [rows, vocab] float32 -> token [rows]. kVector: rows start on 16-byte boundaries.
template <bool kVector>
__global__ void __launch_bounds__(kThreads)
    argmax_kernel(const float* logits, std::int64_t row_stride, int vocab, std::int32_t* token) {
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

  best = block_best(best);
  if (threadIdx.x == 0) token[blockIdx.x] = best.is_number() ? best.index : -1;
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
  const LogSoftmax log_probability = block_log_softmax(row, vocab, scratch);
  if (threadIdx.x == 0) score[blockIdx.x] = log_probability(row[wanted]);
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
