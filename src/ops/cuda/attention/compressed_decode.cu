// Launch of the decode kernel for compressed caches.
#include <algorithm>

#include "ops/cuda/attention/compressed.hpp"
#include "ops/cuda/attention/compressed_decode.cuh"
#include "ops/cuda/cuda_launch.cuh"

namespace flexgen {
namespace {

constexpr int kMaxDims = 128;

constexpr int kStaticBytes = kStoredWarps * 8 + 16;  // of the kernel's shared memory
constexpr int kReservedBytes = 1024;                 // of every block's, by the driver

int multiprocessor_shared_bytes(const Device& device) {
  static int bytes[64] = {};
  return known_attribute(device, cudaDevAttrMaxSharedMemoryPerMultiprocessor, bytes);
}

/// The smallest pitch from `bytes` on that is `step` past a multiple of 2 * step.
int pitch_of(int bytes, int step) { return (bytes + step - 1) / (2 * step) * 2 * step + step; }

/// All that follows from the cache's format.
StoredDecodeParams shape_of(const KvView& cache) {
  StoredDecodeParams p{};
  p.num_groups = static_cast<int>(cache.quant.num_groups(cache.head_dim));
  p.columns = 1;
  while (p.columns < p.num_groups) p.columns *= 2;
  p.code_bytes = static_cast<int>(cache.quant.code_bytes(cache.head_dim));
  const int row_bytes = kStoredHeads * (p.code_bytes + 4 * p.num_groups);
  p.key_pitch = pitch_of(row_bytes, 32);
  p.value_pitch = pitch_of(row_bytes, 16);
  return p;
}

/// As many stages as leave room for `blocks` blocks on a multiprocessor, or for fewer blocks if that is too little to
/// hide a fetch; below 2: the ring does not fit.
int stages_of(const Device& device, const StoredDecodeParams& p, int blocks) {
  const int most = max_shared_bytes(device) - kStaticBytes;
  int stages = 0;
  for (; blocks >= 1 && stages < 3; --blocks) {
    const int room = std::min(most, multiprocessor_shared_bytes(device) / blocks - kReservedBytes - kStaticBytes);
    stages = std::min(kMostStages, room / stored_stage_bytes(p));
  }
  return stages;
}

template <int kBits, int kDims, SpanUse kUse>
void launch(const OpContext& context, StoredDecodeParams p) {
  auto* kernel = stored_decode_kernel<kBits, kDims, kUse>;
  static OncePerDevice allow;
  allow(context.device, [&] {
    FLEXGEN_CUDA_CALL(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           max_shared_bytes(context.device) - kStaticBytes));
    FLEXGEN_CUDA_CALL(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, 100));
  });
  p.stages = stages_of(context.device, p, kStoredBlocks<kBits, kDims>);
  const std::int64_t groups = (p.decode.num_heads + kStoredHeads - 1) / kStoredHeads;
  launch_dependent(context, kernel, dim3(grid_extent(p.decode.num_rows * groups), p.decode.max_splits),
                   kStoredWarps * 32, p, "launch of stored_decode_kernel",
                   static_cast<std::size_t>(p.stages) * stored_stage_bytes(p));
}

template <int kBits, SpanUse kUse>
void launch(const OpContext& context, const StoredDecodeParams& p) {
  if (p.decode.head_dim <= 64) launch<kBits, 64, kUse>(context, p);
  else launch<kBits, kMaxDims, kUse>(context, p);
}

template <SpanUse kUse>
void launch(const OpContext& context, const StoredDecodeParams& p) {
  if (p.decode.bits == 4) launch<4, kUse>(context, p);
  else launch<8, kUse>(context, p);
}

}  // namespace

bool compressed_decode_takes(const OpContext& context, const BatchView& batch, const KvView& cache) {
  if (cache.head_dim % 16 != 0 || cache.head_dim > kMaxDims) return false;
  if (stages_of(context.device, shape_of(cache), 1) < 2) return false;
  return cache_aligned(cache, batch.num_rows, 1, 8);
}

void attend_compressed_tokens(const OpContext& context, const DecodeParams& decode, DType dtype, const KvView& cache) {
  StoredDecodeParams p = shape_of(cache);
  p.decode = decode;
  FLEXGEN_CHECK(p.columns <= kMostColumns, "attention: too many groups in a head");
  p.bfloat16 = dtype == DType::bfloat16;
  if (decode.parts.most > 0) launch<SpanUse::merged>(context, p);
  else launch<SpanUse::none>(context, p);
}

}  // namespace flexgen
