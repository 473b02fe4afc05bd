// What the kernels of sampling share: what one block finds out about a row of logits. All threads of the block call
// these, and all get the answer.
#pragma once

#include <climits>
#include <cstdint>

#include "ops/cuda/cuda_elements.cuh"

namespace flexgen {

inline constexpr int kSamplingThreads = 1024;

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

  __device__ bool is_number() const { return index >= 0 && logit != INFINITY; }
};

/// The best of all threads' bests.
__device__ inline Best block_best(Best best) {
  __shared__ float shared_logit[32];
  __shared__ int shared_index[32];
  best.take_lanes();
  if (threadIdx.x % 32 == 0) {
    shared_logit[threadIdx.x / 32] = best.logit;
    shared_index[threadIdx.x / 32] = best.index;
  }
  __syncthreads();
  best.logit = shared_logit[threadIdx.x % 32];
  best.index = shared_index[threadIdx.x % 32];
  best.take_lanes();
  __syncthreads();
  return best;
}

/// A row's log-probabilities: a logit less both numbers.
struct LogSoftmax {
  float largest;
  float log_weight;

  __device__ float operator()(float logit) const { return logit - largest - log_weight; }
};

/// Of a row [vocab], which is read twice. scratch: shared memory for 32 floats.
__device__ inline LogSoftmax block_log_softmax(const float* row, int vocab, float* scratch) {
  float largest = -INFINITY;
  for (int i = threadIdx.x; i < vocab; i += kSamplingThreads) largest = fmaxf(largest, row[i]);
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffU, largest, offset));
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = largest;
  __syncthreads();
  largest = scratch[0];
  for (int w = 1; w < kSamplingThreads / 32; ++w) largest = fmaxf(largest, scratch[w]);
  __syncthreads();
  float sum = 0.0F;
  for (int i = threadIdx.x; i < vocab; i += kSamplingThreads) sum += expf(row[i] - largest);
  return {largest, logf(block_sum(sum, scratch))};
}

}  // namespace flexgen
