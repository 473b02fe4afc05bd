#include "model/decoder/attention.hpp"

#include <array>

#include "base/error.hpp"
#include "model/decoder/attend.hpp"
#include "model/decoder/scratch.hpp"
#include "ops/attention.hpp"

namespace flexgen {
namespace {

// Three linear layers of a checkpoint, or one that holds all, are one product.
std::vector<LinearPart::Rows> qkv_rows(const AttentionSpec& spec, const CheckpointNames& names) {
  const std::int64_t q = spec.query_width();
  const std::int64_t kv = spec.kv_width();
  if (names.qkv.size() == 1) return {{names.qkv[0], q + 2 * kv}};
  FLEXGEN_CHECK(names.qkv.size() == 3, "queries, keys and values are three layers of a checkpoint or one");
  return {{names.qkv[0], q}, {names.qkv[1], kv}, {names.qkv[2], kv}};
}

}  // namespace

AttentionPart::AttentionPart(const ModelSpec& model, const CheckpointNames& names, WeightList list)
    : spec_(model.attention),
      hidden_(model.hidden),
      residual_(model.residual),
      qkv_("qkv", qkv_rows(spec_, names), hidden_, spec_.bias, list),
      out_("out", std::array{LinearPart::Rows{names.attention_out, hidden_}}, spec_.query_width(), spec_.bias, list),
      norm_(model.norm, hidden_, "norm", {&names.attention_norm, 1}, list) {
  // The op reads a head's keys for one head's queries, and a norm's output stands where attention's will.
  FLEXGEN_CHECK(spec_.kv_heads == spec_.heads && spec_.query_width() == hidden_, "no such heads can be computed");
  if (residual_ != Residual::post) qkv_.set_fed_by(norm_, list);
}

AttentionPart::Between AttentionPart::take_between(const OpContext& context, const MatrixView& hidden) const {
  const MatrixView attended = take_scratch(context, hidden.rows, spec_.query_width(), hidden.dtype, "attention output");
  return {take_scratch(context, hidden.rows, spec_.query_width() + 2 * spec_.kv_width(), hidden.dtype, "qkv"),
          attended};
}

void AttentionPart::forward(const OpContext& context, const LayerCall& call) const {
  const Workspace::Scope scope(*context.workspace);
  const Between between = take_between(context, call.hidden);
  project(context, call, between);
  finish(context, call, between.attended);
}

void AttentionPart::project(const OpContext& context, const LayerCall& call, const Between& between) const {
  MatrixView input = call.hidden;
  if (residual_ != Residual::post) {
    input = between.attended;
    norm_.apply(context, call.weights, call.hidden, input);
  }
  qkv_.apply(context, call.weights, input, between.projected, {});
  if (call.batch.num_rows == 0) return;
  const std::int64_t tokens = call.batch.num_tokens;
  attend(context, spec_,
         {call.batch, call.cache, between.projected.row_range(0, tokens), between.attended.row_range(0, tokens),
          call.attention_sparsity});
}

void AttentionPart::finish(const OpContext& context, const LayerCall& call, const MatrixView& attended) const {
  out_.apply(context, call.weights, attended, call.hidden, {.residual = call.hidden});
  if (residual_ == Residual::post) norm_.apply(context, call.weights, call.hidden, call.hidden);
}

std::uint64_t AttentionPart::workspace_bytes(const Device& device, const BlockShape& block,
                                             const CallSizes& sizes) const {
  const std::int64_t q = spec_.query_width();
  AttentionSizes most{sizes.rows, spec_.heads, spec_.head_size, sizes.longest, block.dtype, block.cache_format};
  most.shares_spans = block.num_prefixes > 0;
  const std::uint64_t op_bytes = attention_workspace_bytes(device, most);
  return scratch_bytes(sizes.tokens, q, block.dtype) +
         scratch_bytes(sizes.tokens, q + 2 * spec_.kv_width(), block.dtype) + align_up(op_bytes, 256);
}

}  // namespace flexgen
