// A task is a head of up to 64 rows that begin with the same span: it reads that span and then those that only some of
// these rows share.
#include "ops/host/shared_spans_host.hpp"

#include <algorithm>
#include <span>

#include "ops/cache_span.hpp"
#include "ops/host/query_block.hpp"
#include "ops/parallel_for.hpp"
#include "spec/block_limits.hpp"

namespace flexgen {
namespace {

static_assert(prefix_grain % kBlockKeys == 0, "blocks of a row would not be those of a row that shares nothing");

std::span<const SharedSpan> spans_of(const AttentionArgs& args) {
  return {args.cache.shared.host_spans, static_cast<std::size_t>(args.cache.shared.num_spans)};
}

/// Rows of one new token among those of a span, in order.
struct DecodeRows {
  std::int32_t row[kQueries];
  std::int32_t count = 0;

  /// Those of a span, as a range of `row`.
  std::pair<std::int32_t, std::int32_t> of(const SharedSpan& span) const {
    const auto* first = std::lower_bound(row, row + count, span.first_row);
    const auto* end = std::lower_bound(first, row + count, span.first_row + span.num_rows);
    return {static_cast<std::int32_t>(first - row), static_cast<std::int32_t>(end - row)};
  }
};

/// Up to kQueries rows of a span that have one new token, the first `skipped` of them left out.
DecodeRows decode_rows(const BatchView& batch, const SharedSpan& span, std::int64_t skipped) {
  DecodeRows rows;
  for (std::int32_t row = span.first_row; row < span.first_row + span.num_rows && rows.count < kQueries; ++row)
    if (row_tokens_on_host(batch, row).is_decode() && --skipped < 0) rows.row[rows.count++] = row;
  return rows;
}

/// The spans of the rows, those before which all positions were taken first.
template <class Take>
void for_each_span(const AttentionArgs& args, const DecodeRows& rows, const Take& take) {
  for (const SharedSpan& span : spans_of(args))
    if (const auto [first, end] = rows.of(span); first < end) take(span, first, end);
}

void attend_plain(const AttentionArgs& args, const DecodeRows& rows, std::int32_t head, const SharedStates& states) {
  QueryBlock block(args, head, rows.count);
  for (std::int32_t i = 0; i < rows.count; ++i)
    block.take_query(i, row_tokens_on_host(args.batch, rows.row[i]).first_token);
  for_each_span(args, rows, [&](const SharedSpan& span, std::int32_t first, std::int32_t end) {
    block.take_shared(span, kv_head_of(head), first, end);
  });
  const std::int64_t dim = args.cache.head_dim;
  for (std::int32_t i = 0; i < rows.count; ++i) {
    float* sums = states.sums(rows.row[i], head);
    std::copy_n(block.sums(i), dim, sums);
    std::fill(sums + dim, sums + states.floats(), 0.0F);
    states.state(rows.row[i], head) = block.state(i);
  }
}

/// The codes of a block of positions stay in the processor's cache while row after row meets them.
class CompressedHead {
 public:
  CompressedHead(const AttentionArgs& args, const DecodeRows& rows, std::int32_t head, const SharedStates& states)
      : args_(args),
        rows_(rows),
        head_(head),
        states_(states),
        heads_(one_stored_head(args.q.dtype, args.cache.quant, args.cache.head_dim)),
        queries_(scratch_.floats(floats(heads_, rows.count))),
        score_(queries_ + rows.count * states.floats()),
        wide_(score_ + kBlockKeys),
        kernel_scratch_(wide_ + wide_floats(heads_)) {}

  void run() {
    const std::int64_t dim = heads_.head_dim;
    for (std::int32_t i = 0; i < rows_.count; ++i) {
      const std::int64_t token = row_tokens_on_host(args_.batch, rows_.row[i]).first_token;
      const std::byte* q = args_.q.row(token) + static_cast<std::uint64_t>(head_ * dim) * element_bytes(args_.q.dtype);
      kernels_.to_float(q, args_.q.dtype, wide_, dim);
      stored_.arrange_query(heads_, wide_, queries_ + i * states_.floats());
      states_.state(rows_.row[i], head_) = kNothingSeen;
      std::fill_n(states_.sums(rows_.row[i], head_), states_.floats(), 0.0F);
    }
    for_each_span(args_, rows_, [&](const SharedSpan& shared, std::int32_t first, std::int32_t end) {
      const CacheSpan span = span_of_shared(args_.cache, shared, kv_head_of(head_));
      heads_.position_stride = span.position_bytes(1);
      for (std::int32_t key = 0; key < shared.length; key += kBlockKeys)
        for (std::int32_t i = first; i < end; ++i) take_block(span, key, i);
    });
  }

