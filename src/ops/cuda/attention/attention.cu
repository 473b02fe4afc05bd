// Choice and launch of the attention kernels.
#include <algorithm>
#include <string>

#include "ops/attention_workspace.hpp"
#include "ops/cuda/attention/compressed.hpp"
#include "ops/cuda/attention/decode.cuh"
#include "ops/cuda/attention/general.cuh"
#include "ops/cuda/attention/prefill.cuh"
#include "ops/cuda/attention/span_decode.hpp"
#include "ops/cuda/attention/sparse.hpp"
#include "ops/cuda/cuda_kernels.hpp"
#include "ops/cuda/cuda_launch.cuh"

namespace flexgen {
namespace {

/// What the rows of a batch ask for.
struct BatchKinds {
  bool any_decode = false;
  bool any_prefill = false;
  int longest_decode = 0;  // positions that a row of one token attends
};

BatchKinds kinds_of(const BatchView& batch) {
  BatchKinds kinds;
  for (std::int32_t r = 0; r < batch.num_rows; ++r) {
    const RowTokens tokens = row_tokens_on_host(batch, r);
    kinds.any_prefill = kinds.any_prefill || tokens.is_prefill();
    if (!tokens.is_decode()) continue;
    kinds.any_decode = true;
    kinds.longest_decode = std::max(kinds.longest_decode, visible_range(tokens.start).length());
  }
  return kinds;
}

/// Lanes that share one position in the decode kernel; 0 when 16-byte loads do not fit.
int lanes_per_position(const AttentionArgs& args) {
  const std::uint64_t size = element_bytes(args.q.dtype);
  const int head_bytes = static_cast<int>(args.cache.head_dim * size);
  if (head_bytes % 16 != 0 || head_bytes > 32 * 16) return 0;
  if (!rows_aligned(args.q) || !rows_aligned(args.out)) return 0;
  if (!cache_aligned(args.cache, args.batch.num_rows, size)) return 0;
  return head_bytes <= 8 * 16 ? 8 : head_bytes <= 16 * 16 ? 16 : 32;
}

bool tensor_cores_take(const OpContext& context, const AttentionArgs& args) {
  if (args.cache.head_dim > 128 || args.cache.head_dim % 8 != 0) return false;
  if (args.q.dtype == DType::float16) return true;
  return args.q.dtype == DType::bfloat16 && known_capability(context.device) >= 80;
}

DecodeParams decode_params(const AttentionArgs& args) {
  DecodeParams p{query_params(args)};
  p.num_rows = args.batch.num_rows;
  p.max_splits = 1;
  if (!args.cache.quant.is_none()) {
    p.bits = args.cache.quant.bits;
    p.group_shift = group_shift_of(args.cache.quant);
  }
  return p;
}

template <typename T, SpanUse kUse>
void launch_decode_kernel(const OpContext& context, const DecodeParams& p, int lanes, dim3 grid) {
  constexpr int kThreads = kDecodeWarps * 32;
  const char* name = "launch of decode_kernel";
  if (lanes == 8) {
    launch_dependent(context, decode_kernel<T, 8, kUse>, grid, kThreads, p, name);
  } else if (lanes == 16) {
    launch_dependent(context, decode_kernel<T, 16, kUse>, grid, kThreads, p, name);
  } else {
    launch_dependent(context, decode_kernel<T, 32, kUse>, grid, kThreads, p, name);
  }
}

/// Rows of count 1, long ones split over the key axis. p: all but what splits need.
template <typename T, SpanUse kUse>
void attend_single_tokens(const OpContext& context, DecodeParams p, const AttentionArgs& args, int lanes, int longest) {
  p.max_splits = num_splits(longest);
  Workspace::Scope scope(*context.workspace);
  if (p.max_splits > 1) {
    p.partial_sum = reinterpret_cast<float*>(context.workspace->take(
        partial_sum_bytes(p.num_rows, p.num_heads, p.head_dim, p.max_splits), "attention: sums of key splits"));
    p.partial_state = reinterpret_cast<SoftmaxState*>(context.workspace->take(
        partial_state_bytes(p.num_rows, p.num_heads, p.max_splits), "attention: states of key splits"));
  }
  const unsigned pairs = grid_extent(static_cast<std::int64_t>(p.num_rows) * p.num_heads);
  if (args.cache.quant.is_none()) {
    launch_decode_kernel<T, kUse>(context, p, lanes, dim3(pairs, p.max_splits));
  } else {
    attend_compressed_tokens(context, p, args.q.dtype, args.cache);
  }
  if (p.max_splits > 1) {
    const int threads = std::min(256, (p.head_dim + 31) / 32 * 32);
    launch_dependent(context, combine_splits_kernel<T, kUse>, pairs, threads, p, "launch of combine_splits_kernel");
  }
}

/// What rows of one token have of what is shared, and for themselves.
struct SharedKinds {
  std::int64_t most_parts = 0;  // of a row's spans
  std::int64_t longest_shared = 0;
  int longest_own = 0;
};

SharedKinds shared_kinds_of(const BatchView& batch, const SharedSpans& shared) {
  SharedKinds kinds;
  if (shared.num_spans == 0) return kinds;
  for (std::int32_t r = 0; r < batch.num_rows; ++r) {
    const RowTokens tokens = row_tokens_on_host(batch, r);
    if (!tokens.is_decode()) continue;
    const RowSpans& rows = shared.host_row_spans;
    std::int64_t parts = 0;
    for (std::int32_t i = rows.first[r]; i < rows.first[r + 1]; ++i)
      parts += pieces_of(shared.host_spans[rows.index[i]].length).count;
    const std::int32_t own_begin = shared.host_own_begin[r];
    kinds.most_parts = std::max(kinds.most_parts, parts);
    kinds.longest_shared = std::max<std::int64_t>(kinds.longest_shared, own_begin);
    kinds.longest_own = std::max(kinds.longest_own, visible_range(tokens.start - own_begin).length());
  }
  return kinds;
}

/// Rows of count 1, spans once for all of their rows; as many rows at a time as have room for their parts.
template <typename T>
void attend_merged_spans(const OpContext& context, const AttentionArgs& args, int lanes, const SharedKinds& kinds) {
  DecodeParams all = decode_params(args);
  const SharedSpans& shared = args.cache.shared;
  const auto each = static_cast<std::int32_t>(
      std::min<std::int64_t>(part_room(all.num_rows, kinds.longest_shared) / kinds.most_parts, all.num_rows));
  const Workspace::Scope scope(*context.workspace);
  all.parts.most = static_cast<int>(kinds.most_parts);
  all.parts.sum = reinterpret_cast<float*>(context.workspace->take(
      partial_sum_bytes(each, all.num_heads, all.head_dim, all.parts.most), "attention: sums of spans"));
  all.parts.state = reinterpret_cast<SoftmaxState*>(
      context.workspace->take(partial_state_bytes(each, all.num_heads, all.parts.most), "attention: states of spans"));
  for (std::int32_t first = 0; first < all.num_rows; first += each) {
    DecodeParams p = all;
    p.num_rows = std::min(each, all.num_rows - first);
    p.token_offset += first;
    p.heads = heads_of_row(all.heads, all.num_heads, first);
    p.shared = all.shared.from_row(first);
    p.start = p.shared.own_start;
    attend_spans(context, p, args.q.dtype, shared, {first, p.num_rows});
    attend_single_tokens<T, SpanUse::merged>(context, p, args, lanes, kinds.longest_own);
  }
}

/// Rows of count 1 where the tensor cores take a span's rows, if there are spans.
template <typename T>
void attend_single_tokens(const OpContext& context, const AttentionArgs& args, int lanes, int longest) {
  const SharedKinds shared = shared_kinds_of(args.batch, args.cache.shared);
  if (shared.most_parts > 0) attend_merged_spans<T>(context, args, lanes, shared);
  else attend_single_tokens<T, SpanUse::none>(context, decode_params(args), args, lanes, longest);
}

/// Rows of count > 1, one block per (token, head).
template <typename T, SpanUse kUse>
void attend_each_token(const OpContext& context, const AttentionArgs& args, int lanes) {
  DecodeParams p = decode_params(args);
  p.per_token = true;
  const unsigned blocks = grid_extent(static_cast<std::int64_t>(args.batch.num_tokens) * p.num_heads);
  launch_decode_kernel<T, kUse>(context, p, lanes, dim3(blocks));
}

template <typename T>
void attend_by_general_kernel(const OpContext& context, const AttentionArgs& args) {
  FLEXGEN_CHECK(args.cache.head_dim <= kGeneralMaxHeadDim, "attention: head_dim is beyond what the GPU kernels take");
  const DecodeParams p = decode_params(args);
  const unsigned blocks = grid_extent(static_cast<std::int64_t>(args.batch.num_tokens) * p.num_heads);
  auto* kernel = args.cache.shared.num_spans > 0
                     ? (p.bits == 0 ? general_kernel<T, false, true> : general_kernel<T, true, true>)
                     : (p.bits == 0 ? general_kernel<T, false, false> : general_kernel<T, true, false>);
  kernel<<<blocks, kGeneralWarps * 32, general_shared_bytes(p.head_dim), stream_of(context)>>>(p);
  check_launch("launch of general_kernel");
}

/// Rows of count > 1 on tensor cores.
template <typename T, bool kSpans>
void launch_prefill_kernel(const OpContext& context, const PrefillParams& p, dim3 grid) {
  const int steps = (p.head_dim + 15) / 16;
  auto* kernel = steps <= 4   ? prefill_kernel<T, 4, kSpans>
                 : steps <= 6 ? prefill_kernel<T, 6, kSpans>
                              : prefill_kernel<T, 8, kSpans>;
  kernel<<<grid, kPrefillThreads, 0, stream_of(context)>>>(p);
  check_launch("launch of prefill_kernel");
}

template <typename T>
void attend_tiles(const OpContext& context, const AttentionArgs& args) {
  const PrefillParams p{query_params(args), (args.batch.max_count + kQueryTile - 1) / kQueryTile};
  FLEXGEN_CHECK(p.num_heads <= 65535 && args.batch.num_rows <= 65535, "attention: too many rows or heads in one call");
  const dim3 grid(p.num_query_tiles, p.num_heads, args.batch.num_rows);
  if (args.cache.shared.num_spans > 0) launch_prefill_kernel<T, true>(context, p, grid);
  else launch_prefill_kernel<T, false>(context, p, grid);
}

/// Rows of count > 1 of a compressed cache: a few rows at a time are dequantized into the workspace, so that what is
/// attended is what is stored, and go on as rows of a plain cache that share nothing.
template <typename T>
void attend_dequantized_tiles(const OpContext& context, const AttentionArgs& args) {
  const BatchView& batch = args.batch;
  std::int32_t longest = 0;  // of all of them: the bound of the workspace holds for slots of this length
  for (std::int32_t r = 0; r < batch.num_rows; ++r) {
    const RowTokens tokens = row_tokens_on_host(batch, r);
    if (tokens.is_prefill()) longest = std::max(longest, tokens.num_positions());
  }
  const DequantizedRows each =
      dequantized_rows_of(batch.num_rows, longest, args.cache.num_heads, args.cache.head_dim, args.q.dtype);
  const Workspace::Scope scope(*context.workspace);
  std::byte* plain = context.workspace->take(each.cache_bytes, "attention: a dequantized cache");
  auto* heads = reinterpret_cast<KvHead*>(context.workspace->take(each.table_bytes, "attention: its heads"));
  for (std::int32_t first = 0; first < batch.num_rows;) {
    AttentionArgs part = args;
    part.batch.max_count = 0;
    std::int32_t r = first;
    for (; r < batch.num_rows && r - first < each.rows; ++r)
      part.batch.max_count = std::max(part.batch.max_count, row_tokens_on_host(batch, r).count);
    part.batch.num_rows = r - first;
    part.batch.token_offset += first;
    part.batch.start += first;
    KvView stored = args.cache;
    stored.heads = heads_of_row(stored.heads, stored.num_heads, first);
    if (stored.shared.num_spans > 0) {
      stored.shared.row_spans.first += first;
      stored.shared.own_start += first;
    }
    part.cache = {heads, nullptr, stored.num_heads, stored.head_dim};
    if (part.batch.max_count > 1) {
      dequantize_cache(context, part.batch, stored, args.q.dtype, longest, heads, plain);
      attend_tiles<T>(context, part);
    }
    first = r;
  }
}

template <typename T>
void attend_compressed(const OpContext& context, const AttentionArgs& args, const BatchKinds& kinds,
                       AttentionKernel kernel) {
  if constexpr (sizeof(T) == 2) {
    if (kernel == AttentionKernel::automatic && rows_aligned(args.q) && rows_aligned(args.out) &&
        tensor_cores_take(context, args) && compressed_decode_takes(context, args.batch, args.cache)) {
      if (kinds.any_decode) attend_single_tokens<T>(context, args, 0, kinds.longest_decode);
      if (kinds.any_prefill) attend_dequantized_tiles<T>(context, args);
      return;
    }
  }
  attend_by_general_kernel<T>(context, args);
}

void check_args(const AttentionArgs& args) {
  const std::int64_t cols = static_cast<std::int64_t>(args.cache.num_heads) * args.cache.head_dim;
  FLEXGEN_CHECK(args.q.dtype == args.out.dtype, "attention: q and out differ in dtype");
  FLEXGEN_CHECK(args.q.rows == args.batch.num_tokens && args.out.rows == args.batch.num_tokens,
                "attention: q and out hold one row per token");
  FLEXGEN_CHECK(args.q.cols == cols && args.out.cols == cols, "attention: q and out are heads * head_dim wide");
}

/// Rows of a plain cache by the kernels that move 16 bytes at a time.
template <typename T>
void attend_plain(const OpContext& context, const AttentionArgs& args, int lanes, const BatchKinds& kinds,
                  bool tensor_cores) {
  const bool walks = args.cache.shared.num_spans > 0;
  if constexpr (sizeof(T) == 2) {
    if (tensor_cores) {
      if (kinds.any_decode) attend_single_tokens<T>(context, args, lanes, kinds.longest_decode);
      if (kinds.any_prefill) attend_tiles<T>(context, args);
      return;
    }
  }
  if (kinds.any_decode) {
    const DecodeParams p = decode_params(args);
    if (walks) attend_single_tokens<T, SpanUse::walked>(context, p, args, lanes, kinds.longest_decode);
    else attend_single_tokens<T, SpanUse::none>(context, p, args, lanes, kinds.longest_decode);
  }
  if (!kinds.any_prefill) return;
  if (walks) attend_each_token<T, SpanUse::walked>(context, args, lanes);
  else attend_each_token<T, SpanUse::none>(context, args, lanes);
}

}  // namespace

void attention_cuda_with(const OpContext& context, const AttentionArgs& args, AttentionKernel kernel) {
  check_args(args);
  if (args.batch.num_tokens == 0 || args.cache.num_heads == 0) return;
  const bool compressed = !args.cache.quant.is_none();
  const int lanes = compressed || kernel == AttentionKernel::general ? 0 : lanes_per_position(args);
  BatchKinds kinds = kinds_of(args.batch);
  const bool sparse = kinds.any_decode && args.sparsity < 1.0F;
  if (sparse) kinds.any_decode = false;  // done last: the general kernel takes all rows
  with_element_type(args.q.dtype, [&](auto* element) {
    using T = std::remove_pointer_t<decltype(element)>;
    if (compressed) {
      attend_compressed<T>(context, args, kinds, kernel);
      return;
    }
    if (lanes == 0) {
      attend_by_general_kernel<T>(context, args);
      return;
    }
    attend_plain<T>(context, args, lanes, kinds,
                    kernel == AttentionKernel::automatic && tensor_cores_take(context, args));
  });
  if (sparse) attend_sparsely(context, decode_params(args), args.q.dtype, args.sparsity, kinds.longest_decode);
}

void attention_cuda(const OpContext& context, const AttentionArgs& args) {
  attention_cuda_with(context, args, AttentionKernel::automatic);
}

}  // namespace flexgen
