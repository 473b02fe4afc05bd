#include "model/decoder/head.hpp"

#include <algorithm>

#include "model/decoder/embedding.hpp"
#include "model/decoder/scratch.hpp"
#include "ops/embedding.hpp"
#include "ops/linear.hpp"

namespace flexgen {
namespace {

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
  const Workspace::Scope scope(*context.workspace);
  // Only the positions whose logits are wanted go on: [outputs, hidden].
  MatrixView last = take_scratch(context, call.num_outputs, hidden_, call.hidden.dtype, "head input");
  gather_rows(context, call.hidden, call.output_rows, last);
  if (norm_) norm_->apply(context, call.weights, last, last);
  if (projection_) {
    const MatrixView narrow = take_scratch(context, call.num_outputs, width_, call.hidden.dtype, "head narrow");
    product(context, last, call.weights[*projection_], narrow);
    last = narrow;
  }
  product(context, last, call.weights[table_], call.logits);
}

std::uint64_t Head::workspace_bytes(const Device&, const BlockShape& block, const CallSizes& sizes) const {
  const std::uint64_t output_bytes = scratch_bytes(1, hidden_, block.dtype) + scratch_bytes(1, width_, block.dtype) +
                                     scratch_bytes(1, vocab_, DType::float32);
  return static_cast<std::uint64_t>(std::min(sizes.rows, max_outputs_of_call)) * output_bytes;
}

}  // namespace flexgen
