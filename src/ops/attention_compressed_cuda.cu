// Launch of the decode kernel for compressed caches.
#include <array>
#include <limits>

#include "ops/attention_compressed.hpp"
#include "ops/attention_compressed_decode.cuh"
#include "ops/cuda_launch.cuh"

namespace flexgen {
namespace {

constexpr int kMaxDims = 128;

template <int kBits, int kDims>
void launch(const OpContext& context, const StoredDecodeParams& p) {
  constexpr int kSharedBytes = StoredRing<kBits, kDims>::kBlockBytes;
  auto* kernel = stored_decode_kernel<kBits, kDims>;
  static std::array<bool, 64> allowed{};  // per device; a race does it twice
  bool& known = allowed[static_cast<std::size_t>(context.device.index) % allowed.size()];
  if (!known) {
    FLEXGEN_CUDA_CALL(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes));
    FLEXGEN_CUDA_CALL(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, 100));
  }
  known = true;
  const unsigned pairs = grid_extent(static_cast<std::int64_t>(p.decode.num_rows) * p.decode.num_heads);
  launch_dependent(context, kernel, dim3(pairs, p.decode.max_splits), kStoredWarps * 32, p,
                   "launch of stored_decode_kernel", kSharedBytes);
}

template <int kBits>
void launch(const OpContext& context, const StoredDecodeParams& p) {
  if (p.decode.head_dim <= 64) launch<kBits, 64>(context, p);
  else launch<kBits, kMaxDims>(context, p);
}

int ring_bytes(int bits, int head_dim) {
  if (bits == 4) return head_dim <= 64 ? StoredRing<4, 64>::kBlockBytes : StoredRing<4, kMaxDims>::kBlockBytes;
  return head_dim <= 64 ? StoredRing<8, 64>::kBlockBytes : StoredRing<8, kMaxDims>::kBlockBytes;
}

}  // namespace

bool compressed_decode_takes(const OpContext& context, const BatchView& batch, const KvView& cache) {
  if (cache.head_dim % 16 != 0 || cache.head_dim > kMaxDims || !has_asynchronous_copies(context.device)) return false;
  constexpr int kStaticBytes = kStoredWarps * (kMaxDims + 2) * 4;
  if (max_shared_bytes(context.device) < ring_bytes(cache.quant.bits, cache.head_dim) + kStaticBytes) return false;
  std::uintptr_t bits = 0;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(batch.num_rows) * cache.num_heads; ++i) {
    const KvHead& head = cache.host_heads[i];
    bits |= reinterpret_cast<std::uintptr_t>(head.base) | static_cast<std::uint32_t>(head.position_stride) |
            static_cast<std::uint32_t>(head.v_offset);
  }
  return bits % 8 == 0;
}

void attend_compressed_tokens(const OpContext& context, const DecodeParams& decode, DType dtype, const KvView& cache) {
  StoredDecodeParams p{};
  p.decode = decode;
  p.num_groups = static_cast<int>(cache.quant.num_groups(cache.head_dim));
  p.columns = 1;
  while (p.columns < p.num_groups) p.columns *= 2;
  FLEXGEN_CHECK(p.columns <= kMostColumns, "attention: too many groups in a head");
  p.bfloat16 = dtype == DType::bfloat16;
  if (cache.quant.bits == 4) launch<4>(context, p);
  else launch<8>(context, p);
}

}  // namespace flexgen
