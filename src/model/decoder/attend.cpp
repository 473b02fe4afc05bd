#include "model/decoder/attend.hpp"

#include "ops/attention.hpp"

namespace flexgen {

void attend(const OpContext& context, const AttentionSpec& spec, const AttentionCall& call) {
  const std::int64_t q = spec.query_width();
  const std::int64_t kv = spec.kv_width();
  append_kv(context, call.batch, call.projected.col_range(q, kv), call.projected.col_range(q + kv, kv), call.cache);

  AttentionArgs args;
  args.batch = call.batch;
  args.q = call.projected.col_range(0, q);
  args.cache = call.cache;
  args.scale = spec.scale;
  args.sparsity = call.sparsity;
  args.out = call.attended;
  attention(context, args);
}

}  // namespace flexgen
