// The end of a product whose inputs a block's warps share out: each has sums of all the block's outputs.
#pragma once

#include "ops/cuda/linear/epilogue.cuh"

namespace flexgen {

inline constexpr int kTokensPerTile = 8;  // of a matrix instruction's result

/// Adds up what the lanes of kWarps warps have summed and finishes it. The block computes 16 * kFragments outputs of
/// all tokens, at most kTiles tiles of them.
/// @param p        a kernel's parameters: outputs, tokens and an Epilogue
/// @param sum      fragments of 16 outputs by 8 tokens, as the matrix instruction leaves them
/// @param partial  shared memory, [kWarps * kTiles * kTokensPerTile, 16 * kFragments + 1], in use until now
template <int kWarps, class Params, int kFragments, int kTiles>
__device__ inline void finish_block_sums(const Params& p, const float (&sum)[kFragments][kTiles][4], float* partial) {
  constexpr int kOutputs = 16 * kFragments;
  constexpr int kPitch = kOutputs + 1;
  constexpr int kTokens = kTiles * kTokensPerTile;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  __syncthreads();  // what was in the memory is done with
#pragma unroll
  for (int m = 0; m < kFragments; ++m) {
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int token = j * kTokensPerTile + lane % 4 * 2 + i % 2;
        partial[(warp * kTokens + token) * kPitch + m * 16 + i / 2 * 8 + lane / 4] = sum[m][j][i];
      }
    }
  }
  __syncthreads();
  const int output = threadIdx.x % kOutputs;
  const int first = blockIdx.x * kOutputs;
  if (first + output >= p.outputs) return;
  for (int token = threadIdx.x / kOutputs; token < p.tokens; token += kWarps * 32 / kOutputs) {
    float total = 0.0F;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) total += partial[(w * kTokens + token) * kPitch + output];
    p.epilogue.finish(token, first + output, total);
  }
}

}  // namespace flexgen