  static std::int64_t floats(const StoredHeads& heads, std::int64_t queries) {
    return queries * stored_kernels().arranged_floats(heads) + kBlockKeys + wide_floats(heads) +
           stored_kernels().scratch_floats(heads);
  }

 private:
  static std::int64_t wide_floats(const StoredHeads& heads) { return (heads.head_dim + 15) / 16 * 16; }

  void take_block(const CacheSpan& span, std::int32_t key, std::int32_t i) {
    const auto place = [&](CachePart part) -> StoredPlace {
      return {span.at(part, key, 1), span.parameters(part, key)};
    };
    const StoredPlace values = place(CachePart::values);
    float* sums = states_.sums(rows_.row[i], head_);
    stored_.scores(heads_, place(CachePart::keys), values, kBlockKeys, queries_ + i * states_.floats(), score_,
                   kBlockKeys, kernel_scratch_);
    const float shrink = kernels_.softmax_step(score_, kBlockKeys, args_.scale, &states_.state(rows_.row[i], head_));
    if (shrink != 1.0F)
      for (std::int64_t d = 0; d < states_.floats(); ++d) sums[d] *= shrink;
    stored_.add_values(heads_, values, {}, kBlockKeys, score_, kBlockKeys, sums, kernel_scratch_);
  }

  const AttentionArgs& args_;
  const DecodeRows& rows_;
  const std::int32_t head_;
  const SharedStates& states_;
  const HostKernels& kernels_ = host_kernels();
  const StoredKernels& stored_ = stored_kernels();
  StoredHeads heads_;
  ScratchFrame scratch_;
  float* queries_;  // [rows, arranged]
  float* score_;    // [kBlockKeys]
  float* wide_;     // [dim]
  float* kernel_scratch_;
};

}  // namespace

StoredHeads one_stored_head(DType dtype, const QuantFormat& quant, std::int64_t head_dim) {
  StoredHeads heads{dtype, quant, head_dim, 1};
  heads.head_stride =
      quant.is_none() ? head_dim * static_cast<std::int64_t>(element_bytes(dtype)) : quant.code_bytes(head_dim);
  heads.parameter_stride = quant.is_none() ? 0 : quant.parameter_bytes(head_dim);
  return heads;
}

SharedStates::SharedStates(const AttentionArgs& args, ScratchFrame& scratch)
    : args_(args),
      num_heads_(args.cache.num_heads),
      floats_(stored_kernels().arranged_floats(one_stored_head(args.q.dtype, args.cache.quant, args.cache.head_dim))) {
  if (args.cache.shared.num_spans == 0) return;
  states_ = scratch.take<SoftmaxState>(args.batch.num_rows * num_heads_);
  sums_ = scratch.floats(args.batch.num_rows * num_heads_ * floats_);
}

bool SharedStates::has(std::int32_t row) const {
  return own_begin_on_host(args_.cache, row) > 0 && row_tokens_on_host(args_.batch, row).is_decode();
}

std::uint64_t SharedStates::bytes(const AttentionSizes& most) {
  const std::int64_t floats = stored_kernels().arranged_floats(one_stored_head(most.dtype, most.quant, most.head_dim));
  return scratch_piece_bytes<SoftmaxState>(most.rows * most.num_heads) +
         scratch_piece_bytes<float>(most.rows * most.num_heads * floats);
}

void attend_shared_spans(const AttentionArgs& args, ThreadPool& pool, bool on_threads, const SharedStates& states) {
  const auto blocks_of = [](const SharedSpan& span) {
    return span.begin > 0 ? 0 : (span.num_rows + kQueries - 1) / kQueries;
  };
  std::int64_t num_blocks = 0;
  for (const SharedSpan& span : spans_of(args)) num_blocks += blocks_of(span);
  const std::int64_t heads = args.cache.num_heads;
  parallel_for(pool, num_blocks * heads, on_threads, [&](std::int64_t task) {
    std::int64_t block = task / heads;
    const SharedSpan* root = args.cache.shared.host_spans;
    for (; block >= blocks_of(*root); ++root) block -= blocks_of(*root);
    const DecodeRows rows = decode_rows(args.batch, *root, block * kQueries);
    const auto head = static_cast<std::int32_t>(task % heads);
    if (rows.count == 0) return;
    if (args.cache.quant.is_none()) attend_plain(args, rows, head, states);
    else CompressedHead(args, rows, head, states).run();
  });
}

std::uint64_t shared_spans_scratch_bytes(const AttentionSizes& most) {
  const std::int64_t queries = std::min(most.rows, kQueries);
  return scratch_piece_bytes<float>(
      most.quant.is_none() ? query_block_floats(queries, most.head_dim, most.dtype, most.quant)
                           : CompressedHead::floats(one_stored_head(most.dtype, most.quant, most.head_dim), queries));
}

}  // namespace flexgen
