#include "model/decoder/head.hpp"

#include <algorithm>

#include "model/decoder/embedding.hpp"
#include "model/decoder/scratch.hpp"
#include "ops/embedding.hpp"
#include "ops/linear.hpp"
#include "ops/sampling.hpp"

namespace flexgen {
namespace {

constexpr std::int64_t max_outputs_at_once = 512;

void product(const OpContext& context, const MatrixView& x, const MatrixView& weight, const MatrixView& out) {
  linear(context, {x, weight, std::nullopt, Activation::none, std::nullopt, out});
}

}  // namespace

Head::Head(const ModelSpec& model, const CheckpointNames& names)
    : Layer({LayerKind::head, -1, "head", {}}),
      hidden_(model.hidden),
      width_(model.embedding.width),
      vocab_(model.vocab) {
  WeightList list(weights(), names.prefixes);
  if (model.head.norm) norm_.emplace(model.norm, hidden_, "norm", names.final_norm, list);
  if (model.has_projections())
    projection_ = list.add("project_out.weight", width_, hidden_, list.keys(names.project_out + ".weight"));
  table_ = model.head.tied ? add_token_table(model, names, list)
                           : list.add("head.weight", vocab_, width_, names.head, WeightRole::table);
}

void Head::forward(const OpContext& context, const LayerCall& call) const {
  // Scored prompts want logits of every position: as many at a time as there is room for.
  const auto room = static_cast<std::int64_t>((context.workspace->size_bytes() - context.workspace->used_bytes()) /
                                              output_bytes(call.hidden.dtype));
  const std::int64_t most = std::clamp<std::int64_t>(room, 1, max_outputs_at_once);
  for (std::int64_t first = 0; first < call.num_outputs; first += most)
    compute_outputs(context, call, first, std::min<std::int64_t>(most, call.num_outputs - first));
}

std::uint64_t Head::workspace_bytes(const Device&, const BlockShape& block, const CallSizes& sizes) const {
  return static_cast<std::uint64_t>(std::min(sizes.rows, max_outputs_at_once)) * output_bytes(block.dtype);
}

// Scratch of one position whose logits are wanted.
std::uint64_t Head::output_bytes(DType dtype) const {
  return scratch_bytes(1, hidden_, dtype) + scratch_bytes(1, width_, dtype) + scratch_bytes(1, vocab_, DType::float32);
}

void Head::compute_outputs(const OpContext& context, const LayerCall& call, std::int64_t first,
                           std::int64_t count) const {
  const Workspace::Scope scope(*context.workspace);
  // Only the positions whose logits are wanted go on: [outputs, hidden].
  MatrixView last = take_scratch(context, count, hidden_, call.hidden.dtype, "head input");
  gather_rows(context, call.hidden, call.output_rows + first, last);
  if (norm_) norm_->apply(context, call.weights, last, last);
  if (projection_) {
    const MatrixView narrow = take_scratch(context, count, width_, call.hidden.dtype, "head narrow");
    product(context, last, call.weights[*projection_], narrow);
    last = narrow;
  }
  const MatrixView logits = call.logits.data ? call.logits.row_range(first, count)
                                             : take_scratch(context, count, vocab_, DType::float32, "logits");
  product(context, last, call.weights[table_], logits);
  argmax_rows(context, logits, call.next_tokens + first);
  if (call.targets) log_probabilities(context, logits, call.targets + first, call.scores + first);
}

}  // namespace flexgen
